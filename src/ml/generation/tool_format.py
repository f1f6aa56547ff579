"""How a model is told of tools, and how it writes calls of them.

A model whose chat template knows tools is told by that, and its calls are read in the format that
the template teaches. Others, and those whose format is not known here, are told in words of ours,
as a system message, and write their calls as Hermes does. Sources: the chat templates of
NousResearch's Hermes 2 Pro, Qwen 2.5 and 3, and Llama 3.1 to 3.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml.generation.answer_form import Tag, TaggedAnswer
from ml.generation.schema_bounds import compact
from ml.generation.tools import ToolWish

__all__ = ["ToolFormat", "ToolUse", "tool_format_of"]

Message = Mapping[str, Any]

_INSTRUCTIONS = """You may call tools. Each line below describes one of them:
<tools>
{tools}
</tools>
To call a tool, write its name and its arguments as a JSON object, like this:
<tool_call>
{{"name": "the tool's name", "arguments": {{"an argument": "its value"}}}}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The calls that an answer may have; `names` are the tools of the form's tags, in order."""

    form: TaggedAnswer
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """What calls look like, with `NAME` for the tool's name; `native` if the template says so."""

    begin: str
    end: str
    trigger: str
    native: bool
    #: Whether an answer may have more than one call.
    several: bool = True

    def use(self, wish: ToolWish) -> ToolUse | None:
        """Return the calls that an answer may have, None if there are no tools."""
        if not wish.callable:
            return None
        tags = tuple(
            Tag(
                self.begin.replace("NAME", tool.function.name),
                compact(tool.function.schema_of_arguments()),
                self.end,
            )
            for tool in wish.callable
        )
        several = self.several and wish.several
        form = TaggedAnswer(self.trigger, tags, required=wish.required, several=several)
        return ToolUse(form, tuple(tool.function.name for tool in wish.callable))

    def messages(self, messages: Sequence[Message], wish: ToolWish) -> list[Message]:
        """Return a conversation as the template reads it."""
        if self.native:
            return list(messages)
        told = _in_words(messages)
        if not wish.tools:
            return told
        lines = "\n".join(compact(tool.for_template()) for tool in wish.tools)
        text = _INSTRUCTIONS.format(tools=lines)
        if told and told[0]["role"] == "system":
            return [{**told[0], "content": f"{told[0]['content']}\n\n{text}"}, *told[1:]]
        return [{"role": "system", "content": text}, *told]


_HERMES = ToolFormat(
    begin='<tool_call>\n{"name": "NAME", "arguments": ',
    end="}\n</tool_call>",
    trigger="<tool_call>",
    native=True,
)
_LLAMA = ToolFormat(
    begin='{"name": "NAME", "parameters": ',
    end="}",
    trigger='{"name": "',
    native=True,
    several=False,
)
_IN_WORDS = ToolFormat(_HERMES.begin, _HERMES.end, _HERMES.trigger, native=False)


def tool_format_of(template: str | Mapping[str, str] | None) -> ToolFormat:
    """Return the format of a model with this chat template."""
    if isinstance(template, Mapping):
        template = template.get("tool_use") or template.get("default")
    if template is None or not re.search(r"\btools\b", template):
        return _IN_WORDS
    if "<tool_call>" in template and "<function=" not in template:
        return _HERMES
    if '"parameters": ' in template and "ipython" in template:
        return _LLAMA
    return _IN_WORDS


def _in_words(messages: Sequence[Message]) -> list[Message]:
    """Return calls and what came of them as texts; results next to each other share a turn."""
    told: list[Message] = []
    after_result = False
    for message in messages:
        content = message["content"]
        is_result = message["role"] == "tool"
        if is_result:
            content = f"<tool_response>\n{content}\n</tool_response>"
            if after_result:
                told[-1] = {"role": "user", "content": f"{told[-1]['content']}\n{content}"}
                continue
        calls = [_call(call["function"]) for call in message.get("tool_calls", ())]
        role = "user" if is_result else message["role"]
        told.append({"role": role, "content": "\n".join(filter(None, [content, *calls]))})
        after_result = is_result
    return told


def _call(function: Mapping[str, Any]) -> str:
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    begin = _HERMES.begin.replace("NAME", function["name"])
    return f"{begin}{arguments}{_HERMES.end}"
