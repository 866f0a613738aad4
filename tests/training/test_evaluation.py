"""The test set and the evaluation, on worlds small enough to rank by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from pipelines.judging import USER_GROUPS
from training.bootstrap import bootstrap_mean
from training.evaluation import (
    GROUPS,
    EmptyTestSetError,
    MetricRow,
    TestSet,
    evaluate,
    named_values,
    summarise,
)
from training.histories import Histories
from training.models import FitContext
from training.models.base import Model
from training.models.item_knn import ItemKNN
from training.models.popularity import Popularity
from training.snapshot import Snapshot
from training.topk import ItemLists, ScoreError

VALID, TEST, END = 100, 200, 300
SETTINGS = {"ks": (1, 2), "light_below": 3, "new_below": 1}


def _snapshot(events: list[tuple[str, str, int, float]], items: str = "abcdef") -> Snapshot:
    """A world of (user, item, microsecond, label) events; the strength equals the label."""
    catalogue, user_ids = np.array(list(items)), np.unique([event[0] for event in events])
    events = sorted(events, key=lambda event: (event[0], event[2]))
    labels = np.array([event[3] for event in events], np.float32)
    return Snapshot(
        catalogue=catalogue,
        user_ids=user_ids,
        users=np.searchsorted(user_ids, [event[0] for event in events]).astype(np.int32),
        items=np.searchsorted(catalogue, [event[1] for event in events]).astype(np.int32),
        timestamps=np.array([event[2] for event in events], np.int64),
        strengths=labels,
        labels=labels,
        valid_start=VALID,
        test_start=TEST,
        end=END,
        follows=np.empty((2, 0), np.int32),
        categories=np.array([("x", "y")[code % 2] for code in range(len(catalogue))]),
        created_at=np.zeros(len(catalogue), np.int64),
    )


class _Table(Model):
    """A model with one given row of scores for everybody, or one for each user."""

    name = "table"

    def __init__(self, item_ids: np.ndarray, scores: dict[str, list[float]]) -> None:
        super().__init__(None, item_ids)
        self.scores = scores

    def _score(self, histories: Histories) -> np.ndarray:
        rows = [self.scores.get(str(user), self.scores.get("*")) for user in histories.user_ids]
        return np.array(rows, np.float32)

    _fit = _tensors = _restore = None


EVENTS = [
    # ann: heavy; saw a, b, c; the test brings d (liked), a (liked again), e (not liked)
    ("ann", "a", 10, 1.0),
    ("ann", "b", 110, 1.0),
    ("ann", "c", 199, 1.0),
    ("ann", "d", 200, 1.0),
    ("ann", "a", 210, 1.0),
    ("ann", "e", 220, 0.0),
    # bob: light by one positive, b was only shown to him; then b, e and f
    ("bob", "a", 20, 1.0),
    ("bob", "b", 30, 0.0),
    ("bob", "b", 230, 1.0),
    ("bob", "e", 240, 1.0),
    ("bob", "f", 299, 1.0),
    # cat: new, without any event before the test
    ("cat", "a", 250, 1.0),
    # dan: only before the test; eva: only what she saw before
    ("dan", "a", 50, 1.0),
    ("eva", "b", 60, 1.0),
    ("eva", "b", 260, 1.0),
]


def _lists(lists: ItemLists) -> list[str]:
    return ["".join("abcdef"[code] for code in row) for row in np.split(lists.items, lists.offsets)]


def test_the_test_set_holds_first_meetings_of_the_test_part() -> None:
    test_set = TestSet.build(_snapshot(EVENTS), **SETTINGS)
    assert test_set.histories.user_ids.tolist() == ["ann", "bob", "cat"]
    assert test_set.histories.as_of == TEST
    assert test_set.histories.lengths().tolist() == [3, 2, 0]
    assert _lists(test_set.relevant)[1:4] == ["d", "ef", "a"]
    assert _lists(test_set.seen)[1:4] == ["abc", "ab", ""]
    assert {name: members.tolist() for name, members in test_set.groups.items()} == {
        "new": [False, False, True],
        "light": [False, True, False],
        "heavy": [True, False, False],
    }
    assert test_set.positives.tolist() == [3, 2, 1, 0, 0, 0]
    assert len(test_set) == 3


@pytest.mark.parametrize(
    ("moment", "relevant"), [(199, False), (200, True), (299, True), (300, False)]
)
def test_the_test_part_is_half_open(moment, relevant) -> None:
    events = [("ann", "a", 250, 1.0), ("bob", "b", moment, 1.0)]
    users = TestSet.build(_snapshot(events), **SETTINGS).histories.user_ids.tolist()
    assert ("bob" in users) == relevant


def test_named_groups_may_overlap_others_and_hold_strangers() -> None:
    named = {"women": {"cat", "ann", "eva", "zoe"}, "nobody": set()}
    test_set = TestSet.build(_snapshot(EVENTS), **SETTINGS, named_groups=named)
    assert list(test_set.groups) == ["new", "light", "heavy", "women", "nobody"]
    assert test_set.groups["women"].tolist() == [True, False, True]
    assert test_set.groups["nobody"].tolist() == [False, False, False]
    rows = {
        (row.metric, row.group): row
        for row in summarise(
            evaluate(_Table(test_set.histories.catalogue, {"*": [0.0] * 6}), test_set)
        )
    }
    assert rows["mrr", "women"].users == 2
    assert rows["mrr", "nobody"] == MetricRow("mrr", "nobody", None, None, None, 0)
    plain = TestSet.build(_snapshot(EVENTS), **SETTINGS)
    assert test_set.digest != plain.digest


def test_a_spec_knows_the_groups_that_all_users_are_in() -> None:
    assert USER_GROUPS == GROUPS


def test_the_digest_names_the_set() -> None:
    def digest(events: list, **changes: object) -> str:
        return TestSet.build(_snapshot(events), **{**SETTINGS, **changes}).digest

    base = digest(EVENTS)
    assert base == digest(EVENTS[::-1])
    assert base == digest([*EVENTS, ("ann", "f", 280, 0.0)])  # no positive: the same set
    assert len(base) == 64
    others = [
        digest([*EVENTS, ("ann", "f", 280, 1.0)]),
        digest([*EVENTS, ("bob", "c", 40, 0.0)]),
        digest([("zoe" if event[0] == "cat" else event[0], *event[1:]) for event in EVENTS]),
        digest(EVENTS, ks=(1, 3)),
        digest(EVENTS, light_below=1),
    ]
    assert len({base, *others}) == 6


def test_a_window_without_anything_to_find_is_refused() -> None:
    events = [("ann", "a", 10, 1.0), ("ann", "a", 210, 1.0), ("ann", "b", 220, 0.0)]
    with pytest.raises(EmptyTestSetError) as error:
        TestSet.build(_snapshot(events), **SETTINGS)
    assert str(error.value) == (
        "none of the 1 positives from test_start=200 to end=300 (microseconds) is on an item "
        "that its user had not seen before: there is nothing to evaluate on. Make the test part "
        "longer, or check that events arrive"
    )


@pytest.mark.parametrize(
    "changes", [{"ks": ()}, {"ks": (0, 5)}, {"new_below": 4}, {"new_below": -1}]
)
def test_settings_that_contradict_each_other_are_refused(changes) -> None:
    settings = {**SETTINGS, **changes}
    with pytest.raises(ValueError) as error:
        TestSet.build(_snapshot(EVENTS), **settings)
    assert str(error.value) == (
        "a test set needs list lengths of at least 1 and 0 <= new_below <= light_below, got "
        f"ks={list(settings['ks'])}, new_below={settings['new_below']}, "
        f"light_below={settings['light_below']}"
    )


def test_one_evaluation_worked_out_by_hand() -> None:
    test_set = TestSet.build(_snapshot(EVENTS), **SETTINGS)
    # Everybody: a > b > c > d > f, and e is unknown. Unseen: ann d f e, bob c d f e, cat all.
    model = _Table(np.array(list("abcdf")), {"*": [5, 4, 3, 2, 1]})
    evaluation = evaluate(model, test_set)
    assert ["".join("abcdef"[code] for code in row) for row in evaluation.lists] == [
        "df",
        "cd",
        "ab",
    ]
    expected = {
        "mrr": [1.0, 1 / 3, 1.0],
        "precision@1": [1.0, 0.0, 1.0],
        "precision@2": [0.5, 0.0, 0.5],
        "recall@1": [1.0, 0.0, 1.0],
        "recall@2": [1.0, 0.0, 1.0],
        "ndcg@1": [1.0, 0.0, 1.0],
        "ndcg@2": [1.0, 0.0, 1.0],
        "hit_rate@1": [1.0, 0.0, 1.0],
        "hit_rate@2": [1.0, 0.0, 1.0],
        "category_diversity@2": [0.0, 1.0, 1.0],  # a, c, e are of category x, b, d, f of y
        "mean_popularity@2": [0.0, 0.5, 2.5],
        "novelty@1": -np.log2(np.array([1, 2, 4]) / 12),
    }
    for metric, value_U in expected.items():
        np.testing.assert_allclose(evaluation.per_user[metric], value_U, err_msg=metric)
    assert evaluation.of_lists["coverage@1"] == 3 / 6
    assert evaluation.of_lists["coverage@2"] == 5 / 6
    assert evaluation.of_lists["gini@1"] == pytest.approx(0.5)
    assert evaluation.model == "table"


def test_unknown_items_rank_last_by_id_and_seen_ones_not_at_all() -> None:
    test_set = TestSet.build(_snapshot(EVENTS), ks=(6,), light_below=3, new_below=1)
    evaluation = evaluate(_Table(np.array(["c", "f"]), {"*": [1.0, 2.0]}), test_set)
    codes = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, ".": -1}
    ranked = ["fde...", "fcde..", "fcabde"]
    assert evaluation.lists.tolist() == [[codes[mark] for mark in row] for row in ranked]
    np.testing.assert_allclose(evaluation.per_user["mrr"], [1 / 2, 1 / 1, 1 / 3])


def test_equal_scores_rank_by_item_id() -> None:
    test_set = TestSet.build(_snapshot(EVENTS), ks=(6,), light_below=3, new_below=1)
    evaluation = evaluate(_Table(np.array(list("abcdef")), {"*": [0.0] * 6}), test_set)
    assert evaluation.lists[2].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(evaluation.per_user["mrr"], [1.0, 1 / 3, 1.0])


def _random_world(seed: int, users: int = 60, items: int = 40) -> Snapshot:
    rng = np.random.default_rng(seed)
    names = [f"i{code:02d}" for code in range(items)]
    events = [
        (f"u{rng.integers(users):02d}", names[min(int(rng.exponential(8)), items - 1)], time, label)
        for time, label in zip(
            rng.choice(END, 200, replace=False), rng.random(200) < 0.7, strict=True
        )
    ]
    snapshot = _snapshot([(u, "a", t, float(y)) for u, _, t, y in events], "a")
    order = sorted(range(len(events)), key=lambda row: (events[row][0], events[row][2]))
    return dataclasses.replace(
        snapshot,
        catalogue=np.array(names),
        items=np.array([names.index(events[row][1]) for row in order], np.int32),
        categories=np.array(["x"] * items),
        created_at=np.zeros(items, np.int64),
    )


def test_a_random_world_is_ranked_as_a_plain_loop_ranks_it() -> None:
    snapshot = _random_world(4)
    test_set = TestSet.build(snapshot, ks=(1, 5, 10), light_below=3, new_below=1)
    model = ItemKNN.fit(
        snapshot, {"shrinkage": 1.0}, FitContext(seed=1, work_dir=None, run_name="")
    )
    evaluation = evaluate(model, test_set, batch=7)
    assert len(test_set) > 20
    for row in range(len(test_set)):
        score_N = model.score(test_set.histories.batch(row, row + 1))[0]
        seen = set(test_set.seen.batch(row, row + 1).items.tolist())
        relevant = set(test_set.relevant.batch(row, row + 1).items.tolist())
        order = [code for code in np.lexsort((np.arange(40), -score_N)) if code not in seen]
        assert evaluation.lists[row].tolist() == order[:10]
        rank = 1 + min(order.index(code) for code in relevant)
        assert evaluation.per_user["mrr"][row] == 1 / rank
        hits = [code in relevant for code in order]
        gain = ndcg_score([hits], [-np.arange(len(order))], k=5)
        assert evaluation.per_user["ndcg@5"][row] == pytest.approx(gain, abs=1e-12)
        assert evaluation.per_user["recall@10"][row] == sum(hits[:10]) / len(relevant)


def test_the_batch_size_changes_nothing() -> None:
    snapshot = _random_world(6)
    test_set = TestSet.build(snapshot, ks=(3, 8), light_below=3, new_below=1)
    model = Popularity.fit(
        snapshot, {"window_days": 1.0}, FitContext(seed=1, work_dir=None, run_name="")
    )
    whole = evaluate(model, test_set)
    for batch in (1, 5, 1000):
        part = evaluate(model, test_set, batch=batch)
        np.testing.assert_array_equal(part.lists, whole.lists)
        assert part.of_lists == whole.of_lists
        for metric, value_U in whole.per_user.items():
            np.testing.assert_array_equal(part.per_user[metric], value_U)


def test_scores_without_a_rank_stop_the_evaluation() -> None:
    test_set = TestSet.build(_snapshot(EVENTS), **SETTINGS)
    rows = {"*": [1.0] * 6, "bob": [1.0, float("nan"), 1.0, 1.0, 1.0, 1.0]}
    with pytest.raises(ScoreError) as error:
        evaluate(_Table(np.array(list("abcdef")), rows), test_set)
    assert str(error.value) == (
        "model 'table' scored nan for user 'bob' and item 'b' (1 such scores); a score must be a "
        "finite number, or -inf for an item that the model does not know"
    )


def test_the_summary_has_a_row_for_each_metric_and_group_with_intervals() -> None:
    snapshot = _random_world(5)
    test_set = TestSet.build(snapshot, ks=(5,), light_below=3, new_below=1)
    model = Popularity.fit(
        snapshot, {"window_days": 1.0}, FitContext(seed=1, work_dir=None, run_name="")
    )
    evaluation = evaluate(model, test_set)
    rows = {
        (row.metric, row.group): row
        for row in summarise(evaluation, resamples=200, confidence=0.9, seed=3)
    }
    value_U = evaluation.per_user["recall@5"]
    for group in ("all", "new", "light", "heavy"):
        value_G = value_U if group == "all" else value_U[test_set.groups[group]]
        mean, low, high = bootstrap_mean(value_G, resamples=200, confidence=0.9, seed=3)
        assert rows["recall@5", group] == MetricRow(
            "recall@5", group, mean, low, high, len(value_G)
        )
    assert rows["coverage@5", "all"] == MetricRow(
        "coverage@5", "all", evaluation.of_lists["coverage@5"], None, None, len(test_set)
    )
    assert ("coverage@5", "new") not in rows
    assert len(rows) == 4 * len(evaluation.per_user) + len(evaluation.of_lists)


def test_groups_of_no_user_and_of_one_user_have_no_interval() -> None:
    events = [event for event in EVENTS if event[0] in {"ann", "cat"}]
    test_set = TestSet.build(_snapshot(events), **SETTINGS)
    evaluation = evaluate(_Table(np.array(list("abcdef")), {"*": [0.0] * 6}), test_set)
    rows = {(row.metric, row.group): row for row in summarise(evaluation, resamples=50)}
    assert rows["mrr", "light"] == MetricRow("mrr", "light", None, None, None, 0)
    assert rows["mrr", "new"] == MetricRow("mrr", "new", 1.0, None, None, 1)
    # A list of one item has no pairs, so nobody has a diversity at 1.
    assert rows["category_diversity@1", "all"].users == 0
    assert rows["category_diversity@2", "all"].users == 2


def test_values_are_named_by_metric_end_and_group_from_20_users_on() -> None:
    rows = [
        MetricRow("ndcg@5", "all", 0.3, 0.2, 0.4, 5),
        MetricRow("ndcg@5", "new", 0.1, 0.0, 0.2, 19),
        MetricRow("ndcg@5", "light", 0.2, 0.1, 0.3, 20),
        MetricRow("ndcg@5", "heavy", None, None, None, 0),
        MetricRow("coverage@5", "all", 0.7, None, None, 5),
    ]
    assert named_values(rows) == {
        "ndcg@5": 0.3,
        "low/ndcg@5": 0.2,
        "high/ndcg@5": 0.4,
        "light/ndcg@5": 0.2,
        "coverage@5": 0.7,
    }
