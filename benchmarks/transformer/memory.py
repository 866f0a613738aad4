"""What a size of the transformer needs on each GPU under FSDP2, worked out and checked.

Worked out: weights, gradients and AdamW's two moments in float32, a part on each worker; what is
gathered; activations with every block computed twice; logits and their gradient. Checked: a smaller
size in two processes here, where the parts of a process are counted in its tensors.

    python -m benchmarks.transformer.memory --items 1000000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from benchmarks.transformer.quality import CONFIG
from training.models.transformer_network import Network, Sizes, TransformerConfig

MEDIA = (("audio_embedding", 1024), ("text_embedding", 768), ("video_embedding", 2048))
GIB = 2**30
_STATES = 4
"""Weights, gradients and two moments."""

CHECK = """
import os, sys
import torch, torch.distributed as dist
from training.loop import AdamW, LoopOptions, Shard, Trainable, _placed
from training.models.transformer_network import Network, Sizes, TransformerConfig
index, store, config, sizes = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=2)
class Bare(Trainable):
    def __init__(self):
        super().__init__()
        self.network = Network(TransformerConfig(**config), Sizes(**sizes))
    def batches(self, epoch): return []
    def forward(self, batch, shard): return None
    def validate(self, shard): return 0.0, 0
    def parts(self): return [*self.network.history.blocks, *self.network.items.blocks]
bare = Bare()
options = LoopOptions(0, 1, 0, 0.1, 0.0, sharding="fsdp")
_placed(bare, options, Shard(index, 2), "cpu")
optimizer = AdamW(bare, options)
tensors = [*bare.parameters(), *optimizer.state["mean"], *optimizer.state["square"]]
print(sum(tensor.to_local().numel() for tensor in tensors) * 4)
"""


def main() -> int:
    """Prints the table of `full`, and of `small` what two processes really hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    sizes = yaml.safe_load(CONFIG.read_text())["sizes"]
    for line in table(TransformerConfig(**sizes["full"]), options.items, options.workers):
        print(line)
    small, few = sizes["small"], 5000
    expected = parameters(TransformerConfig(**small), few) * 4 * (_STATES - 1) / 2
    held = _held(small, few)
    print(f"small, {few:,} items, 2 workers: {held:,} bytes held, {expected:,.0f} worked out")
    return 0


def parameters(config: TransformerConfig, items: int) -> int:
    """Numbers in the network."""
    with torch.device("meta"):
        network = Network(config, _sizes(items))
    return sum(parameter.numel() for parameter in network.parameters())


def table(config: TransformerConfig, items: int, workers: int) -> list[str]:
    """Lines of a Markdown table: GiB on each GPU."""
    with torch.device("meta"):
        network = Network(config, _sizes(items))
    total = sum(parameter.numel() for parameter in network.parameters())
    blocks = [*network.history.blocks, *network.items.blocks]
    block = sum(parameter.numel() for parameter in blocks[0].parameters())
    root = total - block * len(blocks)
    tokens = config.batch_tokens / workers
    # Of each block its input is kept, in bfloat16; one block at a time has all of its activations.
    kept = tokens * config.width * config.layers * 2
    inside = tokens * config.width * 34 * 2  # Korthikanti et al. 2022, without attention's squares
    whole = items <= config.full_softmax_max_items
    at_hand = items if whole else config.negatives + 2 * tokens
    logits = tokens * (items if whole else config.negatives) * 4 * 3
    rows = {
        f"{total / 1e6:,.0f} million numbers x 16 bytes, a part of {workers}": total * 16 / workers,
        "weights outside of blocks, gathered while a step lasts, and their gradient": root * 4 * 2,
        "two blocks, gathered": 2 * block * 4,
        f"activations of {tokens:,.0f} tokens": kept + inside,
        f"vectors of {at_hand:,.0f} items at hand, three media": at_hand * config.width * 4 * 3 * 4,
        "logits, their softmax and gradient": logits,
    }
    lines = ["| what | GiB a GPU |", "| --- | ---: |"]
    lines += [f"| {what} | {size / GIB:.2f} |" for what, size in rows.items()]
    return [*lines, f"| **all** | **{sum(rows.values()) / GIB:.2f}** |"]


def _sizes(items: int) -> Sizes:
    return Sizes(
        items=items, event_types=11, watch=True, time=True, devices=5, locations=200, media=MEDIA,
        reactions=True,
    )  # fmt: skip


def _held(config: dict[str, object], items: int) -> int:
    """Bytes of weights and moments that the first of two processes holds."""
    arguments = [repr(config), repr(vars(_sizes(items)))]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", CHECK, str(index), store, *arguments],
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]
        printed = [run.communicate()[0] for run in runs]
    return int(printed[0].split()[-1])


if __name__ == "__main__":
    sys.exit(main())
