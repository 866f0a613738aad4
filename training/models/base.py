"""The one face every model shows: fit, score, save, load.

The base class does what all models need alike: configuration with nothing unknown accepted, the
model's own vocabulary against the catalogue of the moment, files without pickle. A model adds
`_fit`, `_score`, `_tensors` and `_restore`.

Shape legend: B users (histories), N catalogue items, M items the model knows, D vector width.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

import numpy as np

from training.content import ItemContent
from training.histories import Histories, codes_in, codes_that_occur
from training.models import files
from training.snapshot import Snapshot
from training.ties import Ties

MAX_SEED = 2**32


class ModelConfigError(ValueError):
    """A model's configuration has an unknown key or an impossible value."""


class NothingToLearn(ValueError):  # noqa: N818 (a state of the data, named as users say it)
    """The data before `valid_start` cannot teach this model anything."""


def no_progress(_line: str) -> None:
    """Drop progress lines."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where, when and to whom X items are shown; each part may be unknown."""

    times: np.ndarray
    """(X,) int64 microseconds since 1970, -1 unknown."""
    devices: np.ndarray
    """(X,) str, "unknown" where unknown."""
    locations: np.ndarray
    """(X,) str, "unknown" where unknown."""
    ties: np.ndarray
    """(X, 3) float32, see `Shown.ties`; zeros where unknown."""


@dataclasses.dataclass(frozen=True)
class FitContext:
    """Where and with what a model is fitted; nothing here may change what is learnt but `seed`."""

    seed: int
    """0 <= seed < 2**32."""
    work_dir: Path
    """Scratch folder of this run: arrays for the workers and checkpoints to resume from."""
    run_name: str
    """Names the checkpoints under `work_dir`; the same name and data resume a broken fit."""
    num_workers: int = 0
    """Ray Train workers; 0 fits in this process without Ray (tests, debugging)."""
    cpus_per_worker: int = 1
    """CPU threads of each worker (of this process when `num_workers` is 0)."""
    use_gpu: bool = False
    """One GPU a worker and the nccl backend, in place of CPU and gloo."""
    ray_address: str | None = None
    """Address of a running Ray cluster; None starts one in this process when there is none."""
    start_from: Model | None = None
    """An earlier model to go on from, where the configuration asks for a warm start."""
    progress: Callable[[str], None] = no_progress
    """Called in this process with one printable line at a time."""


