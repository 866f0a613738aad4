"""Candidate lists for all users, blended from several models, in bounded memory.

Scores of different models have different units, so each model's scores of a user are turned into
z-scores over the catalogue before they are blended: multiplying a model's scores by ten, or adding
to them, changes nothing. An item unknown to a model gets 0 from it, which is the model's mean. A
model that gives a user one and the same score for all items says nothing about that user and is
treated as if it knew no item.

Popularity serves whoever has no positive in the history, and fills lists that the models leave
short. Both are marked as such.

Shape suffixes: U users, B users of a batch, N items, M models, K list length, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from training.models.base import Model
from training.models.item_knn import ItemKNN
from training.models.popularity import Popularity
from training.reasons import nearest_in_history, popular_text, reason_texts, unit_vectors
from training.snapshot import Histories
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
    batch: int = 1024,
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
        batch: Users at a time; memory grows with `batch` times the catalogue times the models.
        progress: Called after each batch with the number of users done.

    Yields:
        Tables of the schema `CANDIDATES`, sorted by user as given and rank 1 to k, items unique
        in a list. `source` is the model that adds most to the item's score, or popularity.

    Raises:
        CandidateError: Settings that do not fit together; raised before the first table.
        ScoreError: A model gave a score that is NaN or +inf.
    """
    weight_M = _shares(models, weights)
    _check(models, histories, seen, k, popular, versions, titles)
    return (
        _batch(
            models,
            weight_M,
            histories.batch(start, start + batch),
            seen.batch(start, start + batch),
            k,
            popular,
            versions,
            titles,
            lambda stop=min(start + batch, len(histories)): progress(stop),
        )
        for start in range(0, len(histories), batch)
    )


def blend(score_MBN: Sequence[np.ndarray], weight_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of z-scores.

    Args:
        score_MBN: One (B, N) array of raw scores for each model; -inf for unknown items.
        weight_M: Weights that add up to 1.

    Returns:
        The blended scores (B, N), -inf where no model knows the item; and what each model adds to
        them (M, B, N), -inf where it does not know the item.
    """
    part_MBN = np.stack([z_scores(score_BN) for score_BN in score_MBN])
    known_MBN = part_MBN > -np.inf
    np.multiply(part_MBN, weight_M[:, None, None], out=part_MBN, where=known_MBN)
    total_BN = np.add.reduce(part_MBN, axis=0, where=known_MBN)
    total_BN[~known_MBN.any(axis=0)] = -np.inf
    return total_BN, part_MBN


def z_scores(score_BN: np.ndarray) -> np.ndarray:
    """Each row minus its mean, over its standard deviation, both over the finite scores.

    Returns:
        (B, N) float32; -inf where the score is, and in whole rows whose scores are all the same.
    """
    known_BN = score_BN > -np.inf
    count_B = np.maximum(known_BN.sum(axis=1), 1)
    z_BN = np.where(known_BN, score_BN, np.float32(0.0))
    mean_B = z_BN.sum(axis=1, dtype=np.float64) / count_B
    np.subtract(z_BN, mean_B[:, None].astype(np.float32), out=z_BN, where=known_BN)
    deviation_B = np.sqrt(np.einsum("bn,bn->b", z_BN, z_BN) / count_B)
    says_B = deviation_B > 0
    z_BN /= np.where(says_B, deviation_B, 1.0).astype(np.float32)[:, None]
    z_BN[~(known_BN & says_B[:, None])] = -np.inf
    return z_BN
