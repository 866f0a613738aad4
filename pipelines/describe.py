"""What ``sextant describe`` and ``sextant schema`` print, made from the typed records alone."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.contract import Contract
from pipelines.demo_source import Demo
from pipelines.errors import SpecError, UsageError, closest
from pipelines.graph import Step, build_steps
from pipelines.model_options import load_model_file
from pipelines.records import Option, Record, Scalar
from pipelines.rules import RULES, Rule
from pipelines.sections import CONTRACT_TABLES, MODELS
from pipelines.source_columns import (
    Column,
    EventTimeColumn,
    ListColumn,
    MapColumn,
    NumberColumn,
    PlainColumn,
    Spread,
    TimeColumn,
    TruthColumn,
)
from pipelines.source_formats import FORMATS, INFERRED, OPTIONS, Files
from pipelines.sources import Sources
from pipelines.spec import Pipeline

_REPOSITORY = Path(__file__).resolve().parent.parent
_WIDTH = 100
_WIDEST = 30
"""Of a type; a longer list of choices stands in its description alone."""
_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    timedelta: "length of time",
    datetime: "time",
    NoneType: "null",
}


_COLUMNS: dict[str, type[Column]] = {
    "column": PlainColumn,
    "event_time_column": EventTimeColumn,
    "time_column": TimeColumn,
    "number_column": NumberColumn,
    "truth_column": TruthColumn,
    "list_column": ListColumn,
    "map_column": MapColumn,
}
_OF_ANY_FORMAT = ("path", "format", "null_values")


def describe(name: str | None = None, *, root: Path = _REPOSITORY) -> str:
    """Explain a stage, a model, a format of sources, a rule, a feature or a section of the spec.

    Args:
        name: Such as `train`, `gnn`, `csv`, `not_null`, `gate`, `features.label` or the column of
            a feature; without one, everything that has a description is listed, but for columns.
        root: The project's folder; the options of models are read there.

    Raises:
        UsageError: When nothing has that name.
    """
    if name is None:
        return _index()
    parts = [
        *_sections(name),
        *_stages(name),
        *_models(name, root),
        *_sources(name),
        *_rules(name),
    ]
    # Last, because the catalogue of features takes a second to import.
    parts = parts or list(_features(name))
    if not parts:
        known = [entry for names in _names().values() for entry in names]
        raise UsageError(f"Nothing is called `{name}`.{closest(name, known)}\n{_index()}")
    return "\n\n".join(parts)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline's file, for editors."""
    schema = _trimmed(Pipeline.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sextant pipeline",
        **schema,
    }


