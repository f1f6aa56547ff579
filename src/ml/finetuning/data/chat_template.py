"""Chat templates of strangers, rendered with limits."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.data.report import Rule
from ml.finetuning.data.row import RowFault
from ml.finetuning.data.template_process import CPU_SECONDS
from ml.finetuning.limited import start
from ml.models.control_tokens import Asked

__all__ = ["ChatTemplate", "open_chat_template"]

_MODULE = "ml.finetuning.data.template_process"
#: Wall time for what may take `CPU_SECONDS`, on a machine with other work.
_PATIENCE_SECONDS = 30 * CPU_SECONDS
_CHUNK = 1 << 16
_QUESTION, _ANSWER = "Which river flows there?", "The Senna does."


@contextmanager
def open_chat_template(tokenizer: Any) -> Iterator[ChatTemplate | None]:
    """Give a tokenizer's chat template, or None if it has none, for as long as the block runs.

    Raises `UnprocessableInput` where the template is no Jinja or goes beyond a limit.
    """
    if tokenizer.chat_template is None:
        yield None
        return
    template = ChatTemplate(tokenizer.get_chat_template(), tokenizer.special_tokens_map)
    try:
        yield template
    finally:
        template.close()


class ChatTemplate:
    """Renders conversations as transformers does, in a process of its own.

    A template that goes beyond the limits of time, memory and text ends the process, and raises
    `UnprocessableInput`.
    """

    def __init__(self, template: str, names: dict[str, str]) -> None:
        self._template = template
        self._process = start(_MODULE)
        self._read = b""
        try:
            answer = self._ask({"template": template, "names": names, "parent": os.getpid()})
            if "syntax" in answer:
                raise UnprocessableInput(f"chat_template: this is no Jinja: {answer['syntax']}")
        except BaseException:
            self.close()
            raise

    def render(self, asked: Sequence[Asked]) -> list[str]:
        """Return the texts of conversations; raises `RowFault` where the template refuses one."""
        answer = self._ask(asked)
        if "texts" in answer:
            return list(answer["texts"])
        raise RowFault(
            Rule.TEMPLATE,
            "",
            f"the chat template refuses this conversation: {answer['refused']}",
            "change the roles or their order, or give another chat_template",
        )

    def check(self) -> None:
        """Raise `UnprocessableInput` if a rendering does not show what the assistant said."""
        question = {"role": "user", "content": _QUESTION}
        answer = {"role": "assistant", "content": _ANSWER}
        for turns in ([question, answer], [{**question, "role": "system"}, question, answer]):
            try:
                (text,) = self.render([(turns, False)])
            except RowFault:
                continue  # it may know other conversations; the rows will tell
            if _ANSWER not in text:
                raise UnprocessableInput(self._blind())
            return

    def _blind(self) -> str:
        if "{{" in self._template:
            return "chat_template: its rendering lacks the answer's text, so nothing can be learnt"
        return (
            f"chat_template: {self._template[:60]!r} shows no message; names of templates are not "
            "known here, so give the Jinja text itself, or leave it out for the model's own"
        )

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, question: Any) -> dict[str, Any]:
        try:
            answer = self._exchange(json.dumps(question).encode() + b"\n")
        except (OSError, EOFError):
            self._process.kill()
            code = self._process.wait()
            slow = code in (-signal.SIGXCPU, -signal.SIGKILL)
            raise _beyond("it takes too long" if slow else "it ends its process") from None
        if "over" in answer:
            raise _beyond(answer["over"])
        return answer

    def _exchange(self, line: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101  (it was started with pipes)
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(line)
        self._process.stdin.flush()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        output = self._process.stdout.fileno()
        while b"\n" not in self._read:
            if not select.select([output], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise EOFError
            chunk = self._process.stdout.read1(_CHUNK)  # type: ignore[attr-defined]
            if not chunk:
                raise EOFError
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _beyond(reason: str) -> UnprocessableInput:
    return UnprocessableInput(
        f"chat_template: {reason} to render one conversation; give a simpler template"
    )
