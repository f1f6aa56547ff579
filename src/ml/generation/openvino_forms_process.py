"""The process that tries forms of answers, before one of them comes to the model's process.

There one that cannot be compiled would break the step of all requests, and one that takes seconds
or gigabytes would hold it up. Here it breaks this process at most, whose time is limited. It runs
the same library over the same tokenizer, with a model that knows nothing.

    told  try, form, seconds of processor time
    says  ready · refused, why · possible · impossible, why
"""

from __future__ import annotations

import json
import re
import resource
import signal
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, TaggedAnswer
from ml.generation.answer_grammar import require_form
from ml.generation.child_process import resident_bytes, run_as_child
from ml.generation.openvino_config import new_config
from ml.generation.schema_shape import patterns_in

_TOKENS = 16
#: What may be allocated beyond what the process has at its start.
_MOST_BYTES = 3 << 29


class _Trial:
    """A pipeline that makes a few tokens of a form."""

    def __init__(self, *, source: str, vocabulary: int, end_tokens: list[int]) -> None:
        from openvino_genai import LLMPipeline, Tokenizer  # type: ignore[import-untyped]

        self._end_tokens = end_tokens
        tokenizer = Tokenizer(source)
        specials = [
            id_ for text, id_ in tokenizer.get_vocab().items() if re.fullmatch(rb"<[^>]+>", text)
        ]
        #: What a step yields that allows no token at all.
        self._stuck = 0 if 0 in specials and 0 not in end_tokens else None
        with tempfile.TemporaryDirectory() as folder:
            _save_blank_model(Path(folder, "openvino_model.xml"), vocabulary, specials)
            self._pipeline = LLMPipeline(folder, tokenizer, "CPU", ATTENTION_BACKEND="SDPA")

    def fault(self, form: AnswerForm) -> str | None:
        """Return why no answer can have a form, or None if one can."""
        import numpy as np
        from openvino import Tensor  # type: ignore[import-untyped]

        if fault := _fault_of_patterns(form):
            return fault
        fields: dict[str, Any] = {"max_new_tokens": _TOKENS, "form": form}
        if self._end_tokens:
            fields |= {"stop_token_ids": set(self._end_tokens), "eos_token_id": self._end_tokens[0]}
        prompt = Tensor(np.array([[1]], dtype=np.int64))
        try:
            made = self._pipeline.generate(prompt, new_config(fields)).tokens[0]
        except MemoryError:
            return "it takes too much memory"
        except Exception as error:  # of whichever kind the library raises
            return _without_place(str(error))
        return "no answer can have it" if self._stuck in made else None


def _fault_of_patterns(form: AnswerForm) -> str | None:
    """Return what is wrong with a form's regular expressions, of which the library takes any."""
    for pattern in _patterns_of(form):
        try:
            require_form(RegexAnswer(pattern))
        except InvalidInput as error:
            why = error.description.removeprefix("the regular expression: ")
            return why if isinstance(form, RegexAnswer) else f"pattern {pattern[:100]!r}: {why}"
    return None


def _patterns_of(form: AnswerForm) -> list[str]:
    match form:
        case RegexAnswer(pattern):
            return [pattern]
        case JsonAnswer(schema):
            schemas = [schema]
        case TaggedAnswer(tags=tags):
            schemas = [tag.schema for tag in tags]
    try:
        return [pattern for one in schemas for pattern in patterns_in(json.loads(one))]
    except (ValueError, RecursionError):
        return []  # the library says why it is none


def _save_blank_model(path: Path, vocabulary: int, specials: list[int]) -> None:
    """Write a model that finds all tokens equally likely, but special ones less so."""
    import numpy as np
    import openvino
    from openvino import opset13

    sizes = {"input_ids": 2, "attention_mask": 2, "position_ids": 2, "beam_idx": 1}
    inputs = {}
    for name, dimensions in sizes.items():
        kind = np.int32 if name == "beam_idx" else np.int64
        inputs[name] = opset13.parameter([-1] * dimensions, kind, name=name)
        inputs[name].output(0).set_names({name})
    row = np.zeros((1, 1, vocabulary), np.float32)
    row[..., [id_ for id_ in specials if id_ < vocabulary]] = -1
    ids = opset13.convert(
        opset13.unsqueeze(inputs["input_ids"], opset13.constant([2], np.int64)), np.float32
    )
    nothing = opset13.multiply(ids, opset13.constant(np.float32(0)))
    logits = opset13.add(nothing, opset13.constant(row))
    logits.output(0).set_names({"logits"})
    openvino.save_model(openvino.Model([logits], list(inputs.values())), path)


def _without_place(text: str) -> str:
    """Return a message of the library without the place in its sources."""
    lines = [line for line in text.splitlines() if line.strip()]
    told = re.sub(r"^.*?(_error|\.cc|\.cpp|\.hpp):\d+:? ", "", " ".join(lines))
    return re.sub(r"^Check failed: \(.*?\) is false: ", "", told)[:300]


def _bound_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES, hard))


def _serve(connection: Connection[Any, Any], settings: dict[str, Any]) -> None:
    most_kept_bytes = settings.pop("most_kept_bytes")
    try:
        trial = _Trial(**settings)
    except Exception as error:
        connection.send(("refused", _without_place(str(error))))
        return
    connection.send(("ready",))
    _bound_memory()
    most = resident_bytes() + most_kept_bytes
    while resident_bytes() < most:  # else who asks next finds it gone, and starts another
        _, form, seconds = connection.recv()
        signal.setitimer(signal.ITIMER_PROF, seconds)  # then the signal ends the process
        fault = trial.fault(form)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(("possible",) if fault is None else ("impossible", fault))


if __name__ == "__main__":
    run_as_child(_serve)
