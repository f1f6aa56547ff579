"""Every failure that a caller of a service can see, with its HTTP status.

    ServiceError
    ├── InvalidInput            400  also a ValueError
    ├── Unauthorized            401  also a PermissionError
    ├── Forbidden               403  also a PermissionError
    ├── NotFound                404  also a LookupError
    ├── MethodNotAllowed        405
    ├── BodyTimeout             408  also a TimeoutError
    ├── PayloadTooLarge         413
    ├── UnsupportedMediaType    415
    ├── RangeNotSatisfiable     416
    ├── UnprocessableInput      422  also a ValueError
    ├── UnprocessableOutput     422  also a ValueError
    ├── UpstreamRefused         422  also a ValueError
    ├── GenerationFailed        424
    ├── TooManyRequests         429
    ├── InternalError           500
    ├── UpstreamError           502  also a ConnectionError
    ├── Overloaded              503
    ├── NotReady                503
    ├── StorageUnavailable      503  also an OSError
    ├── DeadlineExceeded        504  also a TimeoutError
    ├── OutOfMemory             507  also a MemoryError
    └── StorageFull             507  also an OSError

    ConfigurationError               the operator's fault; the process exits with code 2

What becomes of a service whose workflow cannot be set up is decided by `setup_exit_code`.

To add one: derive it from ServiceError and the standard exception that fits, set `status`, and
give it a line here. One handler in `ml.serving` turns any of them into the reply
`{"code": "<status>", "name": …, "description": …}`; the Infernet node recognises a container
error by that top-level string `code`.

All of them survive pickling, because workflows may raise them in another process.
"""

from __future__ import annotations

import difflib
import errno
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError

__all__ = [
    "CONFIGURATION_EXIT_CODE",
    "BodyTimeout",
    "ConfigurationError",
    "DeadlineExceeded",
    "Forbidden",
    "GenerationFailed",
    "InternalError",
    "InvalidInput",
    "MethodNotAllowed",
    "NotFound",
    "NotReady",
    "OutOfMemory",
    "Overloaded",
    "PayloadTooLarge",
    "RangeNotSatisfiable",
    "ServiceError",
    "StorageFull",
    "StorageUnavailable",
    "TooManyRequests",
    "Unauthorized",
    "UnprocessableInput",
    "UnprocessableOutput",
    "UnsupportedMediaType",
    "UpstreamError",
    "UpstreamRefused",
    "describe_faults",
    "did_you_mean",
    "error_body",
    "fault_lines",
    "setup_exit_code",
    "storage_failure",
    "unknown_fields",
]


#: The exit code of a process whose configuration cannot work; restarting it would not help.
CONFIGURATION_EXIT_CODE = 2


class ServiceError(Exception):
    """A failure with an HTTP status.

    `description` is shown to the caller: it says what to change and holds nothing internal.
    `retry_after_seconds` becomes the `Retry-After` header.
    """

    status: ClassVar[int] = 500
    default_description: ClassVar[str] = "The service failed."

    def __init__(
        self, description: str | None = None, *, retry_after_seconds: int | None = None
    ) -> None:
        self.description = description or self.default_description
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.description)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.description, self.retry_after_seconds)

    def body(self) -> dict[str, str]:
        """Return the JSON body of the reply."""
        return error_body(self.status, self.description)


def _rebuild(
    cls: type[ServiceError], description: str, retry_after_seconds: int | None
) -> ServiceError:
    return cls(description, retry_after_seconds=retry_after_seconds)


def error_body(status: int, description: str) -> dict[str, str]:
    """Return the one error form of every service: `code` (a string), `name`, `description`."""
    return {"code": str(status), "name": HTTPStatus(status).phrase, "description": description}


class InvalidInput(ServiceError, ValueError):
    """The request is wrong; the description names the field and says what is due."""

    status = 400
    default_description = "The request is not valid."


class Unauthorized(ServiceError, PermissionError):
    """No bearer key, or one that is not known."""

    status = 401
    default_description = "Send a valid key as 'Authorization: Bearer <key>'."


class Forbidden(ServiceError, PermissionError):
    """Whoever sends this may not, with or without a key."""

    status = 403
    default_description = "This may not be sent from here."


class NotFound(ServiceError, LookupError):
    """What the request names does not exist."""

    status = 404
    default_description = "There is nothing at this address."


class MethodNotAllowed(ServiceError):
    """The path exists, but not for this method."""

    status = 405
    default_description = "This address does not take this method."


class BodyTimeout(ServiceError, TimeoutError):
    """The body did not arrive in time."""

    status = 408
    default_description = "The request body did not arrive in time."


class PayloadTooLarge(ServiceError):
    """The body is over the configured limit."""

    status = 413
    default_description = "The request body is too large."


class UnsupportedMediaType(ServiceError):
    """The body is not of a type that this address reads."""

    status = 415
    default_description = "Send the body as 'Content-Type: application/json'."


class RangeNotSatisfiable(ServiceError):
    """A part of a file is asked for that lies behind its end."""

    status = 416
    default_description = "The file has no such range."


class UnprocessableInput(ServiceError, ValueError):
    """The request can be read, but what it asks for cannot be done; the APIs of jobs say so."""

    status = 422
    default_description = "The request cannot be carried out."


