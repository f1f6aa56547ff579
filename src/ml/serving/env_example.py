"""`serve --print-env`: a service's settings as a file to copy, made from its settings class.

The services' `.env.example` files are its output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ml.jobs.settings import JobSettings
from ml.serving.settings import ServingSettings

__all__ = ["env_example"]

_HEAD = """\
# Settings of {service}: a file to copy and change.
# Written so that docker's --env-file, quart's -e and serve's --env-file read the same: no quotes.
# Lines behind a # show what holds without them.
"""


def env_example(service: str, settings: type[ServingSettings]) -> str:
    """Return every setting with its description, and its example or its default."""
    workflow = [name for name in settings.model_fields if name.startswith("workflow_")]
    shared = [name for name in ServingSettings.model_fields if name not in workflow]
    jobs = [name for name in settings.model_fields if name in JobSettings.model_fields]
    own = [name for name in settings.model_fields if name not in {*workflow, *shared, *jobs}]
    variables = settings.variables()
    parts = [_HEAD.format(service=service)]
    parts += ["\n".join(_lines(settings, name)) for name in [*workflow, *own, *jobs]]
    for example in settings.examples:
        if example.variable not in variables.values():  # one that the workflow or serve reads
            parts.append(f"# {example.comment}\n# {example.variable}={example.value}\n")
    parts.append("# --- of every service ---\n")
    parts += ["\n".join(_lines(settings, name)) for name in shared]
    return "\n".join(parts)


def _lines(settings: type[ServingSettings], name: str) -> Iterator[str]:
    field, variable = settings.model_fields[name], settings.variables()[name]
    inherited = ServingSettings.model_fields.get(name, field)
    yield f"# {field.description or inherited.description}"
    examples = [example for example in settings.examples if example.variable == variable]
    if not examples:
        yield f"# {variable}={_text(field.default)}"
    for number, example in enumerate(examples):
        yield f"# {example.comment}"
        yield f"{'# ' if number else ''}{variable}={example.value}"
    yield ""


def _text(default: Any) -> str:
    if default in (None, [], ()):
        return ""
    return json.dumps(default) if isinstance(default, dict) else str(default)
