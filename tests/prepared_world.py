"""Shops whose features are made once a test run, for tests of what comes after them."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from shop_world import Shop, make_shop

if TYPE_CHECKING:
    import pytest

ENDS = ("2026-03-12T12:00Z", "2026-03-12T18:00Z", "2026-03-13T00:00Z")
"""Ends of the intervals, in their order."""


def prepared(root: Path, factory: pytest.TempPathFactory, intervals: int = len(ENDS)) -> Shop:
    """A copy of a shop whose first intervals have their features and no models yet.

    Args:
        root: Folder of the copy.
        factory: Gives the folder of the test run, whose processes share what is made.
        intervals: How many of `ENDS`, in order.
    """
    own = factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made, part = folder / "prepared", folder / "prepared.part"
    with (folder / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(part, ignore_errors=True)
            shop = make_shop(part / "shop")
            for number, end in enumerate(ENDS, 1):
                shop.run(end, "+features")
                shop.copy(part / f"{number}")
            part.rename(made)
    return Shop(made / f"{intervals}").copy(root)
