"""Whether an answer can have a form, asked of a process that may break over it."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from ml.errors import InvalidInput, NotReady, Overloaded
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, TaggedAnswer
from ml.generation.child_process import ChildProcess

__all__ = ["FormCheck"]

log = logging.getLogger(__name__)

#: Characters of all schemas, or of the pattern, of a form.
MOST_CHARACTERS = 65_536
#: Of processor time, for a form to be compiled and for its first tokens. All other answers wait
#: as long, when the process of the model compiles it.
_MOST_SECONDS = 1.0
#: And for each tool, twice what one of five arguments takes.
_SECONDS_OF_A_TOOL = 0.02
#: Of the process: its own limit is of processor time, and the machine may be busy.
_WAIT_SECONDS = 60.0
_REMEMBERED = 256
#: Different forms that may wait to be tried; each keeps the threads of its requests.
_MOST_WAITING = 16
#: What ends a process over the form that it tries: its time is up, or its stack or memory full.
_OF_THE_FORM = {
    -one for one in (signal.SIGPROF, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL)
}
#: How often a form is tried whose process ends over something else.
_TRIES = 2


class FormCheck:
    """Tries forms in `ml.generation.openvino_forms_process`, and remembers those that passed.

    The process is started by the first one, and gives way to another one when it keeps more than
    `most_kept_bytes` of those that it tried.
    """

    def __init__(self, settings: Mapping[str, Any], *, most_kept_bytes: int = 1 << 29) -> None:
        self._settings = {**settings, "most_kept_bytes": most_kept_bytes}
        self._possible: OrderedDict[AnswerForm, None] = OrderedDict()
        self._process: ChildProcess | None = None
        self._lock = threading.Lock()
        #: Held while a form is tried, for which those that are remembered do not wait.
        self._trying = threading.Lock()
        #: Requests that have their form tried, or wait for that.
        self._waiting: Counter[AnswerForm] = Counter()

    def require_possible(self, form: AnswerForm) -> None:
        """Raise `InvalidInput` for a form that no answer can have, or that takes too long.

        Raises `Overloaded` where too many wait, and `NotReady` where forms cannot be tried now.
        """
        name, size = _measured(form)
        if size > MOST_CHARACTERS:
            raise InvalidInput(f"{name}: more than {MOST_CHARACTERS} characters")
        if self._is_known(form):
            return
        with self._place(form), self._trying:
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

    @contextlib.contextmanager
    def _place(self, form: AnswerForm) -> Iterator[None]:
        """Hold one of the places for those that wait; all who ask for the same form share it."""
        with self._lock:
            if form not in self._waiting and len(self._waiting) == _MOST_WAITING:
                raise Overloaded(
                    "many new forms of answers wait to be tried; try again shortly",
                    retry_after_seconds=1,
                )
            self._waiting[form] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[form] -= 1
                if not self._waiting[form]:
                    del self._waiting[form]

    def _fault(self, form: AnswerForm) -> str | None:
        """Return why no answer can have a form, or None if one can."""
        for _ in range(_TRIES):
            try:
                return self._tried(form)
            except (EOFError, TimeoutError) as error:
                code = self._end()
                if isinstance(error, EOFError) and code in _OF_THE_FORM:
                    return (
                        f"it takes more than {_most_seconds(form)} seconds to be compiled, or too "
                        "much memory: make it smaller, also its bounds of lengths"
                    )
                log.warning("the process that tries forms of answers ended with code %s", code)
        raise NotReady(
            "forms of answers cannot be tried now; try again shortly", retry_after_seconds=2
        )

    def _tried(self, form: AnswerForm) -> str | None:
        if self._process is None:
            self._process = ChildProcess("ml.generation.openvino_forms_process", self._settings)
            match self._process.hear(_WAIT_SECONDS):
                case "refused", why:
                    self._end()
                    log.error("forms of answers cannot be tried: %s", why)
                    return "engine openvino cannot do this with the model; engine transformers can"
        self._process.say("try", form, _most_seconds(form))
        match self._process.hear(_WAIT_SECONDS):
            case "impossible", why:
                return str(why)
        return None

    def _end(self) -> int | None:
        """End the process; returns how it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.end()
        return process.exit_code


def _most_seconds(form: AnswerForm) -> float:
    tools = len(form.tags) if isinstance(form, TaggedAnswer) else 0
    return round(_MOST_SECONDS + tools * _SECONDS_OF_A_TOOL, 2)


def _measured(form: AnswerForm) -> tuple[str, int]:
    """Return what a form is called in a refusal, and how long it is."""
    match form:
        case JsonAnswer(schema):
            return "JSON schema", len(schema)
        case RegexAnswer(pattern):
            return "regular expression", len(pattern)
    parts = [form.trigger, *(t.begin + t.schema + t.end for t in form.tags)]
    return "their schemas", sum(map(len, parts))
