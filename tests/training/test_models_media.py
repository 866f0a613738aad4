"""Models with media: items they never met, files, bad input; the transformer's reactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reaction_world import COLD, HOUR, ITEMS, reaction_snapshot

from training.content import ItemContent
from training.histories import Histories, Marks, codes_in
from training.models import MODELS, FitContext, Model, load_model
from training.models.base import ModelConfigError, Moment
from training.models.transformer import Transformer
from training.reactions import ReactionSet, judge_reactions
from training.snapshot import Snapshot
from training.ties import Ties

COLD_ITEMS = [f"i{number:02d}" for number in range(ITEMS - COLD, ITEMS)]


NOWHERE, NO_TIES = np.array(["unknown"]), np.zeros((1, 3), np.float32)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return reaction_snapshot(users=100)


@pytest.fixture(scope="module")
def model(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder = tmp_path_factory.mktemp("fit")
    options = {"width": 16, "epochs": 30, "patience": 0, "batch_tokens": 100, "click_weight": 1.0}
    options |= {"learning_rate": 0.01}
    return Transformer.fit(snapshot, options, FitContext(seed=1, work_dir=folder, run_name="media"))


@pytest.fixture(scope="module")
def everyone(snapshot: Snapshot) -> Histories:
    return snapshot.histories(np.arange(len(snapshot.user_ids)), snapshot.test_start)


GRAPHS: dict[str, dict[str, Any]] = {
    "gnn": {"width": 16, "epochs": 30, "patience": 0, "batch_size": 256, "learning_rate": 0.03},
    "social_gnn": {
        "width": 16, "hidden": 16, "heads": 2, "epochs": 60, "patience": 0, "batch_size": 256,
        "learning_rate": 0.01, "dropout": 0.0, "predictor_dropout": 0.0,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["transformer", *GRAPHS])
def placing(
    request: pytest.FixtureRequest,
    model: Transformer,
    snapshot: Snapshot,
    tmp_path_factory: pytest.TempPathFactory,
) -> Model:
    """Each model that reads media."""
    if request.param == "transformer":
        return model
    folder = tmp_path_factory.mktemp("fit")
    options = GRAPHS[request.param] | {"content": True}
    context = FitContext(seed=1, work_dir=folder, run_name="media")
    return MODELS[request.param].fit(snapshot, options, context)


def test_items_nobody_met_are_ranked_by_their_media(
    placing: Model, snapshot: Snapshot, everyone: Histories, tmp_path: Path
):
    assert not set(COLD_ITEMS) & set(placing.item_ids)
    score_UN = placing.score(everyone)
    assert (score_UN[:, -COLD:] == -np.inf).all()
    assert snapshot.content is not None
    placing.save(tmp_path / "model")
    wider = load_model(tmp_path / "model").with_items(snapshot.content)
    assert set(COLD_ITEMS) <= set(wider.item_ids)
    wide_UN = wider.score(everyone)
    known = codes_in(snapshot.catalogue, placing.item_ids) >= 0
    np.testing.assert_allclose(wide_UN[:, known], score_UN[:, known], rtol=1e-4, atol=1e-4)
    # Half of the users like items of even number, the others those of odd number.
    cold_UC = wide_UN[:, -COLD:]
    even_U, odd_U = cold_UC[:, 0::2].mean(1), cold_UC[:, 1::2].mean(1)
    right_U = np.where(np.arange(len(cold_UC)) % 2 == 0, even_U > odd_U, odd_U > even_U)
    assert right_U.mean() > 0.9


def test_an_item_without_known_media_stays_unknown(placing: Model, snapshot: Snapshot):
    assert snapshot.content is not None
    none = {name: np.full(ITEMS, -1) for name in ("audio", "text")}
    assert placing.with_items(replace(snapshot.content, rows=none)) is placing
    nothing = ItemContent(np.array(["new"]), {}, {})
    assert placing.with_items(nothing) is placing


def test_media_of_another_encoder_are_refused(placing: Model):
    content = ItemContent(
        np.array(["new"]), {"text": np.array([0])}, {"text": np.ones((1, 7), np.float16)}
    )
    with pytest.raises(ModelConfigError) as error:
        placing.with_items(content)
    assert str(error.value) == (
        f"{placing.name} learnt text vectors of 8 numbers, but these have 7. Vectors of another "
        "encoder mean something else: train it anew."
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_read_media_only_where_the_option_says(
    name: str, snapshot: Snapshot, context: Callable[..., FitContext]
):
    kind = MODELS[name]
    assert [kind.reads_media({"content": given}) for given in (False, True)] == [False, True]
    model = kind.fit(snapshot, GRAPHS[name] | {"epochs": 1}, context())
    assert model.with_items(snapshot.content) is model


def test_likers_move_an_item_placed_by_its_media(placing: Model, snapshot: Snapshot):
    """Its media say even; three people of odd taste like it: it comes nearer to that taste."""
    assert snapshot.content is not None
    wider = placing.with_items(snapshot.content)
    item = ITEMS - COLD
    odd = np.arange(1, 100, 2)
    likes = np.stack([odd[:3], np.full(3, item)])
    ties = Ties(snapshot.user_ids, snapshot.catalogue, likes, np.empty((2, 0), int))
    tied = wider.with_ties(ties)
    if placing.name == "transformer":
        assert tied is wider, "which reads no graph"
        return
    everyone = snapshot.histories(np.arange(100), snapshot.valid_start)
    before_UN, after_UN = wider.score(everyone), tied.score(everyone)
    gain_U = after_UN[:, item] - before_UN[:, item]
    assert gain_U[1::2].mean() > gain_U[::2].mean() + 0.1
    others = np.arange(ITEMS) != item
    np.testing.assert_allclose(after_UN[:, others], before_UN[:, others], rtol=1e-5, atol=1e-6)


def test_a_saved_model_answers_the_same(
    model: Transformer, snapshot: Snapshot, everyone: Histories, tmp_path: Path
):
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.score(everyone), model.score(everyone))
    assert snapshot.content is not None
    np.testing.assert_array_equal(
        again.with_items(snapshot.content).score(everyone),
        model.with_items(snapshot.content).score(everyone),
    )
    rows, items = np.array([0, 1]), np.array([3, 4])
    moment = Moment(
        np.array([-1, HOUR]),
        np.array(["tv", "unknown"]),
        np.array(["home", "moon"]),
        np.array([[0, 0, 0], [1, 0.5, 2]], np.float32),
    )
    np.testing.assert_array_equal(
        again.reactions(everyone, rows, items, moment),
        model.reactions(everyone, rows, items, moment),
    )


def test_reactions_are_foreseen(model: Transformer, snapshot: Snapshot):
    """Whoever knows the world: a click is 90 % likely by day and fit, and else impossible."""
    earlier = replace(snapshot, test_start=snapshot.valid_start, end=snapshot.test_start)
    reactions = ReactionSet.build(earlier)
    found = {name: value for name, (value, _) in judge_reactions(model, reactions).items()}
    assert found["click_auc"] > 0.8  # the best there is has 0.97
    assert found["watch_mae"] < 0.1
    assert found["rating_mae"] < 0.12


def test_ties_tell_what_is_taken_up(snapshot: Snapshot, context: Callable[..., FitContext]):
    """Nothing but what followed authors publish is taken up, and no number says who they are."""
    assert snapshot.marks is not None
    taken = np.unique(_pairs(snapshot)[snapshot.strengths > 0])
    followed = np.isin(_pairs(snapshot), taken)
    earlier = replace(
        snapshot,
        marks=replace(snapshot.marks, followed=followed),
        test_start=snapshot.valid_start,
        end=snapshot.test_start,
    )
    options = {"width": 8, "epochs": 6, "patience": 0, "batch_tokens": 100, "click_weight": 1.0}
    model = Transformer.fit(earlier, options | {"learning_rate": 0.01}, context())
    found = judge_reactions(model, ReactionSet.build(earlier))
    assert found["click_auc"][0] > 0.99  # without ties at most 0.97


def _pairs(snapshot: Snapshot) -> np.ndarray:
    """(E,) a number of each event's user and item."""
    return snapshot.users * np.int64(ITEMS) + snapshot.items


