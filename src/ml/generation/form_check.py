"""Whether an answer can have a form, asked of a process that may break over it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer
from ml.generation.child_process import ChildProcess

__all__ = ["FormCheck"]

log = logging.getLogger(__name__)

#: Characters of all schemas, or of the pattern, of a form.
MOST_CHARACTERS = 65_536
#: Of the process: its own limit is of processor time, and the machine may be busy.
_WAIT_SECONDS = 60.0
_REMEMBERED = 256


class FormCheck:
    """Tries forms in `ml.generation.openvino_forms_process`, and remembers those that passed.

    The process is started by the first one.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._possible: OrderedDict[AnswerForm, None] = OrderedDict()
        self._process: ChildProcess | None = None
        self._lock = threading.Lock()
        #: Held while a form is tried, for which those that are remembered do not wait.
        self._trying = threading.Lock()

    def require_possible(self, form: AnswerForm) -> None:
        """Raise `InvalidInput` for a form that no answer can have, or that takes too long."""
        name, size = _measured(form)
        if size > MOST_CHARACTERS:
            raise InvalidInput(f"{name}: more than {MOST_CHARACTERS} characters")
        if self._is_known(form):
            return
        with self._trying:
            if self._is_known(form):  # another request had the same one tried
                return
            if fault := self._fault(form):
                raise InvalidInput(f"{name}: {fault}")
        with self._lock:
            self._possible[form] = None
            if len(self._possible) > _REMEMBERED:
                self._possible.popitem(last=False)

    def close(self) -> None:
        """End the process."""
        with self._trying:
            self._end()

    def _is_known(self, form: AnswerForm) -> bool:
        with self._lock:
            known = form in self._possible
            if known:
                self._possible.move_to_end(form)
            return known

    def _fault(self, form: AnswerForm) -> str | None:
        if self._process is None:
            self._process = ChildProcess("ml.generation.openvino_forms_process", self._settings)
            if why := self._process.wait_until_ready():
                self._end()
                log.error("forms of answers cannot be tried: %s", why)
                return "engine openvino cannot do this with the model; engine transformers can"
        self._process.say("try", form)
        try:
            match self._process.hear(_WAIT_SECONDS):
                case "impossible", why:
                    return str(why)
        except (EOFError, TimeoutError):
            self._end()
            return "it takes too long to be compiled: make it smaller, also its bounds of lengths"
        return None

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


def _measured(form: AnswerForm) -> tuple[str, int]:
    """Return what a form is called in a refusal, and how long it is."""
    match form:
        case JsonAnswer(schema):
            return "JSON schema", len(schema)
        case RegexAnswer(pattern):
            return "regular expression", len(pattern)
    parts = [form.trigger, *(t.begin + t.schema + t.end for t in form.tags)]
    return "their schemas", sum(map(len, parts))
