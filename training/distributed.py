"""Training of a network in Ray Train workers, or in this process when there are none.

The arrays go to the workers as memory-mapped .npy files in a folder that every worker can read,
and the checkpoint of every epoch lies there too. The folder is named by run, model and a
fingerprint of data, options and seed: a worker that died, or a whole run started again under the
same name, resumes from the last epoch, and nothing ever resumes from other data.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from training.loop import EpochReport, Shard, TrainingDivergedError, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.models.base import FitContext

MAX_FAILURES = 2
_MAX_STARTS = 10
"""Starts of workers that may fail: a cluster may be busy, and Ray waits a minute for each. Its own
default is to start workers for ever that die at once."""
_OBJECT_STORE_BYTES = 200 * 1024**2
_POLL_SECONDS = 0.1
_SPEC, _CHECKPOINT, _EPOCHS, _RESULT, _WEIGHTS = (
    "spec.json",
    "checkpoint.safetensors",
    "epochs.txt",
    "result.json",
    "weights.safetensors",
)
# Measured on two cores: the default poll of 2 s alone delays the end of every fit, and the other
# services report to a dashboard that is not there.
_RAY_TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class TrainingError(RuntimeError):
    """The workers did not finish; the text says how to look further."""


def fit_network(
    *,
    builder: str,
    name: str,
    config: Mapping[str, Any],
    data: Mapping[str, np.ndarray],
    context: FitContext,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train a network and return its best weights.

    Args:
        builder: "module:function"; the function takes (config, data, seed) and returns a
            `Trainable` and its `LoopOptions`. Workers import it by this name.
        name: shown in progress lines.
        config: plain values.
        data: arrays without objects.
        context: seed, resources, folder, progress.

    Returns:
        Weights by name, and facts: epochs, best_epoch, valid_ndcg@10 (absent without validation
        users), last_loss, training_seconds; and curve, as `Model.learning_curve`.

    Raises:
        TrainingDivergedError: the loss is no longer finite.
        TrainingError: workers kept dying.
    """
    spec = {"builder": builder, "name": name, "config": dict(config), "seed": context.seed}
    run = f"{context.run_name}-{name}-{_fingerprint(spec, data)[:12]}"
    folder = (context.work_dir / run).absolute()
    if not (folder / _CHECKPOINT).exists():
        _say_what_is_left(folder, spec, context)
    _write_inputs(folder, spec, data)
    # A previous driver may have died between the last epoch and reading the result.
    (folder / _RESULT).unlink(missing_ok=True)
    if context.num_workers == 0:
        with _threads(context.cpus_per_worker):
            run_worker(str(folder), Shard(), "cuda" if context.use_gpu else "cpu", context.progress)
    else:
        _run_ray(folder, name, context)
    result = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    if "diverged" in result:
        shutil.rmtree(folder)
        raise TrainingDivergedError(result["diverged"])
    weights = {key: value.numpy() for key, value in load_file(folder / _WEIGHTS).items()}
    shutil.rmtree(folder)
    return weights, result


def run_worker(
    folder: str, shard: Shard, device: str, report: Callable[[str], None] | None = None
) -> None:
    """Train in this process on the inputs in a folder; worker 0 leaves the result there."""
    path = Path(folder)
    spec = json.loads((path / _SPEC).read_text(encoding="utf-8"))
    module, function = spec["builder"].split(":")
    data = {file.stem: np.load(file, mmap_mode="r") for file in (path / "data").glob("*.npy")}

    def on_epoch(epoch: EpochReport) -> None:
        line = epoch.line(spec["name"])
        if report:
            report(line)
        else:
            with (path / _EPOCHS).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(spec["seed"])
        build = getattr(importlib.import_module(module), function)
        # Of weights in parts the first worker's count: one whole network a machine is enough.
        in_parts = shard.index > 0 and spec["config"].get("sharding") == "fsdp"
        with torch.device("meta") if in_parts else nullcontext():
            trainable, options = build(spec["config"], data, spec["seed"])
        try:
            trained = train(
                trainable,
                options,
                checkpoint=path / _CHECKPOINT,
                shard=shard,
                device=device,
                on_epoch=on_epoch,
            )
        except TrainingDivergedError as error:
            # Trying again would diverge again: hand the text to the driver, not to Ray.
            if shard.index == 0:
                _write_json(path / _RESULT, {"diverged": str(error)})
            return
    if shard.index == 0:
        save_file(trained.weights, path / _WEIGHTS)
        state = trained.state
        facts = {
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "last_loss": state.last_loss,
            "training_seconds": state.seconds,
            "curve": state.curve,
        }
        if state.best_score >= 0:
            facts["valid_ndcg@10"] = state.best_score
        _write_json(path / _RESULT, facts)


