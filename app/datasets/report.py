"""What inspection found in a dataset: counts, split, labels, warnings, and every fault with its line."""

from typing import Literal

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.specs import Recipe

Format = Literal["chat", "completion", "preference", "text_classification", "token_classification", "summarization"]
Param = Literal["training_file", "validation_file"]
SplitMethod = Literal["validation_file", "prompt_hash", "row_hash"]

MAX_LISTED_FAULTS = 100


class Fault(Contract):
    """One thing wrong with one line. `check` is a stable name to count by; `message` is for people."""

    line: int = Field(ge=1)
    check: str
    message: str


class FileReport(Contract):
    """One file as found. `examples` counts the lines that hold anything, good or not."""

    file_id: str
    filename: str
    bytes: int
    sha256: str
    format: Format | None
    examples: int
    good: int
    faults: tuple[Fault, ...] = Field(description=f"the first {MAX_LISTED_FAULTS}")
    fault_count: int
    fault_counts: dict[str, int] = Field(description="all faults, by check")
    refusal: str | None = Field(default=None, description="set if the file as a whole is of another kind")
    ignored_columns: tuple[str, ...] = Field(default=(), description="columns that no row needed, some of them")


class Split(Contract):
    """Which rows train, which choose the best checkpoint, and which are held out for the scores at the end."""

    method: SplitMethod
    train_rows: int
    selection_rows: int = Field(
        default=0, description="rows of the training file that choose the best checkpoint and end a run early"
    )
    heldout_rows: int
    leaked_rows: int = Field(
        description="held-out rows whose prompt is in the training file's other rows too, to the letter"
    )
    leaked_rows_normalized: int = Field(
        default=0, description="the same, where case, spaces and punctuation make no difference"
    )


class DatasetError(Contract):
    """Why the dataset cannot be used, as the job's `error` shows it."""

    code: str
    message: str
    param: Param


class DatasetReport(Contract):
    """The whole finding; stored with the job and shown on the wire."""

    version: Literal[1] = 1
    format: Format | None
    recipe: Recipe | None = Field(
        default=None, description="what such rows are trained as; None if the data are faulty"
    )
    training: FileReport
    validation: FileReport | None
    split: Split | None = Field(default=None, description="None if a file is faulty")
    labels: tuple[str, ...] | None = Field(
        description="sorted: all labels or entity types (without O) of a classification recipe; "
        "of chat the distinct answers, where they are labels"
    )
    is_multi_label: bool = Field(
        default=False, description="text classification: a row may have several labels or none"
    )
    label_counts: dict[str, int] | None = Field(
        default=None, description="classification recipes: training rows that have the label"
    )
    duplicate_rows: int = Field(default=0, description="training rows that repeat an earlier one, answer included")
    warnings: tuple[str, ...] = ()
    error: DatasetError | None = None


class PreparedDataset(Contract):
    """Canonical rows on local disk, ready for the engine: JSON lines of `rows.Row`, all of one kind."""

    recipe: Recipe
    train_path: str
    train_sha256: str
    train_rows: int
    selection_path: str | None = Field(description="None if there are no selection rows")
    selection_sha256: str | None
    selection_rows: int
    heldout_path: str
    heldout_sha256: str
    heldout_rows: int
    leaked_lines: tuple[int, ...] = Field(
        default=(), description="held-out rows whose prompt is in the other rows too, but for case and punctuation"
    )
    labels: tuple[str, ...] | None
    is_multi_label: bool
    is_completion: bool
