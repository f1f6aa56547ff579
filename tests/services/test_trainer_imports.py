"""What a web worker that serves no model loads to take a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.finetuning import save_small_llm
from tests.support.processes import ROOT, clean_environment

_SCRIPT = """
import asyncio, sys
from pathlib import Path
import pytest
from tests.services.trainer import trainer
from tests.support.finetuning import REQUEST

async def main(root, models):
    with pytest.MonkeyPatch.context() as patch:
        async with trainer(Path(root), Path(models), patch) as service:
            for path in ("/datasets/validate", "/finetune"):
                reply = await service.post(path, REQUEST | {"output_dir": "new"})
                assert reply.status_code == 200, await reply.get_data()
    print("loaded", *sorted({"torch", "transformers", "datasets", "pyarrow"} & set(sys.modules)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(300)
def test_neither_torch_nor_transformers_is_loaded_to_look_at_data_and_to_queue_a_job(
    tmp_path: Path,
) -> None:
    save_small_llm(tmp_path / "models" / "small")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), str(tmp_path / "models")],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.stdout.splitlines()[-1:] == ["loaded"], done.stderr
