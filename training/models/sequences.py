"""Arrays for the neural models: token sequences, windows, length buckets.

Shape legend: B users, L padded length, T tokens, M items the model knows, W windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from training.histories import Histories, Marks

_OF_SEQUENCES = ("offsets", "items", "times", "gaps", "ends")
_ALWAYS = np.iinfo(np.int64).min
_PADDING = 0.1
"""Share of the tokens of batches that padding stays below."""


@dataclass(frozen=True)
class Sequences:
    """Token sequences as one CSR: each a start token (code M), then what a user liked, in order."""

    offsets: np.ndarray
    """(B+1,) int64; no sequence is empty."""
    items: np.ndarray
    """(T,) int32."""
    times: np.ndarray
    """(T,) int64 µs since 1970; a start token has that of the first like."""
    gaps: np.ndarray
    """(T,) int64 µs since the like before; 0 for the first."""
    ends: np.ndarray
    """(T,) int64 µs: when the last of its repeats happened."""
    marks: Marks
    """What else is known of the T tokens."""

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """All of it by name, for a worker."""
        marks = {field.name: getattr(self.marks, field.name) for field in fields(self.marks)}
        named = {name: getattr(self, name) for name in _OF_SEQUENCES} | marks
        return {f"{prefix}.{name}": array for name, array in named.items()}

    @classmethod
    def of_arrays(cls, data: Mapping[str, np.ndarray], prefix: str) -> Self:
        """The inverse of `arrays`."""
        marks = Marks(*(data[f"{prefix}.{field.name}"] for field in fields(Marks)))
        return cls(*(data[f"{prefix}.{name}"] for name in _OF_SEQUENCES), marks)


def sequences_of(histories: Histories) -> Sequences:
    """The token sequences of some users, repeats of an item in a row taken once.

    Liking an item right after clicking it says nothing about what comes next. The repeats count
    as one event at the time of the first, of the type of the strongest (of equals, the last),
    with the largest share watched and the best rating.

    Args:
        histories: positives over the model's own vocabulary of M items.
    """
    row, item = histories.rows(), histories.items
    marks = histories.marks or Marks.unknown(len(item))
    new = np.ones(len(item), dtype=bool)
    new[1:] = (item[1:] != item[:-1]) | (row[1:] != row[:-1])
    first = new.nonzero()[0]
    length = np.bincount(row[new], minlength=len(histories)) + 1
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    # Where the likes stand among the tokens, and the start tokens between them.
    place = np.arange(len(first)) + row[first] + 1
    tokens = Marks.unknown(int(offsets[-1]))
    items = np.full(offsets[-1], len(histories.catalogue), dtype=np.int32)
    times = np.full(offsets[-1], histories.as_of, dtype=np.int64)
    ends = np.full(offsets[-1], _ALWAYS, dtype=np.int64)
    if len(first):
        last_of_run = np.append(first[1:], len(item)) - 1
        items[place] = item[first]
        times[place] = histories.timestamps[first]
        ends[place] = histories.timestamps[last_of_run]
        has_likes = length > 1
        times[offsets[:-1][has_likes]] = times[offsets[:-1][has_likes] + 1]
        run = np.cumsum(new) - 1
        strongest = np.lexsort((np.arange(len(item)), histories.strengths, run))
        tokens.types[place] = marks.types[strongest[last_of_run]]
        tokens.watch_shares[place] = np.fmax.reduceat(marks.watch_shares, first)
        tokens.ratings[place] = np.fmax.reduceat(marks.ratings, first)
        tokens.devices[place] = marks.devices[first]
        tokens.locations[place] = marks.locations[first]
    gaps = np.diff(times, prepend=times[:1])
    gaps[offsets[:-1]] = 0
    return Sequences(offsets, items, times, gaps, ends, tokens)


def tokens_before(sequences: Sequences, users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The last token of a user whose like was over before a moment.

    Args:
        sequences: of all users.
        users: (X,) rows of `sequences`.
        times: (X,) microseconds.

    Returns:
        (X,) int64 places among the T tokens; that of the start token where nothing came before.
    """
    # One number for user and moment, so that one search finds all.
    moments = np.sort(np.concatenate([sequences.ends, times]))
    owner_T = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    key_T = owner_T * len(moments) + np.searchsorted(moments, sequences.ends)
    key_X = users * len(moments) + np.searchsorted(moments, times)
    return np.searchsorted(key_T, key_X, side="left") - 1


