"""Losses of the next item: the softmax over a whole catalogue, and over a sample of it.

Shape legend: T tokens, c of a chunk, D width, N items at hand, n sampled negatives, B windows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LOGITS_IN_CACHE, _LOGITS = 2**20, 2**27
"""Logits at once: on a CPU as many as its cache holds, elsewhere what a GPU hardly notices."""


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_TD: Tensor,
        item_ND: Tensor,
        target_T: Tensor,
        shift_N: Tensor | None,
        hidden_2H: Tensor | None,
    ) -> Tensor:
        kind, N = query_TD.device.type, len(item_ND)
        # Autocast does not reach products into buffers.
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else item_ND.dtype
        q_TD, i_ND = query_TD.to(dtype), item_ND.to(dtype)
        chunk = max(1, (_LOGITS_IN_CACHE if kind == "cpu" else _LOGITS) // N)
        loss = torch.zeros((), device=query_TD.device)
        q_grad_TD, i_grad_ND = torch.empty_like(q_TD), torch.zeros_like(item_ND)
        product_ND, rounded_CN = torch.empty_like(i_ND), q_TD.new_empty(min(chunk, len(q_TD)), N)
        logit_CN = torch.empty_like(rounded_CN, dtype=torch.float32)
        for start in range(0, len(q_TD), chunk):
            q_cD, target_c1 = q_TD[start : start + chunk], target_T[start : start + chunk, None]
            rounded_cN, logit_cN = rounded_CN[: len(q_cD)], logit_CN[: len(q_cD)]
            logit_cN.copy_(torch.mm(q_cD, i_ND.T, out=rounded_cN))
            own_c1 = logit_cN.gather(1, target_c1)
            if shift_N is not None:
                logit_cN.add_(shift_N).scatter_(1, target_c1, own_c1)
            if hidden_2H is not None:
                row_H, item_H = _of_rows(hidden_2H, start, start + len(q_cD))
                logit_cN[row_H, item_H] = -torch.inf
            highest_c1 = logit_cN.amax(1, keepdim=True)
            chance_cN = logit_cN.sub_(highest_c1).exp_()
            total_c1 = chance_cN.sum(1, keepdim=True)
            loss += (total_c1.log() + highest_c1 - own_c1).sum()
            # The gradient of a logit is its chance, less one for the target.
            chance_cN.div_(total_c1).scatter_add_(1, target_c1, -torch.ones_like(total_c1))
            rounded_cN.copy_(chance_cN)
            torch.mm(rounded_cN, i_ND, out=q_grad_TD[start : start + chunk])
            i_grad_ND += torch.mm(rounded_cN.T, q_cD, out=product_ND)
        ctx.save_for_backward(q_grad_TD.to(query_TD.dtype), i_grad_ND)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q_grad_TD, i_grad_ND = ctx.saved_tensors
        return grad * q_grad_TD, grad * i_grad_ND, None, None, None


def softmax_loss(
    query_TD: Tensor,
    item_ND: Tensor,
    target_T: Tensor,
    *,
    shift_N: Tensor | None = None,
    hidden_2H: Tensor | None = None,
) -> Tensor:
    """Sum of the cross-entropies of the next items among all items at hand.

    Some tokens at a time, their gradient at once while their logits are in the cache: the logits of
    a whole batch would be the largest array of a step, and be written and read many times (cut
    cross-entropy, Wijmans et al. 2025). Under autocast products are in bfloat16, sums in float32.

    Args:
        query_TD: (T, D) states.
        item_ND: (N, D) vectors of the items.
        target_T: (T,) int64 places of the next ones among them.
        shift_N: (N,) added to the logits of items that are not the target.
        hidden_2H: (2, H) int64 places of tokens, ascending, and of items that are no alternatives
            to their targets.

    Returns:
        () float32.
    """
    total: Tensor = _Softmax.apply(query_TD, item_ND, target_T, shift_N, hidden_2H)
    return total


def _of_rows(pair_2H: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Those of some pairs whose first place is in a range, counted from its start."""
    first, last = torch.searchsorted(
        pair_2H[0], torch.tensor([start, stop], device=pair_2H.device)
    ).tolist()
    return pair_2H[0, first:last] - start, pair_2H[1, first:last]


def sampled_softmax(
    hidden_TD: Tensor,
    target_T: Tensor,
    item_ND: Tensor,
    *,
    drawn_n: Tensor,
    own_BN: Tensor,
    row_T: Tensor,
    eligible_B: Tensor,
) -> Tensor:
    """Cross-entropy against uniform negatives shared by the batch, with the logQ correction.

    As in SASRec no negative is an item of the token's own window. With m eligible items in the
    catalogue and n of them sampled, adding log(m / n) to each negative's logit makes
    `exp(positive) + sum exp(negatives)` an unbiased estimate of the full softmax's denominator
    over the eligible items (Bengio & Senecal 2008).

    Args:
        hidden_TD: (T, D) states.
        target_T: (T,) places of the next items among the N.
        item_ND: (N, D) vectors of the items at hand.
        drawn_n: (n,) places of the negatives, drawn from the catalogue without replacement.
        own_BN: (B, N) bool, the items of each window.
        row_T: (T,) the window each token belongs to.
        eligible_B: (B,) how many items of the catalogue are none of the window's.

    Returns:
        (T,) losses.
    """
    taken_Bn = own_BN[:, drawn_n]
    sampled_B = (~taken_Bn).sum(1).clamp(min=1)
    shift_Bn = torch.log(eligible_B / sampled_B)[:, None].masked_fill(taken_Bn, -torch.inf)
    positive_T = (hidden_TD * item_ND[target_T]).sum(1).float()
    negative_Tn = (hidden_TD @ item_ND[drawn_n].T).float() + shift_Bn[row_T]
    logit_TN = torch.cat([positive_T[:, None], negative_Tn], 1)
    return logit_TN.logsumexp(1) - positive_T
