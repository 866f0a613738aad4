"""The features by DuckDB: windows over ranges of time and as-of joins, in SQL."""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from benchmarks.feature_engines.task import (
    INTERESTS,
    RATING_MAX,
    STRENGTHS,
    THRESHOLD,
    Task,
    micros,
    run,
)

DAY = 86_400_000_000
TYPES = (
    *("impression", "view", "click", "skip", "like", "comment", "share", "rating", "dislike"),
    "follow",
)
RISING = (
    *("impression", "view", "click", "skip", "rating", "comment", "like", "share", "follow"),
    "dislike",
)


def start(task: Task) -> Callable[[str], None]:
    con = duckdb.connect()
    con.execute(f"SET threads = {task.threads}")
    con.execute(f"SET memory_limit = '{task.memory_gb}GB'")
    con.execute(f"SET temp_directory = '{task.out}/spill'")
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET preserve_insertion_order = false")
    for table, files in task.files.items():
        con.execute(f"CREATE VIEW raw_{table} AS SELECT * FROM read_parquet({files})")
    end = micros(task.interval_end)
    history = task.history_days * DAY
    for view in _views(task, end, history):
        con.execute(f"CREATE VIEW {view}")
    queries = {
        "user_features": _user_features(task, end, history),
        "item_features": _item_features(end),
        "examples": _examples(task),
    }

    def compute(table: str) -> None:
        con.execute(f"COPY ({queries[table]}) TO '{task.result(table)}' (FORMAT parquet)")

    return compute


def _views(task: Task, end: int, history: int) -> list[str]:
    gap = task.session_gap_minutes * 60_000_000
    counts = ", ".join(f"count_if(event_type = '{kind}') AS n_{kind}" for kind in TYPES)
    window = f"(PARTITION BY user_id ORDER BY us RANGE BETWEEN {history} PRECEDING AND 1 PRECEDING)"
    before = "(PARTITION BY item_id ORDER BY us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    counted = ("view", "like", "comment", "share")
    sums = ", ".join(f"coalesce(sum(n_{kind}) OVER w, 0) AS n_{kind}" for kind in counted)
    return [
        f"""events AS SELECT * EXCLUDE (timestamp), epoch_us(timestamp) AS us
        FROM raw_events WHERE epoch_us(timestamp) < {end}""",
        f"""moments AS SELECT user_id, us, count(*) AS n, {counts}
        FROM events GROUP BY user_id, us""",
        f"""steps AS SELECT *,
            CASE WHEN us - earlier <= {gap} THEN us - earlier ELSE 0 END AS inside,
            CASE WHEN us - earlier <= {gap} THEN 0 ELSE 1 END AS opens,
            (us // {DAY} IS DISTINCT FROM earlier // {DAY})::BIGINT AS new_day
        FROM (SELECT *, lag(us) OVER (PARTITION BY user_id ORDER BY us) AS earlier FROM moments)""",
        f"""user_past AS SELECT user_id, us,
            coalesce(sum(n) OVER w, 0) AS total,
            coalesce(sum(inside) OVER w - first_value(inside) OVER w, 0) AS inside,
            coalesce(sum(opens) OVER w + 1 - first_value(opens) OVER w, 0) AS sessions,
            coalesce(sum(new_day) OVER w + 1 - first_value(new_day) OVER w, 0) AS days
        FROM steps WINDOW w AS {window}""",
        f"""user_facts AS SELECT *, coalesce(list_transform(list_sort(list_transform(
            map_entries(interests), lambda e: {{'falling': -e.value, 'name': e.key}})),
            lambda e: e.name)[1:{INTERESTS}], []) AS top_interests
        FROM raw_users""",
        """followers AS SELECT user_id, us,
            sum(n) OVER (PARTITION BY user_id ORDER BY us ROWS UNBOUNDED PRECEDING) AS n
        FROM (SELECT followee_id AS user_id, epoch_us(since) AS us, count(*) AS n
              FROM raw_follows GROUP BY ALL)""",
        """following AS SELECT user_id, us,
            sum(n) OVER (PARTITION BY user_id ORDER BY us ROWS UNBOUNDED PRECEDING) AS n
        FROM (SELECT follower_id AS user_id, epoch_us(since) AS us, count(*) AS n
              FROM raw_follows GROUP BY ALL)""",
        f"""item_moments AS SELECT item_id, us,
            {", ".join(f"count_if(event_type = '{kind}') AS n_{kind}" for kind in counted)}
        FROM events GROUP BY item_id, us""",
        f"item_past AS SELECT item_id, us, {sums} FROM item_moments WINDOW w AS {before}",
        """item_facts AS SELECT i.*, epoch_us(i.created_at) AS created,
            u.trust_score AS author_trust_score
        FROM raw_items i LEFT JOIN raw_users u ON i.author_id = u.user_id""",
    ]


