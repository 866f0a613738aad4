"""Whom users follow: what those people liked, and how much of a list comes from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from training.reasons import Circles
    from training.ties import Ties


def all_follows(context: StageContext) -> pa.Table:
    """`follower_id` and `followee_id` at the interval's end."""
    import pyarrow as pa
    import pyarrow.compute as pc

    end = pa.scalar(context.interval.end)
    follows = context.arrow("follows", columns=["follower_id", "followee_id", "since"])
    follows = follows.filter(pc.fill_null(pc.less(follows["since"], end), True))
    return follows.select(["follower_id", "followee_id"])


def ties(
    follows: pa.Table, catalogue: pa.ChunkedArray, sequences: pa.Table, positive_from: float
) -> Ties:
    """What everybody likes and whom everybody follows.

    Args:
        follows: `all_follows`.
        catalogue: ids of the items, sorted.
        sequences: histories of everybody.
        positive_from: strength of a like.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from training.ties import Ties

    sides = [follows[side] for side in ("follower_id", "followee_id")]
    users = pc.unique(pa.chunked_array([c for ids in sides for c in ids.chunks], pa.string()))
    likers = sequences["user_id"].combine_chunks()
    new = pc.invert(pc.is_in(likers, value_set=users))
    users = pa.concat_arrays([users, likers.filter(new)])
    sequences = sequences.append_column("row", pc.index_in(likers, value_set=users))
    return Ties(
        user_ids=users.to_numpy(zero_copy_only=False).astype(str),
        item_ids=catalogue.to_numpy().astype(str),
        likes=_likes(sequences, catalogue, positive_from),
        follows=np.stack([pc.index_in(ids, value_set=users).to_numpy() for ids in sides]),
    )


def follows_of(follows: pa.Table, users: pa.Array) -> pa.Table:
    """`row` in `users` and `followee_id` of whom they follow, out of `all_follows`."""
    import pyarrow.compute as pc

    row_F = pc.index_in(follows["follower_id"], value_set=users)
    follows = follows.append_column("row", row_F).filter(pc.is_valid(row_F))
    return follows.select(["row", "followee_id"])


def circles(
    follows: pa.Table,
    users: pa.Array,
    catalogue: pa.ChunkedArray,
    sequences: pa.Table,
    positive_from: float,
) -> Circles | None:
    """What people whom the users follow had liked; None where nobody follows anybody.

    Args:
        follows: `follows_of` the users.
        users: ids; the circles are theirs.
        catalogue: ids of the items.
        sequences: histories of everybody.
        positive_from: strength of a like.
    """
    import numpy as np
    import pyarrow.compute as pc

    from training.reasons import Circles

    if not follows.num_rows:
        return None
    people = pc.unique(follows["followee_id"])
    row_S = pc.index_in(sequences["user_id"], value_set=people)
    sequences = sequences.append_column("row", row_S).filter(pc.is_valid(row_S))
    followed_F = pc.index_in(follows["followee_id"], value_set=people).to_numpy()
    return Circles.of_pairs(
        np.stack([follows["row"].to_numpy(), followed_F]),
        _likes(sequences, catalogue, positive_from),
        (len(users), len(people), len(catalogue)),
    )


def _likes(sequences: pa.Table, catalogue: pa.ChunkedArray, positive_from: float) -> np.ndarray:
    """(2, L): `row` of each history, and the code of an item that is liked there."""
    import numpy as np
    import pyarrow.compute as pc

    row_T = np.repeat(
        sequences["row"].to_numpy(), pc.list_value_length(sequences["item_ids"]).to_numpy()
    )
    items = pc.list_flatten(sequences["item_ids"])
    code_T = pc.fill_null(pc.index_in(items, value_set=catalogue.combine_chunks()), -1).to_numpy()
    strength_T = pc.list_flatten(sequences["strengths"]).to_numpy().astype(np.float32)
    liked_T = (code_T >= 0) & (strength_T >= np.float32(positive_from))
    return np.stack([row_T[liked_T], code_T[liked_T]])


def out_of_network(
    lists: pa.Table, users: pa.Array, follows: pa.Table, items: pa.Table
) -> float | None:
    """Mean share of the users' lists by authors whom they do not follow (HY-23).

    None where nobody follows anybody, or no author is known.

    Args:
        lists: `user_id`, `item_id` and `rank` from 1.
        users: ids.
        follows: `follows_of` the users.
        items: `item_id` and `author_id`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from training.metrics import out_of_network_share

    items = items.filter(pc.is_valid(items["author_id"]))
    if not follows.num_rows or not items.num_rows:
        return None
    # One numbering of people: users first, then authors and whoever else is followed.
    others = pa.chunked_array([*items["author_id"].chunks, *follows["followee_id"].chunks])
    people = pc.unique(pa.chunked_array([users, *others.chunks], pa.string()))
    row_R = pc.index_in(lists["user_id"], value_set=users).to_numpy()
    author_R = (
        items["author_id"]
        .combine_chunks()
        .take(pc.index_in(lists["item_id"], value_set=items["item_id"].combine_chunks()))
    )
    code_R = pc.fill_null(pc.index_in(author_R, value_set=people), -1).to_numpy()
    # Each place of a list is an item of its own here: its code is its place among the rows.
    place_R = lists["rank"].to_numpy() - 1
    lists_UK = np.full((len(users), int(place_R.max(initial=0)) + 1), -1)
    lists_UK[row_R, place_R] = np.arange(lists.num_rows)
    share_U = out_of_network_share(
        lists_UK,
        np.arange(len(users)),
        code_R,
        np.stack(
            [
                follows["row"].to_numpy(),
                pc.index_in(follows["followee_id"], value_set=people).to_numpy(),
            ]
        ),
    )
    known_U = share_U[np.isfinite(share_U)]
    return float(known_U.mean()) if len(known_U) else None
