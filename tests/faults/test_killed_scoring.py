"""A cpu worker killed in the middle of an eval run: nothing is lost, nothing is judged twice."""

from sqlalchemy import func, select

from app.db.tables import EvalOutputItem, EvalRun
from app.evals.schemas import EvalCreate, RunCreate
from tests.support.eval_world import CLOSE, CUSTOM, EXACT, jsonl, rows
from tests.support.house import House

_ROWS = 1200


def start(house: House) -> str:
    with house.services() as services:
        body = EvalCreate.model_validate({"data_source_config": CUSTOM, "testing_criteria": [EXACT, CLOSE]})
        eval_id = services.evals.create(house.caller, body).id
    samples = [("billing", "billing" if number % 3 else "delivery") for number in range(_ROWS)]
    with house.services() as services:
        run = RunCreate.model_validate({"data_source": jsonl(rows(*samples))})
        return services.evals.start(house.caller, eval_id, run).id


def look(house: House, run_id: str) -> EvalRun:
    with house.services() as services:
        return services.work.session.get_one(EvalRun, run_id)


def test_a_run_whose_worker_is_killed_is_finished_by_the_next_one(house: House) -> None:
    run_id = start(house)
    with house.worker_process("cpu", "cpu0", look_seconds=0.1) as first:
        house.wait_until(lambda: look(house, run_id).tally["passed"] >= 50, "fifty items judged")
        first.kill()
        first.wait()
    broken = look(house, run_id)
    assert (broken.status, broken.owner is None) == ("in_progress", False)
    assert broken.tally["passed"] + broken.tally["failed"] < _ROWS
    with house.worker_process("cpu", "cpu0", look_seconds=0.1):

        def is_completed() -> bool:
            with house.services() as services:
                run = services.work.session.get_one(EvalRun, run_id)
                run.not_before = None  # the pause after a lost attempt is cut short
                return run.status == "completed"

        house.wait_until(is_completed, "the run is completed", 90)
    run = look(house, run_id)
    assert (run.owner, run.total) == (None, _ROWS)
    assert (run.tally["passed"], run.tally["failed"], run.tally["errored"]) == (800, 400, 0)
    assert run.fence >= broken.fence + 1
    with house.services() as services:
        counts = services.work.session.execute(
            select(EvalOutputItem.status, func.count())
            .where(EvalOutputItem.run_id == run_id)
            .group_by(EvalOutputItem.status)
        )
        assert dict(map(tuple, counts)) == {"pass": 800, "fail": 400}
