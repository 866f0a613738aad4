"""Specs: what a good one becomes, and the whole message of every bad one.

A bad spec is a file of ``cases``; the message that it must give stands beside it. To write the
messages anew after a change of words, run ``SEXTANT_WRITE_CASES=1 pytest tests/pipelines`` and read
the difference.
"""

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.errors import SpecError, UsageError
from pipelines.sources import (
    EVENT_TYPES,
    EventColumns,
    FollowColumns,
    ItemColumns,
    UserColumns,
)
from pipelines.spec import Pipeline, load_pipeline
from transforms import schemas

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.yaml"))
PROJECT = HERE / "project"

SHOP = """
pipeline: shop
sources:
  events:
    path: data/log/*.csv
    columns: {user_id: customer, item_id: sku, timestamp: {from: at, unit: s}, value: stars}
    event_type: rating
  items: {path: data/items.parquet, columns: {item_id: sku, title: name, categories: tags}}
models: [popularity, transformer, gnn]
candidates: {k: 50, blend: {transformer: 0.6, gnn: 0.4}}
"""


@pytest.fixture
def root(tmp_path):
    """A project's folder with small models and contracts."""
    for folder in ("configs/models", "data_contracts"):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).symlink_to(PROJECT / folder)
    (tmp_path / "configs/pipelines").mkdir()
    (tmp_path / "configs/environments").mkdir()
    return tmp_path


@pytest.fixture
def load(root):
    """Returns `load(text, **keywords)`: the pipeline of that text."""

    def load(text, **keywords):
        (root / "configs/pipelines/shop.yaml").write_text(text)
        return load_pipeline("shop", root=root, **keywords)

    return load


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_bad_spec_gives_the_whole_message(case, root, monkeypatch):
    monkeypatch.delenv("SEXTANT_TEST_UNSET", raising=False)
    monkeypatch.chdir(root)
    (root / case.name).write_bytes(case.read_bytes())
    with pytest.raises(SpecError) as caught:
        load_pipeline(case.name, root=root)
    expected = case.with_suffix(".txt")
    if os.environ.get("SEXTANT_WRITE_CASES"):
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()
    assert caught.value.exit_code == 2
    assert not (root / "canary").exists()


def test_every_message_has_a_case():
    assert {case.stem for case in CASES} == {path.stem for path in (HERE / "cases").glob("*.txt")}


def test_a_short_spec_is_whole(load):
    shop = load(SHOP)
    events = shop.sources.events[0]
    assert (events.format, events.delimiter, events.header) == ("csv", ",", True)
    assert events.columns.timestamp.model_dump(exclude_defaults=True) == {
        "from_": "at",
        "unit": "s",
    }
    assert events.event_type.produced() == ("rating",)
    assert shop.sources.items.format == "parquet"
    assert shop.sources.files() == ("data/log/*.csv", "data/items.parquet")
    assert list(shop.models) == ["popularity", "transformer", "gnn"]
    assert shop.models["gnn"].size == "small"
    assert shop.contracts["items"] == ("items",)
    assert shop.features.history == timedelta(days=90)
    assert shop.candidates.blend == {"transformer": 0.6, "gnn": 0.4}