class Model(ABC):
    """A recommender with its own vocabulary of the items it learnt.

    Attributes:
        item_ids: (M,) str, sorted: the items with at least one positive before `valid_start`.
        config: the model's frozen configuration dataclass.
        fit_facts: what fitting reports beside quality: duration_seconds, train_positives,
            train_users, train_items and a network's epochs and validation; empty after `load`.
        learning_curve: [epoch, training loss, validation NDCG@10 or None] of each epoch, those
            before a restart included; empty for a model without epochs and after `load`.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    reads_ties: ClassVar[bool] = False
    """Whether `with_ties` does anything; ties of everybody are a table of all likes."""
    item_ids: np.ndarray
    config: Any

    def __init__(self, config: Any, item_ids: np.ndarray) -> None:
        self.config = config
        self.item_ids = item_ids
        self.fit_facts: dict[str, float] = {}
        self.learning_curve: list[list[Any]] = []

    @classmethod
    def fit(cls, snapshot: Snapshot, config: Mapping[str, Any], context: FitContext) -> Self:
        """Learn from the positives before `snapshot.valid_start`.

        Only early stopping looks at `[valid_start, test_start)`; nothing at or after
        `test_start` is touched. The same snapshot, config and seed give equal CPU weights.

        Args:
            snapshot: the data.
            config: option -> value; options left out take the defaults of `config_class`.
            context: seed, resources and where progress lines go.

        Raises:
            ModelConfigError: an unknown option or an impossible value.
            NothingToLearn: too little data for this model.
        """
        if not 0 <= context.seed < MAX_SEED:
            raise ModelConfigError(
                f"The seed must be at least 0 and below {MAX_SEED}, but it is {context.seed}."
            )
        parsed = parse_config(cls.name, cls.config_class, config)
        mask_E = snapshot.positives(None, snapshot.valid_start)
        if not mask_E.any():
            raise NothingToLearn(
                f"{cls.name} has nothing to learn from: none of the {len(snapshot.users)} events "
                "is a positive before valid_start. Train on a longer window, or lower the "
                "label threshold."
            )
        started = time.perf_counter()
        model = cls._fit(snapshot, parsed, context)
        model.learning_curve = model.fit_facts.pop("curve", [])
        model.fit_facts |= {
            "train_positives": int(mask_E.sum()),
            "train_users": len(np.unique(snapshot.users[mask_E])),
            "train_items": len(model.item_ids),
            "duration_seconds": time.perf_counter() - started,
        }
        return model

    def score(self, histories: Histories) -> np.ndarray:
        """Score every item of the catalogue for every user.

        Args:
            histories: B users over a catalogue of N items; positives are the signal.

        Returns:
            (B, N) float32, higher is better; -inf for items the model does not know. Finite for
            every known item, also for an empty history.
        """
        code_N = codes_in(histories.catalogue, self.item_ids)
        score_BN = np.full((len(histories), len(code_N)), -np.inf, dtype=np.float32)
        known_N = code_N >= 0
        if len(histories) and known_N.any():
            score_BM = self._score(histories.positives(self.item_ids))
            score_BN[:, known_N] = score_BM[:, code_N[known_N]]
        return score_BN

    @classmethod
    def reads_media(cls, config: Mapping[str, Any]) -> bool:
        """Whether with these options `fit` uses `Snapshot.content`, and `with_items` its own."""
        del config
        return False

    def with_items(self, content: ItemContent) -> Model:
        """This model, knowing also those items that it can place by what their media say."""
        del content
        return self

    def with_ties(self, ties: Ties) -> Model:
        """This model, where likes and follows since its training give places to who is new."""
        del ties
        return self

    def knows(self, histories: Histories) -> np.ndarray:
        """(B,) bool: whose scores are their own; by default of those who liked something."""
        return liked_by(histories)

    def reactions(
        self, histories: Histories, rows: np.ndarray, items: np.ndarray, moment: Moment
    ) -> np.ndarray | None:
        """What users would do with items shown to them; None from a model that cannot tell.

        Args:
            histories: B users over a catalogue of N items.
            rows: (X,) which user.
            items: (X,) codes into the catalogue.
            moment: where and when each is shown.

        Returns:
            (X, 3) float32: chance of a click, watched share, rating as a share of the best; NaN
            for items the model does not know.
        """
        del histories, rows, items, moment
        return None

    def item_vectors(self) -> np.ndarray | None:
        """(M, D) float32 that scores are inner products with; None without them."""
        return None

    def likeness_vectors(self) -> np.ndarray | None:
        """(M, D) float32 whose cosines tell which items are alike; None without them."""
        return self.item_vectors()

    def user_vectors(self, histories: Histories) -> np.ndarray | None:
        """(B, D) float32 preference vectors with `score = user @ item_vectors.T`, or None."""
        del histories
        return None

    def save(self, folder: Path) -> None:
        """Write model.safetensors, model.json and manifest.json (sha256 of the other two).

        Raises:
            ModelFileError: the folder holds files that are not a model's.
        """
        files.write_model(
            folder,
            name=self.name,
            config=dataclasses.asdict(self.config),
            tensors=self._tensors(),
            vocabularies={"item_ids": self.item_ids, **self._vocabularies()},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved model; its files are verified against the manifest first.

        Raises:
            ModelFileError: a file is missing, unknown, changed, or belongs to another model.
        """
        stored = files.read_model(folder, name=cls.name)
        return cls._restore(
            parse_config(cls.name, cls.config_class, stored.config),
            stored.tensors,
            stored.vocabularies,
        )

    @classmethod
    @abstractmethod
    def _fit(cls, snapshot: Snapshot, config: Any, context: FitContext) -> Self:
        """Learn; there is at least one positive before `valid_start`."""

    @abstractmethod
    def _score(self, histories: Histories) -> np.ndarray:
        """(B, M) float32 for histories that hold positives over the model's own `item_ids`."""

    @abstractmethod
    def _tensors(self) -> dict[str, np.ndarray]:
        """Everything learnt, as arrays."""

    def _vocabularies(self) -> dict[str, np.ndarray]:
        """Id arrays beside `item_ids`."""
        return {}

    @classmethod
    @abstractmethod
    def _restore(
        cls, config: Any, tensors: dict[str, np.ndarray], vocabularies: dict[str, np.ndarray]
    ) -> Self:
        """The inverse of `_tensors` and `_vocabularies`."""


def liked_by(histories: Histories) -> np.ndarray:
    """(B,) bool: who liked something."""
    liked_T = histories.strengths >= np.float32(histories.positive_from)
    return np.bincount(histories.rows()[liked_T], minlength=len(histories)) > 0


def train_items(snapshot: Snapshot, mask_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vocabulary of some events and their items coded in it.

    Args:
        snapshot: the data.
        mask_E: (E,) bool, the events to learn from.

    Returns:
        item_ids (M,) str sorted, and the codes (mask_E.sum(),) int32 into it.
    """
    code_M, code_T = codes_that_occur(snapshot.items[mask_E], len(snapshot.catalogue))
    return snapshot.catalogue[code_M], code_T


def parse_config(model_name: str, config_class: type[Any], options: Mapping[str, Any]) -> Any:
    """Build a model's configuration; nothing unknown and no wrong type is accepted.

    Raises:
        ModelConfigError: names the option, what is wrong and what is possible.
    """
    types = get_type_hints(config_class)
    for option, value in options.items():
        if option not in types:
            near = difflib.get_close_matches(str(option), types, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ModelConfigError(
                f"{model_name} has no option {option!r}.{hint} "
                f"Its options are: {', '.join(sorted(types))}."
            )
        if not _has_type(value, types[option]):
            raise ModelConfigError(
                f"Option {option!r} of {model_name} must be {_type_name(types[option])}, "
                f"but it is {value!r}."
            )
    try:
        return config_class(**options)
    except ValueError as error:
        raise ModelConfigError(f"{model_name}: {error}") from None


def _has_type(value: Any, expected: Any) -> bool:
    if arguments := get_args(expected):
        if get_origin(expected).__name__ == "Literal":
            return value in arguments
        return any(_has_type(value, argument) for argument in arguments)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)


def _type_name(expected: Any) -> str:
    if arguments := get_args(expected):
        if get_origin(expected).__name__ == "Literal":
            return "one of " + ", ".join(str(argument) for argument in arguments)
        return " or ".join(_type_name(argument) for argument in arguments)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(expected, "null")
