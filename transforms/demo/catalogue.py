"""The items of the demo world: topics, words, media and vectors.

Shapes: N items, K topics, D vector width, R rank of the latent space behind the vectors.
"""
# ruff: noqa: N815 - array fields wear their shape as a suffix

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.demo.config import DemoConfig, micros
from transforms.demo.population import (
    MEDIA_MIX,
    MEDIA_TYPES,
    NICHE_COUNT,
    NICHES_PER_TOPIC,
    TOPIC_COUNT,
    Population,
)
from transforms.demo.sampling import FloatArray, IntArray, draw_rows
from transforms.demo.vocabulary import COMMON_PATTERNS, MEDIA_LEADS, PRAISE, TOPICS

VECTOR_WIDTHS: Final[dict[str, int]] = {"video": 2048, "audio": 1024, "text": 768}

VECTOR_COVERAGE: Final[dict[str, dict[str, float]]] = {
    "video": {"video": 0.97, "audio": 0.90, "text": 0.97},
    "image": {"video": 0.0, "audio": 0.0, "text": 0.97},
    "text": {"video": 0.0, "audio": 0.0, "text": 0.97},
    "audio": {"video": 0.0, "audio": 0.97, "text": 0.97},
}
"""Media type -> vector -> chance that an item has it; 0 where the medium has no such signal."""

ITEM_TYPES: Final[dict[str, str]] = {
    "video": "clip",
    "image": "photo",
    "text": "post",
    "audio": "podcast",
}

_NICHES = [niche for topic in TOPICS for niche in topic.niches]
_HOST = "https://media.example"
_LATENT_NOISE = 0.25
_SECOND_CATEGORY = 0.25
_DAY_MICROS = timedelta(days=1) // timedelta(microseconds=1)

# First element of every spawn key in this file; see `DemoConfig.rng`.
_ITEMS, _WORDS, _VECTORS = 5, 6, 7


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All items, ordered by `created_N`."""

    created_N: IntArray
    """Publication, µs since 1970."""
    new_N: npt.NDArray[np.bool_]
    """Published during the period."""
    author_N: IntArray
    """Position in `Population.authors_A`."""
    niche_N: IntArray
    topic_NK: FloatArray
    """Topic mixture; rows sum to one and the topic of the niche has the largest share."""
    quality_N: FloatArray
    """Standardised: mean about zero, deviation about one."""
    media_N: IntArray
    """Position in `MEDIA_TYPES`."""
    duration_N: FloatArray
    """Seconds; NaN for images and texts."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.created_N)


