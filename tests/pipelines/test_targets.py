from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.graph import select
from pipelines.project import Project
from pipelines.targets.dvc import render
from pipelines.targets.text import graph_text

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo() -> Project:
    return Project.load("demo", root=ROOT)


def test_dvc_yaml_is_what_the_specs_render() -> None:
    assert (ROOT / "dvc.yaml").read_text() == render(ROOT), "run: sextant render dvc"


def test_dvc_has_the_steps_and_their_order(demo: Project) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == [f"demo-{step.name}" for step in demo.steps]
    for step in demo.steps:
        stage = stages[f"demo-{step.name}"]
        assert stage["cmd"] == f"sextant stage demo {step.name}"
        needed = {f"lake/demo/receipts/{need}.json" for need in step.needs}
        assert needed <= set(stage["deps"])


def test_every_step_comes_after_what_it_needs(demo: Project) -> None:
    done: set[str] = set()
    for step in demo.steps:
        assert set(step.needs) <= done
        done.add(step.name)


def test_every_table_has_one_writer_that_comes_before_its_readers(demo: Project) -> None:
    writers: dict[str, str] = {}
    for step in demo.steps:
        assert set(step.reads) <= set(writers), step.name
        for table in step.writes:
            assert table not in writers, table
            writers[table] = step.name


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param("gate", ["gate"], id="one"),
        pytest.param(
            "evaluate+",
            ["evaluate", "gate", "candidates", "drift", "publish", "shadow", "maintain"],
            id="down",
        ),
        pytest.param(
            "+user_features", ["ingest", "validate", "behaviour", "user_features"], id="up"
        ),
        pytest.param(
            "features",
            [
                "behaviour",
                "user_features",
                "item_features",
                "modalities",
                "sequences",
                "graph_edges",
                "examples",
            ],
            id="group",
        ),
        pytest.param("ingest,publish", ["ingest", "publish"], id="several"),
    ],
)
def test_selections(demo: Project, selection: str, expected: list[str]) -> None:
    assert [step.name for step in select(demo.steps, selection)] == expected


def test_an_unknown_selection_says_what_there_is(demo: Project) -> None:
    with pytest.raises(ValueError, match="select") as caught:
        select(demo.steps, "+gates")
    assert str(caught.value) == (
        "--select +gates: there is no stage or group `gates`. Did you mean `gate`?\n"
        "  Stages: ingest, validate, behaviour, user_features, item_features, modalities, "
        "sequences, graph_edges, examples, decide, train_popularity, train_item_knn, train_transformer, "
        "train_gnn, evaluate, gate, candidates, drift, publish, shadow, maintain\n"
        "  Groups: data, features, training, publication, maintenance"
    )


def test_steps_are_the_same_in_every_process(demo: Project) -> None:
    again = Project.load("demo", root=ROOT)
    assert again.steps == demo.steps
    assert again.spec_hash == demo.spec_hash


def test_graph_in_three_forms(demo: Project) -> None:
    steps = select(demo.steps, "ingest,validate,sequences")
    assert graph_text(steps, "text") == (
        "data:\n"
        "  ingest     read the sources, map their columns to typed rows\n"
        "  validate   hold the rows against their contracts, keep the good ones  <- ingest\n"
        "features:\n"
        "  sequences  each user's history in time order  <- validate"
    )
    assert graph_text(steps, "mermaid") == (
        "flowchart LR\n"
        "  subgraph data\n    ingest\n    validate\n  end\n"
        "  subgraph features\n    sequences\n  end\n"
        "  ingest --> validate\n"
        "  validate --> sequences"
    )
    assert graph_text(steps, "dot") == (
        "digraph pipeline {\n"
        "  rankdir=LR; node [shape=box];\n"
        '  subgraph "cluster_data" { label="data"; "ingest"; "validate"; }\n'
        '  subgraph "cluster_features" { label="features"; "sequences"; }\n'
        '  "ingest" -> "validate";\n'
        '  "validate" -> "sequences";\n'
        "}"
    )
