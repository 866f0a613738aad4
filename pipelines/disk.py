"""What a disk does to a run, in words: full, closed to us, or with bytes that are no longer right.

The failures come from four libraries in as many forms; what they share are the texts of the
operating system, and those are what we look for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import StageError

_FULL = ("No space left on device", "File too large", "Disk quota exceeded", "disk is full")
_CLOSED = ("Read-only file system", "Permission denied", "Operation not permitted")
_DAMAGED = {
    "could not verify page integrity": "its checksum is wrong, so bytes changed since it was "
    "written",
    "Checksum error": "its checksum is wrong, so bytes changed since it was written",
    "is not a Parquet file": "it is not a Parquet file, or it is cut short",
    "CANNOT_READ_FILE_FOOTER": "its footer cannot be read",
    "FILE_NOT_EXIST": "it is gone",
    "FAILED_READ_FILE": "its data is damaged",
}
_FILE = re.compile(r"(?:file:/*)(/[^\s,;:']+\.parquet)|'(/[^']+)'|(/\S+\.parquet)")


def explain(error: BaseException, where: str) -> str | None:
    """What is wrong with the disk and what to do about it; None for any other failure.

    Args:
        error: What was raised.
        where: The place to name for a full disk.
    """
    text = str(error)
    for sign in _FULL:
        if sign in text:
            return (
                f"The disk has no room: {sign}.\n"
                f"  Make room where {where} lies, then run the same command again. What was "
                "published before stays, and nothing half-written counts."
            )
    for sign in _CLOSED:
        if sign in text:
            found = _FILE.search(text)
            place = next(filter(None, found.groups()), where) if found else where
            return (
                f"{place} cannot be written: {sign}.\n"
                "  Give this user the right to write there, or name another folder under "
                "`environment` in the spec."
            )
    for sign, reason in _DAMAGED.items():
        if sign in text and (found := _FILE.search(text)):
            file = f"/{next(filter(None, found.groups())).lstrip('/')}"
            return (
                f"{file}: cannot be read: {reason}. Bring it back from a copy; or remove the "
                "folder of the table, then run the stage that writes it again."
            )
    return None


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn a disk's refusals into a `StageError`; other failures pass.

    Raises:
        StageError: When the disk is full or closed to us.
    """
    try:
        yield
    except Exception as error:
        text = None if isinstance(error, StageError) else explain(error, where)
        if text is None:
            raise
        raise StageError(text) from error


def require_writable(folders: Mapping[str, Path]) -> None:
    """Refuse to begin what could not be finished.

    Args:
        folders: Option of the spec to the folder it names; one that is missing will be made.

    Raises:
        StageError: When a folder cannot be written; names it and its option.
    """
    for option, folder in folders.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise StageError(
                f"{there} cannot be written by this user.\n"
                f"  Give this user the right to write there, or name another folder: `{option}` "
                "in the spec. Nothing was changed."
            )