def ensure_ray(context: FitContext) -> None:
    """Connect to the cluster of `context.ray_address`, or start one here; once per process.

    The caller ends it with `ray.shutdown()`. A cluster with token authentication needs
    RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=<file> in the environment of the head and of this
    process.

    Raises:
        TrainingError: the cluster cannot be joined, or the one here is too small for the workers
            (who would wait for ever).
    """
    for setting, value in _RAY_TRAIN_SETTINGS.items():
        os.environ.setdefault(setting, value)
    import ray
    from ray._private import ray_constants

    needed = max(1, context.num_workers * context.cpus_per_worker)
    if ray.is_initialized():
        available = int(ray.cluster_resources().get("CPU", 0))
        if context.ray_address is None and available < needed:
            raise TrainingError(
                f"{context.num_workers} workers of {context.cpus_per_worker} CPUs need {needed} "
                f"CPUs, but the Ray of this process was started with {available}. Train with fewer "
                "workers, or end Ray first (ray.shutdown())."
            )
        return
    if context.ray_address is not None:
        try:
            ray.init(address=context.ray_address, log_to_driver=False)
        except Exception as error:
            raise TrainingError(
                f"Could not join the Ray cluster at {context.ray_address}: {error}\n"
                "Check that it runs and is reachable. If it was started with token "
                "authentication, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=<its token "
                "file> here as well."
            ) from error
        return
    # On Linux a local Ray listens on every interface, whatever address it is given, and whoever
    # reaches it can run code. This is what it does on other systems: loopback only. Its variable
    # (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0) only works before Ray is first imported, by anyone.
    everywhere, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init(
            address="local",
            num_cpus=needed,
            num_gpus=context.num_workers if context.use_gpu else 0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = everywhere


def _run_ray(folder: Path, name: str, context: FitContext) -> None:
    ensure_ray(context)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    class LeanTorchTrainer(TorchTrainer):
        """Without two helper processes that have nothing to do here but import for seconds.

        No Ray data set is used, and the placement groups' cleaner asks the State API, which a
        Ray without a dashboard does not have. Ctrl-C stays an ordinary KeyboardInterrupt.
        """

        def _create_default_callbacks(self) -> list[Any]:
            idle = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if type(callback).__name__ not in idle]

        def _register_sigint_handler(self, controller: Any) -> None:
            """Ray's own handler ends the process with status 0 and outlives the fit."""

    trainer = LeanTorchTrainer(
        _ray_worker,
        train_loop_config={
            "folder": str(folder),
            "threads": context.cpus_per_worker,
            "use_gpu": context.use_gpu,
        },
        torch_config=TorchConfig(backend="nccl" if context.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=context.num_workers,
            use_gpu=context.use_gpu,
            resources_per_worker={
                "CPU": context.cpus_per_worker,
                **({"GPU": 1} if context.use_gpu else {}),
            },
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(
                max_failures=MAX_FAILURES, controller_failure_limit=_MAX_STARTS
            ),
        ),
    )
    # What an earlier, broken driver left of Ray's own bookkeeping is of no use: ours resumes.
    shutil.rmtree(folder / "ray", ignore_errors=True)
    with _follow(folder / _EPOCHS, context.progress):
        try:
            trainer.fit()
        except Exception as error:
            raise TrainingError(
                f"Training {name} failed in its Ray workers: {error}\n"
                f"Checkpoint and inputs stay in {folder}: the same run continues from there. To "
                "see the error in this process, train with 0 workers."
            ) from error


def _ray_worker(config: Mapping[str, Any]) -> None:
    """What each Ray Train worker runs."""
    from ray import train as ray_train

    torch.set_num_threads(config["threads"])
    world = ray_train.get_context()
    shard = Shard(world.get_world_rank(), world.get_world_size())
    device = "cuda" if config["use_gpu"] else "cpu"
    run_worker(config["folder"], shard, device)


def _fingerprint(spec: Mapping[str, Any], data: Mapping[str, np.ndarray]) -> str:
    """sha256 of all that decides what is learnt."""
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for key in sorted(data):
        array = np.ascontiguousarray(data[key])
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _say_what_is_left(folder: Path, spec: Mapping[str, Any], context: FitContext) -> None:
    """Name the checkpoints that the same run left of this model, and why none of them is used."""
    for left in sorted(folder.parent.glob(f"*/{_CHECKPOINT}")):
        if left.parent.name[:-12] != folder.name[:-12]:
            continue
        before = json.loads((left.parent / _SPEC).read_text(encoding="utf-8"))
        flat, flat_before = ({**one, **one["config"], "config": None} for one in (spec, before))
        others = [
            key
            for key in sorted(flat.keys() | flat_before.keys())
            if flat.get(key) != flat_before.get(key)
        ]
        context.progress(
            f"{spec['name']} starts afresh: the checkpoint in {left.parent} is of other "
            f"{', '.join(others) or 'data'}"
        )


def _write_inputs(folder: Path, spec: Mapping[str, Any], data: Mapping[str, np.ndarray]) -> None:
    if (folder / _SPEC).exists():  # written last: the inputs of this fingerprint are whole
        return
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for key, array in data.items():
        np.save(folder / "data" / f"{key}.npy", array, allow_pickle=False)
    _write_json(folder / _SPEC, spec)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _follow(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Hand each line that is appended to a file to `progress`, from a thread of its own."""
    path.touch()
    done = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as file:
            file.seek(0, os.SEEK_END)
            rest = ""
            while True:
                last = done.is_set()
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    progress(line)
                if last:
                    return
                time.sleep(_POLL_SECONDS)

    thread = threading.Thread(target=follow, name="epochs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
