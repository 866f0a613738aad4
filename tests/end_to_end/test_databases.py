"""Events in a PostgreSQL server of its own: types, credentials, and new rows alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.errors import StageError
from pipelines.project import Project
from pipelines.stages.source_frames import listed, typed
from transforms.sources import SourceError

pytestmark = [pytest.mark.slow, pytest.mark.system]

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "wiesel 7:@/ü"
SPEC = """\
pipeline: shop
sources:
  events:
    path: jdbc:postgresql://127.0.0.1:{port}/postgres
    query: SELECT * FROM "Log" WHERE kind <> 'test'
    cursor: {cursor}
    user: ${{SHOP_USER}}
    password: ${{SHOP_PASSWORD}}
    columns: {{user_id: customer, item_id: sku, timestamp: {{from: {time}, zone: Asia/Shanghai}}, value: stars, exploration: shown}}
    event_type: {{column: kind, map: {{buy: click}}}}
models: [popularity]
"""
TABLE = """
CREATE TABLE "Log" (
    id bigserial, customer uuid, sku numeric, at timestamptz, local timestamp, stars numeric(3,1),
    shown boolean, kind text
);
INSERT INTO "Log" (customer, sku, at, local, stars, shown, kind) VALUES
    ('00000000-0000-0000-0000-000000000007', 9007199254740993, '2026-01-01 07:30:00.123456+08',
     '2026-01-01 07:30:00.123456', 4.5, true, 'buy'),
    ('00000000-0000-0000-0000-000000000008', 2, '2026-01-02 00:00:00Z', '2026-01-02 08:00:00',
     NULL, NULL, 'view'),
    ('00000000-0000-0000-0000-000000000009', 3, now(), now(), 1.0, false, 'test');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, Callable[[str], None]]]:
    """A server's port, and what runs statements there."""
    if not BINARIES:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program: str, *arguments: str, **options: object) -> None:
        command = [str(BINARIES[-1] / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, user=user, **options)

    def execute(statements: str) -> None:
        call(
            "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "owner", "-d", "postgres",
            "-v", "ON_ERROR_STOP=1", "-c", statements,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )  # fmt: skip

    data = str(folder / "data")
    call("initdb", "-D", data, "-U", "owner", "-A", "scram-sha-256", "--pwfile", "password")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F"
    # With a log of its own the server does not hold the pipes of this call open.
    call("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        execute(TABLE)
        yield port, execute
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def project(server, tmp_path, monkeypatch) -> Callable[[str, str], Project]:
    """Returns `project(cursor, time)`: a shop on that server."""
    monkeypatch.setenv("SHOP_USER", "owner")
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    repository = Path(__file__).resolve().parents[2]
    for folder in ("configs/models", "data_contracts"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(repository / folder)
    (tmp_path / "configs" / "pipelines").mkdir()

    def build(cursor: str, time: str) -> Project:
        file = tmp_path / "configs" / "pipelines" / "shop.yaml"
        file.write_text(SPEC.format(port=server[0], cursor=cursor, time=time))
        return Project.load("shop", root=tmp_path)

    return build


def test_new_rows_are_read_alone(spark, server, project):
    _, execute = server
    expected = [
        ("00000000-0000-0000-0000-000000000007", "9007199254740993", "click", 4.5, True,
         datetime(2025, 12, 31, 23, 30, 0, 123456, tzinfo=UTC)),
        ("00000000-0000-0000-0000-000000000008", "2", "view", None, None,
         datetime(2026, 1, 2, tzinfo=UTC)),
    ]  # fmt: skip
    columns = ("user_id", "item_id", "event_type", "value", "exploration", "timestamp", "_file")
    for cursor, time in (("id", "at"), ("at", "local")):
        shop = project(cursor, time)
        (source,) = shop.pipeline.sources.events
        (first,) = listed(spark, shop, source)
        good, bad = typed(spark, shop, "events", source, files=[first], with_file=True)
        found = [
            (*row[:5], row.timestamp.astimezone(UTC), row["_file"])
            for row in good.select(*columns).orderBy("user_id").collect()
        ]
        assert found == [(*row, first.path) for row in expected]
        assert bad.isEmpty()
        known = [(first.path, first.mark)]
        assert len(listed(spark, shop, source, known)) == 1
        execute(
            'INSERT INTO "Log" (customer, sku, at, local, kind) VALUES '
            "(gen_random_uuid(), 4, '2026-02-01Z', '2026-02-01', 'like')"
        )
        _, second = listed(spark, shop, source, known)
        assert (second.size, second.after) == (1, first.mark)
        good, _ = typed(spark, shop, "events", source, files=[second], with_file=True)
        assert [(row.item_id, row["_file"]) for row in good.collect()] == [("4", second.path)]
        execute('DELETE FROM "Log" WHERE sku = 4')
        spec = shop.pipeline.model_dump_json(by_alias=True) + repr(shop.pipeline)
        assert PASSWORD not in spec
        assert "${SHOP_PASSWORD}" in spec


def test_a_server_that_refuses_is_told(spark, project, monkeypatch):
    shop = project("id", "at")
    (source,) = shop.pipeline.sources.events
    monkeypatch.setenv("SHOP_PASSWORD", "wrong")
    with pytest.raises(SourceError) as error:
        listed(spark, shop, source)
    assert str(error.value) == (
        f"{source.path} (SELECT * FROM \"Log\" WHERE kind <> 'test'): the database refuses: "
        'FATAL: password authentication failed for user "owner"'
    )
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(StageError) as missing:
        listed(spark, shop, source)
    assert str(missing.value) == (
        "The environment variable `SHOP_PASSWORD` is not set.\n"
        "  It holds a secret of the spec: run `export SHOP_PASSWORD=...` where the pipeline "
        "runs."
    )
