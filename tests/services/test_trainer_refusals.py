"""What cannot work is refused before a job waits for it, in a sentence."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.services.trainer import Trainer
from tests.support.finetuning import save_small_llm


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_small_llm(root / "small")
    shutil.copytree(root / "small", root / "quantised")
    config = json.loads((root / "small" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (root / "quantised" / "config.json").write_text(json.dumps(config))
    shutil.copytree(root / "small", root / "pickled")
    (root / "pickled" / "model.safetensors").rename(root / "pickled" / "pytorch_model.bin")
    return root


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"output_dir": "small"}, "output_dir: 'small' is the name of a base model"),
        ({"output_dir": "quantised"}, "output_dir: 'quantised' is the name of a base model"),
        ({"output_dir": "tgi"}, "output_dir: 'tgi' is the name of a base model"),
        ({"output_dir": "SMALL"}, "output_dir: 'small' is the name of a base model"),
        ({"output_dir": "TGI"}, "output_dir: 'tgi' is the name of a base model"),
        ({"output_dir": "harbour.zip"}, "output_dir: 'harbour.zip' ends in '.' or '.zip'"),
        ({"output_dir": "harbour.ZIP"}, "output_dir: 'harbour.ZIP' ends in '.' or '.zip'"),
        ({"output_dir": "harbour."}, "output_dir: 'harbour.' ends in '.' or '.zip'"),
        ({"output_dir": "harbour "}, "output_dir: 'harbour ' is no plain name"),
        ({"output_dir": "harb\u00f6r"}, "is no plain name"),
        ({"output_dir": "harbo\u0308r"}, "is no plain name"),
        ({"output_dir": "\uff53mall"}, "is no plain name"),
        ({"max_steps": 0}, "max_steps: give a number over 0, or -1 for num_train_epochs"),
        ({"target_modules": ["embed_tokens"]}, "target_modules: 'embed_tokens' is no linear layer"),
        ({"target_modules": ["norm"]}, "target_modules: 'norm' is no linear layer"),
        ({"target_modules": ["nope"]}, "'nope' is none of the model's: down_proj, gate_proj, k_pr"),
        ({"target_modules": ["q_proj", "all-linear"]}, "'all-linear' is none of the model's"),
        ({"target_modules": []}, "target_modules: name at least one"),
        ({"load_in_4bit": True}, "load_in_4bit needs the backend 'unsloth'"),
        ({"backend": "unsloth"}, "backend 'unsloth' cannot be used here: unsloth is not installed"),
        ({"exports": ["gguf"]}, "exports: gguf cannot be made here: convert_hf_to_gguf.py"),
        (
            {"model_name": "quantised"},
            "'quantised' has 4-bit weights, and bitsandbytes is not inst",
        ),
        ({"model_name": "pickled"}, "'pickled' has no weights as safetensors"),
        (
            {"backend": "unsloth", "exports": ["gguf"], "target_modules": ["nope"]},
            "is not installed; install the extra 'unsloth'; exports: gguf cannot",
        ),
    ],
)
async def test_what_cannot_work_here_is_a_422(
    service: Trainer, fields: dict[str, Any], sentence: str
) -> None:
    assert sentence in await service.refusal(**fields)


async def test_a_model_that_is_nowhere_is_told_with_those_that_are_here(service: Trainer) -> None:
    for path in ("/finetune", "/datasets/validate"):
        began = time.monotonic()
        said = await service.refusal(path, model_name="owner/nothing")
        assert time.monotonic() - began < 20
        assert "it is not on this machine" in said
        assert said.endswith("models on this machine: pickled, quantised, small")


async def test_an_output_does_not_take_what_another_one_makes(service: Trainer) -> None:
    (service.root / "output" / "mine-gguf").mkdir()
    await service.jobs.create(
        "ml.finetuning.job", {"output_dir": "first", "exports": ["merged_16bit"]}, "waiting"
    )
    assert "job waiting makes 'first'" in await service.refusal(output_dir="first")
    assert "makes 'first-merged'" in await service.refusal(output_dir="first-merged")
    assert "makes 'first'" in await service.refusal(output_dir="First")
    (service.root / "output" / "there.zip").write_bytes(b"")
    assert "'there.zip' already" in await service.refusal(output_dir="there")


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_that_does_not_answer_is_waited_for_a_few_seconds(
    listens: bool, tmp_path: Path
) -> None:
    code = (
        "import os, socket, sys, time\n"
        "server = socket.socket(); server.bind(('127.0.0.1', 0))\n"
        f"{'server.listen(1)' if listens else ''}\n"
        "os.environ['HF_ENDPOINT'] = f'http://127.0.0.1:{server.getsockname()[1]}'\n"
        "from ml.models.local_models import why_missing\n"
        "began = time.monotonic(); said = why_missing('owner/nothing')\n"
        "print(time.monotonic() - began < 15, said)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"MODELS_PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = "the hub cannot be reached" if not listens else "the hub"
    assert done.stdout.startswith(f"True it is not on this machine, and {said}")


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH '/tmp/other.db' AS other",
        "INSTALL httpfs",
        "COPY notes TO '/tmp/notes.csv'",
        "PRAGMA database_list",
        "DELETE FROM notes",
        "SELECT text FROM notes; SELECT 1",
    ],
)
async def test_a_query_that_is_no_select_is_refused_with_what_is_allowed(
    service: Trainer, query: str
) -> None:
    with closing(sqlite3.connect(service.root / "input" / "town.db")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    said = await service.refusal(dataset_name=None, query_params={"query": query})
    assert said.startswith("query: ")
    assert said.endswith("a query is one SELECT, which reads the databases of the input folder")


@pytest.mark.parametrize("path", ["/finetune", "/train"])
async def test_all_faults_of_a_request_are_told_at_once(service: Trainer, path: str) -> None:
    wrong = {"learning_rate": "fast", "max_steps": 0, "lora_rank": 3}
    names = {"model_name": "../a", "output_dir": "b.zip", "modl": 1, "query_id": "q"}
    parameters = wrong if path == "/finetune" else {"training_params": wrong}
    reply = await service.post(path, names | parameters)
    assert reply.status_code == 422
    said = (await reply.get_json())["description"]
    for name in (*wrong, *names):
        assert (name in said) == (name != "query_id"), said


async def test_a_data_file_that_unpacks_to_gigabytes_is_a_413_in_seconds(service: Trainer) -> None:
    places = pa.array([0] * 100_000, pa.int32())
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 10_000_000]))
    file = service.root / "input" / "bomb.parquet"
    parquet.write_table(pa.table({"text": texts}), file, dictionary_pagesize_limit=2**30)
    reply = await service.finetune(dataset_name="bomb.parquet")
    assert reply.status_code == 413
    assert "bomb.parquet unpacks to " in (await reply.get_json())["description"]
    assert [job.id for job in await service.jobs.list()] == ["counting"]
