"""What the transformer learns from and reads, as plain arrays for a worker, and as tensors.

Shape legend: B sequences, L positions, X items shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from training.histories import EVENT_TYPES, codes_in
from training.models.media import media_widths, tensor
from training.models.sequences import Sequences, sequences_of, tokens_before, windows_of
from training.models.transformer_network import REACTIONS, Sizes
from training.shown import shown_items
from training.snapshot import Snapshot

SECOND = 1_000_000
"""Microseconds."""
_DAY = 86_400 * SECOND


def training_arrays(
    snapshot: Snapshot, item_ids: np.ndarray, max_length: int
) -> dict[str, np.ndarray]:
    """Everybody's sequences with their windows, and what everybody was shown, by token."""
    everyone = snapshot.histories(np.arange(len(snapshot.user_ids)), snapshot.valid_start)
    sequences = sequences_of(everyone.positives(item_ids))
    start, length = windows_of(sequences.offsets, max_length)
    shown = shown_items(snapshot, None, snapshot.valid_start)
    shown = shown[codes_in(snapshot.catalogue, item_ids)[shown.items] >= 0]
    token_X = tokens_before(sequences, shown.users, shown.times)
    order = np.argsort(token_X, kind="stable")
    shown, token_X = shown[order], token_X[order]
    arrays = {
        "token": token_X,
        "item": codes_in(snapshot.catalogue, item_ids)[shown.items],
        "at": shown.times,
        "device": shown.devices,
        "location": shown.locations,
        "ties": shown.ties,
        **{reaction: getattr(shown, reaction) for reaction in REACTIONS},
    }
    windows = {"window.start": start, "window.length": length}
    named = {f"shown.{name}": array for name, array in arrays.items()}
    return sequences.arrays("tokens") | windows | named


def marks_of(sequences: Sequences, index_BL: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """What the network reads of each token beside its item."""
    return {
        "type": tensor(sequences.marks.types[index_BL] + 1, device).long(),
        "watch": tensor(sequences.marks.watch_shares[index_BL], device),
        "at": tensor(sequences.times[index_BL] // SECOND, device),
        "gap": tensor(sequences.gaps[index_BL] // SECOND, device),
    }


def sizes_of_data(data: Mapping[str, np.ndarray], *, reactions: bool) -> Sizes:
    """What the training data decide of the network."""
    liked = data["tokens.items"] < int(data["num_items"])
    return Sizes(
        items=int(data["num_items"]),
        event_types=len(EVENT_TYPES) + 1 if _spread(data["tokens.types"], liked) else 0,
        watch=bool(np.isfinite(data["tokens.watch_shares"]).any()),
        time=_spread(data["tokens.times"], liked) >= _DAY,
        devices=int(data["num_devices"]),
        locations=int(data["num_locations"]),
        media=media_widths(data),
        reactions=reactions,
    )


def _spread(values: np.ndarray, chosen: np.ndarray) -> int:
    """Largest less smallest of the chosen ones, 0 of none; no copy of what lies in a file."""
    if not chosen.any():
        return 0
    limits = np.iinfo(values.dtype)
    largest = values.max(where=chosen, initial=limits.min)
    return int(largest) - int(values.min(where=chosen, initial=limits.max))


def sizes_of(weights: Mapping[str, np.ndarray]) -> Sizes:
    """What the data had decided of a network, from its weights."""

    def rows(name: str, extra: int = 0) -> int:
        return len(weights[name]) - extra if name in weights else 0

    project = "items.project."
    media = {
        name.removeprefix(project).removesuffix(".weight"): value.shape[1]
        for name, value in weights.items()
        if name.startswith(project) and name.endswith(".weight")
    }
    return Sizes(
        items=rows("items.embedding.weight", 1),
        event_types=rows("history.event_type.weight"),
        watch="history.watch.weight" in weights,
        time="history.clock.weight" in weights,
        devices=rows("context.device.weight", 1),
        locations=rows("context.location.weight", 1),
        media=tuple(sorted(media.items())),
        reactions="reactions.0.weight" in weights,
    )
