"""Great Expectations as it is usually run: each rule by itself, on the rows.

What the one pass of `transforms.contracts` is measured against, in time and in its verdicts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from transforms.contract_model import Contract, RowCheck, Rule, Scope
from transforms.contract_rules import RULES
from transforms.contract_tally import probed, with_lookups


def rule_by_rule(
    frame: DataFrame,
    contract: Contract,
    interval_end: datetime,
    references: Mapping[str, DataFrame],
) -> Iterator[tuple[Rule, Any]]:
    """Yields each rule about rows with Great Expectations' own result on the frame.

    Rules about the table as a whole are left out: those are aggregates that Great Expectations is
    handed either way.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations import expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_spark("frame", persist=False).add_dataframe_asset("frame")
    definition = asset.add_batch_definition_whole_dataframe("all")
    scope = Scope(
        with_lookups(frame, contract.rules, references),
        interval_end - timedelta(hours=6),
        interval_end,
        contract.allow_empty,
        references,
    )
    for rule in contract.rules:
        build = RULES[rule.name].build
        check = None if build is None else build(rule, scope)
        if not isinstance(check, RowCheck):
            continue
        batch = definition.get_batch({"dataframe": _probes(scope, check)})
        mostly = {"mostly": rule.mostly} if rule.mostly < 1.0 else {}
        expectation = getattr(expectations, check.expectation)(**check.kwargs, **mostly)
        options = {"result_format": "BASIC", "exclude_unexpected_values": True}
        suite = gx.ExpectationSuite("rule", expectations=[expectation])
        (result,) = batch.validate(suite, result_format=options).results
        yield rule, result


def _probes(scope: Scope, check: RowCheck) -> DataFrame:
    """The columns that a check looks at, by the names it gives them."""
    names = dict.fromkeys([*check.probes, *check.subjects])
    return probed(scope.frame, [check]).select(*[F.col(f"`{name}`") for name in names])
