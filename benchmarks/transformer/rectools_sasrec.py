"""RecTools' SASRec on MovieLens-1M, in the environment that `peer.py` makes for it.

Prints a JSON line an epoch: epoch, seconds trained so far, NDCG@10 and HR@10 of the validation
items, seen items left out. It knows nothing of Sextant: RecTools needs older packages.
"""

import gzip
import json
import logging
import sys
import time

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel

SECONDS = []
"""Of each epoch: neither preparing data nor judging counts. RecTools copies its callbacks."""


class Clock(Callback):
    """Takes the time of each epoch."""

    def on_train_epoch_start(self, trainer, pl_module):  # noqa: D102
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module):  # noqa: D102
        SECONDS.append(time.perf_counter() - self.began)


def main():
    options = json.loads(sys.argv[1])
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(options["threads"])
    np.random.seed(options["seed"])
    torch.manual_seed(options["seed"])
    with gzip.open(options["sequences"], "rt") as lines:
        rows = [line.split() for line in lines]
    frame = pd.DataFrame(
        [(row[0], item, place, 1.0) for row in rows for place, item in enumerate(row[1:-2])],
        columns=["user_id", "item_id", "datetime", "weight"],
    )
    frame["datetime"] = pd.to_datetime(frame["datetime"], unit="s")
    target = {row[0]: row[-2] for row in rows}
    dataset = Dataset.construct(frame)

    def trainer():
        return Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Clock()],
        )

    model = SASRecModel(
        n_blocks=options["layers"],
        n_heads=options["heads"],
        n_factors=options["width"],
        dropout_rate=options["dropout"],
        session_max_len=options["max_length"],
        loss="softmax",
        lr=options["learning_rate"],
        batch_size=options["batch_size"],
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )
    tokens = sum(min(len(row) - 4, options["max_length"]) for row in rows if len(row) > 4)
    for epoch in range(1, options["epochs"] + 1):
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
        if epoch % options["every"]:
            continue
        lists = model.recommend(list(target), dataset, k=10, filter_viewed=True)
        hit = lists[lists["item_id"] == lists["user_id"].map(target)]
        found = {
            "epoch": epoch,
            "seconds": sum(SECONDS),
            "tokens": tokens * epoch,
            "NDCG@10": float((1 / np.log2(hit["rank"] + 1)).sum() / len(target)),
            "HR@10": len(hit) / len(target),
        }
        print(json.dumps(found), flush=True)


main()
