"""Weighted draws from many groups at once.

Shapes: G groups, M members over all groups, B draws.
"""
# ruff: noqa: N815 - array fields wear their shape as a suffix

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroupedWeights:
    """Members in G groups, drawn inside a group in proportion to their weights."""

    members_M: IntArray
    offsets_G1: IntArray
    cumulative_M1: FloatArray
    """Running sum of the weights over all groups, one leading zero."""

    @classmethod
    def build(cls, groups_M: IntArray, weights_M: FloatArray, group_count: int) -> Self:
        """Group members 0..M-1 by `groups_M`; a weight of zero is never drawn."""
        order_M = np.argsort(groups_M, kind="stable")
        offsets_G1 = np.searchsorted(groups_M[order_M], np.arange(group_count + 1))
        cumulative_M1 = np.concatenate([[0.0], np.cumsum(weights_M[order_M])])
        return cls(order_M, offsets_G1, cumulative_M1)

    def draw(self, groups_B: IntArray, uniform_B: FloatArray) -> IntArray:
        """Return one member per asked group, -1 where the group has no weight at all.

        `uniform_B` is in [0, 1), of the same shape as `groups_B`.
        """
        low_B = self.cumulative_M1[self.offsets_G1[groups_B]]
        high_B = self.cumulative_M1[self.offsets_G1[groups_B + 1]]
        # Rounding may reach `high`, which belongs to the next group: stay just below it.
        target_B = np.minimum(low_B + uniform_B * (high_B - low_B), np.nextafter(high_B, 0.0))
        slot_B = np.searchsorted(self.cumulative_M1, target_B, side="right") - 1
        return np.where(high_B > low_B, self.members_M[slot_B], -1)


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
