"""The model card, word for word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.card import (
    Changes,
    Cost,
    Trial,
    model_card,
    shadow_of,
    with_shadow,
    with_verdict,
)
from training.evaluation import MetricRow

TAGS = {
    "interval_end": "2026-02-02T00:00Z",
    "tables": '{"examples": 4, "items": 2}',
    "seed": "42",
    "commit": "abc1234",
    "spec_hash": "0123456789abcdef",
}
FACTS = {"train_positives": 12345, "train_users": 900, "train_items": 310, "epochs": 3}
ROWS = [
    MetricRow("ndcg@10", "all", 0.1234, 0.11, 0.13, 200),
    MetricRow("ndcg@10", "new", 0.5, 0.4, 0.6, 19),
    MetricRow("ndcg@10", "light", 0.05, 0.04, 0.06, 80),
    MetricRow("ndcg@10", "heavy", 0.17, 0.16, 0.18, 120),
    MetricRow("coverage@10", "all", 0.42, None, None, 200),
    MetricRow("click_auc", "all", 0.81, None, None, 999),
    MetricRow("click_auc_of_item_means", "all", 0.66, None, None, 999),
]
CARD = """# shop.transformer version 3

Reads what comes next.

## Verdict

The gate has not judged it yet.

## Since champion version 2

- dropout 0.1 -> 0.3
- examples: 345 more rows, newest 2026-02-02T00:00Z

## Data

Learnt from 12,345 likes of 900 users on 310 items, all before 2026-02-02T00:00Z (UTC); the newest \
part of them was kept for validation and test. Tables and versions: examples 4, items 2. Seed 42, \
code abc1234, spec 0123456789ab.

## Quality

On frozen test set abcdef012345: what 200 users liked from 2026-02-01T00:00Z to 2026-02-02T00:00Z \
(UTC). The whole catalogue is ranked, items met before are left out. Means, with 95% intervals by \
bootstrap over users where there are at least two; groups of fewer than 20 users are not shown.

| metric&emsp; | all&emsp; | new&emsp; | light&emsp; | heavy&emsp; |
| --- | --- | --- | --- | --- |
| ndcg@10&emsp; | 0.1234 [0.1100, 0.1300]&emsp; | -&emsp; | 0.0500 [0.0400, 0.0600]&emsp; | 0.1700 [0.1600, 0.1800]&emsp; |

| of all lists&emsp; | value&emsp; |
| --- | --- |
| coverage@10&emsp; | 0.4200&emsp; |

What comes of an item shown, beside what the item's own mean foretells:

| answer&emsp; | this model&emsp; | item means&emsp; |
| --- | --- | --- |
| clicks: area under the ROC curve, 0.5 is chance&emsp; | 0.8100&emsp; | 0.6600&emsp; |

## Cost

Its training took 125.2 seconds, reading the data included, and at most 1,537 MiB of memory; \
450.0 seconds of processors, 0.125 core-hours.

## Intended use

Ranks unseen items for users of this pipeline, as a source of candidates. It is not meant to judge \
people, nor for another catalogue or another log than the one above.

## Limits

- Likes are what the log holds: what was never shown could not be liked, so popular and \
well-placed items are favoured.
- Offline quality is no promise of clicks; only an experiment tells.
- It serves users `light` worst (NDCG@10 0.0500) and users `heavy` best (0.1700).
- Nothing is said of users `new`: fewer than 20 were in the test.
- Its lists of 10 reach 42% of the catalogue.
- No user had anything to find in the validation part: no early stopping.

## Options

