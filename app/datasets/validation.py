"""From what two files hold to one report: split, labels, warnings, and the error if they cannot be used."""

from dataclasses import dataclass

from app.datasets.advice import warnings_of
from app.datasets.division import Division, divide
from app.datasets.labels import find_labels
from app.datasets.reading import FileFinding
from app.datasets.report import DatasetError, DatasetReport, FileReport, Param
from app.datasets.tasks import recipe_of, wire_name

MIN_EXAMPLES = 10
MAX_CLASSES = 1000
_CODES: dict[Param, str] = {
    "training_file": "invalid_training_file",
    "validation_file": "invalid_validation_file",
}
_NAMES: dict[Param, str] = {"training_file": "training file", "validation_file": "validation file"}


@dataclass(frozen=True)
class Assessment:
    """The report, and the division it describes; None if a file is faulty."""

    report: DatasetReport
    division: Division | None


def assess(training: FileFinding, validation: FileFinding | None, *, wants_selection: bool = True) -> Assessment:
    """The whole report. Pure: the same files give the same report."""
    second = None if validation is None else validation.report
    error = (
        _error(training.report, "training_file")
        or (None if second is None else _error(second, "validation_file", training.report))
        or _class_error(training)
    )
    file_format = training.report.format
    if error is not None or file_format is None:
        report = DatasetReport(
            format=file_format, training=training.report, validation=second, labels=None, error=error
        )
        return Assessment(report, None)
    division = divide(training.rows, None if validation is None else validation.rows, wants_selection=wants_selection)
    recipe = recipe_of(file_format)
    is_classification = recipe in {"text_classification", "token_classification"}
    counts = division.label_counts() if is_classification else None
    report = DatasetReport(
        format=file_format,
        recipe=recipe,
        training=training.report,
        validation=second,
        split=division.split(),
        labels=_answers(division) if counts is None else tuple(counts),
        is_multi_label=recipe == "text_classification" and any(len(row.labels) != 1 for row in division.rows),
        label_counts=counts,
        duplicate_rows=len(division.train) - len({row.row_hash for row in division.train}),
    )
    warnings = warnings_of(report, division, training, validation)
    return Assessment(report.model_copy(update={"warnings": tuple(warnings)}), division)


def _answers(division: Division) -> tuple[str, ...] | None:
    """The labels of chat rows, if their answers are labels."""
    seen = [*division.train, *division.selection]
    return find_labels([row.answer for row in seen], [row.answer for row in division.heldout])


def _error(report: FileReport, param: Param, training: FileReport | None = None) -> DatasetError | None:
    name = _NAMES[param]
    if report.refusal is not None:
        return DatasetError(code=_CODES[param], message=report.refusal, param=param)
    if report.faults:
        more = report.fault_count - 1
        rest = f" There are {more} more faults; the job's events name each line." if more > 1 else ""
        rest = " There is 1 more fault; the job's events name its line." if more == 1 else rest
        return DatasetError(
            code=_CODES[param],
            message=f"The job failed due to an invalid {name}. Invalid file format. {report.faults[0].message}{rest}",
            param=param,
        )
    least = MIN_EXAMPLES if param == "training_file" else 1
    if report.examples < least:
        return DatasetError(
            code="invalid_n_examples",
            message=f"{name.capitalize()} has {report.examples} example(s), but must have at least {least} examples",
            param=param,
        )
    if training is not None and report.format is not None and report.format != training.format:
        return DatasetError(
            code=_CODES[param],
            message=f"The {name} is in the {wire_name(report.format)} format, but the training file is in the "
            f"{wire_name(training.format or report.format)} format. Use one format for both.",
            param=param,
        )
    return None


def _class_error(training: FileFinding) -> DatasetError | None:
    """What leaves a classifier nothing to learn."""
    if training.report.format not in {"text_classification", "token_classification"}:
        return None
    labels = {label for row in training.rows for label in row.labels}
    message = None
    if not labels:
        what = "entity" if training.report.format == "token_classification" else "label"
        message = f"No example of the training file has any {what}: there is nothing to learn"
    elif len(labels) > MAX_CLASSES:
        message = (
            f"The training file has {len(labels):,} different labels; at most {MAX_CLASSES:,} can be told apart. "
            "Texts to be written need the task 'summarization'"
        )
    elif training.report.format == "text_classification" and all(
        row.labels == training.rows[0].labels for row in training.rows
    ):
        named = "', '".join(sorted(labels)[:5])
        message = f"All examples of the training file have the same label ('{named}'): a classifier needs two kinds"
    if message is None:
        return None
    return DatasetError(code="invalid_training_file", message=f"{message}.", param="training_file")
