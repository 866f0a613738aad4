"""SocialGNN: the layers of the documents, the whole graph encoded once, people who count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch_geometric.nn import GCNConv

from training.candidates import similar_items
from training.loop import Shard
from training.models import FitContext
from training.models.graph import LikeGraph, sample_negatives, torch_csr
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
    ("cid", "jam", 5), ("cid", "ham", 6), ("dan", "tea", 7), ("dan", "ham", 8), ("dan", "pie", 9),
]  # fmt: skip
TINY = {"width": 8, "hidden": 6, "heads": 2, "epochs": 3, "batch_size": 4, "patience": 0}


@pytest.fixture
def friends(make_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Ann and Bob follow each other, Cid follows Ann, Dan follows nobody."""
    return make_snapshot(LIKES, follows=[("ann", "bob"), ("bob", "ann"), ("cid", "ann")])


def test_the_layers_are_those_of_the_documents(friends: Snapshot):
    task = PairTask(SocialGNNConfig(), LikeGraph.build(friends, seed=0).arrays, seed=0)
    user_UD, item_MD = task.node_VD.split([4, 5])
    assert (user_UD.shape, item_MD.shape) == ((4, 128), (5, 128))
    network = task.network
    assert [tuple(layer.weight.shape) for layer in network.convolutions] == [
        (128, 64), (64, 64), (64, 128)
    ]  # fmt: skip
    assert (network.attention.heads, network.attention.concat) == (4, False)
    assert [tuple(network.predictor[place].weight.shape) for place in (0, 3)] == [
        (64, 256), (1, 64)
    ]  # fmt: skip
    assert isinstance(network.predictor[1], torch.nn.ReLU)
    assert network.predictor[2].p == 0.2
    assert sum(parameter.numel() for parameter in network.parameters()) == 103_937


def test_the_first_two_convolutions_alone_are_rectified_and_thinned_out():
    torch.manual_seed(0)
    network = Network(SocialGNNConfig())
    alone_VV = torch_csr(sparse.eye_array(500, dtype=np.float32, format="csr"))
    itself_2V, node_VD = torch.arange(500).expand(2, -1), torch.randn(500, 128)
    with torch.no_grad():
        whole, thinned = (
            network.train(training).encode(alone_VV, itself_2V, node_VD)
            for training in (False, True)
        )
    for layers in (whole, thinned):
        _, first, second, last, final = layers
        assert min(first.min(), second.min()) == 0 > max(last.min(), final.min())
        assert (last != 0).all()
    kept = thinned[1] > 0
    torch.testing.assert_close(thinned[1][kept], 2 * whole[1][kept])
    assert float(kept.sum() / (whole[1] > 0).sum()) == pytest.approx(0.5, abs=0.02)


def test_scores_are_the_log_odds_of_a_like(
    friends: Snapshot, context: Callable[..., FitContext], monkeypatch: pytest.MonkeyPatch
):
    """The loss is the binary cross-entropy of probabilities; the same pair has always the same."""
    model = trained(friends, context, dropout=0.0, predictor_dropout=0.0)
    everyone = friends.histories(np.arange(4), friends.valid_start)
    logit_UM = model.score(everyone)
    np.testing.assert_array_equal(model.score(everyone), logit_UM)
    chance_UM = 1 / (1 + np.exp(-logit_UM.astype(np.float64)))
    assert ((chance_UM > 0) & (chance_UM < 1)).all()
    data = LikeGraph.build(friends, seed=42).arrays
    task = PairTask(model.config, data, seed=42).eval()
    final_VD = torch.randn(9, 8)
    monkeypatch.setattr(task, "encode", lambda: [final_VD])
    loss = task((np.arange(9), 5), Shard()).item()
    user_P, item_P = task.pairs(np.arange(9))
    negative_Pn = sample_negatives(task.liked_UM, user_P, 4, np.random.default_rng(5))
    chance = task.network.predict(final_VD[:4], final_VD[4:]).sigmoid().detach().numpy()
    for_likes = -np.log(chance[user_P, item_P])
    against = -np.log(1 - chance[user_P[:, None], negative_Pn])
    assert loss == pytest.approx((for_likes + against.mean(axis=1)).mean() / 2, rel=1e-4)


