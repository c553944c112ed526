import json
import threading

from app.jobs.schemas import JobCreate
from tests.support.house import HOST, House
from workers.supervisor.identity import WorkerName
from workers.supervisor.round import inspect_round


def submit_text(house: House, text: str) -> str:
    with house.services() as services:
        file = services.files.create_from_stream(
            house.caller.team_id, house.caller.actor, iter([text.encode()]), filename="a.jsonl", purpose="fine-tune"
        )
    with house.services() as services:
        return services.jobs.submit(
            house.caller, JobCreate.model_validate({"model": "tiny", "training_file": file.id})
        ).id


def inspect(house: House) -> None:
    inspect_round(house.context, WorkerName("cpu0", HOST), threading.Event())


def test_a_faulty_file_fails_the_job_and_names_the_line(house: House) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    job_id = submit_text(house, f"{good}\n{good[:-1]}\n" + f"{good}\n" * 10)
    inspect(house)
    job = house.job(job_id)
    assert (job.status, job.owner) == ("failed", None)
    assert job.error is not None
    assert job.error["param"] == "training_file"
    assert any("line 2" in message.lower() for message in house.events(job_id))


def test_a_file_whose_bytes_are_gone_costs_an_attempt_not_the_job(house: House) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    job_id = submit_text(house, f"{good}\n" * 12)
    house.context.artifacts.delete(f"files/{house.job(job_id).training_file}")
    inspect(house)
    job = house.job(job_id)
    assert (job.status, job.owner, job.attempts) == ("validating_files", None, 1)


def test_several_jobs_are_inspected_in_one_round(house: House) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    jobs = [submit_text(house, f"{good}\n" * 12) for _ in range(3)]
    inspect(house)
    assert [house.job(job_id).status for job_id in jobs] == ["queued"] * 3
