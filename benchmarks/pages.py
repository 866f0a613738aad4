"""Pages of results whose sections are measured at different times."""

from __future__ import annotations

from pathlib import Path


def replace_section(page: Path, section: str, head: str) -> None:
    """Puts a section (`## title` and what follows) in place of the one of that title, or adds it.

    Args:
        page: The page; made when missing.
        section: The new text.
        head: What a new page begins with.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (page.read_text() if page.exists() else head).split("\n## ")
    new = section.removeprefix("## ")
    titles = [other.splitlines()[0] for other in others]
    if (title := new.splitlines()[0]) in titles:
        others[titles.index(title)] = new
    else:
        others.append(new)
    page.write_text("\n## ".join(part.rstrip() + "\n" for part in [first, *others]))
