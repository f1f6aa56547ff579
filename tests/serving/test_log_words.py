"""What of a description may stand in the log."""

from __future__ import annotations

import pytest

from ml.errors import Unauthorized
from ml.generation.request import PromptTooLong
from ml.serving.log_words import without_values, words_for_the_log


@pytest.mark.parametrize(
    ("description", "body", "logged"),
    [
        ("data.dtype: Field required", b'{"data": {}}', "data.dtype: Field required"),
        ("no such field: 'temprature'; did you mean 'temperature'?", b"{}", "no such field: …"),
        ("model_id: 'me/mine' is not served here", b"{}", "model_id: … is not served here"),
        ('data: "a b" is no number', b"{}", "data: … is no number"),
        ("values: 48151623 is not one of 1, 2", b"[48151623]", "values: … is not one of 1, 2"),
        (
            "the query engine: no column my_secret_column",
            b"SELECT my_secret_column",
            "… no column …",
        ),
        ("it's over: don't", b"{}", "it…"),
        ("data: anything at all", None, "data: …"),
        ("All 128 places are taken", b"{}", "All 128 places are taken"),
    ],
)
def test_what_the_client_sent_is_left_out(
    description: str, body: bytes | None, logged: str
) -> None:
    got = without_values(description, body)
    if logged.startswith(("no such", "it")):
        assert got.startswith(logged)
        assert "temprature" not in got
    elif "secret" in description:
        assert "my_secret_column" not in got
        assert "no column" in got
    else:
        assert got == logged


def test_words_that_are_the_same_for_all_requests_are_logged_whole() -> None:
    error = Unauthorized()
    assert words_for_the_log(401, error, b"{}")["description"] == error.description


def test_what_kind_of_failure_it_is_is_logged_where_the_body_is_too_long_to_be_compared() -> None:
    error = PromptTooLong("3000", 2048)
    words = words_for_the_log(400, error, None)
    assert words == {
        "code": "400",
        "name": "Bad Request",
        "error": "PromptTooLong",
        "description": "…",
    }
