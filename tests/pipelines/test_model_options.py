"""Options of models: sizes, overrides, and files that explain them badly."""

from pathlib import Path

import pytest

from pipelines.errors import SpecError
from pipelines.model_options import load_model_file, resolve_model

PROJECT = Path(__file__).parent / "project"

GOOD = """\
model: gnn
summary: What spreads over the graph.
options: {width: Width of a vector., rate: Step size.}
sizes:
  debug: {width: 8, rate: 1}
  small: {width: 64, rate: 0.01}
"""


@pytest.fixture
def load(tmp_path):
    """Returns `load(text)`: the model file of that text."""

    def load(text, name="gnn"):
        folder = tmp_path / "configs/models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
        return load_model_file(name, tmp_path)

    return load


@pytest.mark.parametrize(
    ("size", "overrides", "options"),
    [
        ("small", {}, {"layers": 2, "dropout": 0.2, "widths": (64, 32), "max_items": None}),
        ("debug", {}, {"layers": 1, "dropout": 0.0, "widths": (8,), "max_items": 100}),
        (
            "debug",
            {"max_items": None, "layers": 3, "widths": (4, 4), "dropout": 0},
            {"layers": 3, "dropout": 0.0, "widths": (4, 4), "max_items": None},
        ),
        (
            "small", {"max_items": 50},
            {"layers": 2, "dropout": 0.2, "widths": (64, 32), "max_items": 50},
        ),
    ],
)  # fmt: skip
def test_options_of_a_size_and_what_differs(size, overrides, options):
    found = resolve_model("transformer", size, overrides, PROJECT)
    assert found == options
    assert list(found) == list(options)
    assert isinstance(found["dropout"], float)


def test_a_whole_number_in_one_size_does_not_make_an_option_whole(load):
    assert load(GOOD).resolved("debug", {}) == {"width": 8, "rate": 1.0}
    assert isinstance(load(GOOD).resolved("debug", {})["rate"], float)


def test_every_bad_choice_is_told():
    with pytest.raises(SpecError) as caught:
        resolve_model("transformer", "big", {"layer": 2, "dropout": "x", "layers": True}, PROJECT)
    assert str(caught.value) == (
        "models.transformer.size: `transformer` has no size `big`\n"
        "    = Sizes: debug, small.\n\n"
        "models.transformer.layer: `transformer` has no option `layer`\n"
        "    = Did you mean `layers`? Options: size, layers, dropout, widths, max_items.\n\n"
        "models.transformer.dropout: must be a number, not the text `x`\n"
        "    = Share of activations that are dropped.\n\n"
        "models.transformer.layers: must be a whole number, not `true`\n"
        "    = Blocks.\n\n"
        "4 problems."
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "rate: 0.01}", "rat: 0.01}",
            "configs/models/gnn.yaml:1:1: size `small` gives `rat`, which is not among the "
            "options\n  1 | model: gnn\n    | ^\n"
            "    = Did you mean `rate`? Explain it under `options`.",
        ),
        (
            ", rate: 0.01}", "}",
            "configs/models/gnn.yaml:1:1: size `small` lacks `rate`\n  1 | model: gnn\n    | ^\n"
            "    = Each size gives a value for every option.",
        ),
        (
            "rate: 0.01", "rate: slow",
            "configs/models/gnn.yaml:1:1: `rate` is a whole number and text in different sizes\n"
            "  1 | model: gnn\n    | ^\n    = Write values of one type.",
        ),
        (
            "model: gnn", "model: transformer",
            "configs/models/gnn.yaml:1:8: `model`: is `transformer` in the file of `gnn`\n"
            "  1 | model: transformer\n    |        ^\n    = Write model: gnn.",
        ),
        (
            "model: gnn", "model: gnnn",
            "configs/models/gnn.yaml:1:8: `model`: unknown model `gnnn`\n"
            "  1 | model: gnnn\n    |        ^\n"
            "    = Did you mean `gnn`? Known: popularity, item_knn, spectral, transformer, gnn, social_gnn.",
        ),
    ],
)  # fmt: skip
def test_a_bad_file(load, old, new, message):
    with pytest.raises(SpecError) as caught:
        load(GOOD.replace(old, new))
    assert str(caught.value) == message
