"""Which media of an item can be used: masks beside the vectors, never zeros taken as data."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.definitions import Feature
from transforms.schemas import EMBEDDING_WIDTHS

MODALITIES: tuple[Feature, ...] = tuple(
    Feature(
        f"{column}_state",
        f"`present`: {width} finite numbers; `missing`: no vector; `broken`: another width, or a "
        "number that is not finite. Only `present` ones may be used.",
        "-",
        (requirement, "FE-37"),
        "static",
    )
    for (column, width), requirement in zip(
        EMBEDDING_WIDTHS.items(), ("FE-30", "FE-31", "FE-32"), strict=True
    )
)


def item_modalities(items: DataFrame) -> DataFrame:
    """Tells for each item which of its vectors can be used; `MODALITIES` defines the columns.

    Args:
        items: Table `items`.

    Returns:
        One row per item: `item_id` and a state per vector.
    """
    return items.select(
        "item_id",
        *[_state(F.col(name), width).alias(f"{name}_state") for name, width in _WIDTHS],
    )


def coverage(modalities: DataFrame) -> dict[str, dict[str, float]]:
    """Returns the share of items in each state, by vector (DE-28); empty without items."""
    states = ("present", "missing", "broken")
    counted = modalities.agg(
        F.count("*").alias("items"),
        *[
            F.count_if(F.col(f"{name}_state") == state).alias(f"{name} {state}")
            for name, _ in _WIDTHS
            for state in states
        ],
    ).collect()[0]
    if not counted["items"]:
        return {}
    return {
        name: {state: counted[f"{name} {state}"] / counted["items"] for state in states}
        for name, _ in _WIDTHS
    }


_WIDTHS = tuple(EMBEDDING_WIDTHS.items())


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
