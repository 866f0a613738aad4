"""An encoder of a user's own, as a spec names it: `tests.letters:counts`."""

from __future__ import annotations

import numpy as np


class Counts:
    """How many a, b and c a text has, and its length."""

    def encode(self, values: list[str]) -> np.ndarray:
        rows = [[*(value.count(letter) for letter in "abc"), len(value)] for value in values]
        return np.array(rows, np.float64)


class Lost:
    """Forgets one of the values."""

    def encode(self, values: list[str]) -> np.ndarray:
        return np.zeros((len(values) - 1, 4))


counts, lost = Counts, Lost
