"""A PostgreSQL server of a test's own, from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ports import free_port

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@dataclass(frozen=True)
class Postgres:
    """A server on loopback, with a user `owner`.

    Args:
        folder: Where its data lie.
        port: Where it listens.
        password: Of `owner`, with characters that a URL must quote.
    """

    folder: Path
    port: int
    password: str = "wiesel 7:@/ü"

    def execute(self, statements: str) -> None:
        """Run statements as `owner`."""
        self.call(
            "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d", "postgres",
            "-v", "ON_ERROR_STOP=1", "-c", statements,
            env={**os.environ, "PGPASSWORD": self.password},
        )  # fmt: skip

    def call(self, program: str, *arguments: str, **options: object) -> None:
        """Run a program of the package."""
        # The server refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            for path in (self.folder, *self.folder.glob("password")):
                shutil.chown(path, user)
        command = [str(_BINARIES[-1] / program), *arguments]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.folder, user=user, **options
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new server, ended with the block."""
    if not _BINARIES:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
    server = Postgres(Path(tempfile.mkdtemp(prefix="postgres")), free_port())
    (server.folder / "password").write_text(server.password)
    data = str(server.folder / "data")
    server.call("initdb", "-D", data, "-U", "owner", "-A", "scram-sha-256", "--pwfile", "password")
    options = (
        f"-p {server.port} -c listen_addresses=127.0.0.1 "
        f"-c unix_socket_directories={server.folder} -F"
    )
    # With a log of its own the server does not hold the pipes of this call open.
    log = str(server.folder / "log")
    server.call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        yield server
    finally:
        server.call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(server.folder)
