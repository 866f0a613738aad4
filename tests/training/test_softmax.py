"""The losses of the next item: exact over a catalogue, unbiased over a sample of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.models.softmax import sampled_softmax, softmax_loss


def by_the_book(
    query_TD: torch.Tensor,
    item_ND: torch.Tensor,
    target_T: torch.Tensor,
    shift_N: torch.Tensor | None = None,
    hidden_2H: torch.Tensor | None = None,
) -> torch.Tensor:
    logit_TN = query_TD @ item_ND.T
    other_TN = F.one_hot(target_T, len(item_ND)) == 0
    if shift_N is not None:
        logit_TN = logit_TN + shift_N * other_TN
    if hidden_2H is not None:
        hidden_TN = torch.zeros_like(other_TN)
        hidden_TN[hidden_2H[0], hidden_2H[1]] = True
        logit_TN = logit_TN.masked_fill(hidden_TN, -torch.inf)
    return F.cross_entropy(logit_TN, target_T, reduction="sum")


@pytest.mark.parametrize("shifted", [False, True], ids=["", "shifted"])
@pytest.mark.parametrize("hidden", [False, True], ids=["", "hidden"])
@pytest.mark.parametrize("tokens", [0, 1, 5, 6, 23])
def test_the_loss_and_its_gradients_are_those_of_the_textbook_in_chunks(
    tokens: int, hidden: bool, shifted: bool, monkeypatch: pytest.MonkeyPatch
):
    items = 7
    monkeypatch.setattr("training.models.softmax._LOGITS_IN_CACHE", 5 * items)  # 5 tokens at once
    generator = torch.Generator().manual_seed(1)
    query_TD = torch.randn(tokens, 4, generator=generator) * 20  # also where exp overflows
    item_ND = torch.randn(items, 4, generator=generator) * 20
    target_T = torch.randint(items, (tokens,), generator=generator)
    options = {}
    if shifted:
        options["shift_N"] = torch.randn(items, generator=generator) * 5
    if hidden:
        other_TN = F.one_hot(target_T, items) == 0
        chosen_TN = other_TN & (torch.rand(tokens, items, generator=generator) < 0.3)
        options["hidden_2H"] = chosen_TN.nonzero().T.contiguous()
    found = []
    for loss in (softmax_loss, by_the_book):
        query, item = query_TD.clone().requires_grad_(), item_ND.clone().requires_grad_()
        total = loss(query, item, target_T, **options)
        (3 * total).backward()
        found.append([total.detach(), query.grad, item.grad])
    # Sums of thousands in float32: their last bits depend on the order that a processor adds in.
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)


def test_under_autocast_it_multiplies_in_bfloat16_and_sums_in_float32():
    generator = torch.Generator().manual_seed(1)
    query_TD = torch.randn(300, 16, generator=generator, requires_grad=True)
    item_ND = torch.randn(50, 16, generator=generator, requires_grad=True)
    target_T = torch.randint(50, (300,), generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = softmax_loss(query_TD, item_ND, target_T)
    total.backward()
    assert total.dtype == query_TD.grad.dtype == item_ND.grad.dtype == torch.float32
    rounded = query_TD.detach().bfloat16().float() @ item_ND.detach().bfloat16().float().T
    exact = F.cross_entropy(rounded.bfloat16().float(), target_T, reduction="sum")
    torch.testing.assert_close(total.detach(), exact, rtol=1e-5, atol=0.0)
    whole = F.cross_entropy(query_TD @ item_ND.T, target_T, reduction="sum")
    for found, expected in zip(
        (query_TD.grad, item_ND.grad), torch.autograd.grad(whole, (query_TD, item_ND)), strict=True
    ):
        assert float((found - expected).norm() / expected.norm()) < 0.01


def losses(negatives: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Loss of two tokens in windows {0, 1, 2} and {3}, of 40 items."""
    generator = torch.Generator().manual_seed(5)
    hidden_TD = torch.randn(2, 4, generator=generator)
    item_MD = torch.randn(40, 4, generator=generator)
    own_BM = torch.zeros(2, 40, dtype=torch.bool)
    own_BM[0, :3] = own_BM[1, 3] = True
    loss_T = sampled_softmax(
        hidden_TD,
        torch.tensor([1, 3]),
        item_MD,
        drawn_n=torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:negatives],
        own_BN=own_BM,
        row_T=torch.tensor([0, 1]),
        eligible_B=40 - own_BM.sum(1),
    )
    return loss_T, hidden_TD @ item_MD.T


def test_the_sampled_softmax_over_all_items_is_the_softmax_over_the_eligible_ones():
    loss_T, logit_TM = losses(negatives=40, seed=0)
    own = ([0, 2], [])  # the other items of the windows
    for token, target in enumerate((1, 3)):
        kept_M = [item for item in range(40) if item not in own[token]]
        expected = logit_TM[token, kept_M].logsumexp(0) - logit_TM[token, target]
        torch.testing.assert_close(loss_T[token], expected)


def test_the_sampled_partition_is_unbiased():
    whole_T, logit_TM = losses(negatives=40, seed=0)
    target_T = logit_TM[[0, 1], [1, 3]]
    partition_T = torch.stack(
        [(losses(negatives=10, seed=seed)[0] + target_T).exp() for seed in range(2000)]
    ).mean(0)
    torch.testing.assert_close(partition_T, (whole_T + target_T).exp(), rtol=0.03, atol=0.0)


def test_a_negative_is_never_an_item_of_the_own_window():
    # One item in all but the own window: with it masked the loss is that of a single class.
    loss_T = sampled_softmax(
        torch.ones(1, 2),
        torch.tensor([0]),
        torch.ones(3, 2),
        drawn_n=torch.arange(3),
        own_BN=torch.ones(1, 3, dtype=torch.bool),
        row_T=torch.tensor([0]),
        eligible_B=torch.tensor([0]),
    )
    assert loss_T.tolist() == [0.0]
