"""Descriptions: everything has one, and they say what the records say."""

import re
from pathlib import Path

import pytest

from pipelines.describe import describe
from pipelines.errors import UsageError
from pipelines.rules import RULES
from pipelines.sections import MODELS

PROJECT = Path(__file__).parent / "project"


def test_a_section():
    assert describe("gate") == (
        "Section gate\n"
        "  key         type                 default\n"
        "  mode        auto | manual | off  auto     `auto`: a better model becomes champion; `manual`: a\n"
        "                                            learnt one waits for a person who sets the alias; `off`:\n"
        "                                            whatever was trained becomes champion.\n"
        "  metric      text                 ndcg@10  The metric that decides.\n"
        "  min_lift    number               0.0      Least relative improvement, 0.01 for 1 %.\n"
        "  floors      mapping to number    {}       Metric, `size_mb` or `score_ms` to the least value of a\n"
        "                                            champion.\n"
        "  ceilings    mapping to number    {}       Metric, `size_mb` (megabytes on disk) or `score_ms`\n"
        "                                            (milliseconds a user) to the greatest value of a\n"
        "                                            champion.\n"
        "  groups      mapping to number    {}       Group of users (new, light, heavy, or one of\n"
        "                                            `evaluation.groups`) to the greatest relative loss it\n"
        "                                            may have, 0.1 for 10 %.\n"
        "  on_drift    ignore | reject      ignore   Whether a model is rejected while the data of the\n"
        "                                            interval before drifted.\n"
        "  confidence  number               0.95     Confidence that it is better at all.\n"
        "  bootstrap   whole number         2000     Resamples of the users.\n"
        "\n"
        "What a model must show to become champion.\n"
        "\n"
        "Stage gate: let only a better model become champion\n"
        "  needs         evaluate\n"
        "  reads         evaluations\n"
        "  writes        nothing\n"
        "  options from  gate, models, seed"
    )


def test_a_rule():
    assert describe("missing_share") == (
        "Rule missing_share\n"
        "  key      type                       default\n"
        "  column   text                       required  The column.\n"
        "  max      number                     required  Greatest share, from 0 to 1.\n"
        "  on_fail  block | quarantine | warn  required  block stops the run, quarantine sets the "
        "rows aside,\n"
        "                                                warn only tells.\n"
        "\n"
        "At most the share `max` of the rows has no value in the column."
    )


def test_a_model():
    assert describe("transformer", root=PROJECT) == (
        "Model transformer: What comes next in a sequence.\n"
        "  option     debug  small\n"
        "  layers     1      2         Blocks.\n"
        "  dropout    0.0    0.2       Share of activations that are dropped.\n"
        "  widths     [8]    [64, 32]  Width of each layer of the head.\n"
        "  max_items  100    null      Items scored, at most; all when null."
    )


def test_a_format():
    assert describe("delta") == (
        "Source format delta, in sources.events, .items, ...\n"
        "  key          type          default\n"
        "  path         text          required   A file, a glob such as data/log/*.csv, a folder "
        "(with the\n"
        "                                        folders in it); below the project's folder, "
        "absolute, or a\n"
        "                                        URI. In data/{date}/*.csv, and in folders "
        "dt=2026-01-31,\n"
        "                                        `date` and `dt` are columns. .gz, .zst and .bz2 "
        "are\n"
        "                                        unpacked. Of databases jdbc:sqlite:FILE or\n"
        "                                        jdbc:postgresql://HOST/DATABASE. ${NAME} stands "
        "for an\n"
        "                                        environment variable.\n"
        "  format       text          by suffix  One of csv, jsonl, parquet, delta, jdbc, npy; not "
        "needed\n"
        "                                        where the path's suffix tells.\n"
        '  null_values  list of text  [""]       Texts that stand for no value.\n'
        "\n"
        "A Delta table: the path of its folder. A run reads its newest version."
    )


@pytest.mark.parametrize(
    "name",
    [
        *RULES, "csv", "jsonl", "jdbc", "npy", "demo", "event_time_column", "truth_column", "events", "items", "users", "follows", "seed", "contracts",
        "pipeline", "contract", "models", "sources.events.columns", "features.label.strengths",
        "environment.mlflow", "ingest", "train_gnn", "publish",
    ],
)  # fmt: skip
def test_everything_is_described(name):
    text = describe(name)
    assert name.rpartition(".")[2] in text.splitlines()[0]
    assert max(len(line) for line in text.splitlines()) <= 115


@pytest.mark.parametrize("name", MODELS)
def test_models_are_described_from_their_files(name):
    assert describe(name, root=PROJECT).startswith(f"Model {name}: ")


def test_the_index_lists_everything_that_it_describes():
    for line in describe().replace("\n  ", " ").splitlines():
        _, names = line.split(": ")
        for name in names.split(", "):
            assert describe(name, root=PROJECT)


@pytest.mark.parametrize("name", ["examples.hour_sin", "hour_sin"])
def test_a_feature(name):
    assert describe(name) == (
        "Feature examples.hour_sin: Sine of the time of day (UTC) on a circle.\n"
        "  type          double\n"
        "  unit          -1 to 1\n"
        "  rows          the event\n"
        "  requirement   FE-38"
    )


def test_a_name_of_explanations_is_its_feature():
    assert describe("user_age") == describe("examples.user_account_age_days")


def test_an_unknown_name():
    with pytest.raises(UsageError) as caught:
        describe("betwen")
    assert str(caught.value) == (
        f"Nothing is called `betwen`. Did you mean `between`?\n{describe()}"
    )


@pytest.mark.parametrize("table", ["events", "items", "users", "follows"])
def test_every_kind_of_column_is_a_topic(table: str):
    columns = describe(f"sources.{table}.columns")
    kinds = set(re.findall(r"\b\w*_?column\b(?= \| null|  )", columns))
    assert " mapping " not in columns
    assert all(describe(kind).startswith(f"Column of kind {kind}") for kind in kinds)
    assert kinds
