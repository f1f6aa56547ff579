"""`/tokenize` and `/detokenize`: the tokens of a text, or of a conversation, and back.

The bodies are those of vLLM's addresses; with `inputs`, `/tokenize` answers as Text Generation
Inference does.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from ml.errors import ServiceError
from ml.generation.language_model import LanguageModel
from ml.generation.sampling_options import NUMERIC
from ml.generation.tools import Tools, ToolWish
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.client_request import ClientRequest
from ml.serving.endpoint import Headers, InThread
from ml.serving.openai.errors import error_reply
from ml.serving.openai.messages import Message
from ml.serving.reply import Reply, json_reply

__all__ = ["Detokenize", "DetokenizeRequest", "Tokenize", "TokenizeRequest"]

_MOST_TOKENS = 1 << 17


class _Request(ClientRequest):
    model: str | None = Field(default=None, description="One of /v1/models; the first by default")

    def require_model(self, model: LanguageModel) -> None:
        """Raise `ModelNotFound` unless there is a model of the name."""
        if self.model is not None and self.model not in NAMES_OF_ANY_MODEL:
            model.require_model(self.model)


class TokenizeRequest(_Request):
    """The body of `POST /tokenize`: one of `prompt`, `messages` and `inputs`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "The capital of France"}]})

    neutral: ClassVar = {
        "add_generation_prompt": (True,),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "continue_final_message": (False,),
        "mm_processor_kwargs": ({},),
        "parameters": ({},),
    }

    prompt: str | None = Field(default=None, description="A text")
    messages: list[Message] | None = Field(
        default=None, min_length=1, description="A conversation; its prompt is counted"
    )
    tools: Tools | None = Field(default=None, description="What its model is told of tools")
    inputs: str | None = Field(default=None, description="A text; the reply is TGI's, with places")
    add_special_tokens: bool | None = Field(
        default=None, description="false leaves out what the tokenizer puts around a text"
    )
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        given = [one for one in (self.prompt, self.messages, self.inputs) if one is not None]
        if len(given) != 1:
            raise ValueError("prompt: give one of prompt, messages and inputs")
        return self


class DetokenizeRequest(_Request):
    """The body of `POST /detokenize`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [1, 2, 3]}]})

    tokens: list[Annotated[int, NUMERIC]] = Field(max_length=_MOST_TOKENS)


class _Endpoint:
    def __init__(self, model: LanguageModel, in_thread: InThread) -> None:
        self._model, self._in_thread = model, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error)


class Tokenize(_Endpoint):
    """Tells the tokens of a text or of a conversation."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return them with their number, and the most that prompt and answer may have."""
        request = TokenizeRequest.read(body)
        return json_reply(await self._in_thread(self._told, request))

    def _told(self, request: TokenizeRequest) -> object:
        model, reader = self._model, self._model.reader
        request.require_model(model)
        special = request.add_special_tokens is not False
        if request.inputs is not None:
            return [
                {"id": id_, "text": request.inputs[start:stop], "start": start, "stop": stop}
                for id_, (start, stop) in reader.places(request.inputs, add_special_tokens=special)
            ]
        if request.messages is not None:
            messages = [message.for_template() for message in request.messages]
            ids = model.tokens_of_chat(messages, ToolWish(request.tools))
        else:
            places = reader.places(request.prompt or "", add_special_tokens=special)
            ids = [id_ for id_, _ in places]
        texts = map(reader.token_texts.text, ids) if request.return_token_strs else None
        return {
            "count": len(ids),
            "max_model_len": model.max_length,
            "tokens": ids,
            "token_strs": texts and list(texts),
        }


class Detokenize(_Endpoint):
    """Tells the text of tokens."""

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return it as `prompt`."""
        request = DetokenizeRequest.read(body)
        request.require_model(self._model)
        return json_reply(
            {"prompt": await self._in_thread(self._model.reader.text_of, request.tokens)}
        )
