"""The parts of the network: media, histories, moments, answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from reaction_world import reaction_snapshot, task_data

from training.content import ItemContent
from training.loop import Shard
from training.models.next_item import NextItemTask
from training.models.transformer_network import (
    REACTIONS,
    Network,
    Sizes,
    TransformerConfig,
    attention,
    clock,
    dropout,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "models"
SMALL = TransformerConfig(width=8, layers=2, heads=2, max_length=6, dropout=0.0)
EVERYTHING = Sizes(
    items=9,
    event_types=11,
    watch=True,
    time=True,
    devices=2,
    locations=3,
    media=(("audio", 3), ("text", 5)),
    reactions=True,
)
HOUR = 3600


def network(config: TransformerConfig = SMALL, sizes: Sizes = EVERYTHING) -> Network:
    torch.manual_seed(0)
    one = Network(config, sizes)
    for parameter in one.parameters():  # far from where training begins, so that all parts count
        torch.nn.init.normal_(parameter, std=0.5)
    return one.eval()


@pytest.mark.parametrize("all_at_once", [True, False])
def test_attention_in_bfloat16_is_attention(all_at_once: bool):
    generator = torch.Generator().manual_seed(0)
    q_BHLd, k_BHLd, v_BHLd = torch.randn(3, 2, 2, 5, 8, generator=generator).bfloat16()
    sees_BHLL = torch.rand(2, 1, 5, 5, generator=generator) < 0.5
    sees_BHLL |= torch.eye(5, dtype=torch.bool)
    sees = sees_BHLL if all_at_once else None
    found = attention(q_BHLd, k_BHLd, v_BHLd, sees)
    assert found.dtype == torch.bfloat16
    expected = attention(q_BHLd.float(), k_BHLd.float(), v_BHLd.float(), sees)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.03)


def test_dropout_hides_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.full((200, 500), 3.0, requires_grad=True)
    y = dropout(x, 0.2, training=True)
    assert y.detach().unique().tolist() == [0.0, 3.75]
    assert float(y.detach().mean()) == pytest.approx(3.0, rel=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach() / 3)
    assert torch.equal(dropout(x, 0.2, training=False), x)


def test_the_full_size_is_that_of_the_documents():
    size = yaml.safe_load((CONFIGS / "transformer.yaml").read_text())["sizes"]["full"]
    config = TransformerConfig(**size)
    with torch.device("meta"):
        one = Network(
            config,
            replace(
                EVERYTHING, items=1000, media=(("audio", 1024), ("text", 768), ("video", 2048))
            ),
        )
    assert len(one.history.blocks) == 12
    assert {block.heads for block in one.history.blocks} == {16}
    assert one.items.embedding.weight.shape == (1001, 1024)
    assert {name: tuple(project.weight.shape) for name, project in one.items.project.items()} == {
        "audio": (1024, 1024),
        "text": (1024, 768),
        "video": (1024, 2048),
    }
    assert len(one.items.blocks) == 2
    # 12 d^2 weights and 13 d biases and norms a block.
    assert sum(p.numel() for p in one.history.blocks.parameters()) == 12 * (
        12 * 1024**2 + 13 * 1024
    )


def vectors(audio: list[int], text: list[int], seed: int = 1) -> dict[str, Any]:
    """Random vectors for some of the items."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, width, places in (("audio", 3, audio), ("text", 5, text)):
        every = torch.randn(9, width, generator=generator)
        found[name] = (torch.tensor(places, dtype=torch.int64), every[places])
    return found


def test_media_read_each_other_and_a_hidden_one_is_read_by_none():
    one = network()
    streams: list[torch.Tensor] = []
    one.items.blocks[-1].register_forward_hook(lambda _m, _i, out: streams.append(out))
    for media in (vectors([0], [0]), vectors([], [0]), vectors([0], [0], seed=2)):
        one.items.content({"audio": media["audio"], "text": vectors([0], [0])["text"]}, 1)
    both, alone, other = (stream[0, 1] for stream in streams)  # the stream of the text
    assert (both - alone).abs().max() > 1e-3
    assert (both - other).abs().max() > 1e-3
    streams.clear()
    one.items.content(vectors([], [0]), 1)
    one.items.content(vectors([], [0]) | {"audio": (torch.tensor([1]), torch.ones(1, 3))}, 2)
    torch.testing.assert_close(streams[0][0, 1], streams[1][0, 1])


def test_an_item_without_media_is_its_id_alone():
    one = network()
    item_ND = one.items(None, vectors([0, 1], [0, 2]))
    changed_N = (item_ND - one.items.embedding.weight).abs().amax(1) > 1e-6
    assert changed_N.tolist() == [True, True, True, *[False] * 7]
    some_ND = one.items(
        torch.tensor([2, 5]),
        vectors([], [0]) | {"text": (torch.tensor([0]), vectors([], [2])["text"][1])},
    )
    torch.testing.assert_close(some_ND, item_ND[[2, 5, 9]])


