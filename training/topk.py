"""Exact top-K over a whole catalogue: fast, in bounded memory, and the same list every time.

The order is total: higher score first, and among equal scores the lower item code. That makes a
list a function of the scores alone, whatever the batch size or the order of the work.

How it is fast: the catalogue is cut into S blocks of R consecutive codes. At most K blocks can
hold items of a top-K list, namely those with the K highest maxima (ties: the lower block, whose
codes are lower). One cheap pass finds the maxima, and only K * R scores are looked at again. The
scores lie in memory with position r * S + s for item s * R + r, so that the maxima of all blocks
are element-wise maxima of R contiguous rows, which processors do at the speed of memory. Score
and code are packed into one integer, so that selection and tie-breaking are one integer sort.

Shape suffixes: B users of a batch, U all users, N items, D vector length, K list length,
S blocks, R items of a block, C candidates that are looked at again, T entries of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

_BUFFER_BYTES = 24 << 20
"""Size aimed at for the scores of one batch: it should stay in the last-level cache."""

_MIN_ROWS = 64
"""Fewest users in a batch: a matrix product over fewer rows waits for memory."""

_LOW_32 = np.int64(0xFFFFFFFF)


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
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return cls(offsets, np.concatenate([np.empty(0, np.int32), *rows]))

    @classmethod
    def from_pairs(cls, rows_T: np.ndarray, items_T: np.ndarray, users: int) -> ItemLists:
        """The CSR of (row, item) pairs: each pair once, items ascending within a row."""
        key_T = np.unique(rows_T.astype(np.int64) << 32 | items_T.astype(np.int64))
        offsets = np.searchsorted(key_T, np.arange(users + 1, dtype=np.int64) << 32)
        return cls(offsets.astype(np.int64), (key_T & _LOW_32).astype(np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(U,) int64: how many codes each user has."""
        return np.diff(self.offsets)

    def batch(self, start: int, stop: int) -> ItemLists:
        """The lists of users `start` to `stop` (exclusive)."""
        offsets = self.offsets[start : stop + 1]
        return ItemLists(offsets - offsets[0], self.items[offsets[0] : offsets[-1]])

    def rows(self) -> np.ndarray:
        """(T,) int64: the user row of each code."""
        return np.repeat(np.arange(len(self)), self.lengths)


