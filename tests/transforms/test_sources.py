"""Reading sources: what comes in as it is, and the whole text of what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.sources import CORRUPT_ROW, SourceError, read_source, reading


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def rows_of(df):
    return [tuple(row) for row in df.drop(CORRUPT_ROW).collect()]


@pytest.mark.parametrize(
    ("name", "text", "options", "expected"),
    [
        pytest.param(
            "a.csv", "id,t\n00123,é日\n9007199254740993,\n", {},
            [("00123", "é日"), ("9007199254740993", None)], id="text is exact",
        ),
        pytest.param(
            "b.dat.gz", "1::A:1::x\n", {"delimiter": "::", "header": False},
            [("1", "A:1", "x")], id="gzip, two characters, no header",
        ),
        pytest.param(
            "c.csv", 'id;t\n1;"a;""b""\nc"\n', {"delimiter": ";"}, [("1", 'a;"b"\nc')],
            id="quotes and a line break inside a field",
        ),
        pytest.param(
            "d.csv", "\ufeffid,t\nNA,-\n", {"null_values": ["NA", "-"]}, [(None, None)],
            id="byte order mark and own null values",
        ),
        pytest.param(
            "e.csv", "id,t\n1,Amélie\n", {"encoding": "ISO-8859-1"}, [("1", "Amélie")], id="latin 1"
        ),
    ],
)  # fmt: skip
def test_csv_is_read_as_text(spark, tmp_path, name, text, options, expected):
    path = write(tmp_path / name, text, options.get("encoding", "utf-8"))
    df = read_source(spark, [path], format="csv", **options)
    assert rows_of(df) == expected
    assert df.columns[0] in {"id", "_c0"}


def test_a_line_of_another_length_is_kept_whole(spark, tmp_path):
    path = write(tmp_path / "a.csv", "id,t\n1,x\n2\n3,y,z\n")
    df = read_source(spark, [path], format="csv", wanted=["id"])
    found = df.select("id", CORRUPT_ROW).collect()
    assert [tuple(row) for row in found] == [("1", None), ("2", "2"), ("3", "3,y,z")]


def test_folders_globs_and_several_files_are_one_source(spark, tmp_path):
    for number in range(3):
        write(tmp_path / "day" / f"{number}.csv", f"id\n{number}\n")
    paths = [str(tmp_path / "day" / "[01].csv"), str(tmp_path / "day" / "2.csv")]
    assert sorted(rows_of(read_source(spark, paths, format="csv"))) == [("0",), ("1",), ("2",)]
    pq.write_table(pa.table({"id": [1]}), tmp_path / "p.parquet")
    assert rows_of(read_source(spark, [str(tmp_path / "p.parquet")], format="parquet")) == [(1,)]


def damaged_parquet(path: Path) -> str:
    pq.write_table(pa.table({"id": list(range(100_000))}), path)
    path.write_bytes(path.read_bytes()[:-2000])
    return str(path)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        pytest.param(
            lambda d: write(d / "events.csv", "id\n1\n").replace("events", "event"), {},
            "{dir}/event.csv: there is no such file or folder. Did you mean `events.csv`?",
            id="missing file",
        ),
        pytest.param(
            lambda d: str(d / "nowhere" / "events.csv"), {},
            "{dir}/nowhere/events.csv: there is no such file or folder. "
            "The folder {dir}/nowhere does not exist or is empty.",
            id="missing folder",
        ),
        pytest.param(
            lambda d: str(d / "*.csv"), {},
            "{dir}/*.csv: no file matches this pattern. Check the folder and the ending.",
            id="no match",
        ),
        pytest.param(
            lambda d: write(d / "a.csv", "userId;movieId;x\n1;2;3\n"),
            {"wanted": ["userId", "movieId"]},
            '{dir}/a.csv: with the delimiter "," every line is one field, but 2 columns are '
            'mapped. The delimiter looks like ";": set `delimiter: ";"`.\n'
            "  First line: userId;movieId;x",
            id="wrong delimiter",
        ),
        pytest.param(
            lambda d: write(d / "a.dat", "1::Toy Story: 1\n"),
            {"wanted": ["_c0", "_c1"], "header": False},
            '{dir}/a.dat: with the delimiter "," every line is one field, but 2 columns are '
            'mapped. The delimiter looks like "::": set `delimiter: "::"`.\n'
            "  First line: 1::Toy Story: 1",
            id="wrong delimiter without header",
        ),
        pytest.param(
            lambda d: write(d / "a.csv", "user_id,item,at\n1,2,3\n"),
            {"wanted": ["userid", "item", "zz"]},
            "{dir}/a.csv: 2 mapped columns are missing.\n"
            "  `userid` is not in the source. Did you mean `user_id`?\n"
            "  `zz` is not in the source.\n"
            "  The source has: user_id, item, at.",
            id="missing columns",
        ),
        pytest.param(
            lambda d: write(d / "a.csv", ""), {},
            "{dir}/a.csv: the file is empty; it lacks even a header line.", id="empty file",
        ),
        pytest.param(
            lambda d: write(d / "a.txt", "x"), {"format": "json"},
            "{dir}/a.txt: the format `json` is not known; "
            "use one of csv, jsonl, parquet, delta, jdbc, npy.", id="format",
        ),
        pytest.param(
            lambda d: damaged_parquet(d / "a.parquet"), {"format": "parquet"},
            "{dir}/a.parquet: cannot be read: it is not a Parquet file, or it is cut short. "
            "Fetch or export the file again; nothing was written.",
            id="cut short",
        ),
    ],
)  # fmt: skip
def test_a_source_that_cannot_be_read_is_refused(spark, tmp_path, make, options, message):
    path = make(tmp_path)
    with pytest.raises(SourceError) as error:
        read_source(spark, [path], **{"format": "csv", **options})
    assert str(error.value) == message.format(dir=tmp_path)


def flipped_parquet(folder: Path) -> str:
    path = folder / "a.parquet"
    table = pa.table({"id": list(range(100_000))})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return str(path)


def not_gzip(folder: Path) -> str:
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id\n" + b"1234567890\n" * 50_000)[:-40])
    return str(path)


@pytest.mark.parametrize(
    ("make", "format", "message"),
    [
        pytest.param(
            flipped_parquet, "parquet",
            "{dir}/a.parquet: cannot be read: its checksum is wrong, so bytes changed since it was "
            "written. Fetch or export the file again; nothing was written.",
            id="flipped byte",
        ),
        pytest.param(
            not_gzip, "csv",
            "{dir}/a.csv.gz: cannot be read: it is cut short. Fetch or export the file again; "
            "nothing was written.",
            id="gzip cut short",
        ),
    ],
)  # fmt: skip
def test_damage_inside_a_file_is_named_when_rows_are_read(spark, tmp_path, make, format, message):
    path = make(tmp_path)
    with pytest.raises(SourceError) as error, reading(path):
        read_source(spark, [path], format=format).collect()
    assert str(error.value) == message.format(dir=tmp_path)


def test_files_with_different_headers_are_refused(spark, tmp_path):
    write(tmp_path / "1.csv", "id,t\n1,a\n")
    write(tmp_path / "2.csv", "t,id\nb,2\n")
    with pytest.raises(SourceError) as error, reading(str(tmp_path)):
        read_source(spark, [str(tmp_path)], format="csv").collect()
    # Which of the two comes first is Spark's choice.
    text = (
        "{dir}/{file}.csv: its header is `{own}`, but another file of this source has `{other}`. "
        "Give files of different layouts as sources of their own."
    )
    assert str(error.value) in {
        text.format(dir=tmp_path, file=1, own="id, t", other="t, id"),
        text.format(dir=tmp_path, file=2, own="t, id", other="id, t"),
    }


def test_other_failures_pass_unchanged(spark):
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO"), reading("x"):
        spark.sql("SELECT 1 / 0").collect()
