"""SocialGNN: convolutions over likes and follows, attention to people, a predictor of pairs.

Three graph convolutions (Kipf & Welling 2017) over one graph of people and items, then attention
(Velickovic et al. 2018) over whom each follows and is followed by. The whole graph is encoded at
once; two layers then tell of any person and item whether they go together, learnt from likes and
from items that the person has not liked.

Shape legend: U users of the graph, M items, V = U + M nodes, D width, h hidden width, P pairs of a
batch, n negatives of a pair, B histories, E edges of the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from training.distributed import fit_network
from training.loop import LoopOptions, Shard
from training.models.base import FitContext, Model
from training.models.graph import (
    GraphTask,
    LikeGraph,
    SymmetricProduct,
    normalised_graph,
    rows_of,
    sample_negatives,
    torch_csr,
)
from training.models.validation import validation_ndcg
from training.snapshot import Histories, Snapshot, codes_in

_PREDICTED = 2**24
"""Hidden numbers of the predictor at once: bounds memory, not results."""


@dataclass(frozen=True)
class SocialGNNConfig:
    """Options of SocialGNN."""

    width: int = 128
    hidden: int = 64
    heads: int = 4
    dropout: float = 0.5
    predictor_dropout: float = 0.2
    negatives: int = 4
    epochs: int = 30
    patience: int = 3
    batch_size: int = 4096
    learning_rate: float = 5e-3
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for option in ("width", "hidden", "heads", "negatives", "epochs", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, but it is {getattr(self, option)}.")
        for option in ("dropout", "predictor_dropout"):
            if not 0 <= getattr(self, option) < 1:
                raise ValueError(f"{option} must be in [0, 1), but it is {getattr(self, option)}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, but it is {self.learning_rate}.")
        for option in ("patience", "weight_decay"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, but it is {getattr(self, option)}.")


class Convolution(nn.Module):
    """`A X W + b` with A the normalised graph: GCNConv of a graph that never changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, graph_VV: Tensor, x_VD: Tensor) -> Tensor:
        """(V, inputs) -> (V, outputs)."""
        return SymmetricProduct.apply(graph_VV, (x_VD @ self.weight).float()) + self.bias


