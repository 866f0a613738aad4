"""The features by Polars: rolling windows and as-of joins on lazy frames."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from json import loads
from math import pi

# Polars reads its number of threads when it is imported.
os.environ["POLARS_MAX_THREADS"] = str(loads(sys.argv[1])["threads"])

import polars as pl

from benchmarks.feature_engines.duck import DAY, RISING, TYPES
from benchmarks.feature_engines.task import (
    INTERESTS,
    RATING_MAX,
    STRENGTHS,
    THRESHOLD,
    Task,
    micros,
    run,
)

COUNTED = ("view", "like", "comment", "share")
ENTRIES = pl.List(pl.Struct({"key": pl.String, "value": pl.Float64}))


def start(task: Task) -> Callable[[str], None]:
    features = Features(task)

    def compute(table: str) -> None:
        getattr(features, table)().sink_parquet(task.result(table), engine="streaming")

    return compute


class Features:
    """Lazy frames of the three tables."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.end = micros(task.interval_end)
        raw = {name: pl.scan_parquet(files) for name, files in task.files.items()}
        at = pl.col("timestamp").dt.epoch("us")
        self.events = raw["events"].with_columns(at=at).drop("timestamp")
        self.events = self.events.filter(pl.col("at") < self.end)
        self.users = raw["users"].with_columns(
            pl.col("interests", "content_type_preferences").cast(ENTRIES),
            created=pl.col("created_at").dt.epoch("us"),
        )
        tops = (
            self.users.select("user_id", "interests")
            .explode("interests")
            .drop_nulls()
            .unnest("interests")
            .sort("user_id", "value", "key", descending=[False, True, False])
            .group_by("user_id", maintain_order=True)
            .agg(top_interests=pl.col("key").head(INTERESTS))
        )
        self.users = self.users.join(tops, on="user_id", how="left").with_columns(
            pl.col("top_interests").fill_null(pl.lit([], dtype=pl.List(pl.String)))
        )
        authors = raw["users"].select(author_id="user_id", author_trust_score=pl.col("trust_score"))
        self.items = (
            raw["items"]
            .with_columns(created=pl.col("created_at").dt.epoch("us"))
            .join(authors, on="author_id", how="left")
        )
        edges = raw["follows"].with_columns(at=pl.col("since").dt.epoch("us"))
        self.followers = _running(edges, "followee_id", "follower_count")
        self.following = _running(edges, "follower_id", "following_count")

    def user_features(self) -> pl.LazyFrame:
        """Each user as of the interval's end."""
        known = self.users.filter(pl.col("created") < self.end)
        recent = self._steps(TYPES).filter(pl.col("at") >= self.end - self.task.history_days * DAY)
        sums = recent.group_by("user_id").agg(*_sums(sort=True), *_totals(TYPES))
        line = known.join(sums, on="user_id", how="left").with_columns(
            at=pl.lit(self.end, dtype=pl.Int64)
        )
        line = line.with_columns(
            pl.col("total", "inside", "sessions", "days", *_names(TYPES)).fill_null(0)
        )
        shares = [
            pl.struct(key=pl.lit(kind), value=pl.col(f"n_{kind}") / pl.col("total"))
            for kind in TYPES
        ]
        return self._profiled(line).select(
            "user_id",
            *PROFILE,
            "top_interests",
            engagement_patterns=pl.when(pl.col("total") > 0)
            .then(pl.concat_list(shares).list.filter(pl.element().struct.field("value") > 0))
            .otherwise(pl.lit([], dtype=ENTRIES)),
            content_preferences=pl.col("content_type_preferences").fill_null(
                pl.lit([], dtype=ENTRIES)
            ),
        )

    def item_features(self) -> pl.LazyFrame:
        """Each item as of the interval's end."""
        sums = self._item_moments().group_by("item_id").agg(*_totals(COUNTED))
        line = (
            self.items.filter(pl.col("created") < self.end)
            .join(sums, on="item_id", how="left")
            .with_columns(pl.col(_names(COUNTED)).fill_null(0), at=pl.lit(self.end, dtype=pl.Int64))
        )
        return self._content(line).select("item_id", *CONTENT, "hashtags")

    def examples(self) -> pl.LazyFrame:
        """Each interaction with what was known before it."""
        joined = (
            self._interactions()
            .join(self._user_past(), on=["user_id", "at"], how="left")
            .join(self._item_past(), on=["item_id", "at"], how="left")
        )
        shared = pl.col("wanted").list.set_intersection("given").list.len().cast(pl.Int64)
        angle = 2 * pi * ((pl.col("at") % DAY) / DAY)
        weekday = 2 * pi * (((pl.col("at") // DAY + 3) % 7) / 7)  # 1970-01-01 was a Thursday
        return joined.select(
            "event_id",
            "user_id",
            "item_id",
            "event_type",
            "strength",
            label=(pl.col("strength") >= THRESHOLD).cast(pl.Float64),
            timestamp=pl.from_epoch("at", "us").dt.replace_time_zone("UTC"),
            hour_sin=angle.sin(),
            hour_cos=angle.cos(),
            weekday_sin=weekday.sin(),
            weekday_cos=weekday.cos(),
            device=_or_unknown("device"),
            location=_or_unknown("location"),
            position=pl.col("position"),
            watch_share=pl.col("watch_share"),
            rating=pl.col("rating"),
            hashtag_similarity=shared
            / (pl.col("wanted").list.len() + pl.col("given").list.len() - shared)
            .cast(pl.Int64)
            .clip(lower_bound=1),
            **{f"user_{name}": pl.col(name) for name in PROFILE},
            **{f"item_{name}": pl.col(name) for name in CONTENT},
        )

    def _steps(self, types: Sequence[str]) -> pl.LazyFrame:
        """The moments of each user with the time since the one before."""
        gap = self.task.session_gap_minutes * 60_000_000
        pause = pl.col("at") - pl.col("earlier")
        inside = (pause <= gap).fill_null(value=False)
        return (
            self.events.group_by("user_id", "at")
            .agg(pl.len().alias("n"), *_counts(types))
            .sort("user_id", "at")
            .with_columns(
                earlier=pl.when(pl.col("user_id") == pl.col("user_id").shift()).then(
                    pl.col("at").shift()
                )
            )
            .with_columns(
                inside=pl.when(inside).then(pause).otherwise(0),
                opens=(~inside).cast(pl.Int64),
                new_day=(pl.col("at") // DAY).ne_missing(pl.col("earlier") // DAY).cast(pl.Int64),
            )
        )

    def _user_past(self) -> pl.LazyFrame:
        sums = self._steps(()).rolling(
            "at",
            period=f"{self.task.history_days * DAY}i",
            closed="left",
            group_by="user_id",
        )
        line = sums.agg(*_sums(sort=False)).with_columns(
            pl.col("total", "inside", "sessions", "days").fill_null(0)
        )
        line = line.join(self.users, on="user_id", how="left")
        return self._profiled(line).select(
            "user_id", "at", *PROFILE, wanted=_lower("top_interests")
        )

    def _profiled(self, line: pl.LazyFrame) -> pl.LazyFrame:
        """Adds the columns of a user to sums at moments; the user's row is joined already."""
        line = line.sort("at")
        for counts in (self.followers, self.following):
            line = line.join_asof(
                counts,
                on="at",
                by_left="user_id",
                by_right="id",
                strategy="backward",
                allow_exact_matches=False,
            )
        age = (pl.col("at") - pl.col("created")) / DAY
        follower, following = (
            pl.col(f"{name}_count").fill_null(0).cast(pl.Int64)
            for name in ("follower", "following")
        )
        return line.with_columns(
            account_age_days=pl.when(age >= 0).then(age),
            total_interactions=pl.col("total").cast(pl.Int64),
            avg_session_seconds=pl.when(pl.col("sessions") > 0)
            .then(pl.col("inside") / pl.col("sessions") / 1e6)
            .otherwise(0.0),
            social_connectivity=(follower + following + 1).log(),
            activity_level=(pl.col("days") / max(self.task.history_days, 1)).clip(upper_bound=1.0),
            follower_count=follower,
            following_count=following,
        )

    def _item_moments(self) -> pl.LazyFrame:
        return self.events.group_by("item_id", "at").agg(*_counts(COUNTED))

    def _item_past(self) -> pl.LazyFrame:
        names = _names(COUNTED)
        line = (
            self._item_moments()
            .sort("item_id", "at")
            .with_columns(pl.col(names).cum_sum().over("item_id") - pl.col(names))
            .join(self.items, on="item_id", how="left")
        )
        return self._content(line).select("item_id", "at", *CONTENT, given=_lower("hashtags"))

    def _content(self, line: pl.LazyFrame) -> pl.LazyFrame:
        """Adds the columns of an item to counters at moments; the item's row is joined already."""
        line = line.sort("at").join_asof(
            self.followers,
            on="at",
            by_left="author_id",
            by_right="id",
            strategy="backward",
            allow_exact_matches=False,
        )
        age = (pl.col("at") - pl.col("created")) / 3.6e9
        views, likes, comments, shares = (pl.col(name).cast(pl.Int64) for name in _names(COUNTED))
        engaged = likes + comments + shares
        parts = engaged.clip(lower_bound=1)
        filled = [
            (pl.col(name).str.strip_chars() != "").fill_null(value=False)
            for name in ("image_url", "video_url")
        ]
        return line.with_columns(
            content_length=pl.col("text").str.len_chars().fill_null(0).cast(pl.Int32),
            has_media=filled[0] | filled[1],
            hashtag_count=pl.col("tags").list.len().fill_null(0).cast(pl.Int32),
            hashtags=pl.col("tags").fill_null(pl.lit([], dtype=pl.List(pl.String))),
            author_follower_count=pl.col("follower_count").fill_null(0).cast(pl.Int64),
            item_age_hours=pl.when(age >= 0).then(age),
            engagement_rate=engaged / views.clip(lower_bound=1),
            like_ratio=likes / parts,
            comment_ratio=comments / parts,
            share_ratio=shares / parts,
            category=pl.col("categories").list.first().fill_null("unknown"),
        )

    def _interactions(self) -> pl.LazyFrame:
        begin = self.end - self.task.training_window_days * DAY
        duration = pl.col("duration_seconds")
        known = (
            self.events.filter(pl.col("at") >= begin)
            .join(self.items.select("item_id", "duration_seconds"), on="item_id", how="left")
            .with_columns(
                watch_share=pl.when(duration > 0).then(
                    (pl.col("watch_seconds") / duration).clip(0.0, 1.0)
                )
            )
        )
        kind = pl.col("event_type")
        worth = (
            pl.when(kind == "view")
            .then(pl.col("watch_share"))
            .when(kind == "rating")
            .then(pl.col("value") / RATING_MAX)
            .otherwise(kind.replace_strict(STRENGTHS, default=0.0, return_dtype=pl.Float64))
        )
        rank = kind.replace_strict(
            {name: place for place, name in enumerate(RISING)}, default=-1, return_dtype=pl.Int64
        )
        return (
            known.with_columns(
                is_dislike=kind == "dislike",
                strength=worth.fill_null(0.0).clip(0.0, 1.0),
                rank=rank,
            )
            .sort("is_dislike", "strength", "rank", "event_id")
            .group_by("user_id", "item_id", "at", maintain_order=True)
            .agg(
                pl.col("event_id", "event_type", "strength").last(),
                pl.col("watch_share").max(),
                pl.col("value").filter(pl.col("event_type") == "rating").max().alias("rating"),
                pl.col("position", "device", "location").min(),
            )
        )


PROFILE = (
    *("account_age_days", "total_interactions", "avg_session_seconds", "social_connectivity"),
    *("activity_level", "trust_score", "follower_count", "following_count"),
)
CONTENT = (
    *("content_length", "has_media", "hashtag_count", "author_trust_score"),
    *("author_follower_count", "item_age_hours", "engagement_rate", "like_ratio"),
    *("comment_ratio", "share_ratio", "category"),
)


def _running(edges: pl.LazyFrame, key: str, name: str) -> pl.LazyFrame:
    """The number of edges of each id up to each moment, in order of time."""
    return (
        edges.group_by(pl.col(key).alias("id"), "at")
        .agg(pl.len().cast(pl.Int64).alias(name))
        .sort("at")
        .with_columns(pl.col(name).cum_sum().over("id"))
    )


def _names(types: Sequence[str]) -> list[str]:
    return [f"n_{kind}" for kind in types]


def _counts(types: Sequence[str]) -> list[pl.Expr]:
    return [
        (pl.col("event_type") == kind).sum().cast(pl.Int64).alias(f"n_{kind}") for kind in types
    ]


def _totals(types: Sequence[str]) -> list[pl.Expr]:
    return [pl.col(name).sum() for name in _names(types)]


def _sums(*, sort: bool) -> list[pl.Expr]:
    """Sums over a window of moments; its first one opens a session and a day."""
    first = {
        name: pl.col(name).sort_by("at").first() if sort else pl.col(name).first()
        for name in ("inside", "opens", "new_day")
    }
    return [
        pl.col("n").sum().cast(pl.Int64).alias("total"),
        (pl.col("inside").sum() - first["inside"]).alias("inside"),
        (pl.col("opens").sum() + 1 - first["opens"]).alias("sessions"),
        (pl.col("new_day").sum() + 1 - first["new_day"]).alias("days"),
    ]


def _lower(column: str) -> pl.Expr:
    return pl.col(column).list.eval(pl.element().str.to_lowercase()).list.unique()


def _or_unknown(column: str) -> pl.Expr:
    text = pl.col(column)
    return pl.when(text.str.strip_chars() != "").then(text).otherwise(pl.lit("unknown"))


if __name__ == "__main__":
    run(start)
