"""One growing answer: detokenised, cut at stop strings, released only when it can no longer change."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.generation import TokenLogprob
from workers.engine.inference.token_text import TokenText, Utf8Stream


@dataclass(frozen=True)
class Released:
    """Text that may be shown now, with the tokens that make it."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class _HeldToken:
    start: int  # characters of the answer before this token
    token_id: int
    logprob: TokenLogprob | None


class AnswerText:
    """Takes tokens, gives released text. After `is_stopped` nothing more may be pushed."""

    def __init__(self, tokens: TokenText, stops: Sequence[str], *, first_offset: int = 0) -> None:
        self._tokens = tokens
        self._stops = tuple(stops)
        self._first_offset = first_offset
        self._stream = Utf8Stream()
        self._text = ""
        self._released = 0
        self._held: list[_HeldToken] = []
        self.is_stopped = False

    @property
    def end_offset(self) -> int:
        """Where a next token would start in the returned text."""
        return self._first_offset + len(self._text)

    def push(self, token_id: int, logprob: TokenLogprob | None) -> Released:
        """Add one token. `logprob.text_offset` is filled in here."""
        start = len(self._text)
        self._text += self._stream.push(self._tokens.bytes_of(token_id))
        if logprob is not None:
            logprob = logprob.model_copy(update={"text_offset": self._first_offset + start})
        self._held.append(_HeldToken(start, token_id, logprob))
        end = self._find_stop()
        if end is not None:
            self.is_stopped = True
            return self._release(end, whole=False)
        return self._release(len(self._text) - self._possible_stop_length(), whole=False)

    def finish(self) -> Released:
        """The answer is over without a stop string: what was held back is text after all.

        Bytes of a character that never got its end are dropped.
        """
        return self._release(len(self._text), whole=True)

    def _release(self, end: int, *, whole: bool) -> Released:
        text = self._text[self._released : end]
        self._released = max(self._released, end)
        # A token without characters of its own (special, or half a character) goes with the text after it.
        ready = [held for held in self._held if whole or held.start < end]
        self._held = self._held[len(ready) :]
        return Released(
            text,
            tuple(held.token_id for held in ready),
            tuple(held.logprob for held in ready if held.logprob is not None),
        )

    def _find_stop(self) -> int | None:
        found = [self._text.find(stop, self._released) for stop in self._stops]
        return min((start for start in found if start >= 0), default=None)

    def _possible_stop_length(self) -> int:
        """Length of the longest end of the text that may grow into a stop string."""
        tail = self._text[self._released :]
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(tail)), longest, -1):
                if tail.endswith(stop[:length]):
                    longest = length
                    break
        return longest
