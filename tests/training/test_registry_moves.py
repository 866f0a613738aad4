"""Who moved a champion: the gate, a person, or a promotion that was cut off; and what follows."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_world import BETTER, _champion, _model, _register

from training.registry import Registry, RegistryError
from training.registry_moves import Move, move


@pytest.mark.parametrize(
    ("champion", "tags", "made"),
    [
        (None, {}, None),
        ("1", {"settled_champion": "1"}, None),
        ("1", {"promoting": "1"}, Move("m", None, "1", by_person=False)),
        ("2", {"settled_champion": "1", "promoting": "2"}, Move("m", "1", "2", by_person=False)),
        ("1", {"settled_champion": "1", "promoting": "2"}, None),
        ("3", {"settled_champion": "1", "promoting": "2"}, Move("m", "1", "3", by_person=True)),
        ("3", {"settled_champion": "1"}, Move("m", "1", "3", by_person=True)),
        ("3", {}, Move("m", None, "3", by_person=True)),
        (None, {"settled_champion": "1"}, Move("m", "1", None, by_person=True)),
        (None, {"settled_champion": "none"}, None),
        ("1", {"settled_champion": "none"}, Move("m", None, "1", by_person=True)),
    ],
    ids=[
        "nothing yet",
        "nothing since",
        "the gate's first",
        "the gate's, not yet recorded",
        "cut off before the alias moved",
        "a person's while the gate was at it",
        "a person's",
        "a person's first",
        "taken away",
        "still away",
        "given back",
    ],
)
def test_a_move(champion: str | None, tags: dict[str, str], made: Move | None) -> None:
    assert move("m", champion, tags) == made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    root = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{root}/mlflow.db", root / "artifacts")


def settled(registry: Registry, name: str) -> Move | None:
    """Settles what is not; returns what it was."""
    made = registry.unsettled(name)
    if made is not None:
        registry.settle(made)
    assert registry.unsettled(name) is None
    return made


def by_hand(registry: Registry, name: str, version: str) -> None:
    registry._client.set_registered_model_alias(name, "champion", version)


def test_the_promotions_of_the_gate_hold_nothing(registry: Registry, folder: Path) -> None:
    for number in (1, 2):
        _champion(registry, "gate", folder, number)
        before = None if number == 1 else "1"
        assert settled(registry, "gate") == Move("gate", before, str(number), by_person=False)
    assert registry.held("gate") is None
    assert registry.previous("gate").version == "1"


def test_a_person_goes_back_and_the_gate_leaves_it_there(registry: Registry, folder: Path) -> None:
    for number in (1, 2):
        _champion(registry, "back", folder, number)
        settled(registry, "back")
    by_hand(registry, "back", "1")
    better = registry.record_verdict(_register(registry, "back", folder, 3), BETTER)
    refusal = (
        "A person decides which version of back serves; back version 3 stays what it is. To choose "
        "it, move the alias `champion` by hand in MLflow; to let the gate decide again, delete the "
        "tag `hold` of the model."
    )
    # Before anybody noticed as well as after.
    for _ in range(2):
        with pytest.raises(RegistryError) as caught:
            registry.promote(better)
        assert str(caught.value) == refusal
        settled(registry, "back")
    champion = registry.champion("back")
    assert (champion.version, champion.status, champion.tags["decided_by"]) == (
        *("1", "promoted"),
        "a person",
    )
    assert registry.previous("back").version == "2"
    assert registry.held("back") == "1"
    registry._client.delete_registered_model_tag("back", "hold")
    assert registry.promote(better).version == "3"
    assert settled(registry, "back") == Move("back", "1", "3", by_person=False)
    assert registry.previous("back").version == "1"


def test_a_person_may_choose_what_the_gate_rejected_and_sign_it(
    registry: Registry, folder: Path
) -> None:
    _champion(registry, "signed", folder, 1)
    settled(registry, "signed")
    worse = registry.record_verdict(_register(registry, "signed", folder, 2), BETTER)
    registry._client.set_model_version_tag("signed", worse.version, "decided_by", "Ada")
    by_hand(registry, "signed", worse.version)
    assert settled(registry, "signed") == Move("signed", "1", "2", by_person=True)
    champion = registry.champion("signed")
    assert (champion.status, champion.tags["decided_by"]) == ("promoted", "Ada")


def test_a_champion_that_is_taken_away_stays_away(registry: Registry, folder: Path) -> None:
    _champion(registry, "away", folder, 1)
    settled(registry, "away")
    registry._client.delete_registered_model_alias("away", "champion")
    assert settled(registry, "away") == Move("away", "1", None, by_person=True)
    assert registry.held("away") == "none"


def test_two_people_at_once_leave_one_choice(registry: Registry, folder: Path) -> None:
    for number in (1, 2, 3):
        _champion(registry, "two", folder, number)
        settled(registry, "two")
    by_hand(registry, "two", "1")
    seen = registry.unsettled("two")
    by_hand(registry, "two", "2")
    registry.settle(seen)  # too late: the choice is another one by now
    assert registry.held("two") is None
    assert settled(registry, "two") == Move("two", "3", "2", by_person=True)
    assert (registry.champion("two").version, registry.held("two")) == ("2", "2")
    assert registry.previous("two").version == "3"


def test_old_versions_go_but_none_that_is_named(registry: Registry, tmp_path: Path) -> None:
    _champion(registry, "many", _model(tmp_path / "1", 1.0), 1)
    for number in range(2, 8):
        _register(registry, "many", _model(tmp_path / str(number), float(number)), number)
    folders = {one.version: registry.fetch(one) for one in registry.versions("many")}
    assert registry.prune("many", 2, spare=["3"]) == ["5", "4", "2"]
    assert [one.version for one in registry.versions("many")] == ["7", "6", "3", "1"]
    assert {number for number, kept in folders.items() if kept.exists()} == {"7", "6", "3", "1"}
    assert registry.prune("many", 2, spare=["3"]) == []
