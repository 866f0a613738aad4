"""Why an item is on a list, in one sentence that is true.

A reason names an item only when the user liked it and the model that put the candidate on the
list holds the two alike, and speaks of people only when the user follows several who liked the
candidate. Otherwise the sentence claims less.

Shape suffixes: U users with lists, B users of a batch, A people whom they follow, K list length,
N items of the catalogue, M items the model knows, D vector length, H history items looked at,
R rows (places of all lists).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from scipy import sparse

from training.histories import Histories, codes_in
from training.models.base import Model
from training.models.item_knn import ItemKNN

MATCHES = "Matches what you watched lately"
AROUND = "Matches the people around you"
"""For who has liked nothing yet: the model knows whom they follow or who follows them."""

_HISTORY = 50
"""The latest positives a reason is looked for among; older ones would not be remembered."""

_SEVERAL = 2
"""Of fewer people one could guess who it was."""

_CHUNK_FLOATS = 1 << 23
"""Floats of gathered vectors held at once (32 MiB)."""


@dataclass(frozen=True)
class Circles:
    """Whom users follow, and what those people liked."""

    follows_UA: sparse.csr_array
    """(U, A) of ones."""
    likes_AN: sparse.csr_array
    """(A, N) of ones."""

    @classmethod
    def of_pairs(cls, follows: np.ndarray, likes: np.ndarray, shape: tuple[int, int, int]) -> Self:
        """From (2, F) codes of user and person, (2, L) of person and item, and (U, A, N)."""

        def ones(pairs: np.ndarray, rows: int, columns: int) -> sparse.csr_array:
            found = sparse.csr_array(
                (np.ones(pairs.shape[1], np.float32), pairs), shape=(rows, columns)
            )
            found.sum_duplicates()
            found.data[:] = 1.0
            return found

        users, people, items = shape
        return cls(ones(follows, users, people), ones(likes, people, items))

    def liked_by(self, start: int, item_BK: np.ndarray) -> np.ndarray:
        """(B, K): how many of the people whom the users from `start` on follow liked each item."""
        follows_BA = self.follows_UA[start : start + len(item_BK)]
        liked_BN = (follows_BA @ self.likes_AN).tocsr()
        row_BK = np.broadcast_to(np.arange(len(item_BK))[:, None], item_BK.shape)
        count_BK = liked_BN[row_BK.ravel(), np.maximum(item_BK, 0).ravel()].reshape(item_BK.shape)
        return np.where(item_BK >= 0, np.asarray(count_BK), 0).astype(np.int64)


def nearest_in_history(model: Model, histories: Histories, item_BK: np.ndarray) -> np.ndarray:
    """The item of each user's history that the model holds most like each candidate.

    Models with item vectors are asked for the greatest cosine among the user's last 50 positives,
    item-based collaborative filtering for its own similarity.

    Args:
        model: The model that speaks for the candidates.
        histories: B users.
        item_BK: Codes into `histories.catalogue`, -1 for places to leave alone.

    Returns:
        (B, K) int32 codes into `histories.catalogue`; -1 where nothing in the history is like the
        candidate (similarity above 0), or the model has no notion of alike items.
    """
    if isinstance(model, ItemKNN):
        return model.nearest_in_history(histories, item_BK)[0]
    vector_MD = model.likeness_vectors()
    nearest_BK = np.full(item_BK.shape, -1, dtype=np.int32)
    if vector_MD is None or not len(vector_MD):
        return nearest_BK
    unit_MD = unit_vectors(vector_MD)
    own_N = codes_in(histories.catalogue, model.item_ids)
    catalogue_M = codes_in(model.item_ids, histories.catalogue)
    own_BK = np.where(item_BK >= 0, own_N[item_BK], -1)
    own_BH = _latest(histories.positives(model.item_ids))
    if not own_BH.shape[1]:
        return nearest_BK
    width = own_BK.shape[1] + own_BH.shape[1]
    step = max(1, _CHUNK_FLOATS // (width * unit_MD.shape[1]))
    for start in range(0, len(own_BK), step):
        part = slice(start, start + step)
        candidate_BK, history_BH = own_BK[part], own_BH[part]
        likeness_BKH = unit_MD[candidate_BK] @ unit_MD[history_BH].transpose(0, 2, 1)
        impossible_BKH = (history_BH < 0)[:, None, :] | (candidate_BK < 0)[:, :, None]
        # An item is no reason for itself.
        impossible_BKH |= candidate_BK[:, :, None] == history_BH[:, None, :]
        likeness_BKH[impossible_BKH] = -1.0
        best_BK = likeness_BKH.argmax(axis=2)
        alike_BK = np.take_along_axis(likeness_BKH, best_BK[:, :, None], axis=2)[:, :, 0] > 0
        liked_BK = catalogue_M[np.take_along_axis(history_BH, best_BK, axis=1)]
        nearest_BK[part] = np.where(alike_BK, liked_BK, -1)
    return nearest_BK


def reason_texts(
    nearest_R: np.ndarray,
    liked_R: np.ndarray,
    popular_R: np.ndarray,
    people_R: np.ndarray,
    titles: Sequence[str | None],
    popular: str,
) -> pa.Array:
    """The sentence of each place.

    Args:
        nearest_R: Code of the history item to name, -1 for none.
        liked_R: bool, places of users who liked something.
        popular_R: bool, places that popularity filled.
        people_R: How many people whom the user follows liked the item.
        titles: Title of each of the N items of the catalogue; None or "" when unknown.
        popular: What to say of popular items.

    Returns:
        (R,) string array.
    """
    code_R = np.where(liked_R, nearest_R, -2)
    code_R = np.where(popular_R, len(titles), code_R)
    code_R = np.where(people_R >= _SEVERAL, len(titles) + people_R, code_R)
    code_X, text_R = np.unique(code_R, return_inverse=True)  # each text is made once
    texts = []
    for code in code_X:
        if code > len(titles):
            texts.append(f"Liked by {code - len(titles)} people you follow")
        elif code == len(titles):
            texts.append(popular)
        elif code == -2:
            texts.append(AROUND)
        else:
            texts.append(_similar(titles[code] if code >= 0 else None))
    return pa.array(texts, pa.string()).take(pa.array(text_R))


def popular_text(window_days: float) -> str:
    """What to say of items that most people liked in the last `window_days`."""
    known = {1.0: "Popular today", 7.0: "Popular this week"}
    return known.get(float(window_days), f"Popular in the last {window_days:g} days")


def unit_vectors(vector_MD: np.ndarray) -> np.ndarray:
    """(M, D) float32 vectors of length 1; vectors of zeros stay as they are."""
    vector_MD = np.asarray(vector_MD, dtype=np.float32)
    length_M = np.linalg.norm(vector_MD, axis=1, keepdims=True)
    return np.divide(vector_MD, length_M, out=np.zeros_like(vector_MD), where=length_M > 0)


def _similar(title: str | None) -> str:
    return f"Similar to {title} that you watched" if title else MATCHES


def _latest(positives: Histories) -> np.ndarray:
    """(B, H) the last positives of each user, latest first, -1 where there are fewer."""
    length_B = positives.lengths()
    back_H = np.arange(1, min(_HISTORY, int(length_B.max(initial=0))) + 1)
    place_BH = positives.offsets[1:, None] - back_H
    there_BH = back_H <= length_B[:, None]
    return np.where(there_BH, positives.items[np.where(there_BH, place_BH, 0)], -1)
