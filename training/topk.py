"""Exact top-K over a whole catalogue: fast, in bounded memory, and the same list every time.

The order is total: higher score first, and among equal scores the lower item code. A list is thus
a function of the scores alone, whatever the batch size or the order of the work.

How it is fast: an interleaved view cuts the N scores of a user into S blocks of R (item p is in
block p mod S), so one pass of element-wise maxima over R contiguous rows gives all block maxima.
The K-th greatest of them is a floor: K items reach it, so no item below it is in the list. Only
blocks that reach the floor are looked at again, R * K scores of N in the usual case and all of
them, still exactly, when very many scores tie. Score and code are then packed into one integer,
so that choosing, ordering and breaking ties are one integer sort.

Shape suffixes: B users of a batch, U all users, N items, D vector length, K list length, S blocks,
R items of a block, P = S * R places (N and padding), C (user, block) pairs that reach the floor,
M items that do, T entries of all rows of a CSR.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from training.histories import distinct

_BUFFER_BYTES = 10 << 20
"""Size aimed at for the scores of a thread's batch: they should stay in the last-level cache."""

_MIN_ROWS = 32
"""Fewest users in a batch: a matrix product over fewer rows waits for memory."""

_BLAS = threading.Lock()
"""Held while the BLAS has one thread: two limits at a time would not be undone in order."""

_LOW_32 = np.int64(0xFFFFFFFF)
_NO_KEY = np.iinfo(np.int64).min


class ScoreError(ValueError):
    """Scores that cannot be ranked."""


@dataclass(frozen=True)
class ItemLists:
    """A list of item codes for each of U users, as one CSR."""

    offsets: np.ndarray
    """(U+1,) int64; user u's codes are `items[offsets[u]:offsets[u + 1]]`."""
    items: np.ndarray
    """(T,) int32 item codes."""

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> ItemLists:
        """The CSR of plain lists."""
        rows = [np.asarray(row, dtype=np.int32) for row in lists]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(offsets, np.concatenate([np.empty(0, np.int32), *rows]))

    @classmethod
    def from_pairs(cls, row_T: np.ndarray, item_T: np.ndarray, users: int) -> ItemLists:
        """The CSR of (user row, item code) pairs: each pair once, items ascending in a row."""
        key_T = distinct(row_T.astype(np.int64) << 32 | item_T.astype(np.int64))
        offsets = np.searchsorted(key_T, np.arange(users + 1, dtype=np.int64) << 32)
        return cls(offsets.astype(np.int64), (key_T & _LOW_32).astype(np.int32))

    def __len__(self) -> int:
        """How many users there are."""
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        """(U,) int64: how many codes each user has."""
        return np.diff(self.offsets)

    def rows(self) -> np.ndarray:
        """(T,) int64: the user row of each code."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def batch(self, start: int, stop: int) -> ItemLists:
        """The lists of users `start` to `stop` (exclusive)."""
        offsets = self.offsets[start : stop + 1]
        return ItemLists(offsets - offsets[0], self.items[offsets[0] : offsets[-1]])


def check_scores(
    score_BN: np.ndarray, *, model: str, user_ids: np.ndarray, item_ids: np.ndarray
) -> None:
    """Refuses scores of a model that cannot be ranked.

    Raises:
        ScoreError: A wrong shape, or a score that is NaN or +inf, with its user and item.
    """
    if score_BN.shape != (len(user_ids), len(item_ids)):
        msg = (
            f"model {model!r} gave scores of shape {score_BN.shape} for {len(user_ids)} users and "
            f"{len(item_ids)} items; it must give one score for each user and item"
        )
        raise ScoreError(msg)
    # A sum is finite or -inf unless it meets a NaN or +inf: one pass, and no mask of (B, N).
    with np.errstate(invalid="ignore"):
        total_B = score_BN.sum(axis=1, dtype=np.float64)
    if (np.isfinite(total_B) | np.isneginf(total_B)).all():
        return
    broken_BN = np.isnan(score_BN) | np.isposinf(score_BN)
    row, item = np.argwhere(broken_BN)[0]
    msg = (
        f"model {model!r} scored {score_BN[row, item]} for user {str(user_ids[row])!r} and item "
        f"{str(item_ids[item])!r} ({broken_BN.sum()} such scores); a score must be a finite "
        "number, or -inf for an item that the model does not know"
    )
    raise ScoreError(msg)


def top_k(
    score_UN: np.ndarray, k: int, exclude: ItemLists | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each user from a score matrix, which is left as it is.

    Args:
        score_UN: Scores, shape (U, N), ranked as float32. -inf means "never recommend".
        k: List length. Lists are shorter when fewer items are left.
        exclude: Items to leave out for each user, for example the seen ones.

    Returns:
        (codes_UK int32, scores_UK float32), best first, equal scores by ascending code. The tail
        of a short list is code -1 and score -inf.

    Raises:
        ScoreError: A score is NaN.
        ValueError: Wrong shapes, k below 1, or an excluded code outside the catalogue.
    """
    score_UN = np.asarray(score_UN)
    if score_UN.ndim != 2:
        msg = f"scores must have the shape (users, items), got {score_UN.shape}"
        raise ValueError(msg)

    def score(start: int, out_BN: np.ndarray) -> None:
        out_BN[:] = score_UN[start : start + len(out_BN)]

    return _Search.over(*score_UN.shape, k, exclude).run(score)


