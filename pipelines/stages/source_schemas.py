"""Hold the columns and types of sources against those that the last run found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.context import StageContext
from pipelines.errors import ContractError
from pipelines.stages.source_frames import frame, wanted

if TYPE_CHECKING:
    from pipelines.sources import TableSource
    from transforms.sources import SourceFile

Schemas = Mapping[str, Mapping[str, str]]
"""Type by column, by source."""


def hold_schemas(
    context: StageContext,
    mapping: str,
    read: Iterable[tuple[str, TableSource, Sequence[SourceFile] | None]],
) -> dict[str, dict[str, str]]:
    """Compare what is about to be read with what was read last, by the rule `source_schema`.

    Args:
        context: Of the stage.
        mapping: Digest of the sources' spec and code; another one begins anew.
        read: Table, source, and the files of it that are new (None for all of them).

    Returns:
        The schemas of all sources, for the run record.

    Raises:
        ContractError: When a change blocks; nothing has been read into a table by then.
    """
    from transforms.contracts import Contract, Rule, render_findings
    from transforms.schema_changes import schema_findings, schema_of
    from transforms.sources import CORRUPT_ROW, FILE

    found = _last(context, mapping)
    findings = []
    for table, source, files in read:
        columns = wanted(source)
        rows = frame(context.spark, context.project, source, columns, files=files)
        now = schema_of(rows.drop(CORRUPT_ROW, FILE))
        rules = [
            Rule(**rule.plain())
            for contract in context.project.contracts[table]
            for rule in contract.rules
        ]
        contract = Contract(table=table, allow_empty=True, rules=tuple(rules))
        name = f"{table}: {source.path}"
        findings += schema_findings(contract, source.path, found.get(name, {}), now, columns)
        found[name] = now
    text = render_findings(findings) if findings else ""
    if any(finding.on_fail == "block" for finding in findings):
        raise ContractError(
            f"A source is not what it was when the interval before "
            f"{context.interval.end_text} was read. Nothing was read from it.\n{text}"
        )
    for line in text.splitlines():
        context.progress(line)
    return found


def _last(context: StageContext, mapping: str) -> dict[str, dict[str, str]]:
    """The schemas that the newest successful run of this mapping noted."""
    for run in reversed(context.history.runs):
        if (
            run.stage == context.step.name
            and run.status == "succeeded"
            and run.detail["mapping"] == mapping
        ):
            return {name: dict(schema) for name, schema in run.detail["schemas"].items()}
    return {}
