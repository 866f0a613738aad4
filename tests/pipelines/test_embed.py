"""Vectors that the pipeline makes: each once, found again by a digest, read by models."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark.errors import PythonException
from stage_world import StageWorld

from pipelines.context import StageContext
from pipelines.errors import SpecError
from pipelines.intervals import Interval
from pipelines.project import Project
from pipelines.stages.media import load_content
from pipelines.state import RunHistory

pytestmark = pytest.mark.slow

END = datetime(2026, 1, 6, tzinfo=UTC)
BEFORE = END - timedelta(days=1)
SETS = ("features.vectors.text.of=[title,categories]", "features.vectors.video.width=2")


def item(item_id: str, title: str | None, *categories: str, **columns: Any) -> dict[str, Any]:
    found = {"item_id": item_id, "title": title, "created_at": BEFORE, **columns}
    return found | ({"categories": list(categories)} if categories else {})


ITEMS = [
    item("i1", "abc", "b", "c", video_embedding=[1.0, 2.0]),
    item("i2", "abc", "b", "c", video_embedding=[1.0]),
    item("i3", " ", video_embedding=[3.0, 4.0]),
    item("i4", None, "aa"),
    item("i5", "later", created_at=END),
]


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> StageWorld:
    made = StageWorld(
        spark, tmp_path / "lake", ("features.vectors.text.encoder=tests.letters:counts", *SETS)
    )
    made.publish({"events": [], "items": ITEMS}, None, END)
    return made


def context(world: StageWorld) -> StageContext:
    [step] = [step for step in world.project.steps if step.name == "train_transformer"]
    engines: Any = SimpleNamespace(spark=world.spark)
    interval = Interval(END - timedelta(hours=6), END)
    history = RunHistory(world.lake)
    return StageContext(world.project, step, interval, world.lake, history, engines, "", print)


def test_each_vector_is_made_once(world: StageWorld):
    assert world.run("embed", END).message == "vectors: 2 new of text"
    made = world.lake.arrow("item_vectors").to_pylist()
    assert sorted(row["vector"] for row in made) == [[1.0, 2.0, 2.0, 8.0], [2.0, 0.0, 0.0, 2.0]]
    assert {row["encoder"] for row in made} == {"tests.letters:counts"}
    version = world.lake.version("item_vectors")
    assert world.run("embed", END).message == "vectors: 0 new of text"
    assert world.lake.version("item_vectors") == version
    world.publish({"events": [], "items": [*ITEMS[:4], item("i5", "now")]}, None, END)
    assert world.run("embed", END).message == "vectors: 1 new of text"


def test_models_read_what_was_made_and_what_was_given(world: StageWorld, tmp_path: Path):
    world.run("embed", END)
    world.lake.append("item_vectors", world.lake.arrow("item_vectors"))  # as two runs at once may
    message = world.run("modalities", END).message
    assert message.endswith("with vectors: video 50% (25.0% broken), audio 0%, text 75%")
    states = {
        row["item_id"]: row["text_embedding_encoder"]
        for row in world.lake.arrow("item_modalities").to_pylist()
    }
    letters = "tests.letters:counts"
    assert states == {"i1": letters, "i2": letters, "i3": None, "i4": letters}
    content = load_content(context(world), tmp_path / "content")
    assert content.item_ids.tolist() == ["i1", "i2", "i3", "i4"]
    assert content.widths == (("text_embedding", 4), ("video_embedding", 2))

    def of(medium: str) -> list[Any]:
        rows, vectors = content.rows[medium], content.vectors[medium]
        return [vectors[row].tolist() if row >= 0 else None for row in rows]

    same = [1.0, 2.0, 2.0, 8.0]
    assert of("text_embedding") == [same, same, None, [2.0, 0.0, 0.0, 2.0]]
    assert of("video_embedding") == [[1.0, 2.0], None, [3.0, 4.0], None]
    some = load_content(context(world), tmp_path / "some", without=np.array(["i1", "i4"]))
    assert some.item_ids.tolist() == ["i2", "i3"]


@pytest.mark.parametrize(
    ("encoder", "text"),
    [
        (
            "tests.letters:lost",
            "The encoder `tests.letters:lost` gave an array of shape (1, 4) for 2 values. It must "
            "give a row of numbers for each.",
        ),
        (
            "tests.letters:missing",
            "The encoder `tests.letters:missing` cannot be loaded: module 'tests.letters' has no "
            "attribute 'missing'\nName `all-MiniLM-L6-v2`, which is here already; a model of "
            "sentence-transformers by its name (the hub must be reachable) or its folder; or "
            "`module:function` of your own, whose function returns an object with `encode`.",
        ),
    ],
)
def test_an_encoder_that_cannot_be_used(spark: Any, encoder: str, text: str, tmp_path: Path):
    world = StageWorld(spark, tmp_path, (f"features.vectors.text.encoder={encoder}", *SETS))
    world.publish({"events": [], "items": ITEMS}, None, END)
    with pytest.raises(PythonException) as error:
        world.run("embed", END)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (
            ["features.vectors.text.of=[title]"],
            "--set features.vectors.text.of=[title]: `features.vectors.text`: `of` names columns, "
            "but no `encoder` is named that reads them\n"
            "    = Write encoder: all-MiniLM-L6-v2, or leave out `of`.",
        ),
        (
            ["features.vectors.text.encoder=x", "features.vectors.text.of=[titel]"],
            "--set features.vectors.text.of=[titel]: `features.vectors.text.of.0`: unknown column "
            "of text `titel`\n    = Did you mean `title`? Known: title, text, categories, tags, "
            "item_type, media_type, image_url, video_url.",
        ),
    ],
)
def test_what_cannot_be_encoded_is_refused(sets: list[str], text: str):
    with pytest.raises(SpecError) as error:
        Project.load("demo", sets=sets)
    assert str(error.value) == text


def test_without_an_encoder_nothing_is_embedded():
    assert "embed" not in [step.name for step in Project.load("demo").steps]
