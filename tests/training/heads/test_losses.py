"""The parts of the loss against their definitions, and batches that add up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetune.training.heads import losses
from tracetune.training.heads.batches import divided, epoch_order
from tracetune.training.heads.job import HeadsSettings
from tracetune.training.heads.loop import rate
from tracetune.training.heads.model import TwinHeads
from tracetune.training.heads.options import ArchitectureOptions, LossOptions

SMALL = ArchitectureOptions(
    style_size=8, style_width=8, pattern_width=8, adapter_width=8, plan_steps=3
)


@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_contrastive_loss_is_its_definition(groups: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    z = torch.nn.functional.normalize(torch.randn(len(groups), 4, dtype=torch.double), dim=-1)
    expected = 0.0
    for i, group in enumerate(groups):
        others = [a for a in range(len(groups)) if a != i]
        positives = [p for p in others if groups[p] == group]
        if positives:
            total = sum(math.exp(float(z[i] @ z[a]) / 0.1) for a in others)
            shares = [math.exp(float(z[i] @ z[p]) / 0.1) / total for p in positives]
            expected -= sum(map(math.log, shares)) / len(positives)
    z.requires_grad_(True)
    found = losses.contrastive(z, torch.tensor(groups), 0.1)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    found.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_style_errors_are_anchors_whose_nearest_is_a_stranger() -> None:
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [1, 0.3]]), dim=1)
    assert int(losses.style_errors(z, torch.tensor([0, 0, 1, 2]))) == 0  # 1 and 2 have no positive
    assert int(losses.style_errors(z, torch.tensor([0, 1, 0, 1]))) == 3  # only row 3 finds its like


def test_plans_are_compared_only_with_turns_that_came() -> None:
    plan = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    turns = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert float(losses.planning(plan, turns, both)) == pytest.approx(1.0)
    assert float(losses.planning(plan, turns, first)) == pytest.approx(0.0)
    plan.requires_grad_(True)
    losses.planning(plan, turns, first).backward()
    assert plan.grad is not None
    assert not plan.grad[0, 1].any()


def batch(rows: int) -> tuple[list[torch.Tensor], losses.Targets]:
    torch.manual_seed(4)
    place = torch.rand(rows, 5)
    mask = torch.rand(rows, 5) > 0.3
    mask[:, 0] = True
    inputs = [torch.randn(rows, 5, 8), mask, place, torch.arange(rows) % 6, place[:, 2]]
    targets = losses.Targets(
        patterns=(torch.rand(rows, 12) > 0.7).float(),
        groups=torch.arange(rows) % 3,
        next_turns=torch.randn(rows, 3, 8),
        present=torch.rand(rows, 3) > 0.4,
    )
    return inputs, targets


def gradient(size: int, weights: LossOptions) -> tuple[float, torch.Tensor]:
    """Loss and gradient of 8 rows in micro-batches of a size."""
    inputs, targets = batch(8)
    torch.manual_seed(0)
    heads = TwinHeads(8, SMALL)
    with torch.no_grad():
        torch.nn.init.normal_(heads.planning.project.weight)
    rows = [slice(start, start + size) for start in range(0, 8, size)]
    split = [
        losses.Targets(**{name: value[part] for name, value in vars(targets).items()})
        for part in rows
    ]
    counts = [losses.counts(target, 8) for target in split]
    over = {name: sum(count[name] for count in counts) for name in losses.PARTS}
    total = 0.0
    for part, target in zip(rows, split, strict=True):
        found = losses.sums(heads(*(x[part] for x in inputs)), target, torch.full((12,), 2.0), 0.1)
        loss = losses.whole(found, over, weights)
        loss.backward()
        total += float(loss.detach())
    flat = [
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in heads.parameters()
    ]
    return total, torch.cat(flat)


def test_micro_batches_add_up_to_the_batch() -> None:
    """8 x 1 is 1 x 8; a row without next turns counts as little in one as in the other."""
    weights = LossOptions(style=0)
    whole, expected = gradient(8, weights)
    for size in (1, 2, 4):
        found, slope = gradient(size, weights)
        assert found == pytest.approx(whole, rel=1e-5)
        assert slope.allclose(expected, atol=1e-5)


def test_only_the_contrastive_part_depends_on_the_micro_batch() -> None:
    only = LossOptions(pattern=0, planning=0, stop=0, gate=0)
    assert gradient(4, only)[0] != pytest.approx(gradient(8, only)[0], rel=1e-3)


def test_class_weights_are_negatives_by_positives() -> None:
    found = losses.class_weights(torch.tensor([50.0, 20.0, 1.0, 0.0, 100.0]), 100)
    assert found.tolist() == pytest.approx([1.0, 4.0, 5.0, 1.0, 0.2])


@given(groups=st.lists(st.integers(0, 5), min_size=1, max_size=40), epoch=st.integers(0, 5))
def test_every_row_comes_once_and_couples_stay_together(groups: list[int], epoch: int) -> None:
    order = epoch_order(groups, 7, epoch)
    assert sorted(order) == list(range(len(groups)))
    assert order == epoch_order(groups, 7, epoch)
    paired = sum(groups.count(g) // 2 for g in set(groups))
    for couple in divided(order, 2)[:paired]:
        assert groups[couple[0]] == groups[couple[1]]


def test_epochs_have_orders_of_their_own() -> None:
    groups = [number % 4 for number in range(32)]
    assert epoch_order(groups, 7, 0) != epoch_order(groups, 7, 1)
    assert epoch_order(groups, 7, 0) != epoch_order(groups, 8, 0)


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    settings = HeadsSettings.model_construct(learning_rate=1.0, warmup_steps=0.1)
    rates = [rate(settings, step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
