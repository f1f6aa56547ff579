"""Addresses in settings and arguments, checked before anybody is asked at them.

What is told of a fault does not repeat the address: a password may stand in it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, AnyUrl, TypeAdapter, ValidationError

__all__ = [
    "PageAddress",
    "SignerAddress",
    "WebAddress",
    "address_fault",
]

_URL: TypeAdapter[AnyUrl] = TypeAdapter(AnyUrl)
_WEB = re.compile(r"https?://\S+\Z", re.IGNORECASE)
_WEB_FORM = "give an address such as http://127.0.0.1:8080"
_SIGNER = re.compile(r"0x[0-9a-fA-F]{40}\Z")


def address_fault(text: str) -> str | None:
    """Return why an address of any scheme cannot be one, such as for its port; else None."""
    try:
        port = _URL.validate_python(text).port
    except ValidationError as error:
        [fault] = error.errors(include_url=False, include_input=False)
        return fault["msg"].removeprefix("Input should be a valid URL, ")
    return "invalid port number" if port == 0 else None


def _web_address(value: Any) -> str:
    if not isinstance(value, str) or not _WEB.match(value):
        raise ValueError(_WEB_FORM)
    if fault := address_fault(value):
        raise ValueError(f"{fault}; {_WEB_FORM}")
    return value


def _page_address(value: str) -> str:
    return value if value.startswith("/") else _web_address(value)


def _signer_address(value: str) -> str:
    if not _SIGNER.match(value):
        raise ValueError("give an Ethereum address: 0x and 40 hexadecimal digits")
    return value


#: Of http or https.
WebAddress = Annotated[str, AfterValidator(_web_address)]
#: Where a browser finds a page: the same, or a path.
PageAddress = Annotated[str, AfterValidator(_page_address)]
#: Of an Ethereum account.
SignerAddress = Annotated[str, AfterValidator(_signer_address)]
