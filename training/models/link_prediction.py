"""Learning likes over their graph: LightGCN's embeddings, their losses, their blocks.

The default loss is a softmax over the items of the batch (Wu et al. 2022), which needs tens of
epochs where the original pairwise BPR needs a thousand. It learns directions, and adds how popular
an item is, which directions of many items hardly tell: on Gowalla lists lack the popular ones
without. DirectAU (Wang et al. 2022) asks for directions alone: those of a like near each other,
those of all users and of all items far apart.

A graph of very many likes is learnt by blocks of users: a step's messages go along the likes of a
random part of them, and what such users send weighs as much more as they are fewer.

Shape legend: U users of the graph, b of a block, M items, V = U + M nodes, D width, P pairs of a
batch, S those of a shard, I distinct items of a batch, n negatives of a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop import LoopOptions, Shard
from training.models.graph import (
    GraphTask,
    entries_of,
    graph_of_users,
    normalised_graph,
    propagate,
    rows_of,
    sample_negatives,
    torch_csr,
)
from training.models.media import media_widths, tensor, with_media
from training.models.softmax import softmax_loss
from training.models.validation import validation_ndcg
from training.models.warm_start import continue_from


@dataclass(frozen=True)
class LightGCNConfig:
    """Options of the graph model."""

    width: int = 64
    layers: int = 2
    loss: Literal["softmax", "directau", "bpr"] = "softmax"
    temperature: float = 0.2
    popularity: float = 1.0
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
    warm_start: bool = False

    def __post_init__(self) -> None:
        for option in ("width", "layers", "negatives", "epochs", "batch_size", "block_likes"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, but it is {getattr(self, option)}.")
        for option in ("temperature", "learning_rate"):
            if getattr(self, option) <= 0:
                raise ValueError(f"{option} must be above 0, but it is {getattr(self, option)}.")
        for option in ("popularity", "uniformity", "social_weight", "patience", "weight_decay"):
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
        continue_from(self, data)
        self.whole_VV = normalised_graph(self.liked_UM, data["follows"], config.social_weight)
        self.graph_VV = torch_csr(self.whole_VV)
        self.blocks = min(self.num_users, -(-self.liked_UM.nnz // config.block_likes))
        self.block: tuple[np.ndarray, Tensor] | None = None
        self.likes_M = np.bincount(data["liked.items"], minlength=self.num_items)
        self.share_M = self.likes_M / max(1, self.likes_M.sum())

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
        user_UD, item_MD = self.vectors(user_b, shard)
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

    def vectors(
        self, user_b: np.ndarray | None = None, shard: Shard | None = None
    ) -> tuple[Tensor, Tensor]:
        """Smoothed vectors of all users (U, D), or of a block (b, D), and of the items (M, D)."""
        node_VD = self.nodes()
        if user_b is None:
            final_VD = propagate(self.graph_VV, node_VD, self.config.layers, shard=shard)
            return final_VD[: self.num_users], final_VD[self.num_users :]
        if self.block is None or self.block[0] is not user_b:
            part_VV = torch_csr(graph_of_users(self.whole_VV, user_b, self.num_users))
            self.block = user_b, part_VV.to(node_VD.device)
        # An item hears of b users where it has U: each speaks for U / b.
        scale_V1 = node_VD.new_ones(len(user_b) + self.num_items, 1)
        scale_V1[: len(user_b)] = self.num_users / len(user_b)
        part_VD = torch.cat([node_VD[tensor(user_b, node_VD.device)], node_VD[self.num_users :]])
        final_VD = propagate(
            self.block[1], part_VD, self.config.layers, scale_V1=scale_V1, shard=shard
        )
        return final_VD[: len(user_b)], final_VD[len(user_b) :]

    def _softmax(
        self,
        user_SD: Tensor,
        item_MD: Tensor,
        user_S: np.ndarray,
        item_S: np.ndarray,
        item_P: np.ndarray,
    ) -> Tensor:
        """Sum of the softmaxes over the distinct items of the batch, logQ-corrected.

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
            ranking_users(user_SD, self.config) / self.config.temperature,
            ranking_items(
                item_MD[tensor(item_I, item_MD.device)], self.likes_M[item_I], self.config
            ),
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
        user_UD, item_MD = self.vectors(shard=shard)
        user_UD = ranking_users(user_UD, self.config)
        item_MD = ranking_items(item_MD, self.likes_M, self.config)
        user_B = self.data["valid.users"]
        return validation_ndcg(
            self.data, lambda rows: user_UD[tensor(user_B[rows], user_UD.device)] @ item_MD.T, shard
        )


def _uniformity(unit_PD: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d^2) over the pairs of some directions: ()."""
    number = len(unit_PD)
    likeness_PP = torch.exp(4 * (unit_PD @ unit_PD.T).float() - 4)
    return torch.log((likeness_PP.sum() - number) / (number * (number - 1)))


def ranking_users(user_BD: Tensor, config: LightGCNConfig) -> Tensor:
    """User vectors as they rank: inner products, or those of directions after the softmax.

    Returns:
        (B, D), or (B, D + 1) with a last column of ones for what `ranking_items` adds.
    """
    if config.loss != "softmax":
        return user_BD
    return torch.cat([F.normalize(user_BD, dim=1), user_BD.new_ones(len(user_BD), 1)], 1)


def ranking_items(item_MD: Tensor, likes_M: np.ndarray, config: LightGCNConfig) -> Tensor:
    """Item vectors as they are ranked by.

    DirectAU learns directions too, but the lengths that come with them tell how popular an item is.

    Args:
        item_MD: what the graph makes of them.
        likes_M: how many like each.
        config: options.

    Returns:
        (M, D), or after the softmax (M, D + 1): directions, and log(1 + likes) times temperature,
        times the weight of popularity.
    """
    if config.loss != "softmax":
        return item_MD
    popular_M1 = torch.from_numpy(np.log1p(likes_M)[:, None]).to(item_MD)
    weight = config.popularity * config.temperature
    return torch.cat([F.normalize(item_MD, dim=1), weight * popular_M1], 1)


def build_task(
    config: Mapping[str, Any], data: Mapping[str, np.ndarray], seed: int
) -> tuple[LinkTask, LoopOptions]:
    """What a training worker builds from plain values."""
    parsed = LightGCNConfig(**config)
    return LinkTask(parsed, data, seed), LoopOptions.of(parsed, seed)
