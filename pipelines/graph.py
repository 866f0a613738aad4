"""A pipeline's spec as an ordered list of typed steps: the one description of its stages.

The planner, the runner, DVC and Airflow all read this list; none of them describes a stage again.
A step says which steps it needs, which tables it reads and writes, and which options its result
depends on. It knows no scheduler and holds no code: its ``kind`` names the function in
``pipelines.stages`` that does the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.errors import UsageError, closest
from pipelines.spec import Pipeline

EVERYBODY = "*"
"""The `user_id` of the list for users who have no candidates of their own."""


@dataclass(frozen=True)
class Step:
    """One stage of one pipeline.

    Args:
        name: Task id in Airflow, DVC and every message, such as ``train_transformer``.
        kind: The function that does it, ``pipelines.stages.<kind>``.
        group: Task group, one of `pipelines.sections.GROUPS`.
        summary: What it does, in a few words.
        needs: Names of the steps that must have succeeded for the same interval.
        condition: Name of the step whose verdict says whether this one is due; empty when it
            always is.
        optional: Names of steps whose results it uses where they succeeded. It runs once they
            have ended, whichever way.
        chosen_by: Name of the step that says which of the optional ones are due, and without
            which it cannot tell those that failed from those that nobody asked for.
        reads: Tables it reads.
        writes: Tables it alone writes; a step replaces one interval of them.
        options: All options its result depends on, as plain JSON values.
        code: Python packages its result depends on.
    """

    name: str
    kind: str
    group: str
    summary: str
    needs: tuple[str, ...] = ()
    condition: str = ""
    optional: tuple[str, ...] = ()
    chosen_by: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[str, ...] = ("transforms",)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the steps that must have succeeded before it begins."""
        return (*self.needs, *(name for name in (self.condition, self.chosen_by) if name))

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the steps that it follows, those apart that the optional ones follow anyway."""
        return (*self.needs, *((self.condition,) if self.condition else ()), *self.optional)

    @property
    def interval_tables(self) -> tuple[str, ...]:
        """Tables of which every interval writes rows of its own, from the base tables.

        The oldest intervals are dropped in time; a run for one of them makes its rows again.
        """
        derives = self.group in ("features", "publication")
        lasting = (*SERVED_TABLES, "item_vectors")
        return tuple(table for table in self.writes if derives and table not in lasting)


SERVED_TABLES = ("candidates", "similar_items")
"""Tables that hold the newest lists alone."""

STATE_ROWS: Mapping[str, Mapping[str, str]] = {"graph_edges": {"relation": "similar"}}
"""Which rows of a table are a state of each interval.

