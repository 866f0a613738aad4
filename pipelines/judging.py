"""The sections `evaluation` and `gate` of a spec: how models are judged, and what decides."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipelines.errors import closest
from pipelines.records import Count, Duration, Level, Many, Name, Record, RefusedError, Share

METRICS = ("ndcg", "recall", "precision", "hit_rate")
"""Metrics of the top of one user's list, written with its length, such as `ndcg@10`."""

LIST_MEASURES = ("coverage", "gini", "mean_popularity", "novelty", "category_diversity")
"""What else is measured of lists, written the same way."""

USER_GROUPS = ("new", "light", "heavy")
"""Groups of users that every pipeline has, by how much they liked before the test."""

COSTS = ("size_mb", "score_ms")
"""What a model costs to serve: megabytes on disk, milliseconds to score a user."""


def _texts(value: object) -> object:
    """One text or several; a number is what a source writes without quotes."""
    entries = value if isinstance(value, list | tuple) else [value]
    return [str(one) if type(one) in (int, float) else one for one in entries]


def _check_group(value: str) -> str:
    if value in ("all", *USER_GROUPS):
        raise RefusedError(f"`{value}` names users already", "Choose another name.")
    return value


Texts = Annotated[
    Many[str],
    BeforeValidator(_texts, json_schema_input_type=str | int | float | list[str | int | float]),
    Field(min_length=1),
]
GroupName = Annotated[Name, AfterValidator(_check_group)]
Demographics = Annotated[dict[str, Texts], Field(min_length=1)]
"""Key of `users.demographics` to the values that count; all keys must fit."""


class Evaluation(Record):
    """How models are judged: on the last stretch of time, which none of them has seen."""

    valid: Duration = Field(
        "1d", validate_default=True, description="Stretch before `test`, to stop early."
    )
    test: Duration = Field(
        "1d", validate_default=True, description="Last stretch before the interval's end."
    )
    k: Many[Count] = Field((5, 10, 20, 50), min_length=1, description="Lengths of judged lists.")
    bootstrap: Count = Field(1000, description="Resamples of the users for an interval.")
    confidence: Level = Field(0.95, description="Confidence of the intervals.")
    light_below: Count = Field(20, description="Users with fewer positives are `light`.")
    new_below: Count = Field(5, description="Users with fewer positives are `new`.")
    groups: dict[GroupName, Demographics] = Field(
        {},
        description="Further groups of users by what their `demographics` say, each judged apart: "
        "{women: {gender: f}, young_men: {gender: m, age_band: [13-17, 18-24]}}.",
    )


def _off(value: object) -> object:
    # YAML 1.1 reads a bare `off` as false.
    return "off" if value is False else value


def _check_metric(value: str) -> str:
    return _known_metric(value, METRICS, ("mrr",))


def _check_measure(value: str) -> str:
    return _known_metric(value, (*METRICS, *LIST_MEASURES), ("mrr", *COSTS))


def _known_metric(value: str, of_lists: tuple[str, ...], plain: tuple[str, ...]) -> str:
    name, _, cut = value.partition("@")
    if value not in plain and (name not in of_lists or re.fullmatch(r"[1-9]\d*", cut) is None):
        hint = closest(name, [*of_lists, *plain])
        alone = ", ".join(f"`{one}`" for one in plain)
        listed = f"Write {alone}, or {', '.join(of_lists)} with a list's length, such as ndcg@10."
        raise RefusedError(f"unknown metric `{value}`", f"{hint} {listed}".strip())
    return value


class Gate(Record):
    """What a model must show to become champion."""

    mode: Annotated[Literal["auto", "manual", "off"], BeforeValidator(_off)] = Field(
        "auto",
        description="`auto`: a better model becomes champion; `manual`: a learnt one waits for a "
        "person who sets the alias; `off`: whatever was trained becomes champion.",
    )
    metric: Annotated[str, AfterValidator(_check_metric)] = Field(
        "ndcg@10", description="The metric that decides."
    )
    min_lift: float = Field(0.0, ge=0, description="Least relative improvement, 0.01 for 1 %.")
    floors: dict[Annotated[str, AfterValidator(_check_measure)], float] = Field(
        {}, description="Metric, `size_mb` or `score_ms` to the least value of a champion."
    )
    ceilings: dict[Annotated[str, AfterValidator(_check_measure)], float] = Field(
        {},
        description="Metric, `size_mb` (megabytes on disk) or `score_ms` (milliseconds a user) to "
        "the greatest value of a champion.",
    )
    groups: dict[str, Share] = Field(
        {},
        description="Group of users (new, light, heavy, or one of `evaluation.groups`) to the "
        "greatest relative loss it may have, 0.1 for 10 %.",
    )
    on_drift: Literal["ignore", "reject"] = Field(
        "ignore",
        description="Whether a model is rejected while the data of the interval before drifted.",
    )
    confidence: Level = Field(0.95, description="Confidence that it is better at all.")
    bootstrap: Count = Field(2000, description="Resamples of the users.")
