"""Answers being put together from the lines of a serving engine."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from app.chat.backend import AnswerLine, Generator
from app.contracts.generation import Done, FinishReason, PromptScored, TokenDelta, TokenLogprob, Usage
from app.contracts.predictions import Prediction
from app.contracts.specs import GenerateSpec

_PROMPTS_AT_ONCE = 16


@dataclass
class Choice:
    """One whole choice."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    ending: TokenLogprob | None = None


@dataclass
class Answer:
    """Everything one prompt led to."""

    choices: list[Choice]
    usage: Usage
    prompt: PromptScored | None = None
    prediction: Prediction | None = None
    """Where the answer is no text of a conversation: all that it was made of."""


class Collector:
    """Takes the lines of one answer; `answer` is whole after the last."""

    def __init__(self, choices: int) -> None:
        self.answer = Answer([Choice() for _ in range(choices)], Usage(prompt_tokens=0, completion_tokens=0))

    def add(self, line: AnswerLine) -> None:
        match line:
            case PromptScored():
                self.answer.prompt = line
            case TokenDelta():
                choice = self.answer.choices[line.index]
                choice.text += line.text
                choice.logprobs.extend(line.logprobs or ())
                choice.finish_reason = line.finish_reason or choice.finish_reason
                choice.ending = line.ending
            case Done():
                self.answer.usage = line.usage


async def collect(generator: Generator, spec: GenerateSpec) -> Answer:
    """The whole answer to one prompt; if this is cancelled, so is the generation."""
    collector = Collector(spec.n)
    async with aclosing(generator.generate(spec)) as lines:
        async for line in lines:
            collector.add(line)
    return collector.answer


async def collect_all(generator: Generator, specs: Sequence[GenerateSpec]) -> list[Answer]:
    """The answers to several prompts, in their order; the first failure stops the others."""
    places = asyncio.Semaphore(_PROMPTS_AT_ONCE)

    async def one(spec: GenerateSpec) -> Answer:
        async with places:
            return await collect(generator, spec)

    tasks = [asyncio.ensure_future(one(spec)) for spec in specs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def total_usage(usages: Sequence[Usage]) -> Usage:
    """Tokens of several prompts together."""
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
    )
