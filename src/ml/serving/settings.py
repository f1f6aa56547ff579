"""The settings that every service shares, read from the environment under the service's prefix.

A service derives its own class, gives the prefix, and adds what is its own:

    class Settings(ServingSettings):
        model_config = SettingsConfigDict(env_prefix="CLASSIC_INF_")
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ml.addresses import address_fault
from ml.errors import ConfigurationError, did_you_mean, fault_lines
from ml.serving.hiding import hide_arguments, hide_secrets
from ml.serving.logs import LogFormat
from ml.setting_text import parse_json, split_list
from ml.workflows.faults import Faults
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.loading import load_workflow_class

__all__ = [
    "MOST_SECONDS",
    "Example",
    "ServingSettings",
    "load_settings",
    "read_settings",
]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+\Z")
_HOST = re.compile(r"[^/:@\s]+\Z")
#: A deadline that the kernel and all event loops can hold: eleven days.
MOST_SECONDS = 1_000_000
#: Without these, nothing can be said of the workflow.
_WORKFLOW_FIELDS = {"workflow_class", "workflow_positional_args", "workflow_kw_args"}


class Example(NamedTuple):
    """A value that `serve --print-env` shows for a variable, as its text in the environment."""

    variable: str
    value: str
    comment: str


def _keys(value: Any) -> Any:
    keys = split_list(value)
    if isinstance(value, str) and not keys:  # which would open the service to all
        raise ValueError("there is no key in it; leave it out for a service without keys")
    return keys


class ServingSettings(BaseSettings):
    """What a service needs to know; each field is the environment variable `<PREFIX><FIELD>`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    #: The first of a variable is what it is set to in `.env.example`. Variables that are no field
    #: are read elsewhere.
    examples: ClassVar[Sequence[Example]] = ()
    #: What the service's addresses need of its workflow.
    workflow_base: ClassVar[type[BaseInferenceWorkflow]] = BaseInferenceWorkflow  # type: ignore[type-abstract]

    workflow_class: str = Field(description="Dotted path of the workflow class")
    workflow_positional_args: Annotated[list[Any], NoDecode, BeforeValidator(parse_json)] = Field(
        default=[], description="JSON list of the class's positional arguments"
    )
    workflow_kw_args: Annotated[dict[str, Any], NoDecode, BeforeValidator(parse_json)] = Field(
        default={}, description="JSON object of the class's keyword arguments"
    )
    hugging_face_hub_token: SecretStr | None = Field(
        default=None,
        validation_alias="HUGGING_FACE_HUB_TOKEN",
        description="Read by the hub client; `HF_TOKEN` works too",
    )

    api_keys: Annotated[list[SecretStr], NoDecode, BeforeValidator(_keys)] = Field(
        default=[], description="Bearer keys, any of which opens the service; none: open to all"
    )
    allowed_origins: Annotated[list[str], NoDecode, BeforeValidator(split_list)] = Field(
        default=[], description="Origins whose pages may call the service; `*`: all; none: its own"
    )
    allowed_hosts: Annotated[list[str], NoDecode, BeforeValidator(split_list)] = Field(
        default=[],
        description="Public names under which it is asked without keys; `*`: any",
    )
    max_concurrency: int = Field(
        default=32, ge=1, le=1024, description="Threads for plain hooks, in each worker"
    )
    max_in_flight: int = Field(
        default=128,
        ge=1,
        description="Requests at work in each worker; those beyond it wait",
    )
    max_wait_seconds: float = Field(
        default=1,
        ge=0,
        le=MOST_SECONDS,
        description="How long a request waits for such a place before its 503; 0: not at all",
    )
    request_timeout_seconds: float = Field(
        default=170,
        gt=0,
        le=MOST_SECONDS,
        description="Deadline of an answer and of each piece of a stream; the node gives up at 180",
    )
    body_timeout_seconds: float = Field(
        default=15, gt=0, le=MOST_SECONDS, description="How long a request body may take to arrive"
    )
    send_timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=MOST_SECONDS,
        description="How long a client may take nothing of its answer",
    )
    max_body_bytes: int = Field(default=16 * 2**20, ge=1, description="Largest request body")
    max_batch_size: int = Field(
        default=32, ge=1, description="Requests run as one batch; 1 turns batching off"
    )
    batch_window_seconds: float = Field(
        default=0.002, ge=0, le=1, description="Longest wait for a batch to fill"
    )
    drain_delay_seconds: float = Field(
        default=1, ge=0, le=60, description="From SIGTERM until new connections are refused"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged"
    )
    log_format: LogFormat = Field(
        default="auto", description="json or console; auto: console on a terminal, else json"
    )
    log_requests: bool = Field(
        default=True,
        description="One log line for each request; for reads that succeed at level DEBUG",
    )
    log_payloads: bool = Field(
        default=False, description="Log request bodies too: prompts, tensors, all of it"
    )

    @field_validator("workflow_class")
    @classmethod
    def _names_a_workflow(cls, path: str) -> str:
        """Look at the class here, so that it is reported together with all other faults."""
        try:
            load_workflow_class(path, cls.workflow_base)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return path

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        given = [origin.lower().removesuffix("/") for origin in origins]
        for origin in given:
            if origin != "*" and (not _ORIGIN.match(origin) or address_fault(origin)):
                raise ValueError(f"{origin!r} is no origin: write https://host or http://host:port")
        return given

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not _HOST.match(host):
                raise ValueError("write names alone, such as api.example.com, without https://")
        return hosts

    def public_view(self) -> dict[str, Any]:
        """Return the effective settings for a person to read, with secrets hidden."""
        shown: dict[str, Any] = self.model_dump(mode="json")
        positional = shown.pop("workflow_positional_args")
        parameters = list(inspect.signature(load_workflow_class(self.workflow_class)).parameters)
        hidden: dict[str, Any] = hide_secrets(shown)
        hidden["workflow_positional_args"] = hide_arguments(positional, parameters)
        return {name: hidden[name] for name in type(self).model_fields}

    def workflow_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for the workflow class."""
        return self.workflow_kw_args

    @classmethod
    def prefix(cls) -> str:
        """Return the environment prefix, such as `CLASSIC_INF_`."""
        return str(cls.model_config.get("env_prefix", ""))

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return each field's environment variable."""
        return {
            name: field.validation_alias
            if isinstance(field.validation_alias, str)
            else f"{cls.prefix()}{name.upper()}"
            for name, field in cls.model_fields.items()
        }


