"""What a client may send to /v1/evals: OpenAI's bodies. What is kept is what was sent."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from app.evals.graders.specs import Criterion, Name, Spec, TemplateMessage
from app.evals.graders.templates import TemplateFault, check_template

Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Criteria = Annotated[list[Criterion], Field(min_length=1, max_length=64)]
criteria_adapter: TypeAdapter[list[Criterion]] = TypeAdapter(list[Criterion])


class CustomConfig(Spec):
    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False


class StoredConfig(Spec):
    """Items are stored chat completions; `logs` is the newer name."""

    type: Literal["logs", "stored_completions"]
    metadata: dict[str, Any] | None = None


class EvalCreate(Spec):
    """POST /v1/evals."""

    name: Annotated[str, Field(max_length=256)] | None = None
    data_source_config: Annotated[CustomConfig | StoredConfig, Field(discriminator="type")]
    testing_criteria: Criteria
    metadata: Metadata | None = None


class EvalUpdate(Spec):
    """POST /v1/evals/{eval_id}: what is left out stays."""

    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Metadata | None = None


class Row(Spec):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Spec):
    type: Literal["file_content"]
    content: Annotated[list[Row], Field(min_length=1, max_length=50_000)]


class FileId(Spec):
    type: Literal["file_id"]
    id: Name


class StoredCompletions(Spec):
    type: Literal["stored_completions"]
    metadata: Metadata | None = None
    model: str | None = None
    created_after: int | None = Field(default=None, ge=0, le=2**33)
    created_before: int | None = Field(default=None, ge=0, le=2**33)
    limit: int | None = Field(default=None, ge=1)


class StoredResponses(Spec):
    type: Literal["responses"]


class Template(Spec):
    type: Literal["template"]
    template: Annotated[list[TemplateMessage], Field(min_length=1, max_length=1000)]


class ItemReference(Spec):
    """A list of messages that stands in the item."""

    type: Literal["item_reference"]
    item_reference: Name

    @model_validator(mode="after")
    def _is_a_path(self) -> Self:
        try:
            check_template(f"{{{{{self.item_reference}}}}}")
        except TemplateFault as fault:
            raise ValueError(str(fault)) from None
        return self


class TextFormat(Spec):
    format: dict[str, Any] | None = None


class RunSampling(Spec):
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_completions_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    text: TextFormat | None = None
    tools: list[dict[str, Any]] | None = None


class JsonlSource(Spec):
    """Rows that hold what is graded."""

    type: Literal["jsonl"]
    source: Annotated[FileContent | FileId, Field(discriminator="type")]


class _SampledSource(Spec):
    """Rows, and a model that is asked about each."""

    model: Name | None = None
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")] | None = None
    sampling_params: RunSampling | None = None


class CompletionsSource(_SampledSource):
    type: Literal["completions"]
    source: Annotated[FileContent | FileId | StoredCompletions, Field(discriminator="type")]


class ResponsesSource(_SampledSource):
    type: Literal["responses"]
    source: Annotated[FileContent | FileId | StoredResponses, Field(discriminator="type")]


DataSource = Annotated[JsonlSource | CompletionsSource | ResponsesSource, Field(discriminator="type")]
data_source_adapter: TypeAdapter[JsonlSource | CompletionsSource | ResponsesSource] = TypeAdapter(DataSource)


class RunCreate(Spec):
    """POST /v1/evals/{eval_id}/runs."""

    name: Annotated[str, Field(max_length=256)] | None = None
    data_source: DataSource
    metadata: Metadata | None = None
