"""The columns of every table, as Spark DDL.

A plain dict so that whatever checks a specification can read it without starting Spark. Ids are
strings (an integer id keeps its exact text), times are UTC instants with microseconds, and an
`interval_end` names the half-open interval `[start, interval_end)` that produced the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

EVENT_TYPES: tuple[str, ...] = (
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
"""All event types, the whole vocabulary of `events.event_type`."""

EMBEDDING_WIDTHS: dict[str, int] = {
    "video_embedding": 2048,
    "audio_embedding": 1024,
    "text_embedding": 768,
}
"""Declared width of each pre-computed embedding of an item (FE-30, FE-31, FE-32)."""

SENSITIVE_COLUMNS: dict[str, tuple[str, ...]] = {"users": ("demographics",)}
"""Columns by table that are never a model input (DE-11)."""

SCHEMAS: dict[str, str] = {
    "events": """
        event_id string, user_id string, item_id string, event_type string, value double,
        watch_seconds double, position int, device string, location string,
        exploration boolean, timestamp timestamp
    """,
    "items": """
        item_id string, item_type string, media_type string, title string, text string,
        categories array<string>, tags array<string>, tag_times array<timestamp>,
        author_id string, created_at timestamp, duration_seconds double, image_url string,
        video_url string, video_embedding array<float>, audio_embedding array<float>,
        text_embedding array<float>
    """,
    "users": """
        user_id string, created_at timestamp, trust_score double,
        interests map<string,double>, content_type_preferences map<string,double>,
        diversity_preference double, consent boolean, demographics map<string,string>
    """,
    "follows": "follower_id string, followee_id string, since timestamp",
    "quarantine": """
        table string, row string, rule string, timestamp timestamp, interval_end timestamp
    """,
    "user_features": """
        user_id string, interval_end timestamp, account_age_days double,
        total_interactions bigint, avg_session_seconds double, top_interests array<string>,
        engagement_patterns map<string,double>, social_connectivity double,
        content_preferences map<string,double>, activity_level double, trust_score double,
        follower_count bigint, following_count bigint
    """,
    "item_features": """
        item_id string, interval_end timestamp, content_length int, has_media boolean,
        hashtag_count int, hashtags array<string>, author_trust_score double,
        author_follower_count bigint, item_age_hours double, engagement_rate double,
        like_ratio double, comment_ratio double, share_ratio double, category string,
        sentiment double, readability double
    """,
    "user_behaviour": """
        user_id string, interval_end timestamp, impressions bigint, views bigint, clicks bigint,
        skips bigint, likes bigint, comments bigint, shares bigint, ratings bigint,
        dislikes bigint, follows bigint, completion double, mean_rating double,
        watch_seconds double, sessions bigint, session_seconds double, active_days bigint,
        watch_seconds_per_session double, hour_profile array<double>,
        weekday_profile array<double>
    """,
    "item_engagement": """
        item_id string, interval_end timestamp, view_count bigint, like_count bigint,
        comment_count bigint, repost_count bigint, total_engagement bigint
    """,
    "item_modalities": """
        item_id string, interval_end timestamp, video_embedding_state string,
        audio_embedding_state string, text_embedding_state string,
        video_embedding_encoder string, audio_embedding_encoder string,
        text_embedding_encoder string, video_embedding_digest string,
        audio_embedding_digest string, text_embedding_digest string
    """,
    "item_vectors": """
        digest string, medium string, encoder string, vector array<float>
    """,
    "sequences": """
        user_id string, interval_end timestamp, item_ids array<string>,
        event_types array<string>, timestamps array<timestamp>, watch_shares array<double>,
        strengths array<double>
    """,
    "graph_edges": """
        interval_end timestamp, source string, target string, relation string, weight double,
        since timestamp
    """,
    "examples": """
        interval_end timestamp, event_id string, user_id string, item_id string,
        event_type string, strength double, label double, timestamp timestamp,
        hour_sin double, hour_cos double, weekday_sin double, weekday_cos double,
        device string, location string, position int, watch_share double, rating double,
        user_account_age_days double, user_total_interactions bigint,
        user_avg_session_seconds double, user_social_connectivity double,
        user_activity_level double, user_trust_score double, user_follower_count bigint,
        user_following_count bigint, item_content_length int, item_has_media boolean,
        item_hashtag_count int, item_author_trust_score double,
        item_author_follower_count bigint, item_item_age_hours double,
        item_engagement_rate double, item_like_ratio double, item_comment_ratio double,
        item_share_ratio double, item_category string, item_sentiment double,
        item_readability double, hashtag_similarity double
    """,
}
"""DDL by table name."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "events": ("event_id", "user_id", "item_id", "event_type", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
    "follows": ("follower_id", "followee_id"),
}
"""Columns of each source table that a row must have; a row without one is quarantined."""


def struct(table: str) -> StructType:
    """Returns the Spark schema of a table; every field is nullable, as Delta stores it."""
    from pyspark.sql.types import StructType

    return StructType.fromDDL(" ".join(SCHEMAS[table].split()))


def columns(table: str) -> list[str]:
    """Returns the column names of a table in order, without Spark."""
    return list(column_types(table))


def column_types(table: str) -> dict[str, str]:
    """Returns the type of each column of a table as DDL, in order, without Spark."""
    types, depth, field = {}, 0, ""
    for char in SCHEMAS[table] + ",":
        depth += (char == "<") - (char == ">")
        if char == "," and depth == 0:
            name, kind = field.split(maxsplit=1)
            types[name] = kind.strip()
            field = ""
        else:
            field += char
    return types
