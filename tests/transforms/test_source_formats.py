"""Formats beside CSV and Parquet, files in folders by date, and the file that a row came from."""

from __future__ import annotations

import gzip
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from pipelines.bootstrap import jdbc_driver
from transforms.sources import (
    CORRUPT_ROW,
    FILE,
    Database,
    SourceError,
    list_source,
    read_source,
    reading,
)

pytestmark = pytest.mark.slow

NESTED = [
    {"id": "007", "user": {"id": 9007199254740993, "flags": {"vip": True}}, "tags": ["a", "b"]},
    {"id": 1.10, "user": None, "note": "é"},
    {"id": 2, "a.b": "dotted", "user": {"id": "x"}},
]


def write(path: Path, data: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return str(path)


def lines(rows: list[object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rows_of(df, *columns: str):
    return sorted(tuple(row) for row in df.select(*columns).collect())


def test_json_lines_keep_every_value_as_written(spark, tmp_path):
    path = write(tmp_path / "a.jsonl.zst", "\n" + lines(NESTED) + '{"id": 3, "user": 5}\n{broken\n')
    wanted = ["id", "user.id", "user.flags", "tags", "a.b", "note"]
    df = read_source(spark, [path], format="jsonl", wanted=wanted)
    assert [tuple(row) for row in df.collect()] == [
        ("007", "9007199254740993", '{"vip":true}', '["a","b"]', None, None, None),
        ("1.1", None, None, None, None, "é", None),
        ("2", "x", None, None, "dotted", None, None),
        ("3", None, None, None, None, None, '{"id": 3, "user": 5}'),
        (None, None, None, None, None, None, "{broken"),
    ]
    assert df.columns == [*wanted, CORRUPT_ROW]


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        (
            lines(NESTED), ["id", "user.idd", "tag"],
            "{path}: 2 mapped columns are missing.\n"
            "  `user.idd` is not in the source. Did you mean `user.id`?\n"
            "  `tag` is not in the source. Did you mean `tags`?\n"
            "  The source has: id, user, user.id, user.flags, user.flags.vip, tags, note, a.b.",
        ),
        (
            lines(NESTED), ["user", "user.id"],
            "{path}: `user` and `user.id` are both mapped, but the one holds the other. "
            "Map the parts of `user` that you need.",
        ),
        (
            '[\n  {\n    "id": 1\n  }\n]\n', ["id"],
            "{path}: no line is a JSON object. It looks like one JSON value over several lines: "
            "write one object a line, for instance with `jq -c '.[]' FILE`.\n  First line: [",
        ),
        (
            "id,t\n1,2\n", ["id"],
            "{path}: no line is a JSON object. Set `format` to what it is.\n  First line: id,t",
        ),
    ],
)  # fmt: skip
def test_json_lines_that_do_not_fit_are_refused(spark, tmp_path, text, wanted, message):
    path = write(tmp_path / "a.jsonl", text)
    with pytest.raises(SourceError) as error:
        read_source(spark, [path], format="jsonl", wanted=wanted)
    assert str(error.value) == message.format(path=path)


def test_a_file_may_lack_a_field_that_others_have(spark, tmp_path):
    write(tmp_path / "1.jsonl", lines([{"id": 1, "note": "n"}]))
    write(tmp_path / "2.jsonl", lines([{"id": 2}]))
    second = list_source(spark, [str(tmp_path)], format="jsonl")[1:]
    df = read_source(spark, [str(tmp_path)], format="jsonl", wanted=["id", "note"], files=second)
    assert rows_of(df, "id", "note") == [("2", None)]


@pytest.mark.parametrize(
    ("name", "text", "header", "expected"),
    [
        ("a.txt.gz", "1 2  3.5\n  4\t5 6  \n\n7 8\n", False,
         [(None, None, None, "7 8"), ("1", "2", "3.5", None), ("4", "5", "6", None)]),
        ("a.dat", "\ufeffu  i v\n1 2 3\n", True, [("1", "2", "3", None)]),
    ],
)  # fmt: skip
def test_fields_may_have_white_space_between_them(spark, tmp_path, name, text, header, expected):
    path = write(tmp_path / name, text)
    df = read_source(spark, [path], format="csv", delimiter="whitespace", header=header)
    assert df.columns == [*(["u", "i", "v"] if header else ["_c0", "_c1", "_c2"]), CORRUPT_ROW]
    found = [tuple(row) for row in df.collect()]
    assert sorted(found, key=lambda row: row[0] or "") == expected


def test_files_of_words_with_different_headers_are_refused(spark, tmp_path):
    write(tmp_path / "1.txt", "a b\n1 2\n")
    write(tmp_path / "2.txt", "b a\n1 2\n")
    with pytest.raises(SourceError) as error, reading(str(tmp_path)):
        read_source(spark, [str(tmp_path)], format="csv", delimiter="whitespace").collect()
    assert "its header is `b, a`, but another file of this source has `a, b`." in str(error.value)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("log/{day}/*.csv", "day"),
        ("log/{day}", "day"),
        ("hive", "dt"),
        ("hive/*/x", "dt"),
        ("log/2026-01-0?/log_{part}.csv", "part"),
    ],
)
def test_parts_of_paths_are_columns(spark, tmp_path, path, wanted):
    for day in ("2026-01-01", "2026-01-02"):
        write(tmp_path / "log" / day / f"log_{day[-2:]}.csv", f"id\n{day[-2:]}\n")
        write(tmp_path / "hive" / f"dt={day} 07%3A00" / "x" / "a.csv", f"id\n{day[-2:]}\n")
    write(tmp_path / "hive" / "_SUCCESS", "")
    df = read_source(spark, [str(tmp_path / path)], format="csv", wanted=["id", wanted])
    values = {
        "day": ["2026-01-01", "2026-01-02"],
        "dt": ["2026-01-01 07:00", "2026-01-02 07:00"],
        "part": ["01", "02"],
    }
    assert rows_of(df, "id", wanted) == list(zip(("01", "02"), values[wanted], strict=True))


