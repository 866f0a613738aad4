"""The work of each kind of stage: thin modules that join tables to transforms and training.

They alone import ``transforms`` and ``training``, and only inside functions, so that reading a
pipeline stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.context import StageContext, StageResult

KINDS = (
    "ingest",
    "validate",
    "user_features",
    "item_features",
    "behaviour",
    "embed",
    "modalities",
    "sequences",
    "graph_edges",
    "examples",
    "decide",
    "train",
    "evaluate",
    "gate",
    "candidates",
    "drift",
    "publish",
    "shadow",
    "maintain",
)
"""Every kind of stage; ``run`` of the module of that name does it."""


def function(kind: str) -> Callable[[StageContext], StageResult]:
    """The function that does a kind of stage."""
    assert kind in KINDS, kind
    run: Callable[[StageContext], StageResult] = import_module(f"pipelines.stages.{kind}").run
    return run
