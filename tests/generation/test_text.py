"""Stop strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.generation.text import StopStrings

TEXTS = st.text("ab#\n", max_size=30)


@given(pieces=st.lists(TEXTS, max_size=8), stops=st.lists(st.text("ab#\n", min_size=1), max_size=3))
def test_what_is_passed_on_is_the_text_before_the_first_stop(
    pieces: list[str], stops: list[str]
) -> None:
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    stream = StopStrings(stops)
    passed = ""
    for piece in pieces:
        passed += stream.feed(piece)
        if stream.stopped:
            break
    else:
        passed += stream.rest()
    # Two stops may overlap in the text: the one that is whole first ends it.
    assert whole.startswith(passed)
    assert stream.stopped == bool(ends)
    assert not any(stop in passed for stop in stops)
    if not ends:
        assert passed == whole


@pytest.mark.parametrize(("fed", "passed"), [("one", "one"), ("one\n", "one"), ("a\nU", "a")])
def test_only_what_may_begin_a_stop_string_is_held_back(fed: str, passed: str) -> None:
    assert StopStrings(["\nUser:"]).feed(fed) == passed
