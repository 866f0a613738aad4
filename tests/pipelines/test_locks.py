from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.errors import HeldError
from pipelines.locks import hold

HOLDER = """
import sys, time
from pathlib import Path
from pipelines.locks import hold
lease = float(sys.argv[3]) if len(sys.argv) > 3 else None
with hold(Path(sys.argv[1]), "the run of demo", lease=lease) as claim:
    if len(sys.argv) > 2 and int(sys.argv[2]):
        claim.note_child(int(sys.argv[2]))
    print("held", flush=True)
    if lease is None:
        time.sleep(60)
    sys.stdin.readline()
    try:
        claim.check()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("mine", flush=True)
"""


def start_holder(lock: Path, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
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
    with hold(lock, "me") as claim:
        claim.note_child(os.getpid())
        claim.note_child(os.getpid())
        assert lock.read_text().count(str(os.getpid())) == 2  # the holder and its one child


@pytest.mark.slow
def test_a_lease_that_runs_out_fences_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    holder = start_holder(lock, "0", "1.0")
    try:
        time.sleep(1.5)  # it shows life, so its lease goes on
        with pytest.raises(HeldError), hold(lock, "me", lease=1.0):
            pass
        holder.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        with hold(lock, "the second attempt", lease=1.0) as claim:
            holder.send_signal(signal.SIGCONT)
            said, _ = holder.communicate("go\n", timeout=30)
            claim.check()
        assert said == (
            "FencedError the run of demo showed no sign of life for a while, and the second "
            f"attempt (process {os.getpid()}) took its place.\n"
            "  Nothing more was written by this one.\n"
        )
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.slow
def test_of_many_that_find_a_lease_over_one_takes_it(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    holder = start_holder(lock, "0", "1.0")
    code = (
        "import sys, time; from pathlib import Path; from pipelines.locks import hold\n"
        "from pipelines.errors import HeldError\n"
        "try:\n"
        "    with hold(Path(sys.argv[1]), 'heir', lease=1.0):\n"
        "        time.sleep(4)\n"
        "        print('took')\n"
        "except HeldError:\n"
        "    print('held')\n"
    )
    try:
        holder.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        heirs = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        assert sorted(heir.communicate(timeout=30)[0].strip() for heir in heirs) == [
            *["held"] * 3,
            "took",
        ]
    finally:
        holder.kill()
        holder.wait()
