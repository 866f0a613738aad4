"""The models a pipeline can name. A new model is one file and one entry here."""

from __future__ import annotations

from pathlib import Path

from training.models.base import FitContext, Model, ModelConfigError, NothingToLearn
from training.models.files import ModelFileError, read_model
from training.models.gnn import LightGCN
from training.models.item_knn import ItemKNN
from training.models.popularity import Popularity
from training.models.social_gnn import SocialGNN
from training.models.spectral import Spectral
from training.models.transformer import Transformer

__all__ = [
    "MODELS",
    "FitContext",
    "Model",
    "ModelConfigError",
    "ModelFileError",
    "NothingToLearn",
    "load_model",
]

MODELS: dict[str, type[Model]] = {
    model.name: model for model in (Popularity, ItemKNN, Spectral, Transformer, LightGCN, SocialGNN)
}


def load_model(folder: Path) -> Model:
    """Load a saved model of any architecture.

    Raises:
        ModelFileError: the folder is not a whole, unchanged model, or its architecture is unknown.
    """
    name = read_model(folder).name
    if name not in MODELS:
        raise ModelFileError(
            f"The model folder {folder} holds a {name!r} model, which this version does not know. "
            f"It knows: {', '.join(sorted(MODELS))}."
        )
    return MODELS[name].load(folder)
