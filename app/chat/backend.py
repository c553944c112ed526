"""What is asked of a serving engine, wherever it runs."""

from collections.abc import AsyncGenerator
from typing import Protocol

from app.contracts.generation import Done, PromptScored, TokenDelta
from app.contracts.predictions import Predictions, PredictSpec
from app.contracts.previews import Preview, PreviewSpec
from app.contracts.specs import GenerateSpec

AnswerLine = PromptScored | TokenDelta | Done


class Generator(Protocol):
    """The contract; `HttpGenerator` keeps it, and so does the scripted one of the tests."""

    def generate(self, spec: GenerateSpec) -> AsyncGenerator[AnswerLine, None]:
        """The lines of one answer as they come; the last one is `Done`, always.

        Everything that prevents this is an `AppError`: before the first line if the request was refused,
        later if the answer broke. Closing the iterator early stops the generation.
        """
        ...

    async def predict(self, spec: PredictSpec) -> Predictions:
        """What a model with a task of its own says of each text; an `AppError` if it does not. Cancelling stops it."""
        ...

    async def preview(self, spec: PreviewSpec) -> Preview:
        """Rows as they would be trained on. Everything that prevents this is an `AppError`."""
        ...

    async def aclose(self) -> None:
        """Give connections back; called once, at the end of the process."""
        ...
