"""Who may ask."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from ml.errors import Unauthorized
from ml.finetuning.queries.signature import check_signature
from ml.finetuning.request import QueryParams
from tests.support.processes import clean_environment

QUERY = "SELECT * FROM tweets WHERE user_id = ?"
KNOWN = Account.from_key("0x" + "11" * 32)
OTHER = Account.from_key("0x" + "22" * 32)


def signed(account: Account, text: str = QUERY) -> str:
    return str(account.sign_message(encode_defunct(text=text)).signature.hex())


@pytest.mark.parametrize("prefix", ["", "0x"])
def test_a_known_signer_may_ask(prefix: str) -> None:
    query = QueryParams(query=QUERY, params=["a"], query_signature=prefix + signed(KNOWN))
    check_signature(query, [OTHER.address, KNOWN.address.lower()])


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "0x",
        "no hexadecimal",
        "0x" + "00" * 65,
        "0x" + "ff" * 65,
        signed(KNOWN)[:-2],
        signed(KNOWN) + "00",
        signed(OTHER),
        signed(KNOWN, QUERY + " "),
    ],
)
def test_nobody_else_may(signature: str | None) -> None:
    query = QueryParams(query=QUERY, query_signature=signature)
    with pytest.raises(Unauthorized, match="query_signature"):
        check_signature(query, [KNOWN.address])


def test_without_signers_anybody_may_ask() -> None:
    check_signature(QueryParams(query=QUERY), [])


def test_checking_leaves_the_recursion_limit_as_it_is() -> None:
    code = (
        "import sys\n"
        "from ml.finetuning.queries.signature import check_signature\n"
        "from ml.finetuning.request import QueryParams\n"
        "before = sys.getrecursionlimit()\n"
        f"query = QueryParams(query={QUERY!r}, query_signature={signed(KNOWN)!r})\n"
        f"check_signature(query, [{KNOWN.address!r}])\n"
        "print('eth_account' in sys.modules, sys.getrecursionlimit() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["True", "0"]
