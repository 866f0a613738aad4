"""Popularity: what most people liked lately, the same list for everyone.

The baseline every learnt model is judged against.

Shape legend: B users, M items the model knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from training.histories import Histories
from training.models.base import FitContext, Model, NothingToLearn, train_items
from training.snapshot import Snapshot

DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True)
class PopularityConfig:
    """Options of the popularity baseline."""

    window_days: float = 7.0
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        if self.window_days <= 0:
            raise ValueError(f"window_days must be above 0, but it is {self.window_days}.")
        if self.smoothing <= 0:
            raise ValueError(f"smoothing must be above 0, but it is {self.smoothing}.")


class Popularity(Model):
    """Log of the smoothed share of the positives in the last `window_days` before the cut.

    `score_i = log((n_i + smoothing) / (n + smoothing * M))`: items rank by their counts, and an
    item liked before the window but not in it stays finite.
    """

    name: ClassVar[str] = "popularity"
    config_class: ClassVar[type[PopularityConfig]] = PopularityConfig

    def __init__(
        self, config: PopularityConfig, item_ids: np.ndarray, log_share_M: np.ndarray
    ) -> None:
        super().__init__(config, item_ids)
        self.log_share_M = log_share_M

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: PopularityConfig, context: FitContext) -> Self:
        mask_E = snapshot.positives(None, snapshot.valid_start)
        item_ids, code_T = train_items(snapshot, mask_E)
        in_window_T = snapshot.timestamps[mask_E] >= snapshot.valid_start - config.window_days * DAY
        if not in_window_T.any():
            raise NothingToLearn(
                f"popularity finds no positive in the last {config.window_days:g} days before "
                "valid_start. Raise window_days."
            )
        count_M = np.bincount(code_T[in_window_T], minlength=len(item_ids))
        share_M = (count_M + config.smoothing) / (count_M.sum() + config.smoothing * len(item_ids))
        context.progress(
            f"popularity  {count_M.sum()} positives of the last {config.window_days:g} days "
            f"on {np.count_nonzero(count_M)} items"
        )
        return cls(config, item_ids, np.log(share_M).astype(np.float32))

    def _score(self, histories: Histories) -> np.ndarray:
        return np.broadcast_to(self.log_share_M, (len(histories), len(self.item_ids)))

    def _tensors(self) -> dict[str, np.ndarray]:
        return {"log_share": self.log_share_M}

    @classmethod
    def _restore(
        cls,
        config: PopularityConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], tensors["log_share"])
