"""The loss without Triton, against the one that the model computes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ml.finetuning.backends.cpu_loss import completion_loss, keeps_chosen_logits

#: Rows of different lengths, trained at different places; 0 is padding.
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 0, 0, 0]])
LABELS = torch.tensor([[-100, -100, -100, 8, 9, -100, 11], [-100, 13, -100, 15, -100, -100, -100]])
MASK = (IDS > 0).long()


@pytest.fixture
def model(models: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(models / "small").train()


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("items", [None, 8])
def test_it_is_the_models_own_loss_with_the_same_gradients(model: Any, items: int | None) -> None:
    assert keeps_chosen_logits(model)
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
    ours = completion_loss(model, inputs, items)
    own = model(**inputs, num_items_in_batch=items).loss
    assert ours.item() == pytest.approx(own.item(), rel=1e-6)
    for one, two in zip(gradients(model, ours), gradients(model, own), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_mixture_of_experts_is_left_to_its_own_loss(model: Any) -> None:
    model.config.router_aux_loss_coef = 0.01
    assert not keeps_chosen_logits(model)
