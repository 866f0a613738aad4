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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shop_world import Shop

REPOSITORY = Path(__file__).resolve().parent.parent
LAST = "2026-03-13T00:00Z"
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


class Chaos:
    """One shop, undisturbed, and what is done to copies of it.

    Args:
        folder: Scratch for the copies.
        seed: Of everything random.
        counts: What was counted so far; each part adds to it.
        save: Called after each disturbance.
    """

    def __init__(
        self, folder: Path, seed: int, counts: list[Count], save: Callable[[Chaos], None]
    ) -> None:
        from lake_state import DATA_TABLES, RESULTS, rows_hash, state
        from shop_world import correct, make_shop

        self._folder, self._seed, self.counts, self._save = folder, seed, counts, save
        self.partial_reads = self.reads = self.orphans = self.orphans_most = 0
        self.missed: list[str] = []
        self.complete = False
        self._copies = 0
        self.corrected = make_shop(folder / "corrected")
        self.corrected.run(LAST)
        correct(self.corrected)
        self.whole = self.corrected.copy(folder / "whole")
        self.after: dict[str, dict[str, str]] = {}
        """Stage to the state that an undisturbed run has right after it."""
        for step in self.whole.project().steps:
            self.whole.run(LAST, step.name)
            self.after[step.name] = state(self.whole)
        self._data, self._all = DATA_TABLES, RESULTS
        self._whole = state(self.whole)
        self._allowed = {
            table: {rows_hash(self.corrected, table), rows_hash(self.whole, table)}
            for table in RESULTS
        }

    def _begin(self, what: str) -> Count:
        self.counts.append(Count(what))
        self._begun = time.monotonic()
        return self.counts[-1]

    def _end(self, name: str, fault: str) -> None:
        """Count one disturbance; `fault` is empty when the end was as it should be."""
        count = self.counts[-1]
        count.tried += 1
        count.survived += not fault
        count.seconds = time.monotonic() - self._begun
        if fault:
            count.notes.append(f"{name}: {fault}")
        print(
            f"{time.strftime('%H:%M:%S')} {count.what}: {name}: {fault or 'fine'}",
            file=sys.stderr,
            flush=True,
        )
        self._save(self)

    def _kill(
        self, base: Shop, name: str, how: Callable[[Shop], object], stage: str | None = None
    ) -> Shop:
        """Disturb a copy of a shop, run the same again, count it, and return the copy."""
        from kills import Reader
        from lake_state import orphans, state

        self._copies += 1
        shop = base.copy(self._folder / f"killed{self._copies}")
        already = orphans(shop)
        with Reader(shop, self._all) as reader:
            how(shop)
            left = len(orphans(shop) - already)
            shop.run(LAST, stage)
        self.reads += reader.reads
        self.partial_reads += len(reader.violations(self._allowed))
        self.orphans += left
        self.orphans_most = max(self.orphans_most, left)
        found, expected = state(shop), self.after[stage] if stage else self._whole
        other = [table for table in expected if found[table] != expected[table]]
        self._end(name, f"other {', '.join(other)}" if other else "")
        return shop

    def fixed_kills(self, moments: tuple[str, ...]) -> None:
        """Every stage, at each moment, on top of what the kills of the stages before it left."""
        from kills import run_and_kill, written_tables

        self._begin(f"kill -9 of each stage at {len(moments)} moments")
        written = written_tables(self.whole)
        base = self.corrected
        for step in self.whole.project().steps:
            killed: list[Shop] = []
            # Maintenance leaves nothing to watch for: it is killed as it begins.
            for moment in moments[:1] if step.kind == "maintain" else moments:

                def how(shop: Shop, name: str = step.name, at: str = moment) -> None:
                    tables = written.get(name, ())
                    landed = run_and_kill(shop, name, at, tables, "--at", LAST, "--select", name)
                    if landed.seen != at:
                        self.missed.append(f"{name}, {at}: {landed.seen}")

                killed.append(self._kill(base, f"{step.name}, {moment}", how, step.name))
            base = killed.pop()
            for shop in killed:
                shutil.rmtree(shop.root)

    def random_kills(self, kills: int) -> None:
        """A whole run, at times drawn from the length of an undisturbed one."""
        from kills import start

        self._begin("kill -9 of a whole run at random times")
        shop = self.corrected.copy(self._folder / "timed")
        begun = time.monotonic()
        assert start(shop, "run", "shop", "--at", LAST).communicate()
        length = time.monotonic() - begun
        chance = random.Random(self._seed)
        for _ in range(kills):
            delay = chance.uniform(0.0, length)

            def how(shop: Shop, delay: float = delay) -> None:
                process = start(shop, "run", "shop", "--at", LAST)
                try:
                    process.communicate(timeout=delay)
                    self.missed.append(f"a whole run, after {delay:.1f} s: it had ended")
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()

            killed = self._kill(self.corrected, f"after {delay:.1f} of {length:.1f} s", how)
            shutil.rmtree(killed.root)

    def orders(self, number: int) -> None:
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

        self._begin(f"{INTERVALS} intervals in a random order")
        expected = run_all(list(range(INTERVALS)), "in_order")
        chance = random.Random(self._seed)
        for _ in range(number):
            order = chance.sample(range(INTERVALS), INTERVALS)
            found = run_all(order, "shuffled")
            other = [table for table in expected if found[table] != expected[table]]
            self._end(str(order), f"other {', '.join(other)}" if other else "")

    def flips(self, number: int) -> None:
        """One byte at a time, in a file of Spark's and in one of Arrow's."""
        from flips import unseen

        from pipelines.lake import Lake

        self._begin("one flipped byte in a table's file")
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
                        fault = "not seen" if turn < len(silent) else ""
                        self._end(f"{table} read by {reader}, {turn + 1}", fault)


