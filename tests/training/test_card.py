"""The model card, word for word."""

from __future__ import annotations

from training.card import model_card
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
    MetricRow("ndcg@10", "new", None, None, None, 0),
    MetricRow("ndcg@10", "light", 0.05, 0.04, 0.06, 80),
    MetricRow("ndcg@10", "heavy", 0.17, 0.16, 0.18, 120),
    MetricRow("coverage@10", "all", 0.42, None, None, 200),
    MetricRow("click_auc", "all", 0.81, None, None, 999),
    MetricRow("click_auc_of_item_means", "all", 0.66, None, None, 999),
]
CARD = """# shop.transformer version 3

Reads what comes next.

## Data

Learnt from 12,345 likes of 900 users on 310 items, all before 2026-02-02T00:00Z (UTC); the newest \
part of them was kept for validation and test. Tables and versions: examples 4, items 2. Seed 42, \
code abc1234, spec 0123456789ab.

## Quality

On a frozen test set of 200 users: the whole catalogue is ranked, items met before are left out. \
Means, with 95 % intervals by bootstrap over users where there are at least two.

| metric | all | new | light | heavy |
| --- | --- | --- | --- | --- |
| ndcg@10 | 0.1234 [0.1100, 0.1300] | - | 0.0500 [0.0400, 0.0600] | 0.1700 [0.1600, 0.1800] |

| of all lists | value |
| --- | --- |
| coverage@10 | 0.4200 |

What comes of an item shown, beside what the item's own mean foretells:

| answer | this model | item means |
| --- | --- | --- |
| clicks: area under the ROC curve, 0.5 is chance | 0.8100 | 0.6600 |

## Intended use

Ranks unseen items for users of this pipeline, as a source of candidates. It is not meant to judge \
people, nor for another catalogue or another log than the one above.

## Limits

- Likes are what the log holds: what was never shown could not be liked, so popular and \
well-placed items are favoured.
- Offline quality is no promise of clicks; only an experiment tells.
- It serves light users worst (NDCG@10 0.0500) and heavy users best (0.1700).
- Nobody judged it for new users: none was in the test.
- Its lists of ten reach 42% of the catalogue.
- No user had anything to find in the validation part: no early stopping.

## Options

| option | value |
| --- | --- |
| width | `64` |"""


def test_a_card_says_it_all():
    card = model_card(
        "shop.transformer version 3", "Reads what comes next.", TAGS, {"width": 64}, FACTS, ROWS
    )
    assert card == CARD


def test_a_card_without_judgement_says_so():
    card = model_card("shop.popularity version 1", "Counts.", TAGS | {"commit": ""}, {}, {}, [])
    assert "On a frozen test set of 0 users" in card
    assert "code of no commit" in card
    assert "|" not in card
