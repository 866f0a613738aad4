"""All that can go wrong for a user, as one family of errors.

An error says what is wrong, where, and what to do instead. Its exit code is the command's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

EXIT_INTERRUPTED = 130
MAX_PROBLEMS = 20
"""Problems that a message shows; it counts the rest."""

_MAX_SNIPPET = 100


class SextantError(Exception):
    """Something that the user can put right.

    Args:
        message: What is wrong and what to do instead.
        next_command: A command line to paste next; the command line prints it last.
        detail: What a stage found before it failed, for the table ``runs``; plain JSON values.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        next_command: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.next_command = next_command
        self.detail = detail or {}


class UsageError(SextantError, ValueError):
    """A command was asked for something that makes no sense."""

    exit_code = 2


class StageError(SextantError):
    """A stage failed."""


class HeldError(SextantError):
    """Another process works on the same thing."""


class FencedError(SextantError):
    """Another attempt took this one's place while it showed no sign of life."""


class ContractError(SextantError):
    """Data broke a contract that blocks."""

    exit_code = 3


class DriftError(SextantError):
    """Data drifted, and the spec says that drift blocks."""

    exit_code = 3


@dataclass(frozen=True)
class Problem:
    """One mistake in a file or a ``--set`` option.

    Args:
        file: The file, relative to the project's folder where it lies inside; or the option.
        line: Line from 1; 0 where there is no line, as for an option.
        column: Column from 1, in characters.
        snippet: The line itself.
        message: What is wrong.
        cure: What to write instead.
    """

    file: str
    line: int
    column: int
    snippet: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        if not self.line:
            return "\n".join([f"{self.file}: {self.message}", *self._cure("    = ")])
        before, after = _excerpt(self.snippet, self.column)
        gutter = " " * len(str(self.line))
        return "\n".join(
            [
                f"{self.file}:{self.line}:{self.column}: {self.message}",
                f"  {self.line} | {before}{after}",
                f"  {gutter} | {' ' * len(before)}^",
                *self._cure(f"  {gutter} = "),
            ]
        )

    def _cure(self, lead: str) -> list[str]:
        return [f"{lead}{self.cure}"] if self.cure else []


class SpecError(SextantError, ValueError):
    """Mistakes in the files that declare a pipeline: all of them at once.

    Args:
        problems: The mistakes, in the order in which to show them.
    """

    exit_code = 2

    def __init__(self, problems: Iterable[Problem], *, next_command: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(_render(self.problems), next_command=next_command)


def closest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean `x`?`` for the known name most like this one, else an empty text."""
    names = list(known)
    by_lower = {other.lower(): other for other in names}
    found = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" Did you mean `{by_lower[found[0]]}`?" if found else ""


def _render(problems: Sequence[Problem]) -> str:
    shown = [str(problem) for problem in problems[:MAX_PROBLEMS]]
    count = len(problems)
    if count > MAX_PROBLEMS:
        shown.append(f"... and {count - MAX_PROBLEMS} more.")
    if count > 1:
        shown.append(f"{count} problems.")
    return "\n\n".join(shown)


def _excerpt(line: str, column: int) -> tuple[str, str]:
    """The line around a column, in two parts that meet there; a long line is cut."""
    # A tab is as wide as its reader's terminal likes: one blank keeps the caret in place.
    line = "".join(char if char.isprintable() else " " for char in line)
    at = min(column - 1, len(line))
    start = 0 if at < _MAX_SNIPPET else at - _MAX_SNIPPET // 2
    before, after = line[start:at], line[at : start + _MAX_SNIPPET]
    if start:
        before = "..." + before
    if start + _MAX_SNIPPET < len(line):
        after += "..."
    return before, after
