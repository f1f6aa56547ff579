"""The bodies of `/finetune` and `/train`, which both ask for a fine-tuning."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ml.errors import UnprocessableInput, fault_lines, unknown_fields
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.train_request import TrainRequest

__all__ = ["read_request"]


def read_request(data: Any) -> FinetuningRequest:
    """Return the request in a body of `/finetune` or `/train`.

    Raises `UnprocessableInput` naming the fields at fault.
    """
    if not isinstance(data, dict):
        raise UnprocessableInput("give a JSON object")
    queries = "query_params" in data or "query_id" in data
    # With parameters beside the query it is a body of /finetune, which takes queries too.
    is_train = "training_params" in data or (
        queries and set(data) <= set(TrainRequest.model_fields)
    )
    model = TrainRequest if is_train else FinetuningRequest
    faults = unknown_fields(data, list(model.model_fields))
    known = {name: value for name, value in data.items() if name in model.model_fields}
    try:
        request = model.model_validate(known)
    except ValidationError as error:
        raise UnprocessableInput("; ".join([*faults, *fault_lines(error)])) from None
    if isinstance(request, TrainRequest):
        return request.finetuning_request(faults)
    if faults:
        raise UnprocessableInput("; ".join(faults))
    return request
