"""Next-item transformer: a causal self-attention encoder of what a user liked, in order.

SASRec (Kang & McAuley 2018) with pre-norm blocks and cross-entropy in place of the original
binary loss, which alone is worth most of the published gains (Klenitskiy & Vasilev 2023).

A sequence begins with a learned start token, so the first item is predicted too and an empty
history has an encoding. Sequences are padded on the right: causal attention keeps real tokens
from seeing padding, and the loss only reads real tokens.

Shape legend: B sequences, L positions, T real tokens of a batch, D model width, H heads,
M items the model knows, n sampled negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import fit_network
from training.loop import LoopOptions, Shard, Trainable, ndcg_sum
from training.models.base import FitContext, Model, train_items
from training.models.sequences import (
    dense_mask,
    length_buckets,
    padded,
    sequences_of,
    validation_arrays,
    windows_of,
)
from training.snapshot import Histories, Snapshot

_SCORE_TOKENS = 16_384
"""Padded tokens encoded at once when scoring: bounds memory, not results."""
_BUCKET_POOL = 64
_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class TransformerConfig:
    """Options of the next-item transformer."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    max_length: int = 50
    dropout: float = 0.2
    epochs: int = 20
    patience: int = 3
    batch_tokens: int = 4096
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    full_softmax_max_items: int = 10_000
    negatives: int = 1024
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for option in ("width", "layers", "heads", "max_length", "epochs", "batch_tokens"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} must be at least 1, but it is {getattr(self, option)}.")
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, but {self.width} is not one of {self.heads}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), but it is {self.dropout}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, but it is {self.learning_rate}.")
        for option in ("patience", "weight_decay", "full_softmax_max_items"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, but it is {getattr(self, option)}.")
        if self.negatives < 1:
            raise ValueError(f"negatives must be at least 1, but it is {self.negatives}.")


class Block(nn.Module):
    """Pre-norm causal self-attention, then a two-layer perceptron, each with a residual."""

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

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D); position l sees positions <= l."""
        B, L, D = x_BLD.shape
        qkv = self.query_key_value(self.attention_norm(x_BLD))
        q_BHLd, k_BHLd, v_BHLd = qkv.view(B, L, 3, self.heads, D // self.heads).permute(
            2, 0, 3, 1, 4
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHLd = F.scaled_dot_product_attention(
            q_BHLd, k_BHLd, v_BHLd, is_causal=True, dropout_p=dropout
        )
        mixed_BLD = self.attention_out(mixed_BHLd.transpose(1, 2).reshape(B, L, D))
        x_BLD = x_BLD + F.dropout(mixed_BLD, self.dropout, self.training)
        return x_BLD + F.dropout(self.mlp(self.mlp_norm(x_BLD)), self.dropout, self.training)


class Encoder(nn.Module):
    """Item codes in, hidden states out; code M is the start token."""

    def __init__(self, config: TransformerConfig, num_items: int) -> None:
        super().__init__()
        self.num_items, self.dropout = num_items, config.dropout
        self.embedding = nn.Embedding(num_items + 1, config.width)
        self.position = nn.Embedding(config.max_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        # Logits start near 0: the states have length sqrt(D) after the last norm.
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)
        for block in self.blocks:
            for linear in (block.attention_out, block.mlp[2]):
                nn.init.normal_(linear.weight, std=0.02 / (2 * config.layers) ** 0.5)

    @property
    def item_MD(self) -> Tensor:  # noqa: N802 (arrays wear their shape)
        """The output table is the input table without the start token."""
        return self.embedding.weight[: self.num_items]

    def forward(self, code_BL: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, D)."""
        x_BLD = self.embedding(code_BL) + self.position.weight[: code_BL.shape[1]]
        x_BLD = F.dropout(x_BLD, self.dropout, self.training)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.norm(x_BLD)


