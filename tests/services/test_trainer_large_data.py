"""Many rows go through the service in processes of their own."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks.big_data import big_data
from tests.support.finetuning import save_small_llm


@pytest.mark.timeout(400)
def test_the_web_worker_stays_small_and_answers_while_a_job_reads_many_rows(tmp_path: Path) -> None:
    save_small_llm(tmp_path / "models" / "small")
    figures = big_data(20_000, tmp_path, model="small", MODELS_PATH=str(tmp_path / "models"))
    assert figures.worker_loaded == []
    assert figures.worker_bytes < 200e6
    assert figures.job_bytes > figures.worker_bytes
    assert statistics.median(figures.live_seconds) < 0.5
