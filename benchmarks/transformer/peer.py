"""Quality per second against RecTools' SASRec, on MovieLens-1M, one after the other.

The peer runs in an environment of its own, which this command makes with uv, since it needs older
packages. Width, layers, heads, length and dropout are the same; each has its own recipe beside
that. Judged is validation alone; seconds are those of training.

    python -m benchmarks.transformer.peer --data ../shared/data/ml-1m --epochs 30
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.transformer.movielens import VALID, ranked, read_sequences
from benchmarks.transformer.quality import CONFIG
from training.models.base import FitContext
from training.models.transformer import Transformer

PEER = "rectools[torch]==0.19.0"
SHARED = ("width", "layers", "heads", "max_length", "dropout")


def main() -> int:
    """Runs both and prints when we reach what the peer ends with."""
    options = _parser().parse_args()
    config = yaml.safe_load(CONFIG.read_text())["sizes"]["small"] | {
        "max_length": 200,
        "patience": 0,
        "epochs": options.our_epochs,
    }
    peer = _peer(options, config)
    best = max(peer, key=lambda line: float(line["NDCG@10"]))
    print(f"the peer's best: {best}", flush=True)
    snapshot = read_sequences(options.data)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            options.seed, Path(folder), "ml-1m", cpus_per_worker=options.threads, progress=print
        )
        model = Transformer.fit(snapshot, config, context)
    ours = ranked(model, snapshot, VALID)
    seconds = model.fit_facts["training_seconds"]
    lengths = [len(row) for row in _rows(snapshot)]
    tokens = sum(min(number, config["max_length"]) for number in lengths)
    print(
        f"ours: {ours} after {seconds:.0f} s of training; {sum(lengths):,} tokens an epoch, "
        f"{sum(lengths) * model.fit_facts['epochs'] / seconds:,.0f} a second\n"
        f"peer: {tokens:,} tokens an epoch, {best['tokens'] / best['seconds']:,.0f} a second\n"
        f"time for the same quality: see the first of our epochs above with NDCG@10 of at least "
        f"{best['NDCG@10']:.4f}, against {best['seconds']:.0f} s of the peer"
    )
    return 0


def _rows(snapshot: Any) -> list[Any]:
    import numpy as np

    before = snapshot.timestamps < VALID
    return np.split(
        snapshot.items[before],
        np.cumsum(np.bincount(snapshot.users[before], minlength=len(snapshot.user_ids)))[:-1],
    )


def _peer(options: argparse.Namespace, config: dict[str, Any]) -> list[dict[str, Any]]:
    python = options.environment / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", options.environment], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, PEER], check=True)
    arguments = {name: config[name] for name in SHARED} | {
        "threads": options.threads,
        "seed": options.seed,
        "sequences": str(options.data / "sequences_original_ids.txt.gz"),
        "learning_rate": 1e-3,
        "batch_size": 128,
        "epochs": options.epochs,
        "every": options.every,
    }
    script = Path(__file__).with_name("rectools_sasrec.py")
    lines = []
    command = [python, "-W", "ignore", script, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            if line.startswith("{"):
                lines.append(json.loads(line))
                print(f"peer {line.strip()}", flush=True)
    if process.returncode or not lines:
        raise SystemExit(f"the peer ended with {process.returncode}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m")
    parser.add_argument("--environment", type=Path, default=Path(".cache/rectools"))
    parser.add_argument("--epochs", type=int, default=30, help="of the peer")
    parser.add_argument(
        "--every", type=int, default=2, help="epochs between judgements of the peer"
    )
    parser.add_argument("--our-epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
