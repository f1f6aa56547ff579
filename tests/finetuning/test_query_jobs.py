"""Jobs whose rows are the results of a query."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from ml.errors import Unauthorized
from ml.finetuning import job
from ml.jobs.context import Stopped
from tests.support.finetuning import Workplace

QUERY = {
    "query": "SELECT question AS instruction, answer AS output FROM houses WHERE number < ?",
    "params": [8],
}


@pytest.fixture(autouse=True)
def _houses(workplace: Workplace) -> None:
    with closing(sqlite3.connect(workplace.input / "houses.db")) as database:
        database.execute("CREATE TABLE houses (number INTEGER, question TEXT, answer TEXT)")
        rows = [(n, f"Which colour has house {n}?", f"It is red{n}.") for n in range(16)]
        database.executemany("INSERT INTO houses VALUES (?, ?, ?)", rows)
        database.commit()


def test_a_job_trains_on_the_rows_of_its_query(workplace: Workplace) -> None:
    _, context = workplace.run(dataset_name=None, query_params=QUERY)
    (training,) = (d for d in context.of("status") if d["status"] == "training")
    assert training["message"] == "Training on 8 examples"

    query_id = (context.folder / "query_id").read_text()
    assert (workplace.working / "queries" / f"{query_id}.db").is_file()
    _, again = workplace.run("two", dataset_name=None, query_id=query_id, output_dir="again")
    assert again.curve() == context.curve()


def test_a_resumed_job_trains_on_the_rows_that_it_began_with(workplace: Workplace) -> None:
    context = workplace.context("one", dataset_name=None, query_params=QUERY)
    context.stop_at = 4
    with pytest.raises(Stopped):
        job.run(context)  # type: ignore[arg-type]
    with closing(sqlite3.connect(workplace.input / "houses.db")) as database:
        database.execute("DELETE FROM houses WHERE number > 2")
        database.commit()
    again = workplace.context("one", attempt=2, dataset_name=None, query_params=QUERY)
    job.run(again)  # type: ignore[arg-type]
    assert [data["step"] for data in again.steps()] == [5, 6, 7, 8]


def test_an_unsigned_query_is_refused_where_signers_are_named(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERY_SIGNERS", "0x" + "11" * 20)
    with pytest.raises(Unauthorized, match="signed queries only"):
        workplace.run(dataset_name=None, query_params=QUERY)
