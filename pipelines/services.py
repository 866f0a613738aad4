"""``sextant up`` and ``sextant down``: Airflow, MLflow and Evidently side by side on loopback.

Each part is a process of its own in a session of its own, known by its id and the moment that it
began, so that `down` ends what `up` started and nothing else. Their databases and logs stay in
``.cache/services`` from one start to the next.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import psutil

from pipelines.errors import StageError, UsageError
from pipelines.locks import hold
from pipelines.pool import ENVIRONMENT_VARIABLE, FOLDER_VARIABLE
from pipelines.processes import begin_of, members_of
from pipelines.project import Project, first_project

_SQLITE = Path(__file__).parent / "targets" / "airflow_sqlite"
_PATIENCE = 240.0
_GRACE = 15.0


@dataclass(frozen=True)
class Ports:
    """Where the pages are."""

    airflow: int = 8080
    mlflow: int = 5000
    evidently: int = 8000


@dataclass(frozen=True)
class Process:
    """One process that is kept running.

    Args:
        name: What it is called in messages and in the name of its log.
        command: Its command line.
        answers: An address that answers once it is ready; empty when being alive is enough.
        part: What that address must call healthy; empty when any answer will do.
    """

    name: str
    command: Sequence[str]
    answers: str = ""
    part: str = ""


@dataclass(frozen=True)
class Services:
    """The services of one project folder.

    Args:
        root: The project's folder.
        environment: Name of the environment that tasks run in.
        ports: Where the pages are.
        workers: How many warm processes run the stages.
    """

    root: Path
    environment: str = "local"
    ports: Ports = field(default_factory=Ports)
    workers: int = 2

    @property
    def home(self) -> Path:
        """Databases, logs and notes."""
        return self.root / ".cache" / "services"

    @classmethod
    def last(cls, root: Path) -> Services:
        """The services as `up` last started them.

        Raises:
            UsageError: When it never did.
        """
        note = cls(root).home / "options.json"
        if not note.exists():
            raise UsageError("There is no Airflow here yet: `sextant up` starts one.")
        noted = json.loads(note.read_text())
        return cls(root, noted["environment"], Ports(**noted["ports"]), noted["workers"])

    @classmethod
    def wanted(
        cls,
        root: Path,
        environment: str | None = None,
        ports: Mapping[str, int] | None = None,
        workers: int | None = None,
    ) -> Services:
        """The services with some options: what is not given is as it runs, or else the default.

        Raises:
            UsageError: When they run with other options.
        """
        running = bool(cls(root)._running())
        known = cls.last(root) if running else cls(root)
        wanted = cls(
            root,
            environment or known.environment,
            replace(known.ports, **(ports or {})),
            workers or known.workers,
        )
        if running and wanted != known:
            raise UsageError(
                f"Airflow, MLflow and Evidently are up with other options:\n{known.addresses()}\n"
                "  To change them: `sextant down`, then the same command again."
            )
        return wanted

    def up(self, progress: Callable[[str], None]) -> str:
        """Start all that is not running and wait until it answers.

        Returns:
            The addresses and how to log in.

        Raises:
            UsageError: When another program has a port.
            StageError: When something does not come up; names its log.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold(self.home / "up.lock", "sextant up", wait_seconds=_PATIENCE):
            running = self._running()
            for name, port in vars(self.ports).items():
                if name not in {one.split("-")[0] for one in running} and _is_taken(port):
                    raise UsageError(
                        f"Port {port} for {name} is taken by another program. "
                        f"Choose one: `sextant up --{name}-port {port + 1}`."
                    )
            options = {
                "environment": self.environment,
                "ports": vars(self.ports),
                "workers": self.workers,
            }
            self._write("options.json", json.dumps(options))
            try:
                self._start(running, progress)
            except BaseException:
                self._end(progress, set(self._running()) - set(running))
                raise
        already = len(running) == len(self._processes())
        return f"{'Everything is up already.' if already else 'Up.'}\n{self.addresses()}"

    def down(self, progress: Callable[[str], None]) -> bool:
        """End what `up` started; returns whether anything ran."""
        if not self.home.exists():
            return False
        with hold(self.home / "up.lock", "sextant down", wait_seconds=_PATIENCE):
            return self._end(progress, set(self._noted()))

    def airflow(self, arguments: Sequence[str]) -> int:
        """Run Airflow's own command line on this Airflow; returns its exit code."""
        return subprocess.call([_tool("airflow"), *arguments], env=self.variables())

    def addresses(self) -> str:
        """Where the pages are and how to log in, for a person."""
        return (
            f"Airflow    http://127.0.0.1:{self.ports.airflow}   user admin, password "
            f"{self._password()}\n"
            f"MLflow     http://127.0.0.1:{self.ports.mlflow}\n"
            f"Evidently  http://127.0.0.1:{self.ports.evidently}\n"
            f"Next: open Airflow and trigger `{self._project.pipeline.pipeline}`; "
            "`sextant down` ends all of this."
        )

    def _start(self, running: Mapping[str, int], progress: Callable[[str], None]) -> None:
        environment = self.variables()
        (self.home / "airflow").mkdir(exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        if "airflow-scheduler" not in running:
            progress("airflow: preparing its database ...")
            _run_once([_tool("airflow"), "db", "migrate"], environment, self._log("airflow-db"))
        for process in self._processes():
            if process.name in running:
                continue
            self._end(progress, {process.name})  # what a killed one left behind
            started = subprocess.Popen(
                process.command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log(process.name).open("ab"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._note({**self._noted(), process.name: (started.pid, begin_of(started.pid))})
        for process in self._processes():
            progress(f"{process.name}: waiting until it answers ...")
            self._await(process)

    def _await(self, process: Process) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            if process.name not in self._running():
                raise StageError(
                    f"{process.name} ended right away. Its last words:\n{self._tail(process.name)}"
                    f"\n  Log: {self._log(process.name)}"
                )
            if not process.answers or _answers(process):
                return
            if time.monotonic() > deadline:
                raise StageError(
                    f"{process.name} does not answer at {process.answers} after "
                    f"{_PATIENCE:.0f} seconds.\n  Log: {self._log(process.name)}"
                )
            time.sleep(0.5)

    def _end(self, progress: Callable[[str], None], names: Set[str]) -> bool:
        """End some processes with all that they started; returns whether there were any."""
        leaders = {name: found for name, found in self._noted().items() if name in names}
        family = members_of(leaders.values())
        for name, (pid, began) in reversed(leaders.items()):
            if begin_of(pid) == began:
                progress(f"{name}: ending ...")
                os.killpg(pid, signal.SIGTERM)
        psutil.wait_procs(family, timeout=_GRACE)
        while left := members_of(leaders.values()):
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=_GRACE)
        noted = self._noted()
        self._note({name: found for name, found in noted.items() if name not in names})
        return bool(family)

    def _processes(self) -> list[Process]:
        airflow, ports, quiet = _tool("airflow"), self.ports, "--skip-serve-logs"
        api = f"http://127.0.0.1:{ports.airflow}/api/v2/monitor/health"
        ours = [sys.executable, "-m", "pipelines"]
        return [
            Process(
                "mlflow",
                [
                    *(_tool("mlflow"), "server", "--host", "127.0.0.1"),
                    *("--port", str(ports.mlflow)),
                    *("--workers", "1", "--artifacts-destination", self._project.artifacts),
                ],
                f"http://127.0.0.1:{ports.mlflow}/health",
            ),
            Process(
                "evidently",
                [
                    *(_tool("evidently"), "ui", "--host", "127.0.0.1"),
                    *("--port", str(ports.evidently)),
                    *("--workspace", str(self._project.workspace)),
                ],
                f"http://127.0.0.1:{ports.evidently}/",
            ),
            Process("pool", [*ours, "pool", "--workers", str(self.workers)]),
            Process("airflow-api", [airflow, "api-server"], api),
            # Their logs lie on this disk; a server for them would listen on all addresses.
            Process("airflow-scheduler", [airflow, "scheduler", quiet], api, "scheduler"),
            Process("airflow-dags", [airflow, "dag-processor"], api, "dag_processor"),
            Process("airflow-triggerer", [airflow, "triggerer", quiet], api, "triggerer"),
        ]

    def variables(self) -> dict[str, str]:
        """The environment of all of them, and of `airflow` on the command line."""
        home = self.home / "airflow"
        here = f"http://127.0.0.1:{self.ports.airflow}"
        own = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{here}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__FERNET_KEY": self._secret("fernet_key"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports.airflow),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("secret_key"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt_secret"),
            "AIRFLOW__API__EXPOSE_CONFIG": "False",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
            FOLDER_VARIABLE: str(self.home / "pool"),
            ENVIRONMENT_VARIABLE: self.environment,
            # May hold a password, which the arguments of a process show to everybody.
            "MLFLOW_BACKEND_STORE_URI": self._project.tracking_uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        airflow = self._project.pipeline.environment.airflow
        own["AIRFLOW__CORE__EXECUTOR"] = airflow.executor
        # One process writes at a time; SQLite's own patience of five seconds is too short for that.
        waits = f"sqlite:///{home / 'airflow.db'}?timeout={_PATIENCE:.0f}"
        own["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = airflow.database or waits
        if not airflow.database:
            paths = [str(_SQLITE), os.environ.get("PYTHONPATH", "")]
            own["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        own.update(airflow.settings)
        return {**os.environ, **own}

    @cached_property
    def _project(self) -> Project:
        """A pipeline of the folder: its environment says where MLflow and the reports are."""
        return first_project(self.root, self.environment)

    def _password(self) -> str:
        file = self.home / "airflow" / "simple_auth_manager_passwords.json.generated"
        if not file.exists():
            return "in the log of airflow-api"
        password: str = json.loads(file.read_text())["admin"]
        return password

    def _secret(self, name: str) -> str:
        """A key that Airflow's parts share, made once."""
        import base64

        file = self.home / name
        if not file.exists():
            self._write(name, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        return file.read_text()

    def _write(self, name: str, text: str) -> None:
        """Write one of our files, which all lie in a private folder, in one step."""
        part = self.home / f"{name}.part"
        part.write_text(text)
        part.replace(self.home / name)

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _tail(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-5:]
        return "\n".join(f"    {line}" for line in lines)

    def _noted(self) -> dict[str, tuple[int, int]]:
        file = self.home / "processes.json"
        if not file.exists():
            return {}
        return {name: (pid, began) for name, (pid, began) in json.loads(file.read_text()).items()}

    def _note(self, processes: Mapping[str, tuple[int, int]]) -> None:
        self._write("processes.json", json.dumps(processes))

    def _running(self) -> dict[str, int]:
        """Name and id of each process that `up` started and that is still alive."""
        return {name: pid for name, (pid, began) in self._noted().items() if begin_of(pid) == began}


def _tool(name: str) -> str:
    """A command of the environment that this Python belongs to."""
    return str(Path(sys.executable).parent / name)


def _run_once(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as out:
        code = subprocess.call(command, env=dict(environment), stdout=out, stderr=out)
    if code:
        raise StageError(f"`{' '.join(command)}` ended with {code}.\n  Log: {log}")


def _answers(process: Process) -> bool:
    try:
        with urllib.request.urlopen(process.answers, timeout=5) as answer:
            if not process.part:
                return bool(answer.status == 200)
            return bool(json.load(answer)[process.part]["status"] == "healthy")
    except (OSError, urllib.error.URLError):
        return False


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
