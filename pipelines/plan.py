"""What would run, and why: plain data that ``sextant plan`` tells and the runner acts on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pipelines.built import holds
from pipelines.digests import digest
from pipelines.graph import STATE_ROWS, Step
from pipelines.intervals import Interval
from pipelines.lake import Lake
from pipelines.state import RunHistory, fingerprint


@dataclass(frozen=True)
class Decision:
    """Whether one step runs for an interval.

    Args:
        step: The step.
        runs: False when it is up to date or not due.
        reason: Why, in words.
        fingerprint: Hash of all its result depends on; empty when that is not known yet, because
            a step before it must run first.
        is_due: False when the step that decides on it found nothing that asks for it.
        inputs: Digests of what it reads, which the fingerprint was made from.
    """

    step: Step
    runs: bool
    reason: str
    fingerprint: str
    is_due: bool = True
    inputs: Mapping[str, str] = field(default_factory=dict)


class Planner:
    """Decides step by step, from the run history and what the outside world holds now.

    Args:
        lake: The pipeline's tables.
        history: What has run.
        interval: The interval in question.
        source_digest: What the sources' files look like now.
        champions: Name → version of the models that serve now; asked late, since it needs the
            registry.
        registered: Whether the registry has a version of a model; asked as late.
    """

    def __init__(
        self,
        lake: Lake,
        history: RunHistory,
        interval: Interval,
        *,
        source_digest: Callable[[], str],
        champions: Callable[[], Mapping[str, str]],
        registered: Callable[[str, str], bool],
    ) -> None:
        self._lake = lake
        self._history = history
        self._interval = interval
        self._source_digest = source_digest
        self._champions = champions
        self._registered = registered

    def plan(self, steps: Sequence[Step]) -> list[Decision]:
        """One decision a step. A step behind one that will run is taken to run too."""
        decisions: list[Decision] = []
        running: set[str] = set()
        for step in steps:
            first = next((one for one in step.after if one in running), None)
            if first is None:
                decision = self.decide(step)
            else:
                decision = Decision(step, True, f"`{first}` runs before it", "")
            if decision.runs:
                running.add(step.name)
            decisions.append(decision)
        return decisions

    def decide(self, step: Step) -> Decision:
        """Whether a step must run, given that all that comes before it has ended."""
        missing = [
            need
            for need in step.after
            if need not in step.optional
            and self._history.last_success(need, self._interval) is None
        ]
        if missing:
            return Decision(step, True, f"`{missing[0]}` has not run for this interval", "")
        if step.condition:
            verdict = self._history.last_success(step.condition, self._interval)
            assert verdict is not None, "it is not missing"
            if step.name not in verdict.detail["due"]:
                reason = f"not due: {verdict.detail['not_due'][step.name]}"
                return Decision(step, False, reason, "", is_due=False)
        inputs = self.inputs(step)
        now = fingerprint(step, self._interval, inputs)
        return replace(self._compare(step, now), inputs=inputs)

    def _compare(self, step: Step, now: str) -> Decision:
        """Whether a step's last success still stands, by its fingerprint and what it wrote."""
        done = self._history.last_success(step.name, self._interval)
        last = self._history.last(step.name, self._interval)
        if last is None:
            return Decision(step, True, "it has not run yet", now)
        if done is not None and done.fingerprint != now:
            return Decision(step, True, "its options, code or inputs changed", now)
        if last is not done:
            ended = "was cut off" if last.status == "started" else "failed"
            return Decision(step, True, f"its last attempt {ended}", now)
        gone = [table for table in step.writes if self._lake.version(table) is None]
        if gone:
            return Decision(step, True, f"table `{gone[0]}` is gone", now)
        if step.kind == "train" and not self._registered(
            str(step.options["model"]), done.detail["version"]
        ):
            reason = f"its version {done.detail['version']} is gone from the registry"
            return Decision(step, True, reason, now)
        window = done.detail.get("window")
        if window is None and done.detail.get("states", done.rows_out) and self._is_empty(step):
            return Decision(step, True, "its rows are older than what is kept", now)
        if window is not None and not holds(
            self._lake,
            step.writes[0],
            done.detail["recipe"],
            (datetime.fromisoformat(window[0]), datetime.fromisoformat(window[1])),
        ):
            return Decision(step, True, "another run replaced or removed some of its rows", now)
        return Decision(step, False, "up to date", now)

    def _is_empty(self, step: Step) -> bool:
        """Whether none of its tables has a state of the interval left."""
        tables = step.interval_tables
        return bool(tables) and not any(
            self._lake.count(table, interval_end=self._interval.end, where=STATE_ROWS.get(table))
            for table in tables
        )

    def inputs(self, step: Step) -> dict[str, str]:
        """Digests of what a step reads, by the name of what makes it."""
        found: dict[str, str] = {}
        for need in step.needs:
            run = self._history.last_success(need, self._interval)
            assert run is not None, f"{step.name} asked before {need} ran"
            found[need] = (
                self._history.tables_digest(self._interval)
                if need == "validate"
                else run.fingerprint
            )
        for name in step.optional:
            run = self._history.last(name, self._interval)
            found[name] = run.fingerprint if run and run.status == "succeeded" else ""
        if step.kind == "ingest":
            found["sources"] = self._source_digest()
        if step.kind in ("candidates", "shadow"):
            found["champions"] = digest(dict(self._champions()))
        return found
