"""Answers as streams of events. Each stream has begun when it is handed over, so refusals are still statuses."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from app.chat.answers import Answer, Collector, total_usage
from app.chat.backend import AnswerLine, Generator
from app.chat.chat_shape import AnswerHead, ChatChunks, ChatForm
from app.chat.sse import event
from app.chat.text_shape import TextChunks, TextForm, usage_chunk
from app.contracts.generation import Done, PromptScored, TokenDelta, Usage
from app.contracts.specs import GenerateSpec

Keep = Callable[[Answer], Awaitable[None]]
Events = AsyncGenerator[bytes, None]


async def begun(generator: Generator, spec: GenerateSpec) -> AsyncGenerator[AnswerLine, None]:
    """The lines of an answer whose first line is there already; its `AppError` is raised here."""
    lines = generator.generate(spec)
    first = await anext(lines)
    return _behind(first, lines)


async def _behind(first: AnswerLine, lines: AsyncGenerator[AnswerLine, None]) -> AsyncGenerator[AnswerLine, None]:
    async with aclosing(lines):
        yield first
        async for line in lines:
            yield line


async def chat_events(
    lines: AsyncGenerator[AnswerLine, None], head: AnswerHead, choices: int, form: ChatForm, keep: Keep | None
) -> Events:
    """Chunks of one conversation. `keep` gets the whole answer before the last chunk is sent."""
    chunks = ChatChunks(head, choices, form)
    collector = Collector(choices)
    async with aclosing(lines):
        for chunk in chunks.start():
            yield event(chunk)
        async for line in lines:
            collector.add(line)
            if isinstance(line, TokenDelta):
                for chunk in chunks.push(line):
                    yield event(chunk)
    if keep is not None:
        await keep(collector.answer)
    for chunk in chunks.end(collector.answer.usage):
        yield event(chunk)


async def text_events(
    generator: Generator,
    first: AsyncGenerator[AnswerLine, None],
    specs: Sequence[GenerateSpec],
    head: AnswerHead,
    form: TextForm,
) -> Events:
    """Chunks of several prompts, one prompt after the other; `first` is the answer to the first, begun."""
    usages: list[Usage] = []
    for place, spec in enumerate(specs):
        chunks = TextChunks(head, place, form)
        async with aclosing(first if place == 0 else generator.generate(spec)) as lines:
            async for line in lines:
                match line:
                    case PromptScored() | TokenDelta():
                        for chunk in chunks.push(line):
                            yield event(chunk)
                    case Done():
                        usages.append(line.usage)
    if form.include_usage:
        yield event(usage_chunk(head, total_usage(usages)))
