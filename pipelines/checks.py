"""What must hold between the sections of a spec; what holds within one stands in its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipelines.errors import UsageError, closest
from pipelines.intervals import interval_ending
from pipelines.judging import USER_GROUPS
from pipelines.records import duration_text
from pipelines.sections import BASELINE, GROUPS, MODELS
from pipelines.validation import Finding

if TYPE_CHECKING:
    from pipelines.spec import Pipeline


_STRENGTHS = {"watch": "watched share", "value": "value"}

Check = Callable[["Pipeline"], Iterator[Finding]]

CHECKS: list[tuple[frozenset[str], Check]] = []
"""Each check with the sections that must be valid for it to mean anything."""


def needs(*sections: str) -> Callable[[Check], Check]:
    """Register a check that looks at these sections."""

    def register(check: Check) -> Check:
        CHECKS.append((frozenset(sections), check))
        return check

    return register


@needs("schedule")
def start_and_end_are_boundaries(spec: Pipeline) -> Iterator[Finding]:
    """The first interval begins, and the last one ends, where an interval can."""
    for key in ("start", "end"):
        moment = getattr(spec.schedule, key)
        if moment is None:
            continue
        try:
            interval_ending(moment, spec.schedule.every, key)
        except UsageError as error:
            message, _, cure = str(error).partition(". ")
            yield Finding(("schedule", key), message.removeprefix(f"{key} "), cure)


@needs("features", "evaluation")
def judged_stretch_fits_the_window(spec: Pipeline) -> Iterator[Finding]:
    """Something is left to train on before validation and test begin."""
    judged = spec.evaluation.valid + spec.evaluation.test
    window = spec.features.training_window
    if judged >= window:
        yield Finding(
            ("evaluation",),
            f"valid and test together take {duration_text(judged)}, which leaves nothing of "
            f"features.training_window, {duration_text(window)}, to train on",
            "Shorten them, or lengthen the window.",
        )


@needs("retrain", "models")
def chosen_models_are_trained(spec: Pipeline) -> Iterator[Finding]:
    """The models that may be trained are among the pipeline's."""
    for number, name in enumerate(spec.retrain.models):
        if name not in spec.models:
            yield Finding(
                ("retrain", "models", number),
                f"`{name}` is no model of this pipeline",
                f"Models: {', '.join(spec.models)}.",
            )


@needs("features")
def sessions_fit_the_history(spec: Pipeline) -> Iterator[Finding]:
    """A session is shorter than the history it is counted in."""
    if spec.features.session_gap >= spec.features.history:
        yield Finding(
            ("features", "session_gap"),
            f"is {duration_text(spec.features.session_gap)}, not shorter than features.history, "
            f"{duration_text(spec.features.history)}",
            "A pause of minutes ends a session: 30m suits most.",
        )


@needs("gate", "evaluation")
def gate_metrics_are_measured(spec: Pipeline) -> Iterator[Finding]:
    """The gate decides by metrics that the evaluation computes."""
    gate = spec.gate
    named = [("metric", gate.metric)]
    named += [(side, one) for side in ("floors", "ceilings") for one in getattr(gate, side)]
    for option, metric in named:
        name, at, cut = metric.partition("@")
        if at and int(cut) not in spec.evaluation.k:
            cuts = ", ".join(str(k) for k in spec.evaluation.k)
            yield Finding(
                ("gate", option),
                f"`{metric}` is not measured: evaluation.k is [{cuts}]",
                f"Add {cut} to evaluation.k, or write {name}@{spec.evaluation.k[0]}.",
            )


@needs("evaluation")
def new_users_are_light(spec: Pipeline) -> Iterator[Finding]:
    """The groups new, light and heavy follow one another."""
    if spec.evaluation.new_below > spec.evaluation.light_below:
        yield Finding(
            ("evaluation", "new_below"),
            f"is {spec.evaluation.new_below}, above light_below, {spec.evaluation.light_below}",
            "New users have fewer positives than light ones.",
        )