class UnprocessableOutput(ServiceError, ValueError):
    """The model answered, but its answer cannot be put into the form that was asked for."""

    status = 422
    default_description = "The model's answer cannot be represented in the requested form."


class UpstreamRefused(ServiceError, ValueError):
    """A server behind this service found fault with the request."""

    status = 422
    default_description = "The server behind this service refuses the request."


class GenerationFailed(ServiceError):
    """A server behind this service took the request and failed to generate."""

    status = 424
    default_description = "The server behind this service failed to generate an answer."


class TooManyRequests(ServiceError):
    """A caller is over its rate."""

    status = 429
    default_description = "Too many requests; try again later."


class InternalError(ServiceError):
    """Anything not foreseen; the log has its details, the reply has not."""

    status = 500
    default_description = "The service failed; the log has the details under this request id."


class UpstreamError(ServiceError, ConnectionError):
    """A server behind this service failed or is unreachable."""

    status = 502
    default_description = "The server behind this service failed."


class Overloaded(ServiceError):
    """All slots and the queue are full."""

    status = 503
    default_description = "The service is at its limit; try again shortly."


class NotReady(ServiceError):
    """The workflow is still loading, failed to load, or the service is shutting down."""

    status = 503
    default_description = "The service is not ready."


class DeadlineExceeded(ServiceError, TimeoutError):
    """The request took longer than it may; its work was told to stop."""

    status = 504
    default_description = "The request did not finish in time."


class OutOfMemory(ServiceError, MemoryError):
    """The model ran out of memory on this request; the service goes on."""

    status = 507
    default_description = "The model ran out of memory; send a smaller request."


class StorageFull(ServiceError, OSError):
    """Something could not be written for want of room; what was written of it is removed."""

    status = 507
    default_description = "The service's disk, or its quota on it, is full; free space first."


class StorageUnavailable(ServiceError, OSError):
    """A disk or a database does not take, or give, what it should."""

    status = 503
    default_description = "The service's storage cannot be used now."


def storage_failure(error: BaseException) -> ServiceError | None:
    """Return what a failed write means for a caller; None for any other failure."""
    if isinstance(error, ServiceError) or not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull()
    if error.errno == errno.EROFS:
        return StorageUnavailable("The service's disk can only be read.")
    return None


class ConfigurationError(Exception):
    """Settings or a workflow class that cannot work, with every fault in one readable text.

    Raised before a service serves; entry points print it without a traceback and exit with 2.
    """


#: What keeps a workflow from being set up now and may not a little later, such as a server that
#: is not there yet.
_PASSING = (
    ConnectionError,
    TimeoutError,
    NotReady,
    Overloaded,
    StorageUnavailable,
    TooManyRequests,
)


def setup_exit_code(error: BaseException) -> int | None:
    """Return the code with which a process ends whose workflow cannot be set up.

    None where trying again may help; 2 where only another configuration or installation does;
    1 for what nobody foresaw, which whoever starts the process may try once more.
    """
    if isinstance(error, _PASSING):
        return None
    refused = isinstance(error, ServiceError) and error.status < 500
    if refused or isinstance(error, ConfigurationError | ImportError):
        return CONFIGURATION_EXIT_CODE
    return 1


def describe_faults(error: ValidationError, *, under: str = "", most: int = 10) -> str:
    """Return pydantic's faults as one line, `field: what is wrong`, without the values given.

    `under` is the name of the field that the faulty value stands in, such as "data".
    """
    lines = fault_lines(error, under=under)
    if len(lines) > most:
        lines[most:] = [f"and {error.error_count() - most} more"]
    return "; ".join(lines)


#: By pydantic's types of faults; its own words speak of Python, and of our classes.
_WORDS = {
    "dict_type": "give an object",
    "extra_forbidden": "no such field; leave it out",
    "list_type": "give a list",
    "model_type": "give an object",
}
#: As many faults are told, and so much of a name: a body may have a million of both.
_MOST_FAULTS, _MOST_OF_NAME = 100, 100


def fault_lines(
    error: ValidationError, *, under: str = "", names: Mapping[str, str] | None = None
) -> list[str]:
    """Return pydantic's faults, a line each; `names` gives other names for top-level fields."""
    lines = []
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    for fault in faults[:_MOST_FAULTS]:
        parts = [str(part)[:_MOST_OF_NAME] for part in fault["loc"]]
        if parts and names:
            parts[0] = names.get(parts[0], parts[0])
        where = ".".join(part for part in (under, *parts) if part)
        message = fault["msg"].removeprefix("Value error, ")
        message = _WORDS.get(fault["type"], message)
        lines.append(f"{where}: {message}" if where else message)
    return [*lines, *_rest(len(faults))]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" for the known name closest to a wrong one, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_fields(given: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return a line for each given name that is not known, with the one that was probably meant."""
    unknown = [name[:_MOST_OF_NAME] for name in given if name not in known]
    told = unknown[:_MOST_FAULTS]
    lines = [f"no such field: {name!r}{did_you_mean(name, known)}" for name in told]
    return [*lines, *_rest(len(unknown))]


def _rest(faults: int) -> list[str]:
    return [f"and {faults - _MOST_FAULTS} more"] if faults > _MOST_FAULTS else []
