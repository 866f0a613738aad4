"""The plain training loop: optimizer, checkpoints, early stopping, shares of a batch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reaction_world import reaction_snapshot, task_data
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
from training.models.link_prediction import LightGCNConfig, LinkTask
from training.models.next_item import NextItemTask
from training.models.social_gnn import PairTask, SocialGNNConfig
from training.models.transformer_network import TransformerConfig

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
    assert trained.state.curve == [[one.epoch, one.loss, one.score] for one in reports]
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
    assert resumed.state.curve == whole.state.curve
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


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Norm of the gradients and share of the learning rate of every step that is made."""
    made: list[tuple[float, float]] = []

    class Watched(AdamW):
        def step(self, rate: float) -> None:
            gradients = [parameter.grad for parameter in self.parameters]
            made.append((torch.nn.utils.get_total_norm(gradients).item(), rate))
            super().step(rate)

    monkeypatch.setattr("training.loop.AdamW", Watched)
    return made


@pytest.mark.parametrize(
    ("scale", "bounds"), [(1e4, (5.0, 5.0)), (1e-3, (0.0, 0.01))], ids=["clipped", "small"]
)
def test_gradients_are_cut_to_a_norm_of_five(
    scale: float, bounds: tuple[float, float], steps: list[tuple[float, float]], tmp_path: Path
):
    # The first steps: where a gradient is nearly zero nothing needs to be cut.
    train(Regression(scale=scale), replace(OPTIONS, epochs=1), checkpoint=tmp_path / "c")
    low, high = bounds
    assert len(steps) == 5
    assert all(low - 1e-3 <= norm <= high + 1e-3 for norm, _ in steps)


def test_the_learning_rate_rises_and_falls_along_a_cosine(
    steps: list[tuple[float, float]], tmp_path: Path
):
    train(Regression(), replace(OPTIONS, epochs=8), checkpoint=tmp_path / "c")
    rates = [rate for _, rate in steps]
    assert len(rates) == 40
    # 5 % of the steps are warm-up, and a cosine ends at 5 % of the rate.
    assert rates[:2] == pytest.approx([0.001 / 0.051, 0.026 / 0.051])
    assert rates[2] == max(rates) == 1.0
    assert rates[21] == pytest.approx(0.05 + 0.95 / 2)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0.05 < rates[-1] < 0.06


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


SMALL = {
    **dict.fromkeys(("dropout", "id_dropout", "modality_dropout", "context_dropout"), 0.0),
    **{"width": 8, "max_length": 10, "batch_tokens": 60},
}


def next_item(**options: Any) -> NextItemTask:
    """Nothing is hidden at random: that differs between workers, as dropout does."""
    torch.manual_seed(0)
    config = TransformerConfig(**SMALL, **options)
    return NextItemTask(config, task_data(reaction_snapshot()), seed=3)


def likes() -> dict[str, np.ndarray]:
    liked = np.random.default_rng(0).random((12, 15)) < 0.3
    return {
        "sizes": np.array(liked.shape),
        "liked.items": np.nonzero(liked)[1].astype(np.int32),
        "liked.offsets": np.concatenate([[0], np.cumsum(liked.sum(1))]),
        "follows": np.array([[0, 1, 1], [2, 0, 1]], np.int32),
    }


def links(**options: Any) -> LinkTask:
    torch.manual_seed(0)
    return LinkTask(LightGCNConfig(width=8, batch_size=25, **options), likes(), seed=3)


def pairs() -> PairTask:
    torch.manual_seed(0)
    nothing = {"dropout": 0.0, "predictor_dropout": 0.0}  # they differ between workers
    config = SocialGNNConfig(width=8, hidden=6, heads=2, batch_size=25, negatives=2, **nothing)
    return PairTask(config, likes(), seed=3)


