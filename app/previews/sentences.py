"""What a preview should make its reader stop at, in sentences; pure."""

from collections.abc import Iterator

from app.contracts.previews import Preview
from app.datasets.validation import MIN_EXAMPLES
from app.previews.sampling import MAX_READ_BYTES, FileSample


def warnings(sample: FileSample, preview: Preview | None) -> Iterator[str]:
    """First what keeps a job from starting, then what it would leave out."""
    if sample.faulty:
        yield (
            f"{_rows(sample.faulty)} of the file {_be(sample.faulty)} faulty: a job on it is refused until "
            f"{'it is' if sample.faulty == 1 else 'they are'} mended."
        )
    good = sample.examples - sample.faulty
    if sample.is_whole and good < MIN_EXAMPLES:
        yield f"The file has {_rows(good)} to train on; a job needs at least {MIN_EXAMPLES}."
    if not sample.is_whole:
        yield (
            f"Only the first {MAX_READ_BYTES // 2**20} MiB of the file were read: the counts and the sample are "
            "of these. A job reads everything."
        )
    if preview is not None:
        yield from _of_rows(preview)


def _of_rows(preview: Preview) -> Iterator[str]:
    totals = preview.totals
    dropped, cut = totals.dropped_rows, totals.truncated_rows
    if dropped == totals.rows:
        yield "Nothing is learned: every row shown would be dropped."
    elif dropped:
        yield f"{_rows(dropped)} of the {totals.rows} shown would be dropped: nothing is learned from {_them(dropped)}."
    if cut:
        verb = "is" if cut == 1 else "are"
        yield (
            f"{_rows(cut)} of the {totals.rows} shown {verb} longer than {preview.max_length} tokens: what does not "
            "fit is left out of what the model reads."
        )


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
