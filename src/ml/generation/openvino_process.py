"""The process of an `OpenVINOBatch`: it runs the model, and says what came of each step.

It is a process of its own because a step of the library holds the interpreter's lock: in the
service's process nothing else would be answered meanwhile.

What it is told, and what it says, are tuples that begin with one of these words:

    told  add, number, prompt, fields of `config_fields` · cancel, number
    says  ready · refused, why · taken, numbers · failed, number, why · broken, why
          made, a list of (number, list of (token, logprob), the status of one that ended)
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

from ml.generation.child_process import resident_bytes, run_as_child
from ml.generation.openvino_config import new_config
from ml.models.openvino_arithmetic import SAME_ON_EVERY_CPU

__all__ = ["open_pipeline"]

#: Positions of a block of the cache, where the CPU runs the model.
_BLOCK = 32
#: Requests that come at once are less than this apart; and how long the first one waits at most.
_GAP_SECONDS, _LONGEST_GATHERING_SECONDS = 0.002, 0.02
#: What one process may keep of forms of answers: the library forgets none, of 1 to some 100 MB.
_MOST_KEPT_BYTES = 1 << 30


class _Batch:
    """The requests that run and wait, by their numbers."""

    def __init__(
        self, connection: Connection[Any, Any], pipeline: Any, slots: int, most_kept_bytes: int
    ) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._slots = slots
        self._waiting: dict[int, tuple[list[int], dict[str, Any]]] = {}
        self._running: dict[int, Any] = {}
        self._most_kept_bytes = most_kept_bytes
        self._kept_bytes = 0
        self._forms: set[int] = set()  # the hashes of those that were compiled
        #: The requests whose forms are compiled before their first token.
        self._compiling: set[int] = set()

    def run(self) -> None:
        """Serve the connection until it closes, or until what runs has ended and all is full."""
        while self._running or not self._is_full:
            self._hear()
            self._take_in()
            if self._pipeline.has_non_finished_requests():
                self._step()
                self._tell()

    @property
    def _is_full(self) -> bool:
        """Whether the library keeps so much that another process has to go on."""
        return self._kept_bytes > self._most_kept_bytes

    def _step(self) -> None:
        before = resident_bytes() if self._compiling else None
        self._pipeline.step()
        if before is not None:
            self._kept_bytes += max(resident_bytes() - before, 0)

    def _hear(self) -> None:
        """Take what there is to hear; wait for it when there is nothing to do.

        Then the first request waits a moment for those that come with it, so that their prompts
        are read in one step.
        """
        idle = not (self._waiting or self._pipeline.has_non_finished_requests())
        if idle:
            self._obey(self._connection.recv())
        end = time.monotonic() + _LONGEST_GATHERING_SECONDS
        while self._connection.poll(_GAP_SECONDS if idle and time.monotonic() < end else 0):
            self._obey(self._connection.recv())

    def _obey(self, message: tuple[Any, ...]) -> None:
        match message:
            case "add", number, prompt, config:
                self._waiting[number] = prompt, config
            case "cancel", number:
                self._waiting.pop(number, None)
                self._compiling.discard(number)
                if number in self._running:
                    self._running.pop(number).cancel()  # the next step frees its place

    def _take_in(self) -> None:
        taken = []
        while self._waiting and len(self._running) < self._slots and not self._is_full:
            number = next(iter(self._waiting))
            prompt, config = self._waiting.pop(number)
            try:
                self._running[number] = self._added(number, prompt, config)
            except Exception as error:
                self._connection.send(("failed", number, _in_words(error)))
            else:
                taken.append(number)
        if taken:
            self._connection.send(("taken", taken))

    def _added(self, number: int, prompt: list[int], config: dict[str, Any]) -> Any:
        import numpy as np
        from openvino import Tensor  # type: ignore[import-untyped]

        if "form" in config and (form := hash(config["form"])) not in self._forms:
            self._forms.add(form)
            self._compiling.add(number)
        ids = Tensor(np.array([prompt], dtype=np.int64))
        return self._pipeline.add_request(number, ids, new_config(config))

    def _tell(self) -> None:
        made = []
        for number, handle in list(self._running.items()):
            tokens: list[tuple[int, float]] = []
            while handle.can_read():
                for output in handle.read().values():
                    ids, logprobs = output.generated_ids, output.generated_log_probs
                    tokens += zip(ids, logprobs, strict=True)
            status = handle.get_status().name
            if tokens or status != "RUNNING":
                self._compiling.discard(number)
            if status != "RUNNING":
                del self._running[number]
            if tokens or status != "RUNNING":
                made.append((number, tokens, status))
        if made:
            self._connection.send(("made", made))


def open_pipeline(
    source: str,
    *,
    slots: int,
    max_length: int,
    reuse_prefixes: bool,
    cache_gib: int | None,
    prompt_lookup: bool = False,
    draft: str | None = None,
) -> Any:
    """Return the library's pipeline over a model."""
    from openvino_genai import (  # type: ignore[import-untyped]
        ContinuousBatchingPipeline,
        SchedulerConfig,
        draft_model,
    )

    scheduler = SchedulerConfig()
    scheduler.max_num_seqs = slots
    scheduler.enable_prefix_caching = reuse_prefixes
    if cache_gib is None:
        scheduler.num_kv_blocks = slots * -(-max_length // _BLOCK)
    else:
        scheduler.cache_size = cache_gib
    properties: dict[str, Any] = {
        **SAME_ON_EVERY_CPU,
        # Its own 8 bits are no faster with a small model, and less exact.
        "KV_CACHE_PRECISION": "f16",
    }
    if prompt_lookup:
        properties["prompt_lookup"] = True
    if draft is not None:
        properties["draft_model"] = draft_model(draft, "CPU")
    return ContinuousBatchingPipeline(source, scheduler, "CPU", properties)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _serve(connection: Connection[Any, Any], settings: dict[str, Any]) -> None:
    most_kept_bytes = settings.pop("most_kept_bytes", _MOST_KEPT_BYTES)
    try:
        pipeline = open_pipeline(**settings)
    except Exception as error:
        connection.send(("refused", _in_words(error)))
        return
    connection.send(("ready",))
    try:
        _Batch(connection, pipeline, settings["slots"], most_kept_bytes).run()
    except RuntimeError as error:  # of OpenVINO
        connection.send(("broken", _in_words(error)))


if __name__ == "__main__":
    run_as_child(_serve)
