"""Tiny models on disk, and versions of them in a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.gate import Verdict
from training.models.files import write_model
from training.registry import Registry, Version

TAGS = {
    "run_id": "run-1",
    "spec_hash": "abc",
    "commit": "0000000",
    "tables": '{"events": 3}',
    "seed": "42",
    "interval_end": "2026-01-06T00:00:00Z",
}
BETTER = Verdict(True, "Promoted: better.", "champion version 1", 0.2, 0.1, 1.0, 0.05, 0.15, 900)


def _model(folder: Path, value: float) -> Path:
    write_model(
        folder,
        name="popularity",
        config={"window_days": 7},
        tensors={"counts": np.array([value, 2.0], dtype=np.float32)},
        vocabularies={"items": np.array(["a", "b"])},
    )
    return folder


def _register(registry: Registry, name: str, folder: Path, number: int = 1, **more: Any) -> Version:
    """One version; its number sets fingerprint and interval."""
    return registry.register(
        name,
        folder,
        tags=TAGS | {"interval_end": f"2026-01-{number:02d}T00:00:00Z"},
        params={"window_days": 7},
        metrics={"ndcg@10": 0.25},
        fingerprint=f"f{number}",
        **more,
    )


def _champion(registry: Registry, name: str, folder: Path, number: int = 1) -> Version:
    version = _register(registry, name, folder, number)
    return registry.promote(registry.record_verdict(version, BETTER))
