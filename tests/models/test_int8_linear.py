"""Linear layers with 8-bit weights: what they compute, and for how many rows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from transformers import LlamaConfig, LlamaForCausalLM

from ml.generation.request import SamplingParameters, Token
from ml.generation.transformers_engine import TransformersEngine
from ml.models.int8_linear import MOST_ROWS, Int8Linear, quantize_linears

VOCABULARY = 320


def layer(inputs: int = 64, outputs: int = 40, *, bias: bool = True) -> nn.Linear:
    """Return a layer that 8 bits change visibly: one large weight makes every row's steps wide."""
    torch.manual_seed(inputs + outputs)
    made = nn.Linear(inputs, outputs, bias=bias, dtype=torch.bfloat16)
    with torch.no_grad():
        made.weight[:, 3] *= 30
    return made.requires_grad_(requires_grad=False)


def rounded_weights(module: Int8Linear) -> torch.Tensor:
    return module.codes.float() * module.scales.float()[:, None]


def expected(module: Int8Linear, inputs: torch.Tensor) -> torch.Tensor:
    bias = None if module.bias is None else module.bias.float()
    return linear(inputs.float(), rounded_weights(module), bias)


def is_close(actual: torch.Tensor, reference: torch.Tensor) -> bool:
    """Return whether they are equal but for the rounding of sums to bfloat16."""
    return torch.allclose(actual.float(), reference, rtol=2**-7, atol=2**-7)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,  # tells tokens apart, as a trained model does
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16).eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 40), (48, 33), (16, 1), (576, 192)])
@pytest.mark.parametrize("rows", [1, 3, MOST_ROWS])
def test_few_rows_meet_the_rounded_weights(
    rows: int, inputs: int, outputs: int, bias: bool
) -> None:
    original = layer(inputs, outputs, bias=bias)
    module = Int8Linear(original)
    given = torch.randn(rows, inputs, dtype=torch.bfloat16)
    assert is_close(module(given), expected(module, given))
    assert not torch.equal(module(given), original(given))


@pytest.mark.parametrize("shape", [(MOST_ROWS + 1,), (3, 3), (200,)])
def test_more_rows_meet_the_original_weights(shape: tuple[int, ...]) -> None:
    original = layer()
    given = torch.randn(*shape, 64, dtype=torch.bfloat16)
    assert torch.equal(Int8Linear(original)(given), original(given))


def test_the_number_of_rows_for_8_bits_can_be_set() -> None:
    original = layer()
    given = torch.randn(3, 64, dtype=torch.bfloat16)
    assert torch.equal(Int8Linear(original, most_rows=2)(given), original(given))
    module = Int8Linear(original, most_rows=100)
    many = torch.randn(100, 64, dtype=torch.bfloat16)
    assert is_close(module(many), expected(module, many))


@pytest.mark.parametrize("shape", [(64,), (1, 64), (2, 3, 64), (0, 64)])
def test_any_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    module = Int8Linear(layer())
    given = torch.randn(shape, dtype=torch.bfloat16)
    result = module(given)
    assert result.shape == (*shape[:-1], 40)
    assert result.dtype == torch.bfloat16
    assert is_close(result, expected(module, given))


def test_inputs_may_lie_anyhow_in_memory() -> None:
    module = Int8Linear(layer())
    transposed = torch.randn(64, 5, dtype=torch.bfloat16).T
    part = torch.randn(2, 9, 200, dtype=torch.bfloat16)[:, ::3, 50:114]
    spread = torch.randn(1, 1, 64, dtype=torch.bfloat16).expand(2, 4, 64)
    for given in (transposed, part, spread):
        assert is_close(module(given), expected(module, given))


def test_a_weight_moves_by_half_a_step_at_most() -> None:
    original = layer(576, 192)
    original.weight[5] *= 1e-6
    module = Int8Linear(original)
    moved = (rounded_weights(module) - original.weight.float()).abs()
    assert (moved <= 0.5001 * module.scales.float()[:, None]).all()
    assert (module.codes.abs().amax(1) >= 126).all()


