"""What /openapi.json says beside what stands at the views: groups, examples, failures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import orjson
from pydantic.json_schema import JsonSchemaValue
from quart_schema.openapi import OpenAPIProvider

from ml.errors import InvalidInput
from ml.serving.answers import JSON, media_types_of
from ml.serving.auth import PUBLIC_PATHS
from ml.serving.availability import is_always_answered
from ml.serving.input_form import ENCODE_PATH, example_messages
from ml.serving.job_views import JobRecord
from ml.serving.service_output import SERVICE_OUTPUT_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.routing import Rule

    from ml.serving.app import ServiceApp

__all__ = ["ApiDocument"]

#: Groups of operations, by how their addresses begin: the longest that fits. An address that none
#: fits stands in a group of its first part.
_GROUPS = {
    "": "Service",
    "config": "Service",
    "health": "Service",
    "metrics": "Service",
    "service_output": "Infernet",
    "service-resources": "Infernet",
    "v1": "OpenAI",
    "tokenize": "OpenAI",
    "detokenize": "OpenAI",
    "inference/chat": "OpenAI",
    "v1/adapters": "Adapters",
    "info": "Text Generation Inference",
    "generate": "Text Generation Inference",
    "generate_stream": "Text Generation Inference",
    "dashboard": "Fine-tuning",
    "datasets": "Fine-tuning",
    "finetune": "Fine-tuning",
    "jobs": "Fine-tuning",
    "logs": "Fine-tuning",
    "train": "Fine-tuning",
    "v1/fine_tuning": "Fine-tuning, OpenAI",
    "v1/files": "Fine-tuning, OpenAI",
    "inference": "Tuned models",
    "artifacts": "Proofs",
    "proofs": "Proofs",
    "verify": "Proofs",
}
_OF_GROUPS = {
    "Service": "What the service is, and how it does.",
    "Infernet": "What an Infernet node asks.",
    "OpenAI": "The addresses of OpenAI's clients.",
    "Adapters": "LoRA adapters that a request may name as its model.",
    "Text Generation Inference": "The addresses of its clients.",
    "Fine-tuning": "Trainings as jobs, and their data.",
    "Fine-tuning, OpenAI": "The same trainings and files, for OpenAI's clients.",
    "Tuned models": "Answers of what was trained.",
    "Proofs": "What is proved with, long proofs, and checks of proofs.",
}
_FAILURES = {
    400: "The request cannot be answered as it is; the words say what to change.",
    401: "A key is asked for.",
    404: "There is no such thing.",
    409: "It is in a state that does not allow this.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "It is understood and cannot be done; the words say why.",
    429: "Too much is asked at once.",
    500: "The service failed; its log says why.",
    503: "The workflow is not loaded, or all places are taken.",
    504: "It was not finished in time.",
}
_LATER = "The answer takes longer: the job that makes it, whose address is in `Location`."
#: Of all that read a body, and those that run the model beside.
_OF_BODIES, _OF_MODELS = (400, 404, 413, 415, 422), (429, 500, 504)
#: Of the document, which is nested at will.
Part = dict[str, Any]
_PARAMETER = re.compile(r"[^a-zA-Z0-9]+")


class ApiDocument(OpenAPIProvider):
    """The document of a service's API."""

    def schema(self) -> Part:
        """Return the document, with the groups that its operations are in."""
        document = super().schema()
        operations = [one for path in document["paths"].values() for one in path.values()]
        used = {tag for operation in operations for tag in operation["tags"]}
        known = [name for name in _OF_GROUPS if name in used]
        names = [*known, *sorted(used - {*known})]
        document["tags"] = [
            {"name": name, "description": _OF_GROUPS.get(name, "")} for name in names
        ]
        return document

    def operation_id(self, method: str, path: str, func: Callable[..., object]) -> str:
        """Return a name that no other operation has."""
        return f"{method.lower()}_{_PARAMETER.sub('_', path).strip('_') or 'root'}"

    def build_paths(self, rule: Rule) -> tuple[Part, Part]:
        """Return a rule's operations with all that is known of them."""
        paths, components = super().build_paths(rule)
        for path, operations in paths.items():
            for method, shared in operations.items():
                operation = operations[method] = {**shared, "tags": [_group(method, path)]}
                operation["responses"] = self._responses(rule, method, operation)
                if "requestBody" in operation:
                    components.update(self._describe_body(path, operation["requestBody"]))
                    self._add_bytes(path, operation)
        return paths, components

    def build_querystring_parameters(self, model: type[Any]) -> tuple[list[Part], Part]:
        """Return an address's parameters; what may be left out of a query is no null in it."""
        parameters, components = super().build_querystring_parameters(model)
        for one in parameters:
            schema = one["schema"]
            ways = [way for way in schema.get("anyOf", ()) if way.get("type") != "null"]
            if len(ways) == 1:
                del schema["anyOf"]
                schema.update(ways[0])
            if any(way.get("type") == "object" for way in ways):
                one.update(style="deepObject", explode=True)
            if schema.get("default", "") is None:
                del schema["default"]
        return parameters, components

    def build_response_object(self, model: type, headers_model: type | None) -> tuple[Part, Part]:
        """Return an answer in each of the forms that it may be written in."""
        response, components = super().build_response_object(model, headers_model)
        [content] = response["content"].values()
        text = {"schema": {"type": "string", "description": response["description"]}}
        response["content"] = {
            kind: content if kind == JSON else text for kind in media_types_of(model)
        }
        return response, components

    def _responses(self, rule: Rule, method: str, operation: Part) -> Part:
        app = cast("ServiceApp", self._app)
        said = {str(status): response for status, response in operation["responses"].items()}
        if method == "post" and rule.rule == SERVICE_OUTPUT_PATH:
            if app.workflow.can_stream:
                said["200"]["content"]["text/plain"] = {"schema": {"type": "string"}}
            if getattr(app.endpoints[rule.rule], "gives_jobs", False):
                job, _ = self.build_response_object(JobRecord, None)
                said["202"] = {**job, "description": _LATER}
        statuses: list[int] = []
        if rule.rule not in PUBLIC_PATHS or method == "post":
            statuses += [401] if app.keys.are_asked_for else []
            if not is_always_answered(app, rule.endpoint):
                statuses.append(503)
        if method != "get":
            statuses += _OF_BODIES
        if method == "post" and rule.rule in app.endpoints:
            statuses += _OF_MODELS
        if rule.arguments:
            statuses += [404] if method == "get" else [404, 409]
        content = self._failure(rule.rule)
        failures = {
            str(status): {"description": _FAILURES[status], "content": content}
            for status in statuses
        }
        return dict(sorted({**failures, **said}.items()))

    def _failure(self, path: str) -> Part:
        """Return what failures look like at an address: as its clients know them."""
        reply = cast("ServiceApp", self._app).error_form(path)(InvalidInput("field: what is wrong"))
        example = orjson.loads(cast(bytes, reply.body))
        return {"application/json": {"schema": _schema_of(example), "example": example}}

    def _add_bytes(self, path: str, operation: Part) -> None:
        """Add the forms beside JSON in which an address takes a body, and answers it."""
        forms = cast("ServiceApp", self._app).types_besides_json.get(path, ())
        binary = {
            form.decode(): {"schema": {"type": "string", "format": "binary"}} for form in forms
        }
        for told in (operation["requestBody"], operation["responses"]["200"]) if forms else ():
            told["content"] = {**told["content"], **binary}

    def _describe_body(self, path: str, body: Part) -> Part:
        """Add a body's examples, and return the components that it refers to."""
        body["required"] = True
        workflow = cast("ServiceApp", self._app).workflow
        components: Part = {}
        for media in body["content"].values():
            media["schema"] = schema = dict(media["schema"])
            examples = {f"example {n}": one for n, one in enumerate(schema.pop("examples", []), 1)}
            if path in (SERVICE_OUTPUT_PATH, ENCODE_PATH):
                examples = example_messages(workflow, has_all=path == SERVICE_OUTPUT_PATH)
                components = _describe_data(schema, workflow.input_schema())
            elif path == "/proofs" and (example := workflow.example_input()) is not None:
                examples = {"a tensor": example}
            if examples:
                media["examples"] = {name: {"value": value} for name, value in examples.items()}
        return components


