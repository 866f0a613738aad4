"""Break runs on purpose, many times, and count what was lost: docs/results/reliability.md.

    python -m benchmarks.chaos --seed 1 --kills 20 --report docs/results/reliability.md

Kills every stage at three moments and a whole run at random times, runs intervals in random orders,
flips bytes, and lets processes race. After each kill the same command runs again, and its tables
and registry must equal those of a run that nobody disturbed. The quick subset is in
tests/reliability/; both share tests/kills.py, which watches from outside.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shop_world import Shop

REPOSITORY = Path(__file__).resolve().parent.parent
LAST = "2026-03-13T00:00Z"
MODEL_GROUPS = ("training", "publication")
INTERVALS = 8


@dataclass
class Count:
    """What one kind of disturbance came to.

    Args:
        what: The disturbance, in words.
        tried: How often it was done.
        survived: How often the end was that of an undisturbed run.
        seconds: Wall time of all.
        notes: What went wrong, or where kills landed.
    """

    what: str
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, fine: bool, note: str = "") -> None:
        """Count one."""
        self.tried += 1
        self.survived += fine
        if note:
            self.notes.append(note)


class Chaos:
    """One shop, undisturbed, and what is done to copies of it.

    Args:
        folder: Scratch for the copies.
        seed: Of everything random.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        from lake_state import DATA_TABLES, RESULTS, rows_hash, state
        from shop_world import correct, make_shop

        self._folder, self._seed = folder, seed
        self.partial_reads = self.reads = self.orphans = self.orphans_most = 0
        self.missed: list[str] = []
        self.corrected = make_shop(folder / "corrected")
        self.corrected.run(LAST)
        correct(self.corrected)
        self.featured = self.corrected.copy(folder / "featured")
        self.featured.run(LAST, "+features")
        self.whole = self.featured.copy(folder / "whole")
        self.whole.run(LAST)
        self._data, self._all = DATA_TABLES, RESULTS
        self._expected = {table: state(self.whole, table) for table in (DATA_TABLES, RESULTS)}
        self._allowed = {
            table: {rows_hash(self.corrected, table), rows_hash(self.whole, table)}
            for table in RESULTS
        }

    def kill(self, base: Shop, tables: tuple[str, ...], how: Callable[[Shop], str]) -> bool:
        """Disturb a copy of a shop, run it again, and compare."""
        from kills import Reader
        from lake_state import orphans, state

        shop = base.copy(self._folder / "killed")
        try:
            already = orphans(shop)
            with Reader(shop, tables) as reader:
                how(shop)
                left = len(orphans(shop) - already)
                shop.run(LAST, "+features" if tables is self._data else None)
            self.reads += reader.reads
            self.partial_reads += len(reader.violations(self._allowed))
            self.orphans += left
            self.orphans_most = max(self.orphans_most, left)
            return state(shop, tables) == self._expected[tables]
        finally:
            shutil.rmtree(shop.root)

    def fixed_kills(self, moments: tuple[str, ...]) -> Count:
        """Every stage, at each moment."""
        from kills import run_and_kill, written_tables

        count = Count("kill -9 of every stage at three moments")
        written = written_tables(self.whole)
        for step in self.whole.project().steps:
            if step.name not in written:
                continue
            models = step.group in MODEL_GROUPS
            base = self.featured if models else self.corrected
            tables = self._all if models else self._data
            selection = [] if models else ["--select", "+features"]
            for moment in moments:

                def how(
                    shop: Shop, name: str = step.name, at: str = moment, some: Any = selection
                ) -> str:
                    landed = run_and_kill(shop, name, at, written[name], "--at", LAST, *some)
                    if landed.seen != at:
                        self.missed.append(f"{name}, {at}: {landed.seen}")
                    return landed.seen

                fine = self.kill(base, tables, how)
                count.add(fine, "" if fine else f"{step.name}, {moment}: another end")
                _say(f"{step.name}, {moment}: {'equal' if fine else 'NOT EQUAL'}")
        return count

    def random_kills(self, kills: int) -> Count:
        """A whole run, at times drawn from the length of an undisturbed one."""
        from kills import start

        count = Count("kill -9 of a whole run at random times")
        shop = self.corrected.copy(self._folder / "timed")
        begun = time.monotonic()
        assert start(shop, "run", "shop", "--at", LAST).communicate()
        length = time.monotonic() - begun
        shutil.rmtree(shop.root)
        chance = random.Random(self._seed)
        for _ in range(kills):
            delay = chance.uniform(0.0, length)

            def how(shop: Shop, delay: float = delay) -> str:
                process = start(shop, "run", "shop", "--at", LAST)
                time.sleep(delay)
                process.kill()
                process.communicate()
                return ""

            fine = self.kill(self.corrected, self._all, how)
            count.add(fine, "" if fine else f"after {delay:.1f} s: another end")
            _say(f"killed after {delay:.1f} of {length:.1f} s: {'equal' if fine else 'NOT EQUAL'}")
        return count

    def orders(self, number: int) -> Count:
        """Eight intervals in random orders, against the same in order."""
        from lake_state import state
        from shop_world import END, make_shop

        from pipelines.intervals import text

        ends = [text(END - number * timedelta(hours=6)) for number in range(INTERVALS)][::-1]

        def run_all(order: list[int], name: str) -> dict[str, str]:
            shop = make_shop(self._folder / name)
            for one in order:
                shop.run(ends[one], "+features")
            found = state(shop, self._data)
            shutil.rmtree(shop.root)
            return found

        count = Count(f"{INTERVALS} intervals in a random order")
        expected = run_all(list(range(INTERVALS)), "in_order")
        chance = random.Random(self._seed)
        for _ in range(number):
            order = chance.sample(range(INTERVALS), INTERVALS)
            found = run_all(order, "shuffled")
            other = [table for table in expected if found[table] != expected[table]]
            count.add(not other, f"{order}: {', '.join(other)}" if other else "")
            _say(f"order {order}: {'equal' if not other else f'other {other}'}")
        return count

    def flips(self, number: int) -> Count:
        """One byte at a time, in a file of Spark's and in one of Arrow's."""
        from flips import unseen

        from pipelines.lake import Lake

        count = Count("one flipped byte in a table's file")
        shop = self.whole
        lake = Lake(str(shop.lake.parent), "shop")
        with shop.runner() as runner:
            spark = runner.engines.spark
            for table in ("events", "candidates"):
                for reader in ("spark", "arrow"):
                    file = max(
                        (Path(shop.lake / table / name) for name in _active(shop, table)),
                        key=lambda one: one.stat().st_size,
                    )
                    if table == "events":
                        # As on an object store: what is in the pages must do.
                        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)

                    def read(table: str = table, reader: str = reader) -> object:
                        if reader == "spark":
                            return lake.spark(spark, table).collect()
                        return lake.arrow(table)

                    silent = unseen(file, read, number, self._seed)
                    for turn in range(number):
                        count.add(turn >= len(silent))
                    if silent:
                        count.notes.append(f"{table} read by {reader}: {len(silent)} unseen")
                    _say(f"flips in {table} read by {reader}: {number - len(silent)} of {number}")
        return count