def top_k(
    score_UN: np.ndarray, k: int, exclude: ItemLists | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each user from a score matrix, which is left as it is.

    Args:
        score_UN: Scores, shape (U, N), converted to float32. -inf means "never recommend".
        k: List length. Lists are shorter when fewer items are left.
        exclude: Items to leave out for each user, for example the seen ones.

    Returns:
        (codes_UK int32, scores_UK float32), best first, equal scores by ascending code. The tail
        of a short list is code -1 and score -inf.

    Raises:
        ScoreError: A score is NaN.
        ValueError: Wrong shapes, k below 1, or an excluded code outside the catalogue.
    """
    score_UN = np.asarray(score_UN, dtype=np.float32)
    if score_UN.ndim != 2:
        msg = f"scores must have the shape (users, items), got {score_UN.shape}"
        raise ValueError(msg)
    users, items = score_UN.shape
    layout = _Layout.of(users, items, k)
    _check_exclude(exclude, users, items)
    codes_UK, scores_UK = _empty_lists(users, k)
    buffer_BRS = np.empty((layout.batch, layout.block, layout.blocks), dtype=np.float32)
    # Whole blocks are copied by transposing; the items of a last, partial block are put by hand.
    whole = items // layout.block
    for start in range(0, users, layout.batch):
        stop = min(start + layout.batch, users)
        score_BRS = buffer_BRS[: stop - start]
        score_BN = score_UN[start:stop]
        full_BSR = score_BN[:, : whole * layout.block].reshape(-1, whole, layout.block)
        torch.from_numpy(score_BRS)[:, :, :whole].copy_(_tensor(full_BSR).transpose(1, 2))
        rest_BR = score_BN[:, whole * layout.block :]
        score_BRS[:, : rest_BR.shape[1], whole:] = rest_BR[:, :, None]
        _select(score_BRS, layout, start, exclude, codes_UK, scores_UK)
    return codes_UK, scores_UK


def top_k_factors(
    user_UD: np.ndarray, item_ND: np.ndarray, k: int, exclude: ItemLists | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k items with the greatest inner product with each user's vector, exactly.

    The (U, N) score matrix never exists: users are scored in batches that stay in the cache.

    Args:
        user_UD: User vectors, shape (U, D).
        item_ND: Item vectors, shape (N, D).
        k: List length.
        exclude: Items to leave out for each user.

    Returns:
        As `top_k`. Scores are float32 sums, so products nearer than their rounding error
        (about 1e-6 of the vectors' lengths) may swap places between machines.

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
    users, (items, width) = len(user_UD), item_ND.shape
    layout = _Layout.of(users, items, k)
    _check_exclude(exclude, users, items)
    codes_UK, scores_UK = _empty_lists(users, k)
    padded_ND = np.zeros((layout.blocks * layout.block, width), dtype=np.float32)
    padded_ND[:items] = item_ND
    item_RSD = padded_ND.reshape(layout.blocks, layout.block, width).transpose(1, 0, 2)
    item_DP = item_RSD.reshape(-1, width).T
    buffer_BP = np.empty((layout.batch, layout.blocks * layout.block), dtype=np.float32)
    for start in range(0, users, layout.batch):
        user_BD = user_UD[start : start + layout.batch]
        score_BP = np.matmul(user_BD, item_DP, out=buffer_BP[: len(user_BD)])
        score_BRS = score_BP.reshape(-1, layout.block, layout.blocks)
        _select(score_BRS, layout, start, exclude, codes_UK, scores_UK)
    return codes_UK, scores_UK


@dataclass(frozen=True)
class _Layout:
    """How a catalogue is cut: `blocks` blocks of `block` items, `batch` users at a time."""

    items: int
    block: int
    blocks: int
    batch: int
    k: int

    @classmethod
    def of(cls, users: int, items: int, k: int) -> _Layout:
        if k < 1:
            msg = f"k must be at least 1, got {k}"
            raise ValueError(msg)
        if not 0 < items < 2**31:
            msg = f"a catalogue must have between 1 and 2^31 - 1 items, got {items}"
            raise ValueError(msg)
        # Work is items / R block maxima plus k * R scores; the sum is least at this R.
        block = max(1, math.isqrt(items // k))
        rows = max(_MIN_ROWS, _BUFFER_BYTES // (4 * items))
        return cls(items, block, -(-items // block), max(1, min(users, rows)), k)


def _select(
    score_BRS: np.ndarray,
    layout: _Layout,
    start: int,
    exclude: ItemLists | None,
    codes_UK: np.ndarray,
    scores_UK: np.ndarray,
) -> None:
    """Writes the lists of one batch to rows `start` on; overwrites the scores left out."""
    users = len(score_BRS)
    padding = layout.blocks * layout.block - layout.items
    score_BRS[:, layout.block - padding :, -1] = -np.inf
    if exclude is not None:
        seen = exclude.batch(start, start + users)
        block_T, within_T = np.divmod(seen.items, layout.block)
        score_BRS[seen.rows(), within_T, block_T] = -np.inf
    best_BS = torch.from_numpy(score_BRS).amax(dim=1).numpy()
    if np.isnan(best_BS).any():
        row, block = np.argwhere(np.isnan(best_BS))[0]
        code = block * layout.block + int(np.isnan(score_BRS[row, :, block]).argmax())
        msg = f"the score of user row {start + row} for item code {code} is NaN; it has no rank"
        raise ScoreError(msg)
    if layout.blocks > layout.k:
        key_BS = _pack(best_BS, np.arange(layout.blocks))
        block_BK = _code(_greatest(key_BS, layout.k))
    else:
        block_BK = np.broadcast_to(np.arange(layout.blocks), (users, layout.blocks))
    within_R = np.arange(layout.block)[:, None]
    place_BC = (within_R * layout.blocks + block_BK[:, None, :]).reshape(users, -1)
    code_BC = (block_BK[:, None, :] * layout.block + within_R).reshape(users, -1)
    score_BP = torch.from_numpy(score_BRS.reshape(users, -1))
    score_BC = torch.gather(score_BP, 1, torch.from_numpy(place_BC)).numpy()
    key_BC = _greatest(_pack(score_BC, code_BC), layout.k)
    key_BC.sort(axis=1)
    key_BK = key_BC[:, ::-1]
    found = key_BK.shape[1]
    scores_UK[start : start + users, :found] = _score(key_BK)
    codes_UK[start : start + users, :found] = _code(key_BK)
    codes_UK[start : start + users][np.isneginf(scores_UK[start : start + users])] = -1


def _pack(score: np.ndarray, code: np.ndarray) -> np.ndarray:
    """One int64 for (score, code) that grows with the score and, at equal scores, falls with code.

    The bits of a float32 grow with positive numbers; flipping all but the sign bit makes them grow
    with negative ones too. Adding 0.0 turns -0.0 into the 0.0 that it equals.
    """
    bits = (score + np.float32(0.0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (ordered.astype(np.int64) << 32) - code


def _code(key: np.ndarray) -> np.ndarray:
    return -key & _LOW_32


def _score(key: np.ndarray) -> np.ndarray:
    ordered = ((key + _code(key)) >> 32).astype(np.int32)
    return (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


def _greatest(key_BX: np.ndarray, k: int) -> np.ndarray:
    """The k greatest keys of each row in no order, or all where there are fewer."""
    width = key_BX.shape[1]
    if width <= k:
        return key_BX
    key_BX.partition(width - k, axis=1)
    return key_BX[:, width - k :]


def _empty_lists(users: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((users, k), -1, np.int32), np.full((users, k), -np.inf, np.float32)


def _tensor(array: np.ndarray) -> torch.Tensor:
    # Torch refuses arrays that are read-only, as those of Arrow are; it only reads here.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _check_exclude(exclude: ItemLists | None, users: int, items: int) -> None:
    if exclude is None:
        return
    if len(exclude) != users:
        msg = f"there are {len(exclude)} lists of excluded items for {users} users"
        raise ValueError(msg)
    if len(exclude.items) and not 0 <= exclude.items.min() <= exclude.items.max() < items:
        msg = (
            f"excluded item codes must be between 0 and {items - 1}, got "
            f"{exclude.items.min()} to {exclude.items.max()}"
        )
        raise ValueError(msg)
