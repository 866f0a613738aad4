"""The items of the demo world: topics, words, media and vectors.

Words and vectors are made for some items at a time: the vectors of a million items do not fit into
memory.

Shapes: N items, W items of one block, K topics, D vector width, R rank of the latent space behind
the vectors.
"""

from collections.abc import Iterator
from copy import deepcopy
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

BLOCK_SIZE: Final = 4096
"""Items that are worded and embedded together: about 40 MB of vectors."""

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
    other_N: IntArray
    """The second topic of the mixture; the first one is that of the niche."""
    share_N: FloatArray
    """Share of the topic of the niche, at least 0.65; the remainder is the second topic's."""
    quality_N: FloatArray
    """Standardised: mean about zero, deviation about one."""
    media_N: IntArray
    """Position in `MEDIA_TYPES`."""
    duration_N: FloatArray
    """Seconds; NaN for images and texts."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.created_N)

    def topics(self, items: slice = slice(None)) -> FloatArray:
        """Return the topic mixtures (W, K) of some items; rows sum to one."""
        niche_W, share_W = self.niche_N[items], self.share_N[items]
        topic_WK = np.zeros((len(niche_W), TOPIC_COUNT))
        rows_W = np.arange(len(niche_W))
        topic_WK[rows_W, niche_W // NICHES_PER_TOPIC] = share_W
        topic_WK[rows_W, self.other_N[items]] = 1.0 - share_W
        return topic_WK

    def blocks(self) -> Iterator[slice]:
        """Yield the items that are worded and embedded together."""
        for first in range(0, len(self), BLOCK_SIZE):
            yield slice(first, min(first + BLOCK_SIZE, len(self)))


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
    uniform_N = rng.random(count)
    niche_N = np.empty(count, dtype=np.int64)
    for first in range(0, count, BLOCK_SIZE):  # a row of tastes per item at once is too much
        some = slice(first, first + BLOCK_SIZE)
        taste_WM = people.author_tastes[author_N[some]]
        niche_N[some] = draw_rows(taste_WM + 0.1 / NICHE_COUNT, uniform_N[some])
    share_N = rng.uniform(0.65, 1.0, count)
    # The remainder goes to one other topic, never to the main one again.
    other_N = (niche_N // NICHES_PER_TOPIC + rng.integers(1, TOPIC_COUNT, count)) % TOPIC_COUNT
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
        other_N=other_N,
        share_N=share_N,
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


def compose_words(config: DemoConfig, items: Catalogue) -> Iterator[Words]:
    """Write title, text, categories and tags of every item from its topic's vocabulary.

    Yields:
        The words of each block of `items.blocks()`.
    """
    rng = config.rng(_WORDS)
    pick_N4 = rng.integers(0, 1 << 30, (len(items), 4))
    number_N = rng.integers(2, 41, len(items))
    quarter_N = np.searchsorted(np.quantile(items.quality_N, [0.25, 0.5, 0.75]), items.quality_N)
    for block in items.blocks():
        yield _compose(
            items, block, pick_N4[block].tolist(), number_N[block].tolist(), quarter_N[block]
        )


def _compose(
    items: Catalogue,
    block: slice,
    pick_W4: list[list[int]],
    number_W: list[int],
    quarter_W: IntArray,
) -> Words:
    words = Words([], [], [], [])
    other_W, mixed_W = items.other_N[block], 1.0 - items.share_N[block] >= _SECOND_CATEGORY
    media_W = items.media_N[block]
    for index, niche_code in enumerate(items.niche_N[block].tolist()):
        topic = TOPICS[niche_code // NICHES_PER_TOPIC]
        niche = _NICHES[niche_code]
        pick_subject, pick_pattern, pick_detail, pick_second = pick_W4[index]
        subject = niche.subjects[pick_subject % len(niche.subjects)]
        patterns = topic.patterns + COMMON_PATTERNS
        title = _fill(patterns[pick_pattern % len(patterns)], subject, number_W[index])
        mixed = [TOPICS[other_W[index]].name] if mixed_W[index] else []
        categories = [topic.name, *mixed]
        tags = [niche.name, *categories]
        first = pick_detail % len(topic.details)
        # A step of at least one, so that the two sentences differ.
        step = 1 + pick_second % (len(topic.details) - 1)
        sentences = (
            _fill(MEDIA_LEADS[MEDIA_TYPES[media_W[index]]], subject, number_W[index]),
            topic.details[first],
            topic.details[(first + step) % len(topic.details)],
            PRAISE[quarter_W[index]],
            " ".join(f"#{tag}" for tag in tags),
        )
        words.titles.append(title)
        words.texts.append(" ".join(sentences))
        words.categories.append(categories)
        words.tags.append(tags)
    return words


def _fill(pattern: str, subject: str, number: int) -> str:
    return pattern.format(s=subject, S=subject[0].upper() + subject[1:], n=number)


def media_urls(item_ids: list[str], kinds: list[str]) -> tuple[list[str | None], list[str | None]]:
    """Return image and video address per item: a video has both, a text and a podcast neither."""
    images = [
        f"{_HOST}/images/{item}.jpg" if kind in ("video", "image") else None
        for item, kind in zip(item_ids, kinds, strict=True)
    ]
    videos = [
        f"{_HOST}/videos/{item}.mp4" if kind == "video" else None
        for item, kind in zip(item_ids, kinds, strict=True)
    ]
    return images, videos


class Embedder:
    """Projects each item's latent taste to its video, audio or text vector.

    The latent vector is the topic mixture and half a one-hot niche plus noise (rank R = K + M), the
    projection is Gaussian and scaled so that a vector's length is about one. Missing vectors are
    null, never zero.
    """

    def __init__(self, config: DemoConfig, items: Catalogue, name: str) -> None:
        self._config, self._items = config, items
        self._position, self._width = list(VECTOR_WIDTHS).index(name), VECTOR_WIDTHS[name]
        self._chance_X = np.array([VECTOR_COVERAGE[kind][name] for kind in MEDIA_TYPES])
        # The projection follows the first block's latent vectors, from that block's generator.
        self._whole = config.rng(_VECTORS, self._position)
        self._first = self._latents(self._whole, next(items.blocks()))
        rank = TOPIC_COUNT + NICHE_COUNT
        self._projection_RD = self._whole.standard_normal((rank, self._width)) / np.sqrt(
            self._width
        )

    def vectors(self, block: slice) -> pa.Array:
        """Return the vectors of one block of `items.blocks()`: list<float>, null where missing."""
        if not self._config.vectors:
            return pa.nulls(block.stop - block.start, pa.list_(pa.float32()))
        if block.start == 0:
            rng, (present_W, latent_PR) = deepcopy(self._whole), self._first
        else:
            rng = self._config.rng(_VECTORS, self._position, block.start // BLOCK_SIZE)
            present_W, latent_PR = self._latents(rng, block)
        vectors_PD = (latent_PR @ self._projection_RD).astype(np.float32)
        vectors_PD += rng.standard_normal(vectors_PD.shape, dtype=np.float32) * np.float32(
            _LATENT_NOISE / np.sqrt(self._width)
        )
        offsets_W1 = np.concatenate([[0], np.cumsum(present_W) * self._width]).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets_W1), pa.array(vectors_PD.ravel()), mask=pa.array(~present_W)
        )

    def _latents(
        self, rng: np.random.Generator, block: slice
    ) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        """Draw which items have a vector (W,), and the latent vectors (P, R) of those P."""
        niche_W, media_W = self._items.niche_N[block], self._items.media_N[block]
        present_W = rng.random(len(niche_W)) < self._chance_X[media_W]
        latent_WR = np.hstack([self._items.topics(block), 0.5 * np.eye(NICHE_COUNT)[niche_W]])
        latent_PR = latent_WR[present_W]
        noise_PR = rng.standard_normal(latent_PR.shape)
        return present_W, latent_PR + _LATENT_NOISE / np.sqrt(latent_PR.shape[1]) * noise_PR
