"""Going on from an earlier model: what is carried over, and what it is good for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reaction_world import reaction_snapshot

from training.content import ItemContent
from training.evaluation import TestSet, evaluate
from training.models import FitContext, Model
from training.models.transformer import Transformer
from training.snapshot import Snapshot

OPTIONS = {"width": 8, "epochs": 1, "batch_tokens": 500, "learning_rate": 1e-9}


def with_media(snapshot: Snapshot, **named: str) -> Snapshot:
    """The world with media of other names: `video="audio"` has the vectors of audio as video."""
    content = snapshot.content
    assert content is not None
    rows = {name: content.rows[source] for name, source in named.items()}
    vectors = {name: content.vectors[source] for name, source in named.items()}
    return replace(snapshot, content=ItemContent(content.item_ids, rows, vectors))


def marks_of_media(model: Transformer) -> dict[str, np.ndarray]:
    """What the model adds to every vector of a medium."""
    encoder = model.network.items
    if not encoder.media:
        return {}
    return dict(zip(encoder.media, encoder.medium.detach().numpy(), strict=True))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"audio": "audio", "text": "text"}, {"text": "text", "video": "audio"}),
        ({"text": "text"}, {"audio": "audio", "text": "text", "video": "audio"}),
        ({"audio": "audio", "text": "text", "video": "text"}, {"video": "text"}),
        ({"audio": "audio"}, {"text": "text"}),
        ({"audio": "audio"}, {}),
        ({}, {"audio": "audio"}),
    ],
    ids=lambda media: "+".join(media) or "none",
)
def test_a_medium_goes_on_under_its_own_name(
    before: dict[str, str], after: dict[str, str], context: Callable[..., FitContext]
):
    world = reaction_snapshot()
    champion = Transformer.fit(with_media(world, **before), OPTIONS, context())
    later = with_media(world, **after)
    fresh = marks_of_media(Transformer.fit(later, OPTIONS, context(seed=7)))
    warm = Transformer.fit(
        later, OPTIONS | {"warm_start": True}, context(seed=7, start_from=champion)
    )
    expected = fresh | {
        name: row for name, row in marks_of_media(champion).items() if name in after
    }
    found = marks_of_media(warm)
    assert sorted(found) == sorted(after)
    for name, row in found.items():
        np.testing.assert_allclose(row, expected[name], atol=1e-6, err_msg=name)


def of_users(snapshot: Snapshot, chosen_U: np.ndarray) -> Snapshot:
    """The events of some users."""
    kept = chosen_U[snapshot.users]
    events = ("users", "items", "timestamps", "strengths", "labels", "marks")
    return replace(snapshot, **{name: getattr(snapshot, name)[kept] for name in events})


def test_new_interactions_start_lower_and_old_users_lose_nothing(
    planted: Snapshot, debug_config: Callable[[str], dict[str, Any]], context: Callable[..., Any]
):
    """Half of the users were there when the champion learnt; then come more of them, and time."""
    old_U = np.arange(len(planted.user_ids)) < len(planted.user_ids) // 2
    old = of_users(planted, old_U)
    later = replace(planted, valid_start=(planted.valid_start + planted.test_start) // 2)
    test_set = TestSet.build(old, ks=[10], light_below=8, new_below=1)

    def ndcg(model: Model) -> float:
        return float(np.mean(evaluate(model, test_set).per_user["ndcg@10"]))

    def fit(snapshot: Snapshot, epochs: int, **options: Any) -> tuple[Model, list[float]]:
        """The model and the loss of each epoch."""
        lines: list[str] = []
        config = debug_config("transformer") | {"epochs": epochs, "learning_rate": 0.01}
        config["warm_start"] = "start_from" in options
        model = Transformer.fit(snapshot, config, context(**options, progress=lines.append))
        return model, [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]

    champion, _ = fit(old, epochs=40)
    cold, cold_losses = fit(later, epochs=4)
    warm, warm_losses = fit(later, epochs=4, start_from=champion)
    assert warm_losses[0] < 0.9 * cold_losses[0]
    assert ndcg(champion) > 0.2
    assert ndcg(warm) > ndcg(champion) - 0.02
    assert ndcg(warm) > 2 * ndcg(cold)
