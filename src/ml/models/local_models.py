"""Language models by their names: which lie on this machine, and whether one can be loaded.

Nothing is loaded here, and nothing takes longer than seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ml.errors import ConfigurationError, UpstreamError
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path
from ml.models.source import is_repo_id

__all__ = [
    "NAMES_OF_ANY_MODEL",
    "Missing",
    "folder_here",
    "is_broken_off",
    "model_source",
    "models_here",
    "refusal_of_the_hub",
    "require_there",
    "told_of_files",
    "why_missing",
]

#: What huggingface_hub and the documents of Text Generation Inference send for want of a name:
#: whatever model the server has.
NAMES_OF_ANY_MODEL = frozenset({"", "dummy", "tgi"})
_CONFIG = "config.json"
Kind = Literal["model", "dataset"]
#: Of a connection to the hub, and of the whole question: a resolver may take longer than that.
_CONNECT_SECONDS, _ANSWER_SECONDS = 4.0, 6.0


@dataclass(frozen=True)
class Missing:
    """Why a model cannot be loaded, and whether that may pass, because only the hub is away."""

    reason: str
    may_pass: bool = False

    def __str__(self) -> str:
        return self.reason


def model_source(name: str) -> str:
    """Return what to load for a model's name: its folder beside the embedded model, or itself.

    That folder is `MODELS_PATH`, in which models lie by their names as the hub has them, such as
    `owner/model`. A name that has no folder there is one of the hub.
    """
    folder = embedded_llm_path().parent / name
    return str(folder) if (folder / _CONFIG).is_file() else name


def models_here() -> list[str]:
    """Return the names of the models that lie in `MODELS_PATH`, the embedded one first."""
    root = embedded_llm_path().parent
    found = {
        str(path.parent.relative_to(root))
        for pattern in (f"*/{_CONFIG}", f"*/*/{_CONFIG}")
        for path in root.glob(pattern)
    }
    return sorted(found, key=lambda name: (name != EMBEDDED_LLM, name))


def folder_here(name: str) -> Path | None:
    """Return the folder on this machine with a model's files: of its path, in `MODELS_PATH`, or in
    the hub's cache; None if it is in none of them."""
    for folder in (embedded_llm_path().parent / name, Path(name)):
        if (folder / _CONFIG).is_file():
            return folder
    if not is_repo_id(name):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return None
    found = try_to_load_from_cache(name, _CONFIG)
    return Path(found).parent if isinstance(found, str) else None


def why_missing(name: str) -> Missing | None:
    """Return why no model can be loaded by this name and which can be, or None if it can.

    A hub is asked once, and waited for a few seconds at most.
    """
    if folder_here(name) is not None:
        return None
    if name == EMBEDDED_LLM:
        missing: Missing | None = Missing(
            f"it is not installed in {embedded_llm_path()}: run python -m ml.models.embedded_llm"
        )
    elif Path(name).is_dir():
        missing = Missing(f"its folder holds no {_CONFIG}")
    elif not is_repo_id(name):
        missing = Missing("it is neither a folder with a model nor a name such as owner/model")
    else:
        missing = refusal_of_the_hub(name)
    here = ", ".join(models_here())
    if missing is None or not here:
        return missing
    return replace(missing, reason=f"{missing}; models on this machine: {here}")


def require_there(name: str, told: str) -> None:
    """Raise `ConfigurationError` or `UpstreamError`, beginning with `told`, for a model not there.

    To be asked before the packages are imported that load one, which takes seconds.
    """
    if missing := why_missing(name):
        kind = UpstreamError if missing.may_pass else ConfigurationError
        raise kind(f"{told}: {missing}")


@contextlib.contextmanager
def told_of_files(told: str) -> Iterator[None]:
    """Raise what transformers says of a model's files as an error of ours that begins with `told`.

    Where only the hub is away it is `UpstreamError`, else `ConfigurationError`: over files that are
    damaged, transformers raises whatever its code meets.
    """
    try:
        yield
    except (ConfigurationError, UpstreamError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # of torch
            raise
        if isinstance(error, OSError | ValueError):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        else:
            met = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            reason = f"its files are damaged, or do not fit one another: {met}"
        kind = UpstreamError if is_broken_off(error) else ConfigurationError
        raise kind(f"{told}: {reason}") from error


def is_broken_off(error: BaseException | None) -> bool:
    """Return whether a load failed because the connection to the hub did, which may pass."""
    import httpx
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return False
    while error is not None:
        if isinstance(error, httpx.TransportError | errors.LocalEntryNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal_of_the_hub(name: str, kind: Kind = "model") -> Missing | None:
    """Return why the hub does not give a model, or a data set; None if it does.

    The answer is waited for a few seconds.
    """
    unless_in_time = Missing("it is not on this machine, and the hub did not answer", may_pass=True)
    answer: list[Missing | None] = [unless_in_time]

    def ask() -> None:
        answer[0] = _ask_the_hub(name, kind)

    thread = threading.Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return answer[0]


def _ask_the_hub(name: str, kind: Kind) -> Missing | None:
    """Return what is wrong, if anything is."""
    try:
        import httpx
        from huggingface_hub import HfApi, errors
    except ModuleNotFoundError:
        return Missing(
            "it is not on this machine, and huggingface-hub is not installed to fetch it"
        )
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_CONNECT_SECONDS)
    except errors.GatedRepoError:
        return Missing("the hub grants access on its page; then set HUGGING_FACE_HUB_TOKEN")
    except errors.RepositoryNotFoundError:
        return Missing(
            f"the hub has no such {kind}, or it is private (then set HUGGING_FACE_HUB_TOKEN to a "
            "token that may read it)"
        )
    except errors.OfflineModeIsEnabled:
        return Missing("it is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub")
    except errors.HFValidationError as error:
        return Missing(str(error))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = "it is not on this machine, and the hub cannot be reached"
        return Missing(f"{reason} ({type(error).__name__})", may_pass=True)
    return None
