"""LightGCN: embeddings smoothed over the graph of users and the items they liked.

He et al. 2020: each layer is the mean of the neighbours' vectors, normalised by both degrees, and
the result is the mean of all layers; there are no other weights.

Shape legend: U users of the graph, M items, N new items, V = U + M nodes, D width, B histories,
X users of the graph and those tied to them.
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
from training.histories import Histories, codes_in
from training.models.base import FitContext, Model
from training.models.graph import LikeGraph, normalised_graph
from training.models.link_prediction import LightGCNConfig, ranking_items, ranking_users
from training.models.media import (
    media_arrays,
    media_sum,
    media_widths,
    new_media,
    vectors_of,
    with_media,
)
from training.models.warm_start import rows_by_id
from training.snapshot import Snapshot
from training.ties import Ties, rows_for

_DOUBT = 3.0
"""A new item is ranked as if so many more had liked it whose tastes cancel each other.

Else it is nearer to the few who liked it, and to those like them, than any learnt item: on LastFM
new items took 36 % of the lists where they had 11 % of the likes, and so they take 11 %.
"""


def learnt_tensors(
    config: LightGCNConfig, liked_UM: sparse.csr_array, follows: np.ndarray, node_VD: np.ndarray
) -> dict[str, np.ndarray]:
    """What scoring needs: the parts of a user's vector, so that it follows likes and follows.

    Returns:
        `items` vectors to rank by, see `ranking_items`; `messages` (M, D) and `users_messages`
        (U, D) what a node sends to its neighbours; `items_degree` (M,) how many like an item;
        `users_own` (U, D) a user's share in the own vector; `people.offsets` and `people.indices`
        whom each follows or is followed by, where follows count.
    """
    num_users = liked_UM.shape[0]
    graph_VV = normalised_graph(liked_UM, follows, config.social_weight)
    total_VD, layer_VD = node_VD, node_VD
    for _ in range(config.layers):
        sent_VD = total_VD
        layer_VD = graph_VV @ layer_VD
        total_VD = total_VD + layer_VD
    likes_M = liked_UM.sum(axis=0)
    people_UU = graph_VV[:num_users, :num_users]
    social_U = config.social_weight * np.diff(people_UU.indptr)
    degree_V = np.concatenate([social_U + liked_UM.sum(axis=1), likes_M])
    message_VD = sent_VD / (config.layers + 1) / np.sqrt(degree_V)[:, None]
    item_MD = torch.from_numpy(total_VD[num_users:] / (config.layers + 1))
    tensors = {
        "items": ranking_items(item_MD, likes_M, config).numpy(),
        "items_degree": likes_M,
        "messages": message_VD[num_users:],
        "users_messages": message_VD[:num_users],
        "users_own": node_VD[:num_users] / (config.layers + 1),
    }
    return {
        **{name: value.astype(np.float32) for name, value in tensors.items()},
        "people.indices": people_UU.indices.astype(np.int32),
        "people.offsets": people_UU.indptr.astype(np.int64),
    }


class LightGCN(Model):
    """Scores are inner products of a user's and the items' propagated vectors.

    After the softmax they are cosines, to which a share of an item's popularity is added.

    A user's vector is what liked items and people send (the same normalised sum as in the graph)
    and a part of the user's own. So a known user with the training history gets exactly the
    trained vector, a known user with newer likes moves with them, and someone new has a vector as
    soon as one known item is liked. With the ties at hand, newer follows count likewise, and what
    known users send places an item that is new.
    """

    name: ClassVar[str] = "gnn"
    reads_ties: ClassVar[bool] = True
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
        self.degree_M = tensors["items_degree"]
        self.message_MD = tensors["messages"]
        self.message_UD = tensors["users_messages"]
        self.own_UD = tensors["users_own"]
        indices, offsets = tensors["people.indices"], tensors["people.offsets"]
        self.people_UU = sparse.csr_array(
            (np.ones(len(indices), np.float32), indices, offsets), shape=(len(user_ids),) * 2
        )
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
        return self._with_places(item_ids, new_ND.numpy(), np.zeros(len(item_ids)), 1.0)

    def with_ties(self, ties: Ties) -> LightGCN:
        """This model with places for items and people whom likes and follows tie to those it knows.

        An item that nobody liked in training is what its likers and its media send. Where follows
        count, those at hand stand in place of the trained ones. Who is new sends nothing.
        """
        learnt_ids = self.item_ids[self.degree_M > 0]
        item_ids, liked_UN = ties.new_likes(self.user_ids, learnt_ids)
        degree_N = liked_UN.sum(axis=0)
        place_ND = (liked_UN.T @ self.message_UD) / np.sqrt(degree_N)[:, None]
        media_N = codes_in(item_ids, self.item_ids)
        place_ND[media_N >= 0] += self.message_MD[media_N[media_N >= 0]]
        trust_N = np.where(media_N >= 0, 1.0, np.sqrt(degree_N / (degree_N + _DOUBT)))
        found = self._with_places(item_ids, place_ND, degree_N, trust_N)
        if self.config.social_weight > 0:
            found.user_ids, found.people_UU = ties.circle(self.user_ids)
            place_U = codes_in(self.user_ids, found.user_ids)
            for name in ("own_UD", "message_UD"):
                wide_XD = np.zeros((len(found.user_ids), self.config.width), np.float32)
                wide_XD[place_U] = getattr(self, name)
                setattr(found, name, wide_XD)
        return found

    def _with_places(
        self,
        item_ids: np.ndarray,
        place_ND: np.ndarray,
        degree_N: np.ndarray,
        trust_N: np.ndarray | float,
    ) -> LightGCN:
        """This model with other or more items.

        Args:
            item_ids: (N,) str.
            place_ND: what they are.
            degree_N: how many like each.
            trust_N: by what to multiply the vectors that they are ranked by, popularity aside.
        """
        kept_M = codes_in(self.item_ids, item_ids) < 0
        everything = np.concatenate([self.item_ids[kept_M], item_ids])
        order = np.argsort(everything, kind="stable")
        # They had no time to be liked by many: few likes tell nothing of how popular they are.
        typical = np.expm1(np.log1p(self.degree_M[self.degree_M > 0]).mean())
        likes_N = np.maximum(degree_N, typical)
        rank_ND = ranking_items(torch.from_numpy(place_ND), likes_N, self.config).numpy()
        rank_ND[:, : self.config.width] *= np.reshape(trust_N, (-1, 1))
        message_ND = place_ND / np.sqrt(np.maximum(degree_N, 1))[:, None]
        tensors = {key: value for key, value in self._tensors().items() if key != "nodes"}
        for name, new in (
            ("items", rank_ND), ("items_degree", degree_N), ("messages", message_ND)
        ):  # fmt: skip
            rows = np.concatenate([tensors[name][kept_M], new])[order]
            tensors[name] = rows.astype(np.float32)
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
        return self._ranking_vectors(histories) @ self.item_MD.T

    def item_vectors(self) -> np.ndarray:
        """(M, D), or (M, D + 1) after the softmax, see `ranking_items`."""
        return self.item_MD

    def likeness_vectors(self) -> np.ndarray:
        """(M, D): propagated item vectors, without how popular the items are."""
        return self.item_MD[:, : self.config.width]

    def knows(self, histories: Histories) -> np.ndarray:
        """(B,) bool: who liked something, or is tied to people whom the model knows."""
        people_BU = rows_for(histories.user_ids, self.user_ids, self.people_UU)
        return super().knows(histories) | (np.diff(people_BU.indptr) > 0)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        """(B, D), or (B, D + 1) after the softmax, see `ranking_users`.

        The first D are zeros for someone new without a known liked item, or known people.
        """
        return self._ranking_vectors(histories.positives(self.item_ids))

    def _ranking_vectors(self, histories: Histories) -> np.ndarray:
        user_BD = torch.from_numpy(self._user_vectors(histories))
        return ranking_users(user_BD, self.config).numpy()

    def _user_vectors(self, histories: Histories) -> np.ndarray:
        liked_BM = sparse.csr_array(
            (np.ones(len(histories.items), np.float32), (histories.rows(), histories.items)),
            shape=(len(histories), len(self.item_ids)),
        )
        liked_BM.data[:] = 1.0
        people_BU = rows_for(histories.user_ids, self.user_ids, self.people_UU)
        weight = self.config.social_weight
        degree_B = np.diff(liked_BM.indptr) + weight * np.diff(people_BU.indptr)
        heard_BD = liked_BM @ self.message_MD + weight * (people_BU @ self.message_UD)
        user_BD = heard_BD / np.sqrt(np.where(degree_B > 0, degree_B, 1))[:, None]
        code_B = codes_in(histories.user_ids, self.user_ids)
        user_BD[code_B >= 0] += self.own_UD[code_B[code_B >= 0]]
        return user_BD.astype(np.float32)

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            "items": self.item_MD,
            "items_degree": self.degree_M,
            "messages": self.message_MD,
            "users_messages": self.message_UD,
            "users_own": self.own_UD,
            "people.indices": self.people_UU.indices.astype(np.int32),
            "people.offsets": self.people_UU.indptr.astype(np.int64),
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
