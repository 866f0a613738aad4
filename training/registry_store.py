"""The connection to an MLflow store, quick to say when there is none."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training.registry_files import private_folder

_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Models are safetensors; nothing of ours needs a format that runs code when it is read.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own 7 retries of 120 s would let a dead registry hold a run for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_PING_SECONDS = 4.0
_PINGS = 2


class RegistryUnreachable(ConnectionError):  # noqa: N818 (says the state, as users put it)
    """The store does not answer; nothing is known about its models."""


def configure() -> None:
    """Settles MLflow's environment, which it reads when it is imported; what is set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def connect(tracking_uri: str) -> Any:
    """Opens a client, creating the file of an SQLite store and its folder.

    Raises:
        RegistryUnreachable: The server does not answer within about ten seconds, or the file
            cannot be created.
    """
    with reachable(tracking_uri):
        if tracking_uri.startswith(("http://", "https://")):
            _ping(tracking_uri)
        from mlflow import MlflowClient

        # A new store otherwise prints every migration of its tables.
        for noisy in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        file = sqlite_file(tracking_uri)
        if file is not None and not file.exists():
            _create(file)
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _create(file: Path) -> None:
    """Makes an SQLite store aside and puts it in place whole.

    MLflow builds its tables in many steps and cannot go on with a store that a kill or a full disk
    left between two of them.
    """
    from mlflow import MlflowClient

    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / f".{file.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if file.exists():
            return
        part = file.with_name(f".{file.name}.part")
        for remains in file.parent.glob(f"{part.name}*"):
            remains.unlink()
        uri = f"sqlite:///{part}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        part.replace(file)


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of an SQLite store; None for a server."""
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


def experiment_of(client: Any, name: str, tracking_uri: str, artifact_root: str) -> str:
    """The id of a model's experiment, whose runs are the model's fits; made when absent."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if "://" in artifact_root:
        location = f"{artifact_root.rstrip('/')}/{name}"
    elif not tracking_uri.startswith("http"):  # a server says itself where files lie
        location = (Path(artifact_root).absolute() / name).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def ensure_model(client: Any, name: str) -> None:
    """Makes a registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def model_lock(tracking_uri: str, name: str) -> Iterator[None]:
    """Holds a model's OS lock; the kernel lets go when the holder dies."""
    file = sqlite_file(tracking_uri)
    if file is None:
        store = hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]
        path = private_folder() / f"{store}.{name}.lock"
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        path = file.parent / f".{file.name}.{name}.lock"
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def reachable(tracking_uri: str) -> Iterator[None]:
    """Turns the ways in which a store can be gone into one error.

    Raises:
        RegistryUnreachable: Names the store and what to check.
    """
    try:
        yield
    except RegistryUnreachable:
        raise
    except Exception as error:
        if not _means_unreachable(error):
            raise
        raise RegistryUnreachable(
            f"The model registry {_without_password(tracking_uri)} does not answer: "
            f"{_first_line(error)}\n  {_what_to_check(tracking_uri)}"
        ) from error


def _means_unreachable(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, MlflowException):
        return error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
    return isinstance(error, DBAPIError | OSError)


def _ping(tracking_uri: str) -> None:
    """Asks the server whether it is there, before MLflow's patient retries start."""
    import requests

    for attempt in range(_PINGS):
        try:
            answer = requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=_PING_SECONDS)
        except requests.Timeout:
            trouble = f"no answer within {_PING_SECONDS:g} seconds."
        except requests.ConnectionError:
            trouble = "the connection is refused, or there is no such host."
        else:
            # A proxy that wants a login answers below 500; that is MLflow's to settle.
            if answer.status_code < 500:
                return
            trouble = f"it answers with HTTP status {answer.status_code}."
        if attempt + 1 < _PINGS:
            time.sleep(0.5)
    raise ConnectionError(trouble)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _without_password(tracking_uri: str) -> str:
    password = urlsplit(tracking_uri).password
    return tracking_uri.replace(f":{password}@", ":***@") if password else tracking_uri


def _what_to_check(tracking_uri: str) -> str:
    file = sqlite_file(tracking_uri)
    if file is None:
        return (
            "Check that the MLflow server runs and that environment.mlflow.tracking_uri names its "
            "host and port."
        )
    return f"Check that {file.parent} and what is in it can be written, and that its disk has room."
