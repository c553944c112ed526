"""Greedy answers of one model to many questions, in batches of similar length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.contracts.generation import TokenDelta
from app.contracts.specs import SamplingSpec
from workers.engine.base_model import ResidentBase
from workers.engine.evaluation.questions import Question
from workers.engine.inference.generate import StepDelta, generate
from workers.engine.inference.prompts import Prompt
from workers.engine.training.lora import AdapterWeights

BATCH_ROWS = 16
_LABEL_ROOM_TOKENS = 2  # a label spelt with a token more, and the end token
_LABEL_MOST_TOKENS = 64


@dataclass(frozen=True)
class Answer:
    """A model's own words, and whether it ended them itself."""

    text: str
    is_stopped: bool


def label_token_limit(resident: ResidentBase, labels: Sequence[str]) -> int:
    """Tokens an answer may have where labels are wanted: those of the longest label, and a little room."""
    longest = max(len(resident.tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels)
    return min(longest + _LABEL_ROOM_TOKENS, _LABEL_MOST_TOKENS)


def answer_all(
    resident: ResidentBase,
    adapter: AdapterWeights | None,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    batch_rows: int = BATCH_ROWS,
    on_batch: Callable[[int], None] = lambda _rows: None,
    poll: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """Answers in the order of the questions. `poll` is called at every token and may raise to stop."""
    sampling = SamplingSpec(max_new_tokens=max_new_tokens, temperature=0, clip_to_context=True)
    texts = [""] * len(questions)
    is_stopped = [False] * len(questions)
    by_length = sorted(range(len(questions)), key=lambda i: len(questions[i].prompt_ids))
    for start in range(0, len(by_length), batch_rows):
        group = by_length[start : start + batch_rows]
        prompts = [Prompt(i, questions[i].prompt_ids, sampling) for i in group]
        for event in generate(resident, adapter, prompts, max_rows=batch_rows):
            poll()
            if isinstance(event, StepDelta) and isinstance(event.line, TokenDelta):
                texts[event.key] += event.line.text
                is_stopped[event.key] |= event.line.finish_reason == "stop"
        on_batch(len(group))
    return [Answer(text, stopped) for text, stopped in zip(texts, is_stopped, strict=True)]