def _profile(moment: str, history: int) -> str:
    """Columns of a user from sums `s`, profile `u`, followers `fr` and following `fg`."""
    age = f"({moment} - epoch_us(u.created_at)) / {DAY}.0"
    days = max(history / DAY, 1.0)
    return f"""
        CASE WHEN {age} >= 0 THEN {age} END AS account_age_days,
        s.total::BIGINT AS total_interactions,
        CASE WHEN s.sessions > 0 THEN s.inside / s.sessions / 1e6 ELSE 0 END::DOUBLE
            AS avg_session_seconds,
        ln(1 + coalesce(fr.n, 0) + coalesce(fg.n, 0)) AS social_connectivity,
        least(s.days / {days}, 1.0)::DOUBLE AS activity_level,
        u.trust_score,
        coalesce(fr.n, 0)::BIGINT AS follower_count,
        coalesce(fg.n, 0)::BIGINT AS following_count"""


def _content(moment: str) -> str:
    """Columns of an item from counters `c`, facts `i` and the author's followers `fr`."""
    age = f"({moment} - i.created) / 3.6e9"
    engaged = "(c.n_like + c.n_comment + c.n_share)"
    return f"""
        coalesce(length(i.text), 0)::INTEGER AS content_length,
        coalesce(trim(i.image_url) != '', false) OR coalesce(trim(i.video_url) != '', false)
            AS has_media,
        coalesce(len(i.tags), 0)::INTEGER AS hashtag_count,
        coalesce(i.tags, []) AS hashtags,
        i.author_trust_score,
        coalesce(fr.n, 0)::BIGINT AS author_follower_count,
        CASE WHEN {age} >= 0 THEN {age} END AS item_age_hours,
        ({engaged} / greatest(c.n_view, 1))::DOUBLE AS engagement_rate,
        (c.n_like / greatest({engaged}, 1))::DOUBLE AS like_ratio,
        (c.n_comment / greatest({engaged}, 1))::DOUBLE AS comment_ratio,
        (c.n_share / greatest({engaged}, 1))::DOUBLE AS share_ratio,
        coalesce(i.categories[1], 'unknown') AS category"""


def _user_features(task: Task, end: int, history: int) -> str:
    opened = "coalesce(sum(opens) + 1 - arg_min(opens, us), 0)"
    counts = ", ".join(f"sum(n_{kind}) AS n_{kind}" for kind in TYPES)
    shares = ", ".join(f"{{'key': '{kind}', 'value': n_{kind} / total}}" for kind in TYPES)
    return f"""
    WITH windowed AS (
        SELECT user_id, sum(n) AS total, {counts},
            sum(inside) - arg_min(inside, us) AS inside, {opened} AS sessions,
            sum(new_day) + 1 - arg_min(new_day, us) AS days
        FROM steps WHERE us >= {end - history} GROUP BY user_id),
    s AS (
        SELECT u.user_id, coalesce(w.total, 0) AS total, coalesce(w.inside, 0) AS inside,
            coalesce(w.sessions, 0) AS sessions, coalesce(w.days, 0) AS days,
            w.* EXCLUDE (user_id, total, inside, sessions, days), {end} AS us
        FROM raw_users u LEFT JOIN windowed w USING (user_id)
        WHERE epoch_us(u.created_at) < {end})
    SELECT s.user_id, {_profile(str(end), history)},
        u.top_interests,
        CASE WHEN s.total > 0 THEN list_filter([{shares}], lambda e: e.value > 0) ELSE [] END
            AS engagement_patterns,
        coalesce(map_entries(u.content_type_preferences), []) AS content_preferences
    FROM s JOIN user_facts u USING (user_id)
    ASOF LEFT JOIN followers fr ON s.user_id = fr.user_id AND s.us > fr.us
    ASOF LEFT JOIN following fg ON s.user_id = fg.user_id AND s.us > fg.us"""


def _item_features(end: int) -> str:
    counted = ("view", "like", "comment", "share")
    return f"""
    WITH sums AS (
        SELECT item_id, {", ".join(f"sum(n_{kind}) AS n_{kind}" for kind in counted)}
        FROM item_moments GROUP BY item_id),
    c AS (
        SELECT i.item_id, {end} AS us,
            {", ".join(f"coalesce(n_{kind}, 0) AS n_{kind}" for kind in counted)}
        FROM item_facts i LEFT JOIN sums USING (item_id) WHERE i.created < {end})
    SELECT c.item_id, {_content(str(end))}
    FROM c JOIN item_facts i USING (item_id)
    ASOF LEFT JOIN followers fr ON i.author_id = fr.user_id AND c.us > fr.us"""