class Network(nn.Module):
    """What is learnt beside the embeddings: convolutions, attention, predictor."""

    def __init__(self, config: SocialGNNConfig) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv  # seconds that no other model's worker should pay

        D, h = config.width, config.hidden
        self.dropout = config.dropout
        self.convolutions = nn.ModuleList(Convolution(*io) for io in pairwise((D, h, h, D)))
        self.attention = GATConv(D, D, heads=config.heads, concat=False, add_self_loops=False)
        self.predictor = nn.Sequential(
            nn.Linear(2 * D, h), nn.ReLU(), nn.Dropout(config.predictor_dropout), nn.Linear(h, 1)
        )

    def activate(self, x: Tensor, layer: int) -> Tensor:
        """ReLU and dropout after all convolutions but the last."""
        last = len(self.convolutions) - 1
        return x if layer == last else F.dropout(F.relu(x), self.dropout, self.training)

    def encode(self, graph_VV: Tensor, edge_2E: Tensor, node_VD: Tensor) -> list[Tensor]:
        """What goes into each convolution and comes out of the last, then what is attended to."""
        layers = [node_VD]
        for number, convolution in enumerate(self.convolutions):
            layers.append(self.activate(convolution(graph_VV, layers[-1]), number))
        return [*layers, self.attention(layers[-1], edge_2E)]

    def predict(self, user_BD: Tensor, item_MD: Tensor) -> Tensor:
        """(B, M) logits of all pairs."""
        first, last = self.predictor[0], self.predictor[-1]
        user_Bh = F.linear(user_BD, first.weight[:, : user_BD.shape[1]], first.bias)
        item_Mh = F.linear(item_MD, first.weight[:, user_BD.shape[1] :])
        rows = max(1, _PREDICTED // max(1, item_Mh.numel()))
        return torch.cat(
            [last(F.relu(part_bh[:, None] + item_Mh)).squeeze(2) for part_bh in user_Bh.split(rows)]
        )


class PairTask(GraphTask):
    """The likes to tell from other pairs, by what the network makes of the whole graph."""

    def __init__(self, config: SocialGNNConfig, data: Mapping[str, np.ndarray], seed: int) -> None:
        super().__init__(config.width, config.batch_size, data, seed)
        self.config = config
        self.network = Network(config)
        self.graph_VV = torch_csr(message_graph(self.liked_UM, data["follows"]))
        people = people_of(data["follows"], self.num_users)
        itself = np.arange(len(self.node_VD))
        self.edge_2E = torch.from_numpy(
            np.concatenate([np.stack([people.indices, _owners(people)]), [itself, itself]], axis=1)
        )

    def _apply(self, fn: Any, recurse: bool = True) -> PairTask:
        super()._apply(fn, recurse)
        self.edge_2E = self.edge_2E.to(self.node_VD.device)
        return self

    def forward(self, batch: tuple[np.ndarray, int], shard: Shard) -> Tensor:
        """Mean binary cross-entropy: each like counts as much as its negatives together."""
        likes, seed = batch
        user_P, item_P = self.pairs(likes)
        negative_Pn = sample_negatives(
            self.liked_UM, user_P, self.config.negatives, np.random.default_rng(seed)
        )
        mine = slice(shard.index, None, shard.count)
        item_Pk = np.concatenate([item_P[mine, None], negative_Pn[mine]], axis=1)
        device = self.node_VD.device
        final_VD = self.network.encode(self.graph_VV, self.edge_2E, self.node_VD)[-1]
        user_PkD = final_VD[torch.from_numpy(user_P[mine]).to(device)][:, None].expand(
            -1, item_Pk.shape[1], -1
        )
        item_PkD = final_VD[torch.from_numpy(np.maximum(item_Pk, 0) + self.num_users).to(device)]
        logit_Pk = self.network.predictor(torch.cat([user_PkD, item_PkD], 2)).squeeze(2).float()
        weight_Pk = torch.from_numpy(item_Pk >= 0).to(device) / self.config.negatives
        weight_Pk[:, 0] = 1.0
        target_Pk = torch.zeros_like(logit_Pk)
        target_Pk[:, 0] = 1.0
        loss = F.binary_cross_entropy_with_logits(logit_Pk, target_Pk, weight_Pk, reduction="sum")
        return loss / (2 * len(likes))

    def validate(self, shard: Shard) -> tuple[float, int]:
        """NDCG@10 of the validation users that have a node."""
        final_VD = self.network.encode(self.graph_VV, self.edge_2E, self.node_VD)[-1]
        item_MD = final_VD[self.num_users :]
        user_B = torch.from_numpy(self.data["valid.users"].astype(np.int64)).to(final_VD.device)
        return validation_ndcg(
            self.data,
            lambda rows: self.network.predict(final_VD[user_B[torch.from_numpy(rows)]], item_MD),
            shard,
        )


def build_task(
    config: Mapping[str, Any], data: Mapping[str, np.ndarray], seed: int
) -> tuple[PairTask, LoopOptions]:
    """What a training worker builds from plain values."""
    parsed = SocialGNNConfig(**config)
    return PairTask(parsed, data, seed), LoopOptions.of(parsed, seed)


def people_of(follows: np.ndarray, num_users: int) -> sparse.csr_array:
    """(U, U) of ones: whom each follows or is followed by, nobody themselves."""
    both = np.concatenate([follows, follows[::-1]], axis=1)
    both = both[:, both[0] != both[1]]
    people_UU = sparse.csr_array((np.ones(both.shape[1], np.float32), both), shape=(num_users,) * 2)
    people_UU.sum_duplicates()
    people_UU.data[:] = 1.0
    return people_UU


def message_graph(liked_UM: sparse.csr_array, follows: np.ndarray) -> sparse.csr_array:
    """(V, V): likes, follows and each node itself, each edge over the root of both degrees."""
    return normalised_graph(liked_UM, follows, 1.0, itself=True)


class SocialGNN(Model):
    """Scores are the predictor's logits of a person as the history and the follows place them.

    The state of a person after each convolution is a sum over neighbours, so it is worked out anew
    from the history at hand: a known person with the training history gets exactly the trained
    state, one with newer likes moves with them, and someone new, who has the mean embedding, has a
    place as soon as one known item is liked. Neighbours keep their states from training.

    Attributes:
        tensors: `network.*`; `sent.<l>` (M, D_l) what an item sends to who likes it in layer l;
            `social.<l>` (U, D_l) what a person gets there from people; `users` (U, D) embeddings;
            `people` (U, D) states to attend to, `people.offsets` and `people.indices` whose;
            `items` (M, D) final states.
    """

    name: ClassVar[str] = "social_gnn"
    config_class: ClassVar[type[SocialGNNConfig]] = SocialGNNConfig

    def __init__(
        self,
        config: SocialGNNConfig,
        item_ids: np.ndarray,
        user_ids: np.ndarray,
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(config, item_ids)
        self.user_ids, self.tensors = user_ids, dict(tensors)
        self.network = Network(config)
        prefix = "network."
        self.network.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(np.array(value))
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
        )
        self.network.eval()
        self.people_UU = sparse.csr_array(
            (
                np.ones(len(tensors["people.indices"]), np.float32),
                tensors["people.indices"],
                tensors["people.offsets"],
            ),
            shape=(len(user_ids),) * 2,
        )

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: SocialGNNConfig, context: FitContext) -> Self:
        graph = LikeGraph.build(snapshot, context.seed)
        weights, facts = fit_network(
            builder="training.models.social_gnn:build_task",
            name=cls.name,
            config=asdict(config),
            data=graph.arrays,
            context=context,
        )
        tensors = {key: value for key, value in weights.items() if key.startswith("network.")}
        task = PairTask(config, graph.arrays, context.seed)
        task.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        model = cls(config, graph.item_ids, graph.user_ids, tensors | _states(task.eval()))
        model.fit_facts = facts
        return model

    @torch.no_grad()
    def _score(self, histories: Histories) -> np.ndarray:
        liked_BM = sparse.csr_array(
            (np.ones(len(histories.items), np.float32), (histories.rows(), histories.items)),
            shape=(len(histories), len(self.item_ids)),
        )
        liked_BM.data[:] = 1.0
        code_B = codes_in(histories.user_ids, self.user_ids)
        known_B, code_K = code_B >= 0, code_B[code_B >= 0]
        degree_B = 1 + np.diff(liked_BM.indptr).astype(np.float32)
        degree_B[known_B] += np.diff(self.people_UU.indptr)[code_K]
        users_UD = self.tensors["users"]
        x_BD = np.tile(users_UD.mean(axis=0), (len(histories), 1))
        x_BD[known_B] = users_UD[code_K]
        for number, convolution in enumerate(self.network.convolutions):
            got_BD = liked_BM @ self.tensors[f"sent.{number}"]
            got_BD[known_B] += self.tensors[f"social.{number}"][code_K]
            mixed_BD = got_BD / np.sqrt(degree_B)[:, None] + x_BD / degree_B[:, None]
            out_BD = torch.from_numpy(mixed_BD) @ convolution.weight + convolution.bias
            x_BD = self.network.activate(out_BD, number).numpy()
        place_E, person_E = rows_of(self.people_UU, code_K)
        person_N, source_E = np.unique(person_E, return_inverse=True)
        itself = np.arange(len(x_BD))
        edge_2E = np.stack(
            [
                np.concatenate([source_E, len(person_N) + itself]),
                np.concatenate([known_B.nonzero()[0][place_E], itself]),
            ]
        )
        source_ND = np.concatenate([self.tensors["people"][person_N], x_BD])
        final_BD = self.network.attention(
            (torch.from_numpy(source_ND), torch.from_numpy(x_BD)), torch.from_numpy(edge_2E)
        )
        return self.network.predict(final_BD, torch.from_numpy(self.tensors["items"])).numpy()

    def _tensors(self) -> dict[str, np.ndarray]:
        return self.tensors

    def _vocabularies(self) -> dict[str, np.ndarray]:
        return {"user_ids": self.user_ids}

    @classmethod
    def _restore(
        cls,
        config: SocialGNNConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], vocabularies["user_ids"], tensors)


