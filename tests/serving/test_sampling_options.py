"""The same bounds hold for how tokens are chosen, wherever somebody says it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from ml.errors import describe_faults
from ml.generation.arguments import LanguageModelArguments
from ml.generation.request import SamplingParameters
from ml.generation.sampling_options import SamplingOptions
from ml.serving.openai.requests import ChatCompletionRequest, CompletionRequest
from ml.serving.tgi.requests import Parameters
from ml.workflows.inference.llm_inference_workflow import LLMArguments
from ml.workflows.inference.llm_request import LLMRequest
from tests.serving.conftest import MakeLLM
from tests.support.processes import ROOT
from unsloth_trainer_service.inference import InferenceRequest

#: What reads the options, with what else it needs.
READERS: dict[str, tuple[type[SamplingOptions], dict[str, Any]]] = {
    "message": (LLMRequest, {"text": "a"}),
    "chat": (ChatCompletionRequest, {"messages": [{"role": "user", "content": "a"}]}),
    "completion": (CompletionRequest, {"prompt": "a"}),
    "tgi": (Parameters, {}),
    "trainer": (InferenceRequest, {"model_path": "a", "prompt": "b"}),
    "arguments": (LanguageModelArguments, {}),
}
REFUSED = [
    {"max_new_tokens": 0},
    {"temperature": -0.1},
    {"temperature": 5.1},
    {"top_p": -0.1},
    {"top_p": 1.1},
    {"top_k": -2},
    {"seed": -1},
    {"seed": 2**63},
    {"stop": ["a"] * 17},
    {"repetition_penalty": 1e-46},
]
TAKEN = {"temperature": 5.0, "top_p": 1.0, "seed": 2**63 - 1, "stop": ["a"] * 16}
DEFAULTS = SamplingParameters(max_new_tokens=7, temperature=0.5, top_p=0.25, top_k=3, seed=9)


def read(reader: str, options: dict[str, Any]) -> Any:
    kind, others = READERS[reader]
    names = {name: field.alias or name for name, field in kind.model_fields.items()}
    given = {names[name]: value for name, value in options.items()}
    return kind.model_validate_json(json.dumps({**others, **given}))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_a_value_out_of_bounds_is_refused_with_its_field(
    reader: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        read(reader, options)
    [name] = options
    alias = READERS[reader][0].model_fields[name].alias
    assert describe_faults(caught.value).startswith(f"{alias or name}: ")


@pytest.mark.parametrize("reader", READERS)
def test_values_on_the_bounds_are_taken_and_all_others_are_the_services_own(reader: str) -> None:
    def over(options: dict[str, Any]) -> SamplingParameters:
        # Which tokens come with their probability is no matter of how they are chosen.
        return replace(read(reader, options).over(DEFAULTS), logprobs=False)

    taken = over({**TAKEN, "max_new_tokens": 1})
    assert taken == SamplingParameters(1, 5.0, 1.0, 3, 2**63 - 1, ["a"] * 16)
    assert over({}) == DEFAULTS
    assert over(dict.fromkeys(SamplingOptions.model_fields)) == DEFAULTS
    assert over({"top_k": -1, "temperature": 1}).top_k == 0


@pytest.mark.parametrize("reader", [name for name in READERS if name != "tgi"])
def test_a_temperature_that_32_bits_hardly_hold_is_none(reader: str) -> None:
    assert read(reader, {"temperature": 1e-300}).over(DEFAULTS).temperature == 0


def test_the_newer_name_of_openais_limit_wins() -> None:
    limits = {"max_tokens": 3, "max_completion_tokens": 4}
    body = READERS["chat"][1] | limits
    request = ChatCompletionRequest.model_validate(body)
    assert request.over(DEFAULTS).max_new_tokens == 4


@pytest.mark.parametrize(
    ("given", "temperature"),
    [({"do_sample": True}, 1), ({"top_k": 5}, 1), ({"top_p": 0.9}, 1), ({"seed": 1}, 0.5)],
)
def test_what_samples_at_tgi_does_so_at_temperature_1(
    given: dict[str, Any], temperature: float
) -> None:
    assert Parameters.model_validate(given).over(DEFAULTS).temperature == temperature


def test_the_readme_has_every_argument_of_a_language_model() -> None:
    readme = (ROOT / "services" / "llm_inference_service" / "README.md").read_text()
    table = readme.partition("### LLMInferenceWorkflow")[2]
    assert [name for name in LLMArguments.model_fields if f"`{name}`" not in table] == []


async def test_openais_document_names_the_limit_as_its_clients_do(make_llm: MakeLLM) -> None:
    app = await make_llm()
    document = json.loads(await (await app.test_client().get("/openapi.json")).get_data())
    for path in ("/v1/chat/completions", "/v1/completions"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert "max_tokens" in json.dumps(body["schema"])
        assert "max_new_tokens" not in json.dumps(body["schema"])
