"""What every model must do, over the planted world: a new model in MODELS cannot escape."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from training.models import MODELS, FitContext, Model, ModelConfigError, NothingToLearn, load_model
from training.models.base import parse_config
from training.models.files import ModelFileError, read_model, vocabulary_digest
from training.snapshot import Histories, Snapshot

HOUR = 3_600_000_000
CONFIGS = Path(__file__).parents[2] / "configs" / "models"
LEARNT = sorted(set(MODELS) - {"popularity"})

Context = Callable[..., FitContext]


@pytest.fixture(scope="module")
def fitted(
    planted: Snapshot, debug_config: Callable[[str], dict[str, Any]], tmp_path_factory: Any
) -> dict[str, Model]:
    """Every model fitted once on the planted world."""
    models = {}
    for name, model in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        models[name] = model.fit(
            planted, debug_config(name), FitContext(seed=42, work_dir=folder, run_name="shared")
        )
    return models


@pytest.fixture(scope="module")
def everyone(planted: Snapshot) -> Histories:
    return planted.histories(np.arange(len(planted.user_ids)), planted.test_start)


def with_history(histories: Histories, user: str, items: list[str]) -> Histories:
    """One user with these likes, an hour apart, just before the moment of other histories."""
    codes = np.searchsorted(histories.catalogue, items).astype(np.int32)
    times = histories.as_of - HOUR * np.arange(len(items), 0, -1)
    return Histories(
        np.array([user]),
        histories.catalogue,
        np.array([0, len(items)]),
        codes,
        times,
        np.ones(len(items), np.float32),
        histories.as_of,
    )


def ndcg(model: Model, snapshot: Snapshot) -> float:
    """Mean NDCG@10 of the test part over users with something new to find."""
    users = np.arange(len(snapshot.user_ids))
    score_UN = model.score(snapshot.histories(users, snapshot.test_start))
    before_E = snapshot.timestamps < snapshot.test_start
    seen_UN, relevant_UN = np.zeros((2, *score_UN.shape), bool)
    seen_UN[snapshot.users[before_E], snapshot.items[before_E]] = True
    relevant_UN[snapshot.users[~before_E], snapshot.items[~before_E]] = True
    relevant_UN &= ~seen_UN
    top_UK = np.argsort(-np.where(seen_UN, -np.inf, score_UN), axis=1)[:, :10]
    gain_K = 1 / np.log2(np.arange(2, 12))
    gained_U = (np.take_along_axis(relevant_UN, top_UK, 1) * gain_K).sum(1)
    number_U = np.minimum(relevant_UN.sum(1), 10)
    return float(np.mean(gained_U[number_U > 0] / np.cumsum(gain_K)[number_U[number_U > 0] - 1]))


@pytest.mark.parametrize("name", MODELS)
def test_scores_cover_the_catalogue_and_unknown_items_are_minus_infinity(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    score_UN = model.score(everyone)
    assert score_UN.shape == (len(everyone), len(everyone.catalogue))
    assert score_UN.dtype == np.float32
    known_N = np.isin(everyone.catalogue, model.item_ids)
    assert set(everyone.catalogue[~known_N]) == {"item-disliked", "item-new"}
    assert np.isneginf(score_UN[:, ~known_N]).all()
    assert np.isfinite(score_UN[:, known_N]).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_vocabulary_is_the_items_liked_before_valid_start(
    name: str, fitted: dict[str, Model], planted: Snapshot
):
    liked = planted.items[planted.positives(None, planted.valid_start)]
    assert fitted[name].item_ids.tolist() == planted.catalogue[np.unique(liked)].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_a_catalogue_that_moved_on_gives_the_same_scores_by_id(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    grown = np.unique([*everyone.catalogue, "item-000b", "a"])
    place_N = np.searchsorted(grown, everyone.catalogue)
    moved = dataclasses.replace(
        everyone, catalogue=grown, items=place_N[everyone.items].astype(np.int32)
    )
    score_UN = fitted[name].score(moved)
    np.testing.assert_array_equal(score_UN[:, place_N], fitted[name].score(everyone))
    assert np.isneginf(score_UN[:, np.searchsorted(grown, ["a", "item-000b"])]).all()


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_history_and_a_new_user_have_finite_scores(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    for items in ([], ["item-disliked"], ["item-000"], ["item-000"] * 100):
        score_N = model.score(with_history(everyone, "someone new", items))[0]
        assert np.isfinite(score_N[np.isin(everyone.catalogue, model.item_ids)]).all()
    assert model.score(everyone.batch(0, 0)).shape == (0, len(everyone.catalogue))


@pytest.mark.parametrize("name", MODELS)
def test_weak_events_do_not_change_scores(name: str, fitted: dict[str, Model], everyone: Histories):
    weak = everyone.strengths < 0.5
    assert weak.any()
    stronger = dataclasses.replace(everyone, strengths=np.where(weak, 0.0, everyone.strengths))
    np.testing.assert_array_equal(fitted[name].score(stronger), fitted[name].score(everyone))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_scores_as_the_whole(name: str, fitted: dict[str, Model], everyone: Histories):
    whole = fitted[name].score(everyone)
    parts = [fitted[name].score(everyone.batch(start, start + 17)) for start in range(0, 80, 17)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load_give_identical_scores(
    name: str, fitted: dict[str, Model], everyone: Histories, tmp_path: Path
):
    fitted[name].save(tmp_path / "model")
    for loaded in (MODELS[name].load(tmp_path / "model"), load_model(tmp_path / "model")):
        assert type(loaded) is MODELS[name]
        assert loaded.config == fitted[name].config
        np.testing.assert_array_equal(loaded.item_ids, fitted[name].item_ids)
        np.testing.assert_array_equal(loaded.score(everyone), fitted[name].score(everyone))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "manifest.json",
        "model.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_equal_files_and_a_second_fit_forgets_the_first(
    name: str,
    fitted: dict[str, Model],
    planted: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    shared = context()
    other = make_snapshot([("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "z", 90)])
    MODELS[name].fit(other, debug_config(name), shared)
    again = MODELS[name].fit(planted, debug_config(name), shared)
    again.save(tmp_path / "again")
    fitted[name].save(tmp_path / "first")
    for file in ("model.safetensors", "model.json", "manifest.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()
    assert list(shared.work_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["transformer", "gnn"])
def test_another_seed_gives_other_weights(
    name: str,
    fitted: dict[str, Model],
    planted: Snapshot,
    everyone: Histories,
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
):
    model = MODELS[name].fit(planted, debug_config(name) | {"epochs": 1}, context(seed=43))
    assert not np.array_equal(model.score(everyone), fitted[name].score(everyone))


@pytest.mark.parametrize("name", MODELS)
def test_nothing_at_or_after_test_start_is_learnt(
    name: str,
    fitted: dict[str, Model],
    planted_with_other_future: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    model = MODELS[name].fit(planted_with_other_future, debug_config(name), context())
    model.save(tmp_path / "other")
    fitted[name].save(tmp_path / "first")
    file = "model.safetensors"
    assert (tmp_path / "other" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_validation_events_choose_the_epoch_but_are_not_trained_on(
    name: str,
    planted: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    early_E = planted.timestamps < planted.valid_start
    past = dataclasses.replace(
        planted,
        **{
            part: getattr(planted, part)[early_E]
            for part in ("users", "items", "timestamps", "strengths", "labels")
        },
    )
    # The last epoch is the best without validation users, so stop both after one.
    config = debug_config(name) | ({"epochs": 1} if name in {"transformer", "gnn"} else {})
    for label, snapshot in (("whole", planted), ("past", past)):
        MODELS[name].fit(snapshot, config, context()).save(tmp_path / label)
    file = "model.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "past" / file).read_bytes()


@pytest.mark.parametrize("name", LEARNT)
def test_a_learnt_model_finds_the_planted_structure(
    name: str, fitted: dict[str, Model], planted: Snapshot
):
    assert ndcg(fitted[name], planted) > 1.5 * ndcg(fitted["popularity"], planted)


@pytest.mark.parametrize("name", LEARNT)
def test_items_of_the_users_group_score_above_the_others(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    walk = [f"item-{4 * place + 2:03d}" for place in range(6)]
    score_N = model.score(with_history(everyone, "someone new", walk))[0]
    group_N = np.array(
        [item[-1:].isdigit() and int(item[-3:]) % 4 == 2 for item in everyone.catalogue]
    )
    known_N = np.isin(everyone.catalogue, model.item_ids)
    assert score_N[group_N].mean() > score_N[known_N & ~group_N].mean()


@pytest.mark.parametrize("name", MODELS)
def test_vectors_reproduce_the_scores_and_similar_items_are_of_a_group(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    item_MD = model.item_vectors()
    if item_MD is None:
        assert model.user_vectors(everyone) is None
        assert name in {"popularity", "item_knn"}
        return
    user_UD = model.user_vectors(everyone)
    assert item_MD.shape == (len(model.item_ids), model.config.width)
    assert user_UD.shape == (len(everyone), model.config.width)
    assert item_MD.dtype == user_UD.dtype == np.float32
    known_N = np.isin(everyone.catalogue, model.item_ids)
    np.testing.assert_allclose(
        user_UD @ item_MD.T, model.score(everyone)[:, known_N], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["transformer", "gnn"])
def test_a_preference_vector_is_nearer_to_what_is_liked(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    likes = ["item-001", "item-005", "item-009"]
    liked_N = np.isin(everyone.catalogue, likes)
    others_N = np.isin(everyone.catalogue, model.item_ids) & ~liked_N
    score_N = model.score(with_history(everyone, "someone new", likes))[0]
    assert score_N[liked_N].mean() > score_N[others_N].mean()
    assert np.isfinite(model.user_vectors(with_history(everyone, "someone new", []))).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("events", "works"),
    [
        ([("a", "x", 1), ("a", "y", 2), ("b", "y", 3)], True),
        ([("a", "x", 1)], True),
        ([("a", "x", 1), ("a", "x", 2), ("a", "x", 150)], True),
        ([("a", "x", 1), ("b", "x", 2), ("b", "y", 150)], True),
        ([("a", "x", 1, 0.1), ("b", "y", 150), ("b", "x", 250)], False),
        ([], False),
    ],
    ids=["tiny", "one event", "one item", "one item, two users", "no positives", "no events"],
)
def test_degenerate_data_scores_or_says_that_there_is_nothing_to_learn(
    name: str,
    events: list[Any],
    works: bool,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
):
    snapshot = make_snapshot(events)
    if not works:
        with pytest.raises(NothingToLearn) as caught:
            MODELS[name].fit(snapshot, debug_config(name), context())
        assert str(caught.value) == (
            f"{name} has nothing to learn from: none of the {len(events)} events is a positive "
            "before valid_start. Train on a longer window, or lower the label threshold."
        )
        return
    model = MODELS[name].fit(snapshot, debug_config(name), context())
    users = np.arange(len(snapshot.user_ids))
    score_UN = model.score(snapshot.histories(users, snapshot.end))
    assert np.isfinite(score_UN[:, np.isin(snapshot.catalogue, model.item_ids)]).all()


@pytest.mark.parametrize("name", MODELS)
def test_fitting_reports_its_size_and_duration(name: str, fitted: dict[str, Model]):
    facts = fitted[name].fit_facts
    assert facts["train_users"] == 80
    assert facts["train_items"] == 120
    assert 700 < facts["train_positives"] < 900
    assert facts["duration_seconds"] > 0
    if name in {"transformer", "gnn"}:
        assert facts["epochs"] == fitted[name].config.epochs
        assert 1 <= facts["best_epoch"] <= facts["epochs"]
        assert 0 < facts["valid_ndcg@10"] <= 1


@pytest.mark.parametrize("name", MODELS)
def test_unknown_options_are_refused(name: str, planted: Snapshot, context: Context):
    options = ", ".join(
        sorted(field.name for field in dataclasses.fields(MODELS[name].config_class))
    )
    with pytest.raises(ModelConfigError) as caught:
        MODELS[name].fit(planted, {"speed": 1}, context())
    assert str(caught.value) == f"{name} has no option 'speed'. Its options are: {options}."


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "gnn",
            {"widht": 1},
            "gnn has no option 'widht'. Did you mean 'width'? Its options are: batch_size, epochs, "
            "layers, learning_rate, loss, negatives, patience, precision, social_weight, "
            "temperature, weight_decay, width.",
        ),
        (
            "transformer",
            {"width": 6.5},
            "Option 'width' of transformer must be a whole number, but it is 6.5.",
        ),
        (
            "transformer",
            {"width": True},
            "Option 'width' of transformer must be a whole number, but it is True.",
        ),
        (
            "transformer",
            {"dropout": "0.1"},
            "Option 'dropout' of transformer must be a number, but it is '0.1'.",
        ),
        (
            "gnn",
            {"loss": "mse"},
            "Option 'loss' of gnn must be one of softmax, bpr, but it is 'mse'.",
        ),
        (
            "transformer",
            {"width": 6, "heads": 4},
            "transformer: width must be a multiple of heads, but 6 is not one of 4.",
        ),
        ("transformer", {"dropout": 1.0}, "transformer: dropout must be in [0, 1), but it is 1.0."),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, Any], text: str):
    with pytest.raises(ModelConfigError) as caught:
        parse_config(name, MODELS[name].config_class, options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "option", "value", "bound"),
    [
        ("transformer", "layers", 0, "at least 1"),
        ("transformer", "learning_rate", 0.0, "above 0"),
        ("transformer", "patience", -1, "at least 0"),
        ("transformer", "negatives", 0, "at least 1"),
        ("gnn", "layers", 0, "at least 1"),
        ("gnn", "temperature", 0.0, "above 0"),
        ("gnn", "social_weight", -0.1, "at least 0"),
        ("popularity", "window_days", 0.0, "above 0"),
        ("popularity", "smoothing", 0.0, "above 0"),
        ("item_knn", "neighbours", 0, "at least 1"),
        ("item_knn", "shrinkage", -1.0, "at least 0"),
        ("item_knn", "half_life_days", -1.0, "at least 0"),
    ],
)
def test_values_out_of_bounds_are_refused(name: str, option: str, value: float, bound: str):
    with pytest.raises(ModelConfigError) as caught:
        parse_config(name, MODELS[name].config_class, {option: value})
    assert str(caught.value) == f"{name}: {option} must be {bound}, but it is {value}."


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_an_impossible_seed_is_refused(seed: int, planted: Snapshot, context: Context):
    with pytest.raises(ModelConfigError) as caught:
        MODELS["popularity"].fit(planted, {}, context(seed=seed))
    assert str(caught.value) == (
        f"The seed must be at least 0 and below 4294967296, but it is {seed}."
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_sizes_and_help_match_the_options(name: str):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    options = {field.name for field in dataclasses.fields(MODELS[name].config_class)}
    assert list(config) == ["model", "summary", "options", "sizes"]
    assert config["model"] == name
    assert set(config["options"]) == options
    assert all(text.endswith(".") for text in (config["summary"], *config["options"].values()))
    assert list(config["sizes"]) == ["debug", "small", "full"]
    for size, values in config["sizes"].items():
        assert set(values) == options, size
        parse_config(name, MODELS[name].config_class, values)


def test_every_model_has_a_committed_configuration_and_no_other_exists():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(MODELS)


@pytest.fixture
def saved(fitted: dict[str, Model], tmp_path: Path) -> Path:
    fitted["popularity"].save(tmp_path / "model")
    return tmp_path / "model"


def rehash(folder: Path) -> None:
    """Make the manifest agree with changed files, as someone who edits both would."""
    names = ("model.json", "model.safetensors")
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps({"sha256": hashes}), encoding="utf-8")


def edit(folder: Path, **changes: Any) -> None:
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps(description | changes), encoding="utf-8")
    rehash(folder)


def refused(folder: Path) -> str:
    """The text with which a folder is refused, without the folder."""
    with pytest.raises(ModelFileError) as caught:
        load_model(folder)
    return str(caught.value).replace(str(folder), "F")


def test_a_changed_byte_is_refused(saved: Path):
    for file in ("model.safetensors", "model.json"):
        good = (saved / file).read_bytes()
        (saved / file).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        found = hashlib.sha256((saved / file).read_bytes()).hexdigest()
        wanted = hashlib.sha256(good).hexdigest()
        assert refused(saved) == (
            f"{file} in the model folder F is not the file that was saved: its sha256 is {found}, "
            f"the manifest says {wanted}. Save or download the model again."
        )
        (saved / file).write_bytes(good)
    load_model(saved)


@pytest.mark.parametrize("file", ["manifest.json", "model.json", "model.safetensors"])
def test_a_missing_file_is_refused(saved: Path, file: str):
    (saved / file).unlink()
    assert refused(saved) == (
        f"The model folder F has no {file}. Saving it did not finish, or files were removed: save "
        "or download the model again."
    )


def test_a_strange_file_is_refused_when_loading_and_when_saving(
    saved: Path, fitted: dict[str, Model]
):
    (saved / "weights.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    text = (
        "The model folder F holds files that are not part of a model: weights.pkl. A model folder "
        "holds only model.json, model.safetensors and manifest.json."
    )
    assert refused(saved) == text
    with pytest.raises(ModelFileError) as caught:
        fitted["popularity"].save(saved)
    assert str(caught.value).replace(str(saved), "F") == text


def test_a_pickle_in_place_of_the_weights_is_refused(saved: Path):
    (saved / "model.safetensors").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    rehash(saved)
    assert refused(saved).startswith("model.safetensors in the model folder F is not a safetensors")


def test_folders_that_are_no_models_are_refused(saved: Path, tmp_path: Path):
    assert refused(tmp_path / "none") == "There is no model folder F."
    (saved / "manifest.json").write_text("[]", encoding="utf-8")
    assert refused(saved) == "F/manifest.json must hold a JSON object."
    (saved / "manifest.json").write_text("{", encoding="utf-8")
    assert refused(saved).startswith("F/manifest.json is not JSON (")


def test_other_architectures_formats_options_and_vocabularies_are_refused(saved: Path):
    with pytest.raises(ModelFileError) as caught:
        MODELS["gnn"].load(saved)
    assert str(caught.value).replace(str(saved), "F") == (
        "The model folder F holds a popularity model, not gnn."
    )
    edit(saved, model="oracle")
    assert refused(saved) == (
        "The model folder F holds a 'oracle' model, which this version does not know. It knows: "
        "gnn, item_knn, popularity, transformer."
    )
    edit(saved, model="popularity", config={"window": 1})
    with pytest.raises(ModelConfigError, match="popularity has no option 'window'"):
        load_model(saved)
    edit(saved, vocabularies={"item_ids": {"size": 1, "sha256": "0" * 64}})
    assert refused(saved) == (
        "The vocabulary item_ids in the model folder F is not the one that model.json describes."
    )
    edit(saved, format=2)
    assert refused(saved) == (
        "The model folder F has format 2; this version reads format 1. Train the model again."
    )


def test_saving_again_replaces_the_model(saved: Path, fitted: dict[str, Model]):
    fitted["item_knn"].save(saved)
    assert load_model(saved).name == "item_knn"


def test_ids_of_any_text_survive(
    make_snapshot: Callable[..., Snapshot], context: Context, tmp_path: Path
):
    ids = ["007", "9007199254740993", "a b", "naïve/路径", "", "x" * 300]
    snapshot = make_snapshot([("u", item, hour) for hour, item in enumerate(ids)])
    MODELS["popularity"].fit(snapshot, {}, context()).save(tmp_path / "model")
    assert load_model(tmp_path / "model").item_ids.tolist() == sorted(ids)
    stored = read_model(tmp_path / "model").vocabularies["item_ids"]
    assert vocabulary_digest(stored) == vocabulary_digest(np.array(sorted(ids)))
    assert vocabulary_digest(np.array(["ab", "c"])) != vocabulary_digest(np.array(["a", "bc"]))
