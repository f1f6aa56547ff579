"""Who may ask: the signature over a query's text."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection

from ml.errors import ConfigurationError, Unauthorized
from ml.finetuning.request import QueryParams

__all__ = ["check_signature"]

_SIGNATURE = re.compile(r"(0x)?[0-9a-fA-F]{130}")


def check_signature(query: QueryParams, signers: Collection[str]) -> None:
    """Raise `Unauthorized` unless one of the signers, Ethereum addresses, signed the query.

    The signature is EIP-191's `personal_sign` over the query's text alone: whoever has it may use
    it with other parameters. Without signers any query is allowed.
    """
    if not signers:
        return
    if query.query_signature is None:
        raise Unauthorized("query_signature: this service takes signed queries only")
    malformed = "query_signature: give the signature's 65 bytes as hexadecimal, as 0x…"
    if not _SIGNATURE.fullmatch(query.query_signature):
        raise Unauthorized(malformed)
    signer = _signer(query.query, query.query_signature)
    if signer is None:
        raise Unauthorized(malformed)
    if signer.lower() not in {address.lower() for address in signers}:
        raise Unauthorized("query_signature: none of the known signers signed this query")


def _signer(text: str, signature: str) -> str | None:
    """Return the address that signed a text; None if the signature is none."""
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account
        from eth_account.messages import encode_defunct
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError
    except ModuleNotFoundError as error:
        reason = "signed queries need eth-account, in the extra 'trainer'"
        raise ConfigurationError(reason) from error
    finally:
        # A package behind eth-account raises the limit for all of the process, after which a
        # deeply nested JSON body ends it in the standard library's parser.
        sys.setrecursionlimit(limit)
    try:
        return str(Account.recover_message(encode_defunct(text=text), signature=signature))
    except (ValueError, TypeError, BadSignature, ValidationError):
        return None