def test_there_is_no_answer_about_an_unknown_item(model: Transformer, everyone: Histories):
    moment = Moment(np.array([-1]), NOWHERE, NOWHERE, NO_TIES)
    answer_XR = model.reactions(everyone, np.array([0]), np.array([ITEMS - 1]), moment)
    assert np.isnan(answer_XR).all()


def test_a_model_of_likes_alone_has_no_answers(planted: Snapshot, fitted: dict[str, Any]):
    histories = planted.histories(np.arange(2), planted.test_start)
    moment = Moment(np.array([-1]), NOWHERE, NOWHERE, NO_TIES)
    for model in fitted.values():
        assert model.reactions(histories, np.array([0]), np.array([0]), moment) is None


@pytest.mark.parametrize(
    "events",
    [
        [("a", "x", 1), ("b", "x", 2), ("b", "x", 120)],
        [("a", "x", 1), *[("b", f"i{n}", n) for n in range(5)]],
    ],
    ids=["a catalogue of one item", "a user with one event"],
)
def test_tiny_worlds_are_learnt(
    events: list[Any],
    make_snapshot: Callable[..., Snapshot],
    context: Callable[..., FitContext],
):
    snapshot = make_snapshot(events)
    model = Transformer.fit(snapshot, {"width": 4, "heads": 1, "epochs": 1}, context())
    score_UN = model.score(snapshot.histories(np.arange(2), snapshot.end))
    assert np.isfinite(score_UN).all()


