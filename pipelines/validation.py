"""From pydantic's errors to problems that stand at a line and say what to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipelines.document import Node, Origin, Step
from pipelines.errors import Problem, closest
from pipelines.merge import dotted
from pipelines.records import RefusedError, RefusedKeyError, shown

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class Finding(NamedTuple):
    """A mistake at a path of a typed record, found after its types were checked."""

    path: tuple[Step, ...]
    message: str
    cure: str = ""


def problems_of(error: ValidationError, tree: Node) -> list[Problem]:
    """Locate every error of a validation in the document that was validated."""
    problems = []
    for item in error.errors(include_url=False):
        problem = _problem(item, tree)
        if problem not in problems:  # the branches of a union say the same
            problems.append(problem)
    return problems


def problem_at(tree: Node, path: Sequence[Step], message: str, cure: str = "") -> Problem:
    """Return a problem with the value at a path, or at its nearest ancestor that was written."""
    return _at(tree.nearest(path), tree).problem(f"{_subject(_spoken(path, tree))}{message}", cure)


def in_file_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort problems by file and line; files and options keep the order of their first problem."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(problems, key=lambda p: (files.index(p.file), p.line, p.column))


def _problem(item: Any, tree: Node) -> Problem:
    kind, value = item["type"], item["input"]
    path = _written(item["loc"], tree)
    node = tree.nearest(path)
    context = item.get("ctx", {})
    if kind == "value_error":
        fault = context["error"]
        cure = fault.cure if isinstance(fault, RefusedError) else ""
        if isinstance(fault, RefusedKeyError):
            parent = tree.nearest(path[:-1])
            at = parent.at if parent is tree else parent.key_at or parent.at
            if not fault.known:
                at = node.key_at or node.at
            return at.problem(f"{_subject(path[:-1])}{fault}", cure)
        return _at(node, tree).problem(f"{_subject(path)}{fault}", cure)
    return node.at.problem(
        f"{_subject(path)}{_message(item, context)}", _cure(kind, value, context)
    )


def _written(loc: Sequence[Step], tree: Node) -> tuple[Step, ...]:
    """Leave out the parts that only the typed record has: tags of unions, places of shorthands.

    The last part stays: it names what is missing or wrong.
    """
    node = tree
    path: list[Step] = []
    for number, step in enumerate(loc):
        child = node.child(step)
        if child is not None or (number == len(loc) - 1 and not _is_marker(step)):
            path.append(step)
            node = child or node
    return tuple(path)


def _spoken(path: Sequence[Step], tree: Node) -> tuple[Step, ...]:
    """Leave out places in lists that the document writes as a single entry."""
    found: list[Step] = []
    for step in path:
        if not isinstance(step, int) or tree.has([*found, step]):
            found.append(step)
    return tuple(found)


def _is_marker(step: Step) -> bool:
    """Whether a part of a location is pydantic's own name for a branch of a union or a key."""
    return (
        isinstance(step, int)
        or re.fullmatch(r"[a-z_]+", step) is None
        or step
        in {
            "str",
            "int",
            "float",
            "bool",
            "none",
        }
    )


def _at(node: Node, tree: Node) -> Origin:
    """Point at a scalar itself, at a mapping or list by its key."""
    if isinstance(node.value, dict | list) and node is not tree and node.key_at is not None:
        return node.key_at
    return node.at


def _subject(path: Sequence[Step]) -> str:
    return f"`{dotted(path)}`: " if path else ""


def _message(item: Any, context: Any) -> str:
    kind, value = item["type"], item["input"]
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {shown(value)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}, not {shown(value)}"
    if kind == "literal_error":
        return f"must be one of {', '.join(_choices(context))}, not {shown(value)}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind == "finite_number":
        return f"must be a finite number, not {shown(value)}"
    if kind == "union_tag_invalid":
        return f"unknown {_tag_key(context)} `{context['tag']}`"
    if kind == "union_tag_not_found":
        return f"`{_tag_key(context)}` is missing"
    message: str = item["msg"]
    return f"{message[:1].lower()}{message[1:]}"


def _cure(kind: str, value: Any, context: Any) -> str:
    if kind == "literal_error" and isinstance(value, str):
        return closest(value, _choices(context)).strip()
    if kind == "string_type" and isinstance(value, bool | int | float):
        return 'Put it in quotes: "...".'
    if kind in ("float_type", "int_type") and isinstance(value, str):
        try:
            return f"Write {float(value):g}." if "float" in kind else f"Write {int(value)}."
        except ValueError:
            return ""
    if kind == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", context["expected_tags"])
        return f"{closest(str(context['tag']), known)} Known: {', '.join(known)}.".strip()
    if kind == "union_tag_not_found":
        return f"Begin with {{{_tag_key(context)}: ..., ...}}."
    if kind == "tuple_type":
        return "Write [a, b]."
    if kind in ("model_type", "dict_type"):
        return "Write `key: value` lines below it, or {key: value}."
    return ""


def _tag_key(context: Any) -> str:
    key: str = context["discriminator"].strip("'")
    return key


def _choices(context: Any) -> list[str]:
    return re.findall(r"'([^']*)'", context.get("expected", ""))
