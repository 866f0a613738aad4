"""Learning pairs of the social graph: convolutions, attention to people, a predictor.

Three graph convolutions (Kipf & Welling 2017) over one graph of people and items, then attention
(Velickovic et al. 2018) over whom each follows and is followed by. Two layers then tell of any
person and item whether they go together, learnt from likes and from items that the person has not
liked.

Shape legend: U users of the graph, M items, V = U + M nodes, D width, h hidden width, P pairs of a
batch, n negatives of a pair, B users of a batch, E edges of the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from training.loop import LoopOptions, Shard
from training.models.graph import (
    GraphTask,
    SymmetricProduct,
    normalised_graph,
    sample_negatives,
    torch_csr,
)
from training.models.media import media_widths, with_media
from training.models.validation import validation_ndcg

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
    content: bool = False
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
        self.project = nn.ModuleDict(
            {
                name: nn.Linear(width, config.width, bias=False)
                for name, width in media_widths(data)
                if config.content
            }
        )
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

    def encode(self) -> list[Tensor]:
        """`Network.encode` of the graph, whose items are their ids and media."""
        weights = {name: layer.weight for name, layer in self.project.items()}
        node_VD = with_media(self.node_VD, weights, self.data)
        return self.network.encode(self.graph_VV, self.edge_2E, node_VD)

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
        final_VD = self.encode()[-1]
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
        final_VD = self.encode()[-1]
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


def _owners(matrix: sparse.csr_array) -> np.ndarray:
    """The row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
