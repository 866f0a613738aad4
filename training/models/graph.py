"""The graph of users and the items they liked: propagation, normalisation, negatives.

Shape legend: U users, M items, V = U + M nodes, D width, K layers, P pairs, n negatives of a pair,
b users of a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from scipy import sparse
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from training.histories import codes_in, codes_that_occur
from training.loop import Shard, Trainable
from training.models.base import train_items
from training.models.validation import validation_users
from training.snapshot import Snapshot

_REDRAWS = 8


@dataclass(frozen=True)
class LikeGraph:
    """Who liked what before validation, who follows whom among them, and whom to validate with."""

    item_ids: np.ndarray
    """(M,) str, sorted."""
    user_ids: np.ndarray
    """(U,) str: those who liked something."""
    liked_UM: sparse.csr_array
    """Ones."""
    follows: np.ndarray
    """(2, F) codes of users of the graph."""
    arrays: dict[str, np.ndarray]
    """All of it by name, for a worker, with the validation users that have a node."""

    @classmethod
    def build(cls, snapshot: Snapshot, seed: int) -> Self:
        """The graph of a snapshot; nothing of its validation and test parts is an edge."""
        item_ids, code_U, liked_UM = train_likes(snapshot)
        own_code = codes_in(np.arange(len(snapshot.user_ids)), code_U)
        follows = own_code[snapshot.follows]
        follows = follows[:, (follows >= 0).all(axis=0)]
        valid_user, valid = validation_users(snapshot, item_ids, seed)
        valid_code, valid = _only_known(own_code[valid_user], valid)
        arrays = {
            "sizes": np.array(liked_UM.shape),
            "liked.items": liked_UM.indices.astype(np.int32),
            "liked.offsets": liked_UM.indptr.astype(np.int64),
            "follows": follows,
            "valid.users": valid_code,
            **valid,
        }
        return cls(item_ids, snapshot.user_ids[code_U], liked_UM, follows, arrays)


def train_likes(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray, sparse.csr_array]:
    """Who liked what before validation.

    Returns:
        item_ids (M,) str sorted, codes of the users who liked something (U,), and (U, M) of ones.
    """
    mask_E = snapshot.positives(None, snapshot.valid_start)
    item_ids, item_T = train_items(snapshot, mask_E)
    code_U, user_T = codes_that_occur(snapshot.users[mask_E], len(snapshot.user_ids))
    liked_UM = sparse.csr_array(
        (np.ones(len(item_T), np.float32), (user_T, item_T)), shape=(len(code_U), len(item_ids))
    )
    liked_UM.sum_duplicates()
    liked_UM.data[:] = 1.0
    return item_ids, code_U, liked_UM


class GraphTask(Trainable):
    """Embeddings of the nodes beside the graph that carries messages, and likes in batches."""

    graph_VV: Tensor

    def __init__(
        self, width: int, batch_size: int, data: Mapping[str, np.ndarray], seed: int
    ) -> None:
        super().__init__()
        self.data, self.seed, self.batch_size = data, seed, batch_size
        self.liked_UM = likes_of(data)
        self.num_users, self.num_items = self.liked_UM.shape
        self.node_VD = nn.Parameter(torch.empty(self.num_users + self.num_items, width))
        nn.init.normal_(self.node_VD, std=0.1)

    def _apply(self, fn: Any, recurse: bool = True) -> GraphTask:
        # A sparse buffer would be part of the weights and of DDP's broadcast; it is neither.
        super()._apply(fn, recurse)
        self.graph_VV = self.graph_VV.to(self.node_VD.device)
        return self

    def batches(self, epoch: int) -> Sequence[tuple[np.ndarray, int]]:
        """Numbers of the likes of each batch with the seed of its negatives."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.liked_UM.nnz)
        cuts = range(self.batch_size, len(order), self.batch_size)
        return [(likes, int(rng.integers(2**62))) for likes in np.split(order, list(cuts))]

    def pairs(self, likes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the users (P,) and items (P,) of some likes."""
        user_P = np.searchsorted(self.liked_UM.indptr, likes, side="right").astype(np.int64) - 1
        return user_P, self.liked_UM.indices[likes].astype(np.int64)


def likes_of(data: Mapping[str, np.ndarray]) -> sparse.csr_array:
    """(U, M) of ones, from `LikeGraph.arrays`."""
    ones = np.ones(len(data["liked.items"]), np.float32)
    return sparse.csr_array(
        (ones, data["liked.items"], data["liked.offsets"]), shape=tuple(data["sizes"])
    )


class SymmetricProduct(torch.autograd.Function):
    """Sparse symmetric matrix times dense: the backward product is with the same matrix."""

    @staticmethod
    def forward(ctx: Any, graph_VV: Tensor, x_VD: Tensor) -> Tensor:
        """(V, V) sparse @ (V, D)."""
        ctx.graph_VV = graph_VV
        # No kernel multiplies sparse matrices in the 16 bits of autocast.
        with torch.autocast(x_VD.device.type, enabled=False):
            return graph_VV @ x_VD.float()

    @staticmethod
    def backward(ctx: Any, grad_VD: Tensor) -> tuple[None, Tensor]:
        """The gradient of x; the graph has none."""
        return None, ctx.graph_VV @ grad_VD


def propagate(
    graph_VV: Tensor,
    node_VD: Tensor,
    layers: int,
    *,
    scale_V1: Tensor | None = None,
    shard: Shard | None = None,
) -> Tensor:
    """LightGCN's layers.

    Columns do not meet on the way. So the workers of a process group work out some each, and
    exchange the result alone, but for a width that they cannot share evenly.

    Args:
        graph_VV: sparse, symmetric.
        node_VD: layer 0.
        layers: K.
        scale_V1: what a node's messages are multiplied by; None is 1.
        shard: which worker this is; None works out all of it.

    Returns:
        The mean of layers 0..K (V, D).
    """
    shard = shard or Shard()
    together = shard.count > 1 and dist.is_initialized() and node_VD.shape[1] % shard.count == 0
    if together:
        node_VD = node_VD.chunk(shard.count, 1)[shard.index].contiguous()
    total_VD, layer_VD = node_VD, node_VD
    for _ in range(layers):
        sent_VD = layer_VD if scale_V1 is None else layer_VD * scale_V1
        layer_VD = SymmetricProduct.apply(graph_VV, sent_VD)
        total_VD = total_VD + layer_VD
    mean_VD = total_VD / (layers + 1)
    return torch.cat(all_gather(mean_VD), 1) if together else mean_VD


def normalised_graph(
    liked_UM: sparse.csr_array,
    follows: np.ndarray,
    social_weight: float,
    *,
    itself: bool = False,
) -> sparse.csr_array:
    """(V, V) symmetric graph of likes and follows, each edge over the root of both degrees.

    Args:
        liked_UM: (U, M) of ones.
        follows: (2, F) codes of users in the graph; both directions carry messages.
        social_weight: weight of a follow beside the weight 1 of a like; 0 leaves follows out.
        itself: whether each node is its own neighbour too, with the weight 1.
    """
    num_users = liked_UM.shape[0]
    social_UU = None
    if social_weight > 0 and follows.shape[1]:
        ones = np.ones(2 * follows.shape[1], np.float32)
        both = (np.concatenate([follows[0], follows[1]]), np.concatenate([follows[1], follows[0]]))
        social_UU = sparse.csr_array((ones, both), shape=(num_users, num_users))
        social_UU.setdiag(0)
        social_UU.eliminate_zeros()
        social_UU.data[:] = social_weight
    graph_VV = sparse.block_array([[social_UU, liked_UM], [liked_UM.T, None]], format="csr")
    if itself:
        graph_VV = (graph_VV + sparse.eye_array(graph_VV.shape[0], dtype=np.float32)).tocsr()
    root_V = np.sqrt(graph_VV.sum(axis=1))
    inverse_V = np.divide(1.0, root_V, out=np.zeros_like(root_V), where=root_V > 0)
    scale_VV = sparse.diags_array(inverse_V.astype(np.float32))
    return (scale_VV @ graph_VV @ scale_VV).tocsr().astype(np.float32)


def graph_of_users(
    graph_VV: sparse.csr_array, user_b: np.ndarray, num_users: int
) -> sparse.csr_array:
    """(b + M, b + M): the graph without all users but some; edges keep their values."""
    rows_bV = graph_VV[user_b]
    like_bM = rows_bV[:, num_users:]
    return sparse.block_array([[rows_bV[:, user_b], like_bM], [like_bM.T, None]], format="csr")


def torch_csr(matrix: sparse.csr_array) -> Tensor:
    """The same matrix as a sparse tensor."""
    # MKL takes 32 bits and else converts the indices with every product: a third of its time.
    index = np.int32 if max(*matrix.shape, matrix.nnz) < 2**31 else np.int64
    with warnings.catch_warnings():
        # PyTorch calls its CSR layout a beta once a process; the products used here are tested.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(index, copy=False)),
            torch.from_numpy(matrix.indices.astype(index, copy=False)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=True,
        )


def sample_negatives(
    liked_UM: sparse.csr_array, user_P: np.ndarray, negatives: int, rng: np.random.Generator
) -> np.ndarray:
    """(P, n) uniform items that the pair's user has not liked; -1 where there is none left.

    Redraws what hit a liked item; what still hits after some rounds is drawn from the exact
    complement, so users who liked almost everything cannot stall the sampler.
    """
    num_items = liked_UM.shape[1]
    negative_Pn = rng.integers(num_items, size=(len(user_P), negatives))
    owner_Pn = np.repeat(user_P[:, None], negatives, axis=1)
    liked = (
        liked_UM.indices
        + np.repeat(np.arange(liked_UM.shape[0], dtype=np.int64), np.diff(liked_UM.indptr))
        * num_items
    )
    for _ in range(_REDRAWS):
        hit_Pn = codes_in(owner_Pn.ravel() * num_items + negative_Pn.ravel(), liked) >= 0
        hit_Pn = hit_Pn.reshape(negative_Pn.shape)
        if not hit_Pn.any():
            return negative_Pn
        negative_Pn[hit_Pn] = rng.integers(num_items, size=int(hit_Pn.sum()))
    for pair, place in zip(*np.nonzero(hit_Pn), strict=True):
        user = user_P[pair]
        own = liked_UM.indices[liked_UM.indptr[user] : liked_UM.indptr[user + 1]]
        left = np.setdiff1d(np.arange(num_items), own, assume_unique=True)
        negative_Pn[pair, place] = rng.choice(left) if len(left) else -1
    return negative_Pn


def rows_of(matrix: sparse.csr_array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of some rows, one row after the other: the row's place among them, and the column."""
    place, entries = entries_of(matrix, rows)
    return place, matrix.indices[entries].astype(np.int64)


def entries_of(matrix: sparse.csr_array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of some rows, one row after the other: the row's place among them, and its number."""
    begin, number = matrix.indptr[rows].astype(np.int64), np.diff(matrix.indptr)[rows]
    place = np.repeat(np.arange(len(rows)), number)
    before = np.cumsum(number) - number
    return place, np.repeat(begin - before, number) + np.arange(len(place))


def _only_known(
    code_B: np.ndarray, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Validation users that have a node, with their rows of each CSR."""
    known = np.flatnonzero(code_B >= 0)
    kept = {}
    for kind in ("valid.seen", "valid.relevant"):
        offsets = arrays[f"{kind}.offsets"]
        parts = [arrays[kind][offsets[row] : offsets[row + 1]] for row in known]
        kept[kind] = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        kept[f"{kind}.offsets"] = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return code_B[known], kept
