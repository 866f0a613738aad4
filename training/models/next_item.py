"""Training of the transformer: arrays, batches, losses, validation, and encoding of histories.

Sequences are padded on the right: a state never sees what comes after it, and losses only read
real tokens. With a catalogue of at most `full_softmax_max_items` a batch has all items at hand;
above it only those that it names and the negatives that it draws.

Shape legend: B sequences, L positions, T real tokens of a batch, D model width, N items at hand,
M items the model knows, X items shown, n sampled negatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.content import ItemContent
from training.loop import LoopOptions, Shard, Trainable, ndcg_sum
from training.models.sequences import (
    Sequences,
    dense_mask,
    length_buckets,
    padded,
    sequences_of,
    tokens_before,
    windows_of,
)
from training.models.transformer_network import (
    REACTIONS,
    Network,
    Sizes,
    TransformerConfig,
    sampled_softmax,
)
from training.shown import shown_items
from training.snapshot import EVENT_TYPES, Snapshot, codes_in

_SCORE_TOKENS = 16_384
"""Padded tokens encoded at once when scoring: bounds memory, not results."""
_ITEM_BLOCK = 8_192
"""Items whose media are encoded at once without gradients."""
_BUCKET_POOL = 64
_VALIDATION_BATCH = 256
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


class NextItemTask(Trainable):
    """The network with its windows, its losses and its validation users."""

    def __init__(
        self, config: TransformerConfig, data: Mapping[str, np.ndarray], seed: int
    ) -> None:
        super().__init__()
        self.config, self.data, self.seed = config, data, seed
        self.tokens = Sequences.of_arrays(data, "tokens")
        self.num_items = int(data["num_items"])
        self.weights = {
            reaction: getattr(config, f"{reaction}_weight")
            for reaction in REACTIONS
            if getattr(config, f"{reaction}_weight")
            and np.isfinite(data[f"shown.{reaction}"]).any()
        }
        self.network = Network(config, sizes_of_data(data, reactions=bool(self.weights)))
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Answer with the mean of each reaction; or take over what an earlier model had learnt."""
        for name in self.weights:
            mean = float(np.nanmean(self.data[f"shown.{name}"]).clip(0.01, 0.99))
            self.network.reactions[-1].bias[REACTIONS.index(name)] = math.log(mean / (1 - mean))
        for name, parameter in self.network.named_parameters():
            start = self.data.get(f"start.{name}")
            if start is not None and start.shape == parameter.shape:
                given = torch.from_numpy(np.array(start))
                parameter.copy_(torch.where(given.isfinite(), given, parameter))

    def batches(self, epoch: int) -> Sequence[tuple[np.ndarray, int]]:
        """Window numbers of each batch with the seed of its negatives."""
        rng = np.random.default_rng([self.seed, epoch])
        buckets = length_buckets(
            self.data["window.length"], self.config.batch_tokens, _BUCKET_POOL, rng
        )
        return [(windows, int(rng.integers(2**62))) for windows in buckets]

    def parts(self) -> list[nn.Module]:
        """The blocks."""
        of_items = self.network.items.blocks if self.network.sizes.media else ()
        return [*self.network.history.blocks, *of_items]

    def forward(self, batch: tuple[np.ndarray, int], shard: Shard) -> Tensor:
        """The sum of all losses by their weights."""
        losses = self.losses(batch, shard)
        return losses.pop("next_item") + sum(
            self.weights[name] * loss for name, loss in losses.items()
        )

    def losses(self, batch: tuple[np.ndarray, int], shard: Shard) -> dict[str, Tensor]:
        """Each loss of the shard's rows over the number of its targets in the whole batch.

        `next_item` is the cross-entropy of the next like; those of `REACTIONS` are the
        cross-entropies of what came of each item shown, where it is known.
        """
        windows, negatives_seed = batch
        all_start, all_length = (
            self.data["window.start"][windows],
            self.data["window.length"][windows],
        )
        # With fewer rows than workers some take part with a row that counts nothing.
        mine = slice(shard.index, None, shard.count) if shard.index < len(windows) else slice(1)
        counts = float(shard.index < len(windows))
        start, length = all_start[mine], all_length[mine]
        device = self.network.items.embedding.weight.device
        # A window of l pairs is l + 1 tokens: inputs without the last, targets without the first.
        index_BL, real = padded(start, length)
        shown, shown_row, shown_column = self._shown(start, length)
        drawn = self._drawn(negatives_seed)
        item_BL, next_BL = self.tokens.items[index_BL], self.tokens.items[index_BL + real]
        codes, own = self._at_hand(item_BL, next_BL[real], self.data["shown.item"][shown], drawn)
        item_ND = self.network.items(
            None if codes is None else tensor(codes, device), vectors_of(self.data, codes, device)
        )
        input_BL = tensor(own(item_BL), device)
        state_BLD = self.network.history(item_ND[input_BL], marks_of(self.tokens, index_BL, device))
        hidden_B = torch.rand(len(start), device=device) < self.config.context_dropout
        real_BL = tensor(real, device)
        row_T = real_BL.nonzero()[:, 0]
        index_T = index_BL[real] + 1
        query_TD = self.network.query(
            state_BLD[real_BL],
            *self._moment(
                self.tokens.marks.devices[index_T],
                self.tokens.marks.locations[index_T],
                self.tokens.times[index_T],
                hidden_B[row_T],
            ),
        )
        target_T = tensor(own(self.tokens.items[index_T]), device)
        if codes is None:
            loss_T = F.cross_entropy(query_TD @ item_ND[:-1].T, target_T, reduction="none")
        else:
            own_BN = torch.zeros(len(start), len(item_ND), dtype=torch.bool, device=device)
            own_BN.scatter_(1, input_BL, True)
            own_BN = own_BN.index_put((row_T, target_T), torch.tensor(True, device=device))[:, :-1]
            loss_T = sampled_softmax(
                query_TD,
                target_T,
                item_ND[:-1],
                drawn_n=tensor(own(drawn), device),
                own_BN=own_BN,
                row_T=row_T,
                eligible_B=self.num_items - own_BN.sum(1),
            )
        losses = {"next_item": counts * loss_T.float().sum() / int(all_length.sum())}
        if self.weights:
            row_X = tensor(shown_row, device)
            query_XD = self.network.query(
                state_BLD[row_X, tensor(shown_column, device)],
                *self._moment(
                    self.data["shown.device"][shown],
                    self.data["shown.location"][shown],
                    self.data["shown.at"][shown],
                    hidden_B[row_X],
                ),
            )
            item_XD = item_ND[tensor(own(self.data["shown.item"][shown]), device)]
            logit_XR = self.network.react(query_XD, item_XD).float()
            everything, _, _ = self._shown(all_start, all_length)
            for name in self.weights:
                target_X = tensor(self.data[f"shown.{name}"][shown], device)
                known_X = target_X.isfinite()
                loss = F.binary_cross_entropy_with_logits(
                    logit_XR[:, REACTIONS.index(name)][known_X], target_X[known_X], reduction="sum"
                )
                number = int(np.isfinite(self.data[f"shown.{name}"][everything]).sum())
                losses[name] = counts * loss / max(1, number)
        return losses

    def validate(self, shard: Shard) -> tuple[float, int]:
        """NDCG@10 of the items liked in the validation part, seen items left out."""
        sequences = Sequences.of_arrays(self.data, "valid.tokens")
        users = np.arange(len(sequences.offsets) - 1)[shard.index :: shard.count]
        table = item_table(self.network, self.data)
        total = 0.0
        for start in range(0, len(users), _VALIDATION_BATCH):
            rows = users[start : start + _VALIDATION_BATCH]
            state_BD = encode_last(self.network, table, sequences, rows, self.config)
            unknown_B = torch.full((len(rows),), -1, device=table.device)
            query_BD = self.network.query(state_BD, unknown_B, unknown_B, unknown_B)
            seen_BM, relevant_BM = (
                tensor(
                    dense_mask(
                        self.data[f"valid.{part}"],
                        self.data[f"valid.{part}.offsets"],
                        rows,
                        self.num_items,
                    ),
                    table.device,
                )
                for part in ("seen", "relevant")
            )
            total += float(ndcg_sum(query_BD @ table[:-1].T, seen_BM, relevant_BM))
        return total, len(users)

    def _shown(self, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, ...]:
        """Items shown at the states of some windows: which, at which window, at which position."""
        token = self.data["shown.token"]
        low, high = np.searchsorted(token, start), np.searchsorted(token, start + length)
        row = np.repeat(np.arange(len(start)), high - low)
        before = np.cumsum(high - low) - (high - low)
        shown = np.repeat(low - before, high - low) + np.arange(len(row))
        return shown, row, token[shown] - start[row]

    def _drawn(self, seed: int) -> np.ndarray:
        """The batch's negatives, the same on every worker; none where all items are at hand."""
        if self.num_items <= self.config.full_softmax_max_items:
            return np.empty(0, np.int64)
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self.num_items, generator=generator)[: self.config.negatives].numpy()

    def _at_hand(self, *codes: np.ndarray) -> tuple[np.ndarray | None, Any]:
        """The items a batch needs (None: all), and what finds their places; a start comes last."""
        if self.num_items <= self.config.full_softmax_max_items:
            return None, np.asarray
        needed = np.unique(np.concatenate([part.ravel() for part in codes]))
        needed = needed[needed < self.num_items].astype(np.int64)
        return needed, lambda part: np.searchsorted(needed, part)

    def _moment(
        self, devices: np.ndarray, locations: np.ndarray, times: np.ndarray, hidden: Tensor
    ) -> tuple[Tensor, ...]:
        """Device, location and seconds, unknown where hidden."""
        parts = (devices, locations, times // _SECOND)
        return tuple(tensor(part, hidden.device).long().masked_fill(hidden, -1) for part in parts)


def build_task(
    config: Mapping[str, Any], data: Mapping[str, np.ndarray], seed: int
) -> tuple[NextItemTask, LoopOptions]:
    """What a training worker builds from plain values."""
    parsed = TransformerConfig(**config)
    options = LoopOptions(
        seed=seed,
        epochs=parsed.epochs,
        patience=parsed.patience,
        learning_rate=parsed.learning_rate,
        weight_decay=parsed.weight_decay,
        precision=parsed.precision,
        sharding=parsed.sharding,
    )
    return NextItemTask(parsed, data, seed), options


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
        **{reaction: getattr(shown, reaction) for reaction in REACTIONS},
    }
    windows = {"window.start": start, "window.length": length}
    named = {f"shown.{name}": array for name, array in arrays.items()}
    return sequences.arrays("tokens") | windows | named


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