class NextItemTask(Trainable):
    """The encoder with its windows, its loss and its validation users."""

    def __init__(
        self, config: TransformerConfig, data: Mapping[str, np.ndarray], seed: int
    ) -> None:
        super().__init__()
        self.config, self.data, self.seed = config, data, seed
        self.encoder = Encoder(config, int(data["num_items"]))

    def batches(self, epoch: int) -> Sequence[tuple[np.ndarray, int]]:
        """Window numbers of each batch with the seed of its negatives."""
        rng = np.random.default_rng([self.seed, epoch])
        buckets = length_buckets(
            self.data["window_length"], self.config.batch_tokens, _BUCKET_POOL, rng
        )
        return [(windows, int(rng.integers(2**62))) for windows in buckets]

    def forward(self, batch: tuple[np.ndarray, int], shard: Shard) -> Tensor:
        """Mean cross-entropy of the next item over the real tokens of the batch."""
        windows, negatives_seed = batch
        tokens = int(self.data["window_length"][windows].sum())
        start = self.data["window_start"][windows[shard.index :: shard.count]]
        length = self.data["window_length"][windows[shard.index :: shard.count]]
        if not len(start):  # fewer rows than workers: take part in the sum with nothing
            return sum(parameter.sum() for parameter in self.parameters()) * 0.0
        device = self.encoder.embedding.weight.device
        # A window of l pairs is l + 1 tokens: inputs without the last, targets without the first.
        code_BL, real_BL = (
            torch.from_numpy(array).to(device)
            for array in padded(self.data["tokens"], start, length + 1)
        )
        hidden_TD = self.encoder(code_BL[:, :-1])[real_BL[:, 1:]]
        target_T = code_BL[:, 1:][real_BL[:, 1:]]
        if self.encoder.num_items <= self.config.full_softmax_max_items:
            loss_T = F.cross_entropy(hidden_TD @ self.encoder.item_MD.T, target_T, reduction="none")
        else:
            loss_T = sampled_softmax(
                hidden_TD,
                target_T,
                self.encoder.item_MD,
                own_BL=torch.where(real_BL, code_BL, self.encoder.num_items),
                row_T=real_BL[:, 1:].nonzero()[:, 0],
                negatives=self.config.negatives,
                seed=negatives_seed,
            )
        return loss_T.float().sum() / tokens

    def validate(self, shard: Shard) -> tuple[float, int]:
        """NDCG@10 of the items liked in the validation part, seen items left out."""
        users = np.arange(len(self.data["valid.tokens.offsets"]) - 1)[shard.index :: shard.count]
        device = self.encoder.embedding.weight.device
        total = 0.0
        for start in range(0, len(users), _VALIDATION_BATCH):
            rows = users[start : start + _VALIDATION_BATCH]
            state_BD = encode_last(
                self.encoder,
                self.data["valid.tokens"],
                self.data["valid.tokens.offsets"][rows],
                self.data["valid.tokens.offsets"][rows + 1],
                self.config.max_length,
            )
            seen_BM, relevant_BM = (
                torch.from_numpy(
                    dense_mask(
                        self.data[f"valid.{part}"],
                        self.data[f"valid.{part}.offsets"],
                        rows,
                        self.encoder.num_items,
                    )
                ).to(device)
                for part in ("seen", "relevant")
            )
            total += float(ndcg_sum(state_BD @ self.encoder.item_MD.T, seen_BM, relevant_BM))
        return total, len(users)


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
    )
    return NextItemTask(parsed, data, seed), options


def sampled_softmax(
    hidden_TD: Tensor,
    target_T: Tensor,
    item_MD: Tensor,
    *,
    own_BL: Tensor,
    row_T: Tensor,
    negatives: int,
    seed: int,
) -> Tensor:
    """Cross-entropy against uniform negatives shared by the batch, with the logQ correction.

    As in SASRec no negative is an item of the token's own window. With m eligible items in the
    catalogue and n of them sampled, adding log(m / n) to each negative's logit makes
    `exp(positive) + sum exp(negatives)` an unbiased estimate of the full softmax's denominator
    over the eligible items (Bengio & Senecal 2008).

    Args:
        hidden_TD: (T, D) states.
        target_T: (T,) the next items.
        item_MD: (M, D) output table.
        own_BL: (B, L) items of each window, M where there is none.
        row_T: (T,) the window each token belongs to.
        negatives: how many are drawn without replacement, at most M.
        seed: of the draw, the same on every worker.

    Returns:
        (T,) losses.
    """
    M, device = len(item_MD), item_MD.device
    generator = torch.Generator().manual_seed(seed)
    drawn_n = torch.randperm(M, generator=generator)[:negatives].to(device)
    own_BM = torch.zeros(len(own_BL), M + 1, dtype=torch.bool, device=device)
    own_BM = own_BM.scatter_(1, own_BL, True)[:, :M]
    taken_Bn = own_BM[:, drawn_n]
    eligible_B = M - own_BM.sum(1)
    sampled_B = (~taken_Bn).sum(1).clamp(min=1)
    shift_Bn = torch.log(eligible_B / sampled_B)[:, None].masked_fill(taken_Bn, -torch.inf)
    positive_T = (hidden_TD * item_MD[target_T]).sum(1).float()
    negative_Tn = (hidden_TD @ item_MD[drawn_n].T).float() + shift_Bn[row_T]
    logit_TN = torch.cat([positive_T[:, None], negative_Tn], 1)
    return logit_TN.logsumexp(1) - positive_T


