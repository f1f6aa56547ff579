"""Who may ask: the signature over a query's text."""

from __future__ import annotations

import re
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
    try:
        from eth_account import Account
        from eth_account.messages import encode_defunct
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "signed queries need eth-account, in the extra 'trainer'"
        ) from error
    if query.query_signature is None:
        raise Unauthorized("query_signature: this service takes signed queries only")
    malformed = "query_signature: give the signature's 65 bytes as hexadecimal, as 0x…"
    if not _SIGNATURE.fullmatch(query.query_signature):
        raise Unauthorized(malformed)
    message = encode_defunct(text=query.query)
    try:
        signer = Account.recover_message(message, signature=query.query_signature)
    except (ValueError, TypeError, BadSignature, ValidationError) as error:
        raise Unauthorized(malformed) from error
    if signer.lower() not in {address.lower() for address in signers}:
        raise Unauthorized("query_signature: none of the known signers signed this query")
