"""A workflow whose input has models in models, lists, choices, bounds and a secret."""

from __future__ import annotations

import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, model_validator

from ml.errors import InvalidInput
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

#: What is said of an order to Nowhere.
REFUSAL = (
    "data.items.1.number: too many; data.ship_to.street: no such street; see the map; "
    "data.more.a: give a whole number"
)


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Address(BaseModel):
    """Where it goes."""

    street: str = Field(min_length=2, max_length=40)
    city: str | None = Field(default=None, max_length=40, description="Left out in a village")


class Item(BaseModel):
    """One thing."""

    name: str = Field(max_length=20)
    number: int = Field(ge=1, le=9)
    size: Size = Size.SMALL


class Order(BaseModel):
    """What is ordered."""

    kind: Literal["order"]
    items: list[Item] = Field(min_length=1, max_length=3, description="What shall come")
    ship_to: Address
    bill_to: Address | None = Field(default=None, description="Else to where it goes")
    tags: list[str] = Field(default_factory=list, max_length=2)
    day: datetime.date | None = None
    ratio: float = Field(default=0.5, gt=0, lt=1)
    urgent: bool = False
    password: SecretStr | None = Field(default=None, description="Of the shop")
    more: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tags_differ(self) -> Order:
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("two tags are the same")
        return self


class TakesOrders(BaseInferenceWorkflow):
    """Answers with the order, as it was understood."""

    input_model = Order

    def do_preprocessing(self, input_data: Order) -> Order:
        if input_data.ship_to.street == "Nowhere":
            raise InvalidInput(REFUSAL)
        return input_data

    def do_run_model(self, preprocessed_data: Order) -> dict[str, Any]:
        secret = preprocessed_data.password
        answer = preprocessed_data.model_dump(mode="json", exclude={"password"})
        return answer | {"secret_length": len(secret.get_secret_value()) if secret else 0}
