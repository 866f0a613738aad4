"""The eleven features of a user as of a moment."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof
from transforms.definitions import Feature
from transforms.schemas import EVENT_TYPES

_MICROS_PER_DAY = 86_400_000_000


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
        points: Columns `user_id` and `as_of`.
        events: Table `events`.
        users: Table `users`; a user without a row gets the defaults above.
        follows: Table `follows`.
        history: Length of the window of events.
        session_gap: Longest pause within a session.
        interests: How many interests count as top.

    Returns:
        One row per distinct point: `user_id`, `as_of` and the features.
    """
    counted = [f"count_{name}" for name in EVENT_TYPES]
    moments = (
        events.groupBy("user_id", "timestamp")
        .agg(
            # Counted by itself, so that who needs no shares (examples) pays for one sum, not ten.
            F.count("*").alias("total_interactions"),
            *[
                F.count_if(F.col("event_type") == kind).alias(name)
                for name, kind in zip(counted, EVENT_TYPES, strict=True)
            ],
        )
        .withColumn(asof.AT, F.unix_micros("timestamp"))
        .withColumn("event_at", F.col(asof.AT))
        .drop("timestamp")
    )
    since = asof.micros("since").alias(asof.AT)
    edges = follows.select(
        since,
        F.inline(
            F.array(
                F.struct(
                    F.col("followee_id").alias("user_id"),
                    F.lit(1).alias("follower_count"),
                    F.lit(0).alias("following_count"),
                ),
                F.struct(
                    F.col("follower_id").alias("user_id"),
                    F.lit(0).alias("follower_count"),
                    F.lit(1).alias("following_count"),
                ),
            )
        ),
    )
    line = asof.timeline(
        points, moments.unionByName(edges, allowMissingColumns=True), "user_id", history=history
    )
    line = line.withColumns(
        {
            "previous_at": asof.previous("event_at", "user_id"),
            "following_at": asof.following("event_at", "user_id"),
        }
    )
    longest = session_gap // timedelta(microseconds=1)
    before = F.col("previous_at")
    inside = ["in_session_us", "sessions", "days"]
    line = line.withColumns(
        {
            f"{prefix}{name}": value
            for prefix, at in (("", F.col("event_at")), ("first_", F.col("following_at")))
            for name, value in zip(inside, _since(before, at, longest), strict=True)
        }
    )
    sums = asof.sums_at_points(
        line,
        "user_id",
        windowed=["total_interactions", *counted],
        after_first=inside,
        lifetime=["follower_count", "following_count"],
    )
    # The first event of the window opens a session and a day, whatever came before the window.
    is_active = F.col("total_interactions") > 0
    opened = {"in_session_us": 0, "sessions": 1, "days": 1}
    sums = sums.withColumns(
        {name: F.when(is_active, F.col(name) + one).otherwise(0) for name, one in opened.items()}
    )
    profiles = users.select(
        "user_id", "created_at", "trust_score", "interests", "content_type_preferences"
    )
    days_in_window = max(history / timedelta(days=1), 1.0)
    empty = F.create_map().cast("map<string,double>")
    return sums.join(profiles, "user_id", "left").select(
        "user_id",
        "as_of",
        _account_age(),
        "total_interactions",
        (
            F.when(F.col("sessions") > 0, F.col("in_session_us") / F.col("sessions") / 1e6)
            .otherwise(0.0)
            .alias("avg_session_seconds")
        ),
        _top(F.coalesce("interests", empty), interests).alias("top_interests"),
        _shares().alias("engagement_patterns"),
        F.log1p(F.col("follower_count") + F.col("following_count")).alias("social_connectivity"),
        F.coalesce("content_type_preferences", empty).alias("content_preferences"),
        F.least(F.col("days") / days_in_window, F.lit(1.0)).alias("activity_level"),
        "trust_score",
        "follower_count",
        "following_count",
    )


def user_ages(points: DataFrame, users: DataFrame) -> DataFrame:
    """Computes of `user_features` what changes with time alone: `account_age_days`."""
    known = points.join(users.select("user_id", "created_at"), "user_id", "left")
    return known.select("user_id", "as_of", _account_age())


def _account_age() -> Column:
    age = (F.unix_micros("as_of") - F.unix_micros("created_at")) / _MICROS_PER_DAY
    return F.when(age >= 0, age).alias("account_age_days")


def _since(before: Column, at: Column, longest: int) -> tuple[Column, Column, Column]:
    """What an event adds, given when the one before it was: µs in session, sessions and days."""
    in_session = F.coalesce(at - before <= longest, F.lit(False))
    opens_day = F.coalesce(
        F.floor(at / _MICROS_PER_DAY) != F.floor(before / _MICROS_PER_DAY), F.lit(True)
    )
    return (
        F.when(at.isNotNull(), F.when(in_session, at - before).otherwise(0)),
        F.when(at.isNotNull(), (~in_session).cast("int")),
        F.when(at.isNotNull(), opens_day.cast("int")),
    )


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