def test_json_lines_take_columns_from_folders(spark, tmp_path):
    write(tmp_path / "dt=2026-01-01" / "a.jsonl", lines([{"id": 1}]))
    df = read_source(spark, [str(tmp_path)], format="jsonl", wanted=["id", "dt"])
    assert rows_of(df, "id", "dt") == [("1", "2026-01-01")]


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_row_names_its_file_as_the_list_does(spark, tmp_path, format):
    names = ["plain", "sp ace+%20", "[x]{y}*", "ü"]
    for number, name in enumerate(names):
        path = tmp_path / "in" / f"{name}.{format}"
        write(path, {"csv": f"id\n{number}\n", "jsonl": f'{{"id":"{number}"}}\n'}.get(format, ""))
        if format == "parquet":
            pq.write_table(pa.table({"id": [str(number)]}), path)
    write(tmp_path / "in" / ".hidden.csv", "")
    root = [str(tmp_path / "in")]
    files = list_source(spark, root, format=format)
    expected = {str(tmp_path / "in" / f"{n}.{format}"): str(i) for i, n in enumerate(names)}
    assert [file.path for file in files] == sorted(expected)
    df = read_source(spark, root, format=format, wanted=["id"], with_file=True)
    assert {row[FILE]: row["id"] for row in df.collect()} == expected
    odd = [file for file in files if "*" in file.path or "%" in file.path]
    df = read_source(spark, root, format=format, wanted=["id"], with_file=True, files=odd)
    assert rows_of(df, FILE) == [(file.path,) for file in odd]
    marks = {file.path: file.mark for file in files}
    grown = tmp_path / "in" / f"ü.{format}"
    grown.write_bytes(grown.read_bytes() + b"\n")
    changed = [f.path for f in list_source(spark, root, format=format) if marks[f.path] != f.mark]
    assert changed == [str(grown)]


