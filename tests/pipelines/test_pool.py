"""Warm processes: a command runs in one as it would in a process of its own, and dies as it would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop_world import Shop, environment, make_shop

from pipelines.pool import FOLDER_VARIABLE, Ended, engine_of, execute

pytestmark = pytest.mark.slow

LAST = "2026-03-13T00:00Z"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a pool with one worker, in a shop."""
    folder = tmp_path_factory.mktemp("pool")
    shop = make_shop(folder / "shop")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "pool", "--workers", "1"],
        cwd=shop.root,
        env={**environment(), FOLDER_VARIABLE: str(folder / "sockets")},
    )
    yield folder
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert list((folder / "sockets").glob("*.sock")) == []


@pytest.fixture
def shop(pool: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, with the pool named in the environment."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(pool / "sockets"))
    monkeypatch.setenv("PATH", environment()["PATH"])
    return Shop(pool / "shop")


def worker(pool: Path) -> int:
    """Process id of the worker that listens."""
    deadline = time.monotonic() + 120
    while not (socket := pool / "sockets" / "0.sock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = subprocess.run(
        ["pgrep", "-f", f"pool --worker {socket}"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def test_a_warm_command_says_what_a_cold_one_says(pool: Path, shop: Shop) -> None:
    heard: list[str] = []
    for arguments in (["graph", "shop"], ["run", "shop", "--at", "yesterday"], ["rnu"]):
        warm = execute(arguments, shop.root, heard.append, engine_of(shop.project()))
        cold = shop.command(*arguments, check=False)
        assert warm == Ended(cold.returncode, cold.stdout, cold.stderr)
    assert "--at yesterday: `yesterday` is no ISO date or time" in "\n".join(heard)


def test_a_stage_runs_warm_and_the_worker_stays(pool: Path, shop: Shop) -> None:
    before = worker(pool)
    heard: list[str] = []
    engine = engine_of(shop.project())
    stage = ["stage", "shop", "ingest", "--at", LAST, "--json"]
    ended = execute(stage, shop.root, heard.append, engine)
    assert ended.code == 0, ended.errors
    assert '"status": "succeeded"' in ended.output
    assert heard[0] == "ingest: read the sources, map their columns to typed rows ..."
    assert worker(pool) == before


def test_the_worker_dies_with_whoever_asked_and_another_takes_its_place(
    pool: Path, shop: Shop
) -> None:
    before = worker(pool)
    asker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pipelines.pool import execute;"
            "execute(['run', 'shop', '--at', sys.argv[1]], Path.cwd(), "
            "lambda line: print(line, flush=True), sys.argv[2])",
            LAST,
            engine_of(shop.project()),
        ],
        cwd=shop.root,
        env={**environment(), FOLDER_VARIABLE: str(pool / "sockets")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asker.stdout is not None
    assert next(line for line in asker.stdout if "validate" in line)
    os.kill(asker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{before}").exists():
        assert time.monotonic() < deadline, "the worker goes on"
        time.sleep(0.05)
    assert worker(pool) != before
    again = ["run", "shop", "--at", LAST, "--select", "+validate"]
    assert execute(again, shop.root, print, engine_of(shop.project())).code == 0


def test_what_needs_another_spark_runs_cold(pool: Path, shop: Shop) -> None:
    before = worker(pool)
    ended = execute(["graph", "shop"], shop.root, print, "another Spark")
    assert ended == Ended(0, shop.command("graph", "shop").stdout, "")
    assert worker(pool) == before


def test_a_worker_that_ends_with_a_command_unread_is_no_failure(
    tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the address of a socket may be.
    folder = tmp_path / ("far" * 40)
    folder.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/0.sock")
        listener.listen()

        def leave() -> None:
            connection, _ = listener.accept()
            time.sleep(0.5)  # the command has come
            connection.close()

        thread = threading.Thread(target=leave)
        thread.start()
        ended = execute(["graph", "shop"], shop.root, print, "any")
        thread.join()
        os.close(here)
    assert ended == Ended(0, shop.command("graph", "shop").stdout, "")