@pytest.fixture(scope="module")
def of_groups(planted: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> SocialGNN:
    """Fitted on the planted world, whose people and items are of four groups."""
    options = {
        "width": 32, "hidden": 32, "heads": 2, "epochs": 30, "patience": 0, "batch_size": 256,
        "learning_rate": 0.01, "dropout": 0.2,
    }  # fmt: skip
    context = FitContext(seed=42, work_dir=tmp_path_factory.mktemp("fit"), run_name="groups")
    return SocialGNN.fit(planted, options, context)


def test_held_out_likes_rank_above_others_by_more_than_popularity(
    planted: Snapshot, of_groups: SocialGNN
):
    liked_UM = LikeGraph.build(planted, seed=42).liked_UM
    early_E, held_E = (
        planted.positives(*part)
        for part in ((None, planted.valid_start), (planted.test_start, planted.end))
    )
    early = set(zip(planted.users[early_E].tolist(), planted.items[early_E].tolist(), strict=True))
    assert liked_UM.nnz == len(early), "no other like carries messages"
    users = np.arange(len(planted.user_ids))
    score_UN = of_groups.score(planted.histories(users, planted.valid_start))
    count_N = np.bincount(planted.items[early_E], minlength=len(planted.catalogue))
    user_H, item_H = planted.users[held_E], planted.items[held_E]
    random_H = np.random.default_rng(0).integers(120, size=len(item_H))

    def auc(score_UN: np.ndarray) -> float:
        difference_H = score_UN[user_H, item_H] - score_UN[user_H, random_H]
        return float(np.mean((difference_H > 0) + 0.5 * (difference_H == 0)))

    assert auc(score_UN) > 0.75 > 0.6 > auc(np.tile(count_N, (len(users), 1)))


def test_similar_items_are_of_a_group(of_groups: SocialGNN):
    np.testing.assert_allclose(of_groups.likeness_vectors().mean(axis=0), 0, atol=1e-5)
    assert of_groups.item_vectors() is None, "scores are no inner products"
    rows = similar_items(of_groups, k=3).to_pylist()
    same = [int(row["item_id"][-3:]) % 4 == int(row["similar_item_id"][-3:]) % 4 for row in rows]
    assert np.mean(same) > 0.9


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


def trained(snapshot: Snapshot, context: Callable[..., FitContext], **options: Any) -> SocialGNN:
    return SocialGNN.fit(snapshot, {**TINY, **options}, context())


def test_training_histories_are_placed_where_training_placed_them(
    friends: Snapshot, context: Callable[..., FitContext]
):
    model = trained(friends, context)
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
    model = trained(friends, context)
    whole = model.score(friends.histories(np.arange(4), friends.end))
    monkeypatch.setattr("training.models.pair_prediction._PREDICTED", 1)
    for users in ([2], [0, 3, 1]):
        part = model.score(friends.histories(np.array(users), friends.end))
        assert part.shape == (len(users), 5)
        np.testing.assert_allclose(part, whole[users], rtol=1e-4, atol=1e-6)


def test_follows_count_for_whom_they_bind(
    friends: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    context: Callable[..., FitContext],
):
    model = trained(friends, context)
    everyone = friends.histories(np.arange(4), friends.end)
    alone = dict(model.tensors)
    alone["people.offsets"] = np.zeros(5, np.int64)
    alone["people.indices"] = np.empty(0, np.int32)
    lonely = SocialGNN(model.config, model.item_ids, model.user_ids, alone)
    moved = np.abs(model.score(everyone) - lonely.score(everyone)).max(axis=1)
    assert (moved[:3] > 1e-5).all(), "those who follow or are followed"
    assert moved[3] == pytest.approx(0.0, abs=1e-6), "Dan"
