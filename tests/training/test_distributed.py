"""Training in this process and in Ray Train workers gives the same, and survives deaths."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from training.distributed import MAX_FAILURES, TrainingError, ensure_ray, fit_network
from training.loop import TrainingDivergedError
from training.models import MODELS, FitContext
from training.snapshot import Snapshot

Context = Callable[..., FitContext]


def weights_of(snapshot: Snapshot, name: str, config: dict[str, Any], context: FitContext) -> Any:
    return MODELS[name].fit(snapshot, config, context)._tensors()


class Stop(Exception):  # noqa: N818
    pass


def stop_at(epoch: int) -> Callable[[str], None]:
    def progress(line: str) -> None:
        if f"epoch {epoch}/" in line:
            raise Stop

    return progress


@pytest.mark.parametrize("name", ["transformer", "gnn", "social_gnn"])
def test_a_run_started_again_resumes_and_ends_the_same(
    name: str, planted: Snapshot, debug_config: Callable[[str], dict], context: Context
):
    config = debug_config(name) | ({"dropout": 0.3} if name == "transformer" else {})
    whole = weights_of(planted, name, config, context())
    first = context(progress=stop_at(3))
    with pytest.raises(Stop):
        weights_of(planted, name, config, first)
    (folder,) = first.work_dir.iterdir()
    assert re.fullmatch(rf"test-{name}-[0-9a-f]{{12}}", folder.name)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        *[".npy", ".json", ".safetensors"]
    }
    lines: list[str] = []
    again = context(work_dir=first.work_dir, progress=lines.append)
    resumed = weights_of(planted, name, config, again)
    assert [line.split("  ")[1] for line in lines] == [
        f"epoch {epoch}/12" for epoch in range(4, 13)
    ]
    for key, value in whole.items():
        np.testing.assert_array_equal(resumed[key], value)
    assert list(first.work_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["transformer", "gnn"])
@pytest.mark.parametrize("change", ["seed", "option", "data", "run_name"])
def test_nothing_resumes_from_another_training(
    change: str,
    name: str,
    planted: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict],
    context: Context,
):
    config = debug_config(name)
    first = context(progress=stop_at(3))
    with pytest.raises(Stop):
        weights_of(planted, name, config, first)
    (left,) = first.work_dir.iterdir()
    kept = (left / "checkpoint.safetensors").read_bytes()
    changes: dict[str, Any] = {"work_dir": first.work_dir}
    snapshot, others = planted, change
    if change == "seed":
        changes["seed"] = 1
    elif change == "option":
        config |= {"learning_rate": 0.03, "width": 8}
        others = "learning_rate, width"
    elif change == "run_name":
        changes["run_name"] = "other"
    else:
        snapshot = make_snapshot([("a", "x", 1), ("b", "x", 2), ("b", "y", 3)])
    lines: list[str] = []
    found = weights_of(snapshot, name, config, context(**changes, progress=lines.append))
    if change != "run_name":
        said = f"{name} starts afresh: the checkpoint in {left} is of other {others}"
        assert lines.pop(0) == said
    assert lines[0].startswith(f"{name}  epoch 1/12  loss ")
    assert len(lines) == 12
    alone = weights_of(snapshot, name, config, context(seed=changes.get("seed", 42)))
    for key, value in alone.items():
        np.testing.assert_array_equal(found[key], value)
    assert list(first.work_dir.iterdir()) == [left]
    assert (left / "checkpoint.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("name", "options"), [("transformer", {}), ("gnn", {"loss": "bpr"})], ids=["transformer", "gnn"]
)
def test_a_diverging_training_says_so_and_leaves_no_folder(
    name: str,
    options: dict[str, Any],
    planted: Snapshot,
    debug_config: Callable[[str], dict],
    context: Context,
):
    lines: list[str] = []
    given = context(progress=lines.append)
    with pytest.raises(TrainingDivergedError) as error:
        weights_of(planted, name, debug_config(name) | options | {"learning_rate": 1e30}, given)
    assert re.fullmatch(
        r"The loss of epoch 1 is (nan|inf): the training diverged\. "
        r"Lower the learning_rate \(it is 1e\+30\)\.",
        str(error.value),
    )
    assert lines == []
    assert list(given.work_dir.iterdir()) == []


def test_fitting_in_process_leaves_threads_and_random_state_alone(
    planted: Snapshot, debug_config: Callable[[str], dict], context: Context
):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    weights_of(planted, "transformer", debug_config("transformer"), context(cpus_per_worker=1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


DYING = """
import os, signal, time
from pathlib import Path
import torch
from training.loop import LoopOptions, Trainable
class Dying(Trainable):
    def __init__(self, deaths):
        super().__init__()
        self.line, self.deaths = torch.nn.Linear(1, 1), deaths
    def batches(self, epoch): return [0, 1]
    def forward(self, batch, shard):
        with self.deaths.open("a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(2)  # Ray counts a death while workers start apart
        os.kill(os.getpid(), signal.SIGKILL)
    def validate(self, shard): return 0.0, 0
def build(config, data, seed):
    return Dying(Path(config["deaths"])), LoopOptions(seed, 5, 0, 0.1, 0.0)
"""


@pytest.fixture(scope="module")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray with room for two workers, started by our own code."""
    import ray

    folder = tmp_path_factory.mktemp("ray")
    (folder / "dying.py").write_text(DYING, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        ensure_ray(FitContext(seed=0, work_dir=folder, run_name="start", num_workers=2))
        yield
        ray.shutdown()


def listening_addresses() -> set[tuple[str, str]]:
    """(process name, address) of every socket that a service below this process listens on.

    Workers are left out: while a group of them meets, torch's store listens on every address, and
    nothing can tell it not to.
    """
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            # Of one that ends the command line is gone before the name.
            words = [process.name(), *process.cmdline()]
            if any(
                word.startswith("ray::") or word.endswith("default_worker.py") for word in words
            ):
                continue
            found |= {
                (process.name(), connection.laddr.ip)
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def ray_train_workers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end any moment
            if child.status() == psutil.STATUS_ZOMBIE:
                continue
            if "".join(child.cmdline()[:1]).startswith("ray::RayTrainWorker"):
                found.append(child)
    return found


@pytest.mark.slow
def test_a_ray_worker_learns_what_this_process_learns(
    planted: Snapshot, debug_config: Callable[[str], dict], context: Context, ray_session: None
):
    config = debug_config("transformer")
    here = weights_of(planted, "transformer", config, context())
    lines: list[str] = []
    interrupt = signal.getsignal(signal.SIGINT)
    one = weights_of(planted, "transformer", config, context(num_workers=1, progress=lines.append))
    assert signal.getsignal(signal.SIGINT) is interrupt
    assert len(lines) == 12
    assert re.fullmatch(
        r"transformer  epoch 12/12  loss \d+\.\d{4}  valid ndcg@10 0\.\d{4}  \d+\.\d s", lines[-1]
    )
    for key, value in here.items():
        np.testing.assert_array_equal(one[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer", "gnn", "social_gnn"])
def test_two_ray_workers_learn_what_this_process_learns(
    name: str,
    planted: Snapshot,
    debug_config: Callable[[str], dict],
    context: Context,
    ray_session: None,
):
    # Two workers sum in another order: equal up to rounding, which few steps do not amplify much.
    few = debug_config(name) | {"epochs": 2}
    if name == "transformer":  # what is hidden at random differs between workers, as dropout does
        few |= dict.fromkeys(("context_dropout", "id_dropout", "modality_dropout"), 0.0)
    here = weights_of(planted, name, few, context())
    two = weights_of(planted, name, few, context(num_workers=2))
    for key, value in here.items():
        np.testing.assert_allclose(two[key], value, atol=2e-3)


@pytest.mark.slow
def test_a_killed_worker_resumes_from_the_last_epoch(
    planted: Snapshot, debug_config: Callable[[str], dict], context: Context, ray_session: None
):
    config = debug_config("transformer") | {"epochs": 400}
    whole = weights_of(planted, "transformer", config, context())
    lines: list[str] = []
    killed: list[int] = []

    def progress(line: str) -> None:
        lines.append(line)
        if len(lines) == 20:
            (worker,) = ray_train_workers()
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    given = context(num_workers=1, progress=progress)
    resumed = weights_of(planted, "transformer", config, given)
    assert len(killed) == 1
    epochs = [int(line.split("epoch ")[1].split("/")[0]) for line in lines]
    assert epochs[-1] == 400
    assert len(epochs) < 420  # it did not start over
    for key, value in whole.items():
        np.testing.assert_array_equal(resumed[key], value)
    assert list(given.work_dir.iterdir()) == []


@pytest.mark.slow
def test_workers_that_keep_failing_end_in_an_error_that_says_how_to_go_on(
    context: Context, ray_session: None
):
    given = context(num_workers=1)
    with pytest.raises(TrainingError) as caught:
        fit_network(
            builder="training.models.gnn:no_such_task",
            name="gnn",
            config={},
            data={"sizes": np.array([1, 1])},
            context=given,
        )
    (folder,) = given.work_dir.iterdir()
    text = str(caught.value)
    assert text.startswith("Training gnn failed in its Ray workers: ")
    assert "module 'training.models.gnn' has no attribute 'no_such_task'" in text
    assert text.endswith(
        f"Checkpoint and inputs stay in {folder}: the same run continues from there. To see the "
        "error in this process, train with 0 workers."
    )


@pytest.mark.slow
def test_a_worker_that_dies_in_every_step_is_tried_again_a_few_times(
    context: Context, ray_session: None, tmp_path: Path
):
    deaths = tmp_path / "deaths"
    lines: list[str] = []
    given = context(num_workers=1, progress=lines.append)
    with pytest.raises(TrainingError) as caught:
        fit_network(
            builder="dying:build",
            name="dying",
            config={"deaths": str(deaths)},
            data={},
            context=given,
        )
    pids = deaths.read_text().split()
    assert len(pids) == len(set(pids)) == 1 + MAX_FAILURES
    (folder,) = given.work_dir.iterdir()
    text = str(caught.value)
    assert text.startswith("Training dying failed in its Ray workers: ")
    assert "The actor died unexpectedly before finishing this task." in text
    assert text.endswith(
        f"Checkpoint and inputs stay in {folder}: the same run continues from there. To see the "
        "error in this process, train with 0 workers."
    )
    assert lines == []
    assert ray_train_workers() == []


@pytest.mark.slow
def test_a_diverging_worker_is_not_tried_again(
    planted: Snapshot, debug_config: Callable[[str], dict], context: Context, ray_session: None
):
    config = debug_config("gnn") | {"loss": "bpr", "learning_rate": 1e30}
    with pytest.raises(TrainingDivergedError, match="the training diverged"):
        weights_of(planted, "gnn", config, context(num_workers=1))


@pytest.mark.slow
def test_ray_is_started_once_and_a_fit_too_large_for_it_is_refused(
    context: Context, ray_session: None
):
    import ray

    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    listening = listening_addresses()
    assert {name for name, _ in listening} >= {"raylet", "gcs_server"}
    loopback = ("127.0.0.1", "::ffff:127.0.0.1", "::1")
    assert [found for found in listening if found[1] not in loopback] == []
    ensure_ray(context(num_workers=1))
    assert ray.get_runtime_context().gcs_address == address
    with pytest.raises(TrainingError) as caught:
        ensure_ray(context(num_workers=2, cpus_per_worker=2))
    assert str(caught.value) == (
        "2 workers of 2 CPUs need 4 CPUs, but the Ray of this process was started with 2. Train "
        "with fewer workers, or end Ray first (ray.shutdown())."
    )


def test_arrays_of_objects_are_refused(context: Context):
    given = context()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        fit_network(
            builder="training.models.link_prediction:build_task",
            name="gnn",
            config={},
            data={"ids": np.array([object()])},
            context=given,
        )


def test_inputs_are_memory_mapped(
    planted: Snapshot,
    debug_config: Callable[[str], dict],
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    seen: dict[str, type] = {}
    load = np.load

    def spy(path: Path, **options: Any) -> np.ndarray:
        array = load(path, **options)
        seen[Path(path).stem] = type(array)
        return array

    monkeypatch.setattr(np, "load", spy)
    weights_of(planted, "transformer", debug_config("transformer"), context())
    assert {"tokens.items", "window.start", "shown.click", "valid.tokens.items"} <= set(seen)
    assert set(seen.values()) == {np.memmap}
