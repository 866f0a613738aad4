"""LightGCN against PyTorch Geometric, dense algebra and hand-worked losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from training.histories import Histories, codes_in
from training.loop import Shard
from training.models import FitContext
from training.models.gnn import LightGCN, learnt_tensors
from training.models.graph import normalised_graph, propagate, sample_negatives, torch_csr
from training.models.link_prediction import LightGCNConfig, LinkTask
from training.snapshot import Snapshot

LIKED_UM = sparse.csr_array(
    np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 0], [1, 1, 1, 1, 0]], np.float32)
)
FOLLOWS = np.array([[0, 1, 1], [1, 0, 2]])
NO_FOLLOWS = np.empty((2, 0), np.int64)


def task(**options: Any) -> LinkTask:
    data = {
        "sizes": np.array(LIKED_UM.shape),
        "liked.items": LIKED_UM.indices.astype(np.int32),
        "liked.offsets": LIKED_UM.indptr.astype(np.int64),
        "follows": FOLLOWS,
    }
    torch.manual_seed(0)
    return LinkTask(LightGCNConfig(width=3, **options), data, seed=0)


def test_propagation_is_that_of_pytorch_geometric():
    from torch_geometric.nn import LightGCN as Reference

    reference = Reference(num_nodes=9, embedding_dim=3, num_layers=2)
    user, item = LIKED_UM.tocoo().coords
    edges = np.concatenate([np.stack([user, item + 4]), np.stack([item + 4, user])], axis=1)
    expected_VD = reference.get_embedding(torch.from_numpy(edges))
    graph_VV = torch_csr(normalised_graph(LIKED_UM, NO_FOLLOWS, 0.0))
    final_VD = propagate(graph_VV, reference.embedding.weight, layers=2)
    torch.testing.assert_close(final_VD, expected_VD)


def test_gradients_through_the_sparse_graph_are_those_of_dense_algebra():
    graph_VV = normalised_graph(LIKED_UM, FOLLOWS, 0.5)
    node_VD = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    other_VD = node_VD.detach().clone().requires_grad_()
    (propagate(torch_csr(graph_VV), node_VD, 3) ** 3).sum().backward()
    dense_VV, layer_VD, total_VD = torch.from_numpy(graph_VV.toarray()), other_VD, other_VD
    for _ in range(3):
        layer_VD = dense_VV @ layer_VD
        total_VD = total_VD + layer_VD
    ((total_VD / 4) ** 3).sum().backward()
    torch.testing.assert_close(node_VD.grad, other_VD.grad)


def test_the_graph_holds_likes_and_weighted_follows_both_ways():
    plain = normalised_graph(LIKED_UM, FOLLOWS, 0.0).toarray()
    np.testing.assert_array_equal(plain, normalised_graph(LIKED_UM, NO_FOLLOWS, 0.5).toarray())
    assert plain[0, 4] == pytest.approx(1 / np.sqrt(2 * 3))
    social = normalised_graph(LIKED_UM, FOLLOWS, 0.5).toarray()
    # User 0 follows and is followed by 1, which is one edge: degrees 2.5 and 3 (1 and 2 too).
    assert social[0, 1] == social[1, 0] == pytest.approx(0.5 / np.sqrt(2.5 * 3))
    assert social[1, 2] == social[2, 1] == pytest.approx(0.5 / np.sqrt(3 * 2.5))
    assert social[0, 4] == pytest.approx(1 / np.sqrt(2.5 * 3))
    assert (social[8] == 0).all()  # an item nobody likes


def histories(liked_BM: np.ndarray, users: list[str]) -> Histories:
    row, item = np.nonzero(liked_BM)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(users)))])
    ids = np.array([f"i{code}" for code in range(liked_BM.shape[1])])
    ones = np.ones(len(item))
    return Histories(np.array(users), ids, offsets, item.astype(np.int32), ones * 0, ones, 1)


@pytest.mark.parametrize("social_weight", [0.0, 0.5])
@pytest.mark.parametrize("loss", ["softmax", "directau", "bpr"])
def test_user_vectors_follow_the_history(social_weight: float, loss: str):
    liked_UM = LIKED_UM[:, :4]  # every item of a fitted model is liked by someone
    config = LightGCNConfig(width=3, layers=3, loss=loss, social_weight=social_weight)
    node_VD = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    graph_VV = torch_csr(normalised_graph(liked_UM, FOLLOWS, social_weight))
    final_VD = propagate(graph_VV, torch.from_numpy(node_VD), 3).numpy()
    model = LightGCN(
        config,
        np.array([f"i{code}" for code in range(4)]),
        np.array([f"u{code}" for code in range(4)]),
        learnt_tensors(config, liked_UM, FOLLOWS, node_VD),
    )
    known = histories(liked_UM.toarray(), ["u0", "u1", "u2", "u3"])

    def ranked(vector_BD: np.ndarray) -> np.ndarray:
        if loss != "softmax":
            return vector_BD
        unit_BD = vector_BD / np.linalg.norm(vector_BD, axis=1, keepdims=True)
        return np.column_stack([unit_BD, np.ones(len(unit_BD))])

    ranked_UD = ranked(final_VD[:4])
    np.testing.assert_allclose(model.user_vectors(known), ranked_UD, rtol=1e-5, atol=1e-6)
    # Someone new is a multiple of the messages' sum; a new like moves a known user.
    new_BD = model.user_vectors(histories(liked_UM.toarray()[[0, 0]], ["new", "newer"]))
    message_D = model.message_MD[:2].sum(axis=0)
    np.testing.assert_allclose(new_BD[:1], ranked(message_D[None] / np.sqrt(2)), rtol=1e-5)
    np.testing.assert_array_equal(new_BD[0], new_BD[1])
    more = histories(np.array([[1, 1, 1, 0]]), ["u0"])
    assert not np.allclose(model.user_vectors(more), ranked_UD[0], atol=1e-3)
    nothing = histories(np.zeros((1, 4)), ["new"])
    constant = [1.0] if loss == "softmax" else []
    assert model.user_vectors(nothing).tolist() == [[0.0, 0.0, 0.0, *constant]]


@pytest.mark.parametrize("edges", [np.arange(10), np.array([9, 0, 5])])
def test_the_softmax_loss_is_as_written_out(edges: np.ndarray):
    user_E, item_E = LIKED_UM.tocoo().coords
    liked = LIKED_UM.toarray() > 0
    subject = task(loss="softmax", temperature=0.5)
    final_VD = propagate(subject.graph_VV, subject.node_VD, subject.config.layers)
    unit_VD = torch.nn.functional.normalize(final_VD, dim=1)
    likes_M = liked.sum(axis=0)
    share_M = likes_M / liked.sum()

    def logit(user: int, item: int) -> torch.Tensor:
        return unit_VD[user] @ unit_VD[4 + item] / 0.5 + np.log(1 + likes_M[item])

    total = 0.0
    for edge in edges:
        user, own = user_E[edge], item_E[edge]
        positive = logit(user, own)
        terms = [positive]
        for item in sorted(set(item_E[edges].tolist()) - {own}):
            if not liked[user, item]:
                in_batch = 1 - (1 - share_M[item]) ** len(edges)
                terms.append(logit(user, item) - np.log(in_batch))
        total = total + torch.stack(terms).logsumexp(0) - positive
    torch.testing.assert_close(subject((edges, 0, None), Shard()), total / len(edges))


@pytest.mark.parametrize("shards", [1, 2])
def test_the_directau_loss_is_as_written_out(shards: int):
    user_E, item_E = LIKED_UM.tocoo().coords
    subject = task(loss="directau", uniformity=0.5)
    final_VD = propagate(subject.graph_VV, subject.node_VD, subject.config.layers)
    unit_VD = torch.nn.functional.normalize(final_VD, dim=1)
    edges = np.array([0, 3, 9])
    user_PD, item_PD = unit_VD[user_E[edges]], unit_VD[4 + item_E[edges]]
    wanted = (user_PD - item_PD).square().sum(1).mean()
    for side_PD in (user_PD, item_PD):
        kernel = torch.pdist(side_PD).square().mul(-2).exp().mean().log()
        wanted = wanted + 0.5 * kernel / 2
    parts = [subject((edges, 0, None), Shard(index, shards)) for index in range(shards)]
    torch.testing.assert_close(torch.stack(parts).sum(), wanted)


def test_the_bpr_loss_is_as_written_out():
    user_E, item_E = LIKED_UM.tocoo().coords
    subject = task(loss="bpr", negatives=2)
    final_VD = propagate(subject.graph_VV, subject.node_VD, subject.config.layers)
    edges, seed = np.array([0, 3, 9]), 11
    negative_Pn = sample_negatives(LIKED_UM, user_E[edges], 2, np.random.default_rng(seed))
    total = 0.0
    for pair, edge in enumerate(edges):
        user_D = final_VD[user_E[edge]]
        for negative in negative_Pn[pair]:
            margin = user_D @ final_VD[4 + item_E[edge]] - user_D @ final_VD[4 + negative]
            total = total - torch.nn.functional.logsigmoid(margin) / 2
    torch.testing.assert_close(subject((edges, seed, None), Shard()), total / 3)


def test_a_block_of_everybody_is_the_whole_graph():
    subject = task(social_weight=0.5)
    for whole, part in zip(subject.vectors(), subject.vectors(np.arange(4)), strict=True):
        torch.testing.assert_close(part, whole)


def test_what_items_hear_of_blocks_is_what_they_hear_of_everybody():
    subject = task(layers=1)
    _, whole_MD = subject.vectors()
    blocks = [np.array(pair) for pair in combinations(range(4), 2)]
    parts = [subject.vectors(user_b) for user_b in blocks]
    torch.testing.assert_close(torch.stack([item_MD for _, item_MD in parts]).mean(0), whole_MD)
    for user_b, (user_bD, _) in zip(blocks, parts, strict=True):
        torch.testing.assert_close(user_bD, subject.vectors()[0][user_b])


def test_an_epoch_of_blocks_has_each_like_once_and_with_its_user():
    subject = task(block_likes=4, batch_size=2)
    found = subject.batches(3)
    assert sorted(np.concatenate([likes for likes, _, _ in found])) == list(range(LIKED_UM.nnz))
    assert len({user_b.tobytes() for _, _, user_b in found}) == 3
    for likes, _, user_b in found:
        assert np.isin(subject.pairs(likes)[0], user_b).all()
    assert str(subject.batches(3)) == str(found) != str(subject.batches(4))
    alone = task(block_likes=1).batches(0)
    assert sorted(user_b.tolist() for _, _, user_b in alone) == [[0], [1], [2], [3]]


def test_no_negative_is_an_item_its_user_likes():
    rng = np.random.default_rng(0)
    liked = rng.random((50, 40)) < np.linspace(0, 1, 50)[:, None]
    liked[-1] = True
    liked[-2] = True
    liked[-2, 17] = False
    user_P = np.repeat(np.arange(50), 20)
    negative_Pn = sample_negatives(sparse.csr_array(liked.astype(np.float32)), user_P, 3, rng)
    assert negative_Pn.shape == (1000, 3)
    assert (negative_Pn[user_P == 49] == -1).all()
    assert (negative_Pn[user_P == 48] == 17).all()
    some = user_P < 48
    assert not liked[user_P[some, None], negative_Pn[some]].any()
    # Uniform over what is left: user 0 likes next to nothing.
    drawn = sample_negatives(
        sparse.csr_array(liked.astype(np.float32)), np.zeros(4000, int), 5, rng
    )
    share_M = np.bincount(drawn.ravel(), minlength=40)[~liked[0]] / drawn.size
    np.testing.assert_allclose(share_M, 1 / (~liked[0]).sum(), rtol=0.25)


def test_pairs_without_a_negative_cost_nothing():
    data = {
        "sizes": np.array([1, 1]),
        "liked.items": np.array([0], np.int32),
        "liked.offsets": np.array([0, 1]),
        "follows": NO_FOLLOWS,
    }
    subject = LinkTask(LightGCNConfig(width=3, loss="bpr"), data, seed=0)
    assert subject((np.array([0]), 0, None), Shard()).item() == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "bpr", "negatives": 2, "epochs": 30},
        {"loss": "directau", "uniformity": 0.5},
        {"social_weight": 0.3},
        {"layers": 3},
        {"block_likes": 400},
        {"block_likes": 400, "loss": "bpr", "epochs": 30},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "loss": "directau", "uniformity": 0.5},
    ],
    ids=str,
)
def test_held_out_edges_rank_above_random_ones(
    changes: dict[str, Any],
    planted: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Callable[..., FitContext],
):
    model = LightGCN.fit(planted, debug_config("gnn") | changes, context())
    users = np.arange(len(planted.user_ids))
    score_UN = model.score(planted.histories(users, planted.valid_start))
    counts_N = np.bincount(
        planted.items[planted.positives(None, planted.valid_start)],
        minlength=len(planted.catalogue),
    )
    held_E = planted.positives(planted.test_start, planted.end)
    user_H, item_H = planted.users[held_E], planted.items[held_E]
    random_H = np.random.default_rng(0).integers(120, size=len(item_H))

    def auc(score_UN: np.ndarray) -> float:
        difference_H = score_UN[user_H, item_H] - score_UN[user_H, random_H]
        return float(np.mean((difference_H > 0) + 0.5 * (difference_H == 0)))

    assert auc(score_UN) > 0.75 > 0.6 > auc(np.tile(counts_N, (len(users), 1)))


def test_follows_reach_a_user_without_own_likes_of_a_kind(
    make_snapshot: Callable[..., Snapshot], context: Callable[..., FitContext]
):
    events = [
        (f"u{user}", f"{kind}{item}", 10 * item + user)
        for user, kind in enumerate("xxxyyy")
        for item in range(4)
    ]
    follows = [("u0", "u1"), ("nobody", "u0"), ("u0", "u0")]
    config = {"width": 8, "epochs": 1, "patience": 0, "batch_size": 8}
    plain, social = (
        LightGCN.fit(
            make_snapshot(events, follows=follows), config | {"social_weight": weight}, context()
        )
        for weight in (0.0, 1.0)
    )
    assert plain.people_UU.sum(axis=1).tolist() == [0.0] * 6
    assert social.people_UU.sum(axis=1).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_warm_start_knows_what_was_learnt(
    planted: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Callable[..., FitContext],
    tmp_path: Path,
):
    """A day later: the losses go on where they were; who and what is new gets a row of its own."""
    options = debug_config("gnn") | {"warm_start": True}
    first = LightGCN.fit(planted, options, context())
    first.save(tmp_path / "first")
    before = LightGCN.load(tmp_path / "first")
    later = replace(planted, valid_start=planted.test_start, test_start=planted.end)
    short = options | {"epochs": 1, "learning_rate": 1e-6}
    lines: list[str] = []
    cold = LightGCN.fit(later, short, context())
    warm = LightGCN.fit(later, short, context(start_from=before, progress=lines.append))
    assert lines[0] == (
        f"gnn goes on from an earlier model: {len(before.user_ids)} users and "
        f"{len(before.item_ids)} items known to it"
    )
    assert warm.fit_facts["last_loss"] < 0.9 * cold.fit_facts["last_loss"]
    assert before.node_VD is not None
    assert warm.node_VD is not None
    for ids, old_ids, old, new in (
        (warm.user_ids, before.user_ids, 0, 0),
        (warm.item_ids, before.item_ids, len(before.user_ids), len(warm.user_ids)),
    ):
        place = codes_in(ids, old_ids)
        np.testing.assert_allclose(
            warm.node_VD[new : new + len(ids)][place >= 0],
            before.node_VD[old + place[place >= 0]],
            atol=1e-4,
        )


@pytest.mark.parametrize(
    ("change", "why"),
    [({"width": 8}, "has another width"), ({"warm_start": False}, "was not made for it")],
)
def test_a_warm_start_from_another_kind_is_a_cold_one(
    change: dict[str, Any],
    why: str,
    planted: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Callable[..., FitContext],
):
    options = debug_config("gnn") | {"warm_start": True, "epochs": 1}
    before = LightGCN.fit(planted, options | change, context())
    lines: list[str] = []
    warm = LightGCN.fit(planted, options, context(start_from=before, progress=lines.append))
    assert lines[0] == f"gnn starts afresh: the earlier model {why}"
    np.testing.assert_array_equal(
        warm.item_vectors(), LightGCN.fit(planted, options, context()).item_vectors()
    )