def item_table(network: Network, data: Mapping[str, np.ndarray]) -> Tensor:
    """(M+1, D): the vectors of all items and of the start, as they are used after training."""
    weight = network.items.embedding.weight.detach()
    if not network.sizes.media:
        return weight
    content_MD = content_blocks(network, data, len(weight) - 1)
    return torch.cat([weight[:-1] + content_MD, weight[-1:]])


def content_blocks(network: Network, data: Mapping[str, np.ndarray], count: int) -> Tensor:
    """(count, D): what the media of items say, some items at a time."""
    device = network.items.embedding.weight.device
    blocks = []
    for start in range(0, count, _ITEM_BLOCK):
        codes = np.arange(start, min(start + _ITEM_BLOCK, count))
        blocks.append(network.items.content(vectors_of(data, codes, device), len(codes)))
    return torch.cat(blocks)


def encode_last(
    network: Network,
    table: Tensor,
    sequences: Sequences,
    rows: np.ndarray,
    config: TransformerConfig,
) -> Tensor:
    """(B, D) state after the last token of some sequences."""
    begin, stop = sequences.offsets[rows], sequences.offsets[rows + 1]
    length = np.minimum(stop - begin, config.max_length)
    order = np.argsort(length, kind="stable")
    state_BD = torch.empty(len(length), table.shape[1], device=table.device)
    first = 0
    while first < len(order):
        # Ascending lengths: grow the block while rows x longest row stays within the budget.
        size = np.arange(1, len(order) - first + 1) * length[order[first:]]
        count = max(1, int(np.searchsorted(size, _SCORE_TOKENS, side="right")))
        block = order[first : first + count]
        index_BL, _ = padded(stop[block] - length[block], length[block])
        item_BLD = table[tensor(sequences.items[index_BL], table.device)]
        state_BLD = network.history(item_BLD, marks_of(sequences, index_BL, table.device))
        last_B = tensor(length[block] - 1, table.device)
        state_BD[tensor(block, table.device)] = state_BLD[
            torch.arange(len(block), device=table.device), last_B
        ].float()
        first += count
    return state_BD


