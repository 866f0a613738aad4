"""Great Expectations' verdicts, from counts that were taken in one pass.

Each rule becomes an expectation, which is handed the metrics that it asks for and decides with its
own code. Its results are those of a run in the format BASIC without values: the pages and whoever
reads them see no difference.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Any

from transforms.contract_model import Check, RowCheck
from transforms.contract_tally import Counted, Tally

# Values stay out: they would put ids and sensitive columns into the pages.
_FORMAT = {"result_format": "BASIC", "exclude_unexpected_values": True}


def load_in_background() -> Thread:
    """Starts the import of Great Expectations, which takes seconds, while Spark is counting."""
    thread = Thread(target=_expectations, daemon=True)
    thread.start()
    return thread


def judge(table: str, checks: Sequence[Check], counted: Counted) -> tuple[Any, dict[int, str]]:
    """Lets Great Expectations judge what was counted.

    Args:
        table: Name of the suite.
        checks: The contract's checks; their numbers are those in `counted`.
        counted: What `contract_tally.count` found.

    Returns:
        The validation result of the suite, and for each check that failed its number and the
        message of a rule about the table; empty text for a rule about rows.
    """
    from great_expectations.core import ExpectationSuiteValidationResult

    expectations = _expectations()
    results, failed = [], {}
    for number, check in enumerate(checks):
        if isinstance(check, RowCheck):
            message = ""
            name, kwargs = check.expectation, dict(check.kwargs)
            if check.rule.mostly < 1.0:
                kwargs["mostly"] = check.rule.mostly
            metrics = _row_metrics(counted.rows, counted.tallies[number])
        else:
            verdict = check.decide(counted.measured[number])
            if verdict is None:
                continue
            message = verdict.message
            name = verdict.expectation
            kwargs = {**verdict.kwargs, "description": verdict.description}
            metrics = dict(verdict.metrics)
        expectation = getattr(expectations, name)(**kwargs, meta={"number": number})
        result = _result(expectation, metrics)
        results.append(result)
        if not result.success:
            failed[number] = message
    passed = len(results) - len(failed)
    validation = ExpectationSuiteValidationResult(
        success=not failed,
        results=results,
        suite_name=table,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(failed),
            "success_percent": 100 * passed / len(results) if results else None,
        },
        meta={},
    )
    return validation, failed


def _expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    module = importlib.import_module("great_expectations.expectations")
    # Its import sets the level to INFO, and a run is no place for its notes.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return module


def _row_metrics(rows: int, tally: Tally) -> dict[str, Any]:
    return {
        "table.row_count": rows,
        "column_values.nonnull.unexpected_count": rows - tally.judged,
        "filtered_row_count": tally.judged,
        "unexpected_count": tally.broken,
        "unexpected_values": [],
    }


def _result(expectation: Any, metrics: Mapping[str, Any]) -> Any:
    """The result of an expectation for metrics, looked up by name and then by the name's end."""
    options = {"result_format": _FORMAT}
    asked = expectation.get_validation_dependencies(runtime_configuration=dict(options))
    values = {}
    for name, configuration in asked.metric_configurations.items():
        known = name if name in metrics else name.rpartition(".")[2]
        values[configuration.id] = metrics[known]
    return expectation.metrics_validate(values, runtime_configuration=dict(options))
