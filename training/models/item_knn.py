"""Item-based collaborative filtering: items liked by the same people are near each other.

Sarwar et al. 2001 with the cosine of the positives and shrinkage towards 0 for pairs seen rarely.

Shape legend: U users, M items the model knows, B histories, K candidates of a user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from training.histories import Histories, codes_in
from training.models.base import FitContext, Model, train_items
from training.models.popularity import DAY
from training.snapshot import Snapshot

_ROWS_PER_BLOCK = 1024


@dataclass(frozen=True)
class ItemKNNConfig:
    """Options of item-based collaborative filtering."""

    neighbours: int = 100
    shrinkage: float = 10.0
    half_life_days: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, but it is {self.neighbours}.")
        if self.shrinkage < 0:
            raise ValueError(f"shrinkage must be at least 0, but it is {self.shrinkage}.")
        if self.half_life_days < 0:
            raise ValueError(f"half_life_days must be at least 0, but it is {self.half_life_days}.")


class ItemKNN(Model):
    """The user's positives times the nearest neighbours of each item.

    `sim_ij = |U_i & U_j| / (sqrt(|U_i| |U_j|) + shrinkage)` with U_i the users who liked i, kept
    for the `neighbours` greatest j of each i; a user's score of j is the sum of `w_i * sim_ij`
    over the history, where w_i halves every `half_life_days` (0: all weights 1).

    Attributes:
        similarity_MM: sparse (M, M) float32, row i holds the neighbours of item i; 0 diagonal.
    """

    name: ClassVar[str] = "item_knn"
    config_class: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig

    def __init__(
        self, config: ItemKNNConfig, item_ids: np.ndarray, similarity_MM: sparse.csr_array
    ) -> None:
        super().__init__(config, item_ids)
        self.similarity_MM = similarity_MM

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: ItemKNNConfig, context: FitContext) -> Self:
        mask_E = snapshot.positives(None, snapshot.valid_start)
        item_ids, code_T = train_items(snapshot, mask_E)
        liked_UM = sparse.csr_array(
            (np.ones(len(code_T), np.float32), (snapshot.users[mask_E], code_T)),
            shape=(len(snapshot.user_ids), len(item_ids)),
        )
        liked_UM.data[:] = 1.0  # liking an item twice is liking it
        similarity_MM = _similarity(liked_UM, config)
        context.progress(
            f"item_knn  {similarity_MM.nnz} neighbours of {len(item_ids)} items from "
            f"{liked_UM.nnz} positives"
        )
        return cls(config, item_ids, similarity_MM)

    def _score(self, histories: Histories) -> np.ndarray:
        return (self._weights(histories) @ self.similarity_MM).toarray()

    def nearest_in_history(
        self, histories: Histories, item_BK: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The history item that speaks most for each candidate: the reason for it.

        Args:
            histories: B users.
            item_BK: (B, K) codes into `histories.catalogue`.

        Returns:
            (B, K) int32 codes into `histories.catalogue`, -1 where no history item is a
            neighbour, and (B, K) float32 similarities (0 there).
        """
        own_N = codes_in(histories.catalogue, self.item_ids)
        catalogue_M = codes_in(self.item_ids, histories.catalogue)
        own = histories.positives(self.item_ids)
        nearest_BK = np.full(item_BK.shape, -1, dtype=np.int32)
        similarity_BK = np.zeros(item_BK.shape, dtype=np.float32)
        target_BK = np.where(item_BK >= 0, own_N[item_BK], -1)
        for row in range(len(own)):
            history_H = np.unique(own.items[own.offsets[row] : own.offsets[row + 1]])
            if not len(history_H):
                continue
            known_K = target_BK[row] >= 0
            sim_HK = self.similarity_MM[history_H][:, target_BK[row, known_K]].toarray()
            best_K = sim_HK.argmax(axis=0)
            value_K = sim_HK[best_K, np.arange(len(best_K))]
            similarity_BK[row, known_K] = value_K
            nearest_BK[row, known_K] = np.where(value_K > 0, catalogue_M[history_H[best_K]], -1)
        return nearest_BK, similarity_BK

    def _weights(self, histories: Histories) -> sparse.csr_array:
        """(B, M) sparse weights of the history items; the latest positive of an item counts."""
        keys, inverse = np.unique(
            histories.rows() * len(self.item_ids) + histories.items, return_inverse=True
        )
        latest = np.full(len(keys), np.iinfo(np.int64).min)
        np.maximum.at(latest, inverse, histories.timestamps)
        row, item = np.divmod(keys, len(self.item_ids))
        if self.config.half_life_days:
            age_days = (histories.as_of - latest) / DAY
            weight = np.exp2(-age_days / self.config.half_life_days).astype(np.float32)
        else:
            weight = np.ones(len(keys), dtype=np.float32)
        return sparse.csr_array(
            (weight, (row, item)), shape=(len(histories), len(self.item_ids)), dtype=np.float32
        )

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            "similarity.data": self.similarity_MM.data,
            "similarity.indices": self.similarity_MM.indices.astype(np.int32),
            "similarity.indptr": self.similarity_MM.indptr.astype(np.int64),
        }

    @classmethod
    def _restore(
        cls,
        config: ItemKNNConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        item_ids = vocabularies["item_ids"]
        parts = tuple(tensors[f"similarity.{part}"] for part in ("data", "indices", "indptr"))
        return cls(config, item_ids, sparse.csr_array(parts, shape=(len(item_ids),) * 2))


def _similarity(liked_UM: sparse.csr_array, config: ItemKNNConfig) -> sparse.csr_array:
    """The nearest neighbours of every item, a block of rows at a time to bound memory."""
    liked_MU = liked_UM.T.tocsr()
    length_M = np.sqrt(liked_UM.sum(axis=0))
    blocks = []
    for start in range(0, liked_MU.shape[0], _ROWS_PER_BLOCK):
        together = (liked_MU[start : start + _ROWS_PER_BLOCK] @ liked_UM).tocoo()
        row, item = together.row, together.col
        apart = row + start != item
        row, item, count = row[apart], item[apart], together.data[apart]
        cosine = count / (length_M[row + start] * length_M[item] + config.shrinkage)
        # By row, greatest first, ties by item code so that equal data gives equal neighbours.
        order = np.lexsort((item, -cosine, row))
        row, item, cosine = row[order], item[order], cosine[order]
        first_of_row = np.searchsorted(row, np.arange(together.shape[0]))
        kept = np.arange(len(row)) - first_of_row[row] < config.neighbours
        blocks.append(
            sparse.csr_array(
                (cosine[kept].astype(np.float32), (row[kept], item[kept])), shape=together.shape
            )
        )
    return sparse.vstack(blocks, format="csr")
