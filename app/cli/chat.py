"""`tunesmith chat`: talk to a model, the answer shown as it is generated."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.errors import CommandError
from app.cli.session import session_of


def chat(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Argument(help="A base or fine-tuned model.")],
    message: Annotated[str | None, typer.Argument(help="One message; without it, a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0, max=2)] = 0.0,
) -> None:
    """Talk to a model; empty input or Ctrl-D ends a conversation."""
    sampling = {"max_completion_tokens": max_tokens, "temperature": temperature}
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    with session_of(context).client() as client:
        while (text := message if message is not None else _ask()) is not None:
            messages.append({"role": "user", "content": text})
            answer = print_answer(stream_answer(client, model, messages, **sampling))
            messages.append({"role": "assistant", "content": answer})
            if message is not None:
                return


def stream_answer(client: Client, model: str, messages: Sequence[dict[str, str]], **sampling: Any) -> Iterator[str]:
    """The pieces of one answer. `CommandError` if it breaks off."""
    body = {"model": model, "messages": list(messages), "stream": True, **sampling}
    with client.stream("POST", "/v1/chat/completions", json=body, timeout=300) as response:
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            chunk = json.loads(data)
            if "error" in chunk:
                raise CommandError(str(chunk["error"]["message"]))
            for choice in chunk["choices"]:
                if piece := choice["delta"].get("content"):
                    yield piece
    raise CommandError("The answer broke off: the stream ended without its closing line. Try again.")


def print_answer(pieces: Iterator[str]) -> str:
    """Show the pieces as they come; the whole answer."""
    whole = []
    for piece in pieces:
        whole.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(whole)


def _ask() -> str | None:
    """The next message, or None at the end of input."""
    try:
        return input("> ").strip() or None
    except EOFError:
        print()
        return None
