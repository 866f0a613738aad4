"""OS locks: one writer per table, one run per pipeline, on a local disk.

Delta's own commit protocol is safe between processes on object stores and HDFS but not on a local
disk, where it locks inside one JVM only. ``flock`` closes that gap, and is let go by the kernel
when its holder dies, so a killed run never leaves a stale lock.

Two things outlive that. Spark's JVM notices the death of its Python half a second later and could
still commit: a lock names the processes of its holder, and the next holder waits until they are
gone. And a holder may hang, be suspended or be cut off, and wake up long after another has done its
work: a lock with a lease shows a sign of life every few seconds, and without one for the length of
the lease the next attempt takes it over, by putting a new file in its place. A claim is good for as
long as its file is the one in place, which every commit asks for first.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import FencedError, HeldError
from pipelines.processes import begin_of

_ORPHAN_SECONDS = 60.0
_SIGNS_PER_LEASE = 10


def lease_seconds() -> float:
    """How long a run may show no sign of life before another attempt takes its place."""
    return float(os.environ.get("SEXTANT_LEASE_SECONDS", "120"))


@dataclass(frozen=True)
class Claim:
    """A lock that is held.

    Args:
        path: The lock file.
        holder: What this holder is called.
        handle: The open file that the kernel locked.
    """

    path: Path
    holder: str
    handle: int

    def check(self) -> None:
        """Make sure that nobody has taken the lock over.

        Raises:
            FencedError: When another attempt has; names it.
        """
        if _in_place(self.handle, self.path):
            return
        other = json.loads(self.path.read_text() or "{}") if self.path.exists() else {}
        raise FencedError(
            f"{self.holder} showed no sign of life for a while, and "
            f"{other.get('holder', 'another attempt')} "
            f"(process {other.get('pid', 'unknown')}) took its place.\n"
            "  Nothing more was written by this one."
        )

    def note_child(self, pid: int) -> None:
        """Name a child process that may outlive the holder, such as Spark's JVM."""
        content = _content(self.handle)
        children = content.get("children", [])
        assert isinstance(children, list)
        _write(self.handle, {**content, "children": sorted({*children, pid})})


@contextmanager
def hold(
    path: Path,
    holder: str,
    *,
    wait_seconds: float = 0.0,
    lease: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Claim]:
    """Hold an exclusive lock for the time of a ``with`` block.

    Args:
        path: The lock file; made when missing, never removed.
        holder: What to call this holder in the message that others get.
        wait_seconds: How long to wait for another holder.
        lease: Seconds without a sign of life after which another may take the lock over; None when
            nobody ever may.
        progress: Told once whom it waits for.

    Raises:
        HeldError: When another process holds it all that time; says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, wait_seconds, lease, progress)
    try:
        _await_orphans(_content(handle))
        _write(handle, {"holder": holder, "pid": os.getpid(), "children": []})
        with _signs_of_life(handle, lease):
            try:
                yield Claim(path, holder, handle)
            finally:
                _write(handle, {})
    finally:
        os.close(handle)  # lets go of the lock


@contextmanager
def _signs_of_life(handle: int, lease: float | None) -> Iterator[None]:
    if lease is None:
        yield
        return
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(lease / _SIGNS_PER_LEASE):
            os.utime(handle)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _acquire(
    path: Path,
    wait_seconds: float,
    lease: float | None,
    progress: Callable[[str], None] | None = None,
) -> int:
    deadline = time.monotonic() + wait_seconds
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _in_place(handle, path):
                return handle
        except BlockingIOError:
            if lease is not None and time.time() - os.fstat(handle).st_mtime > lease:
                return _take_over(handle, path, lease)
            content = _content(handle)
            held = (
                f"{path.stem} is held by {content.get('holder', 'another process')} "
                f"(process {content.get('pid', 'unknown')})"
            )
            if progress is not None:
                progress(f"{held}; waiting ...")
                progress = None
            if time.monotonic() >= deadline:
                os.close(handle)
                raise HeldError(
                    f"{held}.\n"
                    "  Nothing was changed. Wait for it to end, then run the same command again."
                ) from None
        # Held for now, or replaced between opening and locking.
        os.close(handle)
        time.sleep(0.05)


def _take_over(stale: int, path: Path, lease: float) -> int:
    """Put a new lock file, already locked, in the place of one whose lease has run out."""
    try:
        # One at a time: of two that find the lease over, the second finds a holder who lives.
        with hold(path.with_suffix(".takeover"), "takeover", wait_seconds=lease):
            if not _in_place(stale, path):
                return _acquire(path, 0.0, lease)
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.replace(path)
            return handle
    finally:
        os.close(stale)


def _in_place(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _await_orphans(content: dict[str, object]) -> None:
    children = content.get("children", [])
    assert isinstance(children, list)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while any(begin_of(pid) for pid in children):
        if time.monotonic() > deadline:
            raise HeldError(
                f"Processes {children} of a run that was killed are still alive after "
                f"{_ORPHAN_SECONDS:.0f} seconds and could still write.\n"
                "  End them, then run the same command again."
            )
        time.sleep(0.1)


def _content(handle: int) -> dict[str, object]:
    text = os.pread(handle, 65536, 0).decode()
    content = json.loads(text) if text else {}
    assert isinstance(content, dict)
    return content


def _write(handle: int, content: dict[str, object]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(content).encode(), 0)
