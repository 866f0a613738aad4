"""Seconds an epoch and peak memory of LightGCN on a graph of very many likes.

The graph is drawn: items by a power law, likes of a user from a log-normal law. Some steps of an
epoch are taken; the seconds of all of them are worked out.

    python -m benchmarks.gnn.scale --users 1000000 --items 200000 --likes 50000000
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from scipy import sparse

from benchmarks.gnn.quality import size_of
from benchmarks.transformer.quality import option
from training.loop import Shard
from training.models.link_prediction import LightGCNConfig, LinkTask


def main() -> int:
    """Draws the graph, takes some steps, prints what they cost."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LightGCNConfig(**size_of("gnn", "small") | dict(options.set))
    began = time.perf_counter()
    data = draw(options.users, options.items, options.likes)
    likes = len(data["liked.items"])
    _say(f"{options.users:,} users, {options.items:,} items, {likes:,} likes drawn", began)
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


def draw(users: int, items: int, likes: int) -> dict[str, np.ndarray]:
    """Distinct likes of a made-up world, as `LikeGraph.arrays`."""
    rng = np.random.default_rng(0)
    weight_U = rng.lognormal(0.0, 1.0, users)
    number_U = np.maximum(1, weight_U / weight_U.sum() * likes * 1.1).astype(np.int64)
    # An item's place in the order of popularity: x to a power, uniform x, is a power law.
    item_E = (items * rng.random(number_U.sum()) ** 2).astype(np.int64)
    key = np.unique(np.repeat(np.arange(users), number_U) * items + item_E)
    liked_UM = sparse.csr_array(
        (np.ones(len(key), np.float32), (key // items, key % items)), shape=(users, items)
    )
    return {
        "sizes": np.array(liked_UM.shape),
        "liked.items": liked_UM.indices.astype(np.int32),
        "liked.offsets": liked_UM.indptr.astype(np.int64),
        "follows": np.empty((2, 0), np.int64),
    }


def _say(line: str, began: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - began
    print(f"{line}: {seconds:.1f} s, peak memory so far {peak:.1f} GiB", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--likes", type=int, default=50_000_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
