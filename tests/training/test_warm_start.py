"""Going on from an earlier model whose media are others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from reaction_world import reaction_snapshot

from training.content import ItemContent
from training.models import FitContext
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
