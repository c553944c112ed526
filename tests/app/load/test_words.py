"""The summary says what was found, with the right cautions and no others."""

import random
from dataclasses import replace

from app.load.answer import Answer, Record
from app.load.figures import TIMES, p95_rise
from app.load.plan import Limits, LoadPlan
from app.load.report import Price, as_json, report_of, verdict_of
from app.load.words import assumptions, summary


def records_of(count, *, slower=1.0, late=0.0, fails=False, turns=4):
    """`slower` is a factor, or one for each turn."""
    factors = slower if isinstance(slower, list) else [slower] * turns
    found = []
    for number in range(count):
        block = number * len(factors) // count
        planned, whole = float(number), factors[block] * (0.5 + 0.01 * (number % 7))
        answer = Answer(planned + 0.1, planned + whole, planned + whole, 11, 20, 11, is_counted_by_service=True)
        record = Record(block, planned, planned + late, planned + whole, answer)
        found.append(replace(record, answer=None, error_kind="timeout", error="too late") if fails else record)
    return found


def report(*records, price=None):
    models = ["base", "tuned"][2 - len(records) :]
    plan = LoadPlan(models, [[{"role": "user", "content": "?"}]], len(records[0]), 1.0, 16)
    return report_of(plan, dict(zip(models, records, strict=True)), limits=Limits(), price=price)


def test_enough_requests_that_went_well_need_no_caution():
    assert summary(report(records_of(100))) == (
        "At 1 requests a second, tuned answered half of the requests within 530 ms and 95 of 100 within 560 ms; "
        "their first tokens came within 100 ms and 100 ms."
    )


def test_the_difference_has_its_verdict_in_words():
    usual = records_of(100)
    slower, faster = (summary(report(usual, records_of(100, slower=factor))) for factor in (1.2, 0.8))
    assert "Its p95 is +20 % [+20, +20] against base, higher in 4 of 4 turns: slower." in slower
    assert "Its p95 is -20 % [-20, -20] against base, higher in 0 of 4 turns: faster." in faster
    assert "Its p95 is +0 % [+0, +0] against base, higher in 0 of 4 turns: no difference shown." in summary(
        report(usual, usual)
    )


def test_what_else_the_machine_did_in_some_turns_is_no_difference():
    found = report(records_of(100), records_of(100, slower=[2.0, 2.0, 2.0, 0.95]))
    assert found.rises["request.duration"].interval.low > 0.5
    assert "higher in 3 of 4 turns: no difference shown." in summary(found)


def test_two_turns_are_too_few_to_tell():
    found = report(records_of(100, turns=2), records_of(100, turns=2, slower=1.2))
    assert "too few turns to tell it from other work on the machine" in summary(found)


def test_models_that_are_alike_are_seldom_called_different_on_a_busy_machine():
    """Each turn of each model is slowed by a factor of its own, and each request by another."""
    draw, called = random.Random(0), 0  # noqa: S311
    for _ in range(24):
        pair = []
        for _ in range(2):
            turns = [draw.lognormvariate(0, 0.4) for _ in range(4)]
            records = records_of(40, slower=turns)
            pair.append([replace(one, planned=one.planned - draw.expovariate(5)) for one in records])
        found = p95_rise(*pair, TIMES["request.duration"], seed=0)
        called += verdict_of(found) in {"slower", "faster"}
    assert called <= 4


def test_a_program_that_asks_late_says_so():
    assert "itself was up to 50 ms late in asking tuned" in summary(report(records_of(100, late=0.05)))
    assert "late" not in summary(report(records_of(100, late=0.004)))


def test_a_model_that_answers_nothing_still_has_a_report():
    found = report(records_of(20), records_of(20, fails=True), price=Price(2.0))
    assert "tuned answered none of 20 requests: too late." in summary(found)
    base, tuned = as_json(found, summary=summary(found))["models"]
    assert tuned["gen_ai.server.time_to_first_token"] is None
    assert tuned["errors"] == {"timeout": 20}
    assert (tuned["cost"], base["cost"]["price_per_hour"]) == (None, 2.0)


def test_cost_says_what_it_assumes():
    found = report(records_of(100), price=Price(3.6, utilisation=0.25))
    cost = found.costs["tuned"]
    # 3.60 an hour is 0.001 a second, a quarter of it used; 100 requests in four turns, 98.1 s together.
    assert abs(cost.per_1000_requests - 4.0) < 0.1
    assert "1,000 requests cost 3.923." in summary(found)
    assert "3.6 per machine-hour, one machine, as many answers as in this run in 25% of the hours paid" in assumptions(
        cost
    )
