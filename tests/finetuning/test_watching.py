"""A run can be watched as it learns: its memory, a loss that rises, its answers."""

from __future__ import annotations

import itertools
import random

import pytest

from ml.errors import UnprocessableInput
from ml.finetuning.loss_watch import LossWatch
from ml.finetuning.request_body import read_request
from tests.support.finetuning import Workplace

PROMPTS = ["Which colour has house 1?", "<script>alert(1)</script>"]


def warnings(losses: list[float]) -> list[int]:
    """Return at which of the losses there was a warning."""
    watch = LossWatch()
    return [number for number, loss in enumerate(losses) if watch.warning(loss)]


def test_samples_are_answers_as_the_model_learns_and_leave_the_training_as_it_is(
    workplace: Workplace,
) -> None:
    wished = {"lora_dropout": 0.2, "max_steps": 6}
    _, without = workplace.run("without", output_dir="without", **wished)
    sampled = {"sample_prompts": PROMPTS, "sample_steps": 4}
    _, context = workplace.run("with", output_dir="with", **wished, **sampled)
    assert without.of("sample") == []
    assert context.curve() == without.curve()

    told = context.of("sample")
    assert [data["step"] for data in told] == [0, 4, 6]
    for data in told:
        assert [one["prompt"] for one in data["samples"]] == PROMPTS
        assert all(len(one["answer"]) <= 64 for one in data["samples"])  # a token is a byte
    answers = [[one["answer"] for one in data["samples"]] for data in told]
    assert answers[0] != answers[2]


def test_each_step_tells_the_memory_of_the_job(workplace: Workplace) -> None:
    _, context = workplace.run(max_steps=2)
    for numbers in context.steps():
        assert 50 * 2**20 < numbers["memory_bytes"] < 2**40


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sample_prompts": ["a"] * 5}, "sample_prompts"),
        ({"sample_prompts": ["a" * 1001]}, "sample_prompts"),
        ({"sample_prompts": [""]}, "sample_prompts"),
        ({"sample_steps": 0}, "sample_steps"),
        ({"report_to": ["tensorbord"]}, "report_to"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_name(
    fields: dict[str, object], named: str
) -> None:
    with pytest.raises(UnprocessableInput, match=named):
        read_request({"dataset_name": "rows.jsonl", **fields})


def test_a_loss_that_rises_is_told_once_until_it_comes_back() -> None:
    falls, rises = [3 - n / 10 for n in range(20)], [1.1 + n / 10 for n in range(20)]
    assert warnings(falls) == []
    [first] = warnings(falls + rises)
    assert 24 <= first <= 39
    assert len(warnings(falls + rises + rises)) == 1
    assert len(warnings(falls + rises + [1.0] * 20 + rises)) == 2


def test_a_loss_that_only_varies_is_not_told() -> None:
    chance = random.Random(1)
    for level, spread in itertools.product((0.05, 0.5, 2.0), (0.02, 0.2, 0.6)):
        assert warnings([abs(chance.gauss(level, spread)) for _ in range(300)]) == []
