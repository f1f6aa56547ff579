"""The base of every workflow: hooks that a subclass fills in, run in a fixed order.

A subclass overrides the `do_…` hooks; the smallest is `do_run_model` alone:

    class Shout(BaseInferenceWorkflow):
        def do_run_model(self, text):
            return text.upper()

A hook may be plain or `async`. Plain hooks run in a thread, so that an event loop is never
blocked; the plain hooks of one request that follow each other share one hop to that thread.

    workflow = Shout()
    await workflow.setup()
    await workflow.inference("hello")
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple, final

from ml import tracing
from ml.errors import NotReady
from ml.infernet.json_text import as_text
from ml.infernet.text import encode_text
from ml.json_text import JsonObject
from ml.workflows.accepted import Accepted
from ml.workflows.inference.batcher import Batcher
from ml.workflows.inference.hook_thread import iterate_in_thread, run_in_thread
from ml.workflows.inference.proof import Proof, as_proof
from ml.workflows.inference.workflow_input import WorkflowInput

if TYPE_CHECKING:
    from ml.generation.language_model import LanguageModel
    from ml.models.text_embedder import TextEmbedder

__all__ = ["BaseInferenceWorkflow"]

T = TypeVar("T")
Given = TypeVarTuple("Given")
#: What the model ran on for the output that is being proved.
_preprocessed: ContextVar[object] = ContextVar("preprocessed")


class BaseInferenceWorkflow(WorkflowInput, ABC):
    """Answers requests with a model.

    Positional and keyword arguments come from `*_WORKFLOW_POSITIONAL_ARGS` and
    `*_WORKFLOW_KW_ARGS` and are kept as `args` and `kwargs`. The constructor stays cheap: it makes
    no network call and loads no model; that is what `do_setup` is for.

    A subclass may also define `do_run_batch(batch: list) -> list`: the service then runs the
    requests that wait at the same moment as one batch. The list it returns has one entry for each
    item, an output or the exception that this item alone fails with.

    A workflow that defines `do_generate_proof` proves its outputs to those who ask for it. A proof
    that is a part of the model's run is made there where `ml.caller.takes_proof()` says so.
    """

    #: The extra of this distribution that brings what the workflow imports. A service looks for its
    #: packages before it starts; None looks for nothing.
    extra: ClassVar[str | None] = None
    #: What it does, in a sentence for people; the docstring's first line by default.
    about: ClassVar[str] = ""
    #: Whether a web client's answer has its proof whether or not one is asked for.
    proves_unasked: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = list(args)
        self.kwargs = kwargs
        self.is_setup = False
        self._executor: Executor | None = None
        self._batcher: Batcher | None = None

    # --- what a service or a script calls -----------------------------------------------------

    @final
    async def setup(self) -> None:
        """Load the model. `is_setup` is true only once `do_setup` succeeded."""
        if not self.is_setup:
            await self._call(self.do_setup)
            self.is_setup = True

    @final
    async def inference(self, input_data: object) -> Any:
        """Return the workflow's output for an input.

        Raises `InvalidInput` for an input the model cannot take and `NotReady` before `setup()`.
        """
        return await self.run(lambda: input_data, lambda _, output: output)

    @final
    async def run(
        self,
        decode: Callable[[], object],
        encode: Callable[[object, object], T],
        *,
        is_small: bool = False,
    ) -> T:
        """Return `encode(input, output)` for `input = decode()`.

        Like `inference`, with the reading of the request and the writing of the reply in the same
        thread as the plain hooks, because both take time for large tensors. Say `is_small` of an
        input whose reading takes none.
        """
        with tracing.span(type(self).__name__):
            return await self._run_hooks(
                decode,
                lambda input_data, _, output: encode(input_data, output),
                is_small=is_small,
            )

    @final
    async def run_with_proof(
        self, decode: Callable[[], object], encode: Callable[[object, object], T]
    ) -> tuple[T, Proof | None]:
        """Return what `run` does and the proof of the output; None for one that is a job.

        The proof is made behind the run: it is no part of a batch, whose other requests would
        wait for it, and an output that cannot be encoded costs none.
        """
        with tracing.span(type(self).__name__):
            input_data, preprocessed, output, encoded = await self._run_hooks(
                decode, lambda given, ran_on, made: (given, ran_on, made, encode(given, made))
            )
        if isinstance(output, Accepted):
            return encoded, None
        _preprocessed.set(preprocessed)
        with tracing.span("do_generate_proof"):
            return encoded, as_proof(await self._call(self.do_generate_proof, input_data, output))

    @final
    async def stream(self, input_data: object) -> AsyncIterator[str]:
        """Yield the output in pieces of text.

        A workflow without `do_stream` yields its whole output as one piece.
        """
        self._require_setup()
        if not self.can_stream:
            output = await self.inference(input_data)
            yield as_text(self.encode_offchain(output, input_data))
            return
        preprocessed = await self._call(self.do_preprocessing, input_data)
        pieces = self.do_stream(preprocessed)
        if not hasattr(pieces, "__aiter__"):
            pieces = iterate_in_thread(self._executor, iter(pieces))
        async with contextlib.aclosing(pieces) as closing_pieces:
            async for piece in closing_pieces:
                yield piece

    @final
    async def check(self) -> None:
        """Raise a `ServiceError` if requests cannot be answered at the moment."""
        await self._call(self.do_check)

    @final
    async def close(self) -> None:
        """Give back what `do_setup` took; the workflow can be set up again."""
        if self.is_setup:
            self.is_setup = False
            await self._call(self.do_close)

    @final
    async def in_thread(self, function: Callable[[*Given], T], *args: *Given) -> T:
        """Return `function(*args)`, run in a thread; it can ask whether its caller went away."""
        return await run_in_thread(self._executor, partial(function, *args), threading.Event())

    @property
    def description(self) -> str:
        """What the workflow does, in a sentence."""
        return self.about or (inspect.getdoc(type(self)) or "").partition("\n")[0]

    @property
    def can_prove(self) -> bool:
        """Whether `do_generate_proof` is implemented; a subclass may ask for more than that."""
        return type(self).do_generate_proof is not BaseInferenceWorkflow.do_generate_proof

    @property
    def can_stream(self) -> bool:
        """Whether `do_stream` is implemented."""
        return type(self).do_stream is not BaseInferenceWorkflow.do_stream

    @property
    def can_check(self) -> bool:
        """Whether `do_check` is implemented."""
        return type(self).do_check is not BaseInferenceWorkflow.do_check

    @property
    def can_batch(self) -> bool:
        """Whether `do_run_batch` is implemented."""
        return callable(getattr(self, "do_run_batch", None))

    @property
    def runs_alike(self) -> bool:
        """Whether every small input takes the model as long as others of its size.

        A service runs such a model, where it is quick, without a thread.
        """
        return False

    @property
    def has_quick_hooks(self) -> bool:
        """Whether the plain hooks of a small input take no time beside an `async` one.

        A service runs them without a thread.
        """
        return False

    def input_size(self, preprocessed_data: Any) -> int:
        """Return how large what the model runs on is; asked of one that `runs_alike`."""
        return 0

    @property
    def shared_imports(self) -> Sequence[str]:
        """The modules that several workers of a service have in memory together, by their names.

        They are imported before the workers are forked: name those alone whose import starts no
        thread and opens no GPU, as that of torch.
        """
        return ()

    @property
    def text_generation(self) -> LanguageModel | None:
        """The language model that answers what OpenAI's and TGI's clients ask, if there is one."""
        return None

    @property
    def text_embedding(self) -> TextEmbedder | None:
        """What makes vectors of texts for OpenAI's clients, if there is a model for that."""
        return None

    def use(self, *, executor: Executor | None, batcher: Batcher | None = None) -> None:
        """Run plain hooks in this executor and, if one is given, the model through this batcher."""
        self._executor = executor
        self._batcher = batcher

    # --- what a subclass fills in -------------------------------------------------------------
    # It says itself what its hooks take, and whether they are plain or async, hence Any.

    def do_setup(self) -> Awaitable[None] | None:
        """Load what the model needs. Heavy imports belong here."""

    def do_close(self) -> Awaitable[None] | None:
        """Give back what `do_setup` took, such as a connection pool."""

    def do_check(self) -> Awaitable[None] | None:
        """Raise a `ServiceError` if what the model needs is not there, such as a server behind it.

        Readiness asks this every few seconds at most.
        """

    def do_preprocessing(self, input_data: Any) -> object:
        """Return what the model runs on; the input itself by default."""
        return input_data

    @abstractmethod
    def do_run_model(self, preprocessed_data: Any) -> object:
        """Run the model on one preprocessed input."""

    def do_postprocessing(self, input_data: Any, output_data: Any) -> object:
        """Return the output for the caller; the model's output itself by default."""
        return output_data

    def do_stream(self, preprocessed_data: Any) -> Any:
        """Return an iterator (plain or async) over pieces of text."""
        raise NotImplementedError

    def do_generate_proof(self, input_data: Any, output: Any) -> object:
        """Return the proof of an output, as bytes or as a `Proof`.

        Bytes are what a contract gets, and in hex a web client, as `proof` beside `output`.
        `preprocessed()` is what the model ran on.
        """
        raise NotImplementedError

    def preprocessed(self) -> Any:
        """Return what the model ran on; only a `do_generate_proof` may ask."""
        return _preprocessed.get()

    def encode_offchain(self, output: Any, input_data: Any) -> object:
        """Return what is written as JSON for an output; the output itself by default."""
        return output

    def encode_onchain(self, output: Any, input_data: Any) -> bytes:
        """Return the ABI bytes of an output: bytes as they are, all else as `(string)`."""
        return output if isinstance(output, bytes) else encode_text(as_text(output))

    def supports_model(self, model_id: str) -> bool:
        """Return whether this workflow answers for a model id, as the node's router asks.

        Those that `compute_capability` lists, by default.
        """
        models = self.compute_capability().get("models")
        return isinstance(models, Container) and model_id in models

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        return {"id": "ml", "type": "custom", "task": []}

    def chosen(self) -> JsonObject:
        """Return what this workflow chose by itself, for the `/config` document."""
        return {}

    # --- how hooks are run --------------------------------------------------------------------

    def _require_setup(self) -> None:
        if not self.is_setup:
            raise NotReady("The workflow is not set up: call setup() first.")

    @cached_property
    def _has_async_hook(self) -> bool:
        hooks = (self.do_preprocessing, self.do_run_model, self.do_postprocessing)
        return any(inspect.iscoroutinefunction(hook) for hook in hooks)

    async def _run_hooks(
        self,
        decode: Callable[[], object],
        encode: Callable[[object, object, object], T],
        *,
        is_small: bool = False,
    ) -> T:
        """Return `encode(input, what the model ran on, output)`."""
        self._require_setup()
        if self._has_async_hook:
            is_quick = is_small and self.has_quick_hooks
            return await self._run_mixed(decode, encode, is_quick=is_quick)
        if self._batcher is None:
            return await self.in_thread(self._run_plain, decode, encode)
        known: list[tuple[object, object]] = []

        def before() -> object:
            known.append(self._before(decode))
            return known[0][1]

        def after(output: object) -> T:
            return self._after(encode, *known[0], output)

        is_alike = is_small and self.runs_alike
        return await self._batcher.submit(before, after, is_alike=is_alike)

    def _before(self, decode: Callable[[], object]) -> tuple[object, object]:
        """Return the input, and what the model runs on."""
        input_data = decode()
        return input_data, self.do_preprocessing(input_data)

    def _after(
        self,
        encode: Callable[[object, object, object], T],
        input_data: object,
        preprocessed: object,
        output: object,
    ) -> T:
        return encode(input_data, preprocessed, self.do_postprocessing(input_data, output))

    def _run_plain(
        self, decode: Callable[[], object], encode: Callable[[object, object, object], T]
    ) -> T:
        input_data, preprocessed = self._before(decode)
        return self._after(encode, input_data, preprocessed, self.do_run_model(preprocessed))

    async def _run_mixed(
        self,
        decode: Callable[[], object],
        encode: Callable[[object, object, object], T],
        *,
        is_quick: bool,
    ) -> T:
        plain = self._at_once if is_quick else self.in_thread
        if inspect.iscoroutinefunction(self.do_preprocessing):
            input_data = await plain(decode)
            preprocessed = await self.do_preprocessing(input_data)
        else:
            input_data, preprocessed = await plain(self._before, decode)
        if self._batcher is not None:
            output = await self._batcher.submit(lambda: preprocessed, lambda output: output)
        else:
            output = await self._call(self.do_run_model, preprocessed)
        if inspect.iscoroutinefunction(self.do_postprocessing):
            output = await self.do_postprocessing(input_data, output)
            return await plain(encode, input_data, preprocessed, output)
        return await plain(self._after, encode, input_data, preprocessed, output)

    async def _at_once(self, function: Callable[[*Given], T], *args: *Given) -> T:
        return function(*args)

    async def _call(self, hook: Callable[[*Given], object], *args: *Given) -> object:
        if inspect.iscoroutinefunction(hook):
            return await hook(*args)
        return await self.in_thread(hook, *args)
