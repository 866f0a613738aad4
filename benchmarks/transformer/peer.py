"""Quality per second against RecTools' SASRec, on MovieLens-1M, one after the other.

The peer runs in an environment of its own, which this command makes with uv, since it needs older
packages. Width, layers, heads, length and dropout are the same; each has its own recipe beside
that. Judged is validation alone; seconds are those of training.

    python -m benchmarks.transformer.peer --data ../shared/data/ml-1m --epochs 30
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.transformer.movielens import VALID, ranked, read_sequences
from benchmarks.transformer.quality import CONFIG, option
from training.models.base import FitContext
from training.models.transformer import Transformer

PEER = "rectools[torch]==0.19.0"
UV = shutil.which("uv") or ".cache/bootstrap/bin/uv"
SHARED = ("width", "layers", "heads", "max_length", "dropout")


def main() -> int:
    """Runs both; prints each epoch of ours, and a table of both."""
    options = _parser().parse_args()
    config = yaml.safe_load(CONFIG.read_text())["sizes"]["small"] | {
        "max_length": 200,
        "patience": 0,
        "epochs": options.our_epochs,
        "precision": "bfloat16",
        **dict(options.set),
    }
    peer = _peer(options, config)
    best = max(peer, key=lambda line: float(line["NDCG@10"]))
    snapshot = read_sequences(options.data)
    seconds, reached = 0.0, None

    def follow(line: str) -> None:
        nonlocal seconds, reached
        print(line, flush=True)
        found = re.search(r"ndcg@10 (\S+)  (\S+) s$", line)
        if found:
            seconds += float(found[2])
            if reached is None and float(found[1]) >= best["NDCG@10"]:
                reached = seconds

    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            options.seed, Path(folder), "ml-1m", cpus_per_worker=options.threads, progress=follow
        )
        model = Transformer.fit(snapshot, config, context)
    ours = ranked(model, snapshot, VALID)
    tokens = int((snapshot.timestamps < VALID).sum()) * model.fit_facts["epochs"]
    print("| | epochs | NDCG@10 | HR@10 | seconds | tokens a second |\n| --- |" + " ---: |" * 5)
    for name, epochs, found, took, read in (
        (PEER, best["epoch"], best, best["seconds"], best["tokens"]),
        ("Sextant", model.fit_facts["epochs"], ours, seconds, tokens),
    ):
        print(
            f"| {name} | {epochs} | {found['NDCG@10']:.4f} | {found['HR@10']:.4f} | {took:.0f} | "
            f"{read / took:,.0f} |"
        )
    when = "never" if reached is None else f"after {reached:.0f} s"
    print(f"\nSextant reaches what the peer ends with {when}, judging included.")
    return 0


def _peer(options: argparse.Namespace, config: dict[str, Any]) -> list[dict[str, Any]]:
    python = options.environment / "bin" / "python"
    if not python.exists():
        subprocess.run([UV, "venv", "-q", "--python", "3.11", options.environment], check=True)
        subprocess.run([UV, "pip", "install", "-q", "--python", python, PEER], check=True)
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
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--our-epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
