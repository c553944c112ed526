"""Times under load are those of the service: exactly in virtual time, closely over real sockets."""

import asyncio
import itertools
import random

import numpy as np
import pytest

from app.load.answer import AnswerFailed
from app.load.figures import TIMES, figures_of
from app.load.plan import Limits, LoadPlan, blocks_of
from app.load.run import Service, run_load
from tests.support.chat_streams import Reply, ScriptedChat, ScriptedTransport, listening, numbered_prompts
from tests.support.virtual_time import run_virtually

PERCENTS = (50, 90, 95, 99)
SERVICE = Service("http://service", "key", reads_proxies=False)


def plan_of(*models, requests, rate, rounds=1, warm_up=2, **more):
    asked = requests + rounds * warm_up
    return LoadPlan(models, numbered_prompts(asked), requests, rate, 16, rounds, warm_up, **more)


def run(plan, chat):
    return run_virtually(run_load(plan, SERVICE, transport=ScriptedTransport(chat)))


def measured(plan):
    """The prompt numbers of the measured requests, in planned order."""
    block = blocks_of(plan)[:: len(plan.models)]
    places = itertools.chain.from_iterable(one.arrivals for one in block)
    return [number for number, arrival in enumerate(places) if not arrival.is_warm_up]


def drawn_replies(count, *, first, token):
    draw = random.Random(5)  # noqa: S311 - delays, no secret
    return [
        Reply(draw.uniform(*first), draw.uniform(*token), draw.randint(2, 12), has_end_token=draw.random() < 0.5)
        for _ in range(count)
    ]


def percentiles_of(times):
    return {percent: getattr(times, f"p{percent}") for percent in PERCENTS}


def test_every_percentile_is_that_of_the_delays_the_service_stated():
    plan = plan_of("tuned", requests=300, rate=20)
    replies = drawn_replies(302, first=(0.02, 0.4), token=(0.005, 0.05))
    records = run(plan, ScriptedChat(lambda _, number: replies[number]))["tuned"]
    figures = figures_of(records, Limits(), seed=0)
    asked = [replies[number] for number in measured(plan)]
    stated = {
        "time_to_first_token": [reply.first_seconds for reply in asked],
        "time_per_output_token": [reply.token_seconds for reply in asked],
        "request.duration": [reply.whole_seconds for reply in asked],
    }
    for name, delays in stated.items():
        truth = dict(zip(PERCENTS, np.percentile(delays, PERCENTS), strict=True))
        assert percentiles_of(figures.times[name]) == pytest.approx(truth, rel=1e-6)
        assert figures.times[name].p95_interval.low <= truth[95] <= figures.times[name].p95_interval.high
    assert figures.answer_lengths.mean == np.mean([reply.counted for reply in asked])


def test_over_real_sockets_the_percentiles_are_those_of_what_the_service_wrote():
    """What it wrote, not what it was to write: a machine that stops for a moment stops both."""
    plan = plan_of("tuned", requests=40, rate=40)
    replies = drawn_replies(42, first=(0.1, 0.2), token=(0.01, 0.02))

    async def ask():
        chat = ScriptedChat(lambda _, number: replies[number])
        async with listening(chat) as url:
            return chat, (await run_load(plan, Service(url, "key", reads_proxies=False)))["tuned"]

    chat, records = asyncio.run(ask())
    figures = figures_of(records, Limits(), seed=0)
    seen = [(record, chat.of("tuned")[number]) for record, number in zip(records, measured(plan), strict=True)]
    truths = {
        "time_to_first_token": [asked.written[0] - record.planned for record, asked in seen],
        "time_per_output_token": [
            (asked.written[-1] - asked.written[0]) / (len(asked.written) - 1) for _, asked in seen
        ],
        "request.duration": [asked.ended - record.planned for record, asked in seen],
    }
    for name, truth in truths.items():
        # The slowest two of 40 may be those the machine stopped between the writing and the reading.
        for percent, rel, above in ((50, 0.02, 0.002), (90, 0.02, 0.002), (95, 0.1, 0.01), (99, 0.1, 0.01)):
            expected = float(np.percentile(truth, percent))
            found = percentiles_of(figures.times[name])[percent]
            assert found == pytest.approx(expected, rel=rel, abs=above), (name, percent)
    assert figures.concurrency.peak > 5
    assert figures.failed == 0