| option&emsp; | value&emsp; |
| --- | --- |
| width&emsp; | `64`&emsp; |"""


TRIAL = Trial("abcdef0123456789", 200, "2026-02-01T00:00Z", "2026-02-02T00:00Z", 10, 0.95)
COST = Cost(125.21, 1536.7, 0.125)
CHANGES = Changes("2", ["dropout 0.1 -> 0.3", "examples: 345 more rows, newest 2026-02-02T00:00Z"])


def test_a_card_says_it_all():
    card = model_card(
        "shop.transformer version 3",
        "Reads what comes next.",
        TAGS,
        {"width": 64},
        FACTS,
        ROWS,
        trial=TRIAL,
        cost=COST,
        changes=CHANGES,
    )
    assert card == CARD


def test_a_card_of_what_is_not_on_record_says_so():
    trial = Trial("abc", 0, "2026-02-01T00:00Z", "2026-02-02T00:00Z", 5, 0.9)
    tags = TAGS | {"commit": ""}
    card = model_card("shop.popularity version 1", "Counts.", tags, {}, {}, [], trial=trial)
    assert "what 0 users liked" in card
    assert "with 90% intervals" in card
    assert "code of no commit" in card
    assert "## Cost\n\nNot on record." in card
    assert "Since champion" not in card
    assert "|" not in card


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "The same options and the same data."),
        (None, "Its options and data are not on record: it was registered without them."),
    ],
)
def test_nothing_changed_and_nothing_known_are_told_apart(lines, said):
    card = model_card("m", "s", TAGS, {}, {}, [], trial=TRIAL, changes=Changes("7", lines))
    assert f"## Since champion version 7\n\n{said}\n\n## Data" in card


def test_cost_without_counted_processors_names_none():
    card = model_card("m", "s", TAGS, {}, {}, [], trial=TRIAL, cost=Cost(1.0, 20.0, None))
    assert "1.0 seconds, reading the data included, and at most 20 MiB of memory.\n" in card


def test_the_verdict_takes_the_place_of_the_one_before():
    before, after = CARD.split("The gate has not judged it yet.")
    once = with_verdict(CARD, "Rejected: worse.")
    assert once == f"{before}Rejected: worse.{after}"
    assert with_verdict(once, "Promoted: better.") == f"{before}Promoted: better.{after}"
    assert with_verdict("", "Kept back.") == "## Verdict\n\nKept back."
    judged = TAGS | {"gate_reason": "Rejected: worse."}
    again = model_card("m", "s", judged, {}, {}, [], trial=TRIAL)
    assert again.startswith("# m\n\ns\n\n## Verdict\n\nRejected: worse.\n\n## Data")


def test_the_lists_are_those_that_were_judged():
    rows = [replace(row, metric=row.metric.replace("@10", "@5")) for row in ROWS]
    card = model_card("m", "s", TAGS, {}, {}, rows, trial=replace(TRIAL, k=5))
    assert "| ndcg@5&emsp; | 0.1234 [0.1100, 0.1300]&emsp; | -&emsp; |" in card
    assert "Its lists of 5 reach 42% of the catalogue." in card


def test_the_shadow_comes_before_the_cost_and_is_replaced():
    rows = [
        MetricRow("overlap@10", "all", 0.6867, 0.65, 0.72, 90),
        MetricRow("overlap@10", "new", 0.5, 0.4, 0.6, 19),
        MetricRow("first_changed", "all", 0.2, None, None, 90),
    ]
    before, after = CARD.split("## Cost")
    section = """## Shadow

Lists of 90 users of the interval that ends at 2026-02-02T06:00Z, with this version in place of \
champion version 2, beside those that were made without it.

| difference&emsp; | all&emsp; | new&emsp; |
| --- | --- | --- |
| shared of the first 10&emsp; | 0.6867 [0.6500, 0.7200]&emsp; | -&emsp; |
| first item is another&emsp; | 0.2000&emsp; | -&emsp; |

"""
    about = {"users": 90, "interval_end": "2026-02-02T06:00Z", "k": 10}
    once = with_shadow(CARD, rows, champion="2", **about)
    assert once == f"{before}{section}## Cost{after}"
    assert f"## Shadow\n\n{shadow_of(once)}\n\n## Cost" in once
    assert shadow_of(CARD) == ""
    again = with_shadow(once, rows[2:], champion=None, **about)
    assert "with this version added: it has no champion, beside those" in again
    assert again.count("## Shadow") == 1
    assert "shared of the first" not in again
    card = model_card("m", "s", TAGS, {}, {}, [], trial=TRIAL, shadow=shadow_of(once))
    assert shadow_of(card) == shadow_of(once)
