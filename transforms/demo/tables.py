"""The rows of the demo world as Arrow record batches, a block of users or items at a time.

Shapes: U users, V users of one block, N items, W items of one block, K topics, F follow edges,
E events.
"""

from collections.abc import Iterator, Sequence
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.demo.behaviour import Follows
from transforms.demo.catalogue import (
    ITEM_TYPES,
    VECTOR_WIDTHS,
    Catalogue,
    Embedder,
    compose_words,
    media_urls,
)
from transforms.demo.config import DemoConfig
from transforms.demo.population import (
    DEVICES,
    LOCATIONS,
    MEDIA_TYPES,
    Population,
    UserBlock,
    topic_shares,
)
from transforms.demo.reactions import EVENT_TYPES, Reactions
from transforms.demo.sampling import FloatArray, IntArray
from transforms.demo.vocabulary import TOPICS

_TIME: Final = pa.timestamp("us", tz="UTC")
_SHARES: Final = pa.map_(pa.string(), pa.float64())
_VECTOR: Final = pa.list_(pa.float32())

EVENT_SCHEMA: Final = pa.schema(
    {
        "event_id": pa.string(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "event_type": pa.string(),
        "value": pa.float64(),
        "watch_seconds": pa.float64(),
        "position": pa.int32(),
        "device": pa.string(),
        "location": pa.string(),
        "exploration": pa.bool_(),
        "timestamp": _TIME,
    }
)
ITEM_SCHEMA: Final = pa.schema(
    {
        "item_id": pa.string(),
        "item_type": pa.string(),
        "media_type": pa.string(),
        "title": pa.string(),
        "text": pa.string(),
        "categories": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "author_id": pa.string(),
        "created_at": _TIME,
        "duration_seconds": pa.float64(),
        "image_url": pa.string(),
        "video_url": pa.string(),
        "video_embedding": _VECTOR,
        "audio_embedding": _VECTOR,
        "text_embedding": _VECTOR,
    }
)
USER_SCHEMA: Final = pa.schema(
    {
        "user_id": pa.string(),
        "created_at": _TIME,
        "trust_score": pa.float64(),
        "interests": _SHARES,
        "content_type_preferences": _SHARES,
        "diversity_preference": pa.float64(),
        "consent": pa.bool_(),
        "demographics": pa.map_(pa.string(), pa.string()),
    }
)
FOLLOW_SCHEMA: Final = pa.schema(
    {"follower_id": pa.string(), "followee_id": pa.string(), "since": _TIME}
)

_AGE_BANDS = ("16-24", "25-34", "35-49", "50+")
_GENDERS = ("female", "male", "other", "undisclosed")
_NO_PROFILE_SHARE = 0.05
_CONSENT_SHARE = 0.95
_DECLARED_NOISE = 60.0
_NUMBER_DIGITS = 7  # of an event within the day of one block
_LEAST_SHARE = 0.02  # of an interest that a profile names

# First element of the spawn key of this file; see `DemoConfig.rng`.
_PROFILES = 9


def numbered(letter: str, count: int) -> pa.Array:
    """Return the ids of `count` users or items, in order of creation."""
    return pc.binary_join_element_wise(letter, _digits(np.arange(count), 6), "")


def item_batches(
    config: DemoConfig, people: Population, items: Catalogue
) -> Iterator[pa.RecordBatch]:
    """Yield the items in order of creation; columns as in `ITEM_SCHEMA`."""
    ids, user_ids = numbered("i", len(items)), numbered("u", len(people))
    embedders = {f"{name}_embedding": Embedder(config, items, name) for name in VECTOR_WIDTHS}
    for block, words in zip(items.blocks(), compose_words(config, items), strict=True):
        some = ids[block]
        kinds = [MEDIA_TYPES[code] for code in items.media_N[block].tolist()]
        images, videos = media_urls(some.to_pylist(), kinds)
        columns = {
            "item_id": some,
            "item_type": [ITEM_TYPES[kind] for kind in kinds],
            "media_type": kinds,
            "title": words.titles,
            "text": words.texts,
            "categories": words.categories,
            "tags": words.tags,
            "author_id": user_ids.take(pa.array(people.authors_A[items.author_N[block]])),
            "created_at": _times(items.created_N[block]),
            "duration_seconds": pa.array(items.duration_N[block], from_pandas=True),
            "image_url": images,
            "video_url": videos,
            **{name: embedder.vectors(block) for name, embedder in embedders.items()},
        }
        yield pa.record_batch(columns, schema=ITEM_SCHEMA)


def user_batches(config: DemoConfig, people: Population) -> Iterator[pa.RecordBatch]:
    """Yield the users in order of sign-up; columns as in `USER_SCHEMA`."""
    ids = numbered("u", len(people))
    for index in range(people.block_count):
        block = people.block(index)
        path = [_PROFILES, index] if index else [_PROFILES]  # see `Population`
        yield _user_batch(config.rng(*path), people, block, ids)


def _user_batch(
    rng: np.random.Generator, people: Population, block: UserBlock, ids: pa.Array
) -> pa.RecordBatch:
    count = len(block)
    declared_VK = rng.gamma(topic_shares(block.taste_VM) * _DECLARED_NOISE + 1e-3)
    declared_VK /= declared_VK.sum(axis=1, keepdims=True)
    profile_V = rng.random(count) >= _NO_PROFILE_SHARE
    age_V = rng.integers(0, len(_AGE_BANDS), count)
    gender_V = rng.choice(len(_GENDERS), count, p=[0.46, 0.46, 0.03, 0.05])
    # A wide mixture of topics asks for variety: normalised entropy of the declared interests.
    spread_V = -(declared_VK * np.log(declared_VK.clip(1e-9))).sum(axis=1) / log(len(TOPICS))
    words_V2 = np.stack([age_V, len(_AGE_BANDS) + gender_V], axis=1)[profile_V]
    words = pa.array([*_AGE_BANDS, *_GENDERS]).take(pa.array(words_V2.ravel()))
    named = pa.array(["age_band", "gender"] * len(words_V2))
    columns = {
        "user_id": block.of(ids),
        "created_at": _times(block.of(people.created_U)),
        "trust_score": block.of(people.trust_U).round(4),
        "interests": _shares(
            np.where(declared_VK > _LEAST_SHARE, declared_VK, np.nan),
            [topic.name for topic in TOPICS],
            profile_V,
        ),
        "content_type_preferences": _shares(block.of(people.media_UX), MEDIA_TYPES, profile_V),
        "diversity_preference": pa.array(spread_V.clip(0.0, 1.0).round(4), mask=~profile_V),
        "consent": rng.random(count) < _CONSENT_SHARE,
        "demographics": _maps(2 * profile_V, named, words, profile_V),
    }
    return pa.record_batch(columns, schema=USER_SCHEMA)


def event_batch(
    day: int,
    events: Reactions,
    rows: slice,
    *,
    people: Population,
    block: UserBlock,
    ids: tuple[pa.Array, pa.Array],
) -> pa.RecordBatch:
    """Return some events of one block's day; columns as in `EVENT_SCHEMA`.

    Args:
        day: counted from the start of the period.
        events: all events of the sessions that started in that day.
        rows: those wanted.
        people: all users.
        block: whose events these are.
        ids: of all users and of all items.
    """
    user_ids, item_ids = ids
    number_E = np.arange(len(events.timestamp_E))[rows] + block.index * 10**_NUMBER_DIGITS
    blocks = people.block_count
    digits = _NUMBER_DIGITS + (len(str(blocks - 1)) if blocks > 1 else 0)
    columns = {
        "event_id": pc.binary_join_element_wise(f"e{day:03d}", _digits(number_E, digits), "-"),
        "user_id": user_ids.take(pa.array(events.user_E[rows] + block.first)),
        "item_id": item_ids.take(pa.array(events.item_E[rows])),
        "event_type": pa.array(EVENT_TYPES).take(pa.array(events.type_E[rows])),
        "value": pa.array(events.value_E[rows], from_pandas=True),
        "watch_seconds": pa.array(events.watch_E[rows], from_pandas=True),
        "position": events.position_E[rows].astype(np.int32),
        "device": pa.array(DEVICES).take(pa.array(events.device_E[rows])),
        "location": pa.array(LOCATIONS).take(pa.array(events.location_E[rows])),
        "exploration": events.explored_E[rows],
        "timestamp": _times(events.timestamp_E[rows]),
    }
    return pa.record_batch(columns, schema=EVENT_SCHEMA)


def follow_batch(
    people: Population, block: UserBlock, follows: Follows, before: int, user_ids: pa.Array
) -> pa.RecordBatch:
    """Return one block's edges with `since < before` (µs); columns as in `FOLLOW_SCHEMA`."""
    kept_F = follows.since_F < before
    follower_F, author_F = np.divmod(follows.edge_F[kept_F], len(people.authors_A))
    columns = {
        "follower_id": user_ids.take(pa.array(follower_F + block.first)),
        "followee_id": user_ids.take(pa.array(people.authors_A[author_F])),
        "since": _times(follows.since_F[kept_F]),
    }
    return pa.record_batch(columns, schema=FOLLOW_SCHEMA)


def _times(micros_X: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(micros_X).cast(_TIME)


def _digits(number_X: npt.NDArray[np.int64], width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(number_X).cast(pa.string()), width, "0")


def _shares(
    share_VX: FloatArray, names: Sequence[str], profile_V: npt.NDArray[np.bool_]
) -> pa.Array:
    """Return the named shares of each user as a map; what is NaN is left out."""
    present_VX = profile_V[:, None] & ~np.isnan(share_VX)
    values = pa.array(share_VX[present_VX].round(3))
    keys = pa.array(names).take(pa.array(np.nonzero(present_VX)[1]))
    return _maps(present_VX.sum(axis=1), keys, values, profile_V)


def _maps(
    entries_V: IntArray, keys: pa.Array, values: pa.Array, profile_V: npt.NDArray[np.bool_]
) -> pa.Array:
    """Return map columns of so many entries each, null where a user has no profile."""
    offsets_V1 = np.concatenate([[0], np.cumsum(entries_V)]).astype(np.int32)
    return pa.MapArray.from_arrays(pa.array(offsets_V1), keys, values, mask=pa.array(~profile_V))
