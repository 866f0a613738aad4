"""Hashes of values and of code."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGES = Path(__file__).resolve().parent.parent


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, as 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest(package: str) -> str:
    """Hash of the Python files of one of our packages, as this process found them first."""
    return code_on_disk(package)


def code_on_disk(package: str) -> str:
    """The same hash of the files as they are now."""
    files = sorted((_PACKAGES / package).rglob("*.py"))
    return digest(
        [
            [str(file.relative_to(_PACKAGES)), hashlib.sha256(file.read_bytes()).hexdigest()]
            for file in files
        ]
    )
