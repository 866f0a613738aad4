"""A plain PyTorch training loop: epochs, early stopping, checkpoints. It knows no Ray.

Every worker makes the same global batch and works on its share of the rows; the loss is already
divided by the weight of the whole batch. So the sum of the workers' gradients is the gradient of
the joined batch, whatever the number of workers, and that number changes the speed but not what
is learnt.

Only torch, numpy and safetensors are imported: this is what a Ray worker pays before it starts.

Shape legend: B users, M items, K length of the judged list.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.adamw import adamw

VALIDATION_K = 10
_CLIP_NORM = 5.0
_WARMUP_SHARE = 0.05
_FINAL_RATE = 0.05


class TrainingDivergedError(ValueError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class LoopOptions:
    """How to train; what is trained is the `Trainable`."""

    seed: int
    epochs: int
    patience: int
    """Epochs without a better validation NDCG@10 before stopping; 0 trains all epochs."""
    learning_rate: float
    weight_decay: float
    precision: str = "float32"
    """float32, or bfloat16 for autocast."""
    sharding: str = "ddp"
    """ddp: each worker holds all weights. fsdp: each holds a part of them and of what AdamW knows
    (FSDP2, Zhao et al. 2023), and gathers a block's weights while it works on it; then workers but
    the first may bring a network on the meta device."""

    @classmethod
    def of(cls, config: Any, seed: int) -> Self:
        """Those that a model's configuration has, by their names."""
        named = {
            part.name: getattr(config, part.name)
            for part in fields(cls)
            if part.name in vars(config)
        }
        return cls(**{**named, "seed": seed})


@dataclass(frozen=True)
class Shard:
    """The part of every batch that one worker takes: rows `index::count`."""

    index: int = 0
    count: int = 1


class Trainable(nn.Module, ABC):
    """A network with its batches, its loss and its validation."""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Any]:
        """The global batches of an epoch: the same on every worker, a function of the seed."""

    @abstractmethod
    def forward(self, batch: Any, shard: Shard) -> Tensor:
        """Sum of the losses of the shard's rows divided by the weight of the whole batch: ()."""

    @abstractmethod
    def validate(self, shard: Shard) -> tuple[float, int]:
        """Sum of NDCG@10 over the shard's validation users, and how many they are."""

    def parts(self) -> Sequence[nn.Module]:
        """Modules that are gathered one at a time when weights are sharded."""
        return []


@dataclass
class State:
    """Where a training is; with the weights and the optimizer's moments, a checkpoint."""

    epoch: int = 0
    """Finished epochs."""
    best_epoch: int = 0
    best_score: float = -1.0
    last_loss: float = math.nan
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)
    """[epoch, training loss, validation NDCG@10 or None] of each finished epoch."""

    def stopped(self, options: LoopOptions) -> bool:
        """Whether early stopping has been reached."""
        return 0 < options.patience <= self.epoch - self.best_epoch and self.best_score >= 0


@dataclass(frozen=True)
class EpochReport:
    """What one epoch brought."""

    epoch: int
    epochs: int
    loss: float
    score: float | None
    """NDCG@10 over the validation users; None when there are none."""
    seconds: float

    def line(self, name: str) -> str:
        """One printable line."""
        valid = "no valid users" if self.score is None else f"valid ndcg@10 {self.score:.4f}"
        return (
            f"{name}  epoch {self.epoch}/{self.epochs}  loss {self.loss:.4f}  {valid}  "
            f"{self.seconds:.1f} s"
        )


@dataclass
class Trained:
    """The best weights of a training and how it went."""

    weights: dict[str, Tensor] = field(repr=False)
    """On worker 0; the others hold none, for whole ones may be larger than their share."""
    state: State


