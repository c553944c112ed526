"""The verbs of previews: find file and model, read the rows to show, put the answer together."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.contracts.previews import Preview, PreviewSpec, PreviewTotals
from app.contracts.specs import BaseRef
from app.datasets.reading import Wanted, refusal
from app.datasets.tasks import task_of
from app.errors import InvalidInput, NotFound
from app.files.service import FileService
from app.identity.caller import Caller
from app.previews.sampling import FileSample, Wish, sample_file
from app.previews.schemas import FileCounts, PreviewCreate, PreviewObject
from app.previews.sentences import warnings
from app.registry.service import RegistryService


@dataclass(frozen=True)
class PreviewSource:
    """What the transaction found; reading the bytes needs no database."""

    file_id: str
    filename: str
    chunks: Iterator[bytes]
    model: str
    base: BaseRef


class PreviewService:
    def __init__(self, files: FileService, registry: RegistryService) -> None:
        self._files = files
        self._registry = registry

    def find(self, caller: Caller, file_id: str, model_id: str) -> PreviewSource:
        """`NotFound` for a file, and `InvalidInput` for a model, that is absent or another team's."""
        file = self._files.get(caller.team_id, file_id, param="file_id")
        try:
            model = self._registry.resolve(caller, model_id)
        except NotFound as error:
            raise InvalidInput(error.message, param="model", code=error.code) from None
        return PreviewSource(file.id, file.filename, self._files.open(file), model.id, model.base)


def read_sample(source: PreviewSource, body: PreviewCreate) -> FileSample:
    """Slow for a long file: to be called outside of the transaction. `InvalidInput` for rows of another task."""
    sample = sample_file(
        source.filename,
        source.chunks,
        Wish(
            limit=body.limit,
            sample=body.sample,
            start_line=body.start_line,
            seed=body.seed,
            task=body.task,
            method=body.method,
        ),
    )
    if sample.refused is not None:
        wanted = Wanted(task=body.task, method=body.method or "supervised")
        is_task = body.task is not None and task_of(sample.refused) != body.task
        raise InvalidInput(
            refusal(source.file_id, sample.refused, wanted),
            param="task" if is_task else "method",
            code="file_of_another_kind",
        )
    return sample


def preview_spec(source: PreviewSource, body: PreviewCreate, sample: FileSample) -> PreviewSpec | None:
    """What to ask the engine; None where no good row is left to show."""
    if not sample.rows:
        return None
    return PreviewSpec(
        base=source.base,
        recipe=sample.rows[0].kind,
        labels=tuple(sorted(sample.labels)) or None,
        is_multi_label=sample.is_multi_label,
        rows=tuple(sample.rows),
        max_length=body.max_length or source.base.context_length,
    )


def preview_object(
    source: PreviewSource, body: PreviewCreate, sample: FileSample, found: Preview | None
) -> PreviewObject:
    """The answer; `found` is what the engine said of the sample, None if it was not asked."""
    nothing = PreviewTotals(rows=0, dropped_rows=0, truncated_rows=0, tokens=0, trained_tokens=0)
    limit = min(body.max_length or source.base.context_length, source.base.context_length)
    return PreviewObject(
        file_id=source.file_id,
        model=source.model,
        base=source.base.id,
        task=None if sample.format is None else task_of(sample.format),
        format=sample.format,
        max_length=limit if found is None else found.max_length,
        file=FileCounts(
            rows=sample.examples,
            faulty_rows=sample.faulty,
            fault_counts=dict(sample.fault_counts),
            is_complete=sample.is_whole,
        ),
        faults=sample.faults,
        shown=nothing if found is None else found.totals,
        rows=[] if found is None else list(found.rows),
        warnings=list(warnings(sample, found)),
    )