def top_k_factors(
    user_UD: np.ndarray, item_ND: np.ndarray, k: int, exclude: ItemLists | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k items with the greatest inner product with each user's vector, exactly.

    The (U, N) score matrix never exists: users are scored in batches that stay in the cache.

    Args:
        user_UD: User vectors, shape (U, D), used as float32.
        item_ND: Item vectors, shape (N, D), used as float32.
        k: List length.
        exclude: Items to leave out for each user.

    Returns:
        As `top_k`. Scores are float32 sums, so two products closer than their rounding error
        (about 1e-6 of the product of the vectors' lengths) may swap places between machines.

    Raises:
        ScoreError: A score is NaN.
        ValueError: As `top_k`, or vectors of unequal length.
    """
    user_UD = np.asarray(user_UD, dtype=np.float32)
    item_ND = np.asarray(item_ND, dtype=np.float32)
    if user_UD.ndim != 2 or item_ND.ndim != 2 or user_UD.shape[1] != item_ND.shape[1]:
        msg = (
            f"user and item vectors must have the shapes (users, D) and (items, D), got "
            f"{user_UD.shape} and {item_ND.shape}"
        )
        raise ValueError(msg)

    def score(start: int, out_BN: np.ndarray) -> None:
        np.matmul(user_UD[start : start + len(out_BN)], item_ND.T, out=out_BN)

    return _Search.over(len(user_UD), len(item_ND), k, exclude).run(score)


@dataclass(frozen=True)
class _Search:
    """One search: how its work is cut, and its lists so far."""

    items: int
    exclude: ItemLists | None
    batch: int
    block: int
    codes: np.ndarray
    scores: np.ndarray

    @classmethod
    def over(cls, users: int, items: int, k: int, exclude: ItemLists | None) -> _Search:
        if k < 1:
            msg = f"k must be at least 1, got {k}"
            raise ValueError(msg)
        if not 0 < items < 2**31:
            msg = f"a catalogue must have between 1 and 2^31 - 1 items, got {items}"
            raise ValueError(msg)
        if exclude is not None:
            _check_exclude(exclude, users, items)
        return cls(
            items,
            exclude,
            batch=max(_MIN_ROWS, _BUFFER_BYTES // (4 * items)),
            # The work is N / R maxima and about R * K scores; maxima cost twice as much each.
            block=max(1, math.isqrt(items // (2 * k))),
            codes=np.full((users, k), -1, np.int32),
            scores=np.full((users, k), -np.inf, np.float32),
        )

    def run(self, score: Callable[[int, np.ndarray], None]) -> tuple[np.ndarray, np.ndarray]:
        """Lists of all users; `score(start, out_BN)` writes the scores of users from `start` on.

        Each thread takes whole batches, with a BLAS of one thread: threads that never wait for
        each other beat a BLAS whose threads meet after every product, more so on a busy machine.
        """
        with _BLAS:
            blas = ThreadpoolController().select(user_api="blas")
            threads = max((pool["num_threads"] for pool in blas.info()), default=1)
            with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda thread: self._work(score, thread, threads), range(threads)))
        return self.codes, self.scores

    def _work(self, score: Callable[[int, np.ndarray], None], thread: int, threads: int) -> None:
        """Every `threads`-th batch, in one buffer."""
        users, blocks = len(self.codes), -(-self.items // self.block)
        batch = min(self.batch, -(-users // threads))
        buffer_BRS = np.empty((batch, self.block, blocks), np.float32)
        for start in range(thread * batch, users, max(1, threads * batch)):
            score_BRS = buffer_BRS[: users - start]
            score(start, score_BRS.reshape(len(score_BRS), -1)[:, : self.items])
            self._select(start, score_BRS)

    def _select(self, start: int, score_BRS: np.ndarray) -> None:
        """Writes the lists of the users from `start` on; overwrites the scores left out."""
        rows, block, blocks = score_BRS.shape
        k = self.codes.shape[1]
        score_BP = score_BRS.reshape(rows, -1)
        score_BP[:, self.items :] = -np.inf
        if self.exclude is not None:
            exclude = self.exclude.batch(start, start + rows)
            score_BP[exclude.rows(), exclude.items] = -np.inf

        best_BS = score_BRS.max(axis=1)
        if np.isnan(best_BS).any():
            row, item = np.argwhere(np.isnan(score_BP))[0]
            msg = f"the score of item code {item} for user row {start + row} is NaN: it has no rank"
            raise ScoreError(msg)
        floor_B = np.full(rows, -np.inf, np.float32)
        if blocks > k:
            floor_B = np.partition(best_BS, blocks - k, axis=1)[:, blocks - k]
        row_C, block_C = np.divmod(np.flatnonzero(best_BS >= floor_B[:, None]), blocks)
        place_CR = (row_C * (block * blocks) + block_C)[:, None] + np.arange(block) * blocks
        score_CR = score_BP.reshape(-1).take(place_CR)

        kept_M = np.flatnonzero(score_CR >= floor_B[row_C, None])
        row_M = row_C[kept_M // block]
        item_M = place_CR.reshape(-1)[kept_M] - row_M * (block * blocks)
        key_BX = _padded(_pack(score_CR.reshape(-1)[kept_M], item_M), row_M, rows)
        if key_BX.shape[1] > k:
            key_BX.partition(key_BX.shape[1] - k, axis=1)
        key_BK = np.sort(key_BX[:, -k:], axis=1)[:, ::-1]
        item_BK, score_BK = _unpack(key_BK)
        listed = np.s_[start : start + rows, : key_BK.shape[1]]
        self.scores[listed] = score_BK
        self.codes[listed] = np.where(score_BK == -np.inf, -1, item_BK)


def _pack(score: np.ndarray, code: np.ndarray) -> np.ndarray:
    """One int64 for (score, code) that grows with the score and, at equal scores, falls with code.

    The bits of a float32 grow with positive numbers; flipping all but the sign bit makes them grow
    with negative ones too. Adding 0.0 turns -0.0 into the 0.0 that it equals.
    """
    bits = (score + np.float32(0.0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (ordered.astype(np.int64) << 32) - code


def _unpack(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(code, score) of packed keys; the padding key becomes a score of -inf."""
    code = -key & _LOW_32
    ordered = ((key + code) >> 32).astype(np.int32)
    score = (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return code, np.where(key == _NO_KEY, np.float32(-np.inf), score)


def _padded(key_M: np.ndarray, row_M: np.ndarray, rows: int) -> np.ndarray:
    """The keys as a matrix with one row per user, filled up with the least integer."""
    count_B = np.bincount(row_M, minlength=rows)
    start_B = np.cumsum(count_B) - count_B
    key_BX = np.full((rows, count_B.max()), _NO_KEY)
    key_BX[row_M, np.arange(len(row_M)) - start_B[row_M]] = key_M
    return key_BX


def _check_exclude(exclude: ItemLists, users: int, items: int) -> None:
    if len(exclude) != users:
        msg = f"there are {len(exclude)} lists of excluded items for {users} users"
        raise ValueError(msg)
    if len(exclude.items) and not 0 <= exclude.items.min() <= exclude.items.max() < items:
        msg = (
            f"excluded item codes must be between 0 and {items - 1}, got "
            f"{exclude.items.min()} to {exclude.items.max()}"
        )
        raise ValueError(msg)