def test_values_inside_others_are_columns(spark, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": [{"id": 7, "geo": {"city": "Ulm"}}], "x.y": [1]}), path)
    df = read_source(
        spark, [str(path)], format="parquet", wanted=["user.id", "user.geo.city", "x.y"]
    )
    assert rows_of(df, "`user.id`", "`user.geo.city`", "`x.y`") == [(7, "Ulm", 1)]


def test_a_delta_table_is_read_at_the_version_that_was_listed(spark, tmp_path):
    path = str(tmp_path / "table")
    write_deltalake(path, pa.table({"id": ["1"]}))
    (first,) = list_source(spark, [path], format="delta")
    write_deltalake(path, pa.table({"id": ["2"]}), mode="append")
    (second,) = list_source(spark, [path], format="delta")
    assert (first.path, first.mark, second.mark) == (path, "0", "1")
    old = read_source(spark, [path], format="delta", files=[first], with_file=True)
    assert rows_of(old, "id", FILE) == [("1", path)]
    assert rows_of(read_source(spark, [path], format="delta"), "id") == [("1",), ("2",)]


@pytest.fixture
def shop(tmp_path) -> Database:
    """A database whose columns hold other types than they declare, as SQLite allows."""
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as base:
        base.execute("CREATE TABLE log (id INTEGER, at REAL, what TEXT, ok BOOLEAN, day TIMESTAMP)")
        base.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
            [
                (1, 1767598200.123456, "x", 1, "2026-01-01"),
                (2**62, "noon", "y", "no", None),
                (3, None, "", 0, "2026-01-01 00:00:00"),
            ],
        )
    base.close()
    url = f"jdbc:sqlite:{file}"
    return Database(url, "log", jdbc_driver(url), cursor="id")


def test_sqlite_is_read_as_texts(spark, shop):
    df = read_source(spark, [], format="jdbc", database=shop, wanted=["id", "at"], with_file=True)
    found = rows_of(df, "id", "at", "what", "ok", "day")
    assert found == [
        ("1", "1767598200.123456", "x", "1", "2026-01-01"),
        ("3", None, None, "0", "2026-01-01 00:00:00"),
        (str(2**62), "noon", "y", "no", None),
    ]
    assert df.first()[FILE] == f"{shop.url} (log)"


def test_without_a_cursor_every_change_is_seen(spark, shop):
    whole = replace(shop, cursor=None)

    def mark():
        (found,) = list_source(spark, [], format="jdbc", database=whole)
        assert found.path == f"{shop.url} (log)"
        return found.size, found.mark

    def execute(statement):
        with sqlite3.connect(shop.url.removeprefix("jdbc:sqlite:")) as base:
            base.execute(statement)
        base.close()

    before = mark()
    assert before == mark()
    assert before[0] == 3
    execute("UPDATE log SET what = 'z' WHERE what = 'x'")
    changed = mark()
    assert (changed[0], changed[1] == before[1]) == (3, False), "as many rows, another value"
    execute("UPDATE log SET what = 'x' WHERE what = 'z'")
    assert mark() == before
    execute("DELETE FROM log")
    assert mark() == (0, "0:0000000000000000")


