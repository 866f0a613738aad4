"""What was planted in a demo world, for tests and examples to ask back.

Shapes: U users, N items, K topics, M niches (consecutive ones belong to one topic), Q asked users.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from transforms.demo.config import micros
from transforms.demo.feed import affinity
from transforms.demo.population import topic_shares
from transforms.demo.sampling import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Truth:
    """Planted properties of a world; users and items are in the order of their tables."""

    user_ids: npt.NDArray[np.str_]
    item_ids: npt.NDArray[np.str_]
    topics: tuple[str, ...]
    niches: tuple[str, ...]
    niche_tastes_UM: FloatArray
    """Interest per niche before the drift; rows sum to one."""
    niche_tastes_after_UM: FloatArray
    """Interest per niche after the drift; differs for `taste_changed` only."""
    item_topics_NK: FloatArray
    item_niches_N: IntArray
    """Position in `niches`."""
    item_quality_N: FloatArray
    in_network_only: frozenset[str]
    """Users who interact only with items of authors they follow."""
    night_active: frozenset[str]
    """Users whose day peaks within a few hours around 01:00 UTC."""
    new_users: frozenset[str]
    new_items: frozenset[str]
    exploration: float
    """Share of the impressions drawn uniformly."""
    drift_at: datetime | None
    drift_kinds: tuple[str, ...]
    """As in `transforms.demo.config.DRIFTS`; empty for a world without drift."""
    taste_changed: frozenset[str]
    communities_U: IntArray
    """Community of each user; follows mostly stay inside."""

    def tastes(self, at: datetime) -> FloatArray:
        """Return the users' topic shares (U, K) as of a moment; rows sum to one."""
        return topic_shares(self._niche_tastes(at))

    def relevance(self, users: npt.NDArray[np.str_], at: datetime) -> FloatArray:
        """Score every item for some users as an oracle that knows tastes and quality.

        The oracle knows neither the interest of a session nor whom a user follows.

        Args:
            users: user ids, (Q,).
            at: moment, which decides between tastes before and after the drift.

        Returns:
            Scores (Q, N), larger for items that the user likes better.

        Raises:
            KeyError: for an id that is no user of this world.
        """
        code_of = {user: code for code, user in enumerate(self.user_ids.tolist())}
        codes_Q = np.array([code_of[str(user)] for user in users], dtype=np.int64)
        niches_QM = self._niche_tastes(at)[codes_Q]
        match_QN = topic_shares(niches_QM) @ self.item_topics_NK.T
        fit_QN = affinity(match_QN, niches_QM[:, self.item_niches_N], np.zeros(1, dtype=bool))
        return 1.3 * fit_QN + 0.7 * self.item_quality_N

    def _niche_tastes(self, at: datetime) -> FloatArray:
        drifted = self.drift_at is not None and micros(at) >= micros(self.drift_at)
        return self.niche_tastes_after_UM if drifted else self.niche_tastes_UM
