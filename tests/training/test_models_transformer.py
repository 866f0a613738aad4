"""The transformer's parts: sequences, windows, buckets, causality, losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from training.histories import Marks
from training.loop import Shard
from training.models import FitContext, next_item
from training.models.next_item import NextItemTask, encode_last
from training.models.next_item_arrays import sizes_of_data, training_arrays
from training.models.sequences import Sequences, length_buckets, padded, sequences_of, windows_of
from training.models.transformer import Transformer
from training.models.transformer_network import Network, Sizes, TransformerConfig
from training.models.validation import dense_mask, validation_arrays
from training.snapshot import Snapshot

Make = Callable[..., Snapshot]
CONFIG = TransformerConfig(width=8, layers=2, heads=2, max_length=6, dropout=0.0)


def network(**sizes: Any) -> Network:
    torch.manual_seed(0)
    return Network(CONFIG, Sizes(**{"items": 9, **sizes})).eval()


def states(code_BL: torch.Tensor) -> torch.Tensor:
    """States of plain histories, of which nothing but the items is known."""
    one = network()
    return one.history(one.items(None, {})[code_BL], {})


def test_sequences_start_with_the_start_token_and_take_repeats_in_a_row_once(make_snapshot: Make):
    snapshot = make_snapshot(
        [
            *[("a", "x", 1), ("a", "x", 2), ("a", "y", 3), ("a", "weak", 4, 0.1), ("a", "x", 5)],
            *[("b", "x", 1), ("c", "weak", 1, 0.1)],
        ]
    )
    histories = snapshot.histories(np.arange(3), snapshot.valid_start)
    found = sequences_of(histories.positives(np.array(["x", "y"])))
    assert [part.tolist() for part in np.split(found.items, found.offsets[1:-1])] == [
        [2, 0, 1, 0],
        [2, 0],
        [2],
    ]
    assert found.offsets.tolist() == [0, 4, 6, 7]
    hour = 3_600_000_000
    assert (found.times[:6] // hour).tolist() == [1, 1, 3, 5, 1, 1]
    assert (found.gaps // hour).tolist() == [0, 0, 2, 2, 0, 0, 0]
    assert (found.ends[1:4] // hour).tolist() == [2, 3, 5]


def test_windows_are_cut_from_the_end_and_hold_every_pair_once():
    # Sequences of 8, 1, 4 and 4 tokens with at most 3 pairs a window.
    start, length = windows_of(np.array([0, 8, 9, 13, 17]), 3)
    assert list(zip(start.tolist(), length.tolist(), strict=True)) == [
        *[(4, 3), (1, 3), (0, 1)],
        *[(9, 3), (13, 3)],
    ]


def drawn(count: int, mean: float, longest: int, sigma: float = 0.0) -> np.ndarray:
    """Lengths of windows: geometric, or lognormal with a `sigma`; at most `longest`."""
    rng = np.random.default_rng(0)
    length = rng.lognormal(np.log(mean), sigma, count) if sigma else rng.geometric(1 / mean, count)
    return np.clip(length.astype(int), 1, longest)


@pytest.mark.parametrize(
    ("length", "batch_tokens"),
    [
        (np.arange(1000) % 50 + 1, 256),
        (drawn(40_000, mean=9, longest=200), 65_536),
        (drawn(3000, mean=9, longest=50), 4096),
        (np.arange(80) % 50 + 1, 4096),
        (np.arange(80) % 20 + 1, 512),
        (np.arange(200) + 1, 4096),
        (np.full(200, 200), 4096),
        (drawn(6040, mean=90, longest=200, sigma=1.0), 2048),
        (np.r_[200, np.full(2000, 9)], 4096),
        (np.arange(5000) % 2 + 1, 4096),
        (np.full(1025, 4), 4096),
    ],
    ids=[
        *("uniform", "short and large batches", "short", "80 windows", "80 short windows"),
        *("200 to 200", "all alike", "like ml-1m", "one long", "one or two", "one too many"),
    ],
)
def test_batches_hold_every_window_once_and_little_padding(length: np.ndarray, batch_tokens: int):
    batches = length_buckets(length, batch_tokens, 64, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(length)))
    for workers in (1, 2, 3):
        sizes = [
            len(mine) * int(length[mine].max())
            for batch in batches
            for mine in (batch[worker::workers] for worker in range(workers))
            if len(mine)
        ]
        assert 1 - length.sum() / sum(sizes) < 0.1
        assert max(sizes) <= batch_tokens
    assert min(len(batch) for batch in batches) > 1
    fewest = length.sum() / batch_tokens
    levels = np.log(length.max() / length.min()) / np.log(1 / 0.8)  # from the longest, each 10 %
    assert len(batches) <= 1.15 * fewest + levels + 1


def test_batches_come_in_no_order_of_length_and_the_same_under_a_seed():
    length = drawn(1000, mean=9, longest=50)

    def batches(seed: int) -> list[list[int]]:
        found = length_buckets(length, 256, 8, np.random.default_rng(seed))
        return [batch.tolist() for batch in found]

    assert len({int(length[batch].max()) for batch in batches(0)[:10]}) > 3
    assert batches(0) == batches(0) != batches(1)


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        ([], []),
        ([400], [1]),
        ([400, 400], [1, 1]),
        ([200, 1], [1, 1]),
        ([9, 9, 1], [1, 2]),
        ([200, *[9] * 20], [1, 20]),
        ([200, 50, *[9] * 20], [1, 2, 19]),
        ([60, 60, *[9] * 20], [2, 20]),
        ([*[4] * 64, 4], [2, 63]),
    ],
    ids=str,
)
def test_a_window_is_alone_only_where_it_must_be(length: list[int], sizes: list[int]):
    rng = np.random.default_rng(0)
    batches = length_buckets(np.array(length, int), 256, 8, rng)
    assert sorted(len(batch) for batch in batches) == sizes


def test_padding_is_on_the_right():
    index_BL, real_BL = padded(np.array([0, 3]), np.array([3, 2]))
    assert index_BL.tolist() == [[0, 1, 2], [3, 4, 3]]
    assert real_BL.tolist() == [[True, True, True], [True, True, False]]


def test_dense_mask_of_some_rows():
    mask_BM = dense_mask(np.array([1, 3, 0]), np.array([0, 2, 2, 3]), np.array([2, 1, 0]), 4)
    assert mask_BM.astype(int).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]


def test_validation_users_have_something_new_to_find(make_snapshot: Make):
    snapshot = make_snapshot(
        [
            *[
                ("a", "x", 1),
                ("a", "z", 50, 0.1),
                ("a", "x", 120),
                ("a", "y", 130),
                ("a", "z", 140),
            ],
            *[("b", "x", 120), ("b", "y", 130, 0.2)],  # new user: one relevant item
            *[("c", "y", 1), ("c", "y", 150)],  # nothing new
            *[("d", "x", 5), ("d", "y", 250)],  # only in the test part
            *[("e", "unknown", 150)],  # not in the vocabulary
        ]
    )
    arrays = validation_arrays(snapshot, np.array(["x", "y", "z"]), seed=0)
    expected = {
        "valid.seen": [0, 2],  # a impression counts as seen
        "valid.seen.offsets": [0, 2, 2],
        "valid.relevant": [1, 0],
        "valid.relevant.offsets": [0, 1, 2],
        "valid.tokens.items": [3, 0, 3],
        "valid.tokens.offsets": [0, 2, 3],
    }
    assert {name: arrays[name].tolist() for name in expected} == expected


def test_at_most_a_sample_of_validation_users_is_judged(
    make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("training.models.validation._VALIDATION_USERS", 5)
    snapshot = make_snapshot([("a", "x", 1), *[(f"u{n}", "x", 150) for n in range(20)]])
    arrays = validation_arrays(snapshot, np.array(["x"]), seed=3)
    assert len(arrays["valid.relevant.offsets"]) == 6
    again = validation_arrays(snapshot, np.array(["x"]), seed=3)
    np.testing.assert_array_equal(arrays["valid.tokens.items"], again["valid.tokens.items"])


def test_a_position_sees_itself_and_earlier_positions_only():
    code_BL = torch.tensor([[9, 1, 2, 3]])
    before_BLD = states(code_BL)
    for position in range(4):
        changed_BL = code_BL.clone()
        changed_BL[0, position] = 7
        moved_L = (states(changed_BL) - before_BLD).abs().amax(dim=2)[0] > 1e-6
        assert moved_L.tolist() == [place >= position for place in range(4)]


def sequences(items: list[int], offsets: list[int]) -> Sequences:
    """Histories of which nothing but the items is known."""
    no_time = np.zeros(len(items), np.int64)
    marks = Marks.unknown(len(items))
    return Sequences(np.array(offsets), np.array(items), no_time, no_time, no_time, marks)


def last_states(found: Sequences) -> torch.Tensor:
    one = network()
    rows = np.arange(len(found.offsets) - 1)
    with torch.no_grad():
        return encode_last(one, one.items(None, {}), found, rows, CONFIG)


def test_padding_and_company_do_not_change_a_state():
    together_BD = last_states(sequences([9, 1, 2, 9, 3, 4, 5, 6, 7, 8, 9], [0, 3, 10, 11]))
    for row, codes in enumerate(([9, 1, 2], [3, 4, 5, 6, 7, 8], [9])):
        torch.testing.assert_close(together_BD[row], states(torch.tensor([codes]))[0, -1])


def test_scoring_in_small_blocks_gives_the_same_states(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    cuts = np.sort(rng.choice(np.arange(1, 200), size=30, replace=False))
    found = sequences(rng.integers(9, size=200).tolist(), [0, *cuts.tolist(), 200])
    whole_BD = last_states(found)
    monkeypatch.setattr("training.models.next_item._SCORE_TOKENS", 10)
    torch.testing.assert_close(last_states(found), whole_BD)


@pytest.mark.parametrize(
    "changes",
    [
        {"full_softmax_max_items": 0, "negatives": 30, "epochs": 40},
        {"precision": "bfloat16"},
        {"dropout": 0.2, "layers": 2},
        {"patience": 8, "epochs": 60},
        {"encoder": "lstm"},
    ],
    ids=str,
)
def test_variants_learn_the_walk(
    changes: dict[str, Any],
    planted: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Callable[..., FitContext],
):
    model = Transformer.fit(
        planted, debug_config("transformer") | {"epochs": 30} | changes, context()
    )
    # Chance is 10 of 120 items at an NDCG@10 of about 0.04; the groups alone give about 0.2.
    assert model.fit_facts["valid_ndcg@10"] > 0.3


def test_early_stopping_keeps_the_best_epoch(
    planted: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Callable[..., FitContext],
):
    lines: list[str] = []
    config = debug_config("transformer") | {"patience": 2, "epochs": 60}
    model = Transformer.fit(planted, config, context(progress=lines.append))
    facts = model.fit_facts
    scores = [float(line.split("ndcg@10 ")[1].split()[0]) for line in lines]
    assert facts["epochs"] == len(lines) == facts["best_epoch"] + 2 < 60
    assert max(scores) == pytest.approx(facts["valid_ndcg@10"], abs=1e-4)
    assert scores.index(max(scores)) + 1 == facts["best_epoch"]


DAY = 86_400_000_000
START = 3
"""The code of the start token, whose own time and type say nothing."""


@pytest.mark.parametrize(
    ("items", "times", "types", "expected"),
    [
        ([START, 0, 1], [0, 0, DAY], [-1, 2, 2], (True, False)),
        ([START, 0, 1], [0, 1, DAY], [-1, 2, 4], (False, True)),
        ([START, 0, START], [9 * DAY, 0, 0], [-1, 2, 3], (False, False)),
        ([START, 0, 1], [0, -DAY, 0], [-1, -1, 2], (True, True)),
        ([START], [DAY], [-1], (False, False)),
        ([], [], [], (False, False)),
    ],
    ids=["a day", "two types", "starts do not count", "unknown is a type", "no likes", "nothing"],
)
def test_parts_are_built_where_likes_differ(
    items: list[int], times: list[int], types: list[int], expected: tuple[bool, bool]
):
    data = {name: np.array(0) for name in ("num_devices", "num_locations")} | {
        "num_items": np.array(START),
        "tokens.items": np.array(items, np.int32),
        "tokens.times": np.array(times, np.int64),
        "tokens.types": np.array(types, np.int8),
        "tokens.watch_shares": np.full(len(items), np.nan, np.float32),
    }
    sizes = sizes_of_data(data, reactions=False)
    assert (sizes.time, sizes.event_types > 0) == expected
    assert not sizes.watch


def single_likes(make_snapshot: Make, **options: Any) -> NextItemTask:
    """Seven users who like one item each, and a task of theirs."""
    snapshot = make_snapshot([(f"user-{n}", f"item-{n % 5}", n) for n in range(7)])
    data = training_arrays(snapshot, snapshot.catalogue, CONFIG.max_length)
    data |= {name: np.array(0) for name in ("num_devices", "num_locations")}
    torch.manual_seed(0)
    config = replace(CONFIG, context_dropout=0.0, **options)
    return NextItemTask(config, {**data, "num_items": np.array(5)}, seed=0)


@pytest.mark.parametrize(("largest", "asked"), [(6, "full"), (5, "full"), (4, "sampled")])
def test_a_catalogue_of_the_largest_size_is_trained_whole(
    largest: int, asked: str, make_snapshot: Make, monkeypatch: pytest.MonkeyPatch
):
    called: list[str] = []
    for kind, name in (("full", "softmax_loss"), ("sampled", "sampled_softmax")):
        loss = getattr(next_item, name)

        def spy(*arguments: Any, kind: str = kind, loss: Any = loss, **options: Any) -> Any:
            called.append(kind)
            return loss(*arguments, **options)

        monkeypatch.setattr(next_item, name, spy)
    task = single_likes(make_snapshot, full_softmax_max_items=largest)
    task(task.batches(0)[0], Shard())
    assert called == [asked]


def test_all_items_drawn_are_the_whole_catalogue(make_snapshot: Make):
    """Nobody has another like to leave out, so the two losses and their gradients are equal."""
    whole = single_likes(make_snapshot, full_softmax_max_items=5)
    sampled = single_likes(make_snapshot, full_softmax_max_items=4, negatives=5)
    batch = (np.arange(7), 1)
    losses = [task(batch, Shard()) for task in (whole, sampled)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for one, other in zip(whole.parameters(), sampled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_worker_without_rows_takes_part_with_zero(make_snapshot: Make):
    snapshot = make_snapshot([("a", "x", 1), ("a", "y", 2), ("a", "z", 3)])
    data = training_arrays(snapshot, snapshot.catalogue, CONFIG.max_length)
    data |= {name: np.array(0) for name in ("num_devices", "num_locations")}
    task = NextItemTask(CONFIG, {**data, "num_items": np.array(3)}, seed=0)
    loss = task((np.array([0]), 0), Shard(1, 2))
    loss.backward()
    assert loss.item() == 0.0
    assert all((parameter.grad == 0).all() for parameter in task.parameters())
