"""What a fine-tuning job is asked for, whichever API asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ml.finetuning.names import model_name, output_name
from ml.finetuning.trackers import Tracker
from ml.jobs.resources import Resources

__all__ = ["Export", "FinetuningRequest", "Metadata", "QueryParams", "TrainingParameters"]

#: What a client notes about its job: OpenAI's limits.
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
#: A GGUF without a type is of bf16; the types have llama.cpp's names.
Export = Literal[
    "merged_16bit",
    "gguf",
    "gguf_f16",
    "gguf_q8_0",
    "gguf_q5_1",
    "gguf_q5_0",
    "gguf_q4_1",
    "gguf_q4_0",
]


def _output_dir(value: str) -> str:
    output_name(value)
    return value


def _names(value: Any) -> Any:
    """Return one name as a list of it, "none" as an empty one."""
    if isinstance(value, str):
        return [] if value == "none" else [value]
    return value


_SamplePrompt = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_ModelName = Annotated[str, AfterValidator(model_name)]
_OutputDir = Annotated[str, AfterValidator(_output_dir)]


class TrainingParameters(BaseModel):
    """How to train. Names and defaults are those of the finetuning document."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_seq_length: int = Field(
        default=2048,
        ge=16,
        description="Tokens of an example, pieces of words; longer ones are cut",
    )
    num_train_epochs: float = Field(
        default=3, gt=0, description="How often all examples are read, unless max_steps says"
    )
    max_steps: int = Field(
        default=60, ge=-1, description="Wins over the epochs; -1: they decide; 0 is refused"
    )
    per_device_train_batch_size: int = Field(
        default=2, ge=1, description="Examples at once: more take more memory"
    )
    gradient_accumulation_steps: int = Field(
        default=4, ge=1, description="Batches that one step learns from together"
    )
    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="How far each step moves; too high forgets, too low learns little",
    )
    warmup_steps: int = Field(
        default=5,
        ge=0,
        description="First steps, at a rising rate; the default shrinks to a tenth of all steps, "
        "others to half",
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate falls until the end"
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="Draws weights towards 0, against learning by heart"
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Longer gradients are shortened to this"
    )
    save_steps: int = Field(
        default=25, ge=1, description="Between checkpoints, from which a job can go on"
    )
    save_total_limit: int = Field(default=3, ge=1, description="Newest checkpoints that are kept")
    logging_steps: int = Field(default=1, ge=1, description="Between two numbers of the curves")
    lora_r: int = Field(
        default=16, ge=1, le=512, description="Size of what is added to the model and trained"
    )
    lora_alpha: int = Field(
        default=16, ge=1, description="Weight of what is added: it counts lora_alpha / lora_r times"
    )
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of it that is left out of each step by chance"
    )
    target_modules: list[str] | Literal["all-linear"] = Field(
        default="all-linear", description="The layers it is added to, by their names"
    )
    seed: int = Field(
        default=3407, ge=0, lt=2**32, description="The same one gives the same training"
    )
    validation_split: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the examples that is kept to measure with, and not trained on",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        description="Ends after so many evaluations without a better loss; needs validation",
    )
    packing: bool = Field(default=False, description="Several examples in one sequence")
    completion_only: bool = Field(default=True, description="Train on the answers alone")
    gradient_checkpointing: bool = Field(
        default=False, description="Takes less memory and more time"
    )
    load_in_4bit: bool | None = Field(default=None, description="CUDA alone; None: as the model is")
    backend: Literal["auto", "unsloth", "trl"] = Field(
        default="auto", description="What trains; auto is unsloth where it is installed and can"
    )
    num_workers: int = Field(
        default=1,
        ge=1,
        le=8,
        description="Processes that train together on one host, each on its share of every step, "
        "which has so many times the examples: each takes per_device_train_batch_size · "
        "gradient_accumulation_steps",
    )
    exports: list[Export] = Field(
        default=[], description="Beside the adapter, which is always saved"
    )
    report_to: Annotated[list[Tracker], BeforeValidator(_names)] | None = Field(
        default=None,
        description="Trackers that are told the run's numbers too; by default those that the "
        "service has for all runs",
    )
    sample_prompts: list[_SamplePrompt] = Field(
        default=[], max_length=4, description="Answered by the model as it learns, to watch it"
    )
    sample_steps: int = Field(
        default=25, ge=1, description="Between two rounds of answers to the sample_prompts"
    )
    resources: Resources | None = Field(
        default=None, description="What each worker needs of a host, where an executor places jobs"
    )

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:  # to some it means no limit, to others no training
            raise ValueError("give a number over 0, or -1 for num_train_epochs to decide")
        return value

    @model_validator(mode="after")
    def _early_stopping_needs_validation(self) -> Self:
        if self.early_stopping_patience is not None and not self.validates:
            raise ValueError("early_stopping_patience needs a validation_split above 0")
        return self

    @property
    def validates(self) -> bool:
        """Whether some examples are kept for validation."""
        return self.validation_split > 0


class QueryParams(BaseModel):
    """A query whose rows are the training data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str = Field(min_length=1, description="One SELECT over the databases in INPUT_PATH")
    params: list[Any] = Field(default=[], description="Values for its question marks")
    refiner_id: int | None = Field(default=None, description="For a remote Query Engine")
    query_signature: str | None = Field(
        default=None, description="Of the query's text, where the service asks for one"
    )


class FinetuningRequest(TrainingParameters):
    """A job's request: a model, where the data comes from, and how to train.

    Exactly one of `dataset_name`, `query_id` and `query_params` is given.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "SmolLM2-135M-Instruct",
                    "dataset_name": "rows.jsonl",
                    "output_dir": "my-model",
                }
            ]
        }
    )

    model_name: _ModelName = "unsloth/llama-3-8b-bnb-4bit"
    output_dir: _OutputDir = Field(default="./results", description="The tuned model's name")
    dataset_name: str | None = Field(
        default=None, description="A file under INPUT_PATH, or a data set of the hub"
    )
    validation_dataset_name: str | None = Field(
        default=None, description="A data set for validation, in place of a validation_split"
    )
    query_id: str | None = None
    query_params: QueryParams | None = None
    column_map: dict[str, str] = Field(
        default={}, description="The data's columns by the names that the format has for them"
    )
    chat_template: str | None = Field(default=None, description="Jinja; the model's own by default")

    metadata: Metadata | None = Field(default=None, description="Notes, kept with the job")

    @property
    def validates(self) -> bool:
        """Whether there are examples for validation."""
        return self.validation_dataset_name is not None or super().validates

    def of_validation(self) -> Self | None:
        """Return the request for the validation data alone; None if it is part of the other."""
        if self.validation_dataset_name is None:
            return None
        named = {"dataset_name": self.validation_dataset_name, "validation_dataset_name": None}
        return self.model_copy(update=named)

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = []
        sources = (self.dataset_name, self.query_id, self.query_params)
        if sum(source is not None for source in sources) != 1:
            faults.append("give exactly one of dataset_name, query_id and query_params")
        if self.validation_dataset_name is not None and self.validation_split:
            faults.append("give one of validation_dataset_name and validation_split")
        if faults:
            raise ValueError("; ".join(faults))
        return self