S = TypeVar("S", bound=ServingSettings)


def load_settings(cls: type[S]) -> S:
    """Return the settings of the environment.

    Raises `ConfigurationError` with all faults at once: values that do not fit and variables
    under the prefix that no field has.
    """
    faults = Faults()
    settings = read_settings(cls, faults)
    faults.tell()
    return cast(S, settings)


def read_settings(cls: type[S], faults: Faults) -> S | None:
    """Return the settings of the environment, with the default in place of each that is at fault.

    None where that leaves none, or those of the workflow are at fault.
    """
    try:
        settings: S | None = cls()
    except ValidationError as error:
        faults.add(*fault_lines(error, names=cls.variables()))
        settings = _with_defaults(cls, {str(fault["loc"][0]) for fault in error.errors()})
    faults.add(*_unknown_variables(cls))
    return settings


def _with_defaults(cls: type[S], faulty: set[str]) -> S | None:
    """Return the settings with the default for these fields, by their names or aliases."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for field_name, field in cls.model_fields.items()
        for name in (field_name, field.validation_alias)
        if name in faulty
    }
    if _WORKFLOW_FIELDS & defaults.keys():
        return None
    try:
        return cls(**defaults)
    except ValidationError:  # of several together
        return None


def _unknown_variables(cls: type[ServingSettings]) -> list[str]:
    known = list(cls.variables().values())
    return [
        f"{name}: no such setting{did_you_mean(name, known)}"
        for name in sorted(os.environ)
        if cls.prefix() and name.upper().startswith(cls.prefix()) and name.upper() not in known
    ]
