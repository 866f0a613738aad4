"""LightGCN: embeddings smoothed over the graph of users and the items they liked.

He et al. 2020: each layer is the mean of the neighbours' vectors, normalised by both degrees, and
the result is the mean of all layers; there are no other weights. The default loss is a softmax
over the items of the batch (Wu et al. 2022), which needs tens of epochs where the original
pairwise BPR needs a thousand. DirectAU (Wang et al. 2022) asks for directions alone: those of a
like near each other, those of all users and of all items far apart.

A graph of very many likes is learnt by blocks of users: a step's messages go along the likes of a
random part of them, and what such users send weighs as much more as they are fewer.

Shape legend: U users of the graph, b of a block, M items, V = U + M nodes, D width, P pairs of a
batch, S those of a shard, I distinct items of a batch, n negatives of a pair, B histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from training.content import ItemContent
from training.distributed import fit_network
from training.loop import LoopOptions, Shard
from training.models.base import FitContext, Model
from training.models.graph import (
    GraphTask,
    LikeGraph,
    entries_of,
    graph_of_users,
    normalised_graph,
    propagate,
    rows_of,
    sample_negatives,
    torch_csr,
)
from training.models.media import (
    media_arrays,
    media_sum,
    media_widths,
    new_media,
    tensor,
    vectors_of,
    with_media,
)
from training.models.softmax import softmax_loss
from training.models.validation import validation_ndcg
from training.snapshot import Histories, Snapshot, codes_in


@dataclass(frozen=True)
class LightGCNConfig:
    """Options of the graph model."""

    width: int = 64
    layers: int = 2
    loss: Literal["softmax", "directau", "bpr"] = "softmax"
    temperature: float = 0.2
    uniformity: float = 0.5
    negatives: int = 1
    social_weight: float = 0.0
    content: bool = False
    epochs: int = 30
    patience: int = 3
    batch_size: int = 4096
    block_likes: int = 10_000_000
    learning_rate: float = 5e-3
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for option in ("width", "layers", "negatives", "epochs", "batch_size", "block_likes"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, but it is {getattr(self, option)}.")
        for option in ("temperature", "learning_rate"):
            if getattr(self, option) <= 0:
                raise ValueError(f"{option} must be above 0, but it is {getattr(self, option)}.")
        for option in ("uniformity", "social_weight", "patience", "weight_decay"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, but it is {getattr(self, option)}.")


class LinkTask(GraphTask):
    """The likes to rank before other items, by nodes smoothed over the graph."""

    def __init__(self, config: LightGCNConfig, data: Mapping[str, np.ndarray], seed: int) -> None:
        super().__init__(config.width, config.batch_size, data, seed)
        self.config = config
        self.project = nn.ModuleDict(
            {
                name: nn.Linear(width, config.width, bias=False)
                for name, width in media_widths(data)
                if config.content
            }
        )
        self.whole_VV = normalised_graph(self.liked_UM, data["follows"], config.social_weight)
        self.graph_VV = torch_csr(self.whole_VV)
        self.blocks = -(-self.liked_UM.nnz // config.block_likes)
        self.block: tuple[np.ndarray, Tensor] | None = None
        share_M = np.bincount(data["liked.items"], minlength=self.num_items)
        self.share_M = share_M / max(1, share_M.sum())

    def nodes(self) -> Tensor:
        """(V, D): what the ids have learnt, plus what the items' media say."""
        weights = {name: layer.weight for name, layer in self.project.items()}
        return with_media(self.node_VD, weights, self.data)

    def batches(self, epoch: int) -> Sequence[Any]:
        """Numbers of the likes of each batch, the seed of its negatives, and its block of users."""
        if self.blocks == 1:
            return [(*batch, None) for batch in super().batches(epoch)]
        rng = np.random.default_rng([self.seed, epoch])
        found = []
        for part_b in np.array_split(rng.permutation(self.num_users), self.blocks):
            user_b = np.sort(part_b)
            _, likes = entries_of(self.liked_UM, user_b)
            order = rng.permutation(likes)
            cuts = range(self.batch_size, len(order), self.batch_size)
            found += [(part, int(rng.integers(2**62)), user_b) for part in np.split(order, cuts)]
        return found

    def forward(self, batch: tuple[np.ndarray, int, np.ndarray | None], shard: Shard) -> Tensor:
        """Mean loss of the pairs."""
        likes, seed, user_b = batch
        user_P, item_P = self.pairs(likes)
        user_UD, item_MD = self.vectors(user_b)
        row_P = user_P if user_b is None else np.searchsorted(user_b, user_P)
        mine = slice(shard.index, None, shard.count)
        if self.config.loss == "directau":
            total = self._directau(user_UD[tensor(row_P, user_UD.device)], item_MD, item_P, shard)
            return total / len(likes)
        user_SD = user_UD[tensor(row_P[mine], user_UD.device)]
        if self.config.loss == "softmax":
            total = self._softmax(user_SD, item_MD, user_P[mine], item_P[mine], item_P)
        else:
            negative_Pn = sample_negatives(
                self.liked_UM, user_P, self.config.negatives, np.random.default_rng(seed)
            )
            total = self._bpr(user_SD, item_MD, item_P[mine], negative_Pn[mine])
        return total / len(likes)

    def vectors(self, user_b: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Smoothed vectors of all users (U, D), or of a block (b, D), and of the items (M, D)."""
        node_VD = self.nodes()
        if user_b is None:
            final_VD, _ = propagate(self.graph_VV, node_VD, self.config.layers)
            return final_VD[: self.num_users], final_VD[self.num_users :]
        if self.block is None or self.block[0] is not user_b:
            part_VV = torch_csr(graph_of_users(self.whole_VV, user_b, self.num_users))
            self.block = user_b, part_VV.to(node_VD.device)
        # An item hears of b users where it has U: each speaks for U / b.
        scale_V1 = node_VD.new_ones(len(user_b) + self.num_items, 1)
        scale_V1[: len(user_b)] = self.num_users / len(user_b)
        part_VD = torch.cat([node_VD[tensor(user_b, node_VD.device)], node_VD[self.num_users :]])
        final_VD, _ = propagate(self.block[1], part_VD, self.config.layers, scale_V1)
        return final_VD[: len(user_b)], final_VD[len(user_b) :]

    def _softmax(
        self,
        user_SD: Tensor,
        item_MD: Tensor,
        user_S: np.ndarray,
        item_S: np.ndarray,
        item_P: np.ndarray,
    ) -> Tensor:
        """Sum of the softmaxes of cosines over the distinct items of the batch, logQ-corrected.

        An item is in a batch of b pairs with probability q = 1 - (1 - share)^b; a logit lowered
        by log q stands for the 1 / q batches the item is missing from. The user's other liked
        items are left out.
        """
        item_I = np.unique(item_P)
        column_M = np.full(self.num_items, -1)
        column_M[item_I] = np.arange(len(item_I))
        column_S = column_M[item_S]
        row_H, liked_H = rows_of(self.liked_UM, user_S)
        column_H = column_M[liked_H]
        other_H = (column_H >= 0) & (column_H != column_S[row_H])
        q_I = -np.expm1(len(item_P) * np.log1p(-np.minimum(self.share_M[item_I], 0.999999)))
        return softmax_loss(
            F.normalize(user_SD, dim=1) / self.config.temperature,
            F.normalize(item_MD[tensor(item_I, item_MD.device)], dim=1),
            tensor(column_S, item_MD.device),
            shift_N=torch.from_numpy(-np.log(q_I).astype(np.float32)).to(item_MD.device),
            hidden_2H=tensor(np.stack([row_H[other_H], column_H[other_H]]), item_MD.device),
        )

    def _directau(
        self, user_PD: Tensor, item_MD: Tensor, item_P: np.ndarray, shard: Shard
    ) -> Tensor:
        """Alignment of the shard's pairs and its part of the uniformity of the batch, times P.

        Alignment is the squared distance of the directions of a pair; uniformity the logarithm of
        the mean of `exp(-2 d^2)` over the distances of two of the batch's users, or items, which
        every shard works out whole.
        """
        user_PD = F.normalize(user_PD, dim=1)
        item_PD = F.normalize(item_MD[tensor(item_P, item_MD.device)], dim=1)
        mine = slice(shard.index, None, shard.count)
        alignment = (user_PD[mine] - item_PD[mine]).square().sum()
        if len(item_P) == 1:
            return alignment
        spread = (_uniformity(user_PD) + _uniformity(item_PD)) / 2
        return alignment + self.config.uniformity * spread * len(item_P) / shard.count

    def _bpr(
        self, user_SD: Tensor, item_MD: Tensor, item_S: np.ndarray, negative_Sn: np.ndarray
    ) -> Tensor:
        """Sum of mean -log sigmoid(positive - negative) over the negatives (Rendle et al. 2009).

        A pair whose user liked every item has no negative (-1) and no loss.
        """
        positive_SD = item_MD[tensor(item_S, item_MD.device)]
        real_Sn = torch.from_numpy(negative_Sn >= 0).to(item_MD.device)
        negative_SnD = item_MD[tensor(np.maximum(negative_Sn, 0), item_MD.device)]
        margin_Sn = (user_SD * positive_SD).sum(1, keepdim=True) - torch.einsum(
            "sd,snd->sn", user_SD, negative_SnD
        )
        return -(F.logsigmoid(margin_Sn) * real_Sn).float().mean(1).sum()

    def validate(self, shard: Shard) -> tuple[float, int]:
        """NDCG@10 of the validation users that have a node."""
        user_UD, item_MD = self.vectors()
        item_MD = ranking_items(item_MD, self.config.loss)
        user_B = self.data["valid.users"]
        return validation_ndcg(
            self.data, lambda rows: user_UD[tensor(user_B[rows], user_UD.device)] @ item_MD.T, shard
        )


def _uniformity(unit_PD: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d^2) over the pairs of some directions: ()."""
    number = len(unit_PD)
    likeness_PP = torch.exp(4 * (unit_PD @ unit_PD.T).float() - 4)
    return torch.log((likeness_PP.sum() - number) / (number * (number - 1)))


def ranking_items(item_MD: Tensor, loss: str) -> Tensor:
    """Item vectors as they are ranked by: cosines after the softmax, else inner products.

    DirectAU learns directions too, but the lengths that come with them tell how popular an item is.
    """
    return F.normalize(item_MD, dim=1) if loss == "softmax" else item_MD


def build_task(
    config: Mapping[str, Any], data: Mapping[str, np.ndarray], seed: int
) -> tuple[LinkTask, LoopOptions]:
    """What a training worker builds from plain values."""
    parsed = LightGCNConfig(**config)
    return LinkTask(parsed, data, seed), LoopOptions.of(parsed, seed)


def learnt_tensors(
    config: LightGCNConfig, liked_UM: sparse.csr_array, follows: np.ndarray, node_VD: np.ndarray
) -> dict[str, np.ndarray]:
    """What scoring needs: user vectors split into what the likes send and the user's own part.

    Returns:
        `items` (M, D) vectors to rank by, `messages` (M, D) what an item sends to who likes it,
        `users_own` (U, D), `users_social_degree` (U,).
    """
    num_users = liked_UM.shape[0]
    graph_VV = normalised_graph(liked_UM, follows, config.social_weight)
    total_VD, layer_VD = node_VD, node_VD
    for _ in range(config.layers):
        sent_VD = total_VD
        layer_VD = graph_VV @ layer_VD
        total_VD = total_VD + layer_VD
    final_VD, sent_VD = total_VD / (config.layers + 1), sent_VD / (config.layers + 1)
    message_MD = sent_VD[num_users:] / np.sqrt(liked_UM.sum(axis=0))[:, None]
    social_UU = graph_VV[:num_users, :num_users]
    social_degree_U = config.social_weight * np.diff(social_UU.indptr)
    degree_U = social_degree_U + np.diff(liked_UM.indptr)
    from_likes_UD = (liked_UM @ message_MD) / np.sqrt(degree_U)[:, None]
    item_MD = ranking_items(torch.from_numpy(final_VD[num_users:]), config.loss).numpy()
    tensors = {
        "items": item_MD,
        "messages": message_MD,
        "users_own": final_VD[:num_users] - from_likes_UD,
        "users_social_degree": social_degree_U,
    }
    return {name: value.astype(np.float32) for name, value in tensors.items()}


class LightGCN(Model):
    """Scores are inner products of a user's and the items' propagated vectors.

    A user's vector is the sum of what the liked items send (the same normalised sum as in the
    graph) and a part of the user's own. So a known user with the training history gets exactly
    the trained vector, a known user with newer likes moves with them, and someone new has a
    vector as soon as one known item is liked.
    """

    name: ClassVar[str] = "gnn"
    config_class: ClassVar[type[LightGCNConfig]] = LightGCNConfig

    def __init__(
        self,
        config: LightGCNConfig,
        item_ids: np.ndarray,
        user_ids: np.ndarray,
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(config, item_ids)
        self.user_ids = user_ids
        self.item_MD = tensors["items"]
        self.message_MD = tensors["messages"]
        self.own_UD = tensors["users_own"]
        self.social_degree_U = tensors["users_social_degree"]
        self.media = {
            name.removeprefix("media."): value
            for name, value in tensors.items()
            if name.startswith("media.")
        }

    @classmethod
    def reads_media(cls, config: Mapping[str, Any]) -> bool:
        """As the option says."""
        return bool(config.get("content", False))

    def with_items(self, content: ItemContent) -> LightGCN:
        """This model, knowing also items whose media it learnt, as nodes that nobody likes yet."""
        learnt = {name: weight.shape[1] for name, weight in self.media.items()}
        item_ids, media = new_media(self.name, learnt, content, self.item_ids)
        if not len(item_ids):
            return self
        weights = {name: torch.from_numpy(weight) for name, weight in self.media.items()}
        vectors = vectors_of(media, None, torch.device("cpu"))
        # Of a node without neighbours all layers but the first are zero.
        new_ND = media_sum(weights, vectors, len(item_ids)) / (self.config.layers + 1)
        everything = np.concatenate([self.item_ids, item_ids])
        order = np.argsort(everything, kind="stable")
        tensors = self._tensors() | {
            "items": np.concatenate(
                [self.item_MD, ranking_items(new_ND, self.config.loss).numpy()]
            )[order],
            "messages": np.concatenate([self.message_MD, new_ND.numpy()])[order],
        }
        return LightGCN(self.config, everything[order], self.user_ids, tensors)

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: LightGCNConfig, context: FitContext) -> Self:
        graph = LikeGraph.build(snapshot, context.seed)
        content = snapshot.content if config.content else None
        data = graph.arrays | media_arrays(content, graph.item_ids)
        weights, facts = fit_network(
            builder="training.models.gnn:build_task",
            name=cls.name,
            config=asdict(config),
            data=data,
            context=context,
        )
        media = {
            name: weights[f"project.{name}.weight"]
            for name, _ in media_widths(data)
            if config.content
        }
        node_VD = with_media(
            torch.from_numpy(weights["node_VD"]),
            {name: torch.from_numpy(weight) for name, weight in media.items()},
            data,
        )
        tensors = learnt_tensors(config, graph.liked_UM, graph.follows, node_VD.numpy())
        tensors |= {f"media.{name}": weight for name, weight in media.items()}
        model = cls(config, graph.item_ids, graph.user_ids, tensors)
        model.fit_facts = facts
        return model

    def _score(self, histories: Histories) -> np.ndarray:
        return self._user_vectors(histories) @ self.item_MD.T

    def item_vectors(self) -> np.ndarray:
        """(M, D): propagated item vectors, of length 1 under the softmax loss."""
        return self.item_MD

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """(B, D); zeros for someone new without a known liked item."""
        return self._user_vectors(histories.positives(self.item_ids))

    def _user_vectors(self, histories: Histories) -> np.ndarray:
        liked_BM = sparse.csr_array(
            (np.ones(len(histories.items), np.float32), (histories.rows(), histories.items)),
            shape=(len(histories), len(self.item_ids)),
        )
        liked_BM.data[:] = 1.0
        code_B = codes_in(histories.user_ids, self.user_ids)
        known_B = code_B >= 0
        degree_B = np.diff(liked_BM.indptr).astype(np.float32)
        degree_B[known_B] += self.social_degree_U[code_B[known_B]]
        user_BD = (liked_BM @ self.message_MD) / np.sqrt(np.maximum(degree_B, 1))[:, None]
        user_BD[known_B] += self.own_UD[code_B[known_B]]
        return user_BD

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            "items": self.item_MD,
            "messages": self.message_MD,
            "users_own": self.own_UD,
            "users_social_degree": self.social_degree_U,
            **{f"media.{name}": weight for name, weight in self.media.items()},
        }

    def _vocabularies(self) -> dict[str, np.ndarray]:
        return {"user_ids": self.user_ids}

    @classmethod
    def _restore(
        cls,
        config: LightGCNConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], vocabularies["user_ids"], tensors)
