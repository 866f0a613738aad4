"""The frozen test set, and the evaluation of a model on it.

A test set is built once for a snapshot and then used for every model, so champion and challenger
answer for the same users, items and positions. Ranking is over the full catalogue: samples of
negatives do not even keep the order of two models (Krichene & Rendle, CACM 2022). Items the user
met before the test are left out; items a model does not know rank last. Equal scores rank by item
id, so the same scores always give the same numbers.

Shape suffixes: U users of the test set, B users of a batch, N items, K longest list length,
P (user, relevant item) pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import ClassVar

import numpy as np

from training import metrics
from training.bootstrap import bootstrap_mean
from training.histories import Histories, distinct
from training.models.base import Model
from training.snapshot import Snapshot
from training.topk import ItemLists, check_scores, top_k

GROUPS = ("new", "light", "heavy")
"""Users by their positives before the test, fewest first: each is in one of these."""

Members = Mapping[str, np.ndarray]
"""Group -> (U,) bool, who belongs to it; a user may be in several groups."""

LEAST_SHOWN = 20
"""Users of the smallest group that is shown: the mean of fewer could tell of one of them."""

_BY_RANK = {
    "precision": metrics.precision,
    "recall": metrics.recall,
    "ndcg": metrics.ndcg,
    "hit_rate": metrics.hit_rate,
}


class EmptyTestSetError(ValueError):
    """No user can be judged."""


@dataclass(frozen=True)
class TestSet:
    """Who is judged on what: fixed arrays that `digest` names."""

    __test__: ClassVar[bool] = False  # the name starts like a test class of pytest

    histories: Histories
    """What the U users did before the test."""
    relevant: ItemLists
    """Each user's positives in the test on items not seen before it; at least one."""
    seen: ItemLists
    """Each user's items of any event before the test, which no list may hold."""
    groups: Members
    """`GROUPS`, then those that were named."""
    positives: np.ndarray
    """(N,) int64: positives of each item before the test, of all users."""
    categories: np.ndarray
    """(N,) str: category of each item, or ""."""
    ks: tuple[int, ...]
    """List lengths judged, ascending."""
    digest: str
    """sha256 of all of the above, in hexadecimal."""

    @classmethod
    def build(
        cls,
        snapshot: Snapshot,
        *,
        ks: Sequence[int],
        light_below: int,
        new_below: int,
        named_groups: Mapping[str, Collection[str]] | None = None,
    ) -> TestSet:
        """The test set of a snapshot.

        Args:
            snapshot: Events of `[test_start, end)` are the test; all earlier ones are history.
            ks: List lengths to judge.
            light_below: Users with at least this many positives before the test are heavy.
            new_below: Users with fewer positives than this before the test are new.
            named_groups: Further groups of users, by the ids of their members.

        Raises:
            EmptyTestSetError: No user has a positive in the test on an item not seen before it.
            ValueError: Settings that contradict each other.
        """
        if not ks or min(ks) < 1 or not 0 <= new_below <= light_below:
            msg = (
                "a test set needs list lengths of at least 1 and 0 <= new_below <= light_below, "
                f"got ks={list(ks)}, new_below={new_below}, light_below={light_below}"
            )
            raise ValueError(msg)
        key_E = snapshot.users.astype(np.int64) << 32 | snapshot.items
        before_E = snapshot.timestamps < snapshot.test_start
        tested_E = snapshot.positives(snapshot.test_start, snapshot.end)
        relevant_P = np.setdiff1d(
            distinct(key_E[tested_E]), distinct(key_E[before_E]), assume_unique=True
        )
        if not len(relevant_P):
            msg = (
                f"none of the {tested_E.sum()} positives from test_start={snapshot.test_start} to "
                f"end={snapshot.end} (microseconds) is on an item that its user had not seen "
                "before: there is nothing to evaluate on. Make the test part longer, or check "
                "that events arrive"
            )
            raise EmptyTestSetError(msg)
        user_P, item_P = relevant_P >> 32, relevant_P & 0xFFFFFFFF
        users = distinct(user_P)
        histories = snapshot.histories(users, before=snapshot.test_start)
        liked_E = snapshot.positives(None, snapshot.test_start)
        liked_U = np.bincount(snapshot.users[liked_E], minlength=len(snapshot.user_ids))[users]
        parts = {
            "histories": histories,
            "relevant": ItemLists.from_pairs(np.searchsorted(users, user_P), item_P, len(users)),
            "seen": ItemLists.from_pairs(histories.rows(), histories.items, len(users)),
            "groups": {
                **groups_by_likes(liked_U, light_below=light_below, new_below=new_below),
                **members_of(snapshot.user_ids[users], named_groups or {}),
            },
            "positives": np.bincount(snapshot.items[liked_E], minlength=len(snapshot.catalogue)),
            "categories": snapshot.categories,
            "ks": tuple(sorted(set(ks))),
        }
        return cls(**parts, digest=_digest(parts))

    def __len__(self) -> int:
        """The number of users U."""
        return len(self.histories)


