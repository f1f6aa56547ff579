"""`/v1/adapters`: the LoRA adapters that a request may name as its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from quart import request
from quart_schema import document_request, document_response

from ml.errors import NotFound
from ml.serving.client_request import ClientRequest

if TYPE_CHECKING:
    from ml.generation.adapter_leases import AdapterLeases
    from ml.generation.language_model import LanguageModel
    from ml.serving.app import ServiceApp

__all__ = ["AdapterRequest", "add_adapters"]


class AdapterRequest(ClientRequest):
    """The body of `POST /v1/adapters`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "my-adapter"}]})

    name: str = Field(min_length=1, description="A sub-folder of the folder for adapters")


class Adapter(BaseModel):
    """An adapter in the folder."""

    id: str
    object: Literal["adapter"]
    loaded: bool
    in_use: bool


class AdapterList(BaseModel):
    """The adapters in the folder."""

    object: Literal["list"]
    data: list[Adapter]


def add_adapters(app: ServiceApp, language_model: LanguageModel) -> None:
    """Register the addresses on an application. Each worker has its own adapters loaded."""

    def adapters() -> AdapterLeases:
        if language_model.adapters is None:
            raise NotFound("This service has no folder for adapters: set adapters_path.")
        return language_model.adapters

    @app.get("/v1/adapters")
    @document_response(AdapterList)
    async def list_adapters() -> dict[str, Any]:
        """Return the adapters in the folder."""
        states = await app.workflow.in_thread(adapters().available)
        data = [_document(state.name, state.loaded, state.in_use) for state in states]
        return {"object": "list", "data": data}

    @app.post("/v1/adapters")
    @document_request(AdapterRequest)
    @document_response(Adapter)
    async def load_adapter() -> dict[str, Any]:
        """Load an adapter now, so that the first request for it need not wait."""
        body = await request.get_data()
        name = AdapterRequest.read(body).name
        async with adapters().hold(name):
            return _document(name, loaded=True, in_use=False)

    @app.delete("/v1/adapters/<name>")
    @document_response(Adapter)
    async def unload_adapter(name: str) -> dict[str, Any]:
        """Free an adapter's memory; its files stay. One in use goes with its last request."""
        unloaded = await app.workflow.in_thread(adapters().unload, name)
        return _document(name, loaded=not unloaded, in_use=not unloaded)


def _document(name: str, loaded: bool, in_use: bool) -> dict[str, Any]:
    return {"id": name, "object": "adapter", "loaded": loaded, "in_use": in_use}
