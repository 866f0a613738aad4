"""Which vectors of an item can be used, and how many items have them."""

from __future__ import annotations

from transforms.modalities import coverage, item_modalities


def vector(width, *changes):
    return [0.5] * (width - len(changes)) + list(changes)


def test_states_and_coverage(table):
    """FE-30, FE-31, FE-32, FE-37, DE-28: a broken vector is masked and the others stay."""
    items = [
        {"item_id": "whole", "video_embedding": vector(2048), "audio_embedding": vector(1024),
         "text_embedding": vector(768)},
        {"item_id": "silent", "video_embedding": vector(2048)},
        {"item_id": "narrow", "video_embedding": vector(2047), "text_embedding": vector(769)},
        {"item_id": "nan", "audio_embedding": vector(1024, float("nan")),
         "text_embedding": vector(768, float("-inf"))},
        {"item_id": "hole", "text_embedding": vector(768, None), "audio_embedding": []},
    ]  # fmt: skip
    found = item_modalities(table("items", items))
    assert {row.item_id: tuple(row)[1:4] for row in found.collect()} == {
        "whole": ("present", "present", "present"),
        "silent": ("present", "missing", "missing"),
        "narrow": ("broken", "missing", "broken"),
        "nan": ("missing", "broken", "broken"),
        "hole": ("missing", "broken", "broken"),
    }
    assert coverage(found) == {
        "video_embedding": {"present": 0.4, "missing": 0.4, "broken": 0.2},
        "audio_embedding": {"present": 0.2, "missing": 0.4, "broken": 0.4},
        "text_embedding": {"present": 0.2, "missing": 0.2, "broken": 0.6},
    }
    assert coverage(item_modalities(table("items", []))) == {}


def test_widths_and_encoders_are_those_that_are_declared(table):
    """FE-32: what made a vector stands beside it, and nowhere else."""
    items = [
        {"item_id": "both", "video_embedding": vector(128), "text_embedding": vector(768)},
        {"item_id": "usual", "video_embedding": vector(2048)},
    ]
    widths = {"video_embedding": 128, "audio_embedding": 1024, "text_embedding": 768}
    found = item_modalities(table("items", items), widths, {"video_embedding": "clip@1"})
    assert [tuple(row) for row in found.orderBy("item_id").collect()] == [
        ("both", "present", "missing", "present", "clip@1", *[None] * 5),
        ("usual", "broken", "missing", "missing", *[None] * 6),
    ]