@dataclass(frozen=True)
class Evaluation:
    """What one model does on one test set."""

    model: str
    """The model's name."""
    test_set: TestSet
    per_user: dict[str, np.ndarray]
    """metric -> (U,) float64, users as in the test set; NaN where a metric has no value."""
    of_lists: dict[str, float]
    """metric -> value of all lists together (coverage, Gini), which has no value per user."""
    lists: np.ndarray
    """(U, K) int32 item codes, best first; -1 where the catalogue has no unseen item left."""


@dataclass(frozen=True)
class MetricRow:
    """One line of an evaluation report."""

    metric: str
    group: str
    """all, or a group of the test set."""
    value: float | None
    """Mean over the users; None without users."""
    low: float | None
    """Lower end of the interval of the mean; None for fewer than two users and whole lists."""
    high: float | None
    users: int
    """Users that the value is made of."""


def groups_by_likes(
    liked_U: np.ndarray, *, light_below: int, new_below: int
) -> dict[str, np.ndarray]:
    """Who is new, light or heavy by the number of positives; see `TestSet.build`."""
    code_U = (liked_U >= new_below) * 1 + (liked_U >= light_below)
    return {group: code_U == code for code, group in enumerate(GROUPS)}


def members_of(
    user_ids: np.ndarray, named_groups: Mapping[str, Collection[str]]
) -> dict[str, np.ndarray]:
    """Which of the U users are among the ids of each group."""
    return {
        group: np.isin(user_ids, np.array(sorted(ids), dtype=user_ids.dtype.type))
        for group, ids in named_groups.items()
    }


def evaluate(model: Model, test_set: TestSet, *, batch: int = 1024) -> Evaluation:
    """Ranks the whole catalogue for every user of the test set.

    Args:
        model: Scores the histories; -inf means an item that it does not know.
        test_set: Who is judged on what.
        batch: Users scored at a time; memory grows with `batch` times the catalogue, no more.

    Raises:
        ScoreError: The model gave a score without a rank (NaN, +inf), or a wrong shape.
    """
    users, items = len(test_set), len(test_set.histories.catalogue)
    lists_UK = np.empty((users, max(test_set.ks)), dtype=np.int32)
    hits_UK = np.empty(lists_UK.shape, dtype=bool)
    first_rank_U = np.empty(users, dtype=np.int64)
    for start in range(0, users, batch):
        part = slice(start, min(start + batch, users))
        histories = test_set.histories.batch(part.start, part.stop)
        relevant = test_set.relevant.batch(part.start, part.stop)
        seen = test_set.seen.batch(part.start, part.stop)
        score_BN = model.score(histories)
        check_scores(
            score_BN,
            model=model.name,
            user_ids=histories.user_ids,
            item_ids=histories.catalogue,
        )
        # The least number instead of -inf: unknown items rank last but are ranked, seen ones not.
        score_BN = np.maximum(score_BN, np.finfo(np.float32).min, dtype=np.float32)
        score_BN[seen.rows(), seen.items] = -np.inf
        lists_UK[part], _ = top_k(score_BN, lists_UK.shape[1])
        hits_UK[part] = _hits(lists_UK[part], relevant, items)
        first_rank_U[part] = _first_rank(score_BN, relevant)
    relevant_U = test_set.relevant.lengths()
    per_user = {"mrr": metrics.reciprocal_rank(first_rank_U)}
    of_lists = {}
    for k in test_set.ks:
        for name, metric in _BY_RANK.items():
            per_user[f"{name}@{k}"] = metric(hits_UK, relevant_U, k)
        top_UK = lists_UK[:, :k]
        per_user[f"category_diversity@{k}"] = metrics.category_diversity(
            top_UK, test_set.categories
        )
        per_user[f"novelty@{k}"] = metrics.novelty(top_UK, test_set.positives)
        per_user[f"mean_popularity@{k}"] = metrics.mean_popularity(top_UK, test_set.positives)
        of_lists[f"coverage@{k}"] = metrics.coverage(top_UK, items)
        of_lists[f"gini@{k}"] = metrics.gini(metrics.exposure(top_UK, items))
    return Evaluation(model.name, test_set, per_user, of_lists, lists_UK)


