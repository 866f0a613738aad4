"""Examples of a simulated world without Spark: the columns that a drift report watches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.demo import DemoWorld
from transforms.interactions import DEFAULT_STRENGTHS, LabelRule

_SHOWN = "impression"
_DAY = 86_400_000_000


def examples_of(world: DemoWorld, events: pa.Table | None = None) -> pa.Table:
    """The interactions of a world with what was known before each, in time order.

    The columns are those of the table `examples` that can be had by counting: of the event, of the
    user and of the item. Running totals grow as they do there.

    Args:
        world: Whose users and items.
        events: Its events, or what a planted drift made of them.
    """
    rows = (world.events() if events is None else events).filter(pc.field("event_type") != _SHOWN)
    users = world.users().select(["user_id", "created_at", "trust_score"])
    items = world.items()
    time = rows["timestamp"].cast(pa.int64()).to_numpy()
    user = pc.index_in(rows["user_id"], users["user_id"].combine_chunks()).to_numpy()
    item = pc.index_in(rows["item_id"], items["item_id"].combine_chunks()).to_numpy()
    duration = items["duration_seconds"].to_numpy()[item]
    kinds = {name: pc.equal(rows["event_type"], name).to_numpy() for name in ("like", "share")}
    follows = world.follows()
    followers = _counts(follows["followee_id"], users["user_id"])
    author = pc.index_in(items["author_id"], users["user_id"].combine_chunks()).to_numpy()
    item_total = _so_far(item, np.ones(len(item)))
    age = users["created_at"].cast(pa.int64()).to_numpy()
    made = items["created_at"].cast(pa.int64()).to_numpy()
    categories = pa.array(
        [found[0] if found else None for found in items["categories"].to_pylist()]
    )
    columns = {
        "watch_share": pa.array(rows["watch_seconds"].to_numpy() / duration, from_pandas=True),
        "rating": rows["value"],
        "strength": _strengths(rows, duration),
        "user_account_age_days": (time - age[user]) / _DAY,
        "user_total_interactions": _so_far(user, np.ones(len(user))),
        "user_like_ratio": _so_far(user, kinds["like"]) / (1.0 + _so_far(user, np.ones(len(user)))),
        "user_trust_score": users["trust_score"].take(pa.array(user)),
        "user_follower_count": followers[user],
        "user_following_count": _counts(follows["follower_id"], users["user_id"])[user],
        "item_content_length": pc.utf8_length(items["text"]).take(pa.array(item)),
        "item_has_media": pa.array(~np.isnan(duration)),
        "item_hashtag_count": pc.list_value_length(items["tags"]).take(pa.array(item)),
        "item_author_trust_score": users["trust_score"].take(pa.array(author[item])),
        "item_author_follower_count": followers[author[item]],
        "item_age_hours": (time - made[item]) / _DAY * 24.0,
        "item_like_ratio": _so_far(item, kinds["like"]) / (1.0 + item_total),
        "item_share_ratio": _so_far(item, kinds["share"]) / (1.0 + item_total),
        "item_category": categories.take(pa.array(item)),
    }
    kept = ("user_id", "item_id", "event_type", "timestamp", "device", "location", "position")
    return pa.table({**{name: rows[name] for name in kept}, **columns})


def _strengths(rows: pa.Table, duration: np.ndarray) -> np.ndarray:
    """How strongly each row speaks for its item, by the defaults of the spec."""
    given = {
        "watch": np.clip(rows["watch_seconds"].to_numpy() / duration, 0.0, 1.0),
        "value": rows["value"].to_numpy() / LabelRule().rating_max,
    }
    found = np.zeros(rows.num_rows)
    for name, strength in DEFAULT_STRENGTHS.items():
        of_type = pc.equal(rows["event_type"], name).to_numpy()
        found = np.where(of_type, given.get(strength, strength), found)
    return np.nan_to_num(found)


def _so_far(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The sum of the values of a group's earlier rows."""
    order = np.argsort(group, kind="stable")
    sums = np.cumsum(value[order]) - value[order]
    first = np.searchsorted(group[order], group[order])
    found = np.empty(len(group))
    found[order] = sums - sums[first]
    return found


def _counts(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> np.ndarray:
    code = pc.index_in(ids, known.combine_chunks()).drop_null().to_numpy()
    return np.bincount(code, minlength=len(known))