def windows_of(offsets: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut sequences into windows of at most `max_length` (input, target) pairs.

    Cut from the end, so that the latest events have the longest context and every pair belongs
    to exactly one window.

    Returns:
        start (W,) int64, index of the first input token, and length (W,) int64 in pairs.
    """
    pairs = np.maximum(np.diff(offsets) - 1, 0)
    count = -(-pairs // max_length)
    owner = np.repeat(np.arange(len(pairs)), count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    stop = pairs[owner] - number * max_length
    start = np.maximum(stop - max_length, 0)
    return offsets[:-1][owner] + start, stop - start


def length_buckets(
    length: np.ndarray, batch_tokens: int, pool: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffled batches of windows of like length: less than a tenth of their tokens is padding.

    Windows are shuffled, sorted by length within pools of about `pool` batches and cut into
    batches, and the batches shuffled.
    """
    if not len(length):
        return []
    pools = -(-int(length.sum()) // (pool * batch_tokens))
    batches = []
    for windows in np.array_split(rng.permutation(len(length)), min(pools, len(length))):
        ordered = windows[np.argsort(-length[windows], kind="stable")]
        batches += np.split(ordered, _cuts(length[ordered], batch_tokens)[1:-1])
    return [batches[index] for index in rng.permutation(len(batches))]


def _cuts(length: np.ndarray, batch_tokens: int) -> list[int]:
    """Where batches of windows of descending lengths begin, and where the last one ends.

    First where the padded size would pass `batch_tokens`. Then one by one where a cut saves most,
    until padding is small enough, leaving a window alone only where nothing else helps: its few
    tokens would count as much as a whole batch. Last, cuts that others made needless are dropped.
    """
    cuts = [0]
    while (left := len(length) - cuts[-1]) > 0:
        size = max(1, batch_tokens // int(length[cuts[-1]]))
        if size == left - 1 > 1:  # the last would be alone
            size -= 1
        cuts.append(cuts[-1] + min(left, size))
    while not _fits(length, cuts, batch_tokens):
        size = np.diff(cuts)
        place = np.arange(len(length)) - np.repeat(cuts[:-1], size)
        rest = np.repeat(size, size) - place
        saved = rest * (np.repeat(length[cuts[:-1]], size) - length)
        saved_in_company = np.where((place > 1) & (rest > 1), saved, 0)
        best = saved_in_company if saved_in_company.any() else saved
        cuts = sorted([*cuts, int(best.argmax())])
    for cut in cuts[-2:0:-1]:
        fewer = [other for other in cuts if other != cut]
        cuts = fewer if _fits(length, fewer, batch_tokens) else cuts
    return cuts


def _fits(length: np.ndarray, cuts: list[int], batch_tokens: int) -> bool:
    """Whether batches between cuts hold little padding, and each no more than `batch_tokens`."""
    size = np.diff(cuts)
    padded_size = size * length[cuts[:-1]]
    padding = padded_size.sum() - length.sum()
    small = (padded_size <= batch_tokens) | (size == 1)
    return bool(small.all() and padding < _PADDING * padded_size.sum())


def padded(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens of slices `start:start + length` lie, side by side, padded on the right.

    Returns:
        index (B, L) int64, that of the slice's first token where there is none, and real (B, L)
        bool, with L the longest length.
    """
    place_L = np.arange(int(length.max()))
    real_BL = place_L < length[:, None]
    return np.where(real_BL, start[:, None] + place_L, start[:, None]), real_BL
