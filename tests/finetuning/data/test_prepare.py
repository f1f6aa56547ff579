"""The report, the refusals and the split."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from ml.errors import InvalidInput, UnprocessableInput
from ml.finetuning.data.memory import estimate_memory
from ml.finetuning.data.prepare import prepare
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.source import open_dataset
from ml.finetuning.data.tokenizer import load_tokenizer
from ml.finetuning.request import FinetuningRequest
from ml.models.embedded_llm import EMBEDDED_LLM

EXAMPLES = Path(__file__).parents[3] / "examples" / "finetuning"


def rows(number: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(number)]


def test_rows_that_are_unusable_are_counted_up_to_half_of_all(look: Any) -> None:
    report = look(*rows(30), *[{"prompt": "a"}] * 30).report
    assert report.refusal is None
    assert report.fault_counts == {Rule.MISSING: 30}
    assert len(report.faults) == 20


def test_more_unusable_rows_than_usable_ones_are_refused_with_the_counts(
    look: Any, tmp_path: Path, embedded: Any
) -> None:
    look(*rows(2), *[{"prompt": "secret words"}] * 3)
    request = FinetuningRequest(dataset_name="rows.jsonl")
    with pytest.raises(UnusableData, match=r"3 of 5 rows .*missing: 3.*line 3") as caught:
        prepare(open_dataset("rows", tmp_path), request, embedded, file=tmp_path / "examples")
    assert caught.value.status == 422
    assert caught.value.report is not None
    assert caught.value.report.usable == 2
    assert "secret" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.description, again.report) == (caught.value.description, caught.value.report)


def test_an_empty_file_is_refused(look: Any) -> None:
    assert look("").report.refusal == "rows.jsonl has no rows"
    assert look("").train == []


def test_rows_without_a_trained_token_after_the_cut_are_left_out(look: Any) -> None:
    long = {"prompt": "word " * 100, "completion": "never seen"}
    data = look(*rows(3), long, max_seq_length=48)
    assert len(data.train) == 3
    assert data.report.nothing_trained == 1
    assert data.report.faults[0].rule == Rule.NOTHING_TRAINED
    assert "raise max_seq_length" in data.report.faults[0].hint


def test_nothing_is_trained_where_no_row_has_a_trained_token(look: Any) -> None:
    report = look(*rows(3), max_seq_length=16).report
    assert report.supervised_tokens == 0
    assert report.refusal is not None
    assert "nothing_trained: 3" in report.refusal


def test_the_split_is_the_same_for_the_same_seed_and_loses_nothing(look: Any) -> None:
    once = look(*rows(40), validation_split=0.25, seed=1)
    again = look(*rows(40), validation_split=0.25, seed=1)
    other = look(*rows(40), validation_split=0.25, seed=2)
    assert (len(once.train), len(once.validation)) == (30, 10)
    assert (once.train, once.validation) == (again.train, again.validation)
    assert once.validation != other.validation
    everything = look(*rows(40)).train
    assert [one for one in everything if one not in once.validation] == once.train


def test_both_sides_of_a_split_have_an_example(look: Any) -> None:
    data = look(*rows(2), validation_split=0.01)
    assert (len(data.train), len(data.validation)) == (1, 1)
    with pytest.raises(InvalidInput, match="single example"):
        look(*rows(1), validation_split=0.5)


@pytest.mark.parametrize(
    ("given", "steps", "epochs"),
    [
        ({"max_steps": 60}, 60, 20.0),
        ({"max_steps": -1, "num_train_epochs": 2}, 6, 2),
        ({"max_steps": -1, "num_train_epochs": 0.5}, 2, 0.5),
        ({"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 4}, 2, 1),
        ({"max_steps": -1, "num_train_epochs": 1, "num_workers": 3}, 1, 1),
    ],
)
def test_steps_are_counted_as_the_trainer_does(
    given: dict[str, Any], steps: int, epochs: float, look: Any
) -> None:
    report = look(*rows(20), **given).report
    assert (report.optimizer_steps, report.epochs) == (steps, epochs)


def test_lengths_are_told_by_percentiles(look: Any) -> None:
    texts = [{"text": " a" * number} for number in range(1, 101)]
    tokens = look(*texts).report.tokens
    assert (tokens.p50, tokens.p95, tokens.max) == (51, 96, 101)  # and the end of each


def test_samples_show_the_trained_part_and_are_the_text_that_was_rendered(look: Any) -> None:
    report = look(*rows(9)).report
    assert len(report.samples) == 3
    first = report.samples[0]
    assert [segment.trained for segment in first] == [False, True, False]
    assert first[1].text == "It is 0.<|im_end|>"
    assert first[0].text.endswith("What is 0?<|im_end|>\n<|im_start|>assistant\n")
    assert report.samples[2][1].text == "It is 8.<|im_end|>"


def test_the_memory_estimate_has_the_real_number_of_trainable_parameters() -> None:
    _, shape = load_tokenizer(EMBEDDED_LLM)
    assert shape is not None
    embeddings = shape.vocabulary * shape.hidden
    norms = (2 * shape.layers + 1) * shape.hidden
    assert shape.linear_parameters + embeddings + norms == 134_515_008
    batch = FinetuningRequest(dataset_name="x", per_device_train_batch_size=8)
    estimate = estimate_memory(shape, batch, 240)
    assert estimate.trainable_parameters == 4_884_480
    smaller = estimate_memory(shape, batch.model_copy(update={"gradient_checkpointing": True}), 240)
    assert smaller.total_bytes < estimate.total_bytes / 2
    attention = batch.model_copy(update={"target_modules": ["q_proj", "v_proj"]})
    assert estimate_memory(shape, attention, 240).trainable_parameters == 921_600


def test_a_chat_template_of_the_request_is_used_and_checked(look: Any) -> None:
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}"
    template += "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    tokenizer, _ = load_tokenizer(EMBEDDED_LLM, template)
    (example,) = look(*rows(1), tokenizer=tokenizer).train
    text = "[user] What is 0?<|im_end|>[assistant] It is 0.<|im_end|>"
    assert tokenizer.decode(example["input_ids"]) == text
    tokenizer, _ = load_tokenizer(EMBEDDED_LLM, "{% for m in messages %}")
    with pytest.raises(UnprocessableInput, match="chat_template: this is no Jinja: line 1"):
        look(*rows(1), tokenizer=tokenizer)


def test_a_model_that_is_not_there_is_the_request_s_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="model_name"):
        load_tokenizer("empty")


def test_ten_thousand_rows_are_ready_in_seconds(look: Any) -> None:
    started = time.process_time()
    data = look(*rows(10_000))
    assert len(data.train) == 10_000
    assert time.process_time() - started < 20  # about 2 on an idle machine


@pytest.mark.parametrize("name", ["ostwick_harbour", "ostwick_harbour_held_out"])
def test_the_example_data_is_usable_to_the_last_row(
    name: str, embedded: Any, tmp_path: Path
) -> None:
    request = FinetuningRequest(dataset_name=name)
    source = open_dataset(name, EXAMPLES)
    report = prepare(source, request, embedded, file=tmp_path / "examples").report
    assert report.format == "instruction"
    assert (report.faults, report.usable) == ([], report.rows)


@pytest.mark.parametrize(
    ("wished", "steps", "warmup"),
    [(5, 60, 5), (5, 6, 0), (5, 24, 2), (3, 6, 3), (4, 6, 3), (0, 6, 0)],
)
def test_a_warm_up_fits_the_number_of_steps(wished: int, steps: int, warmup: int) -> None:
    from ml.finetuning.training import fitting_warmup  # takes seconds of every test process

    assert fitting_warmup(wished, steps) == warmup
