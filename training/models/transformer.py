"""The transformer as a model of the product: fitted, stored, asked.

What is learnt is in `transformer_network`, how in `next_item`. A sequence begins with a learned
start token, so the first like is predicted too and an empty history has an encoding.

Shape legend: B histories, D model width, N items of a catalogue, M items the model knows, X items
shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from training.content import ItemContent
from training.distributed import fit_network
from training.histories import Histories, codes_in
from training.models.base import FitContext, Model, Moment, train_items
from training.models.media import media_arrays, media_widths, new_media
from training.models.next_item import content_blocks, encode_last, item_table
from training.models.next_item_arrays import SECOND, sizes_of, training_arrays
from training.models.sequences import Sequences, sequences_of
from training.models.transformer_network import REACTIONS, Network, TransformerConfig
from training.models.validation import validation_arrays
from training.models.warm_start import rows_by_id
from training.snapshot import Snapshot

_OF_SHAPE = ("encoder", "width", "layers", "heads", "item_layers", "max_length")
"""Options that two models must share for one to go on from the other."""


class Transformer(Model):
    """Scores are inner products of a user's state with the item vectors that it was made from."""

    name: ClassVar[str] = "transformer"
    config_class: ClassVar[type[TransformerConfig]] = TransformerConfig

    def __init__(
        self,
        config: TransformerConfig,
        item_ids: np.ndarray,
        weights: Mapping[str, np.ndarray],
        table: np.ndarray,
        places: Mapping[str, np.ndarray],
    ) -> None:
        """A model from what was learnt.

        Args:
            config: its options.
            item_ids: (M,) str, sorted.
            weights: of the network, by name.
            table: (M+1, D) vectors of the items and, last, of the start of a sequence.
            places: names of the `devices` and `locations` it learnt, sorted.
        """
        super().__init__(config, item_ids)
        self.places, self.table = places, torch.from_numpy(np.array(table))
        with torch.device("meta"):  # no memory and no random numbers for weights that are given
            self.network = Network(config, sizes_of(weights))
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        self.network.load_state_dict(tensors, assign=True)
        self.network.eval()

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: TransformerConfig, context: FitContext) -> Self:
        item_ids, _ = train_items(snapshot, snapshot.positives(None, snapshot.valid_start))
        content = media_arrays(snapshot.content, item_ids)
        ids = {
            "items.embedding.weight": item_ids,
            "items.medium": np.array([name for name, _ in media_widths(content)], dtype=str),
            "context.device.weight": np.array(snapshot.device_names, dtype=str),
            "context.location.weight": np.array(snapshot.location_names, dtype=str),
        }
        weights, facts = fit_network(
            builder="training.models.next_item:build_task",
            name=cls.name,
            config=asdict(config),
            data={
                "num_items": np.array(len(item_ids)),
                "num_devices": np.array(len(snapshot.device_names)),
                "num_locations": np.array(len(snapshot.location_names)),
                **content,
                **cls._start(ids, config, context),
                **training_arrays(snapshot, item_ids, config.max_length),
                **validation_arrays(snapshot, item_ids, context.seed),
            },
            context=context,
        )
        places = {
            "devices": ids["context.device.weight"],
            "locations": ids["context.location.weight"],
        }
        weights = {name.removeprefix("network."): value for name, value in weights.items()}
        model = cls(config, item_ids, weights, weights["items.embedding.weight"], places)
        with torch.no_grad():
            model.table = item_table(model.network, content)
        model.fit_facts = facts
        return model

    @classmethod
    def _start(
        cls, ids: Mapping[str, np.ndarray], config: TransformerConfig, context: FitContext
    ) -> dict[str, np.ndarray]:
        """The weights to go on from, rows by id, NaN where the earlier model has none.

        Args:
            ids: weight -> ids of its rows at hand, sorted.
            config: options of the new model.
            context: with the earlier model.
        """
        if not config.warm_start or not isinstance(context.start_from, Transformer):
            return {}
        before = context.start_from
        if any(getattr(config, name) != getattr(before.config, name) for name in _OF_SHAPE):
            context.progress(f"{cls.name} starts afresh: the earlier model has another shape")
            return {}
        old_ids = {
            "items.embedding.weight": before.item_ids,
            "items.medium": np.array(before.network.items.media, dtype=str),
            "context.device.weight": before.places["devices"],
            "context.location.weight": before.places["locations"],
        }
        weights = before._weights()
        for name in ids.keys() & weights.keys():
            named = len(old_ids[name])  # a row after them stands for no id
            rows = rows_by_id(weights[name][:named], old_ids[name], ids[name])
            weights[name] = np.concatenate([rows, weights[name][named:]])
        known = int((codes_in(ids["items.embedding.weight"], before.item_ids) >= 0).sum())
        context.progress(f"{cls.name} goes on from an earlier model: {known:,} items known to it")
        return {f"start.{name}": value for name, value in weights.items()}

    @classmethod
    def reads_media(cls, config: Mapping[str, Any]) -> bool:
        """Always: an item's place is what its media say, too."""
        del config
        return True

    def with_items(self, content: ItemContent) -> Transformer:
        """This model, knowing also the items that have media of the kinds that it learnt."""
        learnt = dict(self.network.sizes.media)
        item_ids, media = new_media(self.name, learnt, content, self.item_ids)
        if not len(item_ids):
            return self
        with torch.no_grad():
            new_ND = content_blocks(self.network, media, len(item_ids))
        everything = np.concatenate([self.item_ids, item_ids])
        order = np.argsort(everything, kind="stable")
        rows_ND = torch.cat([self.table[:-1], new_ND])[torch.from_numpy(order)]
        table = torch.cat([rows_ND, self.table[-1:]]).numpy()
        return Transformer(self.config, everything[order], self._weights(), table, self.places)

    def _score(self, histories: Histories) -> np.ndarray:
        return self._queries(histories) @ self.item_vectors().T

    def item_vectors(self) -> np.ndarray:
        """(M, D): what a state is compared with."""
        return self.table[:-1].numpy()

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """(B, D): the state after the last `max_length` positives; finite for no history."""
        return self._queries(histories.positives(self.item_ids))

    def reactions(
        self, histories: Histories, rows: np.ndarray, items: np.ndarray, moment: Moment
    ) -> np.ndarray | None:
        """(X, 3): chance of a click, watched share, rating as a share of the best."""
        if not self.network.sizes.reactions:
            return None
        own_N = codes_in(histories.catalogue, self.item_ids)
        known = own_N[items] >= 0
        answer_XR = np.full((len(rows), len(REACTIONS)), np.nan, np.float32)
        with torch.no_grad():
            state_BD = self._states(sequences_of(histories.positives(self.item_ids)))
            query_XD = self.network.query(
                state_BD[torch.from_numpy(rows[known])],
                *self._place_codes(moment.devices[known], "devices"),
                *self._place_codes(moment.locations[known], "locations"),
                torch.from_numpy(moment.times[known] // SECOND),
            )
            item_XD = self.table[torch.from_numpy(own_N[items[known]].astype(np.int64))]
            ties_X3 = torch.from_numpy(moment.ties[known])
            answer_XR[known] = self.network.react(query_XD, item_XD, ties_X3).sigmoid().numpy()
        return answer_XR

    def _place_codes(self, names: np.ndarray, kind: str) -> tuple[Tensor]:
        return (torch.from_numpy(codes_in(names, self.places[kind]).astype(np.int64)),)

    def _queries(self, histories: Histories) -> np.ndarray:
        """States at a moment and place that nobody knows yet, as lists are made in advance."""
        with torch.no_grad():
            state_BD = self._states(sequences_of(histories))
            unknown_B = torch.full((len(state_BD),), -1)
            return self.network.query(state_BD, unknown_B, unknown_B, unknown_B).numpy()

    def _states(self, sequences: Sequences) -> Tensor:
        return encode_last(
            self.network, self.table, sequences, np.arange(len(sequences.offsets) - 1), self.config
        )

    def _weights(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.network.state_dict().items()}

    def _tensors(self) -> dict[str, np.ndarray]:
        weights = {f"network.{name}": value for name, value in self._weights().items()}
        # Without media the table is the embedding.
        return weights | ({"table": self.table.numpy()} if self.network.sizes.media else {})

    def _vocabularies(self) -> dict[str, np.ndarray]:
        return dict(self.places)

    @classmethod
    def _restore(
        cls,
        config: TransformerConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        weights = {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
        table = tensors.get("table", weights["items.embedding.weight"])
        places = {kind: vocabularies[kind] for kind in ("devices", "locations")}
        return cls(config, vocabularies["item_ids"], weights, table, places)
