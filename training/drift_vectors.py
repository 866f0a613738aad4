"""Drift of item vectors: whether people meet other kinds of items than before.

Shape legend: E rows, N items, P items with a medium, W width of its vectors.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.content import ItemContent
from training.drift_columns import WEIGHT

_ROWS = 8192
"""Vectors held in memory at a time."""


def distances(content: ItemContent, rows: pa.Table, start: datetime) -> dict[str, float]:
    """How far the mean vector of what is met now lies from that of what was met before.

    The distance is `1 - cos` of the two means of vectors of length one, each item counted as often
    as it was met (Evidently's ratio of embeddings asks the same of single components).

    Args:
        content: Vectors of items.
        rows: `item_id` and `timestamp` of what was met, now and before; `WEIGHT` when drawn.
        start: When now begins.

    Returns:
        Medium -> distance between 0 and 2; without a medium that one side lacks.
    """
    now = np.asarray(pc.greater_equal(rows["timestamp"], pa.scalar(start)).to_numpy(), dtype=bool)
    met = pc.fill_null(pc.index_in(rows["item_id"], pa.array(content.item_ids, pa.string())), -1)
    met_E = np.asarray(met.to_numpy(), dtype=np.int64)
    items = len(content.item_ids)
    weight_E = rows[WEIGHT].to_numpy() if WEIGHT in rows.column_names else np.ones(len(met_E))
    known_E = met_E >= 0
    weight_2N = np.stack(
        [
            np.bincount(met_E[side & known_E], weight_E[side & known_E], minlength=items)
            for side in (now, ~now)
        ]
    )
    found = {}
    for medium, vector_PW in content.vectors.items():
        row_N = content.rows[medium]
        has_N = row_N >= 0
        weight_2P = np.zeros((2, len(vector_PW)))
        weight_2P[:, row_N[has_N]] = weight_2N[:, has_N]
        if not weight_2P.any(axis=1).all():
            continue
        mean_2W = np.zeros((2, vector_PW.shape[1]))
        for begin in range(0, len(vector_PW), _ROWS):
            part = np.asarray(vector_PW[begin : begin + _ROWS], dtype=np.float64)
            length = np.linalg.norm(part, axis=1, keepdims=True)
            mean_2W += weight_2P[:, begin : begin + _ROWS] @ (part / np.maximum(length, 1e-12))
        length_2 = np.linalg.norm(mean_2W, axis=1)
        if length_2.all():
            found[medium] = float(1.0 - mean_2W[0] @ mean_2W[1] / length_2.prod())
    return found