@torch.no_grad()
def _states(task: PairTask) -> dict[str, np.ndarray]:
    """What scoring needs of the encoded graph; see `SocialGNN`."""
    people_UU = people_of(task.data["follows"], task.num_users)
    liked_by_M = task.liked_UM.sum(axis=0)
    root_U = np.sqrt(1 + np.diff(task.liked_UM.indptr) + np.diff(people_UU.indptr))
    *layers, last_VD, final_VD = (
        layer.numpy() for layer in task.network.encode(task.graph_VV, task.edge_2E, task.node_VD)
    )
    tensors = {
        "users": layers[0][: task.num_users],
        "people": last_VD[: task.num_users],
        "items": final_VD[task.num_users :],
    }
    for number, layer_VD in enumerate(layers):
        user_UD, item_MD = layer_VD[: task.num_users], layer_VD[task.num_users :]
        tensors[f"sent.{number}"] = item_MD / np.sqrt(1 + liked_by_M)[:, None]
        tensors[f"social.{number}"] = people_UU @ (user_UD / root_U[:, None])
    return {
        **{name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
        "people.indices": people_UU.indices.astype(np.int32),
        "people.offsets": people_UU.indptr.astype(np.int64),
    }


def _owners(matrix: sparse.csr_array) -> np.ndarray:
    """The row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
