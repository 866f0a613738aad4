"""A tiny shop with two tastes, as CSV files and a spec, for tests of the whole pipeline."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pipelines.project import Project
    from pipelines.runner import Runner

REPOSITORY = Path(__file__).resolve().parents[1]
START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 3, 13, tzinfo=UTC)

SPEC = """\
pipeline: shop
schedule: {{every: 6h}}
sources:
  events:
    path: data/events.csv
    format: csv
    columns: {{user_id: customer, item_id: sku, timestamp: {{from: at, unit: s}}, value: stars}}
    event_type: rating
  items:
    path: data/items.csv
    format: csv
    columns: {{item_id: sku, title: name, categories: {{from: kind, split: "|"}}}}
models: [{models}]
evaluation: {{valid: 2d, test: 2d}}
candidates: {{k: 5, similar_items: 3, blend: {{item_knn: 1.0}}}}
environment:
  spark:
    memory: 1g
    settings: {settings}
"""

ARCHIVE = REPOSITORY / ".cache" / "tests" / "spark.jsa"
"""See `class_archive`."""

INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""Settings of Spark: compiling a query costs more than running it over a few rows."""

SHORT_LIVED = INTERPRETED | {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.timezone=UTC "
    f'-Xlog:cds=off -Xlog:cds+dynamic=off "-XX:SharedArchiveFile={ARCHIVE}"',
}
"""The same for a process of one command, which ends before thorough compiling pays."""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@cache
def shared_spark() -> SparkSession:
    """The one Spark session of a test run, with Delta, on two cores."""
    from pipelines.bootstrap import delta_jars, java_home
    from transforms.session import spark_session

    os.environ["JAVA_HOME"] = str(java_home())
    return spark_session(master="local[2]", memory="1500m", settings=INTERPRETED, jars=delta_jars())


def sextant(root: Path, *arguments: str, **variables: str) -> Done:
    """Run a command of the product in a folder and this process.

    A tenth of the time of a process, most of which is Spark's start.
    """
    from pipelines.cli import main

    shared_spark()
    out, err = io.StringIO(), io.StringIO()
    # Messages name the command as the path finds it.
    around = patch.dict(os.environ, PATH=environment()["PATH"], **variables)
    with around, chdir(root), redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return Done(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Shop:
    """A project folder with its data."""

    root: Path

    def sextant(self, *arguments: str, check: bool = True) -> Done:
        """Run a command of the product in this folder and this process."""
        done = sextant(self.root, *arguments)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def command(
        self,
        *arguments: str,
        check: bool = True,
        before: Callable[[], None] | None = None,
        **variables: str,
    ) -> Done:
        """Run a command of the product in this folder as a user would, in a process of its own.

        Args:
            arguments: Of the command.
            check: Whether it must succeed.
            before: Called in the new process, to take something away from it.
            variables: Environment variables to set.
        """
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=600,
            env={**environment(), **variables},
            preexec_fn=before,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def runner(self, *sets: str) -> Iterator[Runner]:
        """A runner in this process."""
        from pipelines.runner import Runner

        shared_spark()
        with Runner(self.project(*sets), lambda line: None) as runner:
            yield runner

    def run(self, at: str, select: str | None = None, *sets: str) -> tuple[str, ...]:
        """Run one interval in this process; returns the names of the stages that did something."""
        from pipelines.graph import select as chosen

        with self.runner(*sets) as runner:
            steps = chosen(self.project(*sets).steps, select)
            return runner.run(steps, runner.interval(at)).ran

    def project(self, *sets: str) -> Project:
        """The shop's checked spec with all that it refers to."""
        from pipelines.project import Project

        return Project.load("shop", root=self.root, sets=sets)

    def copy(self, root: Path) -> Shop:
        """A copy of the whole folder."""
        shutil.copytree(self.root, root)
        return Shop(root)

    @property
    def lake(self) -> Path:
        """Where the tables lie."""
        return self.root / "lake" / "shop"

    def set_spec(self, old: str, new: str) -> None:
        """Edit the spec."""
        file = self.root / "configs" / "pipelines" / "shop.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def events(self) -> list[list[str]]:
        """The rows of the events file, header first."""
        with (self.root / "data" / "events.csv").open() as file:
            return list(csv.reader(file))

    def write_events(self, rows: list[list[str]], delimiter: str = ",") -> None:
        """Replace the events file."""
        with (self.root / "data" / "events.csv").open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def environment() -> dict[str, str]:
    """The environment of a command: ours, with the repository on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path}


def make_shop(root: Path, *, models: str = "popularity, item_knn", end: datetime = END) -> Shop:
    """Write the data of twelve days up to a moment, the spec and what it refers to.

    Ninety users love one of two kinds of goods and rate eight of its fifteen goods 4 or 5 and two
    of the other kind 1 or 2. The kinds' order of popularity is the same for all, so that a model
    that knows tastes beats popularity.
    """
    for folder in ("configs/environments", "configs/models", "data_contracts"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    (root / "configs" / "pipelines").mkdir(parents=True)
    (root / "configs" / "pipelines" / "shop.yaml").write_text(
        SPEC.format(models=models, settings=json.dumps(SHORT_LIVED))
    )
    (root / "data").mkdir()
    random = np.random.default_rng(7)
    rows = [["customer", "sku", "at", "stars"]]
    seconds = int((END - START) / timedelta(seconds=1))
    for user in range(90):
        taste = user % 2
        liked = random.choice(15, size=8, replace=False)
        disliked = random.choice(15, size=2, replace=False)
        goods = [(f"s{taste}{i:02}", random.integers(4, 6)) for i in liked]
        goods += [(f"s{1 - taste}{i:02}", random.integers(1, 3)) for i in disliked]
        times = np.sort(random.integers(0, seconds, size=len(goods)))
        # The last event of the world pins its last whole interval.
        for (sku, stars), time in zip(random.permutation(goods), times, strict=True):
            at = int(end.timestamp()) - seconds + int(time)
            rows.append([f"u{user:02}", str(sku), str(at), str(stars)])
    rows.append(["u00", "s000", str(int(end.timestamp())), "5"])
    shop = Shop(root)
    shop.write_events(rows)
    with (root / "data" / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sku", "name", "kind"])
        for taste, kind in enumerate(("tea", "coffee")):
            for number in range(15):
                writer.writerow([f"s{taste}{number:02}", f"{kind.title()} no. {number}", kind])
    return shop


def correct(shop: Shop, before: datetime | None = None) -> None:
    """Change the last rating before a moment, or of all, so that every stage has work."""
    rows = shop.events()
    known = [row for row in rows[1:-1] if before is None or int(row[2]) < before.timestamp()]
    newest = max(known, key=lambda row: int(row[2]))
    newest[3] = "1" if newest[3] != "1" else "5"
    shop.write_events(rows)
