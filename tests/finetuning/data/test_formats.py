"""The forms that rows may have, and what is wrong with those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from ml.errors import InvalidInput
from ml.finetuning.data.formats import FORMATS
from ml.finetuning.data.report import Rule

GOOD = {"prompt": "Which river?", "completion": "The Senna."}


@pytest.mark.parametrize("name", FORMATS)
def test_the_sample_of_each_format_is_recognised_and_usable(name: str, look: Any) -> None:
    report = look(FORMATS[name].sample).report
    assert (report.format, report.usable, report.refusal) == (name, 1, None)
    assert FORMATS[name].describe()["sample"] == FORMATS[name].sample


def test_instruction_and_input_are_the_user_s_turn(look: Any, embedded: Any) -> None:
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    (example,) = look(row).train
    assert "user\nTranslate.\n\nGuten Tag<|im_end|>" in embedded.decode(example["input_ids"])


def test_a_system_text_takes_the_place_of_the_template_s(look: Any, embedded: Any) -> None:
    (example,) = look({**GOOD, "system": "You are a guide."}).train
    text = embedded.decode(example["input_ids"])
    assert text.startswith("<|im_start|>system\nYou are a guide.<|im_end|>")
    assert "SmolLM" not in text


def test_columns_are_found_by_the_names_that_the_column_map_gives(look: Any) -> None:
    row = {"question": "Which river?", "answer": "The Senna.", "text": "something else"}
    report = look(row, column_map={"prompt": "question", "completion": "answer"}).report
    assert (report.format, report.usable) == ("prompt_completion", 1)


@pytest.mark.parametrize(
    ("column_map", "said"),
    [({"prompt": "frage"}, "no row has 'frage'"), ({"frage": "prompt"}, "no format has 'frage'")],
)
def test_a_column_map_that_fits_nothing_is_refused(
    column_map: dict[str, str], said: str, look: Any
) -> None:
    with pytest.raises(InvalidInput, match=said):
        look(GOOD, column_map=column_map)


def test_unknown_columns_are_named_with_what_to_do(look: Any) -> None:
    report = look({"question": "Which river?", "answer": "The Senna."}).report
    assert report.format is None
    assert "answer, question" in report.faults[0].message
    assert "column_map" in report.faults[0].hint
    assert "Senna" not in report.model_dump_json(exclude={"first_rows"})


MESSAGES: list[tuple[Any, Rule, str]] = [
    ([1, 2], Rule.NO_OBJECT, ""),
    ({"prompt": "a"}, Rule.MISSING, "/completion"),
    ({"prompt": "a", "completion": " "}, Rule.EMPTY, "/completion"),
    ({"prompt": None, "completion": "b"}, Rule.EMPTY, "/prompt"),
    ({"prompt": "a", "completion": 3}, Rule.TYPE, "/completion"),
    ('{"prompt": "a", "completion": "b"', Rule.SYNTAX, ""),
]


@pytest.mark.parametrize(("row", "rule", "pointer"), MESSAGES)
def test_a_faulty_row_is_named_by_line_field_and_rule_and_the_others_go_on(
    row: Any, rule: Rule, pointer: str, look: Any
) -> None:
    data = look(GOOD, "", row, GOOD)
    (fault,) = data.report.faults
    assert (fault.file, fault.line, fault.rule, fault.pointer) == ("rows.jsonl", 3, rule, pointer)
    assert fault.hint
    assert (len(data.train), data.report.rows, data.report.refusal) == (2, 3, None)


TURNS: list[tuple[Any, Rule, str]] = [
    ("no list", Rule.TYPE, "/messages"),
    (["a"], Rule.TYPE, "/messages/0"),
    ([{"role": "wizard", "content": "a"}], Rule.ROLE, "/messages/0/role"),
    ([{"content": "a"}], Rule.MISSING, "/messages/0/role"),
    ([{"role": "user"}], Rule.MISSING, "/messages/0/content"),
    ([{"role": "user", "content": "a"}], Rule.NO_ANSWER, ""),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        Rule.TYPE,
        "/messages/0/content/0",
    ),
    (
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
        Rule.TYPE,
        "/messages/0/tool_calls",
    ),
]


@pytest.mark.parametrize(("turns", "rule", "pointer"), TURNS)
def test_a_faulty_turn_is_named(turns: Any, rule: Rule, pointer: str, look: Any) -> None:
    (fault,) = look({"messages": turns}).report.faults
    assert (fault.rule, fault.pointer) == (rule, pointer)


def test_turns_may_be_json_text_in_a_cell(look: Any) -> None:
    text = '[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]'
    assert look({"conversations": text}).report.usable == 1
