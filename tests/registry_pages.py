"""What a person clicks on the pages of MLflow's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def choose_champion(page: Page, mlflow: str, model: str, version: str) -> None:
    """Give a version of a model the alias `champion`, on the model's page."""
    page.goto(f"{mlflow}/#/models/{model}")
    # A page that is open already would show what it knew.
    page.reload()
    link = page.get_by_role("link", name=f"Version {version}", exact=True)
    _last_button(page.get_by_role("row").filter(has=link)).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("champion")
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Save aliases").click()
    dialog.wait_for(state="hidden")


def release(page: Page, mlflow: str, model: str) -> None:
    """Delete the tag `hold` of a model, so that the gate decides again."""
    page.goto(f"{mlflow}/#/models/{model}")
    page.reload()
    tag = page.get_by_role("row").filter(has=page.get_by_text("hold", exact=True))
    _last_button(tag).click()
    page.get_by_role("button", name="Confirm").click()
    tag.wait_for(state="detached")


def _last_button(row: Locator) -> Locator:
    """The button at the end of a row: a pen beside aliases, a bin beside tags."""
    return row.get_by_role("button").last
