"""The registry on servers and stores that do not answer, and on a real MLflow server."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from registry_world import _champion, _register

from training.models.files import ModelFileError
from training.registry import Registry, RegistryUnreachable


class _Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def broken_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _unreachable(uri: str) -> str:
    started = time.monotonic()
    with pytest.raises(RegistryUnreachable) as caught:
        Registry(uri, "artifacts").champion("demo.gnn")
    assert time.monotonic() - started < 10
    return str(caught.value)


HINT = (
    "\n  Check that the MLflow server runs and that environment.mlflow.tracking_uri names its host "
    "and port."
)


def test_a_refused_connection_is_said_soon() -> None:
    port = free_port()
    assert _unreachable(f"http://me:secret@127.0.0.1:{port}") == (
        f"The model registry http://me:***@127.0.0.1:{port} does not answer: "
        f"the connection is refused, or there is no such host.{HINT}"
    )


def test_a_failing_server_is_said_soon(broken_server: str) -> None:
    assert _unreachable(broken_server) == (
        f"The model registry {broken_server} does not answer: it answers with HTTP status 500."
        f"{HINT}"
    )


@pytest.mark.slow
def test_a_hanging_server_is_said_soon() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert _unreachable(uri) == (
            f"The model registry {uri} does not answer: no answer within 4 seconds.{HINT}"
        )


def test_a_store_that_cannot_be_created_is_said(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").write_text("")
    registry = Registry(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path)
    with pytest.raises(RegistryUnreachable) as caught:
        _register(registry, "a", folder)
    assert str(caught.value) == (
        f"The model registry sqlite:///{tmp_path}/file/mlflow.db does not answer: [Errno 17] File "
        f"exists: '{tmp_path}/file'\n  Check that {tmp_path}/file and what is in it can be "
        "written, and that its disk has room."
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server with artifacts behind it."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"),
        *("--artifacts-destination", str(tmp_path / "served")),
    ]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_server_keeps_models_too(
    server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    registry = Registry(server, "artifacts")
    assert registry.champion("demo.gnn") is None
    champion = _champion(registry, "demo.gnn", folder)
    assert registry.champion("demo.gnn") == champion
    fetched = registry.fetch(champion)
    assert json.loads((fetched / "model.json").read_text())["model"] == "popularity"
    assert registry.fetch(champion) == fetched
    (fetched / "model.json").write_text("{}")
    with pytest.raises(ModelFileError):
        registry.fetch(champion)
