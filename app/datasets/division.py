"""From the rows of one or two files to the three sides of a split, and the figures that describe it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.datasets.facts import RowFacts
from app.datasets.report import Split, SplitMethod
from app.datasets.split import choose_heldout, choose_selection, leaked, leaked_lines


@dataclass(frozen=True)
class Division:
    """Which rows do what. `selection` always comes from the training file, `heldout` from either."""

    train: list[RowFacts]
    selection: list[RowFacts]
    heldout: list[RowFacts]
    method: SplitMethod

    @property
    def rows(self) -> list[RowFacts]:
        return [*self.train, *self.selection, *self.heldout]

    @property
    def leaked_lines(self) -> tuple[int, ...]:
        """Lines of held-out rows whose prompt is among the others."""
        return leaked_lines([*self.train, *self.selection], self.heldout)

    def split(self) -> Split:
        others = [*self.train, *self.selection]
        return Split(
            method=self.method,
            train_rows=len(self.train),
            selection_rows=len(self.selection),
            heldout_rows=len(self.heldout),
            leaked_rows=leaked(others, self.heldout),
            leaked_rows_normalized=len(self.leaked_lines),
        )

    def label_counts(self) -> dict[str, int]:
        """Training rows that have each label, of all labels that occur anywhere; sorted."""
        counts = Counter(label for row in self.train for label in row.labels)
        return {label: counts[label] for label in sorted({label for row in self.rows for label in row.labels})}


def divide(training: Sequence[RowFacts], validation: Sequence[RowFacts] | None, *, wants_selection: bool) -> Division:
    """Pure: the same rows give the same sides, whatever their order."""
    method: SplitMethod = "validation_file"
    if validation is not None:
        heldout = list(validation)
        rest = list(training)
    else:
        lines, by_prompt = choose_heldout(training)
        method = "prompt_hash" if by_prompt else "row_hash"
        heldout = [row for row in training if row.line in lines]
        rest = [row for row in training if row.line not in lines]
    chosen = choose_selection(rest) if wants_selection else frozenset()
    return Division(
        train=[row for row in rest if row.line not in chosen],
        selection=[row for row in rest if row.line in chosen],
        heldout=heldout,
        method=method,
    )
