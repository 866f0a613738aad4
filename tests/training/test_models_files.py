"""The files of a saved model: damaged, missing, strange and foreign ones are refused in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.models import MODELS, FitContext, Model, ModelConfigError, load_model
from training.models.files import ModelFileError, read_model, vocabulary_digest
from training.snapshot import Snapshot

Context = Callable[..., FitContext]


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
        "gnn, item_knn, popularity, social_gnn, spectral, transformer."
    )
    edit(saved, model="popularity", config={"window": 1})
    with pytest.raises(ModelConfigError, match="popularity has no option 'window'"):
        load_model(saved)
    edit(saved, vocabularies={"item_ids": {"size": 1, "sha256": "0" * 64}})
    assert refused(saved) == (
        "The vocabulary item_ids in the model folder F is not the one that model.json describes."
    )
    edit(saved, format=1)
    assert refused(saved) == (
        "The model folder F has format 1; this version reads format 2. Train the model again."
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