def test_defaults_are_these():
    pipeline = Pipeline.model_validate({"pipeline": "p", "sources": {"demo": {}}})
    assert pipeline.model_dump(mode="json") == {
        "pipeline": "p",
        "description": "",
        "seed": 42,
        "schedule": {
            "every": "6h", "start": None, "end": None, "deadline": None,
            "retries": 2, "retry_after": "30m",
        },
        "sources": {
            "demo": {
                "preset": None, "scale": 1.0,
                "users": 2000, "items": 1200, "days": 28, "start": "2026-01-05T00:00Z",
                "events_per_user_day": 6.0, "drift": "taste", "drift_at": None,
                "new_user_share": 0.05, "new_item_share": 0.15, "exploration": 0.15,
                "in_network_share": 0.6, "vectors": True,
            },
            "events": [], "items": None, "users": None, "follows": None, "pseudonym_key": None,
            "lateness": "1d",
        },
        "contracts": {
            name: [name]
            for name in (
                "events", "items", "users", "follows", "user_features", "item_features",
                "user_behaviour", "item_engagement", "item_modalities", "sequences",
                "graph_edges", "examples", "candidates", "similar_items",
            )
        },
        "features": {
            "history": "90d", "training_window": "90d", "session_gap": "30m",
            "sequence_length": 200, "similar_items": 20, "interests": 10,
            "label": {
                "kind": "binary", "threshold": 0.5, "rating_max": 5.0,
                "strengths": {
                    "impression": 0.0, "skip": 0.0, "dislike": 0.0, "view": "watch",
                    "click": 0.6, "comment": 0.8, "rating": "value", "like": 1.0,
                    "share": 1.0, "follow": 1.0,
                },
            },
            "categories": {},
            "vectors": {
                kind: {"width": None, "encoder": None, "of": []} for kind in ("video", "audio", "text")
            },
        },
        "models": {
            name: {"size": "small", "options": {}}
            for name in ("popularity", "item_knn", "transformer", "gnn")
        },
        "retrain": {
            "max_age": "7d", "new_events": 1, "quality_drop": True, "data_drift": True,
            "models": [], "force": False,
        },
        "alerts": [],
        "resources": {},
        "evaluation": {
            "valid": "1d", "test": "1d", "k": [5, 10, 20, 50], "bootstrap": 1000,
            "confidence": 0.95, "light_below": 20, "new_below": 5, "groups": {},
        },
        "gate": {
            "mode": "auto", "metric": "ndcg@10", "min_lift": 0.0, "floors": {}, "ceilings": {},
            "groups": {}, "on_drift": "ignore", "confidence": 0.95, "bootstrap": 2000,
        },
        "drift": {
            "psi": 0.05, "share": 0.0, "reference": "7d", "false_alarm": 0.05,
            "null_rate": 0.05, "skewness": 3.0, "outlier_percentage": 5.0, "quality_drop": 0.05,
            "score_ms": None, "rows_per_second": None,
            "sample": 5000, "min_rows": 50, "min_people": 20, "on_drift": "warn", "columns": [],
            "ignore": ["hour_sin", "hour_cos", "weekday_sin", "weekday_cos"],
        },
        "candidates": {
            "k": 50, "blend": None, "active_within": "30d", "similar_items": 20, "batch": 1024,
        },
        "maintenance": {
            "intervals": 120, "files": 16, "versions": "7d", "model_versions": 28,
        },
        "environment": {
            "lake": "lake", "reports": "reports",
            "mlflow": {
                "tracking_uri": "sqlite:///mlruns/mlflow.db", "artifacts": "mlruns/artifacts",
            },
            "spark": {"master": "local[2]", "memory": "2g", "settings": {}},
            "ray": {"address": None, "workers": 1, "cpus_per_worker": 2, "gpu": False},
            "airflow": {"database": None, "executor": "LocalExecutor", "settings": {}},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("demo", "users", "items", "events"),
    [
        ({"preset": "audience"}, 1_000_000, 100_000, 5.0),
        ({"preset": "catalogue", "scale": 0.01}, 1_000, 10_000, 20.0),
        ({"preset": "catalogue", "scale": 0.0001}, 50, 100, 20.0),
        ({"preset": "audience", "scale": 0.1, "items": 777}, 100_000, 777, 5.0),
    ],
)
def test_a_preset_gives_sizes_that_a_spec_may_change(demo, users, items, events):
    pipeline = Pipeline.model_validate({"pipeline": "p", "sources": {"demo": demo}})
    found = pipeline.sources.demo
    assert (found.users, found.items, found.events_per_user_day) == (users, items, events)
    assert (found.days, found.vectors) == (28, False)
    assert not {"preset", "scale"} & set(found.settings())
    assert type(found).model_validate(found.model_dump(mode="json")) == found


def test_a_dump_loads_to_the_same_pipeline(load):
    shop = load(SHOP)
    dumped = shop.model_dump(mode="json", by_alias=True)
    models = dumped.pop("models")
    dumped["models"] = {n: {"size": m["size"], **m["options"]} for n, m in models.items()}
    assert Pipeline.model_validate(dumped).model_dump() == shop.model_dump()


def test_records_are_frozen_and_travel(load):
    shop = load(SHOP)
    with pytest.raises(ValidationError):
        shop.gate.metric = "mrr"
    assert pickle.loads(pickle.dumps(shop)).model_dump() == shop.model_dump()


def test_forms_of_a_column():
    columns = EventColumns.model_validate(
        {
            "user_id": "u",
            "item_id": {"constant": 7},
            "timestamp": {"from": "t", "unit": "ms"},
            "watch_seconds": {"from": "ms", "scale": 0.001},
            "exploration": {"from": "shown", "true": ["Y", 1, True]},
        }
    )
    assert {
        name: column.model_dump(exclude_defaults=True) for name, column in columns.mapped().items()
    } == {
        "user_id": {"from_": "u"},
        "item_id": {"constant": 7},
        "timestamp": {"from_": "t", "unit": "ms"},
        "watch_seconds": {"from_": "ms", "scale": 0.001},
        "exploration": {"from_": "shown", "true_words": ("Y", "1")},
    }


def test_columns_are_those_of_the_tables():
    assert schemas.EVENT_TYPES == EVENT_TYPES
    derived = {"events": {"event_type"}, "items": {"tag_times"}, "users": set(), "follows": set()}
    records = {
        "events": EventColumns,
        "items": ItemColumns,
        "users": UserColumns,
        "follows": FollowColumns,
    }
    for table, record in records.items():
        assert set(record.model_fields) == set(schemas.columns(table)) - derived[table]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", "csv"), ("a.CSV", "csv"), ("a.csv.gz", "csv"), ("x/*.tsv", "csv"),
        ("ratings.dat", "csv"), ("x/*.parquet", "parquet"), ("/abs/a.parquet", "parquet"),
        ("s3a://bucket/a.parquet", "parquet"), ("x/{date}/*.jsonl.zst", "jsonl"),
        ("a.ndjson", "jsonl"), ("a.json.gz", "jsonl"), ("a.npy", "npy"),
    ],
)  # fmt: skip
def test_format_follows_the_suffix(load, path, expected):
    assert load(SHOP.replace("data/log/*.csv", path)).sources.events[0].format == expected


def test_an_unknown_suffix_asks_for_the_format(load):
    with pytest.raises(SpecError) as caught:
        load(SHOP.replace("data/log/*.csv", "data/log"))
    assert str(caught.value) == (
        "configs/pipelines/shop.yaml:4:3: `sources.events`: `format` is missing\n"
        "  4 |   events:\n"
        "    |   ^\n"
        "    = Add `format: ...`. One of csv, jsonl, parquet, delta, jdbc, npy; not needed where the "
        "path's suffix tells."
    )


def test_models_as_a_list_and_as_a_mapping_are_one(load):
    listed = load(SHOP.replace("transformer, gnn]", "{transformer: {layers: 4}}, gnn]"))
    mapped = load(
        SHOP.replace(
            "models: [popularity, transformer, gnn]",
            "models: {popularity: {}, transformer: {layers: 4}, gnn: }",
        )
    )
    assert listed.models == mapped.models
    assert listed.models["transformer"].options == {"layers": 4}


def test_times_are_utc(load):
    text = SHOP + "schedule: {start: %s}"
    for written in (
        "2026-01-05",
        '"2026-01-05"',
        "2026-01-05T00:00:00Z",
        "2026-01-05 01:00:00+01:00",
    ):
        assert load(text % written).schedule.start == datetime(2026, 1, 5, tzinfo=UTC)


def test_variables_fill_paths_and_environment_only(load, monkeypatch):
    monkeypatch.setenv("SHOP_DATA", "/data: 'quoted'")
    shop = load(SHOP.replace("data/log/*.csv", "${SHOP_DATA}/log.csv"))
    assert shop.sources.events[0].path == "/data: 'quoted'/log.csv"
    assert load(SHOP + "environment: {lake: '${SHOP_DATA}'}").environment.lake == "/data: 'quoted'"


def test_a_variable_that_leads_out_is_refused(load, monkeypatch):
    monkeypatch.setenv("SHOP_DATA", "../secret")
    with pytest.raises(SpecError, match=r"`\.\./secret/log\.csv` leads out of its folder"):
        load(SHOP.replace("data/log/*.csv", "${SHOP_DATA}/log.csv"))


def test_a_pipeline_knows_its_lines(load):
    shop = load(SHOP, sets=["gate.metric=ndcg@5"])
    found = shop.problem(("sources", "events", 0, "columns", "value"), "is not there", "Add.")
    assert str(found) == (
        "configs/pipelines/shop.yaml:6:87: `sources.events.columns.value`: is not there\n"
        "  6 |     columns: {user_id: customer, item_id: sku, timestamp: {from: at, unit: s}, "
        "value: stars}\n"
        f"    | {' ' * 86}^\n"
        "    = Add."
    )
    assert str(shop.problem(("gate", "metric"), "is off")) == (
        "--set gate.metric=ndcg@5: `gate.metric`: is off"
    )


def test_unknown_pipeline_lists_those_that_exist(root):
    for name in ("shop", "news"):
        (root / f"configs/pipelines/{name}.yaml").write_text(SHOP)
    with pytest.raises(UsageError) as caught:
        load_pipeline("shp", root=root)
    assert str(caught.value) == (
        "There is no pipeline `shp`: configs/pipelines/shp.yaml does not exist."
        " Did you mean `shop`?\n  Pipelines: news, shop"
    )
    with pytest.raises(UsageError) as caught:
        load_pipeline("elsewhere/shop.yaml", root=root)
    assert str(caught.value) == "There is no file elsewhere/shop.yaml."


def test_a_path_is_a_pipeline_too(root, tmp_path, monkeypatch):
    (root / "mine.yaml").write_text(SHOP)
    monkeypatch.chdir(tmp_path.parent)
    assert load_pipeline("mine.yaml", root=root).pipeline == "shop"
    assert load_pipeline(str(root / "mine.yaml"), root=root).pipeline == "shop"


@pytest.mark.parametrize("name", ["../shop", "/etc/none", "a/../../b"])
def test_a_name_does_not_lead_out(root, name):
    with pytest.raises(UsageError, match=f"There is no file {name}"):
        load_pipeline(name, root=root)


def test_missing_model_and_contract_files_are_told(load, root):
    (root / "configs/models").unlink()
    (root / "data_contracts").unlink()
    with pytest.raises(SpecError) as caught:
        load("pipeline: shop\nsources: {demo: {}}\nmodels: [popularity]\n")
    first, *_, last, _ = str(caught.value).split("\n\n")
    assert last == (
        "configs/pipelines/shop.yaml:3:10: `models.popularity`: configs/models/popularity.yaml "
        "does not exist\n"
        "  3 | models: [popularity]\n"
        "    |          ^\n"
        "    = It names and explains the model's options; restore it."
    )
    assert first == (
        "configs/pipelines/shop.yaml:1:1: `contracts.events`: there is no contract `events`: "
        "data_contracts/events.yaml does not exist\n"
        "  1 | pipeline: shop\n"
        "    | ^\n"
        "    = Contracts: none."
    )
