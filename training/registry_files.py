"""Model folders of the registry: verified against their manifest, fetched when they are remote."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from training.models.files import MANIFEST, ModelFileError


def verify(folder: Path, expected: str | None) -> str:
    """Checks a model folder against its manifest, and the manifest against `expected`.

    Returns:
        sha256 of the manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFileError(
            f"The model folder {folder} has no {MANIFEST}. Saving or storing it did not finish: "
            "train the model again."
        )
    digest = _digest(path)
    if expected is not None and digest != expected:
        raise ModelFileError(
            f"{path} is not the manifest that was registered: its sha256 is {digest}, the registry "
            f"says {expected}. Somebody changed the files; train the model again."
        )
    hashes = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    found = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    for file in sorted(set(hashes) | found - {MANIFEST}):
        actual = _digest(folder / file) if file in found else "missing"
        if actual != hashes.get(file):
            raise ModelFileError(
                f"{file} in the model folder {folder} is not the file that was saved: its sha256 "
                f"is {actual}, the manifest says {hashes.get(file, 'nothing')}. Train the model "
                "again."
            )
    return digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_folder(source: str, manifest: str, tracking_uri: str) -> Path:
    """A version's files on this machine, not yet verified.

    Args:
        source: URI of the files.
        manifest: sha256 of their manifest, which also names a download.
        tracking_uri: The store that knows how to get them.

    Returns:
        The stored folder itself for a `file:` URI, otherwise a download in a folder of this user.
    """
    import mlflow

    if source.startswith("file:"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source))
    cache = private_folder() / "models"
    cache.mkdir(exist_ok=True)
    target = cache / manifest
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            got = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=scratch, tracking_uri=tracking_uri
            )
            verify(Path(got), manifest)
            try:
                Path(got).rename(target)
            except OSError:
                # Another process was quicker; the caller verifies what it put there.
                if not target.exists():
                    raise
    return target


def remove_local(source: str) -> None:
    """Removes what a version's run keeps on this machine; other files are their server's.

    Args:
        source: URI of the model's folder, beside which the run keeps its pictures.
    """
    parts = urlsplit(source)
    if parts.scheme == "file":
        shutil.rmtree(Path(url2pathname(parts.path)).parent, ignore_errors=True)


def private_folder() -> Path:
    """A folder of this user only, for locks and downloads of a remote store."""
    folder = Path(tempfile.gettempdir()) / f"sextant-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
