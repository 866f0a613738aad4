"""Descriptions: everything has one, and they say what the records say."""

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
        "  key         type          default\n"
        "  metric      text          ndcg@10  The metric that decides.\n"
        "  min_lift    number        0.0      Least relative improvement, 0.01 for 1 %.\n"
        "  confidence  number        0.95     Confidence that it is better at all.\n"
        "  bootstrap   whole number  2000     Resamples of the users.\n"
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
    assert describe("parquet") == (
        "Source format parquet, in sources.events, .items, ...\n"
        "  key     type           default\n"
        "  path    text           required   A file, a glob such as data/log/*.csv, or a folder; "
        "below the\n"
        "                                    project's folder, absolute, or a URI. ${NAME} stands "
        "for an\n"
        "                                    environment variable.\n"
        "  format  csv | parquet  by suffix  csv or parquet; not needed where the path's suffix "
        "tells."
    )


@pytest.mark.parametrize(
    "name",
    [
        *RULES, "csv", "demo", "events", "items", "users", "follows", "seed", "contracts",
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


def test_an_unknown_name():
    with pytest.raises(UsageError) as caught:
        describe("betwen")
    assert str(caught.value) == (
        f"Nothing is called `betwen`. Did you mean `between`?\n{describe()}"
    )
