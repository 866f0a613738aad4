"""Warm processes that run commands of the product: Spark is up and the libraries are loaded.

A cold stage spends ten seconds on imports and on Spark's JVM; a task of a scheduler that hands its
command to a worker here spends one. A worker runs one command at a time, in its own process, and
says over a Unix socket what the command says. Whoever asked may die: the worker then ends itself
and its JVM at once, as a killed command would, and another takes its place.

The folder of the sockets is private to the user. Without a pool the command runs in a process of
its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any

from pipelines.digests import code_on_disk, digest
from pipelines.project import Project, find_root, first_project

FOLDER_VARIABLE = "SEXTANT_POOL"
"""Names the folder of the sockets; set by `sextant up` for what it starts."""

ENVIRONMENT_VARIABLE = "SEXTANT_ENVIRONMENT"
"""Names the environment of configs/environments that a scheduler's tasks run in."""

_COMMANDS_PER_WORKER = 100
"""A worker is replaced after so many, so that nothing piles up in it."""
_RESTART_SECONDS = 1.0
_POLL_SECONDS = 0.1
_NO_WORKER_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: Its exit code.
        output: What it wrote to its standard output.
        errors: What it wrote to its standard error.
    """

    code: int
    output: str
    errors: str


def execute(
    arguments: Sequence[str], cwd: Path, heard: Callable[[str], None], engine: str
) -> Ended:
    """Run ``sextant ARGUMENTS`` in a warm process where one is free, else in a new one.

    Args:
        arguments: Of the command.
        cwd: Folder to run it in.
        heard: Called with each line of its standard error as it comes.
        engine: Which Spark it needs, by `engine_of`. A process has one Spark for its life, so a
            warm one with another does not take the command.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        with _free_worker(Path(folder)) as connection:
            if connection is not None:
                ended = _ask(connection, arguments, cwd, heard, engine)
                if ended is not None:
                    return ended
    return _in_a_process(arguments, cwd, heard)


def engine_of(project: Project) -> str:
    """Names the Spark that a pipeline's environment describes."""
    return digest(project.pipeline.environment.spark.model_dump(mode="json"))


def _in_a_process(arguments: Sequence[str], cwd: Path, heard: Callable[[str], None]) -> Ended:
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of the kernel, no lock to wait for
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        stdout, output = process.stdout, list[str]()
        reader = threading.Thread(target=lambda: output.append(stdout.read()))
        reader.start()
        errors = []
        try:
            for line in process.stderr:
                errors.append(line)
                heard(line.rstrip("\n"))
        except BaseException:
            process.kill()
            raise
        reader.join()
    return Ended(process.returncode, "".join(output), "".join(errors))


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it dies."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@contextmanager
def _free_worker(folder: Path) -> Iterator[socket.socket | None]:
    """A connection to a worker that nobody else uses until the block ends.

    Waits for one: as many commands at once as there are workers is what this machine can take. None
    when there has been no worker for a while.
    """
    deadline = time.monotonic() + _NO_WORKER_SECONDS
    while time.monotonic() < deadline:
        for path in sorted(folder.glob("*.sock")):
            deadline = time.monotonic() + _NO_WORKER_SECONDS
            with path.with_suffix(".lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                with socket.socket(socket.AF_UNIX) as connection:
                    try:
                        with _short(path) as address:
                            connection.connect(address)
                    except OSError:  # it is being replaced
                        continue
                    yield connection
                    return
        time.sleep(_POLL_SECONDS)
    yield None


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Another name of a path, within the 107 characters that the address of a socket may have."""
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _ask(
    connection: socket.socket,
    arguments: Sequence[str],
    cwd: Path,
    heard: Callable[[str], None],
    engine: str,
) -> Ended | None:
    """How the command ended; None when the worker did not take it."""
    request = {
        "arguments": list(arguments),
        "cwd": str(cwd),
        "environment": dict(os.environ),
        "engine": engine,
    }
    said: dict[str, list[str]] = {"output": [], "errors": []}
    # A worker that ends with the request unread resets the connection.
    with suppress(ConnectionError), connection.makefile("r", encoding="utf-8") as lines:
        connection.sendall(json.dumps(request).encode() + b"\n")
        for line in lines:
            frame = json.loads(line)
            if "code" in frame:
                return Ended(frame["code"], "".join(said["output"]), "".join(said["errors"]))
            said[frame["stream"]].append(frame["text"])
            if frame["stream"] == "errors":
                for one in frame["text"].splitlines():
                    heard(one)
    if not said["output"] and not said["errors"]:
        return None
    return Ended(1, "".join(said["output"]), "The worker that ran this was killed.\n")


def keep_workers(number: int) -> None:
    """Keep some workers alive until this process is told to end."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    processes: dict[Path, subprocess.Popen[bytes]] = {}
    ended = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: ended.set())
    try:
        while not ended.is_set():
            for place in range(number):
                path = folder / f"{place}.sock"
                if path not in processes or processes[path].poll() is not None:
                    path.unlink(missing_ok=True)
                    processes[path] = subprocess.Popen(
                        [sys.executable, "-m", "pipelines", "pool", "--worker", str(path)],
                        # In the session of this process, by which `sextant down` finds it.
                        process_group=0,
                        stdin=subprocess.DEVNULL,
                    )
            ended.wait(_RESTART_SECONDS)
    finally:
        for path, process in processes.items():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            path.unlink(missing_ok=True)


