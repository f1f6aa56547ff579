"""Keeps telephone numbers from the model server."""

from typing import Any

import phonenumbers

from ml.workflows.inference.tgi_client_inference_workflow import (
    TGIClientInferenceWorkflow,
    TGIRequest,
)


class WithoutNumbers(TGIClientInferenceWorkflow):
    """Passes texts on with `[number]` where a telephone number stood.

    `region` is the country whose numbers are known without their prefix, such as "US".
    """

    def __init__(self, *arguments: Any, region: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.region = region

    def do_preprocessing(self, input_data: Any) -> TGIRequest:
        """Return the request without numbers; the parameters stay."""
        request = super().do_preprocessing(input_data)
        text = request.text
        found = list(phonenumbers.PhoneNumberMatcher(text, self.region))
        for match in reversed(found):  # from the end, so that the places before it stay true
            text = text[: match.start] + "[number]" + text[match.end :]
        return request.model_copy(update={"text": text})
