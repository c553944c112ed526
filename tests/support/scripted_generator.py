"""A serving engine that says what a test tells it to, and remembers what it was asked."""

from collections.abc import AsyncGenerator, Sequence

from app.chat.backend import AnswerLine
from app.contracts.generation import Done, Timing, TokenDelta, Usage
from app.contracts.predictions import Predictions, PredictSpec
from app.contracts.previews import Preview, PreviewPart, PreviewRow, PreviewSpec, PreviewTotals, Segment
from app.contracts.specs import GenerateSpec
from app.errors import AppError

TIMING = Timing(queued_ms=0.0, time_to_first_token_ms=1.0, total_ms=2.0)


def done(*, prompt_tokens: int = 3, completion_tokens: int = 2) -> Done:
    """The last line of an answer."""
    return Done(usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens), timing=TIMING)


def saying(*pieces: str, choices: int = 1) -> list[AnswerLine]:
    """The lines of an answer in these pieces, the same for every choice."""
    lines: list[AnswerLine] = [TokenDelta(index=i, text=piece) for piece in pieces for i in range(choices)]
    lines += [TokenDelta(index=i, text="", finish_reason="stop") for i in range(choices)]
    return [*lines, done(completion_tokens=len(pieces) * choices)]


def learned(*lines: int, max_length: int) -> Preview:
    """A preview of rows of one token, which is learned."""
    segment = Segment(text="yes", token_ids=(7,), is_trained=True, turn=0)
    part = PreviewPart(name="row", tokens=1, trained_tokens=1, segments=(segment,))
    rows = tuple(PreviewRow(line=line, tokens=1, trained_tokens=1, parts=(part,)) for line in lines)
    count = len(rows)
    totals = PreviewTotals(rows=count, dropped_rows=0, truncated_rows=0, tokens=count, trained_tokens=count)
    return Preview(max_length=max_length, rows=rows, totals=totals)


class ScriptedGenerator:
    """Keeps the contract of `Generator`. An `AppError` in the script is raised where it stands."""

    def __init__(self, *scripts: Sequence[AnswerLine | AppError]) -> None:
        self.scripts = list(scripts)
        self.specs: list[GenerateSpec] = []
        self.predictions: list[Predictions | AppError] = []
        self.asked: list[PredictSpec] = []
        self.preview_specs: list[PreviewSpec] = []
        self.refuses_previews_with: AppError | None = None
        self.open_answers = 0
        self.is_closed = False

    async def generate(self, spec: GenerateSpec) -> AsyncGenerator[AnswerLine, None]:
        script = self.scripts[min(len(self.specs), len(self.scripts) - 1)]
        self.specs.append(spec)
        self.open_answers += 1
        try:
            for line in script:
                if isinstance(line, AppError):
                    raise line
                yield line
        finally:
            self.open_answers -= 1

    async def predict(self, spec: PredictSpec) -> Predictions:
        """The next of `predictions`; the last of them again and again."""
        found = self.predictions[min(len(self.asked), len(self.predictions) - 1)]
        self.asked.append(spec)
        if isinstance(found, AppError):
            raise found
        return found

    async def preview(self, spec: PreviewSpec) -> Preview:
        """One token a row, learned; or the `AppError` that `refuses_previews_with` holds."""
        self.preview_specs.append(spec)
        if self.refuses_previews_with is not None:
            raise self.refuses_previews_with
        return learned(*(row.line for row in spec.rows), max_length=min(spec.max_length, spec.base.context_length))

    async def aclose(self) -> None:
        self.is_closed = True