def _examples(task: Task) -> str:
    fixed = " ".join(f"WHEN '{kind}' THEN {worth}" for kind, worth in STRENGTHS.items())
    ranks = " ".join(f"WHEN '{kind}' THEN {rank}" for rank, kind in enumerate(RISING))
    history = task.history_days * DAY
    end = micros(task.interval_end)
    angle = f"2 * pi() * ((e.us % {DAY}) / {DAY}.0)"
    weekday = f"2 * pi() * (((e.us // {DAY} + 3) % 7) / 7.0)"  # 1970-01-01 was a Thursday
    user_columns = (
        *("account_age_days", "total_interactions", "avg_session_seconds", "social_connectivity"),
        *("activity_level", "trust_score", "follower_count", "following_count"),
    )
    item_columns = (
        *("content_length", "has_media", "hashtag_count", "author_trust_score"),
        *("author_follower_count", "item_age_hours", "engagement_rate", "like_ratio"),
        *("comment_ratio", "share_ratio", "category"),
    )
    return f"""
    WITH known AS (
        SELECT e.*, CASE WHEN i.duration_seconds > 0 AND e.watch_seconds IS NOT NULL
            THEN least(greatest(e.watch_seconds / i.duration_seconds, 0.0), 1.0) END AS watch_share
        FROM (SELECT * FROM events
              WHERE us >= {end - task.training_window_days * DAY}) e
        LEFT JOIN raw_items i USING (item_id)),
    rated AS (
        SELECT *, least(greatest(coalesce(CASE event_type WHEN 'view' THEN watch_share
            WHEN 'rating' THEN value / {RATING_MAX} {fixed} END, 0.0), 0.0), 1.0) AS worth
        FROM known),
    e AS (
        SELECT user_id, item_id, us, max(struct_pack(
                is_dislike := event_type = 'dislike', strength := worth,
                rank := CASE event_type {ranks} ELSE -1 END,
                event_id := event_id, event_type := event_type)) AS best,
            max(watch_share) AS watch_share,
            max(value) FILTER (event_type = 'rating') AS rating,
            min(position) AS position, min(device) AS device, min(location) AS location
        FROM rated GROUP BY user_id, item_id, us),
    of_user AS (
        SELECT s.user_id, s.us, {_profile("s.us", history)},
            list_distinct(list_transform(u.top_interests, lambda x: lower(x))) AS wanted
        FROM user_past s LEFT JOIN user_facts u USING (user_id)
        ASOF LEFT JOIN followers fr ON s.user_id = fr.user_id AND s.us > fr.us
        ASOF LEFT JOIN following fg ON s.user_id = fg.user_id AND s.us > fg.us),
    of_item AS (
        SELECT c.item_id, c.us, {_content("c.us")},
            list_distinct(list_transform(coalesce(i.tags, []), lambda x: lower(x))) AS given
        FROM item_past c LEFT JOIN item_facts i USING (item_id)
        ASOF LEFT JOIN followers fr ON i.author_id = fr.user_id AND c.us > fr.us)
    SELECT * EXCLUDE (shared) FROM (
    SELECT best.event_id, e.user_id, e.item_id, best.event_type, best.strength,
        (best.strength >= {THRESHOLD})::DOUBLE AS label, make_timestamptz(e.us) AS timestamp,
        sin({angle}) AS hour_sin, cos({angle}) AS hour_cos,
        sin({weekday}) AS weekday_sin, cos({weekday}) AS weekday_cos,
        coalesce(CASE WHEN trim(device) != '' THEN device END, 'unknown') AS device,
        coalesce(CASE WHEN trim(location) != '' THEN location END, 'unknown') AS location,
        position, watch_share, rating,
        len(list_intersect(wanted, given)) AS shared,
        (shared / greatest(len(wanted) + len(given) - shared, 1))::DOUBLE AS hashtag_similarity,
        {", ".join(f"u.{name} AS user_{name}" for name in user_columns)},
        {", ".join(f"i.{name} AS item_{name}" for name in item_columns)}
    FROM e
    LEFT JOIN of_user u ON e.user_id = u.user_id AND e.us = u.us
    LEFT JOIN of_item i ON e.item_id = i.item_id AND e.us = i.us)"""


if __name__ == "__main__":
    run(start)
