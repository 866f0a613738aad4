"""SocialGNN: the layers of the documents, the whole graph encoded once, people who count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import GCNConv

from training.models import FitContext
from training.models.graph import LikeGraph, torch_csr
from training.models.pair_prediction import (
    Convolution,
    Network,
    PairTask,
    SocialGNNConfig,
    message_graph,
)
from training.models.social_gnn import SocialGNN
from training.snapshot import Snapshot

LIKES = [
    ("ann", "tea", 1), ("ann", "mug", 2), ("bob", "mug", 3), ("bob", "jam", 4),
    ("cid", "jam", 5), ("cid", "ham", 6), ("dan", "tea", 7), ("dan", "ham", 8),
]  # fmt: skip
TINY = {"width": 8, "hidden": 6, "heads": 2, "epochs": 3, "batch_size": 4, "patience": 0}


@pytest.fixture
def friends(make_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Ann and Bob follow each other, Cid follows Ann, Dan follows nobody."""
    return make_snapshot(LIKES, follows=[("ann", "bob"), ("bob", "ann"), ("cid", "ann")])


def test_the_layers_are_those_of_the_documents():
    network = Network(SocialGNNConfig())
    assert [tuple(layer.weight.shape) for layer in network.convolutions] == [
        (128, 64), (64, 64), (64, 128)
    ]  # fmt: skip
    assert (network.attention.heads, network.attention.concat) == (4, False)
    assert [tuple(network.predictor[place].weight.shape) for place in (0, 3)] == [
        (64, 256), (1, 64)
    ]  # fmt: skip
    assert sum(parameter.numel() for parameter in network.parameters()) == 103_937


def test_a_convolution_is_that_of_kipf_and_welling(friends: Snapshot):
    graph = LikeGraph.build(friends, seed=0)
    users, items = graph.liked_UM.shape
    torch.manual_seed(0)
    own, theirs = Convolution(5, 3), GCNConv(5, 3)
    with torch.no_grad():
        theirs.lin.weight.copy_(own.weight.T)
        own.bias.normal_()
        theirs.bias.copy_(own.bias)
    user, item = graph.liked_UM.nonzero()
    edge_2E = np.concatenate(
        [[user, item + users], [item + users, user], [[0, 1, 2, 0], [1, 0, 0, 2]]], axis=1
    )
    x_VD = torch.randn(users + items, 5)
    torch.testing.assert_close(
        own(torch_csr(message_graph(graph.liked_UM, graph.follows)), x_VD),
        theirs(x_VD, torch.from_numpy(edge_2E)),
    )


def fitted(snapshot: Snapshot, context: Callable[..., FitContext], **options: Any) -> SocialGNN:
    return SocialGNN.fit(snapshot, {**TINY, **options}, context())


def test_training_histories_are_placed_where_training_placed_them(
    friends: Snapshot, context: Callable[..., FitContext]
):
    model = fitted(friends, context)
    graph = LikeGraph.build(friends, seed=42)
    task = PairTask(model.config, graph.arrays, seed=42).eval()
    weights = {name: torch.from_numpy(value) for name, value in model.tensors.items()}
    network = {name: value for name, value in weights.items() if name.startswith("network.")}
    item_MD = weights["sent.0"] * torch.tensor(1 + graph.liked_UM.sum(axis=0)).sqrt()[:, None]
    task.load_state_dict({**network, "node_VD": torch.cat([weights["users"], item_MD])})
    with torch.no_grad():
        final_VD = task.network.encode(task.graph_VV, task.edge_2E, task.node_VD)[-1]
        expected_UM = task.network.predict(final_VD[:4], final_VD[4:])
        pair = torch.cat([final_VD[1], final_VD[4 + 2]])
        torch.testing.assert_close(expected_UM[1, 2], task.network.predictor(pair)[0])
    everyone = friends.histories(np.arange(4), friends.valid_start)
    np.testing.assert_allclose(model.score(everyone), expected_UM.numpy(), rtol=1e-4, atol=1e-5)


def test_any_people_are_scored_with_all_items(
    friends: Snapshot, context: Callable[..., FitContext], monkeypatch: pytest.MonkeyPatch
):
    model = fitted(friends, context)
    whole = model.score(friends.histories(np.arange(4), friends.end))
    monkeypatch.setattr("training.models.pair_prediction._PREDICTED", 1)
    for users in ([2], [0, 3, 1]):
        part = model.score(friends.histories(np.array(users), friends.end))
        np.testing.assert_allclose(part, whole[users], rtol=1e-4, atol=1e-6)


def test_follows_count_for_whom_they_bind(
    friends: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    context: Callable[..., FitContext],
):
    model = fitted(friends, context)
    everyone = friends.histories(np.arange(4), friends.end)
    alone = dict(model.tensors)
    alone["people.offsets"] = np.zeros(5, np.int64)
    alone["people.indices"] = np.empty(0, np.int32)
    lonely = SocialGNN(model.config, model.item_ids, model.user_ids, alone)
    moved = np.abs(model.score(everyone) - lonely.score(everyone)).max(axis=1)
    assert (moved[:3] > 1e-4).all(), "those who follow or are followed"
    assert moved[3] == pytest.approx(0.0, abs=1e-6), "Dan"