def work(socket_path: str, command: Callable[[Sequence[str]], int]) -> None:
    """Be a worker: run the commands that come over a socket, one at a time.

    Ends after a while, and once the code on the disk is no longer what it has loaded.

    Args:
        socket_path: Where to listen.
        command: The command line: runs arguments, returns the exit code.
    """
    path = Path(socket_path)
    loaded = _code()
    project = first_project(find_root(), os.environ.get(ENVIRONMENT_VARIABLE, "local"))
    engines = _warm(project)
    with socket.socket(socket.AF_UNIX) as listener:
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with _short(part) as address:
            listener.bind(address)
        listener.listen()
        part.rename(path)  # seen only once it answers
        for _ in range(_COMMANDS_PER_WORKER):
            connection, _ = listener.accept()
            with connection:
                if _code() != loaded:
                    break  # the asker sees the end of the connection
                _serve(connection, command, engine_of(project))
        path.unlink(missing_ok=True)
    engines.stop()


def _code() -> str:
    return "".join(code_on_disk(package) for package in ("pipelines", "transforms", "training"))


def _warm(project: Project) -> Any:
    """Load the libraries and start Spark, as the stages of a pipeline would."""
    from importlib import import_module

    from pipelines.context import Engines

    for module in (
        "pipelines.runner",
        "mlflow",
        "torch",
        "training.models",
        "transforms.contracts",
    ):
        import_module(module)
    engines = Engines(project, ())
    engines.spark.range(1).count()
    return engines


def _serve(connection: socket.socket, command: Callable[[Sequence[str]], int], engine: str) -> None:
    with connection.makefile("r", encoding="utf-8") as lines:
        line = lines.readline()
        if not line:
            return
        request = json.loads(line)
        if request["engine"] != engine:
            return
        done = threading.Event()
        threading.Thread(target=_end_with, args=(connection, done), daemon=True).start()
        lock = threading.Lock()

        def send(frame: dict[str, Any]) -> None:
            with lock:
                connection.sendall(json.dumps(frame).encode() + b"\n")

        os.chdir(request["cwd"])
        before = dict(os.environ)
        os.environ.update(request["environment"])
        try:
            with redirect_stdout(_Sender("output", send)), redirect_stderr(_Sender("errors", send)):
                try:
                    code = command(request["arguments"])
                except SystemExit as error:  # a wrong option
                    code = error.code if isinstance(error.code, int) else 2
                except Exception:  # as Python itself would end
                    traceback.print_exc()
                    code = 1
            done.set()
            send({"code": code})
        finally:
            done.set()
            os.environ.clear()
            os.environ.update(before)


def _end_with(connection: socket.socket, done: threading.Event) -> None:
    """Kill this process and its JVM when whoever asked goes away before the command has ended."""
    with suppress(OSError):
        connection.recv(1)  # nothing more is ever sent: it returns when the other side closes
    if not done.is_set():
        os.killpg(os.getpgrp(), signal.SIGKILL)


class _Sender(TextIOBase):
    """A text stream that sends what is written."""

    def __init__(self, stream: str, send: Callable[[dict[str, Any]], None]) -> None:
        self._stream, self._send = stream, send

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Send a text."""
        self._send({"stream": self._stream, "text": text})
        return len(text)
