"""The JSON Schema of the spec: current, and true to what loads."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipelines.describe import json_schema, schema_text

REPOSITORY = Path(__file__).parents[2]
SCHEMA = REPOSITORY / "configs/schemas/pipeline.schema.json"


@pytest.fixture(scope="module")
def validator():
    """The committed schema's validator."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_committed_schema_is_current():
    assert SCHEMA.read_text() == schema_text(), (
        "write it anew: sextant schema > configs/schemas/pipeline.schema.json"
    )
    assert json.loads(schema_text()) == json_schema()


def test_the_pipelines_of_the_repository_fit(validator):
    paths = sorted((REPOSITORY / "configs/pipelines").glob("*.yaml"))
    assert paths
    for path in paths:
        # An editor takes a date for the text that it is.
        spec = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
        assert [error.message for error in validator.iter_errors(spec)] == [], path


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("pipeline: shop\nsources: {demo: {}}", True),
        ("pipeline: shop\nsources: {demo: {}}\nmodels: [popularity, {gnn: {loss: bpr}}]", True),
        ("pipeline: shop\nsources: {demo: {}}\nmodels: {popularity: {}, gnn: {size: full}}", True),
        ("pipeline: shop\nsources: {demo: {}}\nmodels: [popularty]", False),
        ("pipeline: shop", False),
        ("pipeline: My Shop\nsources: {demo: {}}", False),
        ("pipeline: shop\nsources: {demo: {user: 1}}", False),
        ("pipeline: shop\nsources: {demo: {}}\nfeatures: {history: 90}", False),
        ("pipeline: shop\nsources: {demo: {}}\nfeatures: {history: 90d}", True),
        ("pipeline: shop\nsources: {demo: {}}\nschedule: {every: 6 hours}", False),
        ("pipeline: shop\nsources: {demo: {}}\ngate: {min_lift: -1}", False),
    ],
)
def test_what_an_editor_would_say(validator, text, fits):
    assert validator.is_valid(yaml.safe_load(text)) is fits


def test_every_key_is_explained():
    for name, record in json_schema()["$defs"].items():
        for key, field in record["properties"].items():
            assert "description" in field or "$ref" in field, f"{name}.{key}"