def encode_last(
    encoder: Encoder, tokens: np.ndarray, begin: np.ndarray, stop: np.ndarray, max_length: int
) -> Tensor:
    """(B, D) state after the last token of each sequence `tokens[begin:stop]`, none empty."""
    length = np.minimum(stop - begin, max_length)
    order = np.argsort(length, kind="stable")
    weight = encoder.embedding.weight
    state_BD = torch.empty(len(length), weight.shape[1], device=weight.device)
    first = 0
    while first < len(order):
        # Ascending lengths: grow the block while rows x longest row stays within the budget.
        size = np.arange(1, len(order) - first + 1) * length[order[first:]]
        count = max(1, int(np.searchsorted(size, _SCORE_TOKENS, side="right")))
        rows = order[first : first + count]
        code_BL, _ = padded(tokens, stop[rows] - length[rows], length[rows])
        hidden_BLD = encoder(torch.from_numpy(code_BL).to(weight.device))
        last_B = torch.from_numpy(length[rows] - 1).to(weight.device)
        state_BD[torch.from_numpy(rows).to(weight.device)] = hidden_BLD[
            torch.arange(len(rows), device=weight.device), last_B
        ].float()
        first += count
    return state_BD


class Transformer(Model):
    """Scores are inner products of the encoded history with the tied item embedding."""

    name: ClassVar[str] = "transformer"
    config_class: ClassVar[type[TransformerConfig]] = TransformerConfig

    def __init__(
        self, config: TransformerConfig, item_ids: np.ndarray, weights: dict[str, np.ndarray]
    ) -> None:
        super().__init__(config, item_ids)
        with torch.device("meta"):  # no memory and no random numbers for weights that are given
            self.encoder = Encoder(config, len(item_ids))
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        self.encoder.load_state_dict(tensors, assign=True)
        self.encoder.eval()

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: TransformerConfig, context: FitContext) -> Self:
        item_ids, _ = train_items(snapshot, snapshot.positives(None, snapshot.valid_start))
        everyone = snapshot.histories(np.arange(len(snapshot.user_ids)), snapshot.valid_start)
        tokens, offsets = sequences_of(everyone.positives(item_ids))
        window_start, window_length = windows_of(offsets, config.max_length)
        weights, facts = fit_network(
            builder="training.models.transformer:build_task",
            name=cls.name,
            config=asdict(config),
            data={
                "num_items": np.array(len(item_ids)),
                "tokens": tokens,
                "window_start": window_start,
                "window_length": window_length,
                **validation_arrays(snapshot, item_ids, context.seed),
            },
            context=context,
        )
        prefix = "encoder."
        model = cls(
            config, item_ids, {key.removeprefix(prefix): value for key, value in weights.items()}
        )
        model.fit_facts = facts
        return model

    def _score(self, histories: Histories) -> np.ndarray:
        return self._states(histories) @ self.item_vectors().T

    def item_vectors(self) -> np.ndarray:
        """(M, D): the tied embedding."""
        return self.encoder.item_MD.detach().numpy()

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """(B, D): the state after the last `max_length` positives; finite for no history."""
        return self._states(histories.positives(self.item_ids))

    def _states(self, histories: Histories) -> np.ndarray:
        tokens, offsets = sequences_of(histories)
        with torch.no_grad():
            return encode_last(
                self.encoder, tokens, offsets[:-1], offsets[1:], self.config.max_length
            ).numpy()

    def _tensors(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.encoder.state_dict().items()}

    @classmethod
    def _restore(
        cls,
        config: TransformerConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], tensors)
