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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.loop import LoopOptions, Shard, Trainable
from training.models.media import tensor, vectors_of
from training.models.next_item_arrays import SECOND, marks_of, sizes_of_data
from training.models.sequences import Sequences, length_buckets, padded
from training.models.softmax import sampled_softmax, softmax_loss
from training.models.transformer_network import REACTIONS, Network, TransformerConfig
from training.models.validation import validation_ndcg
from training.models.warm_start import continue_from

_SCORE_TOKENS = 16_384
"""Padded tokens encoded at once when scoring: bounds memory, not results."""
_ITEM_BLOCK = 8_192
"""Items whose media are encoded at once without gradients."""
_BUCKET_POOL = 64


@dataclass(frozen=True)
class _Read:
    """Some windows, encoded, with what is asked of their states."""

    state_BLD: Tensor
    item_ND: Tensor
    """Vectors of the items at hand, that of the start of a sequence last."""
    input_BL: Tensor
    """Places among the N."""
    real_BL: Tensor
    next_T: np.ndarray
    """Which token comes next, of all."""
    target_T: Tensor
    """Its place among the N."""
    drawn_n: Tensor
    """Places of the negatives."""
    shown_X: np.ndarray
    """Which items were shown, of all that were."""
    shown_row_X: Tensor
    shown_column_X: Tensor
    """At which state each was shown."""
    shown_item_X: Tensor
    """Its place among the N."""
    hidden_B: Tensor
    """Windows whose moments stay hidden."""


