"""Templates of strangers: rendered as transformers does it, and ended where they go too far."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ml.errors import UnprocessableInput
from ml.finetuning.data.chat_template import ChatTemplate, open_chat_template
from ml.finetuning.data.row import RowFault
from tests.finetuning.data.templates import TEMPLATES
from tests.support.finetuning import Workplace

TALK = [
    {"role": "system", "content": "Be brief. \n"},
    {"role": "user", "content": " Which river flows there? 🌊"},
    {"role": "assistant", "content": "<think>rivers…</think>\n\nThe Senna.  "},
    {"role": "user", "content": "And\tthe hill \ud83d?"},
]
#: What templates of the hub make use of.
FEATURES = {
    "blocks": "{% for m in messages %}\n  {% if loop.first %}\n one{% endif %}\n{{ m.role }}"
    "{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}"
    "{{ m.content | trim }}{% if loop.index0 == 2 %}{% break %}{% endif %}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ tools | tojson }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|"
    "{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}"
    "{% set ns.n = ns.n + m.content | length %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro show(m) -%} [{{ m['content'].split('</think>')[-1].lstrip('\\n') }}] "
    "{%- endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}",
    "names": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ nothing }}{% if tools is none %}-"
    "{% endif %}{% if documents is defined %}+{% endif %}{{ add_generation_prompt }}",
    "date": "{{ strftime_now('%Y') }}",
    "escapes": "{{ '<b>&amp;' }}{{ messages[0].content ~ '<' }}",
}
#: No template may do this, and each reason is told.
HOSTILE = {
    "{{ 9**(9**9) }}": "too long",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "too long",
    "{{ 'a' * 10**10 }}": "too much memory",
    "{{ '{:>9999999999}'.format(1) }}": "too much memory",
    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
    "{% endfor %}": "too much memory",
    "{% for a in range(99999) %}{{ 'a' * 1000 }}{% endfor %}": "too much text",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}": "calls itself",
    "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}": "calls itself",
}


@pytest.mark.parametrize("name", ["SmolLM2", *TEMPLATES, *FEATURES])
@pytest.mark.parametrize("asking", [False, True])
def test_a_text_is_the_one_that_transformers_makes(
    name: str, asking: bool, embedded: Any, tokenizers: dict[str, Any]
) -> None:
    template = FEATURES.get(name) or tokenizers[name].chat_template
    talk = TALK[1:] if name == "strict" else TALK
    expected = embedded.apply_chat_template(
        talk, chat_template=template, tokenize=False, add_generation_prompt=asking
    )
    ours = ChatTemplate(template, embedded.special_tokens_map)
    try:
        assert ours.render([(talk, asking)]) == [expected]
    finally:
        ours.close()


@pytest.mark.parametrize("template", HOSTILE)
def test_a_template_that_goes_too_far_is_ended_with_the_reason(
    template: str, embedded: Any
) -> None:
    began = time.process_time()
    with pytest.raises(UnprocessableInput, match=f"^chat_template: it.*{HOSTILE[template]}"):
        render(template, embedded)
    assert time.process_time() - began < 1  # the work was not done here


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{{ 1 // 0 }}",
        "{{ range(10**9) | list }}",
    ],
)
def test_what_the_sandbox_refuses_is_a_fault_of_the_row(template: str, embedded: Any) -> None:
    with pytest.raises(RowFault, match="refuses this conversation"):
        render(template, embedded)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("alpaca", "'alpaca' shows no message; names of templates are not known"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "lacks the answer's text"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "lacks"),
        ("{% for m in messages %}", "no Jinja: line 1"),
    ],
)
def test_a_template_of_a_request_that_shows_no_answer_is_refused(
    template: str, said: str, look: Any, embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "chat_template", template)
    with pytest.raises(UnprocessableInput, match=said):
        look({"prompt": "a", "completion": "b"}, chat_template=template)


def test_a_template_that_leaves_out_questions_is_warned_of(
    look: Any, embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for m in messages if m.role == 'assistant' %}{{ m.content }}{% endfor %}"
    monkeypatch.setattr(embedded, "chat_template", template)
    row = {"prompt": "Which river?", "completion": "Senna.", "system": "Be brief."}
    report = look(row, row, completion_only=False).report
    assert report.refusal is None
    assert report.warnings == [
        "rows whose turns of the role system the chat template leaves out: 2",
        "rows whose turns of the role user the chat template leaves out: 2",
    ]


def test_the_process_is_gone_once_the_template_is_closed(embedded: Any) -> None:
    with open_chat_template(embedded) as template:
        assert template is not None
        children = Path("/proc/self/task").glob("*/children")
        pids = [pid for file in children for pid in file.read_text().split()]
        assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def render(template: str, tokenizer: Any) -> list[str]:
    ours = ChatTemplate(template, tokenizer.special_tokens_map)
    try:
        return ours.render([(TALK, True)])
    finally:
        ours.close()


def test_a_job_fails_with_the_reason(workplace: Workplace) -> None:
    with pytest.raises(UnprocessableInput, match="chat_template: it takes too much memory"):
        workplace.run(chat_template="{{ messages | tojson * 10**10 }}")
