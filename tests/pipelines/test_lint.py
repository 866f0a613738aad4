"""Lint: the whole project, statically, and lightly."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import MAX_PROBLEMS, Problem, SpecError, UsageError
from pipelines.lint import lint

PROJECT = Path(__file__).parent / "project"
REPOSITORY = Path(__file__).parents[2]
HEAVY = (
    "airflow", "deltalake", "evidently", "great_expectations", "mlflow", "numpy", "pandas",
    "pyarrow", "pyspark", "ray", "rich", "scipy", "sqlalchemy", "torch",
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """A project's folder of its own, with small models and contracts, without pipelines."""
    for folder in ("configs/models", "data_contracts"):
        (tmp_path / folder).mkdir(parents=True)
        for path in (PROJECT / folder).glob("*.yaml"):
            (tmp_path / folder / path.name).write_text(path.read_text())
    (tmp_path / "configs/pipelines").mkdir()
    (tmp_path / "configs/environments").mkdir()
    (tmp_path / "configs/pipelines/good.yaml").write_text("pipeline: good\nsources: {demo: {}}\n")
    return tmp_path


def test_a_clean_project(root):
    assert lint([], root) == []
    assert lint(["good"], root) == []


def test_the_repository_is_clean(monkeypatch):
    for name in ("KUAIRAND", "MOVIELENS"):
        monkeypatch.delenv(name, raising=False)
    assert lint([], REPOSITORY) == []


def test_all_kinds_of_files_are_checked(root):
    (root / "configs/pipelines/bad.yaml").write_text("pipeline: bad\nsources: {demo: {user: 1}}\n")
    (root / "configs/pipelines/worse.yaml").write_text("pipeline: [\n")
    (root / "configs/environments/ci.yaml").write_text("environment: {spark: {memory: lots}}\n")
    (root / "configs/models/gnn.yaml").write_text("model: gnn\n")
    (root / "data_contracts/unused.yaml").write_text("table: events\nrules: [{rule: nope}]\n")
    found = [(problem.file, problem.line, problem.message) for problem in lint([], root)]
    assert found == [
        ("configs/pipelines/bad.yaml", 2, "`sources.demo`: unknown key `user`"),
        ("configs/models/gnn.yaml", 1, "`summary` is missing"),
        ("configs/models/gnn.yaml", 1, "`options` is missing"),
        ("configs/models/gnn.yaml", 1, "`sizes` is missing"),
        (
            "configs/pipelines/worse.yaml", 2,
            "this is no YAML: while parsing a flow node, did not find expected node content",
        ),
        ("configs/environments/ci.yaml", 1, "`environment.spark.memory`: is no amount of memory"),
        ("data_contracts/unused.yaml", 2, "`rules.0`: unknown rule `nope`"),
    ]  # fmt: skip


def test_named_pipelines_alone(root):
    (root / "configs/pipelines/bad.yaml").write_text("pipeline: bad\nsources: {}\n")
    (root / "data_contracts/unused.yaml").write_text("table: nope\n")
    assert lint(["good"], root) == []
    assert [problem.file for problem in lint(["bad", "good"], root)] == [
        "configs/pipelines/bad.yaml"
    ]


def test_a_pipeline_answers_for_what_it_refers_to(root):
    (root / "data_contracts/items.yaml").write_text("table: items\nrules: {}\n")
    assert [str(problem) for problem in lint(["good"], root)] == [
        "data_contracts/items.yaml:2:8: `rules`: must be a list, not a mapping\n"
        "  2 | rules: {}\n"
        "    |        ^\n"
        "    = Write [a, b]."
    ]


def test_lint_needs_no_variables(root, monkeypatch):
    monkeypatch.delenv("SHOP_HOST", raising=False)
    (root / "configs/environments/ci.yaml").write_text(
        "environment:\n"
        "  mlflow: {tracking_uri: '${SHOP_HOST}'}\n"
        "  spark: {master: '${SHOP_HOST}', memory: '${SHOP_HOST}'}\n"
        "  ray: {address: '${SHOP_HOST}'}\n"
    )
    assert lint([], root) == []


def test_an_unknown_pipeline(root):
    with pytest.raises(UsageError) as caught:
        lint(["god"], root)
    assert str(caught.value) == (
        "There is no pipeline `god`: configs/pipelines/god.yaml does not exist."
        " Did you mean `good`?\n  Pipelines: good"
    )


def test_a_message_is_bounded():
    problems = [Problem("x.yaml", n, 1, "x", "is wrong") for n in range(1, 5001)]
    text = str(SpecError(problems))
    assert text.count("is wrong") == MAX_PROBLEMS
    assert text.endswith("... and 4980 more.\n\n5000 problems.")


def test_linting_imports_nothing_heavy():
    modules = ("pipelines.lint", "pipelines.describe", "pipelines.cli")
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.split()
    assert "pydantic" in loaded
    assert [name for name in HEAVY if name in loaded] == []
