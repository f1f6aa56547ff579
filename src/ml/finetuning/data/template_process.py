"""A chat template in a process of its own, which can be ended whatever the template does.

    python -m ml.finetuning.data.template_process

It reads lines of JSON, and answers each with one: first the template and the names of special
tokens, then lists of `[messages, add_generation_prompt]`. An answer has `texts`, or `refused` where
the template raised an error, or `over` where it went beyond a limit.

What the template may use is what transformers gives one (`transformers.utils.chat_template_utils`),
which takes a second to import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ml.finetuning.limited import limit_cpu, limit_resources
from ml.models.control_tokens import Asked
from ml.parent_process import end_with_parent

__all__ = ["CPU_SECONDS"]

#: Of work on the conversations of one question.
CPU_SECONDS = 2
_MOST_MEMORY_BYTES = 1024**3
#: Of one conversation, beside four times its own contents.
_MOST_CHARACTERS = 1024**2


class _Generation(Extension):
    """`{% generation %}`, by which a template marks answers: it changes nothing in the text."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own form)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


class _TooLong(Exception):
    """The template writes without measure."""


def _render(template: Template, names: Mapping[str, str], asked: Asked) -> str:
    messages, asking = asked
    given = sum(len(message["content"]) for message in messages)
    pieces, length = [], 0
    for piece in template.generate(
        messages=messages, tools=None, documents=None, add_generation_prompt=asking, **names
    ):
        pieces.append(piece)
        length += len(piece)
        if length > 4 * given + _MOST_CHARACTERS:
            raise _TooLong
    return "".join(pieces)


def _answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    limit_cpu(CPU_SECONDS)
    try:
        return work()
    except TemplateSyntaxError as error:
        return {"syntax": f"line {error.lineno}: {error.message}"}
    except _TooLong:
        return {"over": "it writes too much text"}
    except MemoryError:
        return {"over": "it takes too much memory"}
    except RecursionError:
        return {"over": "it calls itself too deeply"}
    except Exception as error:  # a template may raise anything
        return {"refused": str(error)[:200] or type(error).__name__}


def _answers(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    found: list[Template] = []
    lines = iter(lines)
    given = json.loads(next(lines))
    end_with_parent(given["parent"])  # it may be killed while a template works

    def compile_it() -> dict[str, Any]:
        found.append(_compiled(given["template"]))
        return {"texts": []}

    yield _answer(compile_it)
    for line in lines:
        asked = json.loads(line)
        yield _answer(lambda: {"texts": [_render(found[0], given["names"], one) for one in asked]})  # noqa: B023


def main() -> int:
    """Answer until the input ends."""
    limit_resources(memory_bytes=_MOST_MEMORY_BYTES)
    for answer in _answers(sys.stdin.buffer):
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
