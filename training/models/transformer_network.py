"""The network of the transformer: items, their media, a user's history, the moment, four answers.

An item is what its id has learnt plus what its media say, so one without history has a place too.
A history is read from left to right. Its state answers what comes next as a vector among the item
vectors, and, for one item shown, whether it is clicked, how much of it is watched, how it is rated.

- Sequence model: SASRec (Kang & McAuley 2018) with pre-norm blocks; or an LSTM, to compare.
- Cross-modal attention: one token a medium, as in multi-modal transformers (Tsai et al. 2019), but
  over the media of one item. A hidden medium is no key, so nobody reads from it.
- An id hidden at random while training makes media stand in for it (DropoutNet, Volkovs 2017).

Shape legend: B sequences, L positions, T real tokens of a batch, D model width, H heads, d = D / H,
N items at hand, M items the model knows, K media, P items with a medium, W its vectors' width,
X items shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.shown import TIES

REACTIONS = ("click", "watch", "rating")
"""What is answered of an item shown: P(click), watched share, rating as a share of the best."""

GAPS = 32
"""Buckets of the time since the event before: powers of two of a second, the last 34 years."""

_DAY, _WEEK = 86_400, 604_800
_MONDAY = 4 * _DAY
"""1970 began on a Thursday."""


@dataclass(frozen=True)
class TransformerConfig:
    """Options of the transformer."""

    encoder: Literal["transformer", "lstm"] = "transformer"
    width: int = 64
    layers: int = 2
    heads: int = 2
    item_layers: int = 1
    max_length: int = 50
    dropout: float = 0.2
    id_dropout: float = 0.1
    modality_dropout: float = 0.1
    context_dropout: float = 0.5
    click_weight: float = 0.1
    watch_weight: float = 0.1
    rating_weight: float = 0.1
    epochs: int = 20
    patience: int = 3
    batch_tokens: int = 4096
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    full_softmax_max_items: int = 10_000
    negatives: int = 1024
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    sharding: Literal["ddp", "fsdp"] = "ddp"
    warm_start: bool = False

    def __post_init__(self) -> None:
        for option in ("width", "layers", "heads", "max_length", "epochs", "batch_tokens"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, but it is {getattr(self, option)}.")
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, but {self.width} is not one of {self.heads}."
            )
        for option in ("dropout", "id_dropout", "modality_dropout"):
            if not 0 <= getattr(self, option) < 1:
                raise ValueError(f"{option} must be in [0, 1), but it is {getattr(self, option)}.")
        if not 0 <= self.context_dropout <= 1:
            raise ValueError(
                f"context_dropout must be in [0, 1], but it is {self.context_dropout}."
            )
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, but it is {self.learning_rate}.")
        for option in (
            *("item_layers", "patience", "weight_decay", "full_softmax_max_items"),
            *(f"{reaction}_weight" for reaction in REACTIONS),
        ):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, but it is {getattr(self, option)}.")
        if self.negatives < 1:
            raise ValueError(f"negatives must be at least 1, but it is {self.negatives}.")


@dataclass(frozen=True)
class Sizes:
    """What the data decide of the network; a part is built only where the data have it."""

    items: int
    event_types: int = 0
    """0: all events are of one kind."""
    watch: bool = False
    """Whether any watched share is known."""
    time: bool = False
    """Whether moments mean anything."""
    devices: int = 0
    locations: int = 0
    media: tuple[tuple[str, int], ...] = ()
    """Name and vector width of each medium, by name."""
    reactions: bool = False
    """Whether it is known what came of items shown."""


def attention(q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor, sees_BHLL: Tensor | None) -> Tensor:
    """(B, H, L, d): values by how well their keys fit; None: those at or before each position."""
    if q_BHLd.device.type != "cpu" or q_BHLd.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(
            q_BHLd, k_BHLd, v_BHLd, attn_mask=sees_BHLL, is_causal=sees_BHLL is None
        )
    # PyTorch's fused kernel takes thrice as long as plain products where a CPU has bfloat16.
    if sees_BHLL is None:
        sees_BHLL = q_BHLd.new_ones(q_BHLd.shape[2], k_BHLd.shape[2], dtype=torch.bool).tril()
    fit_BHLL = (q_BHLd / q_BHLd.shape[3] ** 0.5) @ k_BHLd.transpose(2, 3)
    return fit_BHLL.masked_fill(~sees_BHLL, -torch.inf).softmax(3).to(v_BHLd.dtype) @ v_BHLd


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`F.dropout`; PyTorch's own draws its masks on a CPU at a third of the speed of numbers."""
    if not training or not rate or x.device.type != "cpu":
        return F.dropout(x, rate, training)
    return x * (torch.rand_like(x, dtype=torch.float32) >= rate) * (1 / (1 - rate))


