"""The eleven features of a user as of a moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof
from transforms.asof import Past, sums
from transforms.behaviour import USER_BEHAVIOUR
from transforms.definitions import Feature
from transforms.pair_features import words
from transforms.schemas import EVENT_TYPES
from transforms.visits import VISITS, visits

_MICROS_PER_DAY = 86_400_000_000
_FOLLOWED, _FOLLOWS = 100, 101
"""Kinds of rows beside those of acts."""

MEASURED = ("follower_count", "following_count", "total_interactions", *VISITS)
"""What `measured` returns."""

_COUNTS = {kind: f"{kind}s" for kind in EVENT_TYPES}
"""Columns of `user_behaviour` that count the events of each type."""

_BEHAVIOUR = frozenset(feature.name for feature in USER_BEHAVIOUR)

_WINDOW = "[as_of - history, as_of)"

FEATURES: tuple[Feature, ...] = (
    Feature("account_age_days", "Time since the user came; null where that is unknown or later.",
            "days", ("FE-04",)),
    Feature("total_interactions", "Number of events, of every type.", "events", ("FE-03", "FE-05"),
            _WINDOW),
    Feature("avg_session_seconds", "Time between the first and the last event of a session, "
            "averaged over sessions; a pause longer than `session_gap` ends one. 0 without events.",
            "s", ("FE-06",), _WINDOW),
    Feature("top_interests", "Names of the highest of the user's interests, by falling score, then "
            "by name; `interests` of them.", "-", ("FE-07",), "static"),
    Feature("engagement_patterns", "Share of each event type that occurs; sums to 1, empty without "
            "events.", "share", ("FE-08",), _WINDOW),
    Feature("social_connectivity", "log(1 + follower_count + following_count).", "log edges",
            ("FE-09",)),
    Feature("content_preferences", "The user's own strength for each media type; empty when none "
            "are stated.", "as stated", ("FE-10",), "static"),
    Feature("activity_level", "Days (UTC) with an event over the days of `history`, at most 1.",
            "share", ("FE-11",), _WINDOW),
    Feature("trust_score", "Trust in what the user publishes; null when unknown.", "0 to 1",
            ("FE-12",), "static"),
    Feature("follower_count", "Number of users who follow this one.", "edges", ("FE-13",)),
    Feature("following_count", "Number of users whom this one follows.", "edges", ("FE-14",)),
)  # fmt: skip
"""The eleven features (FE-01)."""


def user_features(
    behaved: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    history: timedelta,
    interests: int = 10,
    earliest: datetime | None = None,
) -> DataFrame:
    """Computes what is known of users strictly before each point.

    `FEATURES` defines the columns; see `transforms.asof` on what is known of a moment.

    Args:
        behaved: The points as `user_behaviour` returns them, with its counts; columns that are
            not its own stay.
        users: Table `users`; a user without a row gets the defaults above.
        follows: Table `follows`.
        history: Length of the window of events.
        interests: How many interests count as top.
        earliest: No point asks about an earlier moment; known, it spares work.

    Returns:
        One row per distinct point, with the features.
    """
    own = [name for name in behaved.columns if name not in _BEHAVIOUR]
    total = reduce(Column.__add__, map(F.col, _COUNTS.values()))
    acted = behaved.select(*own, *_COUNTS.values(), "sessions", "session_seconds", "active_days")
    ties = edges(follows).select(
        "user_id",
        asof.AT,
        (F.col("kind") == _FOLLOWED).cast("int").alias("follower_count"),
        (F.col("kind") == _FOLLOWS).cast("int").alias("following_count"),
    )
    before = None if earliest is None else F.unix_micros(F.lit(earliest))
    known = asof.totals(acted, ties, "user_id", earliest=before)
    known = known.withColumn("total_interactions", total)
    described = with_features(known, users, history=history, interests=interests)
    return described.withColumn("engagement_patterns", _shares()).select(
        *own, *[feature.name for feature in FEATURES]
    )


def edges(follows: DataFrame) -> DataFrame:
    """Returns the two ends of each follow as rows of their users: `user_id`, `__at`, `kind`."""
    return follows.select(
        asof.micros("since").alias(asof.AT),
        F.inline(
            F.array(
                F.struct(F.col("followee_id").alias("user_id"), F.lit(_FOLLOWED).alias("kind")),
                F.struct(F.col("follower_id").alias("user_id"), F.lit(_FOLLOWS).alias("kind")),
            )
        ),
    )


def with_features(
    known: DataFrame, users: DataFrame, *, history: timedelta, interests: int = 10
) -> DataFrame:
    """Adds the features that follow from counts and from the user's own row.

    All but `engagement_patterns`, which needs the number of acts of each kind; and the `words` of
    the top interests as `interest_words`.

    Args:
        known: Columns `user_id`, `as_of`, `total_interactions`, `sessions`, `session_seconds`,
            `active_days`, `follower_count` and `following_count`, and any others, which stay.
        users: Table `users`.
        history: Length of the window of events.
        interests: How many interests count as top.
    """
    empty = F.create_map().cast("map<string,double>")
    top = _top(F.coalesce("interests", empty), interests)
    profiles = users.select(
        "user_id",
        "created_at",
        top.alias("top_interests"),
        words(top).alias("interest_words"),
        "content_type_preferences",
        "trust_score",
    )
    age = (F.unix_micros("as_of") - F.unix_micros("created_at")) / _MICROS_PER_DAY
    days_in_window = max(history / timedelta(days=1), 1.0)
    return known.join(profiles, "user_id", "left").withColumns(
        {
            "account_age_days": F.when(age >= 0, age),
            "avg_session_seconds": F.when(
                F.col("sessions") > 0, F.col("session_seconds") / F.col("sessions")
            ).otherwise(0.0),
            **{
                name: F.coalesce(name, F.array().cast("array<string>"))
                for name in ("top_interests", "interest_words")
            },
            "social_connectivity": F.log1p(F.col("follower_count") + F.col("following_count")),
            "content_preferences": F.coalesce("content_type_preferences", empty),
            "activity_level": F.least(F.col("active_days") / days_in_window, F.lit(1.0)),
        }
    )


def measured(
    past: Past, kind_R: np.ndarray, *, history: timedelta, session_gap: timedelta
) -> dict[str, np.ndarray]:
    """Measures what lies before points (P,) by the kind of each row (R,); returns `MEASURED`."""
    acts = past.only(kind_R < _FOLLOWED)
    start_P, end_P = acts.since(history), acts.end
    return {
        "follower_count": sums(kind_R == _FOLLOWED, past.first, past.end),
        "following_count": sums(kind_R == _FOLLOWS, past.first, past.end),
        "total_interactions": end_P - start_P,
        **visits(acts, start_P, end_P, session_gap),
    }


def _top(scores: Column, count: int) -> Column:
    ordered = F.transform(
        F.map_entries(scores),
        lambda entry: F.struct((-entry["value"]).alias("falling"), entry["key"].alias("name")),
    )
    return F.slice(F.transform(F.array_sort(ordered), lambda entry: entry["name"]), 1, count)


def _shares() -> Column:
    pairs = F.array(
        *[
            F.struct(F.lit(kind), (F.col(count) / F.col("total_interactions")).alias("share"))
            for kind, count in _COUNTS.items()
        ]
    )
    present = F.filter(pairs, lambda pair: pair["share"] > 0)
    return F.when(F.col("total_interactions") > 0, F.map_from_entries(present)).otherwise(
        F.create_map().cast("map<string,double>")
    )
