"""Options of every model: what is refused, in words, and what the committed configurations say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.models import MODELS, FitContext, ModelConfigError
from training.models.base import parse_config
from training.snapshot import Snapshot

CONFIGS = Path(__file__).parents[2] / "configs" / "models"

Context = Callable[..., FitContext]


@pytest.mark.parametrize("name", MODELS)
def test_unknown_options_are_refused(name: str, planted: Snapshot, context: Context):
    options = ", ".join(
        sorted(field.name for field in dataclasses.fields(MODELS[name].config_class))
    )
    with pytest.raises(ModelConfigError) as caught:
        MODELS[name].fit(planted, {"speed": 1}, context())
    assert str(caught.value) == f"{name} has no option 'speed'. Its options are: {options}."


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "gnn",
            {"widht": 1},
            "gnn has no option 'widht'. Did you mean 'width'? Its options are: batch_size, block_likes, content, epochs, "
            "layers, learning_rate, loss, negatives, patience, popularity, precision, "
            "social_weight, temperature, uniformity, warm_start, weight_decay, width.",
        ),
        (
            "transformer",
            {"width": 6.5},
            "Option 'width' of transformer must be a whole number, but it is 6.5.",
        ),
        (
            "transformer",
            {"width": True},
            "Option 'width' of transformer must be a whole number, but it is True.",
        ),
        (
            "transformer",
            {"dropout": "0.1"},
            "Option 'dropout' of transformer must be a number, but it is '0.1'.",
        ),
        (
            "gnn",
            {"loss": "mse"},
            "Option 'loss' of gnn must be one of softmax, directau, bpr, but it is 'mse'.",
        ),
        (
            "transformer",
            {"width": 6, "heads": 4},
            "transformer: width must be a multiple of heads, but 6 is not one of 4.",
        ),
        ("transformer", {"dropout": 1.0}, "transformer: dropout must be in [0, 1), but it is 1.0."),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, Any], text: str):
    with pytest.raises(ModelConfigError) as caught:
        parse_config(name, MODELS[name].config_class, options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "option", "value", "bound"),
    [
        ("transformer", "layers", 0, "at least 1"),
        ("transformer", "learning_rate", 0.0, "above 0"),
        ("transformer", "patience", -1, "at least 0"),
        ("transformer", "negatives", 0, "at least 1"),
        ("gnn", "layers", 0, "at least 1"),
        ("gnn", "temperature", 0.0, "above 0"),
        ("gnn", "social_weight", -0.1, "at least 0"),
        ("popularity", "window_days", 0.0, "above 0"),
        ("popularity", "smoothing", 0.0, "above 0"),
        ("item_knn", "neighbours", 0, "at least 1"),
        ("item_knn", "shrinkage", -1.0, "at least 0"),
        ("item_knn", "half_life_days", -1.0, "at least 0"),
    ],
)
def test_values_out_of_bounds_are_refused(name: str, option: str, value: float, bound: str):
    with pytest.raises(ModelConfigError) as caught:
        parse_config(name, MODELS[name].config_class, {option: value})
    assert str(caught.value) == f"{name}: {option} must be {bound}, but it is {value}."


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_an_impossible_seed_is_refused(seed: int, planted: Snapshot, context: Context):
    with pytest.raises(ModelConfigError) as caught:
        MODELS["popularity"].fit(planted, {}, context(seed=seed))
    assert str(caught.value) == (
        f"The seed must be at least 0 and below 4294967296, but it is {seed}."
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_sizes_and_help_match_the_options(name: str):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    options = {field.name for field in dataclasses.fields(MODELS[name].config_class)}
    assert list(config) == ["model", "summary", "options", "sizes"]
    assert config["model"] == name
    assert set(config["options"]) == options
    assert all(text.endswith(".") for text in (config["summary"], *config["options"].values()))
    assert list(config["sizes"]) == ["debug", "small", "full"]
    for size, values in config["sizes"].items():
        assert set(values) == options, size
        parse_config(name, MODELS[name].config_class, values)


def test_every_model_has_a_committed_configuration_and_no_other_exists():
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(MODELS)
