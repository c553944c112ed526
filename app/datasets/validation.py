"""From what two files hold to one report: split, labels, warnings, and the error if they cannot be used."""

from collections.abc import Sequence

from app.datasets.labels import find_labels
from app.datasets.reading import FileFinding
from app.datasets.report import DatasetError, DatasetReport, FileReport, Param, Split
from app.datasets.split import RowFacts, choose_heldout, leaked

MIN_EXAMPLES = 10
_CODES: dict[Param, str] = {
    "training_file": "invalid_training_file",
    "validation_file": "invalid_validation_file",
}
_NAMES: dict[Param, str] = {"training_file": "training file", "validation_file": "validation file"}


def assess(training: FileFinding, validation: FileFinding | None) -> DatasetReport:
    """The whole report. Pure: the same files give the same report."""
    second = None if validation is None else validation.report
    error = _error(training.report, "training_file") or (
        None if second is None else _error(second, "validation_file", training.report)
    )
    if error is not None:
        return DatasetReport(
            format=training.report.format, training=training.report, validation=second, labels=None, error=error
        )
    train, heldout, split = divide(training.rows, None if validation is None else validation.rows)
    labels = find_labels([row.answer for row in train], [row.answer for row in heldout])
    duplicates = len(train) - len({row.row_hash for row in train})
    return DatasetReport(
        format=training.report.format,
        training=training.report,
        validation=second,
        split=split,
        labels=labels,
        duplicate_rows=duplicates,
        warnings=tuple(_warnings(train, heldout, split, labels, duplicates)),
    )


def divide(
    training: Sequence[RowFacts], validation: Sequence[RowFacts] | None
) -> tuple[list[RowFacts], list[RowFacts], Split]:
    """Training rows, held-out rows, and how they were told apart."""
    if validation is not None:
        train, heldout = list(training), list(validation)
        method = "validation_file"
    else:
        lines, by_prompt = choose_heldout(training)
        train = [row for row in training if row.line not in lines]
        heldout = [row for row in training if row.line in lines]
        method = "prompt_hash" if by_prompt else "row_hash"
    split = Split.model_validate(
        {
            "method": method,
            "train_rows": len(train),
            "heldout_rows": len(heldout),
            "leaked_rows": leaked(train, heldout),
        }
    )
    return train, heldout, split


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
    if training is not None and report.format != training.format:
        return DatasetError(
            code=_CODES[param],
            message=f"The {name} is in the {report.format} format, but the training file is in the "
            f"{training.format} format. Use one format for both.",
            param=param,
        )
    return None


def _warnings(
    train: Sequence[RowFacts],
    heldout: Sequence[RowFacts],
    split: Split,
    labels: tuple[str, ...] | None,
    duplicates: int,
) -> list[str]:
    found: list[str] = []
    if duplicates:
        found.append(f"{duplicates} of {len(train)} training examples repeat an earlier one word for word.")
    if split.leaked_rows and split.method == "validation_file":
        found.append(
            f"{split.leaked_rows} of {len(heldout)} validation examples have a prompt of the training file: "
            "their scores say what was remembered, not what was learned."
        )
    if split.method == "row_hash":
        found.append(
            "Nearly all examples share a few prompts, so the held-out examples could not be kept apart by prompt: "
            "give a validation_file for scores that can be trusted."
        )
    if labels is not None:
        trained = {row.answer.casefold() for row in train if row.answer is not None}
        unseen = [label for label in labels if label.casefold() not in trained]
        if unseen:
            found.append(f"{len(unseen)} label(s) occur only among the held-out examples, e.g. '{unseen[0]}'.")
    return found
