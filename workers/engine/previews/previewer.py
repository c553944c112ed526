"""Answers previews beside the generation thread: a few tokenizers in memory, one request at a time."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import anyio

from app.contracts.errors import WorkerFailure, transient
from app.contracts.previews import Preview, PreviewSpec
from app.contracts.specs import BaseRef
from workers.engine.inference.failures import describe
from workers.engine.previews.rows import preview
from workers.engine.text_side import TextSide, load_text_side

MAX_WAITING = 16
_MAX_TOKENIZERS = 4


class Previewer:
    """Never touches models or the device, so it neither waits for answers being generated nor delays them.

    One at a time: tokenizers are not safe for several threads, and one core is enough for rows that people read.
    """

    def __init__(self, load: Callable[[BaseRef], TextSide] = load_text_side) -> None:
        self._load = load
        self._known: OrderedDict[str, TextSide] = OrderedDict()  # by `weights_sha256`, least recently used first
        self._turn = anyio.CapacityLimiter(1)

    async def answer(self, spec: PreviewSpec) -> Preview:
        """On a thread of its own. `WorkerFailure` if the tokenizer cannot be loaded or too many wait already."""
        if self._turn.statistics().tasks_waiting >= MAX_WAITING:
            raise transient("server_busy", f"{MAX_WAITING} previews are waiting already; try again in a few seconds.")
        return await anyio.to_thread.run_sync(self._preview, spec, limiter=self._turn)

    def _preview(self, spec: PreviewSpec) -> Preview:
        try:
            return preview(self._side(spec.base), spec)
        except WorkerFailure:
            raise
        except Exception as error:
            raise WorkerFailure(describe(error)) from error

    def _side(self, ref: BaseRef) -> TextSide:
        found = self._known.get(ref.weights_sha256)
        if found is None:
            found = self._known[ref.weights_sha256] = self._load(ref)
            if len(self._known) > _MAX_TOKENIZERS:
                self._known.popitem(last=False)
        self._known.move_to_end(ref.weights_sha256)
        return replace(found, ref=ref)
