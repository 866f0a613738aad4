"""`sextant probe` as a user runs it, on a shop with and without a leaking column."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from shop_world import END, START, Shop, make_shop

pytestmark = pytest.mark.slow

ITEMS, USERS, EVENTS = 150, 200, 6000
NEXT = "2026-03-13T00:00Z"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop of goods of very different appeal, with its examples built."""
    shop = make_shop(tmp_path_factory.mktemp("probe"))
    random = np.random.default_rng(11)
    appeal = random.lognormal(0, 1.2, ITEMS)
    goods = random.choice(ITEMS, EVENTS, p=appeal / appeal.sum())
    seconds = np.sort(random.integers(0, int((END - START).total_seconds()), EVENTS))
    at = int(START.timestamp()) + seconds
    rows = [["customer", "sku", "at", "stars"]]
    rows += [
        [f"u{random.integers(USERS)}", f"s{item}", str(time), str(random.integers(1, 6))]
        for item, time in zip(goods.tolist(), at.tolist(), strict=True)
    ]
    rows.append(["u0", "s0", str(int(END.timestamp())), "5"])
    shop.write_events(rows)
    sold = np.bincount(goods, minlength=ITEMS)
    with (shop.root / "data" / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sku", "name", "kind", "price", "sold"])
        for item in range(ITEMS):
            price = f"{random.lognormal(3, 1):.2f}"
            writer.writerow([f"s{item}", f"No. {item}", "tea|gift", price, int(sold[item])])
    return shop


def test_examples_are_needed_first(shop: Shop) -> None:
    done = shop.sextant("probe", "shop", "--at", NEXT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "The probe needs the examples of the interval that ends at 2026-03-13T00:00Z.\n\nNext: "
    )
    assert done.stderr.rstrip().endswith(f"run shop --select +examples --at {NEXT}")


def test_a_column_that_nobody_mapped_is_found(shop: Shop) -> None:
    shop.sextant("run", "shop", "--at", NEXT, "--select", "+examples")
    done = shop.sextant("probe", "shop", "--at", NEXT, "--json", check=False)
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    [leak] = found.pop("leaks")
    assert found.pop("columns").keys() == {"items", "examples"}
    assert found == {"pipeline": "shop", "interval_end": NEXT, "cut": found["cut"]}
    # Some goods were not sold before the cut, so nothing says that they existed.
    known = int(leak["evidence"].split()[1])
    assert ITEMS * 0.9 < known <= ITEMS
    evidence = f"orders {known} items as later events do (rank correlation {leak['strength']:.2f})"
    assert leak == {
        "table": "items", "column": "sold", "mapped": [], "kind": "popularity",
        "strength": leak["strength"], "evidence": evidence,
    }  # fmt: skip

    words = shop.sextant("probe", "shop", "--at", NEXT, check=False).stdout.splitlines()
    assert words[2:7] == [
        "1 column knows the future:",
        "",
        "  items, from data/items.csv",
        f"    sold  not mapped  {evidence}",
        "  => Do not map them: a model would learn what came later. A count belongs to `events`,",
    ]
    assert words[-1].endswith(f"probe shop --allow items.sold --at {NEXT}")

    done = shop.sextant("probe", "shop", "--at", NEXT, "--allow", "items.sold")
    assert done.stdout.splitlines()[-1] == "No column knows the future."
