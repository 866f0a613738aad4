"""Seconds to a Recall@20 on Gowalla: our LightGCN against PyTorch Geometric's, trained by BPR.

The peer is trained as its own example does: 64 numbers, two layers, batches of 20,000 likes with a
random item each, Adam. It stops when it has reached the target or its minutes are over; judging
counts for neither. Ours is one whole training of few epochs that ends at the target or beyond.
Each runs in a process of its own, which reads the data itself, so that peak memory is its own.

    python -m benchmarks.gnn.peer --data ../shared/data/gowalla --minutes 30
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import yaml
from torch_geometric.nn import LightGCN as PeerLightGCN

from benchmarks.gnn.interactions import Likes, judge, read_likes, snapshot_of
from benchmarks.gnn.quality import CONFIGS
from benchmarks.transformer.quality import option
from training.models import MODELS, FitContext
from training.snapshot import Snapshot

TARGET = 0.95 * 0.1830
"""A share of what LightGCN's table says (He et al. 2020)."""
_BATCH, _EVERY = 20_000, 5


def main() -> int:
    """Trains ours, then the peer, and prints seconds, seconds an epoch and peak memory."""
    options = _parser().parse_args()
    found = []
    for side in (_ours, _peer):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(side, options).result())
    (_, seconds), (peer_recall, peer_seconds) = found
    reached = "" if peer_recall >= TARGET else " at least, since the peer never reached it"
    print(f"ratio {peer_seconds / seconds:.1f}{reached}")
    return 0


def _ours(options: argparse.Namespace) -> tuple[float, float]:
    """Recall and seconds."""
    likes, snapshot = _data(options)
    size = yaml.safe_load((CONFIGS / "gnn.yaml").read_text())["sizes"]["small"]
    config = size | {"patience": 0, "epochs": options.epochs} | dict(options.set)
    print(f"target Recall@20 {TARGET:.4f}; ours {config}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            0, Path(folder), "gowalla", cpus_per_worker=options.threads, progress=print
        )
        model = MODELS["gnn"].fit(snapshot, config, context)
    recall = float(judge(model, likes, snapshot, "test")["Recall@20"].mean())
    seconds, epochs = model.fit_facts["training_seconds"], model.fit_facts["epochs"]
    _say("Sextant", recall, seconds, epochs)
    return recall, seconds


def _data(options: argparse.Namespace) -> tuple[Likes, Snapshot]:
    torch.set_num_threads(options.threads)
    likes = read_likes(options.data, tuning=False)
    return likes, snapshot_of(likes, judged="test")


def _peer(options: argparse.Namespace) -> tuple[float, float]:
    """Recall and seconds."""
    likes, snapshot = _data(options)
    users, items = len(snapshot.user_ids), len(snapshot.catalogue)
    user, item = (torch.from_numpy(side) for side in likes.train)
    item = item + users
    edge = torch.cat([torch.stack([user, item]), torch.stack([item, user])], 1)
    torch.manual_seed(0)
    model = PeerLightGCN(users + items, embedding_dim=64, num_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, epoch, recall = 0.0, 0, 0.0
    while recall < TARGET and seconds < 60 * options.minutes:
        began = time.perf_counter()
        for _ in range(_EVERY):
            epoch += 1
            for index in torch.randperm(len(user)).split(_BATCH):
                drawn = torch.randint(users, users + items, (len(index),))
                pair = torch.stack([user[index].repeat(2), torch.cat([item[index], drawn])])
                optimizer.zero_grad()
                liked, other = model(edge, pair).chunk(2)
                loss = model.recommendation_loss(liked, other, node_id=pair.unique())
                loss.backward()
                optimizer.step()
        seconds += time.perf_counter() - began
        with torch.no_grad():
            final = model.get_embedding(edge).numpy()
        own, theirs = final[:users], np.ascontiguousarray(final[users:].T)
        found = judge(lambda block, u=own, i=theirs: u[block] @ i, likes, snapshot, "test")
        recall = float(found["Recall@20"].mean())
        _say("PyTorch Geometric", recall, seconds, epoch)
    return recall, seconds


def _say(name: str, recall: float, seconds: float, epochs: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name}: Recall@20 {recall:.4f} after {seconds:.0f} s, {seconds / epochs:.1f} s an epoch, "
        f"peak memory of its process so far {peak:.1f} GiB",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of gowalla")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--epochs", type=int, default=10, help="of ours")
    parser.add_argument("--minutes", type=float, default=30, help="of the peer at most")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