def test_first_token_and_further_tokens_add_up_to_the_whole_answer():
    plan = plan_of("tuned", requests=50, rate=20)
    replies = drawn_replies(52, first=(0.02, 0.4), token=(0.005, 0.05))
    for record in run(plan, ScriptedChat(lambda _, number: replies[number]))["tuned"]:
        parts = record.ttft_seconds + (record.answer.answer_tokens - 1) * record.tpot_seconds
        assert parts == pytest.approx(record.e2e_seconds, rel=0.01)


def queue_times(arrivals, services):
    """Lindley: each begins when it has come and the one before is done."""
    free, found = 0.0, []
    for at, service in zip(arrivals, services, strict=True):
        free = max(free, at) + service
        found.append(free - at)
    return found


@pytest.mark.parametrize("stall", [0.0, 1.0])
def test_a_stall_is_in_the_times_of_all_requests_queued_behind_it(stall):
    plan = plan_of("tuned", requests=100, rate=10, warm_up=0)
    usual, stalled = Reply(0.02, 0.005, 5), 40

    def reply(_, number):
        return Reply(0.02 + stall, 0.005, 5) if number == stalled else usual

    records = run(plan, ScriptedChat(reply, one_at_a_time=True))["tuned"]
    arrivals = [arrival.at for arrival in blocks_of(plan)[0].arrivals]
    services = [reply("tuned", number).whole_seconds for number in range(100)]
    expected = queue_times(arrivals, services)
    assert [record.e2e_seconds for record in records] == pytest.approx(expected, rel=0.02)
    queued = [number for number in range(stalled, 100) if arrivals[number] < arrivals[stalled] + stall]
    for number in queued:
        assert records[number].e2e_seconds >= arrivals[stalled] + stall - arrivals[number]
    figures = figures_of(records, Limits(), seed=0)
    assert figures.times["request.duration"].p99 == pytest.approx(np.percentile(expected, 99), rel=0.02)
    assert (figures.times["request.duration"].p99 > 0.9) == bool(stall)
    assert len(queued) >= 5 or not stall


def test_a_request_that_could_not_be_sent_in_time_counts_from_when_it_should_have_been():
    plan = plan_of("tuned", requests=60, rate=20, warm_up=0)

    class Freezing(ScriptedTransport):
        async def handle_async_request(self, request):
            response = await super().handle_async_request(request)
            if b"prompt 20" in request.content:
                asyncio.get_running_loop().advance(1.0)
            return response

    chat = ScriptedChat(lambda *_: Reply(0.02, 0.005, 5))
    records = run_virtually(run_load(plan, SERVICE, transport=Freezing(chat)))["tuned"]
    late = [record for record in records if record.sent - record.planned > 0.01]
    assert len(late) > 10
    assert all(record.e2e_seconds >= record.sent - record.planned + 0.039 for record in late)
    assert figures_of(records, Limits(), seed=0).sent_late_p99_seconds > 0.8


def test_models_take_turns_under_the_same_arrivals_and_prompts():
    plan = plan_of("base", "tuned", requests=21, rate=10, rounds=2, warm_up=3)
    blocks = blocks_of(plan)
    assert [block.model for block in blocks] == ["base", "tuned", "base", "tuned"]
    assert blocks[0].arrivals == blocks[1].arrivals
    assert blocks[2].arrivals == blocks[3].arrivals
    assert blocks[0].arrivals != blocks[2].arrivals
    assert [len(block.arrivals) for block in blocks] == [14, 14, 13, 13]

    chat = ScriptedChat(lambda model, _: Reply(0.3 if model == "base" else 0.6, 0.01, 4))
    records = run(plan, chat)
    assert {model: len(found) for model, found in records.items()} == {"base": 21, "tuned": 21}
    turns = [model for model, _ in itertools.groupby(one.model for one in chat.asked[2:])]
    assert turns == ["base", "tuned", "base", "tuned"]
    for before, after in itertools.pairwise(sorted(records["base"] + records["tuned"], key=lambda one: one.planned)):
        assert before.block == after.block or before.ended < after.planned
    offsets = [[one.planned - found[0].planned for one in found if one.block < 2] for found in records.values()]
    assert offsets[0] == pytest.approx(offsets[1])