def marks_of(sequences: Sequences, index_BL: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """What the network reads of each token beside its item."""
    return {
        "type": tensor(sequences.marks.types[index_BL] + 1, device).long(),
        "watch": tensor(sequences.marks.watch_shares[index_BL], device),
        "at": tensor(sequences.times[index_BL] // _SECOND, device),
        "gap": tensor(sequences.gaps[index_BL] // _SECOND, device),
    }


def sizes_of_data(data: Mapping[str, np.ndarray], *, reactions: bool) -> Sizes:
    """What the training data decide of the network."""
    liked = data["tokens.items"] < int(data["num_items"])
    times, types = data["tokens.times"][liked], data["tokens.types"][liked]
    return Sizes(
        items=int(data["num_items"]),
        event_types=len(EVENT_TYPES) + 1 if len(np.unique(types)) > 1 else 0,
        watch=bool(np.isfinite(data["tokens.watch_shares"]).any()),
        time=bool(len(times) and np.ptp(times) >= _DAY),
        devices=int(data["num_devices"]),
        locations=int(data["num_locations"]),
        media=media_widths(data),
        reactions=reactions,
    )


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


def tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device, integers as torch wants them for looking up."""
    found = torch.from_numpy(np.ascontiguousarray(array))
    return found.to(device, torch.int64 if array.dtype.kind == "i" else found.dtype)
