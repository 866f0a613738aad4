"""What contracts found, for people: findings as text, validations as offline pages.

Great Expectations' own page view loads styles and scripts from the network, so only its sections
are used here, inside a page that carries its own style.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

_WIDTH = 100
_MOST_ROWS = 20
_MOST_DIGITS = 40
_OUTCOMES = {"block": "blocks", "quarantine": "sets aside", "warn": "warns"}


@dataclass(frozen=True)
class Finding:
    """One broken rule."""

    rule: str
    """Kind of the rule, such as `between`."""
    column: str
    """Its columns joined by `+`; empty for a rule of the whole table."""
    on_fail: str
    """block, quarantine or warn."""
    rows_failed: int
    """Rows that break it, as Great Expectations counts them."""
    share: float
    """rows_failed over all rows of the table, in [0, 1]."""
    sample: tuple[str, ...]
    """At most five of the values that break it, as text; none for sensitive columns."""
    message: str
    """What broke and what to do."""
    kinds: tuple[tuple[str, int], ...] = ()
    """For `finite`, how many values are NaN, infinite, null element or null."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a contract on one frame."""

    table: str
    good: DataFrame
    """The rows that broke no quarantining rule, with the columns that came in."""
    quarantined: DataFrame
    """The others: table, row (JSON), rule (labels joined by a comma), interval_end."""
    findings: list[Finding]
    """Broken rules: those that block first, then by rows."""
    blocked: bool
    """Whether nothing may be written."""
    rows: int
    rows_quarantined: int
    validation: Any
    """The Great Expectations result of the whole suite, without values."""


def render_findings(findings: Sequence[Finding]) -> str:
    """Writes findings as a table of fixed width, at most 20 of them.

    Returns:
        Two or more lines for each finding: what it does, the rule, rows, share and samples, and
        beneath it the message. Empty text for no findings.
    """
    lines: list[str] = []
    for finding in findings[:_MOST_ROWS]:
        name = f"{finding.rule}:{finding.column}" if finding.column else finding.rule
        count = f"{finding.rows_failed:,}"
        head = f"{_OUTCOMES[finding.on_fail]:<10}  {_clip(name, 40):<40}  {count:>13} rows"
        lines.append(f"{head}  {100 * finding.share:>6.2f} %")
        text = finding.message
        if finding.sample:
            text += f" For example: {', '.join(_clip(value) for value in finding.sample)}."
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=" " * 12,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
    left = len(findings) - _MOST_ROWS
    if left > 0:
        lines.append(f"and {left} more")
    return "\n".join(lines)


def write_data_docs(results: Sequence[CheckResult], folder: Path) -> Path:
    """Writes one page for each checked table and an index, readable without a network.

    The pages show rules, counts and shares, never values.

    Args:
        results: What `check` returned, one for each table.
        folder: Where `index.html` and `<table>.html` go; created when absent.

    Returns:
        The path of `index.html`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for result in results:
        page = _page(f"Data quality: {result.table}", _summary(result) + _sections(result))
        (folder / f"{result.table}.html").write_text(page, encoding="utf-8")
        link = f'<a href="{result.table}.html">{result.table}</a>'
        cells = (
            link,
            _state(result),
            f"{result.rows:,}",
            f"{result.rows_quarantined:,}",
            str(len(result.findings)),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{name}</th>" for name in ("Table", "State", "Rows", "Set aside", "Broken rules")
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    index = folder / "index.html"
    index.write_text(_page("Data quality", body), encoding="utf-8")
    return index


def _clip(text: str, width: int = _MOST_DIGITS) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _state(result: CheckResult) -> str:
    if result.blocked:
        return "blocked"
    return "passed with findings" if result.findings else "passed"


def _summary(result: CheckResult) -> str:
    items = "".join(
        f"<li><b>{html.escape(finding.rule)} {html.escape(finding.column)}</b> "
        f"({_OUTCOMES[finding.on_fail]}): {html.escape(finding.message)}</li>"
        for finding in result.findings
    )
    counts = f"{result.rows:,} rows, {result.rows_quarantined:,} set aside"
    return f'<p>{_state(result)}: {counts}. <a href="index.html">All tables</a></p><ul>{items}</ul>'


def _sections(result: CheckResult) -> str:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result.validation)
    # The first section links to pages that are not written, the last describes the run's machine.
    sections = document.to_json_dict()["sections"][1:-1]
    view = DefaultJinjaSectionView()
    return "\n".join(
        view.render({"section": section, "section_loop": {"index": number}})
        for number, section in enumerate(sections, start=1)
    )


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .35rem .6rem; text-align: left }
h5 { font-size: 1.1rem; margin: 1rem 0 0 }
.badge { background: #eee; border-radius: .3rem; padding: 0 .35rem }
.text-success::before { content: "✓"; color: #08783e }
i.text-danger::before { content: "✗"; color: #b00020 }
strong.text-danger { color: #b00020 }
"""