class Block(nn.Module):
    """Pre-norm self-attention, then a two-layer perceptron, each with a residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.attention_out = nn.Linear(config.width, config.width)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
        )
        for linear in (self.attention_out, self.mlp[2]):
            nn.init.normal_(linear.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, x_BLD: Tensor, sees_BLL: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D); a position sees positions <= its own, or those of `sees_BLL`."""
        B, L, D = x_BLD.shape
        qkv = self.query_key_value(self.attention_norm(x_BLD))
        q_BHLd, k_BHLd, v_BHLd = qkv.view(B, L, 3, self.heads, D // self.heads).permute(
            2, 0, 3, 1, 4
        )
        sees_BHLL = None if sees_BLL is None else sees_BLL[:, None]
        mixed_BHLd = attention(q_BHLd, k_BHLd, v_BHLd, sees_BHLL)
        mixed_BLD = self.attention_out(mixed_BHLd.transpose(1, 2).reshape(B, L, D))
        x_BLD = x_BLD + dropout(mixed_BLD, self.dropout, self.training)
        return x_BLD + dropout(self.mlp(self.mlp_norm(x_BLD)), self.dropout, self.training)


class ItemEncoder(nn.Module):
    """Item vectors: an embedding of the id, plus the media seen through each other."""

    def __init__(self, config: TransformerConfig, sizes: Sizes) -> None:
        super().__init__()
        self.id_dropout, self.modality_dropout = config.id_dropout, config.modality_dropout
        # The row after the items starts every sequence.
        self.embedding = nn.Embedding(sizes.items + 1, config.width)
        # Logits start near 0: the states have length sqrt(D) after the last norm.
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.media = [name for name, _ in sizes.media]
        if self.media:
            self.project = nn.ModuleDict(
                {name: nn.Linear(width, config.width) for name, width in sizes.media}
            )
            self.medium = nn.Parameter(0.02 * torch.randn(len(self.media), config.width))
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.item_layers))
            self.norm = nn.LayerNorm(config.width)
            self.out = nn.Linear(config.width, config.width, bias=False)
            nn.init.normal_(self.out.weight, std=0.02 / config.width**0.5)

    def content(self, vectors: Mapping[str, tuple[Tensor, Tensor]], count: int) -> Tensor:
        """What the media of `count` items say: (N, D), zeros for an item without any.

        Args:
            vectors: medium -> which items have it, (P,) int64 places among the N, and its vectors
                (P, W); a medium may be left out.
            count: N.

        Raises:
            ValueError: vectors of a medium have another width than it was built for.
        """
        K, D = self.medium.shape
        x_NKD = self.medium.new_zeros(count, K, D)
        there_NK = torch.zeros(count, K, dtype=torch.bool, device=x_NKD.device)
        for k, name in enumerate(self.media):
            if name not in vectors:
                continue
            place_P, vector_PW = vectors[name]
            if vector_PW.shape[1] != self.project[name].in_features:
                raise ValueError(
                    f"The vectors {name} have {vector_PW.shape[1]} numbers, but the network reads "
                    f"{self.project[name].in_features} of each."
                )
            # Encoders differ in scale, and some dimensions dwarf the others: the norm evens both.
            token_PD = self.project[name](F.layer_norm(vector_PW.float(), vector_PW.shape[1:]))
            x_NKD[place_P, k] = (token_PD + self.medium[k]).to(x_NKD.dtype)
            there_NK[place_P, k] = True
        if self.training and self.modality_dropout:
            hidden_NK = torch.rand(there_NK.shape, device=x_NKD.device) < self.modality_dropout
            # One medium of each item stays: an item of one medium would else seem to have none.
            hidden_NK[
                torch.arange(count), (there_NK * torch.rand_like(x_NKD[:, :, 0])).argmax(1)
            ] = False
            there_NK &= ~hidden_NK
        itself_KK = torch.eye(K, dtype=torch.bool, device=x_NKD.device)
        for block in self.blocks:
            x_NKD = block(x_NKD, there_NK[:, None, :] | itself_KK)
        number_N1 = there_NK.sum(1, keepdim=True)
        mean_ND = (x_NKD * there_NK[:, :, None]).sum(1) / number_N1.clamp(min=1)
        return self.out(self.norm(mean_ND)) * (number_N1 > 0)

    def forward(
        self, code_N: Tensor | None, vectors: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """(N + 1, D): the vectors of some items (None: of all), and the start of a sequence."""
        weight = self.embedding.weight
        if code_N is not None:
            start_1 = torch.full((1,), len(weight) - 1, device=weight.device)
            weight = self.embedding(torch.cat([code_N, start_1]))
        if not self.media:
            return weight
        count = len(weight) - 1
        content_ND = self.content(vectors, count)
        id_ND = weight[:-1]
        if self.training and self.id_dropout:
            has_content_N1 = (content_ND != 0).any(1, keepdim=True)
            hidden_N1 = torch.rand(count, 1, device=weight.device) < self.id_dropout
            id_ND = id_ND.masked_fill(has_content_N1 & hidden_N1, 0.0)
        return torch.cat([id_ND + content_ND, weight[-1:]])


class HistoryEncoder(nn.Module):
    """A user's state after each event, from what was done with which item, and when."""

    def __init__(self, config: TransformerConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        if config.encoder == "lstm":
            self.lstm = nn.LSTM(config.width, config.width, config.layers, batch_first=True)
            self.blocks = nn.ModuleList()
        else:
            self.position = nn.Embedding(config.max_length, config.width)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.event_type = (
            nn.Embedding(sizes.event_types, config.width) if sizes.event_types else None
        )
        self.watch = nn.Linear(2, config.width, bias=False) if sizes.watch else None
        self.gap = nn.Embedding(GAPS, config.width) if sizes.time else None
        self.clock = nn.Linear(4, config.width, bias=False) if sizes.time else None
        self.norm = nn.LayerNorm(config.width)
        for name, parameter in self.named_parameters():
            if name.split(".")[0] in {"position", "event_type", "watch", "gap", "clock"}:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, item_BLD: Tensor, marks: Mapping[str, Tensor]) -> Tensor:
        """State after each event: (B, L, D).

        Args:
            item_BLD: (B, L, D) vectors of the items.
            marks: of each event, (B, L) each: `type` int64; `watch` float, NaN where unknown;
                `at` and `gap` int64 seconds, since 1970 and since the event before.
        """
        x_BLD = item_BLD
        if self.config.encoder == "transformer":
            x_BLD = x_BLD + self.position.weight[: item_BLD.shape[1]]
        if self.event_type is not None:
            x_BLD = x_BLD + self.event_type(marks["type"])
        if self.watch is not None:
            known_BL = marks["watch"].isfinite()
            share_BL = torch.where(known_BL, marks["watch"], 0.0)
            x_BLD = x_BLD + self.watch(torch.stack([share_BL, known_BL.float()], -1))
        if self.gap is not None and self.clock is not None:
            bucket_BL = torch.log2(marks["gap"].clamp(min=0).float() + 1).long()
            x_BLD = x_BLD + self.gap(bucket_BL.clamp(max=GAPS - 1)) + self.clock(clock(marks["at"]))
        x_BLD = dropout(x_BLD, self.config.dropout, self.training)
        if self.config.encoder == "lstm":
            x_BLD = x_BLD + self.lstm(x_BLD)[0]
        for block in self.blocks:
            if self.config.activation_checkpointing and self.training:
                x_BLD = checkpoint(block, x_BLD, use_reentrant=False)
            else:
                x_BLD = block(x_BLD)
        return self.norm(x_BLD)


class ContextEncoder(nn.Module):
    """Where and when an item is shown; each of the three unknown has a vector of its own."""

    def __init__(self, config: TransformerConfig, sizes: Sizes) -> None:
        super().__init__()
        # The last row of each stands for unknown.
        self.device = nn.Embedding(sizes.devices + 1, config.width)
        self.location = nn.Embedding(sizes.locations + 1, config.width)
        self.clock = nn.Linear(4, config.width, bias=False)
        self.timeless = nn.Parameter(torch.empty(config.width))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, device: Tensor, location: Tensor, at: Tensor) -> Tensor:
        """(...) int64 codes, -1 unknown; `at` seconds since 1970, below 0 unknown -> (..., D)."""
        when = torch.where((at >= 0)[..., None], self.clock(clock(at)), self.timeless)
        return (
            when
            + self.device(device.where(device >= 0, self.device.num_embeddings - 1))
            + self.location(location.where(location >= 0, self.location.num_embeddings - 1))
        )