TASKS: dict[str, Callable[[], Trainable]] = {
    "full softmax": next_item,
    "sampled softmax": lambda: next_item(full_softmax_max_items=0, negatives=7),
    "graph softmax": links,
    "graph bpr": lambda: links(loss="bpr", negatives=2),
    "pairs": pairs,
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
        return [(rows.tolist(), *others) for rows, *others in batches]

    first = listed(TASKS[name]().batches(0))
    assert first == listed(TASKS[name]().batches(0))
    assert first != listed(TASKS[name]().batches(1))


GLOO = """
import shutil, sys
from contextlib import nullcontext
from pathlib import Path
import numpy as np, torch, torch.distributed as dist
from reaction_world import reaction_snapshot, task_data
from safetensors.torch import save_file
from training.loop import LoopOptions, Shard, train
from training.models.link_prediction import LightGCNConfig, LinkTask
from training.models.next_item import NextItemTask
from training.models.transformer_network import TransformerConfig
index, count, folder, config, sharding = *map(int, sys.argv[1:3]), Path(sys.argv[3]), *sys.argv[4:]
torch.set_num_threads(1)
if count > 1:
    store = f"file://{folder}/store-{sharding}"
    dist.init_process_group("gloo", init_method=store, rank=index, world_size=count)
torch.manual_seed(index)  # the workers must be made to start alike
with torch.device("meta") if index and sharding == "fsdp" else nullcontext():
    if config == "likes":
        likes = dict(np.load(folder / "likes.npz"))
        task = LinkTask(LightGCNConfig(width=8, batch_size=25), likes, 3)
    else:
        task = NextItemTask(TransformerConfig(**eval(config)), task_data(reaction_snapshot()), 3)
options = LoopOptions(3, 2, 0, 0.01, 0.0, sharding=sharding)
checkpoint = folder / f"checkpoint-{sharding}"
def keep(report):
    if report.epoch == 1:
        shutil.copy(checkpoint, folder / f"half-{sharding}-{count}")
trained = train(task, options, checkpoint=checkpoint, shard=Shard(index, count), on_epoch=keep)
assert bool(trained.weights) == (index == 0)
scores = {"score": torch.tensor([trained.state.best_score, trained.state.last_loss])}
whole = lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
last = {f"last.{name}": whole(value).clone() for name, value in task.state_dict().items()}
save_file(trained.weights | last | scores, folder / f"{count}-{index}")
"""  # fmt: skip


def gloo(
    folder: Path, count: int, sharding: str = "ddp", config: str = repr(SMALL)
) -> list[dict[str, Tensor]]:
    """What each of some processes learns together."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
    }
    arguments = [str(count), str(folder), config, sharding]
    runs = [
        subprocess.Popen([sys.executable, "-c", GLOO, str(index), *arguments], env=environment)
        for index in range(count)
    ]
    assert [run.wait(timeout=120) for run in runs] == [0] * count
    return [load_file(folder / f"{count}-{index}") for index in range(count)]


def _without_keys_bias(name: str, weight: Tensor) -> Tensor:
    """A weight but for the bias of keys, which moves all logits of a query alike.

    So its gradient is what rounding leaves, and Adam makes steps of it.
    """
    if not name.endswith("query_key_value.bias"):
        return weight
    query, _, value = weight.chunk(3)
    return torch.cat([query, value])


@pytest.mark.slow
def test_processes_learn_what_one_learns_however_weights_are_held(tmp_path: Path):
    """Two with all weights, two with a part each, and two that go on from what one began."""
    (alone,) = gloo(tmp_path, 1, "ddp")
    (tmp_path / "checkpoint-ddp").unlink()
    whole = gloo(tmp_path, 2, "ddp")
    parts = gloo(tmp_path, 2, "fsdp")
    (tmp_path / "half-ddp-1").rename(tmp_path / "checkpoint-fsdp")
    (tmp_path / "store-fsdp").unlink()
    resumed = gloo(tmp_path, 2, "fsdp")
    for first, second in (whole, parts, resumed):
        for name in alone.keys() - second.keys() | {"score"}:
            mine, theirs = (_without_keys_bias(name, found[name]) for found in (first, alone))
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
        for name, value in second.items():
            assert torch.equal(first[name], value)


@pytest.mark.slow
def test_processes_that_share_the_columns_of_a_graph_learn_what_one_learns(tmp_path: Path):
    arrays = likes() | {
        "valid.users": np.arange(12),
        "valid.seen": np.empty(0, np.int32),
        "valid.seen.offsets": np.zeros(13, np.int64),
        "valid.relevant": np.arange(12, dtype=np.int32),
        "valid.relevant.offsets": np.arange(13),
    }
    np.savez(tmp_path / "likes.npz", **arrays)
    (alone,) = gloo(tmp_path, 1, config="likes")
    (tmp_path / "checkpoint-ddp").unlink()
    first, second = gloo(tmp_path, 2, config="likes")
    for name in alone:
        torch.testing.assert_close(first[name], alone[name], rtol=1e-3, atol=1e-4)
    for name in second:
        assert torch.equal(first[name], second[name])