def test_media_of_whole_catalogues_and_of_items_alone_are_the_same():
    one = network()
    together_ND = one.items.content(vectors([0, 1, 4], [1, 4, 8]), 9)
    alone_1D = one.items.content(
        {
            name: (torch.tensor([0]), vector[[place]])
            for (name, (_, vector)), place in zip(
                vectors([0, 1, 4], [1, 4, 8]).items(), (2, 1), strict=True
            )
        },
        1,
    )
    torch.testing.assert_close(together_ND[[4]], alone_1D)
    assert (together_ND[[2, 3, 5, 6, 7]] == 0).all()


@pytest.mark.parametrize("width", [0, 1, 4, 6, 768])
def test_vectors_of_another_width_are_refused_by_name(width: int):
    wrong = vectors([0], []) | {"text": (torch.tensor([0]), torch.ones(1, width))}
    with pytest.raises(ValueError, match="text") as error:
        network().items(None, wrong)
    assert str(error.value) == (
        f"The vectors text have {width} numbers, but the network reads 5 of each."
    )


def test_hiding_media_leaves_each_item_one():
    config = replace(SMALL, modality_dropout=0.9)
    one = network(config).train()
    content_ND = one.items.content(vectors(list(range(9)), list(range(0, 9, 2))), 9)
    assert (content_ND != 0).any(1).all()


def test_hidden_ids_leave_content():
    one = network(replace(SMALL, id_dropout=0.99, modality_dropout=0.0)).train()
    media = vectors([0, 1, 2, 3], [])
    item_ND, content_ND = one.items(None, media), one.items.content(media, 9)
    hidden_N = torch.isclose(item_ND[:-1], content_ND).all(1)
    assert hidden_N.tolist() == [True] * 4 + [False] * 5


