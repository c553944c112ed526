"""Warnings: what an owner of the data would want to know before trusting what is trained on them."""

from collections.abc import Sequence

from app.datasets.division import Division
from app.datasets.facts import RowFacts
from app.datasets.reading import FileFinding
from app.datasets.report import DatasetReport, Split

MIN_TRAIN_ROWS_PER_LABEL = 2
MAX_IMBALANCE = 20
_NAMED = 5


def warnings_of(
    report: DatasetReport, division: Division, training: FileFinding, validation: FileFinding | None
) -> list[str]:
    """`report` as far as it is known without them."""
    found: list[str] = []
    for finding, name in ((training, "training"), (validation, "validation")):
        if finding is not None:
            found += _of_file(finding, name)
    if report.duplicate_rows:
        found.append(
            f"{report.duplicate_rows} of {len(division.train)} training examples repeat an earlier one word for word."
        )
    found += _of_split(division.split())
    if report.label_counts is not None:
        found += _of_counts(report.label_counts, is_single=report.recipe == "text_classification")
    elif report.labels is not None:
        found += _of_answers(report.labels, division)
    if report.recipe == "text_classification":
        found += _of_conflicts(training.rows)
    return found


def _of_file(finding: FileFinding, name: str) -> list[str]:
    found: list[str] = []
    if finding.report.ignored_columns:
        found.append(f"Columns of the {name} file that are not used: {_some(finding.report.ignored_columns)}.")
    if finding.equal_answers:
        found.append(
            f"{finding.equal_answers} of {len(finding.rows)} {name} examples have the same answer as preferred and as "
            "non-preferred: they teach nothing."
        )
    if finding.long_targets:
        found.append(
            f"{finding.long_targets} of {len(finding.rows)} {name} examples have a target longer than its source."
        )
    return found


def _of_split(split: Split) -> list[str]:
    found: list[str] = []
    if split.leaked_rows_normalized and split.method == "validation_file":
        found.append(
            f"{split.leaked_rows_normalized} of {split.heldout_rows} validation examples have a prompt of the training "
            f"file ({split.leaked_rows} word for word, the others but for case, spaces and punctuation): their scores "
            "say what was remembered, not what was learned."
        )
    if split.method == "row_hash":
        found.append(
            "Nearly all examples share a few prompts, so the held-out examples could not be kept apart by prompt: "
            "give a validation_file for scores that can be trusted."
        )
    if not split.heldout_rows:
        found.append(
            "No example could be held out without taking a label's last one from training, so nothing will be scored: "
            "give a validation_file."
        )
    return found


def _of_counts(counts: dict[str, int], *, is_single: bool) -> list[str]:
    """`counts`: training rows of each label. Entities are rare by nature, so their balance is not judged."""
    found: list[str] = []
    unseen = [label for label, count in counts.items() if not count]
    if unseen:
        found.append(
            f"{len(unseen)} label(s) occur only among the held-out examples and cannot be learned: {_some(unseen)}."
        )
    rare = [label for label, count in counts.items() if 0 < count < MIN_TRAIN_ROWS_PER_LABEL]
    if rare:
        found.append(
            f"{len(rare)} label(s) have fewer than {MIN_TRAIN_ROWS_PER_LABEL} training examples: {_some(rare)}."
        )
    spellings: dict[str, list[str]] = {}
    for label in counts:
        spellings.setdefault(" ".join(label.casefold().split()), []).append(label)
    found += [
        f"Labels that differ only in case or spaces are learned as different ones: {_some(variants)}."
        for variants in spellings.values()
        if len(variants) > 1
    ]
    trained = {label: count for label, count in counts.items() if count}
    if is_single and trained:
        most, least = max(trained, key=trained.__getitem__), min(trained, key=trained.__getitem__)
        if trained[most] > MAX_IMBALANCE * trained[least]:
            found.append(
                f"The labels are out of balance: '{most}' has {trained[most]} training examples, '{least}' has "
                f"{trained[least]}. Watch the scores of the rare ones."
            )
    return found


def _of_answers(labels: tuple[str, ...], division: Division) -> list[str]:
    trained = {row.answer.casefold() for row in division.train if row.answer is not None}
    unseen = [label for label in labels if label.casefold() not in trained]
    if not unseen:
        return []
    return [f"{len(unseen)} label(s) occur only among the held-out examples, e.g. '{unseen[0]}'."]


def _of_conflicts(rows: Sequence[RowFacts]) -> list[str]:
    """Texts of the training file, equal but for case, spaces and punctuation, whose labels differ."""
    firsts: dict[bytes, RowFacts] = {}
    conflicts: dict[bytes, tuple[RowFacts, RowFacts]] = {}
    for row in rows:
        first = firsts.setdefault(row.group_hash, row)
        if row.labels != first.labels:
            conflicts.setdefault(row.group_hash, (first, row))
    if not conflicts:
        return []
    named = ", ".join(
        f"lines {one.line} ({_some(one.labels)}) and {other.line} ({_some(other.labels)})"
        for one, other in list(conflicts.values())[:_NAMED]
    )
    return [f"{len(conflicts)} text(s) of the training file have different labels in different rows: {named}."]


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names[:_NAMED]) or "none"
    return listed + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
