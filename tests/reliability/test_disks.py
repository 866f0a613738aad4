"""Disks that are full, closed or gone: one message, nothing half-written, and the same end."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lake_state import state
from prepared_world import ENDS, prepared
from shop_world import Shop, environment

pytestmark = pytest.mark.slow

LAST = ENDS[-1]
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def obey_modes() -> None:
    """Make a child of root heed the modes of files, as every other user does."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def no_file_above(size: int) -> Callable[[], None]:
    """What a full disk is to a process, without one: files stop growing at a size."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose data half is complete."""
    return prepared(tmp_path_factory.mktemp("finished") / "shop", tmp_path_factory)


@pytest.fixture
def shop(finished: Shop, tmp_path: Path) -> Shop:
    return finished.copy(tmp_path / "shop")


def closed(folder: Path) -> None:
    """Take the right to write from a folder and all below it."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)


def opened(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("folder", "option"),
    [
        ("lake/shop", "environment.lake"),
        ("reports/shop", "environment.reports"),
        ("mlruns/artifacts", "environment.mlflow.artifacts"),
    ],
)
def test_a_closed_folder_is_named_before_anything_runs(
    shop: Shop, folder: str, option: str
) -> None:
    closed(shop.root / folder)
    try:
        done = shop.command("run", "shop", "--at", LAST, check=False, before=obey_modes)
    finally:
        opened(shop.root / folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"shop: interval [2026-03-12T18:00Z, {LAST})\n"
        f"{shop.root / folder} cannot be written by this user.\n"
        f"  Give this user the right to write there, or name another folder: `{option}` in the "
        "spec. Nothing was changed.\n"
    )


def test_a_full_disk_is_said_and_the_same_command_goes_on(shop: Shop, tmp_path: Path) -> None:
    untouched = shop.copy(tmp_path / "untouched")
    untouched.run(LAST)
    # MLflow's store alone is larger than this.
    done = shop.command("run", "shop", "--at", LAST, check=False, before=no_file_above(300_000))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "The model registry" in done.stderr
    assert done.stderr.endswith(f"Next: sextant run shop --at {LAST}\n")
    shop.run(LAST)
    assert state(shop) == state(untouched)


FILLING = """
import resource, sys
import pyarrow as pa
from pipelines.lake import Lake
lake = Lake(sys.argv[1], "shop")
lake.replace_all("lists", pa.table({"row": ["old"]}), {})
rows = pa.table({"row": [f"{number * 7919 % 104729}" for number in range(100_000)]})
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for size in range(100, 50_000, 5_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        lake.replace_all("lists", rows, {})
        sys.exit(f"{size} bytes were enough")
    except Exception as error:
        assert "File too large" in str(error), error
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert lake.arrow("lists").to_pydict() == {"row": ["old"]}
lake.replace_all("lists", rows, {})
assert lake.arrow("lists").num_rows == rows.num_rows
print("ten times whole")
"""


def test_a_table_stays_whole_while_the_disk_fills_at_ten_points(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path)],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    # What deltalake's own threads make of a full disk may end the process late and loudly.
    assert done.stdout == "ten times whole\n", done.stderr
