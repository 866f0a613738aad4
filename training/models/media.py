"""Vectors of items' media as plain arrays for a worker, and as tensors.

Shape legend: N items, M items the model knows, V nodes of users and items, P items with a medium,
W its vectors' width, D width of the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.content import ItemContent
from training.histories import codes_in
from training.models.base import ModelConfigError


def media_arrays(content: ItemContent | None, item_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors by medium, and the row of each item among them, -1 without one."""
    arrays = {}
    for name, _ in content.widths if content else ():
        place_M = content.places(item_ids)
        arrays[f"media.{name}.rows"] = np.where(place_M >= 0, content.rows[name][place_M], -1)
        arrays[f"media.{name}.vectors"] = content.vectors[name]
    return arrays


def media_widths(data: Mapping[str, np.ndarray]) -> tuple[tuple[str, int], ...]:
    """Name and vector width of each medium, by name."""
    names = sorted(key.split(".")[1] for key in data if key.startswith("media.") and "rows" in key)
    return tuple((name, data[f"media.{name}.vectors"].shape[1]) for name in names)


def vectors_of(
    data: Mapping[str, np.ndarray], codes: np.ndarray | None, device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Medium -> which of some items (None: all) have it, and its vectors, as the network reads."""
    found = {}
    for name, _ in media_widths(data):
        rows = data[f"media.{name}.rows"]
        rows = rows if codes is None else rows[codes]
        place = (rows >= 0).nonzero()[0]
        vectors = data[f"media.{name}.vectors"][rows[place]]
        found[name] = (tensor(place, device), tensor(vectors, device))
    return found


def new_media(
    model: str, learnt: Mapping[str, int], content: ItemContent, known: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Items that a model can place by media alone, with their media as `media_arrays`.

    Args:
        model: its name, for errors.
        learnt: width of each medium that it learnt.
        content: media of items.
        known: (M,) str, sorted: items that it knows already.

    Raises:
        ModelConfigError: a medium has another width than it was learnt with.
    """
    unknown_N = codes_in(content.item_ids, known) < 0
    item_ids = content.item_ids[unknown_N & content.has_any()]
    media = media_arrays(content, item_ids)
    for name, width in media_widths(media):
        if learnt.get(name, width) != width:
            raise ModelConfigError(
                f"{model} learnt {name} vectors of {learnt[name]} numbers, but these have "
                f"{width}. Vectors of another encoder mean something else: train it anew."
            )
    return (item_ids if learnt else item_ids[:0]), media


def with_media(
    node_VD: Tensor, weights: Mapping[str, Tensor], data: Mapping[str, np.ndarray]
) -> Tensor:
    """(V, D): nodes of users, and of items with the media that each has.

    Args:
        node_VD: what the ids have learnt.
        weights: medium -> (D, W); none leaves the nodes as they are.
        data: `sizes` (users, items), and `media_arrays`.
    """
    if not weights:
        return node_VD
    num_users, num_items = data["sizes"]
    vectors = vectors_of(data, None, node_VD.device)
    return torch.cat(
        [node_VD[:num_users], node_VD[num_users:] + media_sum(weights, vectors, num_items)]
    )


def media_sum(
    weights: Mapping[str, Tensor], vectors: Mapping[str, tuple[Tensor, Tensor]], count: int
) -> Tensor:
    """(count, D): mean of the projected media that each item has; zeros for one without.

    Args:
        weights: medium -> (D, W).
        vectors: medium -> places of the items that have it, (P,), and its vectors (P, W).
        count: of items.
    """
    first = next(iter(weights.values()))
    total_ND, number_N1 = first.new_zeros(count, len(first)), first.new_zeros(count, 1)
    for name, weight in weights.items():
        if name in vectors:
            place_P, vector_PW = vectors[name]
            even_PW = F.layer_norm(vector_PW.float(), vector_PW.shape[1:])
            total_ND = total_ND.index_add(0, place_P, F.linear(even_PW, weight).float())
            number_N1 = number_N1.index_add(0, place_P, torch.ones_like(place_P)[:, None].float())
    return total_ND / number_N1.clamp(min=1)


def tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device, integers as torch wants them for looking up."""
    found = torch.from_numpy(np.ascontiguousarray(array))
    return found.to(device, torch.int64 if array.dtype.kind == "i" else found.dtype)
