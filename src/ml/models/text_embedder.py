"""Texts as vectors, by an encoder of transformers or by one that OpenVINO reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import caller
from ml.errors import ConfigurationError, InvalidInput
from ml.models.local_models import folder_here, model_source, require_there, told_of_files
from ml.models.model_config import ModelConfig, context_length
from ml.models.openvino_arithmetic import SAME_ON_EVERY_CPU

__all__ = ["TextEmbedder"]

_OPENVINO_FILE = "openvino_model.xml"
_POOLING_FILE = "1_Pooling/config.json"
#: Tokens of a batch, the padding among them.
_BATCH_TOKENS = 8192

Vectors = npt.NDArray[np.float32]
#: Characters of a word that one token may stand for without being in the vocabulary.
_LONGEST_WORD = 100
#: Token ids and attention mask of a batch, to the hidden states of its last layer.
_Run = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], Vectors]


class _Pooling(ModelConfig):
    pooling_mode_cls_token: bool = False
    pooling_mode_lasttoken: bool = False


class TextEmbedder:
    """Makes one vector of length 1 of each text.

    The hidden states of the last layer become one by what the model's `1_Pooling/config.json`
    says (mean, first token, or last token), by their mean without one. `load()` comes first; it
    takes its time, as `embed` does: call them in a thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def served_name(self) -> str:
        """The model's name for clients; of a folder, they learn its last part."""
        path = Path(self.name)
        return path.name if path.is_dir() else self.name

    def load(self) -> None:
        """Load the model and its tokenizer.

        Only safetensors and OpenVINO's folders are read, and no code of a repository is run.
        Raises `ConfigurationError` saying what is missing, and `UpstreamError` where only the hub
        cannot be reached.
        """
        told = f"embedding_model {self.name!r} cannot be loaded"
        require_there(self.name, told)
        with told_of_files(told):
            self._load(model_source(self.name))

    def _load(self, source: str) -> None:
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils.hub import cached_file

        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        self._run = self._opened(source)
        pooling = cached_file(source, _POOLING_FILE, _raise_exceptions_for_missing_entries=False)
        self._pool = _pooling_of(_Pooling.read(Path(pooling)) if pooling else _Pooling())
        self.max_length = min(context_length(config, 512), int(self._tokenizer.model_max_length))
        longest = max(map(len, self._tokenizer.get_vocab()))
        #: A text of more characters has too many tokens, and is not read to count them.
        self._longest_text = self.max_length * max(longest, _LONGEST_WORD)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        #: How long a vector is.
        self.width = len(self.embed([self.tokens("a", "model")])[0])

    def _opened(self, source: str) -> _Run:
        folder = folder_here(self.name)
        if folder is not None and (folder / _OPENVINO_FILE).is_file():
            return _run_by_openvino(folder)
        return _run_by_torch(source)

    def tokens(self, text: str | list[int], field: str) -> list[int]:
        """Return the tokens of a text, or ids as they are.

        Raises `InvalidInput` naming the field for none, too many, and ids that are no tokens.
        """
        if isinstance(text, str):
            if len(text) > self._longest_text:
                told = f"over {self.max_length} tokens; the model reads {self.max_length}"
                raise InvalidInput(f"{field}: {told}")
            ids: list[int] = self._tokenizer(text).input_ids
        else:
            ids = text
        if not text or not ids:
            raise InvalidInput(f"{field}: there is nothing to embed")
        if len(ids) > self.max_length:
            raise InvalidInput(f"{field}: {len(ids)} tokens; the model reads {self.max_length}")
        known = len(self._tokenizer)
        for id_ in ids:
            if not 0 <= id_ < known:
                raise InvalidInput(f"{field}: {id_} is none of the model's {known} token ids")
        return ids

    def embed(self, texts: Sequence[list[int]]) -> Vectors:
        """Return a vector for each list of tokens, in their order."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors: dict[int, Any] = {}
        while order and not caller.is_cancelled():
            # Of texts of like length, so that little is padding; the longest decides how many.
            batch = [order.pop()]
            longest = len(texts[batch[0]])
            while order and longest * (len(batch) + 1) <= _BATCH_TOKENS:
                batch.append(order.pop())
            vectors.update(zip(batch, self._embed_batch([texts[n] for n in batch]), strict=True))
        return np.array([vectors[number] for number in sorted(vectors)], np.float32)

    def _embed_batch(self, texts: Sequence[list[int]]) -> Vectors:
        width = max(map(len, texts))
        ids = np.full((len(texts), width), self._tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        pooled = self._pool(self._run(ids, mask), mask)
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        normalized: Vectors = pooled / np.maximum(lengths, 1e-12)
        return normalized


def _run_by_torch(source: str) -> _Run:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "embedding_model: without torch only folders with openvino_model.xml are read"
        ) from error
    from transformers import AutoModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModel.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    model = model.eval().to(device)

    def run(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Vectors:
        with torch.inference_mode():
            states = model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
            ).last_hidden_state
        found: Vectors = states.float().cpu().numpy()
        return found

    return run


def _run_by_openvino(folder: Path) -> _Run:
    import openvino  # type: ignore[import-untyped]

    compiled = openvino.Core().compile_model(
        folder / _OPENVINO_FILE, "CPU", dict(SAME_ON_EVERY_CPU)
    )
    names = {name for port in compiled.inputs for name in port.names}

    def run(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        # A request of its own: others may run at the same time.
        request = compiled.create_infer_request()
        results = request.infer({name: given[name] for name in names})
        found: Vectors = results[0]
        return found

    return run


def _pooling_of(config: _Pooling) -> Callable[[Vectors, npt.NDArray[np.int64]], Vectors]:
    """Return what makes one vector of the states of each row, shape `(rows, tokens, width)`."""
    if config.pooling_mode_cls_token:
        return lambda states, _: states[:, 0]
    if config.pooling_mode_lasttoken:
        return lambda states, mask: states[np.arange(len(mask)), mask.sum(axis=1) - 1]
    return lambda states, mask: (
        (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    ).astype(np.float32)
