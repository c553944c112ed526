"""Wire shapes of previews. All of it is an addition of ours."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.contracts.previews import MAX_PREVIEW_ROWS, PreviewRow, PreviewTotals
from app.datasets.report import Fault, Format
from app.datasets.tasks import Method, Task
from app.previews.sampling import Sample


class PreviewCreate(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=512, description="a base, or a model to train on from")]
    limit: Annotated[int, Field(ge=1, le=MAX_PREVIEW_ROWS, description="rows to show")] = 10
    sample: Sample = Field(default="head", description="the first rows, the longest, or some drawn at random")
    start_line: Annotated[int, Field(ge=1, description="rows of this line of the file or a later one")] = 1
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="of the random sample")] = 0
    max_length: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="tokens a row may have; default: the base's context"
    )

    task: Annotated[Task, Field(strict=False)] | None = Field(
        default=None, description="as a job's; default: by the rows"
    )
    method: Method | None = Field(default=None, description="as a job's; default: by the rows")


class FileCounts(BaseModel):
    """Of all rows that were read, shown or not."""

    rows: int = Field(description="lines that hold anything, good or faulty")
    faulty_rows: int
    fault_counts: dict[str, int] = Field(description="faults by check; a row may have several")
    is_complete: bool = Field(description="false if the file is so long that only its beginning was read")


class PreviewObject(BaseModel):
    """Rows of a file as they would be trained on."""

    object: Literal["file.preview"] = "file.preview"
    file_id: str
    model: str
    base: str
    task: Task | None = Field(description="what a job on this file trains; null if no row of the file could be read")
    format: Format | None = Field(description="null if no row of the file could be read")
    max_length: int = Field(description="tokens a row may have in this preview")
    file: FileCounts
    faults: list[Fault] = Field(description="the first faults of the file, each with its line")
    shown: PreviewTotals = Field(description="sums over the rows below only, not over the file")
    rows: list[PreviewRow] = Field(description="by line; of the sample `longest`: longest first")
    warnings: list[str] = Field(description="what to mend before a job is started, one sentence each")
