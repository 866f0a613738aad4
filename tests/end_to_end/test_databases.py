"""Events in a PostgreSQL server of its own: types, credentials, and new rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from postgres import Postgres, postgres

from pipelines.errors import StageError
from pipelines.project import Project
from pipelines.stages.source_frames import listed, typed
from transforms.sources import SourceError

pytestmark = [pytest.mark.slow, pytest.mark.system]

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
def server() -> Iterator[Postgres]:
    """A server with a table of events."""
    with postgres() as found:
        found.execute(TABLE)
        yield found


@pytest.fixture
def project(server, tmp_path, monkeypatch) -> Callable[[str, str], Project]:
    """Returns `project(cursor, time)`: a shop on that server."""
    monkeypatch.setenv("SHOP_USER", "owner")
    monkeypatch.setenv("SHOP_PASSWORD", server.password)
    repository = Path(__file__).resolve().parents[2]
    for folder in ("configs/models", "data_contracts"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(repository / folder)
    (tmp_path / "configs" / "pipelines").mkdir()

    def build(cursor: str, time: str) -> Project:
        file = tmp_path / "configs" / "pipelines" / "shop.yaml"
        file.write_text(SPEC.format(port=server.port, cursor=cursor, time=time))
        return Project.load("shop", root=tmp_path)

    return build


def test_new_rows_are_read_alone(spark, server, project):
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
        server.execute(
            'INSERT INTO "Log" (customer, sku, at, local, kind) VALUES '
            "(gen_random_uuid(), 4, '2026-02-01Z', '2026-02-01', 'like')"
        )
        _, second = listed(spark, shop, source, known)
        assert (second.size, second.after) == (1, first.mark)
        good, _ = typed(spark, shop, "events", source, files=[second], with_file=True)
        assert [(row.item_id, row["_file"]) for row in good.collect()] == [("4", second.path)]
        server.execute('DELETE FROM "Log" WHERE sku = 4')
        spec = shop.pipeline.model_dump_json(by_alias=True) + repr(shop.pipeline)
        assert server.password not in spec
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