The table's other rows are what an interval added; they belong to those that follow, too. Of tables
that do not stand here all rows are a state.
"""

SOURCE_TABLES = ("events", "items", "users", "follows")


def build_steps(
    pipeline: Pipeline, models: Mapping[str, Mapping[str, Any]], contracts: Mapping[str, Any]
) -> tuple[Step, ...]:
    """The steps of a pipeline in an order in which they can run.

    Args:
        pipeline: The checked spec.
        models: Resolved options of each model, in the order of the spec.
        contracts: Each table's rules as plain JSON values, by table.
    """
    features = pipeline.features.model_dump(mode="json")
    label = features["label"]
    evaluation = pipeline.evaluation.model_dump(mode="json")
    cuts = {"valid": evaluation["valid"], "test": evaluation["test"]}
    encoded = {medium: kind for medium, kind in features["vectors"].items() if kind["of"]}
    media = ("items", *(("item_vectors",) if encoded else ()), "item_modalities")
    grouped = ("users",) if pipeline.evaluation.groups else ()
    tables = SOURCE_TABLES
    landed = (
        *("landed_events", "landed_rejects"),
        *(f"staged_{table}" for table in tables if table != "events"),
    )
    steps = [
        Step(
            name="ingest",
            kind="ingest",
            group="data",
            summary="read the sources, map their columns to typed rows",
            writes=(*landed, "landed_files"),
            options={"sources": pipeline.sources.model_dump(mode="json"), "seed": pipeline.seed},
        ),
        Step(
            name="validate",
            kind="validate",
            group="data",
            summary="hold the rows against their contracts, keep the good ones",
            needs=("ingest",),
            reads=landed,
            writes=(*tables, "quarantine"),
            options={"contracts": {table: contracts[table] for table in tables}},
        ),
        Step(
            name="behaviour",
            kind="behaviour",
            group="features",
            summary="what users did and what was done with items, counted",
            needs=("validate",),
            reads=("events", "items", "users"),
            writes=("user_behaviour", "item_engagement"),
            options={key: features[key] for key in ("history", "session_gap")},
        ),
        Step(
            name="user_features",
            kind="user_features",
            group="features",
            summary="what is known of each user",
            needs=("behaviour",),
            reads=("user_behaviour", "users", "follows"),
            writes=("user_features",),
            options={key: features[key] for key in ("history", "interests")},
        ),
        Step(
            name="item_features",
            kind="item_features",
            group="features",
            summary="what is known of each item",
            needs=("behaviour",),
            reads=("item_engagement", "items", "users", "follows"),
            writes=("item_features",),
            options={"categories": features["categories"]},
        ),
        *([_embed(encoded)] if encoded else []),
        Step(
            name="modalities",
            kind="modalities",
            group="features",
            summary="which media of each item can be used",
            needs=("embed",) if encoded else ("validate",),
            reads=("items", "item_vectors") if encoded else ("items",),
            writes=("item_modalities",),
            options={"vectors": features["vectors"]},
        ),
        Step(
            name="sequences",
            kind="sequences",
            group="features",
            summary="each user's history in time order",
            needs=("validate",),
            reads=("events", "items"),
            writes=("sequences",),
            options={"sequence_length": features["sequence_length"], "label": label},
        ),
        Step(
            name="graph_edges",
            kind="graph_edges",
            group="features",
            summary="who follows whom, who did what, what goes together",
            needs=("sequences",),
            reads=("events", "items", "follows", "sequences"),
            writes=("graph_edges",),
            options={
                "similar_items": features["similar_items"],
                "label": label,
                "every": pipeline.schedule.every,
            },
        ),
        Step(
            name="examples",
            kind="examples",
            group="features",
            summary="labelled rows with features as of their event",
            needs=("item_features",),
            reads=("events", "items", "users", "follows", "item_engagement", "item_features"),
            writes=("examples",),
            options={
                "features": {key: value for key, value in features.items() if key != "vectors"},
                "every": pipeline.schedule.every,
            },
        ),
        Step(
            name="decide",
            kind="decide",
            group="training",
            summary="find out which models are due for training",
            needs=("examples", "graph_edges"),
            reads=("events",),
            options={
                "retrain": pipeline.retrain.model_dump(mode="json"),
                "models": list(models),
            },
            code=(),
        ),
        *(
            Step(
                name=f"train_{model}",
                kind="train",
                group="training",
                summary=f"fit {model}, register it as challenger",
                needs=("examples", "graph_edges", "modalities"),
                condition="decide",
                reads=("examples", *media, "graph_edges"),
                options={
                    "model": model,
                    "config": dict(config),
                    "cuts": cuts,
                    "seed": pipeline.seed,
                },
                code=("training",),
            )
            for model, config in models.items()
        ),
        Step(
            name="evaluate",
            kind="evaluate",
            group="training",
            summary="judge challengers and champions on one frozen test set",
            needs=("examples", "graph_edges", "modalities"),
            optional=tuple(f"train_{model}" for model in models),
            chosen_by="decide",
            reads=("examples", *media, "graph_edges", *grouped),
            writes=("evaluations",),
            options={"evaluation": evaluation, "models": list(models), "seed": pipeline.seed},
            code=("training",),
        ),
        Step(
            name="gate",
            kind="gate",
            group="training",
            summary="let only a better model become champion",
            needs=("evaluate",),
            reads=("evaluations",),
            options={
                "gate": pipeline.gate.model_dump(mode="json"),
                "models": list(models),
                "seed": pipeline.seed,
            },
            code=("training",),
        ),
        Step(
            name="candidates",
            kind="candidates",
            group="publication",
            summary="the champions' top items for every active user",
            needs=("gate", "sequences", "modalities"),
            reads=("events", "follows", "sequences", *media, "examples"),
            writes=("staged_candidates", "staged_similar_items"),
            options={
                "candidates": pipeline.candidates.model_dump(mode="json"),
                "threshold": label["threshold"],
            },
            code=("training",),
        ),
        Step(
            name="drift",
            kind="drift",
            group="publication",
            summary="compare the interval with the days before it",
            needs=("candidates", "evaluate", "modalities"),
            reads=("examples", *media, "staged_candidates"),
            options={
                "drift": pipeline.drift.model_dump(mode="json"),
                "cuts": cuts,
                "seed": pipeline.seed,
            },
            code=("training",),
        ),
        Step(
            name="publish",
            kind="publish",
            group="publication",
            summary="hold the lists against their contract, serve them",
            needs=("candidates", "drift"),
            reads=("staged_candidates", "staged_similar_items"),
            writes=("candidates", "similar_items"),
            options={
                "contracts": {table: contracts[table] for table in ("candidates", "similar_items")}
            },
        ),
        Step(
            name="shadow",
            kind="shadow",
            group="publication",
            summary="the lists with each challenger in place, beside the champions'",
            needs=("candidates", "evaluate"),
            reads=(
                *("events", "follows", "sequences", *media, "examples", "staged_candidates"),
                *grouped,
            ),
            writes=("shadow_candidates",),
            options={
                "candidates": pipeline.candidates.model_dump(mode="json"),
                "evaluation": evaluation,
                "seed": pipeline.seed,
            },
            code=("training",),
        ),
        Step(
            name="maintain",
            kind="maintain",
            group="maintenance",
            summary="merge small files, drop what is no longer kept",
            needs=("publish",),
            optional=("shadow",),
            options={"maintenance": pipeline.maintenance.model_dump(mode="json")},
            code=(),
        ),
    ]
    return tuple(_with_contracts(step, contracts) for step in steps)


def _embed(encoded: Mapping[str, Any]) -> Step:
    return Step(
        name="embed",
        kind="embed",
        group="features",
        summary="vectors of what items say of themselves",
        needs=("validate",),
        reads=("items",),
        writes=("item_vectors",),
        options={"vectors": encoded},
    )


def _with_contracts(step: Step, contracts: Mapping[str, Any]) -> Step:
    """Adds to a step that makes features the contracts that it holds them to."""
    held = {table: contracts[table] for table in step.writes if table in contracts}
    if step.group != "features" or not held:
        return step
    return replace(step, options={**step.options, "contracts": held})


def select(steps: Iterable[Step], selection: str | None) -> tuple[Step, ...]:
    """Keep the steps that a selection names.

    A term is a step's or a group's name; ``+name`` adds all that it needs, ``name+`` all that needs
    it. Several terms are joined by commas.

    Raises:
        UsageError: For a name that is neither a step nor a group.
    """
    steps = tuple(steps)
    if selection is None:
        return steps
    keep: set[str] = set()
    for term in selection.split(","):
        name = term.strip().strip("+")
        chosen = {step.name for step in steps if name in (step.name, step.group)}
        if not chosen:
            known = [step.name for step in steps] + sorted({step.group for step in steps})
            raise UsageError(
                f"--select {selection}: there is no stage or group `{name}`."
                f"{closest(name, known)}\n"
                f"  Stages: {', '.join(step.name for step in steps)}\n"
                f"  Groups: {', '.join(dict.fromkeys(step.group for step in steps))}"
            )
        keep |= chosen
        if term.strip().startswith("+"):
            keep |= _reach(chosen, {step.name: step.after for step in steps})
        if term.strip().endswith("+"):
            keep |= _reach(chosen, _dependents(steps))
    return tuple(step for step in steps if step.name in keep)


def _dependents(steps: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for step in steps:
        for need in step.after:
            found[need] = (*found.get(need, ()), step.name)
    return found


def _reach(names: set[str], edges: Mapping[str, tuple[str, ...]]) -> set[str]:
    reached: set[str] = set()
    todo = list(names)
    while todo:
        for other in edges.get(todo.pop(), ()):
            if other not in reached:
                reached.add(other)
                todo.append(other)
    return reached
