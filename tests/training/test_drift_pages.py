"""An analyst opens Evidently, finds what drifted, and reads why; after days as after weeks."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from drift_world import AT, features, report
from pages import browser, picture
from ports import free_port
from shop_world import environment

from training.drift_workspace import keep_snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Told(NamedTuple):
    """A workspace, what is said of its last interval, and how many points its plots have."""

    workspace: Path
    words: list[str]
    points: int


SECONDS = 15.0
"""In which all of it is drawn."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(12, marks=[pytest.mark.slow, pytest.mark.browser]),
        pytest.param(200, marks=pytest.mark.chaos),
    ],
)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A workspace whose last interval drifted."""
    folder = tmp_path_factory.mktemp("pages")
    quiet = report(folder / "quiet", features(2000, 1), features(2000, 2))
    drifted = report(folder / "drifted", features(2000, 1), features(2000, 2, age=3.0, tv=0.7))
    assert (quiet.drifted, drifted.drifted) == (False, True)
    points = 0
    for back in reversed(range(request.param)):
        verdict, name = (quiet, "quiet") if back else (drifted, "drifted")
        outcome = "drifted" if verdict.drifted else "no drift"
        psi = {each.name: each.score for each in verdict.columns if each.score is not None}
        points += len(psi) + 3
        keep_snapshot(
            folder / name / "snapshot.json",
            folder / "workspace",
            project="shop",
            at=AT - back * timedelta(hours=6),
            tags=[outcome, *(each.name for each in verdict.columns if each.drifted)],
            words={"verdict": "; ".join(dict.fromkeys([outcome, *verdict.words]))},
            psi=psi,
            figures={
                "Share of drifted columns": {"of all compared": verdict.share},
                "ndcg@10 on the test set": {"item_knn": 0.3, "popularity": 0.1 + 0.0001 * back},
            },
        )
    return Told(folder / "workspace", drifted.words, points)


@pytest.fixture(scope="module")
def page(told: Told) -> Iterator[Page]:
    """The first page of Evidently."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    server = subprocess.Popen(
        [
            "evidently",
            "ui",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workspace",
            told.workspace,
        ],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(address, timeout=5)
                break
            time.sleep(0.2)
        with browser() as found:
            found.goto(address)
            yield found
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_the_planted_drift_is_found_and_its_reason_read(page: Page, told: Told) -> None:
    page.get_by_role("link", name="shop").click()
    began = time.monotonic()
    # Each point is a circle.
    page.locator(".MuiMarkElement-root").nth(told.points - 1).wait_for(state="attached")
    assert time.monotonic() - began < SECONDS
    page.get_by_text(f"{AT:%Y-%m-%d %H:%M} UTC: drifted; {told.words[0]}").wait_for()
    picture(page, "evidently-drifted")
    page.goto(f"{page.url.rstrip('/')}/reports")
    row = page.get_by_role("row").filter(has_text=f"{AT:%Y-%m-%d %H:%M} UTC")
    for tag in ("drifted", "age", "+1"):  # the column that moved most, and how many more
        row.get_by_text(tag, exact=True).wait_for()
    # A long text is folded until it is clicked.
    row.get_by_text("drifted; 2 of 6 columns").click()
    row.get_by_text(told.words[0]).wait_for()
    picture(page, "evidently-reason")
