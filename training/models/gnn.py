"""LightGCN: embeddings smoothed over the graph of users and the items they liked.

He et al. 2020: each layer is the mean of the neighbours' vectors, normalised by both degrees, and
the result is the mean of all layers; there are no other weights.

Shape legend: U users of the graph, M items, V = U + M nodes, D width, B histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse

from training.content import ItemContent
from training.distributed import fit_network
from training.models.base import FitContext, Model
from training.models.graph import (
    LikeGraph,
    normalised_graph,
)
from training.models.link_prediction import LightGCNConfig, ranking_items
from training.models.media import (
    media_arrays,
    media_sum,
    media_widths,
    new_media,
    vectors_of,
    with_media,
)
from training.models.warm_start import rows_by_id
from training.snapshot import Histories, Snapshot, codes_in


def learnt_tensors(
    config: LightGCNConfig, liked_UM: sparse.csr_array, follows: np.ndarray, node_VD: np.ndarray
) -> dict[str, np.ndarray]:
    """What scoring needs: user vectors split into what the likes send and the user's own part.

    Returns:
        `items` (M, D) vectors to rank by, `messages` (M, D) what an item sends to who likes it,
        `users_own` (U, D), `users_social_degree` (U,).
    """
    num_users = liked_UM.shape[0]
    graph_VV = normalised_graph(liked_UM, follows, config.social_weight)
    total_VD, layer_VD = node_VD, node_VD
    for _ in range(config.layers):
        sent_VD = total_VD
        layer_VD = graph_VV @ layer_VD
        total_VD = total_VD + layer_VD
    final_VD, sent_VD = total_VD / (config.layers + 1), sent_VD / (config.layers + 1)
    message_MD = sent_VD[num_users:] / np.sqrt(liked_UM.sum(axis=0))[:, None]
    social_UU = graph_VV[:num_users, :num_users]
    social_degree_U = config.social_weight * np.diff(social_UU.indptr)
    degree_U = social_degree_U + np.diff(liked_UM.indptr)
    from_likes_UD = (liked_UM @ message_MD) / np.sqrt(degree_U)[:, None]
    item_MD = ranking_items(torch.from_numpy(final_VD[num_users:]), config.loss).numpy()
    tensors = {
        "items": item_MD,
        "messages": message_MD,
        "users_own": final_VD[:num_users] - from_likes_UD,
        "users_social_degree": social_degree_U,
    }
    return {name: value.astype(np.float32) for name, value in tensors.items()}


class LightGCN(Model):
    """Scores are inner products of a user's and the items' propagated vectors.

    A user's vector is the sum of what the liked items send (the same normalised sum as in the
    graph) and a part of the user's own. So a known user with the training history gets exactly
    the trained vector, a known user with newer likes moves with them, and someone new has a
    vector as soon as one known item is liked.
    """

    name: ClassVar[str] = "gnn"
    config_class: ClassVar[type[LightGCNConfig]] = LightGCNConfig

    def __init__(
        self,
        config: LightGCNConfig,
        item_ids: np.ndarray,
        user_ids: np.ndarray,
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(config, item_ids)
        self.user_ids = user_ids
        self.item_MD = tensors["items"]
        self.message_MD = tensors["messages"]
        self.own_UD = tensors["users_own"]
        self.social_degree_U = tensors["users_social_degree"]
        self.node_VD = tensors.get("nodes")
        self.media = {
            name.removeprefix("media."): value
            for name, value in tensors.items()
            if name.startswith("media.")
        }

    @classmethod
    def reads_media(cls, config: Mapping[str, Any]) -> bool:
        """As the option says."""
        return bool(config.get("content", False))

    def with_items(self, content: ItemContent) -> LightGCN:
        """This model, knowing also items whose media it learnt, as nodes that nobody likes yet."""
        widths = {name: weight.shape[1] for name, weight in self.media.items()}
        item_ids, media = new_media(self.name, widths, content, self.item_ids)
        if not len(item_ids):
            return self
        weights = {name: torch.from_numpy(weight) for name, weight in self.media.items()}
        vectors = vectors_of(media, None, torch.device("cpu"))
        # Of a node without neighbours all layers but the first are zero.
        new_ND = media_sum(weights, vectors, len(item_ids)) / (self.config.layers + 1)
        everything = np.concatenate([self.item_ids, item_ids])
        order = np.argsort(everything, kind="stable")
        learnt = {key: value for key, value in self._tensors().items() if key != "nodes"}
        tensors = learnt | {
            "items": np.concatenate(
                [self.item_MD, ranking_items(new_ND, self.config.loss).numpy()]
            )[order],
            "messages": np.concatenate([self.message_MD, new_ND.numpy()])[order],
        }
        return LightGCN(self.config, everything[order], self.user_ids, tensors)

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: LightGCNConfig, context: FitContext) -> Self:
        graph = LikeGraph.build(snapshot, context.seed)
        content = snapshot.content if config.content else None
        data = graph.arrays | media_arrays(content, graph.item_ids)
        data |= cls._start(graph, config, context)
        weights, facts = fit_network(
            builder="training.models.link_prediction:build_task",
            name=cls.name,
            config=asdict(config),
            data=data,
            context=context,
        )
        media = {
            name: weights[f"project.{name}.weight"]
            for name, _ in media_widths(data)
            if config.content
        }
        node_VD = with_media(
            torch.from_numpy(weights["node_VD"]),
            {name: torch.from_numpy(weight) for name, weight in media.items()},
            data,
        )
        tensors = learnt_tensors(config, graph.liked_UM, graph.follows, node_VD.numpy())
        tensors |= {f"media.{name}": weight for name, weight in media.items()}
        if config.warm_start:
            tensors["nodes"] = weights["node_VD"]
        model = cls(config, graph.item_ids, graph.user_ids, tensors)
        model.fit_facts = facts
        return model

    @classmethod
    def _start(
        cls, graph: LikeGraph, config: LightGCNConfig, context: FitContext
    ) -> dict[str, np.ndarray]:
        """The weights to go on from, rows by id, NaN where the earlier model has none."""
        before = context.start_from
        if not config.warm_start or not isinstance(before, LightGCN):
            return {}
        if before.node_VD is None or before.config.width != config.width:
            why = "was not made for it" if before.node_VD is None else "has another width"
            context.progress(f"{cls.name} starts afresh: the earlier model {why}")
            return {}
        user_VD, item_VD = np.split(before.node_VD, [len(before.user_ids)])
        user_UD = rows_by_id(user_VD, before.user_ids, graph.user_ids)
        item_MD = rows_by_id(item_VD, before.item_ids, graph.item_ids)
        known_U, known_M = (int(np.isfinite(rows[:, 0]).sum()) for rows in (user_UD, item_MD))
        context.progress(
            f"{cls.name} goes on from an earlier model: {known_U:,} users and {known_M:,} items "
            "known to it"
        )
        media = {f"start.project.{name}.weight": value for name, value in before.media.items()}
        return {"start.node_VD": np.concatenate([user_UD, item_MD]), **media}

    def _score(self, histories: Histories) -> np.ndarray:
        return self._user_vectors(histories) @ self.item_MD.T

    def item_vectors(self) -> np.ndarray:
        """(M, D): propagated item vectors, of length 1 under the softmax loss."""
        return self.item_MD

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """(B, D); zeros for someone new without a known liked item."""
        return self._user_vectors(histories.positives(self.item_ids))

    def _user_vectors(self, histories: Histories) -> np.ndarray:
        liked_BM = sparse.csr_array(
            (np.ones(len(histories.items), np.float32), (histories.rows(), histories.items)),
            shape=(len(histories), len(self.item_ids)),
        )
        liked_BM.data[:] = 1.0
        code_B = codes_in(histories.user_ids, self.user_ids)
        known_B = code_B >= 0
        degree_B = np.diff(liked_BM.indptr).astype(np.float32)
        degree_B[known_B] += self.social_degree_U[code_B[known_B]]
        user_BD = (liked_BM @ self.message_MD) / np.sqrt(np.maximum(degree_B, 1))[:, None]
        user_BD[known_B] += self.own_UD[code_B[known_B]]
        return user_BD

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            "items": self.item_MD,
            "messages": self.message_MD,
            "users_own": self.own_UD,
            "users_social_degree": self.social_degree_U,
            **{f"media.{name}": weight for name, weight in self.media.items()},
            **({} if self.node_VD is None else {"nodes": self.node_VD}),
        }

    def _vocabularies(self) -> dict[str, np.ndarray]:
        return {"user_ids": self.user_ids}

    @classmethod
    def _restore(
        cls,
        config: LightGCNConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        return cls(config, vocabularies["item_ids"], vocabularies["user_ids"], tensors)