def train(
    trainable: Trainable,
    options: LoopOptions,
    *,
    checkpoint: Path,
    shard: Shard | None = None,
    device: str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> Trained:
    """Train to the end or to early stopping, from the checkpoint if there is one.

    With `shard.count` > 1 the default process group must be up; gradients are summed by
    DistributedDataParallel or FSDP2. A resumed training ends with the weights of an uninterrupted
    one, whatever the number of workers that wrote the checkpoint.

    Args:
        trainable: the network; moved to the device, or only this worker's part of it. All workers
            begin with the weights of worker 0.
        options: how to train.
        checkpoint: file written after every epoch by worker 0 and read by all on a restart.
        shard: which worker this is.
        device: a torch device.
        on_epoch: called by worker 0 after the checkpoint of each epoch.

    Raises:
        TrainingDivergedError: the loss became infinite or not a number.
    """
    shard = shard or Shard()
    _seed(options.seed, 0, 0)
    state, best = State(), _copy(trainable.state_dict(), shard)
    if checkpoint.exists():
        state, best = _load_weights(checkpoint, trainable, shard)
    wrapped = _placed(trainable, options, shard, device)
    optimizer = AdamW(trainable, options)
    if checkpoint.exists():
        _load_moments(checkpoint, optimizer)
    while state.epoch < options.epochs and not state.stopped(options):
        started = time.perf_counter()
        # Dropout differs between workers; everything else is drawn from seeds of the batch.
        _seed(options.seed, state.epoch + 1, shard.index)
        loss = _epoch(wrapped, trainable, optimizer, options, shard, state.epoch, device)
        score = _validate(trainable, shard, device)
        state.epoch += 1
        state.last_loss = loss
        state.curve.append([state.epoch, loss, score])
        weights = _copy(trainable.state_dict(), shard)
        if score is None or score > state.best_score:
            state.best_epoch = state.epoch
            state.best_score = -1.0 if score is None else score
            best = deepcopy(weights)  # a file holds no tensor under two names
        seconds = time.perf_counter() - started
        state.seconds += seconds
        moments = _copy(optimizer.named(), shard)
        if shard.index == 0:
            _save(checkpoint, state, weights=weights, best=best, optimizer=moments)
            if on_epoch:
                on_epoch(EpochReport(state.epoch, options.epochs, loss, score, seconds))
    return Trained(best, state)


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) by PyTorch's fused kernel, its state as plain tensors.

    The functional form, because making a `torch.optim.AdamW` imports torch._dynamo: three
    CPU-seconds in every new worker, more than an epoch of a small model.
    """

    def __init__(self, trainable: nn.Module, options: LoopOptions) -> None:
        self.options = options
        self.parameters = list(trainable.parameters())
        self.state = {
            "mean": [torch.zeros_like(parameter) for parameter in self.parameters],
            "square": [torch.zeros_like(parameter) for parameter in self.parameters],
            "step": [torch.zeros((), device=parameter.device) for parameter in self.parameters],
        }

    def named(self) -> dict[str, Tensor]:
        """The state by slot and number of the parameter."""
        return {
            f"{slot}.{index}": value
            for slot, values in self.state.items()
            for index, value in enumerate(values)
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter with `rate` times the learning rate."""
        adamw(
            self.parameters,
            [parameter.grad for parameter in self.parameters],
            self.state["mean"],
            self.state["square"],
            [],
            self.state["step"],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=0.9,
            beta2=0.98,
            eps=1e-8,
            lr=self.options.learning_rate * rate,
            weight_decay=self.options.weight_decay,
        )


def ndcg_sum(score_BM: Tensor, seen_BM: Tensor, relevant_BM: Tensor) -> Tensor:
    """Sum over users of NDCG@10 in the full ranking of unseen items (binary relevance).

    Args:
        score_BM: (B, M) float scores.
        seen_BM: (B, M) bool, items left out of the ranking.
        relevant_BM: (B, M) bool, at least one unseen item of each user.

    Returns:
        () float64: each user's DCG@10 over the best DCG@10 that user could have, summed.
    """
    depth = min(VALIDATION_K, score_BM.shape[1])
    top_BK = score_BM.masked_fill(seen_BM, -torch.inf).topk(depth, dim=1).indices
    gain_K = 1 / torch.log2(torch.arange(2, depth + 2, device=score_BM.device).double())
    dcg_B = (relevant_BM.gather(1, top_BK) * gain_K).sum(1)
    number_B = relevant_BM.sum(1).clamp(max=depth)
    return (dcg_B / gain_K.cumsum(0)[number_B - 1]).sum()


def _epoch(
    wrapped: nn.Module,
    trainable: Trainable,
    optimizer: AdamW,
    options: LoopOptions,
    shard: Shard,
    epoch: int,
    device: str,
) -> float:
    """One pass over the data; returns the mean of the batch losses."""
    trainable.train()
    batches = trainable.batches(epoch)
    total = torch.zeros((), device=device)
    for step, batch in enumerate(batches):
        done = (epoch + step / len(batches)) / options.epochs
        trainable.zero_grad()  # before FSDP swaps its parts of the weights for whole ones
        with _precision(options, device):
            loss = wrapped(batch, shard)
        # DistributedDataParallel averages over the workers, the joined batch needs the sum.
        (loss * shard.count).backward()
        nn.utils.clip_grad_norm_(trainable.parameters(), _CLIP_NORM)
        optimizer.step(_rate(done))
        total += loss.detach().float()
    if shard.count > 1:
        dist.all_reduce(total)
    mean = float(total) / max(1, len(batches))
    if not math.isfinite(mean):
        raise TrainingDivergedError(
            f"The loss of epoch {epoch + 1} is {mean}: the training diverged. Lower the "
            f"learning_rate (it is {options.learning_rate:g})."
        )
    return mean


