"""Pages in a real browser: Debian's Chromium, headless."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shop_world import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = REPOSITORY / "docs" / "pictures"


@contextmanager
def browser() -> Iterator[Page]:
    """A page of 1,400 by 900 pixels that may open addresses of this machine alone."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # As root Chromium starts without its sandbox only.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        foreign: list[str] = []
        page.route(
            lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")),
            lambda route: (foreign.append(route.request.url), route.abort()),
        )
        yield page
        chromium.close()
    assert foreign == []


def picture(page: Page, name: str) -> None:
    """Keep what is shown for the documentation, when `SEXTANT_WRITE_PICTURES` is set."""
    if os.environ.get("SEXTANT_WRITE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        page.wait_for_timeout(2_000)  # what moves has come to rest
        page.screenshot(path=Path(PICTURES / f"{name}.png"))