class Network(nn.Module):
    """Everything that is learnt."""

    def __init__(self, config: TransformerConfig, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.items = ItemEncoder(config, sizes)
        self.history = HistoryEncoder(config, sizes)
        self.context = ContextEncoder(config, sizes) if has_context(sizes) else None
        self.reactions = (
            nn.Sequential(
                nn.Linear(3 * config.width + TIES, config.width),
                nn.GELU(),
                nn.Linear(config.width, len(REACTIONS)),
            )
            if sizes.reactions
            else None
        )

    def query(self, state: Tensor, device: Tensor, location: Tensor, at: Tensor) -> Tensor:
        """(..., D): a user's state where and when something is shown."""
        if self.context is None:
            return state
        return state + self.context(device, location, at)

    def react(self, query_XD: Tensor, item_XD: Tensor, ties_X3: Tensor) -> Tensor:
        """(X, 3) logits of `REACTIONS`; for the ties see `training.shown`."""
        assert self.reactions is not None, "nothing came of what was shown, as far as is known"
        return self.reactions(torch.cat([query_XD, item_XD, query_XD * item_XD, ties_X3], 1))


def has_context(sizes: Sizes) -> bool:
    """Whether the data know anything of where and when."""
    return bool(sizes.time or sizes.devices or sizes.locations)


def clock(at: Tensor) -> Tensor:
    """Time of day and of week (UTC) on circles: (...) seconds -> (..., 4), 23:59 beside 00:00."""
    angles = [
        ((at - _MONDAY) % period).float() * (2 * math.pi / period) for period in (_DAY, _WEEK)
    ]
    return torch.stack([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], -1)