def history(B: int = 1, L: int = 4, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    marks = {
        "type": torch.randint(11, (B, L), generator=generator),
        "watch": torch.rand(B, L, generator=generator),
        "at": torch.randint(10**6, (B, L), generator=generator) * 1000,
        "gap": torch.randint(10**5, (B, L), generator=generator),
    }
    return torch.randn(B, L, 8, generator=generator), marks


@pytest.mark.parametrize("encoder", ["transformer", "lstm"])
class TestHistories:
    """What every encoder of histories must hold to."""

    def encoder(self, encoder: str) -> Any:
        return network(replace(SMALL, encoder=encoder)).history

    @pytest.mark.parametrize("mark", ["item", "type", "watch", "at", "gap"])
    def test_each_mark_counts_from_its_event_on(self, encoder: str, mark: str):
        encode = self.encoder(encoder)
        item_BLD, marks = history()
        before_BLD = encode(item_BLD, marks)
        if mark == "item":
            item_BLD[0, 2, 0] += 1
        else:
            other = {"type": 1, "watch": 0.5, "at": 7 * HOUR, "gap": 10**7}[mark]
            marks[mark][0, 2] = (
                (marks[mark][0, 2] + other) % 11 if mark == "type" else marks[mark][0, 2] + other
            )
        moved_L = (encode(item_BLD, marks) - before_BLD).abs().amax(2)[0] > 1e-6
        assert moved_L.tolist() == [False, False, True, True]

    def test_order_counts_and_padding_does_not(self, encoder: str):
        encode = self.encoder(encoder)
        item_BLD, marks = history()
        last_D = encode(item_BLD, marks)[0, 3]
        order = torch.tensor([2, 0, 1, 3])
        shuffled = encode(
            item_BLD[:, order], {name: mark[:, order] for name, mark in marks.items()}
        )
        assert (shuffled[0, 3] - last_D).abs().max() > 1e-3
        longer = encode(
            torch.cat([item_BLD, item_BLD[:, :2]], 1),
            {name: torch.cat([mark, mark[:, :2]], 1) for name, mark in marks.items()},
        )
        torch.testing.assert_close(longer[0, 3], last_D)

    def test_an_unknown_share_is_not_a_share_of_nothing(self, encoder: str):
        encode = self.encoder(encoder)
        item_BLD, marks = history()
        unknown, nothing = marks["watch"].clone(), marks["watch"].clone()
        unknown[0, 3], nothing[0, 3] = torch.nan, 0.0
        states = [encode(item_BLD, marks | {"watch": watch})[0, 3] for watch in (unknown, nothing)]
        assert torch.isfinite(states[0]).all()
        assert (states[0] - states[1]).abs().max() > 1e-3


def test_the_clock_is_round():
    # 1970 began on a Thursday: four days later it is Monday.
    monday = 4 * 24 * HOUR
    late, early, noon = clock(torch.tensor([monday - 60, monday, monday + 12 * HOUR]))
    assert (late - early).abs().max() < 0.01
    assert (noon - early)[:2].norm() == pytest.approx(2.0, abs=1e-5)
    torch.testing.assert_close(early, torch.tensor([0.0, 1.0, 0.0, 1.0]), atol=1e-6, rtol=0)


def test_each_part_of_the_moment_counts_and_unknown_is_a_part():
    one = network()
    state_D = torch.zeros(8)

    def query(device: int = 0, location: int = 1, at: int = 9 * HOUR) -> torch.Tensor:
        return one.query(state_D, *(torch.tensor(value) for value in (device, location, at)))

    others = [query(device=1), query(device=-1), query(location=2), query(location=-1)]
    others += [query(at=21 * HOUR), query(at=-1)]
    for place, other in enumerate(others):
        assert (other - query()).abs().max() > 1e-3, place
    item_ND = one.items(None, vectors([0], [1]))[:-1]
    assert not torch.allclose(item_ND @ query(), item_ND @ query(device=1))
    nobody = torch.zeros(1, 3)
    answers = [one.react(at[None], item_ND[:1], nobody) for at in (query(), query(device=1))]
    assert (answers[0] - answers[1]).abs().min() > 1e-4


def test_without_a_moment_a_query_is_the_state():
    one = network(sizes=Sizes(items=9))
    state_D = torch.randn(8)
    assert one.query(state_D, *[torch.tensor(-1)] * 3) is state_D


def task(**options: Any) -> NextItemTask:
    torch.manual_seed(0)
    config = TransformerConfig(
        **{"width": 8, "max_length": 10, "batch_tokens": 200, "dropout": 0.0, **options}
    )
    return NextItemTask(config, task_data(reaction_snapshot()), seed=3)


WIDE = {"audio": 1024, "text": 768, "video": 2048}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("negatives", [0, 7], ids=["full softmax", "sampled softmax"])
def test_a_step_with_media_of_full_width_moves_every_weight(negatives: int, precision: str):
    snapshot = reaction_snapshot()
    rows = snapshot.content.rows["text"]
    rng = np.random.default_rng(0)
    wide = {name: rng.normal(size=(rows.max() + 1, width)) for name, width in WIDE.items()}
    content = ItemContent(
        snapshot.content.item_ids,
        dict.fromkeys(WIDE, rows),
        {name: vector_PW.astype(np.float16) for name, vector_PW in wide.items()},
    )
    torch.manual_seed(0)
    config = replace(SMALL, max_length=10, rating_weight=1.0)
    if negatives:
        config = replace(config, full_softmax_max_items=0, negatives=negatives)
    one = NextItemTask(config, task_data(replace(snapshot, content=content)), seed=3)
    assert dict(one.network.sizes.media) == WIDE
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        loss = one(one.batches(0)[0], Shard())
    loss.backward()
    still = [
        name
        for name, parameter in one.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert still == []


def test_the_loss_is_the_weighted_sum_of_all():
    hidden = dict.fromkeys(("id_dropout", "modality_dropout", "context_dropout"), 0.0)
    one = task(click_weight=0.5, watch_weight=2.0, rating_weight=0.0, **hidden)
    batch = one.batches(0)[0]
    losses = {name: loss.item() for name, loss in one.losses(batch, Shard()).items()}
    assert list(losses) == ["next_item", "click", "watch"]
    total = losses["next_item"] + 0.5 * losses["click"] + 2.0 * losses["watch"]
    assert one(batch, Shard()).item() == pytest.approx(total)


def test_an_unknown_target_moves_nothing():
    one = task()
    known = {"click": [0, 1], "watch": [1], "rating": []}
    one.data = dict(one.data)
    for name in REACTIONS:
        target_X = np.full(len(one.data["shown.item"]), np.nan, np.float32)
        target_X[known[name]] = 1.0
        one.data[f"shown.{name}"] = target_X
    windows = np.arange(len(one.data["window.start"]))
    losses = one.losses((windows, 0), Shard())
    sum(losses[name] for name in REACTIONS).backward()
    last = one.network.reactions[2]
    assert ((last.weight.grad != 0).any(1) | (last.bias.grad != 0)).tolist() == [True, True, False]


def test_every_answer_is_learnt():
    one = task(click_weight=1.0, watch_weight=1.0, rating_weight=1.0)
    optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
    everything = (np.arange(len(one.data["window.start"])), 0)

    def losses() -> dict[str, float]:
        one.eval()
        with torch.no_grad():
            return {name: loss.item() for name, loss in one.losses(everything, Shard()).items()}

    before = losses()
    one.train()
    for _ in range(100):
        optimizer.zero_grad()
        one(everything, Shard()).backward()
        optimizer.step()
    after = losses()
    # It begins with the means; shares between 0 and 1 keep an entropy that nobody can take away.
    bounds = {"next_item": 0.9, "click": 0.8, "watch": 1.01, "rating": 0.95}
    assert all(after[name] < bound * before[name] for name, bound in bounds.items()), (
        before,
        after,
    )


def test_checkpointed_activations_give_the_same_gradients():
    hidden = dict.fromkeys(("id_dropout", "modality_dropout", "context_dropout"), 0.0)
    plain, checkpointed = task(**hidden), task(activation_checkpointing=True, **hidden)
    batch = plain.batches(0)[0]
    for one in (plain, checkpointed):
        one(batch, Shard()).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
