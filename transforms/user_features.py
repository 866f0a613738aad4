"""The eleven features of a user as of a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof
from transforms.asof import Past, sums
from transforms.definitions import Feature
from transforms.pair_features import words
from transforms.schemas import EVENT_TYPES
from transforms.visits import COUNTS, VISITS, by_kind, kind, visits

_MICROS_PER_DAY = 86_400_000_000
_FOLLOWED, _FOLLOWS = 100, 101
"""Kinds of rows beside those of acts."""

MEASURED = ("follower_count", "following_count", "total_interactions", *VISITS)
"""What `with_features` needs of `measured`."""

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
    points: DataFrame,
    events: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    history: timedelta,
    session_gap: timedelta,
    interests: int = 10,
) -> DataFrame:
    """Computes what is known of users strictly before each point.

    `FEATURES` defines the columns; see `transforms.asof` on what is known of a moment.

    Args:
        points: Columns `user_id` and `as_of`, and any others, which stay.
        events: Table `events`.
        users: Table `users`; a user without a row gets the defaults above.
        follows: Table `follows`.
        history: Length of the window of events.
        session_gap: Longest pause within a session.
        interests: How many interests count as top.

    Returns:
        One row per distinct point, with the features.
    """
    at = F.unix_micros("timestamp").alias(asof.AT)
    rows = events.select("user_id", at, kind().alias("kind")).unionByName(edges(follows))
    measures = partial(_measured, history=history, session_gap=session_gap)
    names = (*MEASURED, *COUNTS)
    known = asof.measured(points, rows, "user_id", measures, names)
    described = with_features(known, users, history=history, interests=interests)
    return described.withColumn("engagement_patterns", _shares()).select(
        *points.columns, *[feature.name for feature in FEATURES]
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
    """Adds the features that follow from `MEASURED` numbers and from the user's own row.

    All but `engagement_patterns`, which needs the number of acts of each kind; and the `words` of
    the top interests as `interest_words`.

    Args:
        known: Columns `user_id`, `as_of` and `MEASURED`, and any others, which stay.
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
                F.col("sessions") > 0, F.col("in_session_us") / F.col("sessions") / 1e6
            ).otherwise(0.0),
            **{
                name: F.coalesce(name, F.array().cast("array<string>"))
                for name in ("top_interests", "interest_words")
            },
            "social_connectivity": F.log1p(F.col("follower_count") + F.col("following_count")),
            "content_preferences": F.coalesce("content_type_preferences", empty),
            "activity_level": F.least(F.col("days") / days_in_window, F.lit(1.0)),
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


def _measured(
    past: Past, rows: Mapping[str, np.ndarray], *, history: timedelta, session_gap: timedelta
) -> dict[str, np.ndarray]:
    kind_R = rows["kind"]
    is_act_R = kind_R < _FOLLOWED
    found = measured(past, kind_R, history=history, session_gap=session_gap)
    end_P = past.only(is_act_R).end
    start_P = end_P - found["total_interactions"]
    return {**found, **by_kind(kind_R[is_act_R], start_P, end_P)}


def _top(scores: Column, count: int) -> Column:
    ordered = F.transform(
        F.map_entries(scores),
        lambda entry: F.struct((-entry["value"]).alias("falling"), entry["key"].alias("name")),
    )
    return F.slice(F.transform(F.array_sort(ordered), lambda entry: entry["name"]), 1, count)


def _shares() -> Column:
    pairs = F.array(
        *[
            F.struct(
                F.lit(name), (F.col(f"count_{name}") / F.col("total_interactions")).alias("share")
            )
            for name in EVENT_TYPES
        ]
    )
    present = F.filter(pairs, lambda pair: pair["share"] > 0)
    return F.when(F.col("total_interactions") > 0, F.map_from_entries(present)).otherwise(
        F.create_map().cast("map<string,double>")
    )
