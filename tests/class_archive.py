"""The classes of Spark as the JVM lays them out in memory, made once for all tests.

Dozens of tests start processes of their own, each with a JVM that would load and check the same
classes anew. The archive is left by one run of a shop beside the first tests; whoever starts before
it is there, or on another Java, does without (class data sharing, JEP 350).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from shop_world import ARCHIVE, make_shop


def make() -> None:
    """Run a shop; its JVM leaves the archive when it ends."""
    ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ARCHIVE.parent) as folder:
        shop = make_shop(Path(folder) / "shop")
        part = Path(folder) / ARCHIVE.name
        shop.set_spec(f"-XX:SharedArchiveFile={ARCHIVE}", f"-XX:ArchiveClassesAtExit={part}")
        shop.command("run", "shop")
        part.replace(ARCHIVE)


if __name__ == "__main__":
    make()