class NextItemTask(Trainable):
    """The network with its windows, its losses and its validation users."""

    def __init__(
        self, config: TransformerConfig, data: Mapping[str, np.ndarray], seed: int
    ) -> None:
        super().__init__()
        self.config, self.data, self.seed = config, data, seed
        self.tokens = Sequences.of_arrays(data, "tokens")
        self.num_items = int(data["num_items"])
        self._whole = self.num_items <= config.full_softmax_max_items
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
        continue_from(self.network, self.data)

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
        start, length = self.data["window.start"][windows], self.data["window.length"][windows]
        everything, _, _ = self._shown(start, length)
        answers = {
            name: int(np.isfinite(self.data[f"shown.{name}"][everything]).sum())
            for name in self.weights
        }
        # With fewer rows than workers some take part with a row that counts nothing.
        mine = slice(shard.index, None, shard.count) if shard.index < len(windows) else slice(1)
        counts = float(shard.index < len(windows))
        read = self._read(start[mine], length[mine], self._drawn(negatives_seed))
        losses = {"next_item": counts * self._next_item(read) / int(length.sum())}
        if self.weights:
            for name, loss in self._reactions(read).items():
                losses[name] = counts * loss / max(1, answers[name])
        return losses

    def _read(self, start: np.ndarray, length: np.ndarray, drawn: np.ndarray) -> _Read:
        """Encode some windows: of l pairs each, so l + 1 tokens, of which the last is no input."""
        device = self.network.items.embedding.weight.device
        index_BL, real_BL = padded(start, length)
        shown, shown_row, shown_column = self._shown(start, length)
        input_BL, target_T = self.tokens.items[index_BL], self.tokens.items[index_BL[real_BL] + 1]
        codes, own = self._at_hand(input_BL, target_T, self.data["shown.item"][shown], drawn)
        item_ND = self.network.items(
            None if codes is None else tensor(codes, device), vectors_of(self.data, codes, device)
        )
        input_BL = tensor(own(input_BL), device)
        return _Read(
            state_BLD=self.network.history(
                item_ND[input_BL], marks_of(self.tokens, index_BL, device)
            ),
            item_ND=item_ND,
            input_BL=input_BL,
            real_BL=tensor(real_BL, device),
            next_T=index_BL[real_BL] + 1,
            target_T=tensor(own(target_T), device),
            drawn_n=tensor(own(drawn), device),
            shown_X=shown,
            shown_row_X=tensor(shown_row, device),
            shown_column_X=tensor(shown_column, device),
            shown_item_X=tensor(own(self.data["shown.item"][shown]), device),
            hidden_B=torch.rand(len(start), device=device) < self.config.context_dropout,
        )

    def _next_item(self, read: _Read) -> Tensor:
        """Sum of the cross-entropies of the next likes."""
        row_T = read.real_BL.nonzero()[:, 0]
        query_TD = self.network.query(
            read.state_BLD[read.real_BL],
            *self._moment(
                self.tokens.marks.devices[read.next_T],
                self.tokens.marks.locations[read.next_T],
                self.tokens.times[read.next_T],
                read.hidden_B[row_T],
            ),
        )
        if self._whole:
            return softmax_loss(query_TD, read.item_ND[:-1], read.target_T)
        own_BN = torch.zeros(
            len(read.input_BL), len(read.item_ND), dtype=torch.bool, device=query_TD.device
        )
        own_BN.scatter_(1, read.input_BL, True)
        own_BN[row_T, read.target_T] = True
        own_BN = own_BN[:, :-1]
        return sampled_softmax(
            query_TD,
            read.target_T,
            read.item_ND[:-1],
            drawn_n=read.drawn_n,
            own_BN=own_BN,
            row_T=row_T,
            eligible_B=self.num_items - own_BN.sum(1),
        ).sum()

    def _reactions(self, read: _Read) -> dict[str, Tensor]:
        """Sum of the cross-entropies of what came of the items shown, by reaction."""
        shown = read.shown_X
        query_XD = self.network.query(
            read.state_BLD[read.shown_row_X, read.shown_column_X],
            *self._moment(
                self.data["shown.device"][shown],
                self.data["shown.location"][shown],
                self.data["shown.at"][shown],
                read.hidden_B[read.shown_row_X],
            ),
        )
        ties_X3 = tensor(self.data["shown.ties"][shown], query_XD.device)
        logit_XR = self.network.react(query_XD, read.item_ND[read.shown_item_X], ties_X3).float()
        losses = {}
        for name in self.weights:
            target_X = tensor(self.data[f"shown.{name}"][shown], logit_XR.device)
            known_X = target_X.isfinite()
            losses[name] = F.binary_cross_entropy_with_logits(
                logit_XR[:, REACTIONS.index(name)][known_X], target_X[known_X], reduction="sum"
            )
        return losses

    def validate(self, shard: Shard) -> tuple[float, int]:
        """NDCG@10 of the validation users, at a moment that nobody knows."""
        sequences = Sequences.of_arrays(self.data, "valid.tokens")
        table = item_table(self.network, self.data)

        def score(rows: np.ndarray) -> Tensor:
            state_BD = encode_last(self.network, table, sequences, rows, self.config)
            unknown_B = torch.full((len(rows),), -1, device=table.device)
            return self.network.query(state_BD, unknown_B, unknown_B, unknown_B) @ table[:-1].T

        return validation_ndcg(self.data, score, shard)

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
        if self._whole:
            return np.empty(0, np.int64)
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self.num_items, generator=generator)[: self.config.negatives].numpy()

    def _at_hand(self, *codes: np.ndarray) -> tuple[np.ndarray | None, Any]:
        """The items a batch needs (None: all), and what finds their places; a start comes last."""
        if self._whole:
            return None, np.asarray
        needed = np.unique(np.concatenate([part.ravel() for part in codes]))
        needed = needed[needed < self.num_items].astype(np.int64)
        return needed, lambda part: np.searchsorted(needed, part)

    def _moment(
        self, devices: np.ndarray, locations: np.ndarray, times: np.ndarray, hidden: Tensor
    ) -> tuple[Tensor, ...]:
        """Device, location and seconds, unknown where hidden."""
        parts = (devices, locations, times // SECOND)
        return tuple(tensor(part, hidden.device).long().masked_fill(hidden, -1) for part in parts)


def build_task(
    config: Mapping[str, Any], data: Mapping[str, np.ndarray], seed: int
) -> tuple[NextItemTask, LoopOptions]:
    """What a training worker builds from plain values."""
    parsed = TransformerConfig(**config)
    return NextItemTask(parsed, data, seed), LoopOptions.of(parsed, seed)


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
