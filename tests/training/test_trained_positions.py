"""Scoring trained positions alone changes no loss, no gradient and no figure of TRL."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tracetune.training.trained_positions import trained_positions_only

pytestmark = pytest.mark.training


def scored(labels: Any, *, only: bool) -> SimpleNamespace:
    """Loss, gradients and per-token figures of a tiny model, and how many positions it scored."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    positions: list[int] = []
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    product = torch.mm

    def counted(left: Any, right: Any, **options: Any) -> Any:
        positions.append(left.shape[0])
        return product(left, right, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "mm", counted)
        inputs = torch.arange(labels.numel()).reshape(labels.shape) % 97
        call = {"input_ids": inputs, "labels": labels, "fused_lm_head": True}
        if only:
            with trained_positions_only():
                found = model(**call)
        else:
            found = model(**call)
        found.loss.backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    return SimpleNamespace(found=found, gradients=gradients, positions=positions)


def test_loss_gradients_and_figures_are_those_of_trl() -> None:
    import torch

    labels = torch.full((3, 12), -100)
    labels[0, 8:11] = torch.tensor([5, 6, 7])
    labels[2, 10:] = torch.tensor([9, 1])
    whole, part = (scored(labels, only=only) for only in (False, True))
    assert max(whole.positions) == 3 * 11
    assert max(part.positions) == 5
    for name in ("loss", "log_probs", "entropy"):
        torch.testing.assert_close(getattr(part.found, name), getattr(whole.found, name))
    mask = whole.found.label_mask
    assert torch.equal(part.found.is_top1[mask], whole.found.is_top1[mask])
    for one, other in zip(part.gradients, whole.gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_batch_without_a_trained_position_has_a_loss_of_zero() -> None:
    import torch

    found = scored(torch.full((2, 5), -100), only=True)
    assert found.found.loss.item() == 0
    assert all(float(gradient.abs().sum()) == 0 for gradient in found.gradients)


def test_afterwards_trl_is_as_before() -> None:
    from trl.trainer import utils

    before = utils._use_triton
    with pytest.raises(RuntimeError, match="stop"), trained_positions_only():
        raise RuntimeError("stop")
    assert utils._use_triton is before