def test_a_cursor_finds_the_rows_that_were_added(spark, shop):
    (first,) = list_source(spark, [], format="jdbc", database=shop)
    assert (first.path, first.size, first.mark, first.after) == (
        f"{shop.url} (log) #1", 3, str(2**62), None,
    )  # fmt: skip
    known = [(first.path, first.mark)]
    assert list_source(spark, [], format="jdbc", database=shop, known=known)[1:] == []
    with sqlite3.connect(shop.url.removeprefix("jdbc:sqlite:")) as base:
        base.execute("INSERT INTO log (id, what) VALUES (?, 'new')", [2**62 + 1])
    base.close()
    again, second = list_source(spark, [], format="jdbc", database=shop, known=known)
    assert (again.path, again.mark) == known[0]
    assert (second.path, second.size, second.after) == (f"{shop.url} (log) #2", 1, str(2**62))
    new = read_source(spark, [], format="jdbc", database=shop, files=[second], with_file=True)
    assert rows_of(new, "id", "what", FILE) == [(str(2**62 + 1), "new", second.path)]
    old = read_source(spark, [], format="jdbc", database=shop, files=[first])
    assert len(rows_of(old, "id")) == 3
    with sqlite3.connect(shop.url.removeprefix("jdbc:sqlite:")) as base:
        base.execute("INSERT INTO log (what) VALUES ('lost')")
    base.close()
    with pytest.raises(SourceError) as error:
        list_source(spark, [], format="jdbc", database=shop, known=known)
    assert str(error.value) == (
        f"{shop.url} (log): 1 rows have no `id`, and reading by it would never find them. "
        "Choose a cursor that every row has, or leave it out."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": "SELECT what, id AS number FROM log WHERE id < 4;", "cursor": "nummer"},
         "{url} (SELECT what, id AS number FROM log WHERE id < 4;): the cursor `nummer` is not "
         "among its columns. Did you mean `number`?\n  It has: what, number."),
        ({"rows": "logg"}, "{url} (logg): the database refuses: "
         "[SQLITE_ERROR] SQL error or missing database (no such table: logg)"),
        ({"url": "jdbc:sqlite:{dir}/shp.db"},
         "{dir}/shp.db: there is no such database. Did you mean `shop.db`?"),
    ],
)  # fmt: skip
def test_a_database_that_does_not_fit_is_refused(spark, shop, change, message):
    folder = str(Path(shop.url.removeprefix("jdbc:sqlite:")).parent)
    options = {**vars(shop), **{key: value.format(dir=folder) for key, value in change.items()}}
    with pytest.raises(SourceError) as error:
        list_source(spark, [], format="jdbc", database=Database(**options))
    assert str(error.value) == message.format(url=shop.url, dir=folder)
    assert not Path(folder, "shp.db").exists()


def test_rows_of_an_array_are_vectors(spark, tmp_path):
    path = tmp_path / "vectors.npy"
    array = np.random.default_rng(0).normal(size=(3000, 700)).astype(np.float16)
    np.save(path, array)
    df = read_source(spark, [str(path)], format="npy", wanted=["row", "vector"], with_file=True)
    found = {row["row"]: row for row in df.collect()}
    assert list(found) == [str(number) for number in range(3000)]
    assert found["2999"]["vector"] == array[2999].astype(float).tolist()
    assert found["0"][FILE] == str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(3),
         "{path}: holds an array (3,) of float64; it must have two dimensions, a row for each item, "
         "and hold numbers."),
        (np.array([[None]]),
         "{path}: cannot be read as a NumPy array of numbers: Array can't be memory-mapped: Python "
         "objects in dtype.\n  Write it with numpy.save(FILE, array), with a 2-D array of numbers."),
    ],
)  # fmt: skip
def test_an_array_that_does_not_fit_is_refused(spark, tmp_path, content, message):
    path = tmp_path / "vectors.npy"
    np.save(path, content, allow_pickle=True)
    with pytest.raises(SourceError) as error:
        read_source(spark, [str(path)], format="npy")
    assert str(error.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"id\n1\n", "its name ends in .zst but it is not a zstd file"),
        (pa.compress(np.random.default_rng(0).bytes(1 << 20), codec="zstd",
                     asbytes=True)[:-4000], "it is cut short"),
    ],
)  # fmt: skip
def test_damaged_zstd_is_named(spark, tmp_path, data, reason):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(data)
    with pytest.raises(SourceError) as error, reading(str(path)):
        read_source(spark, [str(path)], format="csv").collect()
    assert str(error.value) == (
        f"{path}: cannot be read: {reason}. Fetch or export the file again; nothing was written."
    )