def summarise(
    evaluation: Evaluation, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> list[MetricRow]:
    """Means with bootstrap intervals over users: all, and each group of the test set apart.

    Users for whom a metric has no value are left out of its row, and `users` says how many
    remain. A group without users keeps its rows, with None for a value.
    """
    return group_means(
        evaluation.per_user,
        evaluation.of_lists,
        evaluation.test_set.groups,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def group_means(
    per_user: Mapping[str, np.ndarray],
    of_lists: Mapping[str, float],
    groups: Members,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[MetricRow]:
    """The rows of `summarise`, of any metrics of users and of whole lists.

    Args:
        per_user: metric -> (U,) float64, NaN where it has no value; at least one.
        of_lists: metric -> value of all lists together.
        groups: Of the users.
        resamples: Of the bootstrap over users.
        confidence: Of its intervals.
        seed: Of its draws.
    """
    users = len(next(iter(per_user.values())))
    members = {"all": np.ones(users, dtype=bool), **groups}
    rows = []
    for metric, value_U in per_user.items():
        for group, member_U in members.items():
            value_G = value_U[member_U & ~np.isnan(value_U)]
            mean = low = high = None
            if len(value_G):
                mean, low, high = bootstrap_mean(
                    value_G, resamples=resamples, confidence=confidence, seed=seed
                )
            if len(value_G) == 1:  # resampling one user says nothing about others
                low = high = None
            rows.append(MetricRow(metric, group, mean, low, high, len(value_G)))
    for metric, value in of_lists.items():
        rows.append(MetricRow(metric, "all", value, None, None, users))
    return rows


def groups_of(rows: Sequence[MetricRow]) -> tuple[str, ...]:
    """The groups that rows are of, in their order; "all" is none of them."""
    return tuple(dict.fromkeys(row.group for row in rows if row.group != "all"))


def shown(row: MetricRow) -> bool:
    """Whether a row has a value, of a group large enough to be shown outside the lake."""
    return row.value is not None and (row.group == "all" or row.users >= LEAST_SHOWN)


def named_values(rows: Sequence[MetricRow]) -> dict[str, float]:
    """An evaluation as flat numbers for a registry.

    Returns:
        `<metric>` is the mean over all users, `low/<metric>` and `high/<metric>` the ends of its
        interval, `<group>/<metric>` the mean of a group: MLflow draws what shares its beginning
        together, and there are more metrics than groups. Groups that are not `shown` are absent.
    """
    found = {}
    for row in filter(shown, rows):
        if row.group != "all":
            found[f"{row.group}/{row.metric}"] = row.value
            continue
        found[row.metric] = row.value
        if row.low is not None:
            found |= {f"low/{row.metric}": row.low, f"high/{row.metric}": row.high}
    return found


def _hits(lists_BK: np.ndarray, relevant: ItemLists, items: int) -> np.ndarray:
    """(B, K) bool: whether the item at each place is relevant; empty places are not."""
    key_BK = np.arange(len(lists_BK))[:, None] * items + lists_BK
    return (lists_BK >= 0) & np.isin(key_BK, relevant.rows() * items + relevant.items)


def _first_rank(score_BN: np.ndarray, relevant: ItemLists) -> np.ndarray:
    """(B,) int64: rank from 1 of the best placed relevant item among all unseen items."""
    row_P, first = relevant.rows(), relevant.offsets[:-1]
    score_P = score_BN[row_P, relevant.items]
    best_B = np.maximum.reduceat(score_P, first)
    # Of equal scores the lowest code ranks first.
    code_P = np.where(score_P == best_B[row_P], relevant.items, score_BN.shape[1])
    code_B = np.minimum.reduceat(code_P, first)
    ahead_B = (score_BN > best_B[:, None]).sum(axis=1)
    level_BN = score_BN == best_B[:, None]
    level_BN &= np.arange(score_BN.shape[1]) < code_B[:, None]
    return ahead_B + level_BN.sum(axis=1) + 1


def _digest(parts: Mapping[str, object]) -> str:
    """sha256 over the names, types and contents of all parts, whatever the machine."""
    digest = hashlib.sha256()
    for name, value in _arrays("", parts):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype.kind} {array.shape}\n".encode())
        # Strings as JSON: their width in an array depends on the longest of them.
        text = array.dtype.kind == "U"
        digest.update(json.dumps(array.tolist()).encode() if text else array.tobytes())
    return digest.hexdigest()


def _arrays(prefix: str, parts: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every array of some parts and of the records among them, by name."""
    for name, part in parts.items():
        if is_dataclass(part):
            yield from _arrays(f"{prefix}{name}.", vars(part))
        elif isinstance(part, Mapping):
            yield from _arrays(f"{prefix}{name}.", part)
        elif part is not None:
            yield prefix + name, part
