"""The quality that early stopping looks at: users with something new to find, and what they find.

Shape legend: B users, M items the model knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from training.histories import codes_in, distinct
from training.loop import Shard, ndcg_sum
from training.models.sequences import sequences_of
from training.snapshot import Snapshot

_VALIDATION_USERS = 2000
"""Early stopping looks at a seeded sample: the standard error of NDCG is then under 0.005."""
_BATCH = 256


def validation_users(
    snapshot: Snapshot, item_ids: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Users with something new to find in `[valid_start, test_start)`, and what it is.

    Args:
        snapshot: the data.
        item_ids: (M,) str, the model's vocabulary.
        seed: of the sample taken when there are very many users.

    Returns:
        Codes of the B users, and the CSRs `valid.seen` (items of any event before valid_start)
        and `valid.relevant` (items liked in the validation part and not seen before).
    """
    own_N = codes_in(snapshot.catalogue, item_ids)
    item_E = own_N[snapshot.items] if len(own_N) else np.empty(0, np.int32)
    key_E = snapshot.users.astype(np.int64) * max(1, len(item_ids)) + item_E
    seen = distinct(key_E[(item_E >= 0) & (snapshot.timestamps < snapshot.valid_start)])
    liked = snapshot.positives(snapshot.valid_start, snapshot.test_start) & (item_E >= 0)
    relevant = np.setdiff1d(distinct(key_E[liked]), seen, assume_unique=True)
    users = distinct(relevant // max(1, len(item_ids)))
    if len(users) > _VALIDATION_USERS:
        users = np.sort(np.random.default_rng(seed).permutation(users)[:_VALIDATION_USERS])
    arrays = {}
    for name, keys in (("seen", seen), ("relevant", relevant)):
        owner, item = np.divmod(keys, max(1, len(item_ids)))
        begin = np.searchsorted(owner, users, side="left")
        count = np.searchsorted(owner, users, side="right") - begin
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        index = np.repeat(begin - offsets[:-1], count) + np.arange(offsets[-1])
        arrays[f"valid.{name}"] = item[index].astype(np.int32)
        arrays[f"valid.{name}.offsets"] = offsets
    return users, arrays


def validation_arrays(snapshot: Snapshot, item_ids: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """`validation_users` with the users' token sequences as of valid_start."""
    users, arrays = validation_users(snapshot, item_ids, seed)
    histories = snapshot.histories(users, snapshot.valid_start).positives(item_ids)
    return arrays | sequences_of(histories).arrays("valid.tokens")


def validation_ndcg(
    data: Mapping[str, np.ndarray],
    score: Callable[[np.ndarray], Tensor],
    shard: Shard,
) -> tuple[float, int]:
    """NDCG@10 of the items liked in the validation part, seen items left out.

    Args:
        data: what `validation_users` made.
        score: (B, M) scores of some of its users, by number.
        shard: the part of the users that this worker judges.

    Returns:
        The sum over the shard's users, and how many they are.
    """
    users = np.arange(len(data["valid.seen.offsets"]) - 1)[shard.index :: shard.count]
    total = 0.0
    for start in range(0, len(users), _BATCH):
        rows = users[start : start + _BATCH]
        score_BM = score(rows)
        device, items = score_BM.device, score_BM.shape[1]
        seen_BM, relevant_BM = (
            dense_mask(data[f"valid.{kind}"], data[f"valid.{kind}.offsets"], rows, items)
            for kind in ("seen", "relevant")
        )
        total += float(
            ndcg_sum(
                score_BM,
                torch.from_numpy(seen_BM).to(device),
                torch.from_numpy(relevant_BM).to(device),
            )
        )
    return total, len(users)


def dense_mask(
    items: np.ndarray, offsets: np.ndarray, rows: np.ndarray, num_items: int
) -> np.ndarray:
    """(B, M) bool: which items the CSR rows hold."""
    mask_BM = np.zeros((len(rows), num_items), dtype=bool)
    count = offsets[rows + 1] - offsets[rows]
    row = np.repeat(np.arange(len(rows)), count)
    before = np.cumsum(count) - count
    index = np.repeat(offsets[rows] - before, count) + np.arange(len(row))
    mask_BM[row, items[index]] = True
    return mask_BM
