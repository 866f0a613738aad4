"""Processes of a cluster on this machine, and what their logs say."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def node(log: Path, command: Sequence[str], variables: Mapping[str, str]) -> Iterator[None]:
    """A process that writes to a log, ended with the block.

    Args:
        log: File of what it says.
        command: Program and arguments.
        variables: Environment variables beside those of this process.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def said(log: Path, pattern: str) -> re.Match[str]:
    """Wait until a log says something."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text())
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{pattern} never came:\n{log.read_text()}")
