"""SocialGNN: convolutions over likes and follows, attention to people, a predictor of pairs.

The whole graph is encoded at once; what is new is placed by the same layers, from what its
neighbours send.

Shape legend: U users of the graph, M items, N new items, D width, D_l that of what goes into
convolution l, B histories, E edges of the attention, X users of the graph and those tied to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from training.content import ItemContent
from training.distributed import fit_network
from training.histories import Histories, codes_in
from training.models.base import FitContext, Model
from training.models.graph import LikeGraph
from training.models.media import media_arrays, media_sum, new_media, vectors_of
from training.models.pair_prediction import Network, PairTask, SocialGNNConfig, people_of
from training.snapshot import Snapshot
from training.ties import Ties, rows_for


class SocialGNN(Model):
    """Scores are the predictor's logits of a person as the history and the follows place them.

    The state of a person after each convolution is a sum over neighbours, so it is worked out anew
    from the history at hand: a known person with the training history gets exactly the trained
    state, one with newer likes moves with them, and someone new, who has the mean embedding, has a
    place as soon as one known item is liked. With the ties at hand newer follows count likewise,
    and a new item is placed by its likers. Neighbours keep their states from training.

    Attributes:
        tensors: `network.*`; `sent.<l>` (M, D_l) and `told.<l>` (U, D_l) what an item and a person
            send to their neighbours in layer l; `users` (U, D) embeddings; `people` (U, D) states
            to attend to, `people.offsets` and `people.indices` whose; `items` (M, D) final states,
            `items.degree` (M,) how many like each; `media.<medium>` (D, W).
    """

    name: ClassVar[str] = "social_gnn"
    reads_ties: ClassVar[bool] = True
    config_class: ClassVar[type[SocialGNNConfig]] = SocialGNNConfig

    def __init__(
        self,
        config: SocialGNNConfig,
        item_ids: np.ndarray,
        user_ids: np.ndarray,
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(config, item_ids)
        self.user_ids, self.tensors = user_ids, dict(tensors)
        self.network = Network(config).eval()
        self.network.load_state_dict(self._named("network."))
        self.people_UU = sparse.csr_array(
            (
                np.ones(len(tensors["people.indices"]), np.float32),
                tensors["people.indices"],
                tensors["people.offsets"],
            ),
            shape=(len(user_ids),) * 2,
        )

    def _named(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): torch.from_numpy(np.array(value))
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    @classmethod
    def reads_media(cls, config: Mapping[str, Any]) -> bool:
        """As the option says."""
        return bool(config.get("content", False))

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: SocialGNNConfig, context: FitContext) -> Self:
        graph = LikeGraph.build(snapshot, context.seed)
        content = snapshot.content if config.content else None
        data = graph.arrays | media_arrays(content, graph.item_ids)
        weights, facts = fit_network(
            builder="training.models.pair_prediction:build_task",
            name=cls.name,
            config=asdict(config),
            data=data,
            context=context,
        )
        tensors = {key: value for key, value in weights.items() if key.startswith("network.")}
        task = PairTask(config, data, context.seed)
        task.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        model = cls(config, graph.item_ids, graph.user_ids, tensors | _states(task.eval()))
        model.fit_facts = facts
        return model

    @torch.no_grad()
    def with_items(self, content: ItemContent) -> SocialGNN:
        """This model, knowing also items whose media it learnt, as nodes that nobody likes yet."""
        weights = self._named("media.")
        widths = {name: weight.shape[1] for name, weight in weights.items()}
        item_ids, media = new_media(self.name, widths, content, self.item_ids)
        if not len(item_ids):
            return self
        vectors = vectors_of(media, None, torch.device("cpu"))
        x_ND = media_sum(weights, vectors, len(item_ids)).numpy()
        alone = sparse.csr_array((len(self.user_ids), len(item_ids)), dtype=np.float32)
        return self._with_places(item_ids, x_ND, alone)

    @torch.no_grad()
    def with_ties(self, ties: Ties) -> SocialGNN:
        """This model with places for items and people whom likes and follows tie to those it knows.

        Items that nobody liked in training are placed; follows at hand stand in place of the
        trained ones. Who is new sends nothing.
        """
        learnt_ids = self.item_ids[self.tensors["items.degree"] > 0]
        item_ids, liked_UN = ties.new_likes(self.user_ids, learnt_ids)
        x_ND = np.zeros((len(item_ids), self.config.width), np.float32)
        media_N = codes_in(item_ids, self.item_ids)  # what nobody likes sends what it is
        x_ND[media_N >= 0] = self.tensors["sent.0"][media_N[media_N >= 0]]
        found = self._with_places(item_ids, x_ND, liked_UN)
        near_ids, people_XX = ties.circle(self.user_ids)
        place_U, tensors = codes_in(self.user_ids, near_ids), dict(found.tensors)
        for name in ("users", "people", *(f"told.{layer}" for layer in self._layers())):
            rows_UD = self.tensors[name]
            new_D = rows_UD.mean(axis=0) if name == "users" else np.zeros_like(rows_UD[0])
            tensors[name] = np.tile(new_D, (len(near_ids), 1))
            tensors[name][place_U] = rows_UD
        tensors |= _people(people_XX)
        return SocialGNN(self.config, found.item_ids, near_ids, tensors)

    def _with_places(
        self, item_ids: np.ndarray, x_ND: np.ndarray, liked_UN: sparse.csr_array
    ) -> SocialGNN:
        """This model with other or more items: ids, what goes into layer 0, and who likes each."""
        degree_N = liked_UN.sum(axis=0)
        layers = self._states(
            x_ND, 1 + degree_N, lambda layer: liked_UN.T @ self.tensors[f"told.{layer}"]
        )
        itself_2N = torch.arange(len(item_ids)).expand(2, -1)
        final_ND = self.network.attention(torch.from_numpy(layers[-1]), itself_2N).numpy()
        new = {"items": final_ND, "items.degree": degree_N}
        for layer in self._layers():
            new[f"sent.{layer}"] = layers[layer] / np.sqrt(1 + degree_N)[:, None]
        kept_M = codes_in(self.item_ids, item_ids) < 0
        everything = np.concatenate([self.item_ids[kept_M], item_ids])
        order = np.argsort(everything, kind="stable")
        rows = {
            name: np.concatenate([self.tensors[name][kept_M], value])[order].astype(np.float32)
            for name, value in new.items()
        }
        return SocialGNN(self.config, everything[order], self.user_ids, self.tensors | rows)

    def _layers(self) -> range:
        return range(len(self.network.convolutions))

    def _states(
        self, x_BD: np.ndarray, degree_B: np.ndarray, heard: Callable[[int], np.ndarray]
    ) -> list[np.ndarray]:
        """What goes into each convolution and comes out of the last, of nodes beside the graph.

        Args:
            x_BD: what goes into the first.
            degree_B: number of neighbours, the node itself too.
            heard: layer -> (B, D_l) sum of what the neighbours send.
        """
        states = [x_BD]
        for layer, convolution in enumerate(self.network.convolutions):
            mixed_BD = heard(layer) / np.sqrt(degree_B)[:, None] + states[-1] / degree_B[:, None]
            mixed_BD = torch.from_numpy(mixed_BD.astype(np.float32))
            out_BD = mixed_BD @ convolution.weight + convolution.bias
            states.append(self.network.activate(out_BD, layer).numpy())
        return states

    @torch.no_grad()
    def _score(self, histories: Histories) -> np.ndarray:
        liked_BM = sparse.csr_array(
            (np.ones(len(histories.items), np.float32), (histories.rows(), histories.items)),
            shape=(len(histories), len(self.item_ids)),
        )
        liked_BM.data[:] = 1.0
        people_BU = rows_for(histories.user_ids, self.user_ids, self.people_UU)
        code_B, users_UD = codes_in(histories.user_ids, self.user_ids), self.tensors["users"]
        x_BD = np.where(code_B[:, None] >= 0, users_UD[code_B], users_UD.mean(axis=0))
        x_BD = self._states(
            x_BD,
            1 + np.diff(liked_BM.indptr) + np.diff(people_BU.indptr),
            lambda layer: (
                liked_BM @ self.tensors[f"sent.{layer}"] + people_BU @ self.tensors[f"told.{layer}"]
            ),
        )[-1]
        place_E, person_E = people_BU.nonzero()
        person_N, source_E = np.unique(person_E, return_inverse=True)
        itself = np.arange(len(x_BD))
        edge_2E = np.stack(
            [
                np.concatenate([source_E, len(person_N) + itself]),
                np.concatenate([place_E, itself]),
            ]
        )
        source_ND = np.concatenate([self.tensors["people"][person_N], x_BD])
        final_BD = self.network.attention(
            (torch.from_numpy(source_ND), torch.from_numpy(x_BD)), torch.from_numpy(edge_2E)
        )
        return self.network.predict(final_BD, torch.from_numpy(self.tensors["items"])).numpy()

    def knows(self, histories: Histories) -> np.ndarray:
        """(B,) bool: who liked something, or is tied to people whom the model knows."""
        people_BU = rows_for(histories.user_ids, self.user_ids, self.people_UU)
        return super().knows(histories) | (np.diff(people_BU.indptr) > 0)

    def likeness_vectors(self) -> np.ndarray:
        """(M, D): final states of the items, less what all have in common."""
        items_MD = self.tensors["items"]
        return items_MD - items_MD.mean(axis=0)

    def _tensors(self) -> dict[str, np.ndarray]:
        return self.tensors

    def _vocabularies(self) -> dict[str, np.ndarray]:
        return {"user_ids": self.user_ids}

    @classmethod
    def _restore(
        cls,
        config: SocialGNNConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], vocabularies["user_ids"], tensors)


@torch.no_grad()
def _states(task: PairTask) -> dict[str, np.ndarray]:
    """What scoring needs of the encoded graph; see `SocialGNN`."""
    people_UU = people_of(task.data["follows"], task.num_users)
    liked_by_M = task.liked_UM.sum(axis=0)
    root_U = np.sqrt(1 + np.diff(task.liked_UM.indptr) + np.diff(people_UU.indptr))
    *layers, last_VD, final_VD = (layer.numpy() for layer in task.encode())
    tensors = {
        "users": layers[0][: task.num_users],
        "people": last_VD[: task.num_users],
        "items": final_VD[task.num_users :],
        "items.degree": liked_by_M,
    }
    for number, layer_VD in enumerate(layers):
        user_UD, item_MD = layer_VD[: task.num_users], layer_VD[task.num_users :]
        tensors[f"sent.{number}"] = item_MD / np.sqrt(1 + liked_by_M)[:, None]
        tensors[f"told.{number}"] = user_UD / root_U[:, None]
    tensors |= {f"media.{name}": layer.weight.numpy() for name, layer in task.project.items()}
    return {
        **{name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
        **_people(people_UU),
    }


def _people(people_UU: sparse.csr_array) -> dict[str, np.ndarray]:
    """Whom each follows or is followed by, as arrays."""
    return {
        "people.indices": people_UU.indices.astype(np.int32),
        "people.offsets": people_UU.indptr.astype(np.int64),
    }