def test_a_model_is_woken_before_its_first_turn_and_its_warm_up_is_left_out():
    plan = plan_of("tuned", requests=10, rate=10, warm_up=3)
    woken = []

    def reply(_, number):
        woken.append(number)
        # The very first answer loads the weights; warm-up requests are slow still.
        return Reply(30.0) if len(woken) == 1 else Reply(5.0 if number < 3 else 0.02)

    records = run(plan, ScriptedChat(reply))["tuned"]
    assert len(woken) == 14
    assert max(record.e2e_seconds for record in records) < 0.1


ERROR_EVENT = 'data: {"error": {"message": "the engine died"}}'
FAULTS = {
    "HTTP 503": Reply(status=503),
    "connection": Reply(status=0),
    "error in the stream": Reply(breaks=ERROR_EVENT),
    "broken stream": Reply(breaks=""),
    "not a chat stream": Reply(breaks='data: {"choices": 3}'),
    "timeout": Reply(first_seconds=9.0),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_error_is_a_failed_request_and_the_run_goes_on(kind):
    plan = plan_of("tuned", requests=20, rate=10, timeout_seconds=2.0)
    fault = FAULTS[kind]
    records = run(plan, ScriptedChat(lambda _, number: fault if number in {5, 9} else Reply()))["tuned"]
    figures = figures_of(records, Limits(e2e_seconds=60), seed=0)
    assert figures.errors == {kind: 2}
    assert figures.first_error
    assert (figures.requests, figures.failed, figures.times["request.duration"].n) == (20, 2, 18)
    assert figures.goodput.requests == 18
    assert figures.times["request.duration"].p99 == pytest.approx(0.04)


def test_a_model_that_cannot_answer_at_all_is_said_before_the_load():
    plan = plan_of("absent", requests=20, rate=10)
    chat = ScriptedChat(lambda *_: Reply(status=404))
    with pytest.raises(AnswerFailed, match="refused with 404"):
        run(plan, chat)
    assert len(chat.asked) == 1


def test_tokens_are_counted_in_pieces_where_the_service_gives_no_usage():
    plan = plan_of("tuned", requests=5, rate=10)
    records = run(plan, ScriptedChat(lambda *_: Reply(tokens=6, has_usage=False)))["tuned"]
    figures = figures_of(records, Limits(), seed=0)
    assert not figures.are_tokens_counted_by_service
    assert (figures.answer_lengths.mean, figures.prompt_lengths) == (6, None)
    assert figures.throughput.tokens_per_second is None


@pytest.mark.parametrize(("reply", "tokens"), [(Reply(tokens=1), 1), (Reply(tokens=0, has_end_token=True), 1)])
def test_an_answer_of_one_token_has_no_time_between_tokens(reply, tokens):
    plan = plan_of("tuned", requests=5, rate=10)
    figures = figures_of(run(plan, ScriptedChat(lambda *_: reply))["tuned"], Limits(), seed=0)
    assert figures.times["time_per_output_token"] is None
    assert figures.times["time_to_first_token"].p50 == pytest.approx(0.02)
    assert figures.answer_lengths.mean == tokens
    assert set(figures.times) == set(TIMES)


def test_the_request_on_the_wire_is_an_ordinary_one():
    plan = plan_of("tuned", requests=2, rate=10, warm_up=0)
    chat = ScriptedChat(lambda *_: Reply())
    run(plan, chat)
    assert chat.asked[1].body == {
        "model": "tuned",
        "messages": [{"role": "user", "content": "prompt 0"}],
        "max_completion_tokens": 16,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    "wrong", [{"requests": 1, "rounds": 2}, {"requests": 0}, {"rate": 0}, {"warm_up": -1}, {"timeout_seconds": 0}]
)
def test_a_load_that_cannot_be_run_is_refused(wrong):
    with pytest.raises(ValueError, match=r"round|above 0"):
        LoadPlan(
            ["tuned"],
            numbered_prompts(2),
            **{"requests": 4, "rate_per_second": 1.0, "max_tokens": 4}
            | {{"rate": "rate_per_second"}.get(name, name): value for name, value in wrong.items()},
        )
