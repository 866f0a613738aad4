"""Layers of a spec as one tree: mappings merge, everything else replaces.

Lowest first: built-in defaults (those of the typed records), the pipeline's file, the environment's
file, ``--set``. Each value keeps the place where it was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from pipelines.document import Node, Origin, Step, parse
from pipelines.errors import Problem, SpecError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OPENING = re.compile(r"\$\{[^}]*\}?")


def merge(layers: Sequence[Node]) -> Node:
    """Merge trees, the first one lowest."""
    return reduce(_over, layers)


def _over(lower: Node, upper: Node) -> Node:
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    entries = dict(lower.value)
    for key, node in upper.value.items():
        entries[key] = _over(entries[key], node) if key in entries else node
    # A mapping stands where the lowest layer began it: there a missing key is to be added.
    return replace(lower, value=entries)


def parse_setting(setting: str) -> Node:
    """Return the tree of one ``--set KEY=VALUE``; the value is YAML.

    Raises:
        SpecError: When there is no key, or the value is no YAML.
    """
    at = Origin(f"--set {setting}")
    key, separator, text = setting.partition("=")
    keys = key.strip().split(".")
    if not separator or not all(keys):
        raise SpecError(
            [at.problem("is no KEY=VALUE", "Write a dotted key, such as --set candidates.k=20.")]
        )
    try:
        node = _moved(parse(text, at.file), at)
    except SpecError as error:
        raise SpecError(
            [at.problem(problem.message, problem.cure) for problem in error.problems]
        ) from None
    for name in reversed(keys):
        node = Node({name: replace(node, key_at=at)}, at)
    return node


def _moved(node: Node, at: Origin) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _moved(child, at) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_moved(child, at) for child in value]
    return Node(value, at, at if node.key_at else None)


def expand(
    tree: Node,
    allowed: Callable[[tuple[Step, ...]], bool],
    *,
    required: bool,
    kept: Callable[[tuple[Step, ...]], bool] = lambda path: False,
) -> tuple[Node, list[Problem]]:
    """Put environment variables in the place of ``${NAME}``, in the texts that allow it.

    Args:
        tree: The merged spec.
        allowed: Says whether the text at a path may hold variables.
        required: Whether an unset variable is a problem; else it stays as it is written.
        kept: Says where a variable stays as it is written in any case: what it holds is secret.

    Returns:
        The new tree, and the problems: unset variables, and variables where none may be.
    """
    problems: list[Problem] = []

    def visit(node: Node, path: tuple[Step, ...]) -> Node:
        if isinstance(node.value, dict):
            entries = {key: visit(child, (*path, key)) for key, child in node.value.items()}
            return replace(node, value=entries)
        if isinstance(node.value, list):
            items = [visit(child, (*path, number)) for number, child in enumerate(node.value)]
            return replace(node, value=items)
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        if kept(path):
            _filled(node, path, problems, required=required, settable=False)
            return node
        if not allowed(path):
            problems.append(
                node.at.problem(
                    f"`{dotted(path)}` may not hold `{_OPENING.findall(node.value)[0]}`",
                    "Environment variables stand in paths of `sources` and in `environment` alone.",
                )
            )
            return node
        return replace(node, value=_filled(node, path, problems, required=required))

    return visit(tree, ()), problems


def _filled(
    node: Node,
    path: tuple[Step, ...],
    problems: list[Problem],
    *,
    required: bool,
    settable: bool = True,
) -> str:
    text: str = node.value
    for broken in _OPENING.findall(text):
        if _VARIABLE.fullmatch(broken) is None:
            cure = "Write ${NAME}, with a name of letters, digits and `_`; defaults are not known."
            problems.append(node.at.problem(f"`{dotted(path)}`: `{broken}` is no variable", cure))
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        if name not in os.environ and required:
            problems.append(
                node.at.problem(
                    f"`{dotted(path)}`: the environment variable `{name}` is not set",
                    f"Run `export {name}=...`"
                    + (f", or give `--set {dotted(path)}=...`." if settable else "."),
                )
            )
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), text)


def dotted(path: Sequence[Step]) -> str:
    """Write a path as ``--set`` accepts it, with places in lists as numbers."""
    return ".".join(str(step) for step in path)
