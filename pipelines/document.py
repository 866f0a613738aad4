"""YAML as a tree whose every value knows where it stands.

Built from the parser's events, so that nothing is constructed that a limit refuses: no tags, no
merge keys, bounded size, depth and count of values. Keys are always text, as written (``no: x`` has
the key `no`). Values are what YAML makes of them: text, numbers, booleans, dates, times, null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from yaml import events as ev

from pipelines.errors import Problem, SpecError

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 10_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_CONFLICT = re.compile(r"(<{7}|>{7}|\|{7})( |$)|={7}$")

Step = str | int
"""A key of a mapping, or a place in a list."""


@dataclass(frozen=True)
class Origin:
    """Where a value or key was written.

    Args:
        file: The file's name for messages, or the option.
        line: From 1; 0 for an option.
        column: From 1.
        snippet: The line.
    """

    file: str
    line: int = 0
    column: int = 0
    snippet: str = ""

    def problem(self, message: str, cure: str = "") -> Problem:
        """Return the problem that this place has."""
        return Problem(self.file, self.line, self.column, self.snippet, message, cure)


@dataclass(frozen=True)
class Node:
    """A value of a document.

    Args:
        value: A scalar, or nodes by key, or a list of nodes.
        at: Where the value begins.
        key_at: Where its key stands; None for an entry of a list and for the root.
    """

    value: Any
    at: Origin
    key_at: Origin | None = None

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, key: Step) -> Node | None:
        """Return an entry of a mapping or a list, if it is there."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            found: Node = self.value[key]
            return found
        return None

    def nearest(self, path: Sequence[Step]) -> Node:
        """Return the node at a path of the typed record, or its nearest ancestor that was written.

        A shorthand is shorter than the record that it becomes, so parts that the document lacks
        are passed over.
        """
        node = self
        for key in path:
            node = node.child(key) or node
        return node

    def has(self, path: Sequence[Step]) -> bool:
        """Return whether the document gives this path."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node is not None else None
        return node is not None

    def walk(self, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Node]]:
        """Yield every node below this one, and itself, with its path."""
        yield path, self
        if isinstance(self.value, dict | list):
            entries = self.value.items() if isinstance(self.value, dict) else enumerate(self.value)
            for key, node in entries:
                yield from node.walk((*path, key))


def read_document(path: Path, *, root: Path) -> Node:
    """Read a YAML file.

    Args:
        path: The file.
        root: The project's folder; messages name files relative to it.

    Raises:
        SpecError: With every mistake of the file's form.
    """
    name = display_name(path, root)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise SpecError([Problem(name, 0, 0, "", f"cannot be read: {reason}")]) from None
    if len(data) > MAX_BYTES:
        cure = "Check that this is the file you mean; keep data in the files that `sources` names."
        raise SpecError([Problem(name, 0, 0, "", "is larger than 1 MiB", cure)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rsplit(b"\n", 1)[-1].decode("utf-8", "replace")) + 1
        snippet = data.splitlines()[line - 1].decode("utf-8", "replace")
        problem = Problem(name, line, column, snippet, "is not UTF-8", "Save the file as UTF-8.")
        raise SpecError([problem]) from None
    node = parse(text, name)
    if not isinstance(node.value, dict):
        problem = node.at.problem(
            "must be a mapping of keys to values", "Write `key: value` lines."
        )
        raise SpecError([problem])
    return node


def display_name(path: Path, root: Path) -> str:
    """Return a file's name for messages: relative to the project's folder where it lies inside."""
    path, root = path.absolute(), root.absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


@lru_cache(maxsize=256)
def parse(text: str, name: str) -> Node:
    """Parse one YAML document; once for each text, since Airflow reads all specs again and again.

    Args:
        text: The document.
        name: Its name for messages.

    Raises:
        SpecError: With every mistake of its form.
    """
    return _Builder(text, name).build()


class _StopError(Exception):
    """Parsing cannot go on; the problem has been noted."""


class _Builder:
    """Turns the parser's events into nodes."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
        self._problems: list[Problem] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._count = 0
        self._resolver = yaml.resolver.Resolver()
        self._constructor = yaml.constructor.SafeConstructor()

    def build(self) -> Node:
        """Return the root.

        Raises:
            SpecError: With all that is wrong.
        """
        self._refuse_conflict_markers()
        root = Node(None, self._origin_at(1, 1))
        if not self._problems:
            try:
                root = self._document() or root
            except yaml.YAMLError as error:
                self._syntax(error)
            except _StopError:
                pass
        if self._problems:
            raise SpecError(self._problems)
        return root

    def _document(self) -> Node | None:
        self._events = iter(yaml.parse(self._text, Loader=_Loader))
        root: Node | None = None
        for event in self._events:
            if isinstance(event, ev.DocumentStartEvent):
                if root is not None:
                    self._refuse(
                        self._origin(event),
                        "a second document begins here",
                        "Remove the `---` line, or write a file for each pipeline.",
                    )
                root = self._node(next(self._events), 0)
        return root

    def _node(self, event: ev.Event, depth: int) -> Node:
        at = self._origin(event)
        self._count += 1
        if self._count > MAX_VALUES:
            self._refuse(
                at,
                f"more than {MAX_VALUES:,} values",
                "A spec declares; keep data in the files that `sources` names.",
            )
        if isinstance(event, ev.AliasEvent):
            return self._alias(event, at)
        assert isinstance(event, ev.ScalarEvent | ev.CollectionStartEvent)
        if depth > MAX_DEPTH:
            self._refuse(at, f"nested more than {MAX_DEPTH} levels deep", "Flatten it.")
        if event.tag is not None and event.tag != "!":
            self._note(
                at,
                f"tags such as `{_short_tag(event.tag)}` are not accepted",
                "Write the plain value: a spec holds data only, never code.",
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._count
        node = Node(self._value(event, depth), at)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._count - before + 1)
        return node

    def _value(self, event: ev.ScalarEvent | ev.CollectionStartEvent, depth: int) -> Any:
        if isinstance(event, ev.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, ev.SequenceStartEvent):
            entries = []
            while not isinstance(entry := next(self._events), ev.SequenceEndEvent):
                entries.append(self._node(entry, depth + 1))
            return entries
        assert isinstance(event, ev.ScalarEvent)
        return self._scalar(event)

    def _mapping(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), ev.MappingEndEvent):
            key_at = self._origin(event)
            if not isinstance(event, ev.ScalarEvent):
                self._refuse(key_at, "a key must be a text", "Write `key: value`.")
            if event.tag is not None:
                self._node(event, depth + 1)
            name = event.value
            node = self._node(next(self._events), depth + 1)
            if name == "<<" and event.implicit[0]:
                self._note(key_at, "merge keys `<<` are not accepted", "Write the keys out.")
            elif not name:
                self._note(key_at, "a key is empty", "Write a name before the colon.")
            elif name in entries:
                first = entries[name].key_at
                assert first is not None
                self._note(
                    key_at,
                    f"key `{name}` is given twice, first on line {first.line}",
                    "Keep one of the two.",
                )
            else:
                entries[name] = replace(node, key_at=key_at)
        return entries

    def _scalar(self, event: ev.ScalarEvent) -> Any:
        tag: str = self._resolver.resolve(  # type: ignore[no-untyped-call]
            yaml.ScalarNode, event.value, event.implicit
        )
        if event.tag is not None or tag == f"{_TAG}str":
            return event.value
        try:
            return self._constructor.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, OverflowError, yaml.YAMLError):
            kind = tag.removeprefix(_TAG).replace("int", "whole number")
            self._note(
                self._origin(event),
                f"`{event.value[:40]}` looks like a {kind} but is none",
                "Correct it, or put it in quotes if it is text.",
            )
            return None

    def _alias(self, event: ev.AliasEvent, at: Origin) -> Node:
        if event.anchor not in self._anchors:
            self._refuse(at, f"no anchor `&{event.anchor}` comes before this", "Write the value.")
        found = self._anchors[event.anchor]
        if found is None:
            self._refuse(at, f"`*{event.anchor}` stands inside its own value", "Write the value.")
        node, count = found
        self._count += count
        if self._count > MAX_VALUES:
            self._refuse(
                at,
                f"more than {MAX_VALUES:,} values once `*{event.anchor}` is written out",
                "A spec declares; keep data in the files that `sources` names.",
            )
        return node

    def _syntax(self, error: yaml.YAMLError) -> None:
        """Note what the parser says, in the words of someone who has to fix it."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is None:
            detail = str(error).splitlines()[0]
            self._problems.append(
                Problem(self._name, 0, 0, "", f"is no YAML: {detail}", "Save it as plain UTF-8.")
            )
            return
        at = self._origin_at(mark.line + 1, mark.column + 1)
        for number in (mark.line + 1, mark.line):
            indent = re.match(r"[ \t]*", self._line(number))
            if indent and "\t" in indent[0]:
                self._note(
                    self._origin_at(number, indent[0].index("\t") + 1),
                    "a tab in the indentation",
                    "Indent with blanks.",
                )
                return
        detail = getattr(error, "problem", None) or "it cannot be read"
        context = getattr(error, "context", None)
        self._note(
            at,
            f"this is no YAML: {f'{context}, ' if context else ''}{detail}",
            "Look at this line and the one before it: a missing colon, blank, quote or bracket.",
        )

    def _refuse_conflict_markers(self) -> None:
        for number, line in enumerate(self._lines, start=1):
            if _CONFLICT.match(line):
                self._note(
                    self._origin_at(number, 1),
                    "a merge conflict is left in the file",
                    "Keep one of the two versions, and remove the marker lines.",
                )

    def _note(self, at: Origin, message: str, cure: str) -> None:
        self._problems.append(at.problem(message, cure))

    def _refuse(self, at: Origin, message: str, cure: str) -> NoReturn:
        self._note(at, message, cure)
        raise _StopError

    def _origin(self, event: ev.Event) -> Origin:
        assert event.start_mark is not None
        return self._origin_at(event.start_mark.line + 1, event.start_mark.column + 1)

    def _origin_at(self, line: int, column: int) -> Origin:
        return Origin(self._name, line, column, self._line(line))

    def _line(self, number: int) -> str:
        return self._lines[number - 1] if 1 <= number <= len(self._lines) else ""


def _short_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
