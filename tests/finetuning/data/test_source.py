"""From names to files: where they are looked for, what they may not be, and how they are read."""

from __future__ import annotations

import codecs
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ml.errors import InvalidInput, NotFound, PayloadTooLarge
from ml.finetuning.data.reading import read_file
from ml.finetuning.data.report import Rule, UnusableData
from ml.finetuning.data.row import RowFault
from ml.finetuning.data.source import open_dataset
from tests.support.processes import clean_environment

ROWS = [{"prompt": "a", "completion": "é\n\u2028b"}, {"prompt": "c", "completion": "d"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def lines_and_values(root: Path, name: str) -> list[tuple[int, Any]]:
    return [(row.line, row.value) for row in open_dataset(name, root).rows]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_json_lines_are_read_with_their_physical_lines(mark: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(mark + LINES.replace(b"\n", b"\r\n\r\n"))
    assert lines_and_values(tmp_path, "a.jsonl") == [(1, ROWS[0]), (3, ROWS[1])]
    assert lines_and_values(tmp_path, "./a") == [(1, ROWS[0]), (3, ROWS[1])]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_json_array_is_read_with_the_line_on_which_each_row_begins(
    mark: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(mark + json.dumps(ROWS, indent=1, ensure_ascii=False).encode())
    assert lines_and_values(tmp_path, "a") == [(2, ROWS[0]), (6, ROWS[1])]


@pytest.mark.parametrize("text", ["[]", " [ \n ] "])
def test_an_empty_array_has_no_rows(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    assert lines_and_values(tmp_path, "a") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},', "does not end"),
        ('[{"a": [1}', "does not end"),
        ('[{"a": 1},\n\n {"a": "b]', "line 3: a text begins here"),
        ("[" * 100_000, "does not end"),
    ],
)
def test_an_array_that_breaks_off_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UnusableData, match=said):
        lines_and_values(tmp_path, "a")


def test_an_element_that_is_no_json_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    text = '[{"a": 1},\n {"a":\n }, {"a": "],\\"{"}\n\n {"a": 2},\n[3]]'
    (tmp_path / "a.json").write_text(text)
    (_, first), (second, wrong), (third, doubled), last = lines_and_values(tmp_path, "a")
    assert (first, last) == ({"a": 1}, (6, [3]))
    assert (second, wrong.rule) == (3, Rule.SYNTAX)
    assert (third, doubled.rule) == (5, Rule.SYNTAX)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_deep_nesting_is_a_fault_even_if_a_library_raised_the_recursion_limit(
    name: str, tmp_path: Path
) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    row = f'{{"a": {deep}}}'
    (tmp_path / name).write_text(f"[{row}]" if name == "a.json" else row)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        ((_, fault),) = lines_and_values(tmp_path, name)
    finally:
        sys.setrecursionlimit(limit)
    assert fault.rule == Rule.SYNTAX


def test_csv_rows_are_read_with_the_line_on_which_each_begins(tmp_path: Path) -> None:
    text = '\ufeffprompt;completion\n"a\nb";c\n\nonly one\nd;"e;f"\n'
    (tmp_path / "a.csv").write_text(text)
    first, broken, last = lines_and_values(tmp_path, "a")
    assert first == (2, {"prompt": "a\nb", "completion": "c"})
    assert (broken[0], broken[1].rule) == (5, Rule.SYNTAX)
    assert last == (6, {"prompt": "d", "completion": "e;f"})


def test_parquet_rows_are_read_with_their_numbers(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert lines_and_values(tmp_path, "a") == [(1, ROWS[0]), (2, ROWS[1])]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UnusableData, match="Parquet"):
        lines_and_values(tmp_path, "b")


def test_bytes_that_are_no_unicode_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES + b'{"prompt": "\xff"}\n')
    (_, _, (line, fault)) = lines_and_values(tmp_path, "a")
    assert isinstance(fault, RowFault)
    assert (line, fault.rule) == (3, Rule.ENCODING)
    (tmp_path / "b.json").write_text("[]", encoding="utf-16")
    with pytest.raises(UnusableData, match="UTF-16"):
        lines_and_values(tmp_path, "b")


