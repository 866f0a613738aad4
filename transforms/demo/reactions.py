"""How people react to what they are shown, and when.

An engaged user views a clip or podcast (`watch_seconds` up to its duration) or clicks an image or
text; a look that ends early is a skip. Likes, comments, shares, ratings and follows come after the
view, each at its own moment, and the next impression of the session after them.

Shapes: B impressions, E events.
"""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from transforms.demo.catalogue import Catalogue
from transforms.demo.sampling import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

EVENT_TYPES: Final = (
    "impression",
    "view",
    "click",
    "skip",
    "like",
    "comment",
    "share",
    "rating",
    "dislike",
    "follow",
)
_CODE = {name: code for code, name in enumerate(EVENT_TYPES)}

SHORT_LOOK: Final = 0.10
"""A look at less than this share of the duration is a skip."""
COMPLETE_LOOK: Final = 0.93
"""A look at more than this share of the duration goes on to the end."""

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Impressions:
    """Shown items, grouped by session and in the order of `position_B`."""

    session_B: IntArray
    start_B: IntArray
    """Start of the session, µs since 1970."""
    user_B: IntArray
    item_B: IntArray
    position_B: IntArray
    """From 1 within the session."""
    explored_B: BoolArray
    followed_B: BoolArray
    """The user follows the author."""
    limited_B: BoolArray
    """The user interacts only inside the network."""
    affinity_B: FloatArray
    """See `transforms.demo.feed.affinity`."""
    media_B: FloatArray
    """Log of how much more than average the user likes the medium."""
    fresh_B: FloatArray
    """1 for a new item, falling towards 0 with age."""
    device_B: IntArray
    location_B: IntArray


