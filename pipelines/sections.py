"""A spec's sections but ``sources`` and ``environment``, with the defaults that suit most."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from pipelines.records import (
    Count,
    Duration,
    Every,
    Many,
    Name,
    Option,
    Record,
    RefusedError,
    Share,
    Time,
    one_of,
)

BASELINE = "popularity"
GROUPS = ("data", "features", "training", "publication", "maintenance")
"""Task groups of a pipeline's stages."""

_KnownModel = Literal["popularity", "item_knn", "spectral", "transformer", "gnn", "social_gnn"]
MODELS: tuple[str, ...] = get_args(_KnownModel)
DEFAULT_MODELS = ("popularity", "item_knn", "transformer", "gnn")
"""Of a pipeline that names none."""
CONTRACT_TABLES = (
    "events",
    "items",
    "users",
    "follows",
    "user_features",
    "item_features",
    "user_behaviour",
    "item_engagement",
    "item_modalities",
    "sequences",
    "graph_edges",
    "examples",
    "candidates",
    "similar_items",
)
"""Tables that keep contracts: those that are read, those that models learn from, and those that
are published."""


class Schedule(Record):
    """When it runs."""

    every: Every = Field(
        "6h", description="Length of an interval: hours that divide a day, days, or 1mo."
    )
    start: Time | None = Field(
        None, description="Start of the first interval a scheduler runs; a boundary of `every`."
    )
    end: Time | None = Field(
        None, description="End of the last interval a scheduler runs, for data that end."
    )
    deadline: Duration | None = Field(
        None, description="A scheduled run that takes longer is told to `alerts`."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="How often a scheduler tries a failed stage again."
    )
    retry_after: Duration = Field(
        "30m", validate_default=True, description="How long it waits before each of them."
    )


def _with_default_contracts(
    names: dict[str, tuple[str, ...]],
) -> dict[str, tuple[str, ...]]:
    return {table: names.get(table, (table,)) for table in CONTRACT_TABLES}


Contracts = Annotated[
    dict[Annotated[str, AfterValidator(one_of(CONTRACT_TABLES, "table"))], Many[Name]],
    AfterValidator(_with_default_contracts),
]


def _check_strength(value: object) -> object:
    if isinstance(value, bool) or (
        value not in ("watch", "value") and not isinstance(value, int | float)
    ):
        raise RefusedError(
            "must be a number from 0 to 1, `watch` or `value`",
            "`watch` is the watched share of the item, `value` the rating divided by rating_max.",
        )
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise RefusedError(f"must be from 0 to 1, not `{value}`")
    return value


Strength = Annotated[float | Literal["watch", "value"], BeforeValidator(_check_strength)]


class Strengths(Record):
    """How strongly each type of event speaks for the item.

    A number from 0 to 1; ``watch`` for the watched share; ``value`` for value / rating_max.
    """

    impression: Strength = Field(0.0, description="Was shown.")
    skip: Strength = Field(0.0, description="Was passed over.")
    dislike: Strength = Field(0.0, description="Was disliked.")
    view: Strength = Field("watch", description="Was watched.")
    click: Strength = Field(0.6, description="Was opened.")
    comment: Strength = Field(0.8, description="Was commented on.")
    rating: Strength = Field("value", description="Was rated.")
    like: Strength = Field(1.0, description="Was liked.")
    share: Strength = Field(1.0, description="Was shared.")
    follow: Strength = Field(1.0, description="Made them follow its author.")


class Label(Record):
    """What the models learn to predict."""

    kind: Literal["binary", "continuous"] = Field(
        "binary", description="Whether strength is at least `threshold`, or strength itself."
    )
    threshold: Share = Field(0.5, description="Least strength of a positive.")
    rating_max: float = Field(5.0, gt=0, description="The best rating.")
    strengths: Strengths = Field(Strengths(), description="Strength of each type of event.")


ITEM_WORDS = (
    *("title", "text", "categories", "tags", "item_type", "media_type"),
    *("image_url", "video_url"),
)
"""Columns of `items` that an encoder can read."""


class Vector(Record):
    """One kind of vector of an item."""

    width: Count | None = Field(
        None, description="Numbers in each; 2048 of video, 1024 of audio, 768 of text if not given."
    )
    encoder: str | None = Field(
        None,
        min_length=1,
        description="Name and version of what made them, kept beside them: clip-vit-base@1. With "
        "`of`, what makes them: all-MiniLM-L6-v2, which is here; another of sentence-transformers, "
        "by name or folder; or module:function, which returns an object with `encode`.",
    )
    of: Many[Annotated[str, AfterValidator(one_of(ITEM_WORDS, "column of text"))]] = Field(
        (), description="Columns of `items` that `encoder` reads, a line each; none: given vectors."
    )

    @model_validator(mode="after")
    def _an_encoder_reads(self) -> Self:
        if self.of and not self.encoder:
            raise RefusedError(
                "`of` names columns, but no `encoder` is named that reads them",
                "Write encoder: all-MiniLM-L6-v2, or leave out `of`.",
            )
        return self


class Vectors(Record):
    """The vectors that items may have."""

    video: Vector = Field(Vector(), description="In `video_embedding`.")
    audio: Vector = Field(Vector(), description="In `audio_embedding`.")
    text: Vector = Field(Vector(), description="In `text_embedding`.")


