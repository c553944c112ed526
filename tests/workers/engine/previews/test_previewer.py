import threading

import anyio
import pytest

from app.contracts.errors import WorkerFailure
from app.contracts.previews import PreviewSpec
from tests.workers.engine.conftest import chat_row
from workers.engine.previews.previewer import MAX_WAITING, Previewer
from workers.engine.text_side import load_text_side


def spec(ref, sha256="a"):
    ref = ref.model_copy(update={"weights_sha256": sha256})
    return PreviewSpec(base=ref, rows=(chat_row(1, "hello", "hi"),), max_length=64)


def test_a_tokenizer_is_loaded_once_and_the_one_not_used_for_longest_leaves_first(tiny_ref):
    loaded = []

    def load(ref):
        loaded.append(ref.weights_sha256)
        return load_text_side(ref)

    async def ask():
        previewer = Previewer(load)
        for sha256 in ("a", "b", "c", "d", "a", "e", "a", "b"):
            assert (await previewer.answer(spec(tiny_ref, sha256))).totals.rows == 1

    anyio.run(ask)
    assert loaded == ["a", "b", "c", "d", "e", "b"]


def test_a_base_of_the_same_files_in_another_place_has_the_context_it_says(tiny_ref):
    async def ask():
        previewer = Previewer()
        await previewer.answer(spec(tiny_ref))
        small = spec(tiny_ref.model_copy(update={"context_length": 8}))
        return await previewer.answer(small)

    found = anyio.run(ask)
    assert (found.max_length, found.rows[0].tokens, found.rows[0].is_truncated) == (8, 8, True)


def test_more_than_may_wait_are_asked_to_come_again(tiny_ref):
    may_go_on = threading.Event()

    def load(ref):
        may_go_on.wait()
        return load_text_side(ref)

    async def ask():
        previewer = Previewer(load)
        async with anyio.create_task_group() as group:
            for _ in range(MAX_WAITING + 1):  # one at work, the others waiting
                group.start_soon(previewer.answer, spec(tiny_ref))
            await anyio.wait_all_tasks_blocked()
            try:
                await previewer.answer(spec(tiny_ref))
            finally:
                may_go_on.set()

    with pytest.raises(ExceptionGroup) as failure:
        anyio.run(ask)
    (only,) = failure.value.exceptions
    assert isinstance(only, WorkerFailure)
    assert (only.error.kind, only.error.code) == ("transient", "server_busy")


def test_a_surprise_is_ours_and_says_nothing_of_the_inside(tiny_ref, capsys):
    def load(_ref):
        raise RuntimeError("/secret/path")

    async def ask():
        with pytest.raises(WorkerFailure) as failure:
            await Previewer(load).answer(spec(tiny_ref))
        return failure.value.error

    error = anyio.run(ask)
    assert (error.kind, error.code) == ("fatal", "engine_error")
    assert "/secret" not in error.message
    assert "/secret" in capsys.readouterr().err
