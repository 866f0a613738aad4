"""The graph of users and the items they liked: propagation, normalisation, negatives.

Shape legend: U users, M items, V = U + M nodes, D width, K layers, P pairs, n negatives of a pair.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from training.snapshot import codes_in

_REDRAWS = 8


class SymmetricProduct(torch.autograd.Function):
    """Sparse symmetric matrix times dense: the backward product is with the same matrix."""

    @staticmethod
    def forward(ctx: Any, graph_VV: Tensor, x_VD: Tensor) -> Tensor:
        """(V, V) sparse @ (V, D)."""
        ctx.graph_VV = graph_VV
        return graph_VV @ x_VD

    @staticmethod
    def backward(ctx: Any, grad_VD: Tensor) -> tuple[None, Tensor]:
        """The gradient of x; the graph has none."""
        return None, ctx.graph_VV @ grad_VD


def propagate(graph_VV: Tensor, node_VD: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """LightGCN's layers.

    Returns:
        The mean of layers 0..K (V, D), and the sum of layers 0..K-1 divided by K + 1 (V, D),
        which is what a node sends to its neighbours' means.
    """
    total_VD, layer_VD = node_VD, node_VD
    for _ in range(layers):
        sent_VD = total_VD
        layer_VD = SymmetricProduct.apply(graph_VV, layer_VD)
        total_VD = total_VD + layer_VD
    return total_VD / (layers + 1), sent_VD / (layers + 1)


def normalised_graph(
    liked_UM: sparse.csr_array, follows: np.ndarray, social_weight: float
) -> sparse.csr_array:
    """(V, V) symmetric graph of likes and follows, each edge over the root of both degrees.

    Args:
        liked_UM: (U, M) of ones.
        follows: (2, F) codes of users in the graph; both directions carry messages.
        social_weight: weight of a follow beside the weight 1 of a like; 0 leaves follows out.
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
    root_V = np.sqrt(graph_VV.sum(axis=1))
    inverse_V = np.divide(1.0, root_V, out=np.zeros_like(root_V), where=root_V > 0)
    scale_VV = sparse.diags_array(inverse_V.astype(np.float32))
    return (scale_VV @ graph_VV @ scale_VV).tocsr().astype(np.float32)


def torch_csr(matrix: sparse.csr_array) -> Tensor:
    """The same matrix as a sparse tensor."""
    with warnings.catch_warnings():
        # PyTorch calls its CSR layout a beta once a process; the products used here are tested.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
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
