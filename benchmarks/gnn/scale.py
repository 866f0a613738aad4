"""Seconds an epoch and peak memory of LightGCN on a graph of very many likes.

The graph is that of the demo world, read a batch at a time and made by `LikeGraph`, as a training
makes it. What was shown to a user counts as liked: costs do not depend on what an edge means, and
of the 103 million events of a world of a million users 60 million are such pairs, where 7 million
are likes. With `--likes` the graph is drawn instead, in a minute: items by a power law, likes of a
user from a log-normal law. Some steps of an epoch are taken; the seconds of all of them are worked
out. Beyond `--memory` GiB of its own the process fails.

    python -m benchmarks.gnn.scale --users 1000000 --items 100000 --memory 16
    python -m benchmarks.gnn.scale --users 1000000 --items 200000 --likes 50000000
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.gnn.quality import size_of
from benchmarks.transformer.quality import option
from training.loop import Shard
from training.models.graph import LikeGraph
from training.models.link_prediction import LightGCNConfig, LinkTask
from training.snapshot import UNKNOWN_TIME, Snapshot
from transforms.demo import DemoConfig, DemoWorld


def main() -> int:
    """Draws the graph, takes some steps, prints what they cost."""
    options = _parser().parse_args()
    bound = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    print(f"at most {options.memory:g} GiB")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LightGCNConfig(**size_of("gnn", "small") | dict(options.set))
    began = time.perf_counter()
    sizes = options.users, options.items
    pairs = draw(*sizes, options.likes) if options.likes else shown(*sizes)
    _say(f"{len(pairs[0]):,} pairs of {options.users:,} users and {options.items:,} items", began)
    began = time.perf_counter()
    data = LikeGraph.build(snapshot_of(pairs, *sizes), seed=0).arrays
    _say(f"{len(data['liked.items']):,} likes of {data['sizes'][0]:,} users", began)
    began = time.perf_counter()
    task = LinkTask(config, data, seed=0)
    _say("message graph built", began)
    began = time.perf_counter()
    batches = task.batches(0)
    _say(f"{len(batches):,} batches of {task.blocks} blocks", began)
    optimizer = torch.optim.AdamW(task.parameters(), lr=config.learning_rate)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")
    seconds = []
    for number, batch in enumerate(batches[: options.steps]):
        began = time.perf_counter()
        optimizer.zero_grad()
        with autocast:
            loss = task(batch, Shard())
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        if number % 10 == 0:
            _say(f"step {number + 1}: loss {loss.item():.4f}", began)
    # The first step of a block builds its graph; blocks are as many as their steps are few.
    usual = float(np.median(seconds[1:]))
    epoch = usual * len(batches) + (seconds[0] - usual) * task.blocks
    print(f"{usual:.2f} s a step, {seconds[0]:.2f} s the first of a block; {epoch:,.0f} s an epoch")
    began = time.perf_counter()
    with torch.no_grad():
        task.vectors()
    _say("everybody's vectors, for validation", began)
    return 0


def shown(users: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of what the demo world shows."""
    config = DemoConfig(users=users, items=items, vectors=False)
    parts = []
    for batch in DemoWorld(config).events_batches(config.start, config.end):
        seen = batch.filter(pc.equal(batch["event_type"], "impression"))
        numbers = [
            pc.utf8_slice_codeunits(seen[side], 1).cast(pa.int32())
            for side in ("user_id", "item_id")
        ]
        parts.append(np.stack(numbers))
    return tuple(np.concatenate(parts, axis=1))


def draw(users: int, items: int, likes: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of a made-up world's likes."""
    rng = np.random.default_rng(0)
    weight_U = rng.lognormal(0.0, 1.0, users)
    number_U = np.maximum(1, weight_U / weight_U.sum() * likes * 1.1).astype(np.int64)
    # An item's place in the order of popularity: x to a power, uniform x, is a power law.
    item_E = (items * rng.random(number_U.sum()) ** 2).astype(np.int32)
    return np.repeat(np.arange(users, dtype=np.int32), number_U), item_E


def snapshot_of(pairs: tuple[np.ndarray, np.ndarray], users: int, items: int) -> Snapshot:
    """The pairs as likes before validation, at one and the same time."""
    order = np.argsort(pairs[0], kind="stable")
    ones = np.ones(len(order), np.float32)
    return Snapshot(
        catalogue=np.array([f"i{item:07}" for item in range(items)]),
        user_ids=np.array([f"u{user:07}" for user in range(users)]),
        users=pairs[0][order],
        items=pairs[1][order],
        timestamps=np.zeros(len(order), np.int64),
        strengths=ones,
        labels=ones,
        valid_start=1,
        test_start=2,
        end=3,
        follows=np.empty((2, 0), np.int32),
        categories=np.full(items, ""),
        created_at=np.full(items, UNKNOWN_TIME),
    )


def _say(line: str, began: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - began
    print(f"{line}: {seconds:.1f} s, peak memory so far {peak:.1f} GiB", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--likes", type=int, help="draws about so many, in place of the demo world")
    parser.add_argument("--memory", type=float, default=16, help="GiB that the process may take")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