class Features(Record):
    """What is computed from the tables."""

    history: Duration = Field(
        "90d", validate_default=True, description="How far back features look."
    )
    training_window: Duration = Field(
        "90d", validate_default=True, description="How far back examples for training reach."
    )
    session_gap: Duration = Field(
        "30m", validate_default=True, description="A longer pause begins a new session."
    )
    sequence_length: Count = Field(200, description="Events kept of each user's history.")
    similar_items: Count = Field(20, description="Neighbours of each item in the graph.")
    interests: Count = Field(10, description="Top interests kept of each user.")
    label: Label = Field(Label(), description="What the models learn to predict.")
    categories: dict[str, str] = Field({}, description="Tag to category; else the first category.")
    vectors: Vectors = Field(Vectors(), description="Widths and makers of the vectors of items.")


def _any_option(schema: dict[str, Any]) -> None:
    """Describe a choice as a file writes it: options stand beside the size."""
    schema["additionalProperties"] = schema["properties"].pop("options")["additionalProperties"]


class ModelChoice(Record):
    """A model with its size and the options that differ from that size."""

    model_config = ConfigDict(json_schema_extra=_any_option)

    size: Name = Field("small", description="A size of configs/models/<name>.yaml.")
    options: dict[str, Option] = Field(
        {}, description="Every key but `size` is an option of the model that differs from its size."
    )

    @model_validator(mode="before")
    @classmethod
    def _other_keys_are_options(cls, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value
        size = {"size": value["size"]} if "size" in value else {}
        options = {key: option for key, option in value.items() if key != "size"}
        return {**size, "options": options}


# A list is made a mapping before layers merge; an editor must know it none the less.
Models = Annotated[
    dict[str, ModelChoice],
    BeforeValidator(
        lambda value: value,
        json_schema_input_type=dict[_KnownModel, ModelChoice]
        | list[_KnownModel | dict[_KnownModel, ModelChoice]],
    ),
]


class Retrain(Record):
    """When a model is trained anew: when any of these rules asks for it.

    A model that was never trained is trained whatever they say.
    """

    max_age: Duration = Field(
        "7d", validate_default=True, description="Its last training is older than this."
    )
    new_events: Count = Field(
        1, description="At least so many events have come since its last training."
    )
    quality_drop: bool = Field(
        True, description="The interval before found that quality fell by `drift.quality_drop`."
    )
    data_drift: bool = Field(True, description="The interval before found that the data drifted.")
    models: Many[str] = Field((), description="Models that may be trained; all when empty.")
    force: bool = Field(
        False, description="A person asks for it: `--set retrain.force=true` for one run."
    )


class Drift(Record):
    """When new data counts as different from the data of the days before.

    The limit of a column is what quiet intervals of the same time of day show; these only bound it.
    """

    psi: float = Field(
        0.05, gt=0, description="Least population stability index of a column that moves."
    )
    share: float = Field(
        0.0, ge=0, lt=1, description="Share of drifted columns above which the data drift."
    )
    reference: Duration = Field(
        "7d", validate_default=True, description="How far back the days of comparison reach."
    )
    false_alarm: float = Field(
        0.05,
        ge=1e-6,
        le=0.5,
        description="Chance that any column of a quiet interval moves; two of four make drift.",
    )
    null_rate: Share = Field(0.05, description="Change of a null rate above which a column moves.")
    skewness: float = Field(3.0, ge=0, description="Skewness above which scores are suspect.")
    outlier_percentage: float = Field(
        5.0, ge=0, le=100, description="Percentage of far-out scores above which they are suspect."
    )
    quality_drop: float = Field(
        0.05, gt=0, description="Fall of a served model's metric below its seven-day mean."
    )
    score_ms: float | None = Field(
        None, gt=0, description="Milliseconds that a served model may take to score a user."
    )
    rows_per_second: float | None = Field(
        None, gt=0, description="Rows a second that `candidates` makes at least."
    )
    sample: int = Field(5_000, ge=50, description="Rows of an interval that are compared, at most.")
    min_rows: int = Field(50, ge=2, description="Rows that an interval needs to be compared.")
    min_people: Count = Field(20, description="People that a label needs to be named in a report.")
    on_drift: Literal["warn", "block"] = Field(
        "warn", description="Whether drift keeps the new candidates from being published."
    )
    columns: Many[str] = Field((), description="Columns to watch; all features when empty.")
    ignore: Many[str] = Field(
        ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"),
        description="Columns not to watch; those of the calendar differ between any two intervals. "
        "`taste` stands for how well people's items fit their past.",
    )

    @model_validator(mode="after")
    def _a_sample_is_enough(self) -> Self:
        if self.sample < self.min_rows:
            raise RefusedError(
                f"`sample` is {self.sample}, fewer than the {self.min_rows} rows of `min_rows`",
                f"Write sample: {self.min_rows} or more.",
            )
        return self


class Maintenance(Record):
    """What keeps the tables small."""

    intervals: Count = Field(
        120, description="Intervals of which features and staged lists are kept, the newest ones."
    )
    files: Count = Field(16, description="Small files of a table above which they are merged.")
    versions: Duration = Field(
        "7d",
        validate_default=True,
        description="How long a table's earlier versions can still be read.",
    )
    model_versions: Count = Field(
        28,
        description="Versions of each model that are kept, the newest ones; those that an alias or "
        "a served list names are kept as well.",
    )


class Candidates(Record):
    """The lists that are published."""

    k: Count = Field(50, description="Items of each user.")
    blend: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Model to weight; equal weights of all but the baseline when not given."
    )
    active_within: Duration = Field(
        "30d", validate_default=True, description="Users without an event for longer get no list."
    )
    similar_items: Count = Field(20, description="Similar items of each item.")
    batch: Count = Field(1024, description="Users scored at a time.")
