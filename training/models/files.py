"""Model folders: model.safetensors + model.json + manifest.json, and never a pickle.

The manifest names the sha256 of the two other files. It is removed first and written last, so
that a folder whose writing was interrupted has none and is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

WEIGHTS, DESCRIPTION, MANIFEST = "model.safetensors", "model.json", "manifest.json"
FORMAT = 2
_HASHED = (DESCRIPTION, WEIGHTS)
_VOCABULARY = re.compile(r"vocabulary\.(\w+)\.(bytes|offsets)")


class ModelFileError(ValueError):
    """A model folder is incomplete, changed, or not a model folder."""


@dataclass(frozen=True)
class StoredModel:
    """A verified model folder in memory."""

    name: str
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    vocabularies: dict[str, np.ndarray]


def write_model(
    folder: Path,
    *,
    name: str,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    vocabularies: dict[str, np.ndarray],
) -> None:
    """Write a model folder, replacing the model that may be there.

    Args:
        folder: created when missing.
        name: the architecture, a key of `training.models.MODELS`.
        config: JSON values.
        tensors: what was learnt.
        vocabularies: name -> (n,) str.

    Raises:
        ModelFileError: the folder holds files that are not a model's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    stored = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    for key, ids in vocabularies.items():
        stored[f"vocabulary.{key}.bytes"], stored[f"vocabulary.{key}.offsets"] = _pack(ids)
    save_file(stored, folder / WEIGHTS)
    description = {
        "format": FORMAT,
        "model": name,
        "config": config,
        "vocabularies": {
            key: {"size": len(ids), "sha256": vocabulary_digest(ids)}
            for key, ids in sorted(vocabularies.items())
        },
    }
    _write_json(folder / DESCRIPTION, description)
    _write_json(folder / MANIFEST, {"sha256": {file: _digest(folder / file) for file in _HASHED}})


def read_model(folder: Path, *, name: str | None = None) -> StoredModel:
    """Read a model folder after verifying every file in it.

    Args:
        folder: what `write_model` wrote.
        name: the architecture that is expected, or None for any.

    Raises:
        ModelFileError: a file is missing, unknown, changed, or belongs to another model.
    """
    if not folder.is_dir():
        raise ModelFileError(f"There is no model folder {folder}.")
    for file in (MANIFEST, *_HASHED):
        if not (folder / file).is_file():
            raise ModelFileError(
                f"The model folder {folder} has no {file}. Saving it did not finish, or files were "
                "removed: save or download the model again."
            )
    _refuse_strangers(folder)
    expected = _read_json(folder / MANIFEST).get("sha256")
    for file in _HASHED:
        digest = _digest(folder / file)
        if not isinstance(expected, dict) or expected.get(file) != digest:
            found = expected.get(file) if isinstance(expected, dict) else None
            raise ModelFileError(
                f"{file} in the model folder {folder} is not the file that was saved: its sha256 "
                f"is {digest}, the manifest says {found}. Save or download the model again."
            )
    description = _read_json(folder / DESCRIPTION)
    if description.get("format") != FORMAT:
        raise ModelFileError(
            f"The model folder {folder} has format {description.get('format')!r}; this version "
            f"reads format {FORMAT}. Train the model again."
        )
    if name is not None and description["model"] != name:
        raise ModelFileError(
            f"The model folder {folder} holds a {description['model']} model, not {name}."
        )
    try:
        stored = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ModelFileError(
            f"{WEIGHTS} in the model folder {folder} is not a safetensors file ({error})."
        ) from None
    tensors = {key: value for key, value in stored.items() if not _VOCABULARY.fullmatch(key)}
    vocabularies = {}
    for key, facts in description["vocabularies"].items():
        ids = _unpack(stored[f"vocabulary.{key}.bytes"], stored[f"vocabulary.{key}.offsets"])
        if vocabulary_digest(ids) != facts["sha256"]:
            raise ModelFileError(
                f"The vocabulary {key} in the model folder {folder} is not the one that "
                f"{DESCRIPTION} describes."
            )
        vocabularies[key] = ids
    return StoredModel(description["model"], description["config"], tensors, vocabularies)


def vocabulary_digest(ids: np.ndarray) -> str:
    """sha256 that names an ordered set of ids."""
    payload, offsets = _pack(ids)
    return hashlib.sha256(offsets.tobytes() + payload.tobytes()).hexdigest()


def _pack(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets: ids of any length without padding, and no pickle."""
    encoded = [text.encode() for text in ids.tolist()]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def _unpack(payload: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    raw = payload.tobytes()
    ids = [raw[start:stop].decode() for start, stop in pairwise(offsets.tolist())]
    return np.array(ids, dtype=str)


def _refuse_strangers(folder: Path) -> None:
    strangers = sorted(
        path.name for path in folder.iterdir() if path.name not in {MANIFEST, *_HASHED}
    )
    if strangers:
        raise ModelFileError(
            f"The model folder {folder} holds files that are not part of a model: "
            f"{', '.join(strangers[:5])}{', ...' if len(strangers) > 5 else ''}. A model folder "
            f"holds only {DESCRIPTION}, {WEIGHTS} and {MANIFEST}."
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(f"{path} is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{path} must hold a JSON object.")
    return value


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