def test_half_a_surrogate_pair_is_a_fault_of_its_row(look: Any) -> None:
    text = '[{"text": "\\ud800"}, {"text": "whole"}]'
    report = look(text, name="rows.json").report
    assert (report.usable, report.fault_counts) == (1, {Rule.SYNTAX: 1})


def test_the_hash_is_of_the_file_and_its_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    source = open_dataset("a", tmp_path)
    assert (source.name, source.sha256) == ("a.jsonl", hashlib.sha256(LINES).hexdigest())


def test_json_lines_are_found_before_other_endings(tmp_path: Path) -> None:
    (tmp_path / "alpaca.csv").write_text("text\nb")
    assert open_dataset("alpaca", tmp_path).name == "alpaca.csv"
    (tmp_path / "alpaca.jsonl").write_bytes(LINES)
    assert open_dataset("alpaca", tmp_path).name == "alpaca.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.jsonl", "a/../../secret", "/etc/passwd", "~/a", "..", "", "a\0b", "a\\b"),
        *("link", "linked/secret", "circle", "x" * 5000),
    ],
)
def test_no_name_leads_out_of_the_input_folder(name: str, tmp_path: Path) -> None:
    root = tmp_path / "input"
    root.mkdir()
    (tmp_path / "secret.jsonl").write_bytes(LINES)
    (root / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (root / "linked").symlink_to(tmp_path)
    (root / "circle.jsonl").symlink_to(root / "circle.jsonl")
    with pytest.raises(InvalidInput):
        open_dataset(name, root)


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "newest.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert len(lines_and_values(tmp_path, "newest")) == 2


@pytest.mark.parametrize("name", ["alpaca", "owner/alpaca.jsonl", "json", "text"])
def test_what_is_neither_a_file_nor_an_owner_s_data_set_is_not_found(
    name: str, tmp_path: Path
) -> None:
    """Bare names are not given to `datasets`, for which "json" is its loader of local files."""
    with pytest.raises(NotFound, match="owner/name"):
        open_dataset(name, tmp_path)


def test_a_folder_of_this_machine_is_not_taken_for_a_data_set_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "a.jsonl").write_bytes(LINES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="also a path"):
        open_dataset("owner/name", tmp_path / "input")


def test_the_hub_is_not_asked_when_it_is_switched_off(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from ml.errors import UpstreamError\n"
        "from ml.finetuning.data.source import open_dataset\n"
        "try: open_dataset('owner/name', Path('.'))\n"
        "except UpstreamError as error: print(error)\n"
    )
    environment = clean_environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "HF_HUB_OFFLINE" in done.stdout


def test_a_data_set_in_the_hub_s_cache_is_read_without_a_network(tmp_path: Path) -> None:
    """The cache is made by `datasets` itself, under the name that the hub's data set would have."""
    (tmp_path / "a.jsonl").write_bytes(LINES)
    code = (
        "import shutil\nfrom pathlib import Path\nimport datasets\n"
        "from ml.finetuning.data.source import open_dataset\n"
        "made = datasets.load_dataset('json', data_files='a.jsonl', cache_dir='made')\n"
        "folder = next(p for p in Path('made/json').glob('default-*/*/*') if p.is_dir())\n"
        "target = Path(datasets.config.HF_DATASETS_CACHE) / 'owner___name/default/0.0.0/0123abcd'\n"
        "shutil.copytree(folder, target)\n"
        "for path in target.glob('json-*'):\n"
        "    path.rename(target / path.name.replace('json', 'name'))\n"
        "source = open_dataset('owner/name', Path('input'))\n"
        "print(source.name, [(row.line, row.value['prompt']) for row in source.rows])\n"
    )
    environment = clean_environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "owner/name [(1, 'a'), (2, 'c')]", done.stderr


def test_files_over_the_limit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(PayloadTooLarge, match="10 are read at most"):
        read_file(tmp_path / "a.jsonl", "a.jsonl", most_bytes=10)