def _active(shop: Shop, table: str) -> list[str]:
    from deltalake import DeltaTable

    return [uri.rsplit("/", 1)[1] for uri in DeltaTable(shop.lake / table).file_uris()]


def races(folder: Path, commits: int, promotions: int, kills: int, seed: int) -> list[Count]:
    """Two processes that commit to one table, two that promote, and one that is killed at it."""
    from races import APPENDER, REPLACER, commits_kept, promotions_killed, promotions_lost

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
    begun = time.monotonic()
    faults = promotions_killed(folder / "cut_off", kills, seed)
    counts.append(Count("kill -9 in the middle of promotions", kills, kills - len(faults)))
    counts[-1].seconds, counts[-1].notes = time.monotonic() - begun, faults
    return counts


def main() -> None:
    """Run it all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="kills at random times")
    parser.add_argument("--moments", type=int, default=3, help="to kill each stage at, 0 to 3")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--flips", type=int, default=24, help="for each table and reader")
    parser.add_argument("--commits", type=int, default=150, help="of each of two processes")
    parser.add_argument("--promotions", type=int, default=50, help="of each of two processes")
    parser.add_argument("--report", type=Path, help="the page to write")
    options = parser.parse_args()
    # The shop and the watch of kills are the tests' own.
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from kills import MOMENTS

    def save(chaos: Chaos) -> None:
        if options.report:
            options.report.write_text(_page(chaos, options))

    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        raced = races(folder, options.commits, options.promotions, options.kills, options.seed)
        chaos = Chaos(folder, options.seed, raced, save)
        chaos.flips(options.flips)
        if options.moments:
            chaos.fixed_kills(MOMENTS[: options.moments])
        if options.kills:
            chaos.random_kills(options.kills)
        chaos.orders(options.orders)
        chaos.complete = True
        save(chaos)
    print(_page(chaos, options))


def _page(chaos: Chaos, options: argparse.Namespace) -> str:
    rows = [
        f"| {count.what} | {count.tried} | {count.survived} | {count.seconds:.0f} |"
        for count in chaos.counts
        if count.tried
    ]
    notes = [f"- {count.what}: {note}" for count in chaos.counts for note in count.notes]
    lines = [
        "# Reliability",
        "",
        f"What was done to runs of a small shop (90 users, 30 goods), on {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}. Made by "
        f"`{' '.join(['python -m benchmarks.chaos', *sys.argv[1:]])}`.",
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
    if not chaos.complete:
        lines += ["The command was stopped before its end; this is what it had done by then.", ""]
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


if __name__ == "__main__":
    main()