def _active(shop: Shop, table: str) -> list[str]:
    from deltalake import DeltaTable

    return [uri.rsplit("/", 1)[1] for uri in DeltaTable(shop.lake / table).file_uris()]


def races(folder: Path, commits: int, promotions: int) -> list[Count]:
    """Two processes that commit to one table, and two that promote."""
    from races import APPENDER, REPLACER, commits_kept, promotions_lost

    counts = []
    for name, code in (("append", APPENDER), ("replace intervals of", REPLACER)):
        begun = time.monotonic()
        kept = commits_kept(folder / name.split()[0], code, commits)
        counts.append(
            Count(f"2 processes x {commits} commits that {name} one table", 2 * commits, kept)
        )
        counts[-1].seconds = time.monotonic() - begun
    begun = time.monotonic()
    lost = promotions_lost(folder / "promotions", promotions)
    counts.append(
        Count(f"2 processes x {promotions} promotions", 2 * promotions, 2 * promotions - lost)
    )
    counts[-1].seconds = time.monotonic() - begun
    return counts


def main() -> None:
    """Run it all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="kills at random times")
    parser.add_argument("--moments", type=int, default=3, help="of each stage, 0 to 3")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--flips", type=int, default=24, help="for each table and reader")
    parser.add_argument("--commits", type=int, default=150, help="of each of two processes")
    parser.add_argument("--promotions", type=int, default=50, help="of each of two processes")
    parser.add_argument("--report", type=Path, help="the page to write")
    options = parser.parse_args()
    # The shop and the watch of kills are the tests' own.
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from kills import MOMENTS

    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        counts = races(folder, options.commits, options.promotions)
        chaos = Chaos(folder, options.seed)
        for part in (
            lambda: chaos.flips(options.flips),
            lambda: chaos.orders(options.orders),
            lambda: chaos.fixed_kills(MOMENTS[: options.moments]),
            lambda: chaos.random_kills(options.kills),
        ):
            begun = time.monotonic()
            counts.append(part())
            counts[-1].seconds = time.monotonic() - begun
            page = _page(chaos, counts, options)
            if options.report:
                options.report.write_text(page)
    print(page)


def _page(chaos: Chaos, counts: list[Count], options: argparse.Namespace) -> str:
    rows = [
        f"| {count.what} | {count.tried} | {count.survived} | {count.seconds:.0f} |"
        for count in counts
        if count.tried
    ]
    notes = [f"- {count.what}: {note}" for count in counts for note in count.notes]
    lines = [
        "# Reliability",
        "",
        f"What was done to runs of a small shop (90 users, 30 goods), on {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}. Made by `python -m "
        f"benchmarks.chaos --seed {options.seed} --kills {options.kills}`.",
        "",
        "Survived means: the same command, run again, ends with the same rows in every table "
        "(SHA-256 of the sorted rows of each) and the same versions, states and aliases in the "
        "registry as a run that nobody disturbed. For flips it means that the read failed and "
        "named the file; for races, that nothing is missing and nothing is there twice.",
        "",
        "| disturbance | times | survived | seconds |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"While runs were killed and run again, a reader read the tables every 50 ms: "
        f"{chaos.reads:,} whole reads, {chaos.partial_reads} of a state that no whole run made. "
        f"Kills left {chaos.orphans} data files that no commit names, at most "
        f"{chaos.orphans_most} each; they are never read, and `maintain` removes them.",
        "",
    ]
    if chaos.missed:
        lines += [
            "Kills that landed at another moment than they were meant for, since it was over "
            "before it could be seen:",
            "",
            *(f"- {one}" for one in chaos.missed),
            "",
        ]
    if notes:
        lines += ["What went wrong:", "", *notes, ""]
    return "\n".join(lines)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
