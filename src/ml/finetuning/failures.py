"""Why a training failed, in words that say what to change.

    TrainingFailed          500  the run itself: no finite loss, a full disk, an export unlike it
    OutputTaken             409  the name belongs to another job

`ml.errors.OutOfMemory` and `ml.errors.UnprocessableInput` are raised here as well. To add one:
derive it from `ServiceError` and give it a line here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ml.errors import OutOfMemory, ServiceError
from ml.finetuning.request import TrainingParameters

__all__ = ["OutputTaken", "TrainingFailed", "explained_failures"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What libraries say instead of raising the `OSError` that they met while they wrote a file.
_FULL_TEXTS = (
    "No space left on device",
    "File too large",
    "PytorchStreamWriter failed writing",
    "inline_container.cc",
    "iostream error",
    " requested and ",  # numpy: so many bytes, and how many of them written
)
_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "not enough memory")


class TrainingFailed(ServiceError):
    """The training cannot be finished as it was asked for."""

    status = 500
    default_description = "The training failed."


class OutputTaken(ServiceError):
    """The tuned model's name belongs to another job."""

    status = 409
    default_description = "The name of the tuned model is taken."


@contextmanager
def explained_failures(request: TrainingParameters, *, trains: bool = True) -> Iterator[None]:
    """Turn a full disk and spent memory into failures that say what to change.

    A job that trains nothing only makes exports of a model that is there.

    Raises `TrainingFailed`, `ml.errors.OutOfMemory`, or what the block raised.
    """
    try:
        yield
    except Exception as error:
        explanation = _explanation(error, request if trains else None)
        if explanation is None:
            raise
        raise explanation from error


def _explanation(error: BaseException, trained: TrainingParameters | None) -> ServiceError | None:
    met: BaseException | None = error
    while met is not None:
        if _disk_is_full(met):
            return TrainingFailed(
                "a file could not be written because the disk, or the quota on it, is full: free "
                f"space{_for_room(trained)}, and resume the job"
            )
        if isinstance(met, ServiceError):
            return None
        if _memory_is_spent(met):
            return OutOfMemory(_for_memory(trained))
        met = met.__cause__ or met.__context__
    return None


def _for_room(trained: TrainingParameters | None) -> str:
    if trained is None:
        return ""
    return f", or keep fewer checkpoints (save_total_limit, now {trained.save_total_limit})"


def _for_memory(trained: TrainingParameters | None) -> str:
    if trained is None:
        return (
            "the export ran out of memory: all weights of the base have to fit; resume the job "
            "where more is free"
        )
    return (
        "the training ran out of memory: lower per_device_train_batch_size (now "
        f"{trained.per_device_train_batch_size}) and raise gradient_accumulation_steps by "
        f"as much, lower max_seq_length (now {trained.max_seq_length}), or set "
        "gradient_checkpointing"
    )


def _disk_is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _FULL_TEXTS)


def _memory_is_spent(error: BaseException) -> bool:
    # torch's class is named, not imported: this module is read where torch is not installed.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _MEMORY_TEXTS)
