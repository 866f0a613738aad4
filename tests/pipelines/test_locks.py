from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.errors import HeldError
from pipelines.locks import hold, note_child

HOLDER = """
import sys, time
from pathlib import Path
from pipelines.locks import hold, note_child
with hold(Path(sys.argv[1]), "the run of demo"):
    if len(sys.argv) > 2:
        note_child(Path(sys.argv[1]), int(sys.argv[2]))
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(lock: Path, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    holder = start_holder(lock)
    try:
        with pytest.raises(HeldError) as caught, hold(lock, "me"):
            pass
        assert str(caught.value) == (
            f"run is held by the run of demo (process {holder.pid}).\n"
            "  Nothing was changed. Wait for it to end, then run the same command again."
        )
        assert caught.value.exit_code == 1
    finally:
        holder.kill()
        holder.wait()


def test_lock_of_a_killed_holder_is_free_and_waiting_succeeds(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    holder = start_holder(lock)
    holder.kill()
    holder.wait()
    with hold(lock, "me"):
        pass


def test_next_holder_waits_for_children_of_a_killed_one(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    orphan = subprocess.Popen(["sleep", "1.0"])
    holder = start_holder(lock, str(orphan.pid))
    holder.kill()
    holder.wait()
    start = time.monotonic()
    with hold(lock, "me"):
        waited = time.monotonic() - start
        assert (
            not Path(f"/proc/{orphan.pid}/fd").exists()
            or orphan.poll() is not None
            or (Path(f"/proc/{orphan.pid}/stat").read_text().split(") ")[1].startswith("Z"))
        )
    assert waited > 0.2
    orphan.wait()


def test_two_waiting_writers_take_turns(tmp_path: Path) -> None:
    """Twenty read-modify-write rounds in each of three processes lose no update."""
    lock, counter = tmp_path / "table.lock", tmp_path / "counter"
    counter.write_text("0")
    code = (
        "import sys; from pathlib import Path; from pipelines.locks import hold\n"
        "lock, counter = map(Path, sys.argv[1:])\n"
        "for _ in range(20):\n"
        "    with hold(lock, 'writer', wait_seconds=30):\n"
        "        counter.write_text(str(int(counter.read_text()) + 1))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(lock), str(counter)]) for _ in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert counter.read_text() == "60"


def test_children_are_noted_once(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with hold(lock, "me"):
        note_child(lock, os.getpid())
        note_child(lock, os.getpid())
        assert lock.read_text().count(str(os.getpid())) == 2  # the holder and its one child
