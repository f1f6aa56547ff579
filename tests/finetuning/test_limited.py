"""Processes with limits, and what is told of those that go beyond them."""

from __future__ import annotations

import json
import os

import pytest

from ml.errors import DeadlineExceeded, InternalError
from ml.finetuning.limited import ask

MODULE = "ml.finetuning.data.template_process"


def test_work_beyond_its_share_of_the_processor_took_too_long() -> None:
    """Several threads use up such a share sooner than the time that the asker waits."""
    question = {"template": "{{ 9**(9**9) }}", "names": {}, "parent": os.getpid()}
    with pytest.raises(DeadlineExceeded, match="so long"):
        ask(MODULE, json.dumps(question) + "\n", seconds=600, too_long="so long", check=int)


def test_work_that_takes_longer_than_the_asker_waits_is_ended() -> None:
    question = {"template": "{{ 9**(9**9) }}", "names": {}, "parent": os.getpid()}
    with pytest.raises(DeadlineExceeded, match="so long"):
        ask(MODULE, json.dumps(question) + "\n", seconds=0.1, too_long="so long", check=int)


def test_a_process_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(InternalError, match=r"template_process failed: .*JSONDecodeError"):
        ask(MODULE, "no JSON\n", seconds=60, too_long="so long", check=int)
