"""What a size of the transformer needs on each GPU under FSDP2, worked out and checked.

Worked out: weights, gradients and AdamW's two moments in float32, a part on each worker; what is
gathered; activations with every block computed twice; logits and their gradient. Checked: the same
size with fewer items in two processes here, of which the second builds it on the meta device; what
each holds is counted in its tensors.

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
import resource, sys
from contextlib import nullcontext
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
with torch.device("meta") if index else nullcontext():
    bare = Bare()
options = LoopOptions(0, 1, 0, 0.1, 0.0, sharding="fsdp")
_placed(bare, options, Shard(index, 2), "cpu")
optimizer = AdamW(bare, options)
tensors = [*bare.parameters(), *optimizer.state["mean"], *optimizer.state["square"]]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(sum(tensor.to_local().numel() for tensor in tensors) * 4, peak)
"""


def main() -> int:
    """Prints the table of `full`, and what two processes really hold of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--few", type=int, default=100_000, help="items of the check")
    options = parser.parse_args()
    full = yaml.safe_load(CONFIG.read_text())["sizes"]["full"]
    for line in table(TransformerConfig(**full), options.items, options.workers):
        print(line)
    expected = parameters(TransformerConfig(**full), options.few) * 4 * (_STATES - 1) / 2
    print(f"{options.few:,} items, 2 workers: {expected / GIB:.3f} GiB of weights and moments each")
    for index, (held, peak) in enumerate(_held(full, options.few)):
        print(f"worker {index}: {held / GIB:.3f} GiB, peak memory {peak / GIB:.2f} GiB")
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


def _held(config: dict[str, object], items: int) -> list[tuple[int, int]]:
    """Bytes of weights and moments that each of two processes holds, and its peak memory."""
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
        printed = [run.communicate()[0].split() for run in runs]
    return [(int(held), int(peak)) for *_, held, peak in printed]


if __name__ == "__main__":
    sys.exit(main())
