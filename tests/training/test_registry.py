"""The registry on a real SQLite store: versions, aliases, states, files, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from registry_world import BETTER, TAGS, _champion, _model, _register

from training.models.files import ModelFileError, read_model
from training.registry import Registry, RegistryError, Version

WORSE = replace(BETTER, promote=False, reason="Rejected: worse.")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry with space")


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(f"sqlite:///{root}/deep/mlflow.db", root / "artifacts")


def test_a_model_round_trips_with_everything_known_about_it(
    registry: Registry, folder: Path
) -> None:
    version = _register(registry, "round.trip", folder)
    assert (version.name, version.version, version.status) == ("round.trip", "1", "training")
    assert dict(version.tags).items() >= (TAGS | {"interval_end": "2026-01-01T00:00:00Z"}).items()
    assert registry.challenger("round.trip") == version
    assert (registry.champion("round.trip"), registry.previous("round.trip")) == (None, None)
    registry.log_metrics(version, {"recall@5": 0.5, "undefined": float("nan")})
    run = registry._client.get_run(version.mlflow_run)
    assert run.data.params == {"window_days": "7"}
    assert run.data.metrics == {"ndcg_at_10": 0.25, "recall_at_5": 0.5}
    assert run.info.status == "FINISHED"
    stored = read_model(registry.fetch(version))
    np.testing.assert_array_equal(stored.tensors["counts"], [1.0, 2.0])


def test_the_learning_curve_is_a_series_by_epoch(registry: Registry, folder: Path) -> None:
    curve = [[epoch, 1 / epoch, None if epoch == 1 else 0.1 * epoch] for epoch in range(1, 700)]
    version = _register(registry, "curve", folder, curve=curve)

    def series(name: str) -> list[list[float]]:
        found = registry._client.get_metric_history(version.mlflow_run, name)
        return [[one.step, one.value] for one in sorted(found, key=lambda one: one.step)]

    assert series("epoch/loss") == [[epoch, loss] for epoch, loss, _ in curve]
    assert series("epoch/valid_ndcg_at_10") == [[epoch, score] for epoch, _, score in curve[1:]]


def test_files_are_kept_beside_a_model(registry: Registry, folder: Path, tmp_path: Path) -> None:
    version = _register(registry, "files", folder, files={"spec.json": '{"ä": 1}'})
    assert registry.file(version, "spec.json") == '{"ä": 1}'
    assert registry.file(version, "data.json") is None
    for text in ("first", "second"):
        (tmp_path / "plot.txt").write_text(text)
        registry.attach(version, tmp_path / "plot.txt", "plots")
    stored = registry._client.list_artifacts(version.mlflow_run, "plots")
    assert [one.path for one in stored] == ["plots/plot.txt"]
    assert registry.file(version, "plots/plot.txt") == "second"
    assert registry.fetch(version) == registry.fetch(_register(registry, "files", folder))


def test_versions_are_listed_newest_first_and_found_by_number(
    registry: Registry, tmp_path: Path
) -> None:
    made = [_register(registry, "listed", _model(tmp_path / "m", n), n) for n in (1, 2, 3)]
    assert [one.version for one in registry.versions("listed")] == ["3", "2", "1"]
    assert registry.get("listed", "2") == made[1]
    assert registry.versions("unknown") == []
    assert len({registry.fetch(one) for one in made}) == 3


def test_without_a_number_the_champion_is_meant(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.get("default")
    assert str(caught.value) == (
        "default has no champion yet. Nothing is registered under that name."
    )
    first = _champion(registry, "default", _model(tmp_path / "a", 1.0))
    newer = _register(registry, "default", _model(tmp_path / "b", 2.0), 2)
    registry.record_verdict(newer, WORSE)
    assert registry.get("default").version == first.version == "1"
    with pytest.raises(RegistryError) as caught:
        registry.get("default", "9")
    assert str(caught.value) == ("default has no version 9. There are: 2 (rejected), 1 (promoted).")


def test_the_same_fit_is_one_version(registry: Registry, folder: Path) -> None:
    first = _register(registry, "same", folder)
    registry._client.delete_registered_model_alias("same", "challenger")
    assert _register(registry, "same", folder) == first
    assert registry.challenger("same") == first
    assert len(registry.versions("same")) == 1
    promoted = registry.promote(registry.record_verdict(first, BETTER))
    second = _register(registry, "same", folder, 2)
    assert _register(registry, "same", folder) == promoted
    assert registry.challenger("same") == second


def test_a_kill_between_upload_and_version_leaves_one_version(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("training.registry.ensure_model", die)
        _register(registry, "killed", folder)
    assert registry.versions("killed") == []
    version = _register(registry, "killed", folder)
    assert [one.version for one in registry.versions("killed")] == ["1"]
    experiment = registry._client.get_experiment_by_name("killed").experiment_id
    runs = registry._client.search_runs([experiment])
    assert [run.info.run_id for run in runs] == [version.mlflow_run]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"commit": "", "seed": ""},
            "x cannot be registered without the tags commit, seed: a version must be traceable to "
            "what it was made from.",
        ),
        (
            {"tables": "events 3"},
            "x cannot be registered: the tag tables must be JSON of table versions, got "
            "'events 3'.",
        ),
        (
            {"interval_end": "2026-01-06"},
            "interval_end must be an ISO time with its zone, such as 2026-01-06T00:00:00Z, got "
            "'2026-01-06'.",
        ),
    ],
)
def test_untraceable_models_are_refused(
    registry: Registry, folder: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.register("x", folder, tags=TAGS | change, params={}, metrics={}, fingerprint="f")
    assert str(caught.value) == message
    assert registry.versions("x") == []


def test_verdicts_are_kept_with_their_numbers(registry: Registry, folder: Path) -> None:
    version = registry.record_verdict(
        _register(registry, "verdict", folder), WORSE, test_set="sha256:1"
    )
    assert version.status == "rejected"
    assert {key: value for key, value in version.tags.items() if key.startswith("gate")} == {
        "gate_verdict": "reject",
        "gate_reason": "Rejected: worse.",
        "gate_reference": "champion version 1",
        "gate_challenger_mean": "0.2",
        "gate_reference_mean": "0.1",
        "gate_lift": "1",
        "gate_low": "0.05",
        "gate_high": "0.15",
        "gate_users": "900",
        "gate_passed": "false",
        "gate_test_set": "sha256:1",
    }
    assert registry.record_verdict(version, WORSE).status == "rejected"
    again = registry.record_verdict(version, BETTER)
    assert (again.status, again.tags["gate_verdict"]) == ("validated", "promote")
    champion = registry.promote(again)
    assert registry.record_verdict(champion, BETTER).status == "promoted"


def test_promotion_moves_champion_and_previous(registry: Registry, folder: Path) -> None:
    for number in (1, 2, 3):
        champion = _champion(registry, "moves", folder, number)
        assert registry.promote(champion) == champion, "promoting the champion changes nothing"
    assert registry.champion("moves") == champion
    assert champion.version == "3"
    assert registry.previous("moves").version == "2"
    assert [one.status for one in registry.versions("moves")] == [
        "promoted",
        "promoted",
        "archived",
    ]


def test_a_challenger_meets_the_same_champion_however_often_it_is_judged(
    registry: Registry, folder: Path
) -> None:
    end = datetime(2026, 1, 9, tzinfo=UTC)
    first = _register(registry, "rivals", folder, 1)
    assert registry.rival(first, end) is None
    registry.promote(registry.record_verdict(first, BETTER))
    assert registry.rival(first, end) is None
    second = _register(registry, "rivals", folder, 2)
    for _ in range(2):
        assert registry.rival(second, end).version == "1"
        registry.promote(registry.record_verdict(second, BETTER))
    registry._client.delete_model_version("rivals", "1")
    assert registry.rival(second, end) is None


def test_the_champion_moves_forward_only(registry: Registry, folder: Path) -> None:
    for number in (1, 2):
        _champion(registry, "back", folder, number)
    with pytest.raises(RegistryError) as caught:
        registry.promote(registry.previous("back"))
    assert str(caught.value) == (
        "back version 1 was fitted on data before 2026-01-01T00:00:00Z, the champion (version 2) "
        "on data before 2026-01-02T00:00:00Z. The champion moves forward only; to go back, move "
        "the alias `champion` by hand in MLflow."
    )


def test_states_change_in_order_only(registry: Registry, folder: Path) -> None:
    new = _register(registry, "states", folder, 9)
    oldest, _, newest = (_champion(registry, "states", folder, number) for number in (1, 2, 3))
    with pytest.raises(RegistryError) as caught:
        registry.promote(new)
    assert str(caught.value) == (
        "states version 1 is training, and only a validated version is promoted. Let the gate "
        "judge it first, or move the alias `champion` by hand in MLflow."
    )
    # What is or was champion keeps its state, whatever a later verdict says.
    assert registry.record_verdict(newest, WORSE).status == "promoted"
    assert registry.record_verdict(oldest, BETTER).status == "archived"
    assert registry.champion("states").version == newest.version
    rejected = registry.record_verdict(new, WORSE)
    assert registry.record_verdict(rejected, BETTER).status == "validated"


def test_racing_promotions_leave_one_champion(registry: Registry, folder: Path) -> None:
    versions = [
        registry.record_verdict(_register(registry, "race", folder, number), BETTER)
        for number in range(1, 9)
    ]

    def promote(version: Version) -> str | None:
        own = Registry(registry.tracking_uri, registry._artifact_root)
        try:
            return own.promote(version).version
        except RegistryError as error:
            assert "The champion moves forward only" in str(error)
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [one for one in pool.map(promote, versions) if one]
    assert "8" in won
    assert registry.champion("race").version == "8"
    promoted = {one.version for one in registry.versions("race") if one.status == "promoted"}
    previous = registry.previous("race")
    assert promoted == {"8"} | ({previous.version} if previous else set())
    assert len(won) == 1 or previous.version == max(set(won) - {"8"}, key=int)


def test_changed_files_are_neither_loaded_nor_promoted(registry: Registry, tmp_path: Path) -> None:
    champion = _champion(registry, "changed", _model(tmp_path / "a", 1.0))
    version = _register(registry, "changed", _model(tmp_path / "b", 2.0), 2)
    version = registry.record_verdict(version, BETTER)
    stored = registry.fetch(version)
    weights = stored / "model.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + b"\x01")
    with pytest.raises(ModelFileError, match=r"model\.safetensors .* is not the file that was"):
        registry.promote(version)
    assert registry.champion("changed") == champion
    # Swapping the whole folder, manifest included, does not help either.
    _model(stored, 3.0)
    with pytest.raises(ModelFileError, match=r"is not the manifest that was registered"):
        registry.promote(version)
    assert registry.champion("changed") == champion
    (stored / "extra.pkl").write_bytes(b"")
    with pytest.raises(ModelFileError):
        registry.fetch(version)


def test_a_folder_that_does_not_fit_its_manifest_is_not_stored(
    registry: Registry, folder: Path
) -> None:
    (folder / "notes.txt").write_text("x")
    with pytest.raises(ModelFileError) as caught:
        _register(registry, "unfit", folder)
    assert str(caught.value) == (
        f"notes.txt in the model folder {folder} is not the file that was saved: its sha256 is "
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, the manifest says "
        "nothing. Train the model again."
    )
    (folder / "manifest.json").unlink()
    with pytest.raises(ModelFileError) as caught:
        _register(registry, "unfit", folder)
    assert str(caught.value) == (
        f"The model folder {folder} has no manifest.json. Saving or storing it did not finish: "
        "train the model again."
    )
    assert registry.versions("unfit") == []


def test_reading_does_not_create_a_store(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/none/mlflow.db", tmp_path / "artifacts")
    assert (registry.champion("a"), registry.versions("a")) == (None, [])
    assert list(tmp_path.iterdir()) == []
