"""OS locks: one writer per table, one run per pipeline, on a local disk.

Delta's own commit protocol is safe between processes on object stores and HDFS but not on a local
disk, where it locks inside one JVM only. ``flock`` closes that gap, and is let go by the kernel
when its holder dies, so a killed run never leaves a stale lock.

One thing outlives a killed run: Spark's JVM notices the death of its Python half a second later
and could still commit. A lock therefore names the processes of its holder, and the next holder
waits until they are gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import HeldError

_ORPHAN_SECONDS = 60.0


@contextmanager
def hold(path: Path, holder: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock for the time of a ``with`` block.

    Args:
        path: The lock file; made when missing, never removed.
        holder: What to call this holder in the message that others get.
        wait_seconds: How long to wait for another holder.

    Raises:
        HeldError: When another process holds it all that time; says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(handle, path, wait_seconds)
        _await_orphans(_content(handle))
        _write(handle, {"holder": holder, "pid": os.getpid(), "children": []})
        yield
        _write(handle, {})
    finally:
        os.close(handle)  # lets go of the lock


def note_child(path: Path, pid: int) -> None:
    """Name a child process that may outlive the holder of this lock, such as Spark's JVM."""
    with path.open("r+") as file:
        content = json.loads(file.read() or "{}")
        content["children"] = sorted({*content.get("children", []), pid})
        file.seek(0)
        file.truncate()
        file.write(json.dumps(content))


def _acquire(handle: int, path: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            content = _content(handle)
            raise HeldError(
                f"{path.stem} is held by {content.get('holder', 'another process')} "
                f"(process {content.get('pid', 'unknown')}).\n"
                "  Nothing was changed. Wait for it to end, then run the same command again."
            ) from None
        return


def _await_orphans(content: dict[str, object]) -> None:
    children = content.get("children", [])
    assert isinstance(children, list)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while any(_alive(pid) for pid in children):
        if time.monotonic() > deadline:
            raise HeldError(
                f"Processes {children} of a run that was killed are still alive after "
                f"{_ORPHAN_SECONDS:.0f} seconds and could still write.\n"
                "  End them, then run the same command again."
            )
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        # A zombie has written all it ever will.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _content(handle: int) -> dict[str, object]:
    os.lseek(handle, 0, os.SEEK_SET)
    text = os.read(handle, 65536).decode()
    content = json.loads(text) if text else {}
    assert isinstance(content, dict)
    return content


def _write(handle: int, content: dict[str, object]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(content).encode(), 0)
