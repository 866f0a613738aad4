"""Models with scores and likeness given by hand, and the lists of candidates made with them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from training.candidates import CANDIDATES, build_candidates
from training.histories import Histories, codes_in
from training.models.base import Model
from training.models.popularity import Popularity, PopularityConfig
from training.topk import ItemLists

CATALOGUE = np.array(list("abcdef"))
ALIKE = {
    "a": [1.0, 0.0],
    "b": [0.9, 0.1],
    "c": [0.8, 0.3],
    "d": [0.0, 1.0],
    "e": [0.1, 0.9],
    "f": [-1.0, -0.2],
}


class _Factors(Model):
    """Users score items by the mean of the vectors of what they liked, or by a given row."""

    def __init__(
        self,
        name: str,
        vectors: Mapping[str, list[float]],
        rows: Mapping[str, list[float]] | None = None,
    ) -> None:
        super().__init__(None, np.array(sorted(vectors)))
        self.name = name
        self.vector_MD = np.array([vectors[item] for item in sorted(vectors)], np.float32)
        self.rows = rows

    def _score(self, histories: Histories) -> np.ndarray:
        if self.rows is not None:
            return np.array([self.rows[str(user)] for user in histories.user_ids], np.float32)
        user_BD = np.zeros((len(histories), self.vector_MD.shape[1]), np.float32)
        np.add.at(user_BD, histories.rows(), self.vector_MD[histories.items])
        return user_BD @ self.vector_MD.T

    def item_vectors(self) -> np.ndarray:
        return self.vector_MD

    _fit = _tensors = _restore = None


def _rows(name: str, items: str, **rows: list[float]) -> _Factors:
    """A model with a row of scores for each user and no likeness between items."""
    return _Factors(name, {item: [0.0] for item in items}, rows)


def _popular(items: str = "fedcba") -> Popularity:
    """Popularity in the order of the letters."""
    score = {item: -float(place) for place, item in enumerate(items)}
    item_ids = np.array(sorted(items))
    return Popularity(
        PopularityConfig(), item_ids, np.array([score[item] for item in item_ids], np.float32)
    )


def _histories(catalogue: np.ndarray = CATALOGUE, **users: str) -> Histories:
    """What users did in time order: small letters are positives, capitals are not."""
    events = "".join(users.values())
    return Histories(
        np.array(list(users)),
        catalogue,
        np.cumsum([0, *map(len, users.values())]).astype(np.int64),
        codes_in(np.array(list(events.lower()), dtype=str), catalogue),
        np.arange(len(events), dtype=np.int64),
        np.array([float(event.islower()) for event in events], np.float32),
        as_of=1000,
    )


def _build(histories: Histories, models: Mapping[str, Model], k: int = 6, **changes) -> pa.Table:
    settings = {
        "weights": dict.fromkeys(models, 1.0),
        "seen": ItemLists(histories.offsets, histories.items),
        "popular": _popular(),
        "versions": {**dict.fromkeys(models, "7"), "popularity": "3"},
        "titles": [f"Film {item.upper()}" for item in histories.catalogue],
        **changes,
    }
    tables = list(build_candidates(models, settings.pop("weights"), histories, k=k, **settings))
    return pa.concat_tables([CANDIDATES.empty_table(), *tables])


def _joined(table: pa.Table, owner: str, member: str) -> dict[str, str]:
    lists: dict[str, list[str]] = {}
    for row in table.to_pylist():
        members = lists.setdefault(row[owner], [])
        members.append(row[member])
        assert row["rank"] == len(members)
    return {name: "".join(members) for name, members in lists.items()}