@dataclass(frozen=True, slots=True)
class Reactions:
    """Events as columns, impressions included, ascending in `timestamp_E`."""

    timestamp_E: IntArray
    """µs since 1970."""
    user_E: IntArray
    item_E: IntArray
    type_E: IntArray
    """Position in `EVENT_TYPES`."""
    value_E: FloatArray
    """Stars from 1 to 5 of a rating, else NaN."""
    watch_E: FloatArray
    """Seconds watched, of views and skips of what has a duration, else NaN."""
    position_E: IntArray
    device_E: IntArray
    location_E: IntArray
    explored_E: BoolArray

    @property
    def is_follow(self) -> BoolArray:
        """Mark the events in which a user starts to follow the item's author."""
        return self.type_E == _CODE["follow"]

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Join columns and put them into time order; ties keep the order of `parts`."""
        columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        order_E = np.argsort(columns["timestamp_E"], kind="stable")
        return cls(**{name: column[order_E] for name, column in columns.items()})


def engagement_chance(shown: Impressions, items: Catalogue) -> FloatArray:
    """Return the chance to view or click: taste match, quality, recency, medium and position.

    Outside the network it is zero for users who stay inside it.
    """
    logit_B = (
        -1.5
        + 1.3 * shown.affinity_B
        + 0.7 * items.quality_N[shown.item_B]
        + 0.4 * shown.fresh_B
        + 0.3 * shown.media_B
        + 0.3 * shown.followed_B
        - 0.25 * np.log(shown.position_B)
    )
    return _sigmoid(logit_B) * (shown.followed_B | ~shown.limited_B)


def react(rng: np.random.Generator, shown: Impressions, items: Catalogue) -> Reactions:
    """Draw the reactions to impressions; the result holds the impressions too."""
    count = len(shown.item_B)
    duration_B = items.duration_N[shown.item_B]
    quality_B = items.quality_N[shown.item_B]
    timed_B = ~np.isnan(duration_B)
    liking_B = shown.affinity_B - 1.5 + 0.4 * quality_B
    engaged_B = rng.random(count) < engagement_chance(shown, items)
    depth_B = _sigmoid(0.2 + 0.8 * liking_B).clip(0.05, 0.95)
    share_B = rng.beta(4.0 * depth_B, 4.0 * (1.0 - depth_B))
    share_B = np.where(share_B > COMPLETE_LOOK, 1.0, share_B)
    short_B = engaged_B & timed_B & (share_B < SHORT_LOOK)
    view_B = engaged_B & timed_B & ~short_B
    click_B = engaged_B & ~timed_B
    skip_B = short_B | (~engaged_B & (rng.random(count) < 0.4))
    glance_B = np.minimum(rng.uniform(0.3, 2.5, count), SHORT_LOOK * duration_B)
    watch_B = np.where(view_B, share_B * duration_B, np.where(skip_B, glance_B, np.nan)).round(3)

    positive_B = view_B | click_B
    strength_B = liking_B + np.where(view_B, share_B - 0.5, 0.0)

    def happens(base: float, slope: float, allowed_B: BoolArray) -> BoolArray:
        return allowed_B & (rng.random(count) < _sigmoid(base + slope * strength_B))

    like_B = happens(-1.2, 1.2, positive_B)
    comment_B = happens(-3.2, 0.8, positive_B)
    send_B = happens(-3.2, 1.0, positive_B)
    rating_B = happens(-2.0, 0.3, positive_B)
    follow_B = happens(-3.8, 1.0, positive_B & ~shown.limited_B & ~shown.followed_B)
    # A dislike is an interaction, which some users never have outside their network.
    dislike_B = happens(-3.5, -0.8, skip_B & (shown.followed_B | ~shown.limited_B))
    stars_B = (3.4 + 0.9 * strength_B + rng.normal(0.0, 0.7, count)).round().clip(1, 5)

    # Seconds since the impression: each reaction waits for the ones before it.
    look_B = np.where(np.isnan(watch_B), rng.uniform(0.5, 3.0, count), watch_B)
    elapsed_B = look_B
    nothing_B = np.full(count, np.nan)
    timeline: list[tuple[str, BoolArray, FloatArray, FloatArray, FloatArray]] = [
        ("impression", np.ones(count, dtype=bool), np.zeros(count), nothing_B, nothing_B),
        ("view", view_B, look_B, nothing_B, watch_B),
        ("click", click_B, look_B, nothing_B, nothing_B),
        ("skip", skip_B, look_B, nothing_B, watch_B),
    ]
    for name, chosen_B, low, high, value_B in (
        ("like", like_B, 0.3, 2.0, nothing_B),
        ("comment", comment_B, 4.0, 20.0, nothing_B),
        ("share", send_B, 1.0, 5.0, nothing_B),
        ("rating", rating_B, 1.0, 5.0, stars_B),
        ("dislike", dislike_B, 0.3, 2.0, nothing_B),
        ("follow", follow_B, 1.0, 3.0, nothing_B),
    ):
        elapsed_B = elapsed_B + np.where(chosen_B, rng.uniform(low, high, count), 0.0)
        timeline.append((name, chosen_B, elapsed_B, value_B, nothing_B))
    dwell_B = elapsed_B + rng.uniform(0.5, 2.0, count)
    shown_at_B = shown.start_B + _micros(_before(dwell_B, shown))
    return Reactions.concatenate(
        [
            _events(
                shown,
                name,
                chosen_B,
                moment_B=shown_at_B + _micros(after_B),
                value_B=value_B,
                watch_B=seconds_B,
            )
            for name, chosen_B, after_B, value_B, seconds_B in timeline
        ]
    )


def _before(dwell_B: FloatArray, shown: Impressions) -> FloatArray:
    """Sum the dwell times of the impressions that came before in the same session."""
    sum_B = np.cumsum(dwell_B) - dwell_B
    first_B = np.searchsorted(shown.session_B, shown.session_B)
    return sum_B - sum_B[first_B]


def _events(
    shown: Impressions,
    name: str,
    chosen_B: BoolArray,
    *,
    moment_B: IntArray,
    value_B: FloatArray,
    watch_B: FloatArray,
) -> Reactions:
    return Reactions(
        timestamp_E=moment_B[chosen_B],
        user_E=shown.user_B[chosen_B],
        item_E=shown.item_B[chosen_B],
        type_E=np.full(int(chosen_B.sum()), _CODE[name]),
        value_E=value_B[chosen_B],
        watch_E=watch_B[chosen_B],
        position_E=shown.position_B[chosen_B],
        device_E=shown.device_B[chosen_B],
        location_E=shown.location_B[chosen_B],
        explored_E=shown.explored_B[chosen_B],
    )


def _micros(seconds: FloatArray) -> IntArray:
    return np.rint(seconds * _SECOND).astype(np.int64)


def _sigmoid(logit: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-logit))
