"""Candidate lists for all users, blended from several models, in bounded memory.

Scores of different models have different units, so each model's scores of a user are turned into
z-scores over the catalogue before they are blended: multiplying a model's scores by ten, or adding
to them, changes nothing. An item unknown to a model gets 0 from it, which is the model's mean. A
model that gives a user one and the same score for all items says nothing about that user and is
treated as if it knew no item.

A model counts for whom it knows: by default those with a positive in the history. Popularity serves
whom no model knows, and fills lists that the models leave short. Both are marked as such.

Shape suffixes: U users, B users of a batch, N items, M models, K list length, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from training.histories import Histories
from training.models.base import Model, liked_by
from training.models.item_knn import ItemKNN
from training.models.popularity import Popularity
from training.reasons import (
    Circles,
    nearest_in_history,
    popular_text,
    reason_texts,
    unit_vectors,
)
from training.topk import ItemLists, check_scores, top_k, top_k_factors

CANDIDATES = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float64()),
        ("source", pa.string()),
        ("reason", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
    ]
)

SIMILAR_ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("rank", pa.int32()),
        ("similar_item_id", pa.string()),
        ("score", pa.float64()),
    ]
)

_FILL_GAP = 1.0
"""Filled items score at least this (one standard deviation) below the blended ones before them."""


class CandidateError(ValueError):
    """Candidates cannot be made from what was given."""


def build_candidates(
    models: Mapping[str, Model],
    weights: Mapping[str, float],
    histories: Histories,
    seen: ItemLists,
    *,
    k: int,
    popular: Popularity,
    versions: Mapping[str, str],
    titles: Sequence[str | None],
    circles: Circles | None = None,
    batch: int = 512,
    progress: Callable[[int], None] = lambda _users: None,
) -> Iterator[pa.Table]:
    """Lists of the k best unseen items of every user, one table for each batch of users.

    `score` orders a user's list and has no meaning across users: it is the weighted mean of the
    models' z-scores. A list of popular items has the z-scores of popularity, and items filled in
    after blended ones continue below the last of those in the steps of these z-scores.

    Args:
        models: name -> model; may be empty, then all is filled from popularity.
        weights: name -> weight of at least 0. Those of models that are not there are spread over
            the others in proportion.
        histories: The users, and what they did.
        seen: Items that each user's list must not hold.
        k: List length; lists are shorter where no known item is left.
        popular: The fallback.
        versions: name -> version, for each of `models` and for `popular`.
        titles: Title of each item of the catalogue, for the reasons.
        circles: Whom these users follow, for the reasons; none where nobody follows anybody.
        batch: Users at a time; memory grows with `batch` times the catalogue times the models.
        progress: Called after each batch with the number of users done.

    Yields:
        Tables of the schema `CANDIDATES`, sorted by user as given and rank 1 to k, items unique
        in a list. `source` is the model that adds most to the item's score, or popularity.

    Raises:
        CandidateError: Settings that do not fit together; raised before the first table.
        ScoreError: A model gave a score that is NaN or +inf.
    """
    shares = _shares(models, weights)
    speakers = [*((name, models[name]) for name in shares), (popular.name, popular)]
    _check(histories, seen, titles, k=k, batch=batch)
    unversioned = [name for name, _ in speakers if name not in versions]
    if unversioned:
        raise CandidateError(
            f"no version for model {', '.join(map(repr, unversioned))}; every list says which "
            "version of a model made it"
        )
    source_S = pa.array([name for name, _ in speakers])
    model_S = pa.array([model.name for _, model in speakers])
    version_S = pa.array([versions[name] for name, _ in speakers])
    item_N = pa.array(histories.catalogue, pa.string())
    popular_reason = popular_text(popular.config.window_days)

    def tables() -> Iterator[pa.Table]:
        for start in range(0, len(histories), batch):
            part = histories.batch(start, start + batch)
            unseen = seen.batch(start, start + batch)
            item_BK, score_BK, speaker_BK = _lists(
                models, shares, popular, histories=part, seen=unseen, k=k
            )
            row_R, place_R = np.nonzero(item_BK >= 0)
            speaker_R = speaker_BK[row_R, place_R]
            named_BK = _named(speakers, part, item_BK, speaker_BK)
            popular_R = np.array([isinstance(model, Popularity) for _, model in speakers])
            people_BK = circles.liked_by(start, item_BK) if circles else np.zeros_like(item_BK)
            reason_R = reason_texts(
                named_BK[row_R, place_R],
                liked_by(part)[row_R],
                popular_R[speaker_R],
                people_BK[row_R, place_R],
                titles,
                popular_reason,
            )
            columns = [
                pa.array(part.user_ids, pa.string()).take(row_R),
                (place_R + 1).astype(np.int32),
                item_N.take(item_BK[row_R, place_R]),
                score_BK[row_R, place_R],
                source_S.take(speaker_R),
                reason_R,
                model_S.take(speaker_R),
                version_S.take(speaker_R),
            ]
            progress(start + len(part))
            yield pa.table(columns, schema=CANDIDATES)

    return tables()


def z_scores(score_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row minus its mean, over its standard deviation, both over the finite scores.

    Returns:
        (B, N) float32 z-scores, 0 where there is none; and (B, N) bool, where there is one: not
        where the score is -inf, and nowhere in a row whose finite scores are all the same.
    """
    known_BN = score_BN > -np.inf
    count_B = np.maximum(known_BN.sum(axis=1), 1)
    z_BN = np.where(known_BN, score_BN, np.float32(0.0))
    mean_B = z_BN.sum(axis=1, dtype=np.float64) / count_B
    z_BN -= mean_B.astype(np.float32)[:, None]
    z_BN *= known_BN
    deviation_B = np.sqrt(np.einsum("bn,bn->b", z_BN, z_BN) / count_B)
    varies_B = deviation_B > 0
    z_BN /= np.where(varies_B, deviation_B, 1.0).astype(np.float32)[:, None]
    known_BN &= varies_B[:, None]
    return z_BN, known_BN