def test_a_history_of_100_000_events_is_learnt_and_read(context: Callable[..., FitContext]):
    number, items = 100_000, 50
    rng = np.random.default_rng(0)
    ids = np.array([f"i{place:02d}" for place in range(items)])
    ones = np.ones(number + 1, np.float32)
    snapshot = Snapshot(
        catalogue=ids,
        user_ids=np.array(["few", "many"]),
        users=np.r_[0, np.ones(number)].astype(np.int32),
        items=rng.integers(items, size=number + 1).astype(np.int32),
        timestamps=np.r_[0, np.arange(number)],
        strengths=ones,
        labels=ones,
        valid_start=number,
        test_start=number,
        end=number,
        follows=np.empty((2, 0), np.int32),
        categories=np.full(items, ""),
        created_at=np.zeros(items, np.int64),
        marks=Marks.unknown(number + 1),
    )
    options = {"width": 4, "heads": 1, "layers": 1, "epochs": 1, "max_length": 200}
    model = Transformer.fit(snapshot, options | {"batch_tokens": 20_000}, context())
    assert model.fit_facts["train_positives"] == number + 1
    assert np.isfinite(model.score(snapshot.histories(np.arange(2), number))).all()


def test_a_warm_start_knows_what_was_learnt(
    model: Transformer, snapshot: Snapshot, context: Callable[..., FitContext]
):
    """A day later: the losses go on where they were, and what is new gets a row of its own."""
    later = replace(snapshot, valid_start=snapshot.test_start, test_start=snapshot.end)
    options = {"width": 16, "epochs": 1, "batch_tokens": 500, "learning_rate": 1e-6}
    lines: list[str] = []
    cold = Transformer.fit(later, options, context())
    warm = Transformer.fit(
        later, options | {"warm_start": True}, context(start_from=model, progress=lines.append)
    )
    assert warm.fit_facts["last_loss"] < 0.9 * cold.fit_facts["last_loss"]
    assert lines[0] == "transformer goes on from an earlier model: 24 items known to it"
    known = codes_in(warm.item_ids, model.item_ids)
    np.testing.assert_allclose(
        warm.network.items.embedding.weight.detach()[:-1][known >= 0],
        model.network.items.embedding.weight.detach()[:-1][known[known >= 0]],
        atol=1e-4,
    )


def test_a_warm_start_from_another_shape_is_a_cold_one(
    model: Transformer, snapshot: Snapshot, context: Callable[..., FitContext]
):
    lines: list[str] = []
    options = {"width": 8, "epochs": 1, "batch_tokens": 500}
    warm = Transformer.fit(
        snapshot, options | {"warm_start": True}, context(start_from=model, progress=lines.append)
    )
    cold = Transformer.fit(snapshot, options, context())
    assert lines[0] == "transformer starts afresh: the earlier model has another shape"
    np.testing.assert_array_equal(warm.item_vectors(), cold.item_vectors())
