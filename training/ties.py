"""Ties of people as known at a moment: what they like, and whom they follow.

A model learnt an earlier graph; by these it places who and what has come since.

Shape legend: U users, N items, L likes, F follows, K users known to a model, X those and who is
tied to them, B users asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from training.histories import codes_in


@dataclass(frozen=True)
class Ties:
    """Who likes what, and who follows whom, as far as known at a moment."""

    user_ids: np.ndarray
    """(U,) str, unique."""
    item_ids: np.ndarray
    """(N,) str, sorted."""
    likes: np.ndarray
    """(2, L) codes of users and items."""
    follows: np.ndarray
    """(2, F) codes of users: follower, followee."""

    def circle(self, known_ids: np.ndarray) -> tuple[np.ndarray, sparse.csr_array]:
        """Some people and those near them.

        Args:
            known_ids: (K,) str, sorted.

        Returns:
            (X,) str, sorted: these and whoever follows, or is followed by, one of them; and (X, X)
            of ones: which of these each follows or is followed by, nobody themselves.
        """
        pair_2F = np.concatenate([self.follows, self.follows[::-1]], axis=1)
        known_U = codes_in(self.user_ids, known_ids) >= 0
        pair_2F = pair_2F[:, (pair_2F[0] != pair_2F[1]) & known_U[pair_2F[1]]]
        near_ids = np.union1d(known_ids, self.user_ids[np.unique(pair_2F[0])])
        return near_ids, _ones(codes_in(self.user_ids, near_ids)[pair_2F], (len(near_ids),) * 2)

    def new_likes(
        self, likers: np.ndarray, learnt: np.ndarray
    ) -> tuple[np.ndarray, sparse.csr_array]:
        """Items that a model did not learn, and which of its people like them.

        Args:
            likers: (K,) str, sorted.
            learnt: (M,) str, sorted: items to leave out.

        Returns:
            (N',) str, sorted, of items liked by one of them, and (K, N') of ones.
        """
        user_L, item_L = self.likes
        code_U = codes_in(self.user_ids, likers)
        kept_L = (code_U[user_L] >= 0) & (codes_in(self.item_ids, learnt) < 0)[item_L]
        found, column_L = np.unique(item_L[kept_L], return_inverse=True)
        pair_2L = np.stack([code_U[user_L[kept_L]], column_L])
        return self.item_ids[found], _ones(pair_2L, (len(likers), len(found)))


def rows_for(
    ids: np.ndarray, known_ids: np.ndarray, matrix_KX: sparse.csr_array
) -> sparse.csr_array:
    """(B, X): the row of each id (str) among the known ones (sorted); empty for who is unknown."""
    code_B = codes_in(ids, known_ids)
    row_B = np.flatnonzero(code_B >= 0)
    ones = np.ones(len(row_B), np.float32)
    chosen_BK = sparse.csr_array((ones, (row_B, code_B[row_B])), shape=(len(ids), len(known_ids)))
    return (chosen_BK @ matrix_KX).tocsr()


def _ones(pairs: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """A 1 for each distinct pair of row and column, (2, P)."""
    found = sparse.csr_array((np.ones(pairs.shape[1], np.float32), pairs), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    return found
