"""Hold the computed lists against their contracts, then replace what is served."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult
from pipelines.errors import ContractError
from pipelines.graph import EVERYBODY
from pipelines.intervals import text
from pipelines.sections import BASELINE
from pipelines.stages.validate import check_table

if TYPE_CHECKING:
    import pyarrow as pa

_SERVED = ("similar_items", "candidates")


def run(context: StageContext) -> StageResult:
    """Replace ``similar_items`` and ``candidates``, each in one commit.

    An interval older than the one that is served keeps its lists in staging and serves nothing.

    Raises:
        ContractError: When a list breaks a blocking rule; what was served stays.
    """
    from transforms.contracts import render_findings

    lists = {
        table: context.arrow(f"staged_{table}", interval_end=context.interval.end)
        for table in _SERVED
    }
    checked = [
        check_table(context, table, context.spark.createDataFrame(rows), {}, columns=())
        for table, rows in lists.items()
    ]
    if any(result.blocked for result in checked):
        findings = [finding for result in checked for finding in result.findings]
        raise ContractError(
            f"The lists for the interval that ends at {context.interval.end_text} break their "
            f"contract. What was published before stays served.\n{render_findings(findings)}"
        )
    rows = lists["candidates"]
    served = served_interval(context)
    if served is not None and served > context.interval.end:
        return StageResult(
            f"kept in staging, from the champions as of {context.interval.end_text}: the lists of "
            f"the later interval {text(served)} stay served",
            rows_in=rows.num_rows,
        )
    for table in _SERVED:
        context.tables_out[table] = context.lake.replace_all(table, lists[table], context.note)
    return StageResult(
        f"{rows.num_rows:,} rows served, from the champions as of {context.interval.end_text}",
        rows_in=rows.num_rows,
        rows_out=rows.num_rows,
        detail={"example_user": _example_user(rows)},
    )


def served_interval(context: StageContext) -> datetime | None:
    """The interval whose candidates are served now."""
    if context.lake.version("candidates") is None:
        return None
    ends = context.lake.arrow("candidates", columns=["interval_end"])["interval_end"]
    found: datetime | None = ends[0].as_py() if len(ends) else None
    return found


def _example_user(rows: pa.Table) -> str | None:
    """A user to show: the first, by id, whose list is personal."""
    import pyarrow.compute as pc

    own = rows.filter(pc.not_equal(rows["user_id"], EVERYBODY))
    personal = own.filter(pc.not_equal(own["source"], BASELINE))
    found: str | None = pc.min((personal if personal.num_rows else own)["user_id"]).as_py()
    return found