@needs("gate", "evaluation")
def gate_groups_exist(spec: Pipeline) -> Iterator[Finding]:
    """The gate holds groups of users to their losses that are judged apart."""
    known = (*USER_GROUPS, *spec.evaluation.groups)
    for name in spec.gate.groups:
        if name not in known:
            cure = f"{closest(name, known)} Known: {', '.join(known)}. Others are named in"
            yield Finding(
                ("gate", "groups", name),
                f"there is no group of users `{name}`",
                f"{cure} evaluation.groups, by what users' demographics say.".strip(),
            )


@needs("evaluation", "sources")
def groups_have_demographics(spec: Pipeline) -> Iterator[Finding]:
    """Groups of users can be told apart."""
    users = spec.sources.users
    told = spec.sources.demo is not None or (users is not None and users.columns.demographics)
    if spec.evaluation.groups and not told:
        yield Finding(
            ("evaluation", "groups"),
            "tells users apart by their demographics, which no source gives",
            "Map them: sources.users.columns.demographics: {columns: {gender: COLUMN}}.",
        )


@needs("models")
def models_are_known(spec: Pipeline) -> Iterator[Finding]:
    """Each model exists, and the baseline is among them."""
    for name in spec.models:
        if name not in MODELS:
            cure = f"{closest(name, MODELS)} Known: {', '.join(MODELS)}."
            yield Finding(("models", name), f"unknown model `{name}`", cure.strip())
    if BASELINE not in spec.models:
        yield Finding(
            ("models",),
            f"`{BASELINE}` is missing",
            f"Add `{BASELINE}`: it is the baseline that the gate holds every model against.",
        )


@needs("candidates", "models")
def blend_names_models(spec: Pipeline) -> Iterator[Finding]:
    """Only models that are trained can be blended."""
    for model in spec.candidates.blend or {}:
        if model not in spec.models:
            hint = closest(model, spec.models).strip()
            listed = f"Models of this pipeline: {', '.join(spec.models)}."
            yield Finding(
                ("candidates", "blend", model),
                "is not among the models of this pipeline",
                f"{hint} {listed}".strip(),
            )


@needs("candidates")
def blend_is_not_empty(spec: Pipeline) -> Iterator[Finding]:
    """A blend of nothing has no order."""
    if spec.candidates.blend is not None and not spec.candidates.blend:
        yield Finding(
            ("candidates", "blend"),
            "is empty",
            "Name at least one model, or leave it out for equal weights.",
        )


@needs("sources", "features")
def some_event_can_be_positive(spec: Pipeline) -> Iterator[Finding]:
    """At least one type of event has a strength that the mapped columns can give."""
    strengths = spec.features.label.strengths
    items = spec.sources.items.columns.mapped() if spec.sources.items else {}
    for number, source in enumerate(spec.sources.events):
        types = source.event_type.produced()
        if types is None:
            continue
        mapped = source.columns.mapped()
        missing = {
            "watch": [
                name
                for name, there in (
                    ("events.columns.watch_seconds", "watch_seconds" in mapped),
                    ("items.columns.duration_seconds", "duration_seconds" in items),
                )
                if not there
            ],
            "value": [] if "value" in mapped else ["events.columns.value"],
        }
        lacking: list[str] = []
        for kind in types:
            strength = getattr(strengths, kind)
            if isinstance(strength, str) and missing[strength]:
                lacking.append(
                    f"`{kind}` counts by its {_STRENGTHS[strength]}, which needs "
                    f"{' and '.join(missing[strength])}"
                )
            elif strength == 0:
                lacking.append(f"`{kind}` has strength 0")
            else:
                break
        else:
            yield Finding(
                ("sources", "events", number, "event_type"),
                f"no event can be a positive: {'; '.join(lacking)}",
                f"Map what is missing, or set features.label.strengths.{types[0]} to a number.",
            )


@needs("models", "resources")
def resources_name_what_runs(spec: Pipeline) -> Iterator[Finding]:
    """Each entry is for a task group or for the training of one of the models."""
    known = (*GROUPS, *(f"train_{model}" for model in spec.models))
    for name in spec.resources:
        if name not in known:
            yield Finding(
                ("resources", name),
                f"there is no task group or training `{name}`",
                f"{closest(name, known)} Known: {', '.join(known)}.".strip(),
            )
