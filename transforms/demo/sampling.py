"""Weighted draws from many groups at once.

Shapes: G groups, M members over all groups, B draws.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Members 0..M-1 in G groups; made once, weighed as often as the weights change."""

    members_M: IntArray
    offsets_G1: IntArray

    @classmethod
    def build(cls, groups_M: IntArray, group_count: int) -> Self:
        """Group members by `groups_M`; those of one group keep their order."""
        order_M = np.argsort(groups_M, kind="stable")
        return cls(order_M, np.searchsorted(groups_M[order_M], np.arange(group_count + 1)))

    def weigh(self, weights_M: FloatArray) -> "GroupedWeights":
        """Give each member a weight; one of zero is never drawn."""
        cumulative_M1 = np.empty(len(weights_M) + 1)
        cumulative_M1[0] = 0.0
        np.cumsum(weights_M[self.members_M], out=cumulative_M1[1:])
        return GroupedWeights(self.members_M, self.offsets_G1, cumulative_M1)


@dataclass(frozen=True, slots=True)
class GroupedWeights:
    """Members in G groups, drawn inside a group in proportion to their weights."""

    members_M: IntArray
    offsets_G1: IntArray
    cumulative_M1: FloatArray
    """Running sum of the weights over all groups, one leading zero."""

    def draw(self, groups_B: IntArray, uniform_B: FloatArray) -> IntArray:
        """Return one member per asked group, -1 where the group has no weight at all.

        `uniform_B` is in [0, 1), of the same shape as `groups_B`.
        """
        low_B = self.cumulative_M1[self.offsets_G1[groups_B]]
        high_B = self.cumulative_M1[self.offsets_G1[groups_B + 1]]
        slot_B = np.searchsorted(self.cumulative_M1, within(low_B, high_B, uniform_B), "right") - 1
        return np.where(high_B > low_B, self.members_M[slot_B], -1)


def within(low_B: FloatArray, high_B: FloatArray, uniform_B: FloatArray) -> FloatArray:
    """Return the point at the share `uniform_B` of [low, high), never `high` itself."""
    # Rounding may reach `high`, which belongs to the next group: stay just below it.
    return np.minimum(low_B + uniform_B * (high_B - low_B), np.nextafter(high_B, 0.0))


def draw_rows(weights_BK: FloatArray, uniform_B: FloatArray) -> IntArray:
    """Draw one column per row in proportion to the row's weights (rows need not sum to one)."""
    cumulative_BK = np.cumsum(weights_BK, axis=1)
    target_B = uniform_B * cumulative_BK[:, -1]
    return (cumulative_BK <= target_B[:, None]).sum(axis=1).clip(max=weights_BK.shape[1] - 1)


def contains(ordered_M: IntArray, asked: IntArray) -> npt.NDArray[np.bool_]:
    """Return which of `asked` (any shape) are among the ascending `ordered_M`."""
    if not len(ordered_M):
        return np.zeros(asked.shape, dtype=bool)
    place = np.searchsorted(ordered_M, asked).clip(max=len(ordered_M) - 1)
    return ordered_M[place] == asked