def blend(
    scores: Sequence[np.ndarray], shares: Sequence[float]
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """The weighted mean of the models' z-scores.

    Args:
        scores: One (B, N) array of raw scores for each model; -inf for unknown items.
        shares: Weights that add up to 1.

    Returns:
        (B, N) blended scores, -inf where no model has a z-score; and what each model adds to
        them, (B, N), with a mask of where it has a z-score.
    """
    parts = []
    total_BN, any_BN = np.float32(0.0), np.False_
    for score_BN, share in zip(scores, shares, strict=True):
        part_BN, known_BN = z_scores(score_BN)
        part_BN *= np.float32(share)
        total_BN = total_BN + part_BN
        any_BN = any_BN | known_BN
        parts.append((part_BN, known_BN))
    return np.where(any_BN, total_BN, np.float32(-np.inf)), parts


def knows_likeness(model: Model) -> bool:
    """Whether a model can say which items are alike."""
    return isinstance(model, ItemKNN) or model.likeness_vectors() is not None


def similar_items(model: Model, *, k: int, batch: int = 1024) -> pa.Table:
    """The k items that the model holds most like each item, never the item itself.

    Models with item vectors compare them by cosine; items with a vector of zeros have no place.
    Item-based collaborative filtering gives its neighbours, which may be fewer than k.

    Returns:
        Table of the schema `SIMILAR_ITEMS`, sorted by item id and rank.

    Raises:
        CandidateError: The model has no notion of alike items, or k is below 1.
    """
    if k < 1:
        raise CandidateError(f"similar items need k of at least 1, got {k}")
    if isinstance(model, ItemKNN):
        item_ids = model.item_ids
        similar_MK, score_MK = _neighbours(model, k, batch)
    else:
        vector_MD = model.likeness_vectors()
        if vector_MD is None:
            raise CandidateError(
                f"model {model.name!r} has no item vectors, so it cannot say which items are "
                "alike; take similar items from a model that has, such as gnn or transformer"
            )
        unit_MD = unit_vectors(vector_MD)
        placed_M = unit_MD.any(axis=1)
        item_ids, unit_MD = model.item_ids[placed_M], unit_MD[placed_M]
        if not len(item_ids):
            return SIMILAR_ITEMS.empty_table()
        itself = ItemLists.of([code] for code in range(len(item_ids)))
        similar_MK, score_MK = top_k_factors(unit_MD, unit_MD, k, exclude=itself)
    row_R, place_R = np.nonzero(similar_MK >= 0)
    ids = pa.array(item_ids, pa.string())
    columns = [
        ids.take(row_R),
        (place_R + 1).astype(np.int32),
        ids.take(similar_MK[row_R, place_R]),
        score_MK[row_R, place_R].astype(np.float64),
    ]
    return pa.table(columns, schema=SIMILAR_ITEMS)


def _lists(
    models: Mapping[str, Model],
    shares: Mapping[str, float],
    popular: Popularity,
    *,
    histories: Histories,
    seen: ItemLists,
    k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, scores, speakers), each (B, K): -1 codes at the end of short lists.

    Speakers number the models of `shares` in order; the number after the last is the fallback.
    """
    fallback = len(shares)
    speaker_BK = np.full((len(histories), k), fallback)
    item_BK = np.full((len(histories), k), -1, np.int32)
    score_BK = np.full((len(histories), k), -np.inf)
    known_MB = [models[name].knows(histories) for name in shares]
    if np.any(known_MB):
        scores = [_scores(name, models[name], histories) for name in shares]
        for score_BN, known_B in zip(scores, known_MB, strict=True):
            score_BN[~known_B] = -np.inf
        total_BN, parts = blend(scores, list(shares.values()))
        item_BK, score_BK = top_k(total_BN, k, exclude=seen)
        score_BK = score_BK.astype(np.float64)
        adds_MBK = [
            np.where(_at(known_BN, item_BK), _at(part_BN, item_BK), -np.inf)
            for part_BN, known_BN in parts
        ]
        speaker_BK = np.where(item_BK >= 0, np.argmax(adds_MBK, axis=0), fallback)
    short_F = np.flatnonzero((item_BK < 0).any(axis=1))
    if len(short_F):
        popular_FN = _scores(popular.name, popular, histories)[short_F]
        item_BK[short_F], score_BK[short_F] = _filled(
            item_BK[short_F], score_BK[short_F], popular_FN, seen, short_F
        )
    return item_BK, score_BK, speaker_BK


def _filled(
    item_FK: np.ndarray,
    score_FK: np.ndarray,
    popular_FN: np.ndarray,
    seen: ItemLists,
    short_F: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Short lists with popular items in their empty places, scored below what is there."""
    count_F = (item_FK >= 0).sum(axis=1)
    left_FN = np.where(popular_FN > -np.inf, z_scores(popular_FN)[0], -np.inf)
    row, place = np.nonzero(item_FK >= 0)
    left_FN[row, item_FK[row, place]] = -np.inf
    exclude = ItemLists.of(seen.items[seen.offsets[row] : seen.offsets[row + 1]] for row in short_F)
    fill_FK, z_FK = top_k(left_FN, item_FK.shape[1], exclude=exclude)
    place_K = np.arange(item_FK.shape[1])
    from_FK = np.maximum(place_K - count_F[:, None], 0)
    empty_FK = place_K >= count_F[:, None]
    blended_F = count_F > 0
    last_F = score_FK[np.arange(len(score_FK)), count_F - 1] - _FILL_GAP
    first_F = np.where(fill_FK[:, 0] >= 0, z_FK[:, 0], 0.0)
    base_F = np.where(blended_F, last_F - first_F, 0.0)
    fill_score_FK = np.take_along_axis(z_FK, from_FK, axis=1) + base_F[:, None]
    return (
        np.where(empty_FK, np.take_along_axis(fill_FK, from_FK, axis=1), item_FK),
        np.where(empty_FK, fill_score_FK, score_FK),
    )


def _named(
    speakers: Sequence[tuple[str, Model]],
    histories: Histories,
    item_BK: np.ndarray,
    speaker_BK: np.ndarray,
) -> np.ndarray:
    """(B, K) codes of the history items that the reasons name, -1 for none."""
    named_BK = np.full(item_BK.shape, -1, np.int32)
    for number, (_, model) in enumerate(speakers):
        own_BK = np.where(speaker_BK == number, item_BK, -1)
        nearest_BK = nearest_in_history(model, histories, own_BK)
        named_BK = np.where(own_BK >= 0, nearest_BK, named_BK)
    return named_BK


def _neighbours(model: ItemKNN, k: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Top k of the stored neighbours of every item."""
    found = []
    for start in range(0, len(model.item_ids), batch):
        score_BM = model.similarity_MM[start : start + batch].toarray()
        score_BM[score_BM <= 0] = -np.inf
        found.append(top_k(score_BM, k))
    return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))


def _scores(name: str, model: Model, histories: Histories) -> np.ndarray:
    score_BN = model.score(histories)
    check_scores(score_BN, model=name, user_ids=histories.user_ids, item_ids=histories.catalogue)
    return score_BN


def _at(value_BN: np.ndarray, item_BK: np.ndarray) -> np.ndarray:
    """The values at the listed items; those at empty places mean nothing."""
    return np.take_along_axis(value_BN, np.maximum(item_BK, 0), axis=1)


def _shares(models: Mapping[str, Model], weights: Mapping[str, float]) -> dict[str, float]:
    """The models that count, by name, with weights that add up to 1."""
    missing = [name for name in models if name not in weights]
    if missing:
        raise CandidateError(
            f"no weight for model {', '.join(map(repr, missing))}; there are weights for "
            f"{', '.join(map(repr, weights)) or 'no model'}"
        )
    wrong = {name: value for name, value in weights.items() if not 0 <= value < np.inf}
    if wrong:
        name, value = next(iter(wrong.items()))
        raise CandidateError(f"the weight of {name!r} must be a number of at least 0, got {value}")
    present = {name: weights[name] for name in models if weights[name] > 0}
    if models and not present:
        raise CandidateError(
            f"all models have the weight 0 ({', '.join(map(repr, models))}); give one of them "
            "more, or none at all to recommend what is popular"
        )
    total = sum(present.values())
    return {name: value / total for name, value in present.items()}


def _check(
    histories: Histories, seen: ItemLists, titles: Sequence[str | None], *, k: int, batch: int
) -> None:
    if k < 1 or batch < 1:
        raise CandidateError(f"k and batch must be at least 1, got k={k} and batch={batch}")
    if len(seen) != len(histories):
        raise CandidateError(
            f"there are seen items of {len(seen)} users for {len(histories)} histories; both must "
            "be of the same users in the same order"
        )
    if len(titles) != len(histories.catalogue):
        raise CandidateError(
            f"there are {len(titles)} titles for {len(histories.catalogue)} items; give one for "
            "each item of the catalogue, None where it is unknown"
        )
