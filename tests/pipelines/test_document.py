"""Documents: values with their places, and what is refused before anything is built.

Mistakes that fit into a small file have a case in ``cases``, see ``test_spec.py``.
"""

import time
from datetime import UTC, date, datetime

import pytest

from pipelines.document import MAX_VALUES, parse, read_document
from pipelines.errors import Problem, SpecError

TEXT = """\
# a comment
name: shop          # another
number: 42
share: 0.5
yes_no: yes
nothing:
day: 2026-01-05
moment: 2026-01-05T06:00:00Z
quoted: "2026-01-05"
no: key
1: one
list: [a, {b: 1}]
block: |
  <<<<<<<x
  two
same: &it {deep: [1, 2]}
again: *it
"""


def test_values_are_plain_and_keys_are_text():
    assert parse(TEXT, "x.yaml").plain() == {
        "name": "shop",
        "number": 42,
        "share": 0.5,
        "yes_no": True,
        "nothing": None,
        "day": date(2026, 1, 5),
        "moment": datetime(2026, 1, 5, 6, tzinfo=UTC),
        "quoted": "2026-01-05",
        "no": "key",
        "1": "one",
        "list": ["a", {"b": 1}],
        "block": "<<<<<<<x\ntwo\n",
        "same": {"deep": [1, 2]},
        "again": {"deep": [1, 2]},
    }


@pytest.mark.parametrize(
    ("path", "value_at", "key_at"),
    [
        (("name",), (2, 7), (2, 1)),
        (("list",), (12, 7), (12, 1)),
        (("list", 0), (12, 8), None),
        (("list", 1, "b"), (12, 15), (12, 12)),
        (("nothing",), (6, 9), (6, 1)),
    ],
)
def test_every_value_knows_its_place(path, value_at, key_at):
    node = parse(TEXT, "x.yaml")
    assert node.has(path)
    found = node.nearest(path)
    assert (found.at.line, found.at.column) == value_at
    assert (found.key_at and (found.key_at.line, found.key_at.column)) == key_at
    assert found.at.snippet == TEXT.splitlines()[value_at[0] - 1]


def test_nearest_passes_over_what_was_not_written():
    node = parse("a: {b: {c: 1}}", "x.yaml")
    assert node.nearest(("a", 0, "b", "x")).plain() == {"c": 1}
    assert not node.has(("a", "b", "x"))


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("é: 1\nü: [ä, !x ö]", 2, 8),
        ("a: 1\r\nb: !x 1", 2, 4),
        ("a: '\u2028'\nb: !x 1", 3, 4),
    ],
)
def test_places_count_characters_and_lines_as_yaml_does(text, line, column):
    with pytest.raises(SpecError) as caught:
        parse(text, "x.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert problem.snippet[column - 1 :].startswith("!x")


def test_every_mistake_of_form_is_told_at_once():
    text = "a: 1\na: 2\nb: !x 1\nc: {d: 1, d: 2}\n<<: {e: 1}\ng: 2026-99-99\n'': 1"
    with pytest.raises(SpecError) as caught:
        parse(text, "x.yaml")
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (2, "key `a` is given twice, first on line 1"),
        (3, "tags such as `!x` are not accepted"),
        (4, "key `d` is given twice, first on line 4"),
        (5, "merge keys `<<` are not accepted"),
        (6, "`2026-99-99` looks like a timestamp but is none"),
        (7, "a key is empty"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 33 + "]" * 33, "x.yaml:1:36: nested more than 32 levels deep"),
        ("a: " + "[" * 400_000, "x.yaml:1:36: nested more than 32 levels deep"),
        ("a: " + "{b: " * 40, "x.yaml:1:132: nested more than 32 levels deep"),
        ("[" + "1," * MAX_VALUES + "]", "x.yaml:1:20000: more than 10,000 values"),
        ("a: " + "9" * 5000, f"x.yaml:1:4: `{'9' * 40}` looks like a whole number but is none"),
        ("a: \x00", "x.yaml: is no YAML: "),
    ],
    ids=["lists", "very deep", "mappings", "values", "digits", "control character"],
)
def test_size_and_depth_are_bounded(text, message):
    began = time.monotonic()
    with pytest.raises(SpecError) as caught:
        parse(text, "x.yaml")
    assert time.monotonic() - began < 2
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [31, 32])
def test_allowed_depth(depth):
    assert parse("[" * depth + "]" * depth, "x.yaml").plain() is not None


def test_an_anchor_may_be_used_within_the_limit():
    assert parse("a: &x [1]\nb: [*x, *x]", "x.yaml").plain() == {"a": [1], "b": [[1], [1]]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"pipeline: shop\ndescription: caf\xe9\n",
            "x.yaml:2:17: is not UTF-8\n"
            "  2 | description: caf\N{REPLACEMENT CHARACTER}\n"
            "    |                 ^\n"
            "    = Save the file as UTF-8.",
        ),
        (
            b"a" * (2 << 20),
            "x.yaml: is larger than 1 MiB\n"
            "    = Check that this is the file you mean; keep data in the files that `sources` "
            "names.",
        ),
        (None, "x.yaml: cannot be read: no such file or directory"),
    ],
    ids=["latin-1", "large", "absent"],
)
def test_unreadable_files(tmp_path, data, message):
    path = tmp_path / "x.yaml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        read_document(path, root=tmp_path)
    assert str(caught.value).replace(" " * 15 + "^", "^", 0) == message


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(path, root=tmp_path).plain() == {"a": 1}


def test_no_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for tag in (
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [canary]]",
        "!!python/object/new:os.system [touch canary]",
        "!!python/module:canary x",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [touch canary]",
        "!!python/object/apply:subprocess.check_output [[touch, canary]]",
    ):
        with pytest.raises(SpecError, match="are not accepted"):
            parse(f"a: {tag}", "x.yaml")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("column", "line"), [(1, "x" * 300), (150, "x" * 300), (290, "x" * 300), (5, "a\tb\x07c")]
)
def test_a_long_line_is_cut_around_its_column(column, line):
    head, shown, caret = str(Problem("x.yaml", 7, column, line, "is wrong")).splitlines()
    assert head == f"x.yaml:7:{column}: is wrong"
    assert len(shown) < 120
    assert shown.isprintable()
    assert shown[caret.index("^")] == line[column - 1]