def build_catalogue(config: DemoConfig, people: Population) -> Catalogue:
    """Draw the items of a world; authors publish inside their own tastes."""
    rng = config.rng(_ITEMS)
    count = config.items
    new_count = round(config.new_item_share * count)
    start, end = micros(config.start), micros(config.end)
    age_days = rng.exponential(40.0, count - new_count).clip(0.05, 365.0)
    created_N = np.sort(
        np.concatenate(
            [
                start - (age_days * _DAY_MICROS).astype(np.int64),
                rng.integers(start, end, new_count),
            ]
        )
    )
    output_A = people.output_A / people.output_A.sum()
    author_N = rng.choice(len(output_A), count, p=output_A)
    writer_N = people.authors_A[author_N]
    # Nobody publishes before signing up: the youngest authors' items move to the sign-up.
    created_N = np.maximum(created_N, people.created_U[writer_N])
    order_N = np.argsort(created_N, kind="stable")
    created_N, author_N, writer_N = created_N[order_N], author_N[order_N], writer_N[order_N]
    niche_N = draw_rows(people.taste_UM[writer_N] + 0.1 / NICHE_COUNT, rng.random(count))
    topic_NK = np.zeros((count, TOPIC_COUNT))
    rows_N = np.arange(count)
    main_share_N = rng.uniform(0.65, 1.0, count)
    # The remainder goes to one other topic, never to the main one again.
    other_N = (niche_N // NICHES_PER_TOPIC + rng.integers(1, TOPIC_COUNT, count)) % TOPIC_COUNT
    topic_NK[rows_N, niche_N // NICHES_PER_TOPIC] = main_share_N
    topic_NK[rows_N, other_N] = 1.0 - main_share_N
    trust_N = (people.trust_U[writer_N] - people.trust_U.mean()) / people.trust_U.std()
    quality_N = 0.5 * trust_N + np.sqrt(0.75) * rng.standard_normal(count)
    media_N = rng.choice(len(MEDIA_TYPES), count, p=MEDIA_MIX)
    clip_N = rng.lognormal(np.log(28.0), 0.6, count).clip(6.0, 180.0)
    podcast_N = rng.lognormal(np.log(420.0), 0.4, count).clip(120.0, 1800.0)
    duration_N = np.select(
        [media_N == MEDIA_TYPES.index("video"), media_N == MEDIA_TYPES.index("audio")],
        [clip_N, podcast_N],
        default=np.nan,
    ).round(1)
    return Catalogue(
        created_N=created_N,
        new_N=created_N >= start,
        author_N=author_N,
        niche_N=niche_N,
        topic_NK=topic_NK,
        quality_N=quality_N,
        media_N=media_N,
        duration_N=duration_N,
    )


@dataclass(frozen=True, slots=True)
class Words:
    """What items say, one entry an item."""

    titles: list[str]
    texts: list[str]
    categories: list[list[str]]
    tags: list[list[str]]


def compose_words(config: DemoConfig, items: Catalogue) -> Words:
    """Write title, text, categories and tags of every item from its topic's vocabulary."""
    rng = config.rng(_WORDS)
    pick_N4 = rng.integers(0, 1 << 30, (len(items), 4)).tolist()
    number_N = rng.integers(2, 41, len(items)).tolist()
    quarter_N = np.searchsorted(np.quantile(items.quality_N, [0.25, 0.5, 0.75]), items.quality_N)
    words = Words([], [], [], [])
    for index, niche_code in enumerate(items.niche_N.tolist()):
        topic = TOPICS[niche_code // NICHES_PER_TOPIC]
        niche = _NICHES[niche_code]
        pick_subject, pick_pattern, pick_detail, pick_second = pick_N4[index]
        subject = niche.subjects[pick_subject % len(niche.subjects)]
        patterns = topic.patterns + COMMON_PATTERNS
        title = _fill(patterns[pick_pattern % len(patterns)], subject, number_N[index])
        second = int(np.argsort(items.topic_NK[index])[-2])
        mixed = items.topic_NK[index, second] >= _SECOND_CATEGORY
        categories = [topic.name, TOPICS[second].name] if mixed else [topic.name]
        tags = [niche.name, *categories]
        first = pick_detail % len(topic.details)
        # A step of at least one, so that the two sentences differ.
        step = 1 + pick_second % (len(topic.details) - 1)
        sentences = (
            _fill(MEDIA_LEADS[MEDIA_TYPES[items.media_N[index]]], subject, number_N[index]),
            topic.details[first],
            topic.details[(first + step) % len(topic.details)],
            PRAISE[int(quarter_N[index])],
            " ".join(f"#{tag}" for tag in tags),
        )
        words.titles.append(title)
        words.texts.append(" ".join(sentences))
        words.categories.append(categories)
        words.tags.append(tags)
    return words


def _fill(pattern: str, subject: str, number: int) -> str:
    return pattern.format(s=subject, S=subject[0].upper() + subject[1:], n=number)


def media_urls(item_ids: list[str], items: Catalogue) -> tuple[list[str | None], list[str | None]]:
    """Return image and video address per item: a video has both, a text and a podcast neither."""
    kinds = [MEDIA_TYPES[code] for code in items.media_N.tolist()]
    images = [
        f"{_HOST}/images/{item}.jpg" if kind in ("video", "image") else None
        for item, kind in zip(item_ids, kinds, strict=True)
    ]
    videos = [
        f"{_HOST}/videos/{item}.mp4" if kind == "video" else None
        for item, kind in zip(item_ids, kinds, strict=True)
    ]
    return images, videos


def embed(config: DemoConfig, items: Catalogue) -> dict[str, pa.Array]:
    """Project each item's latent taste to its video, audio and text vectors.

    The latent vector is the topic mixture and half a one-hot niche plus noise (rank R = K + M), the
    projection is Gaussian and scaled so that a vector's length is about one. Missing vectors are
    null, never zero.

    Returns:
        Vector name -> list<float> array of length N, all null when the world has no vectors.
    """
    columns: dict[str, pa.Array] = {}
    count = len(items)
    for position, (name, width) in enumerate(VECTOR_WIDTHS.items()):
        rng = config.rng(_VECTORS, position)
        chance_X = np.array([VECTOR_COVERAGE[kind][name] for kind in MEDIA_TYPES])
        present_N = rng.random(count) < chance_X[items.media_N]
        if not config.vectors:
            columns[name] = pa.nulls(count, pa.list_(pa.float32()))
            continue
        latent_NR = np.hstack([items.topic_NK, 0.5 * np.eye(NICHE_COUNT)[items.niche_N]])
        latent_PR = latent_NR[present_N]
        latent_PR = latent_PR + _LATENT_NOISE / np.sqrt(latent_PR.shape[1]) * rng.standard_normal(
            latent_PR.shape
        )
        projection_RD = rng.standard_normal((latent_PR.shape[1], width)) / np.sqrt(width)
        vectors_PD = (latent_PR @ projection_RD).astype(np.float32)
        vectors_PD += rng.standard_normal(vectors_PD.shape, dtype=np.float32) * np.float32(
            _LATENT_NOISE / np.sqrt(width)
        )
        offsets_N1 = np.concatenate([[0], np.cumsum(present_N) * width]).astype(np.int32)
        columns[name] = pa.ListArray.from_arrays(
            pa.array(offsets_N1), pa.array(vectors_PD.ravel()), mask=pa.array(~present_N)
        )
    return columns
