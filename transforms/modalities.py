"""Which media of an item can be used: masks beside the vectors, never zeros taken as data."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.definitions import Feature
from transforms.schemas import EMBEDDING_WIDTHS

MODALITIES: tuple[Feature, ...] = (
    *(
        Feature(
            f"{column}_state",
            f"`present`: as many finite numbers as declared ({width} unless `features.vectors` "
            "says otherwise); `missing`: no vector; `broken`: another width, or a number that is "
            "not finite. Only `present` ones may be used.",
            "-",
            (requirement, "FE-37"),
            "static",
        )
        for (column, width), requirement in zip(
            EMBEDDING_WIDTHS.items(), ("FE-30", "FE-31", "FE-32"), strict=True
        )
    ),
    *(
        Feature(
            f"{column}_encoder",
            "Name and version of what made the vector, as `features.vectors` says; null without "
            "a `present` one, or where it is not said.",
            "-",
            ("FE-32",),
            "static",
        )
        for column in EMBEDDING_WIDTHS
    ),
    *(
        Feature(
            f"{column}_digest",
            "Name in `item_vectors` of a vector made by the pipeline; null of one that was given.",
            "-",
            ("FE-32",),
            "static",
        )
        for column in EMBEDDING_WIDTHS
    ),
)


def item_modalities(
    items: DataFrame,
    widths: Mapping[str, int] = EMBEDDING_WIDTHS,
    encoders: Mapping[str, str | None] | None = None,
) -> DataFrame:
    """Tells for each item which of its vectors can be used; `MODALITIES` defines the columns.

    Args:
        items: Table `items`; `<vector>_digest` beside a vector that the pipeline made.
        widths: Numbers in each vector, by its column.
        encoders: What made each vector, by its column.

    Returns:
        One row per item: `item_id`, a state, an encoder and a digest per vector.
    """
    states = {name: _state(F.col(name), width) for name, width in widths.items()}
    made_by = {
        name: F.when(state == "present", F.lit((encoders or {}).get(name)).cast("string"))
        for name, state in states.items()
    }
    return items.select(
        "item_id",
        *[state.alias(f"{name}_state") for name, state in states.items()],
        *[encoder.alias(f"{name}_encoder") for name, encoder in made_by.items()],
        *[
            (F.col(name) if name in items.columns else F.lit(None).cast("string")).alias(name)
            for name in (f"{vector}_digest" for vector in EMBEDDING_WIDTHS)
        ],
    )


def coverage(modalities: DataFrame) -> dict[str, dict[str, float]]:
    """Returns the share of items in each state, by vector (DE-28); empty without items."""
    states = ("present", "missing", "broken")
    counted = modalities.agg(
        F.count("*").alias("items"),
        *[
            F.count_if(F.col(f"{name}_state") == state).alias(f"{name} {state}")
            for name in EMBEDDING_WIDTHS
            for state in states
        ],
    ).collect()[0]
    if not counted["items"]:
        return {}
    return {
        name: {state: counted[f"{name} {state}"] / counted["items"] for state in states}
        for name in EMBEDDING_WIDTHS
    }


def _state(vector: Column, width: int) -> Column:
    infinity = float("inf")
    is_finite = F.forall(
        vector,
        lambda number: F.coalesce(~F.isnan(number) & (F.abs(number) < infinity), F.lit(False)),
    )
    return (
        F.when(vector.isNull(), "missing")
        .when((F.size(vector) == width) & is_finite, "present")
        .otherwise("broken")
    )
