"""Lists that were served, judged on what was liked afterwards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.matured import list_quality


def table(*rows: tuple[str, str], rank: bool = False) -> pa.Table:
    """Users and items; with ranks in the order in which a user's rows come."""
    users, items = [user for user, _ in rows], [item for _, item in rows]
    columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())}
    if rank:
        columns["rank"] = pa.array(
            [users[: place + 1].count(user) for place, user in enumerate(users)], pa.int32()
        )
    return pa.table(columns)


LISTS = table(("*", "z"), ("a", "x"), ("a", "y"), ("b", "y"), ("a", "z"), ("*", "x"), rank=True)
SECOND = 1 / np.log2(3)


@pytest.mark.parametrize(
    ("likes", "hits", "ndcg"),
    [
        pytest.param([("a", "x")], 1.0, 1.0, id="first place"),
        pytest.param([("a", "y")], 1.0, SECOND, id="second place"),
        pytest.param([("a", "z")], 0.0, 0.0, id="below the length"),
        pytest.param([("a", "x"), ("a", "x")], 1.0, 1.0, id="twice counts once"),
        pytest.param([("a", "x"), ("a", "w")], 1.0, 1 / (1 + SECOND), id="one of two"),
        pytest.param([("c", "x")], 1.0, SECOND, id="a stranger gets the list of everybody"),
        pytest.param([("b", "x")], 0.0, 0.0, id="who has a list does not"),
        pytest.param([("a", "x"), ("b", "x")], 0.5, 0.5, id="users count alike"),
        pytest.param([("a", "x"), ("a", "y"), ("c", "z")], 1.0, 1.0, id="all there is"),
    ],
)
def test_lists_are_judged_on_later_likes(
    likes: list[tuple[str, str]], hits: float, ndcg: float
) -> None:
    found = list_quality(LISTS, table(*likes), 2, "*")
    assert found == pytest.approx({"hit_rate@2": hits, "ndcg@2": ndcg})


@pytest.mark.parametrize(
    ("lists", "likes"), [(LISTS, table()), (table(rank=True), table(("a", "x")))]
)
def test_without_lists_or_likes_there_is_nothing_to_say(lists: pa.Table, likes: pa.Table) -> None:
    assert list_quality(lists, likes, 2, "*") == {}
