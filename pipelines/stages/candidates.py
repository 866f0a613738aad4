"""The champions' best unseen items for every active user, into staging."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.errors import StageError
from pipelines.graph import BASELINE
from pipelines.stages.snapshot import micros
from pipelines.stages.train import registry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

EVERYBODY = "*"
"""The `user_id` under which the list for users without candidates of their own stands."""


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``staged_candidates`` and ``staged_similar_items``."""
    from training.candidates import build_candidates, similar_items

    options = context.project.pipeline.candidates
    models, versions = champions(context)
    items = known_items(context)
    histories, seen = _histories(context, items["item_id"].to_numpy(False).astype(str))
    weights = _weights(context, models)
    stamp = {
        "run_id": context.run_id,
        "interval_end": context.interval.end,
        "created_at": datetime.now(UTC),
    }
    rows = build_candidates(
        models, weights, histories, seen,
        versions=versions, k=options.k, baseline=BASELINE, titles=items["title"].to_pylist(),
        batch=options.batch, progress=context.progress,
    )
    context.write_interval("staged_candidates", stamped(rows, stamp))
    source = max(weights, key=lambda name: weights[name])
    similar = similar_items(models[source], k=options.similar_items)
    del stamp["created_at"]
    context.write_interval(
        "staged_similar_items", stamped(similar, {"model_version": versions[source], **stamp})
    )
    served = ", ".join(f"{name} v{versions[name]} x {weights[name]:.2f}" for name in weights)
    return StageResult(
        f"{rows.num_rows:,} rows for {len(histories):,} users from {served}",
        rows_in=len(histories.items), rows_out=rows.num_rows + similar.num_rows,
        detail={"users": len(histories), "weights": weights, "versions": versions},
    )