def _rate(done: float) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine down to a small rest."""
    if done < _WARMUP_SHARE:
        return (done + 0.001) / (_WARMUP_SHARE + 0.001)
    phase = (done - _WARMUP_SHARE) / (1 - _WARMUP_SHARE)
    return _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * phase))


def _validate(trainable: Trainable, shard: Shard, device: str) -> float | None:
    trainable.eval()
    with torch.no_grad(), _gathered(trainable):
        total, users = trainable.validate(shard)
    if shard.count > 1:
        both = torch.tensor([total, users], dtype=torch.float64, device=device)
        dist.all_reduce(both)
        total, users = both.tolist()
    return total / users if users else None


@contextmanager
def _gathered(trainable: Any) -> Iterator[None]:
    """Let weights that do not belong to one of the parts be whole on every worker."""
    if not hasattr(trainable, "unshard"):
        yield
        return
    trainable.unshard()
    yield
    trainable.reshard()


def _placed(trainable: Trainable, options: LoopOptions, shard: Shard, device: str) -> nn.Module:
    """The network on the device, its gradients summed over the workers."""
    if shard.count == 1:
        return trainable.to(device)
    if options.sharding == "fsdp":
        return _sharded(trainable, shard, device)
    devices = [torch.device(device)] if device.startswith("cuda") else None
    return nn.parallel.DistributedDataParallel(trainable.to(device), device_ids=devices)


def _sharded(trainable: Trainable, shard: Shard, device: str) -> nn.Module:
    """The network in parts, filled from worker 0's weights: whole it may not fit a GPU."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = trainable.state_dict() if shard.index == 0 else {}
    trainable.to("meta")
    mesh = init_device_mesh(torch.device(device).type, (shard.count,))
    for part in [*trainable.parts(), trainable]:
        fully_shard(part, mesh=mesh)
    trainable.to_empty(device=device)
    from_first = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(trainable, whole, options=from_first)
    return trainable


def _precision(options: LoopOptions, device: str) -> Any:
    if options.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, options.precision))


def _seed(seed: int, epoch: int, worker: int) -> None:
    torch.manual_seed((seed * 1_000_003 + epoch) * 1_009 + worker)


def _copy(tensors: Mapping[str, Any], shard: Shard) -> dict[str, Tensor]:
    """Whole tensors in worker 0's memory; each worker may hold a part, so all must ask."""
    copies = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        if shard.index == 0:
            copies[name] = whole.detach().to("cpu", copy=True)
    return copies


def _save(path: Path, state: State, **groups: Mapping[str, Tensor]) -> None:
    """Weights, optimizer state and position in one safetensors file, replaced as a whole."""
    tensors = {f"{kind}.{name}": v for kind, group in groups.items() for name, v in group.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"state": json.dumps(asdict(state))})
    partial.replace(path)


def _load_weights(
    path: Path, trainable: Trainable, shard: Shard
) -> tuple[State, dict[str, Tensor]]:
    """Set worker 0's weights, which the others get from it; returns the position and the best."""
    found: dict[str, dict[str, Tensor]] = {} if shard.index else {"weights": {}, "best": {}}
    with safe_open(path, framework="pt", device="cpu") as file:
        state = State(**json.loads(file.metadata()["state"]))
        for key in file.keys():  # noqa: SIM118 (the file is no dict)
            kind, name = key.split(".", 1)
            if kind in found:
                found[kind][name] = file.get_tensor(key)
    if found:
        trainable.load_state_dict(found["weights"])
    return state, found.get("best", {})


def _load_moments(path: Path, optimizer: AdamW) -> None:
    with safe_open(path, framework="pt", device="cpu") as file, torch.no_grad():
        for name, value in optimizer.named().items():
            given = file.get_tensor(f"optimizer.{name}")
            if hasattr(value, "device_mesh"):
                from torch.distributed.tensor import distribute_tensor

                mesh, placements = value.device_mesh, value.placements
                given = distribute_tensor(given.to(value.device), mesh, placements)
            value.copy_(given)
