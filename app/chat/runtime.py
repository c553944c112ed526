"""What the chat feature holds for the life of an API process."""

from dataclasses import dataclass

from app.chat.adapter_cache import AdapterCache
from app.chat.backend import Generator
from app.chat.http_backend import HttpGenerator
from app.context import Context


@dataclass(frozen=True)
class ChatRuntime:
    """Kept as `app.state.chat`; opened and closed by the application's lifespan."""

    generator: Generator
    adapters: AdapterCache

    async def aclose(self) -> None:
        await self.generator.aclose()


def open_runtime(context: Context, generator: Generator | None = None) -> ChatRuntime:
    """The runtime of a real process; a test gives its own generator."""
    return ChatRuntime(
        generator=generator if generator is not None else HttpGenerator(context.settings),
        adapters=AdapterCache(context.artifacts, context.settings.scratch_dir / "serving"),
    )
