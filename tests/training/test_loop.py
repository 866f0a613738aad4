"""The plain training loop: optimizer, checkpoints, early stopping, shares of a batch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.loop import (
    AdamW,
    EpochReport,
    LoopOptions,
    Shard,
    Trainable,
    TrainingDivergedError,
    ndcg_sum,
    train,
)
from training.models.gnn import LightGCNConfig, LinkTask
from training.models.transformer import NextItemTask, TransformerConfig

OPTIONS = LoopOptions(seed=1, epochs=6, patience=0, learning_rate=0.1, weight_decay=0.01)


class Regression(Trainable):
    """Ten points on a line; validation scores come from a script, one an epoch."""

    def __init__(self, scores: Sequence[float] = (), scale: float = 1.0) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(self.line.weight)
        torch.nn.init.zeros_(self.line.bias)
        self.scores, self.scale, self.validated = list(scores), scale, 0

    def batches(self, epoch: int) -> list[np.ndarray]:
        return list(np.random.default_rng([1, epoch]).permutation(10).reshape(5, 2))

    def forward(self, batch: np.ndarray, shard: Shard) -> Tensor:
        mine = torch.from_numpy(batch[shard.index :: shard.count]).float()[:, None] / 10
        noise = torch.nn.functional.dropout(mine, 0.1)  # draws from the global generator
        error = self.line(noise) * self.scale - (2 * mine + 1)
        return (error**2).sum() / len(batch)

    def validate(self, shard: Shard) -> tuple[float, int]:
        if not self.scores:
            return 0.0, 0
        self.validated += 1
        return self.scores[self.validated - 1] * 4, 4


def weights_of(trainable: Trainable) -> list[float]:
    return [value.item() for value in trainable.state_dict().values()]


def test_the_loss_falls_and_every_epoch_is_reported(tmp_path: Path):
    reports: list[EpochReport] = []
    trained = train(
        Regression([0.1, 0.2, 0.3, 0.25, 0.3, 0.1]),
        OPTIONS,
        checkpoint=tmp_path / "c",
        on_epoch=reports.append,
    )
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].loss < 0.2 * reports[0].loss
    assert [report.score for report in reports] == [0.1, 0.2, 0.3, 0.25, 0.3, 0.1]
    assert (trained.state.epoch, trained.state.best_epoch, trained.state.best_score) == (6, 3, 0.3)
    assert trained.state.last_loss == reports[-1].loss
    assert trained.state.seconds == pytest.approx(sum(report.seconds for report in reports))


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.9, 0.9], 2, 4, 2),
        ([0.1, 0.3, 0.2, 0.4, 0.1, 0.1], 2, 6, 4),
        ([0.1, 0.3, 0.2, 0.3, 0.9, 0.1], 0, 6, 5),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 4, 1),
        ([], 2, 6, 6),
    ],
    ids=["stops", "a better one resets", "never stops", "all zero", "no validation users"],
)
def test_early_stopping_returns_the_best_epochs_weights(
    scores: list[float], patience: int, epochs: int, best: int, tmp_path: Path
):
    options = LoopOptions(1, 6, patience, 0.1, 0.01)
    seen: list[list[float]] = []
    subject = Regression(scores)
    trained = train(
        subject,
        options,
        checkpoint=tmp_path / "c",
        on_epoch=lambda _: seen.append(weights_of(subject)),
    )
    assert (trained.state.epoch, trained.state.best_epoch) == (epochs, best)
    assert [value.item() for value in trained.weights.values()] == seen[best - 1]


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_resumed_training_ends_as_an_uninterrupted_one(after: int, tmp_path: Path):
    scores = [0.1, 0.5, 0.2, 0.3, 0.4, 0.1]
    whole = train(Regression(scores), OPTIONS, checkpoint=tmp_path / "whole")

    def kill(report: EpochReport) -> None:
        if report.epoch == after:
            raise Killed

    with pytest.raises(Killed):
        train(Regression(scores), OPTIONS, checkpoint=tmp_path / "c", on_epoch=kill)
    reports: list[EpochReport] = []
    resumed = train(
        Regression(scores[after:]), OPTIONS, checkpoint=tmp_path / "c", on_epoch=reports.append
    )
    assert [report.epoch for report in reports] == list(range(after + 1, 7))
    assert resumed.state.best_epoch == whole.state.best_epoch == 2
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "c"}


def test_a_checkpoint_is_safetensors_only(tmp_path: Path):
    train(Regression([0.1] * 6), OPTIONS, checkpoint=tmp_path / "c")
    assert sorted(load_file(tmp_path / "c")) == [
        *["best.line.bias", "best.line.weight"],
        *[f"optimizer.{slot}.{index}" for slot in ("mean", "square", "step") for index in (0, 1)],
        *["weights.line.bias", "weights.line.weight"],
    ]


def test_a_training_that_diverges_says_what_to_do(tmp_path: Path):
    with pytest.raises(TrainingDivergedError) as caught:
        train(Regression(scale=math.inf), OPTIONS, checkpoint=tmp_path / "c")
    assert str(caught.value) == (
        "The loss of epoch 1 is nan: the training diverged. Lower the learning_rate (it is 0.1)."
    )


def test_the_optimizer_is_adamw():
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = AdamW(ours, OPTIONS)
    reference = torch.optim.AdamW(
        theirs.parameters(), lr=0.1, weight_decay=0.01, betas=(0.9, 0.98), eps=1e-8
    )
    for step in range(5):
        for group in reference.param_groups:
            group["lr"] = 0.1 * (1 - step / 10)
        for layer in (ours, theirs):
            layer.zero_grad()
            (layer(torch.full((4, 3), step + 1.0)) ** 2).sum().backward()
        optimizer.step(1 - step / 10)
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_ndcg_is_the_textbook_sum():
    rng = np.random.default_rng(0)
    for items in (4, 30):
        score_BM = rng.normal(size=(50, items)).astype(np.float32)
        relevant_BM = rng.random((50, items)) < 0.3
        relevant_BM[:, 0] = True
        seen_BM = (rng.random((50, items)) < 0.3) & ~relevant_BM
        total = 0.0
        for score, relevant, seen in zip(score_BM, relevant_BM, seen_BM, strict=True):
            ranked = [item for item in np.argsort(-score) if not seen[item]][:10]
            gains = [1 / math.log2(rank + 2) for rank, item in enumerate(ranked) if relevant[item]]
            best = [1 / math.log2(rank + 2) for rank in range(min(10, relevant.sum()))]
            total += sum(gains) / sum(best)
        ours = ndcg_sum(*(torch.from_numpy(array) for array in (score_BM, seen_BM, relevant_BM)))
        assert ours.item() == pytest.approx(total)


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (0.0824, "gnn  epoch 3/20  loss 5.4100  valid ndcg@10 0.0824  4.1 s"),
        (None, "gnn  epoch 3/20  loss 5.4100  no valid users  4.1 s"),
    ],
)
def test_the_line_of_an_epoch(score: float | None, line: str):
    assert EpochReport(3, 20, 5.41, score, 4.1).line("gnn") == line


def next_item(**options: Any) -> NextItemTask:
    rng = np.random.default_rng(0)
    length = rng.integers(1, 9, size=20)
    data = {
        "num_items": np.array(30),
        "tokens": rng.integers(30, size=200).astype(np.int32),
        "window_start": rng.integers(0, 180, size=20),
        "window_length": length,
    }
    torch.manual_seed(0)
    config = TransformerConfig(width=8, max_length=10, dropout=0.0, batch_tokens=60, **options)
    return NextItemTask(config, data, seed=3)


def links(**options: Any) -> LinkTask:
    liked = np.random.default_rng(0).random((12, 15)) < 0.3
    data = {
        "sizes": np.array(liked.shape),
        "liked.items": np.nonzero(liked)[1].astype(np.int32),
        "liked.offsets": np.concatenate([[0], np.cumsum(liked.sum(1))]),
        "follows": np.empty((2, 0), np.int32),
    }
    torch.manual_seed(0)
    return LinkTask(LightGCNConfig(width=8, batch_size=25, **options), data, seed=3)


TASKS: dict[str, Callable[[], Trainable]] = {
    "full softmax": next_item,
    "sampled softmax": lambda: next_item(full_softmax_max_items=0, negatives=7),
    "graph softmax": links,
    "graph bpr": lambda: links(loss="bpr", negatives=2),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("workers", [2, 3, 40])
def test_the_workers_gradients_sum_to_that_of_the_joined_batch(name: str, workers: int):
    joined, shared = TASKS[name](), TASKS[name]()
    batch = joined.batches(0)[0]
    loss = joined(batch, Shard())
    loss.backward()
    losses = [shared(batch, Shard(index, workers)) for index in range(workers)]
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(sum(losses), loss)
    for one, other in zip(shared.parameters(), joined.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("name", TASKS)
def test_batches_are_a_function_of_seed_and_epoch(name: str):
    def listed(batches: Sequence[Any]) -> list[Any]:
        return [(rows.tolist(), seed) for rows, seed in batches]

    first = listed(TASKS[name]().batches(0))
    assert first == listed(TASKS[name]().batches(0))
    assert first != listed(TASKS[name]().batches(1))


GLOO = """
import sys
from pathlib import Path
import numpy as np, torch, torch.distributed as dist
from safetensors.torch import save_file
from training.loop import LoopOptions, Shard, train
from training.models.transformer import NextItemTask, TransformerConfig
index, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
if count > 1:
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=index, world_size=count)
rng = np.random.default_rng(0)
length = rng.integers(1, 9, size=20)
start = np.cumsum(length) - length
data = {
    "num_items": np.array(30), "tokens": rng.integers(30, size=200).astype(np.int32),
    "window_start": start, "window_length": length,
    "valid.tokens": np.array([30, 1, 30, 2, 3, 30], np.int32),
    "valid.tokens.offsets": np.array([0, 2, 5, 6]),
    "valid.seen": np.array([1, 2, 3], np.int32), "valid.seen.offsets": np.array([0, 1, 3, 3]),
    "valid.relevant": np.array([4, 5, 6], np.int32),
    "valid.relevant.offsets": np.array([0, 1, 2, 3]),
}
torch.manual_seed(index)  # DistributedDataParallel must make the workers start alike
config = TransformerConfig(width=8, max_length=10, dropout=0.0, batch_tokens=60)
task = NextItemTask(config, data, 3)
options = LoopOptions(3, 2, 0, 0.01, 0.0)
trained = train(task, options, checkpoint=folder / f"c{count}", shard=Shard(index, count))
scores = {"score": torch.tensor([trained.state.best_score, trained.state.last_loss])}
save_file(trained.weights | scores, folder / f"{count}-{index}")
"""  # fmt: skip


@pytest.mark.slow
def test_two_gloo_processes_learn_what_one_learns(tmp_path: Path):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", GLOO, str(index), str(count), str(tmp_path)], env=environment
        )
        for index, count in ((0, 1), (0, 2), (1, 2))
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    alone, first, second = (load_file(tmp_path / name) for name in ("1-0", "2-0", "2-1"))
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4)
