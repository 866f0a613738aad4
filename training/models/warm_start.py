"""Going on from an earlier model: its weights, brought into the order of the ids at hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from training.histories import codes_in


def rows_by_id(rows: np.ndarray, old_ids: np.ndarray, new_ids: np.ndarray) -> np.ndarray:
    """Rows of a table in the order of other ids (str, sorted), NaN for ids that it lacks."""
    place = codes_in(new_ids, old_ids)
    if not len(old_ids):
        return np.full((len(new_ids), rows.shape[1]), np.nan, rows.dtype)
    return np.where(place[:, None] >= 0, rows[place], np.nan).astype(rows.dtype)


@torch.no_grad()
def continue_from(network: nn.Module, data: Mapping[str, np.ndarray]) -> None:
    """Overwrite fresh weights by the finite numbers of `start.<name>` of the same shape.

    Args:
        network: Its parameters give the names.
        data: Arrays for a worker; without a `start.<name>` the weight stays as it is.
    """
    for name, parameter in network.named_parameters():
        start = data.get(f"start.{name}")
        if start is not None and start.shape == parameter.shape:
            given = torch.from_numpy(np.array(start)).to(parameter.device)
            parameter.copy_(torch.where(given.isfinite(), given, parameter))