def schema_text() -> str:
    """Return the JSON Schema as its file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _trimmed(schema: Any) -> Any:
    """Drop titles made from names, and the need for keys that are found out."""
    if isinstance(schema, list):
        return [_trimmed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: _trimmed(value)
        for key, value in schema.items()
        if key != INFERRED and not (key == "title" and isinstance(value, str))
    }
    if "required" in schema and "properties" in schema:
        inferred = [key for key, value in schema["properties"].items() if INFERRED in value]
        found["required"] = [key for key in schema["required"] if key not in inferred]
    return found


def _names() -> dict[str, list[str]]:
    return {
        "Sections": list(_records(Pipeline)),
        "Stages": [step.name for step in _steps()],
        "Models": list(MODELS),
        "Source formats": [*FORMATS, "demo"],
        "Columns of sources": list(_COLUMNS),
        "Contract rules": list(RULES),
        "Contracts": ["contract"],
    }


def _index() -> str:
    return "\n".join(
        textwrap.fill(f"{title}: {', '.join(names)}", _WIDTH, subsequent_indent="  ")
        for title, names in _names().items()
    )


def _records(record: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, type[BaseModel]]]:
    """Every section and subsection of the spec: dotted name to its description and record."""
    found: dict[str, tuple[str, type[BaseModel]]] = {}
    for name, field in record.model_fields.items():
        inner = _inner_record(field.annotation)
        path = f"{prefix}{field.alias or name}"
        if inner is not None and not prefix.endswith("columns."):
            found[path] = (field.description or "", inner)
            found |= _records(inner, f"{path}.")
    return found


def _inner_record(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_record(argument)
        if found is not None:
            return found
    return None


def _sections(name: str) -> Iterator[str]:
    if name == "pipeline":
        yield _table("pipeline: the whole spec", Pipeline.model_fields)
    found = _records(Pipeline).get(name)
    if found is not None:
        description, record = found
        doc = inspect.getdoc(record) or description
        yield f"{_table(f'Section {name}', record.model_fields)}\n\n{_wrapped(doc)}"
    elif name in Pipeline.model_fields and name != "pipeline":
        yield _table(f"Key {name}", {name: Pipeline.model_fields[name]})
    if name == "contract":
        yield _table("A contract, data_contracts/NAME.yaml", Contract.model_fields)


def _steps() -> tuple[Step, ...]:
    """The steps of a pipeline of defaults."""
    pipeline = Pipeline.model_validate({"pipeline": "unnamed", "sources": {"demo": {}}})
    return build_steps(
        pipeline, {name: {} for name in MODELS}, {table: [] for table in CONTRACT_TABLES}
    )


def _stages(name: str) -> Iterator[str]:
    for step in _steps():
        if name not in (step.name, step.kind) or (name == step.kind and name != step.name):
            continue
        facts = {
            "needs": step.needs,
            "reads": step.reads,
            "writes": step.writes,
            "options from": sorted(step.options),
        }
        lines = [f"  {key:<13} {', '.join(values) or 'nothing'}" for key, values in facts.items()]
        yield "\n".join([f"Stage {step.name}: {step.summary}", *lines])


def _models(name: str, root: Path) -> Iterator[str]:
    if name not in MODELS:
        return
    try:
        found = load_model_file(name, root)
    except SpecError as error:
        yield f"Model {name}: its options cannot be read.\n{error}"
        return
    sizes = list(found.sizes)
    rows = [["option", *sizes, ""]]
    rows += [
        [option, *(_value(found.sizes[size][option]) for size in sizes), explained]
        for option, explained in found.options.items()
    ]
    yield f"Model {name}: {found.summary}\n{_aligned(rows)}"


def _sources(name: str) -> Iterator[str]:
    if name in FORMATS:
        fields = {
            key: field
            for key, field in Files.model_fields.items()
            if name in OPTIONS.get(field.alias or key, FORMATS)
        }
        yield _table(f"Source format {name}, in sources.events, .items, ...", fields)
        yield _wrapped(FORMATS[name])
    if name == "demo":
        yield _table("Source format demo: the built-in simulator", Demo.model_fields)
    tables = {"events", "items", "users", "follows"}
    if name in tables:
        record = _inner_record(Sources.model_fields[name].annotation)
        assert record is not None
        columns = _inner_record(record.model_fields["columns"].annotation)
        assert columns is not None
        fields = {
            key: field
            for key, field in record.model_fields.items()
            if key in _OF_ANY_FORMAT or key not in Files.model_fields
        }
        yield _table(f"Source sources.{name}", fields)
        yield f"Each format has keys of its own: `describe csv`, or {', '.join(list(FORMATS)[1:])}."
        yield _table(f"Columns sources.{name}.columns", columns.model_fields)
        yield _wrapped(
            "A column is given by the name of a source column, or as a mapping when there is more "
            "to say: {from: NAME, ...}; `describe` explains each kind, such as time_column."
        )
    if name in _COLUMNS:
        record = _COLUMNS[name]
        doc = inspect.getdoc(record) or ""
        yield f"{_table(f'Column of kind {name}', record.model_fields)}\n\n{_wrapped(doc)}"
        if record is EventTimeColumn:
            yield _table("Its key spread", Spread.model_fields)
            yield _wrapped(inspect.getdoc(Spread) or "")


def _rules(name: str) -> Iterator[str]:
    rule = RULES.get(name)
    if rule is None:
        return
    fields = {key: field for key, field in rule.model_fields.items() if key != "rule"}
    own = {key: field for key, field in fields.items() if key not in Rule.model_fields}
    shared = {key: field for key, field in fields.items() if key in Rule.model_fields}
    if not rule.per_row:
        shared.pop("mostly")
    yield f"{_table(f'Rule {name}', {**own, **shared})}\n\n{_wrapped(inspect.getdoc(rule) or '')}"


def _features(name: str) -> Iterator[str]:
    from transforms.catalogue import ALIASES, entries

    column = ALIASES.get(name, name)
    for entry in entries():
        if column in (entry.column, f"{entry.table}.{entry.column}"):
            facts = {
                "type": entry.type,
                "unit": entry.feature.unit,
                "rows": entry.feature.as_of,
                "requirement": ", ".join(entry.feature.requirements),
            }
            lines = [f"  {key:<13} {value}" for key, value in facts.items()]
            title = _wrapped(f"Feature {entry.table}.{entry.column}: {entry.feature.description}")
            yield "\n".join([title, *lines])


def _table(title: str, fields: dict[str, FieldInfo]) -> str:
    rows = [["key", "type", "default", ""]]
    for name, field in fields.items():
        rows.append(
            [field.alias or name, _type(field.annotation), _default(field), field.description or ""]
        )
    return f"{title}\n{_aligned(rows)}"


def _type(annotation: Any) -> str:
    """Write a type in the words of someone who fills in YAML."""
    if annotation == Option:
        return "value or list"
    if annotation in (Scalar, str | int | float | bool | None):
        return "value"
    if annotation in _TYPES:
        return _TYPES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        written = " | ".join(str(argument) for argument in arguments)
        return written if len(written) <= _WIDEST else "text"
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_type(argument) for argument in arguments))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if annotation in _COLUMNS.values():
        return next(name for name, record in _COLUMNS.items() if record is annotation)
    if inspect.isclass(annotation) and issubclass(annotation, Record):
        return "mapping"
    raise AssertionError(f"no words for {annotation}")


def _default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict) and INFERRED in field.json_schema_extra:
        return str(field.json_schema_extra[INFERRED])
    return "required" if field.default is PydanticUndefined else _value(field.default)


def _value(value: Any) -> str:
    """Write a value as YAML would, or `...` for a mapping whose own description tells more."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case BaseModel():
            return "..."
        case dict():
            return "..." if value else "{}"
        case tuple() | list():
            return f"[{', '.join(_value(entry) for entry in value)}]"
        case str():
            return value or '""'
        case _:
            return str(value)


def _aligned(rows: list[list[str]]) -> str:
    """Align columns; the last one is prose and wraps."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        *cells, prose = row
        lead = "  " + "  ".join(
            cell.ljust(width) for cell, width in zip(cells, widths, strict=True)
        )
        wrapped = textwrap.wrap(prose, max(40, _WIDTH - len(lead) - 2)) or [""]
        lines.append(f"{lead}  {wrapped[0]}".rstrip())
        lines += [f"{' ' * len(lead)}  {line}" for line in wrapped[1:]]
    return "\n".join(lines)


def _wrapped(prose: str) -> str:
    paragraphs = prose.replace("``", "`").split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(part.split()), _WIDTH) for part in paragraphs)
