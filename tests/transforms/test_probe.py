"""The leak probe's statistics: planted leaks are found, honest columns are not, over many worlds."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.probe import Log, column_leaks, feature_leaks, later_rows, previous_values

SEEDS = range(20)
ITEMS, USERS, EVENTS = 400, 300, 12_000


def world(seed):
    """Items of drifting popularity and honest columns that bear on it; half the events are later."""
    random = np.random.default_rng(seed)
    quality = random.normal(size=ITEMS)
    age_days = random.exponential(40, ITEMS)
    honest = {
        "quality_hint": 0.35 * quality + random.normal(size=ITEMS),
        "duration": random.lognormal(3, 1, ITEMS),
        "age_days": age_days,
        "author": random.integers(0, 50, ITEMS).astype(float),
        "constant": np.ones(ITEMS),
        "sparse": np.where(random.random(ITEMS) < 0.9, np.nan, random.random(ITEMS)),
        "genre": random.choice(np.array(list("abcdef"), object), ITEMS),
        "free text": np.array([f"text {n}" for n in range(ITEMS)], object),
        "empty": np.full(ITEMS, None, object),
    }
    drift = random.normal(size=ITEMS)
    items = []
    for part in range(2):
        appeal = np.exp(quality + part * drift - 0.01 * age_days)
        items.append(random.choice(ITEMS, EVENTS // 2, p=appeal / appeal.sum()))
    ids = np.concatenate(items)
    taste = random.beta(2, 2, ITEMS)
    log = Log(
        ids=ids, others=random.integers(0, USERS, EVENTS), times=np.arange(EVENTS),
        positives=random.random(EVENTS) < taste[ids], cut=EVENTS // 2,
        known=np.ones(ITEMS, bool), noun="items",
    )  # fmt: skip
    return honest, log, random


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_leaks_are_found_and_honest_columns_are_not(seed):
    honest, log, random = world(seed)
    assert column_leaks(honest, log) == []
    total = np.bincount(log.ids, minlength=ITEMS).astype(float)
    liked = np.bincount(log.ids, weights=log.positives, minlength=ITEMS)
    planted = {
        # A mean over a larger audience than ours, as KuaiRand's counters are.
        "views": total * random.lognormal(0, 0.5, ITEMS),
        "rank": -total,
        "later views": log.later_counts(),
        "rating": np.where(total > 0, liked / np.maximum(total, 1), np.nan),
        "tier": np.array(["low", "mid", "high"], object)[np.digitize(total, [10, 40])],
        "few views": np.floor(total * random.lognormal(0, 0.9, ITEMS) / 20),
    }
    found = {leak.column: leak.kind for leak in column_leaks(honest | planted, log)}
    assert found == {
        "views": "popularity", "rank": "popularity", "later views": "popularity",
        "tier": "popularity", "rating": "taste", "few views": found.get("few views"),
    }  # fmt: skip
    assert found["few views"] in {"popularity", "companion"}


def test_evidence_is_in_words():
    _, log, _ = world(1)
    total = np.bincount(log.ids, minlength=ITEMS).astype(float)
    [leak] = column_leaks({"views": total}, log)
    assert leak.evidence == (
        f"orders 400 items as later events do (rank correlation {leak.strength:.2f})"
    )


def test_too_few_ids_prove_nothing():
    _, log, _ = world(1)
    few = Log(
        log.ids, log.others, log.times, log.positives, log.cut, np.arange(ITEMS) < 99, "items"
    )
    assert column_leaks({"views": few.later_counts()}, few) == []


def test_rows_written_after_their_use():
    _, log, random = world(2)
    first = np.full(ITEMS, np.inf)
    np.minimum.at(first, log.ids, log.times)
    created = np.where(np.isfinite(first), first, 0) - 1.0
    updated = np.where(random.random(ITEMS) < 0.5, created + 10, created)
    [leak] = later_rows({"created_at": created, "updated_at": updated}, log)
    assert (leak.column, leak.kind) == ("updated_at", "later_row")
    assert leak.evidence == f"lies after the first event of {leak.strength:.0%} of the items"


def examples(seed, rows=8000):
    """Likes of users whose past likes count; the honest feature sees only earlier ones."""
    random = np.random.default_rng(seed)
    owner = random.integers(0, 1500, rows)
    labels = random.random(rows) < random.beta(2, 3, 1500)[owner]
    before, after = np.zeros(rows), np.zeros(rows)
    likes, seen = np.zeros(1500), np.zeros(1500)
    for row in range(rows):
        one = owner[row]
        before[row] = likes[one] / max(1, seen[one])
        likes[one] += labels[row]
        seen[one] += 1
        after[row] = likes[one] / seen[one]
    return owner, np.arange(rows), labels, before, after, random


@pytest.mark.parametrize("seed", SEEDS)
def test_features_that_see_their_own_label(seed):
    owner, times, labels, before, after, random = examples(seed)
    features = {
        "like_rate": before,
        "own_like_rate": after,
        "label": labels + random.normal(0, 0.2, len(labels)),
        "noisy_label": labels + random.normal(0, 1.0, len(labels)),
        "noise": random.random(len(labels)),
        "missing": np.full(len(labels), np.nan),
    }
    found = feature_leaks(features, dict.fromkeys(features, owner), times, labels)
    assert {leak.column: leak.kind for leak in found} == {
        "own_like_rate": "own_event", "label": "label", "noisy_label": "own_event",
    }  # fmt: skip


def test_the_value_at_the_moment_before():
    owners = np.array([7, 8, 7, 7, 7, 8])
    times = np.array([1, 1, 2, 2, 3, 0])
    values = np.array([10.0, 20.0, 30.0, 31.0, 40.0, 50.0])
    before = previous_values(values, owners, times)
    # Two rows of one moment have the same past; which of them is the past of the next is free.
    assert np.isnan(before[[0, 5]]).all()
    assert before[1:5].tolist() == [50.0, 10.0, 10.0, 31.0]