def test_a_row_of_zeros_stays_zero() -> None:
    original = layer(bias=False)
    original.weight[5] = 0
    module = Int8Linear(original)
    assert (module.scales > 0).all()
    result = module(torch.randn(2, 64, dtype=torch.bfloat16))
    assert torch.equal(result[:, 5], torch.zeros(2, dtype=torch.bfloat16))
    assert result.isfinite().all()


def test_a_weight_that_is_not_finite_is_not_hidden() -> None:
    original = layer()
    original.weight[5, 7] = float("nan")
    result = Int8Linear(original)(torch.ones(1, 64, dtype=torch.bfloat16))
    assert result[0].isnan().nonzero().tolist() == [[5]]


def test_only_linear_layers_that_the_kernel_can_read_are_replaced() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    bfloat16 = torch.bfloat16
    model = nn.ModuleDict(
        {
            "plain": nn.Sequential(layer(), nn.ReLU()),
            "odd": nn.Linear(40, 64, dtype=bfloat16),  # 40 inputs are no multiple of 16
            "exact": nn.Linear(64, 64),
            "special": Doubled(64, 64, dtype=bfloat16),
            "embedding": nn.Embedding(8, 64, dtype=bfloat16),
        }
    )
    before = dict(model.named_modules())
    quantize_linears(model)
    changed = {name for name, module in model.named_modules() if module is not before[name]}
    assert changed == {"plain.0"}
    assert isinstance(model.get_submodule("plain.0"), Int8Linear)


def test_an_output_layer_goes_on_sharing_its_weights_with_the_embedding(model: Any) -> None:
    embedding = model.get_input_embeddings().weight
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    quantize_linears(model)
    assert isinstance(model.lm_head, Int8Linear)
    assert model.lm_head.weight is embedding
    assert model.get_input_embeddings().weight is embedding
    assert sum(parameter.nbytes for parameter in model.parameters()) == parameters


def test_logits_stay_close_to_those_of_bfloat16(model: Any) -> None:
    ids = torch.arange(MOST_ROWS)[None]
    exact = model(ids).logits.float().log_softmax(-1)
    quantize_linears(model)
    changed = model(ids).logits.float().log_softmax(-1)
    divergence = (exact.exp() * (exact - changed)).sum(-1)
    assert 1e-6 < divergence.mean() < 0.01


async def test_a_quantized_model_generates_with_its_rounded_weights(model: Any) -> None:
    """Every token is the likeliest of a float32 model of the rounded weights.

    One prompt after the other: several that come together have more rows than the 8 of int8.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            module.weight[:, 3] *= 10  # rounding then changes far more than bfloat16 does
    quantize_linears(model)
    prompts = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8], [300, 4]]
    engine = TransformersEngine(model, end_tokens=[], slots=4, max_length=64)
    try:
        answers = [await generate(engine, prompt) for prompt in prompts]
    finally:
        await asyncio.to_thread(engine.close)
    reference = with_rounded_weights(model)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert len(answer) == 20
        ids = torch.tensor([[*prompt, *(token.id for token in answer)]])
        likely = reference(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        for token, row in zip(answer, likely, strict=True):
            assert row[token.id] == pytest.approx(token.logprob, abs=0.3)
            assert row[token.id] >= row.max() - 0.3


async def generate(engine: TransformersEngine, prompt: list[int]) -> list[Token]:
    steps = engine.generate(prompt, SamplingParameters(max_new_tokens=20))
    return [step.token async for step in steps if step.token is not None]


def with_rounded_weights(model: Any) -> Any:
    reference = LlamaForCausalLM(model.config).eval().requires_grad_(requires_grad=False)
    # The embedding is not rounded, so the output layer must not share it here.
    reference.lm_head.weight = nn.Parameter(torch.empty(VOCABULARY, 64), requires_grad=False)
    reference.load_state_dict(
        {name: weight.float() for name, weight in model.state_dict().items()}
        | {
            f"{name}.weight": rounded_weights(module)
            for name, module in model.named_modules()
            if isinstance(module, Int8Linear)
        }
    )
    return reference
