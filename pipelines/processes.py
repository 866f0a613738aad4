"""Processes known by their id and the moment that they began, so that no other is taken for one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def begin_of(pid: int) -> int:
    """When a process began, in the kernel's ticks; 0 when there is none or it has ended.

    A zombie has ended: it has written all that it ever will.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def members_of(leaders: Iterable[tuple[int, int]]) -> list[psutil.Process]:
    """All processes of the sessions that these began, even where the leader itself has ended."""
    # The kernel gives no process the number of a session that has members.
    numbers = {pid for pid, began in leaders if begin_of(pid) in (0, began)}
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in numbers and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