def _group(method: str, path: str) -> str:
    if (method, path) == ("post", "/"):
        return "Text Generation Inference"
    parts = path.strip("/").split("/")
    begins = ("/".join(parts[:number]) for number in range(len(parts), 0, -1))
    return next((_GROUPS[one] for one in begins if one in _GROUPS), parts[0].capitalize())


def _describe_data(schema: JsonSchemaValue, data: JsonSchemaValue | None) -> Part:
    """Let the schema of a message say what the workflow reads; returns what that refers to."""
    if data is None:
        return {}
    text = orjson.dumps(data).replace(b"#/$defs/", b"#/components/schemas/")
    data = orjson.loads(text)
    components: Part = data.pop("$defs", {})
    own = schema["properties"]["data"]
    forms = [own["anyOf"][0], data]
    schema["properties"] = {**schema["properties"], "data": {**own, "anyOf": forms}}
    return components


def _schema_of(example: object) -> JsonSchemaValue:
    """Return the JSON Schema of failures in the form of this one: objects and texts, or null."""
    if not isinstance(example, dict):
        return {"type": ["integer" if isinstance(example, int) else "string", "null"]}
    properties = {name: _schema_of(value) for name, value in example.items()}
    return {"type": "object", "title": "ErrorBody", "properties": properties}
