"""What a job will take: before it is made, when it is made, when its rows are known, and beside what it took."""

import pytest
from sqlalchemy import func, select, update

from app.contracts.reports import Encoded
from app.db.tables import GpuLease, GpuReservation, Job, JobEvent, Price, Worker
from app.jobs.estimates import count_rows
from app.jobs.memory_estimate import memory_bytes
from tests.support.job_world import adapter, chat_rows, clients_world, metric

PATH = "/v1/fine_tuning/jobs"


@pytest.fixture
def world(services, api_key):
    return clients_world(services, api_key)


def encoded(tokens):
    return Encoded(
        run_id="r",
        rows_in=24,
        rows_trained=24,
        dropped=(),
        truncated=0,
        tokens=tokens,
        supervised_tokens=tokens // 2,
        longest=20,
        total_steps=24,
        trainable_parameters=100,
        targets=("q",),
    )


def done(world, *, rows, seconds):
    """A job that trained `rows` rows, ten tokens each, in so many seconds."""
    job_id = world.submit(
        rows=chat_rows(rows), method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    )
    world.validate()
    task = world.claim()
    tokens = 10 * world.job(job_id).dataset_report["split"]["train_rows"]
    with world.services() as s:
        s.job_worker.record_encoded(job_id, task.fence, encoded(tokens))
        s.job_worker.record_metrics(job_id, task.fence, [metric(1, trained_tokens=2 * tokens)])
        s.job_worker.publish_checkpoint(job_id, task.fence, 1, adapter(job_id), None, is_final=True)
        s.work.session.execute(
            update(GpuLease)
            .where(GpuLease.job_id == job_id)
            .values(started_at=GpuLease.started_at - func.make_interval(0, 0, 0, 0, 0, 0, seconds))
        )
    with world.services() as s:
        s.job_worker.succeed(job_id, task.fence, trained_tokens=2 * tokens)
    return job_id


@pytest.fixture
def pool(world):
    with world.services() as s:
        s.work.session.add(
            Worker(
                id="host-0",
                incarnation="first",
                host="h",
                device={"device": "cuda:0"},
                heartbeat_at=func.clock_timestamp(),
            )
        )


def ask(client, **body):
    answer = client.post(f"{PATH}/estimate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(world):
    with world.services() as s:
        return [
            s.work.session.scalar(select(func.count()).select_from(table)) for table in (Job, JobEvent, GpuReservation)
        ]


def test_where_nothing_has_run_the_time_is_null_with_its_reason_and_nothing_is_stored(client, world):
    before = counts(world)
    found = ask(client, model="tiny", training_file=world.add_file(chat_rows(200)))
    assert counts(world) == before
    assert (found["gpu_seconds"], found["energy_wh"], found["device_kind"]) == (None, None, None)
    assert "no job on this base" in found["gpu_seconds_basis"]
    assert found["cost"] == {"value": 0.0, "currency": "usd"}
    assert found["based_on"] == "rows"
    assert found["rows"] == 162
    assert found["steps"] == -(-162 // found["batch_size"]) * found["n_epochs"]
    assert found["tokens"] > 0
    assert found["memory_bytes"] > 0


def test_a_price_by_the_hour_makes_the_cost_unknown_while_the_time_is(client, world):
    client.post("/v1/organization/prices", json={"kind": "gpu_hour", "amount": 2})
    found = ask(client, model="tiny", training_file=world.add_file(chat_rows(50)))
    assert found["cost"] is None


def test_the_same_refusals_as_for_a_job(client, world):
    for body in (
        {"model": "absent", "training_file": world.add_file(chat_rows(5))},
        {"model": "tiny", "training_file": "file-absent"},
        {"model": "tiny", "training_file": world.add_file(b"x", purpose="user_data", filename="a.txt")},
        {"model": "tiny", "training_file": world.add_file(chat_rows(5)), "method": {"type": "reinforcement"}},
    ):
        answers = [client.post(path, json=body) for path in (PATH, f"{PATH}/estimate")]
        assert answers[0].status_code == answers[1].status_code == 400
        assert answers[0].json() == answers[1].json()


def test_time_and_cost_come_from_earlier_jobs_and_the_actual_stands_beside_them(client, world, pool):
    client.post("/v1/organization/prices", json={"kind": "gpu_hour", "amount": 36})
    with world.services() as s:
        # The leases below begin in the past.
        s.work.session.execute(update(Price).values(effective_at=Price.effective_at - func.make_interval(0, 0, 0, 1)))
    for rows, seconds in ((100, 30), (200, 50), (400, 90)):
        done(world, rows=rows, seconds=seconds)
    body = {"n_epochs": 2}
    file_id = world.add_file(chat_rows(300))
    found = ask(
        client,
        model="tiny",
        training_file=file_id,
        method={"type": "supervised", "supervised": {"hyperparameters": body}},
    )
    assert found["gpu_seconds"] == pytest.approx(70, rel=0.1)
    assert found["device_kind"] == "cuda"
    assert found["cost"]["value"] == pytest.approx(found["gpu_seconds"] / 100, rel=0.01)
    assert found["energy_wh"] == pytest.approx(found["gpu_seconds"] * 350 / 3600, rel=0.01)
    job_id = done(world, rows=300, seconds=100)
    job = client.get(f"{PATH}/{job_id}").json()
    assert job["estimate"]["based_on"] == "validated_files"
    assert job["estimate"]["gpu_seconds"] == pytest.approx(70, rel=0.1)
    quoted, billed = job["estimate"]["gpu_seconds"], job["usage"]["gpu_seconds"]
    assert billed == pytest.approx(100, rel=0.1)
    off = job["quoted_vs_billed"]
    assert off["gpu_seconds_percent"] == pytest.approx(100 * (quoted - billed) / billed, abs=0.2)
    assert abs(off["tokens_percent"]) < 5
    assert off["cost_percent"] == pytest.approx(off["gpu_seconds_percent"], abs=0.5)


def test_a_job_reserves_its_estimate_and_more_exactly_once_its_rows_are_known(world, pool, services):
    for rows, seconds in ((100, 300), (400, 900)):
        done(world, rows=rows, seconds=seconds)
    job_id = world.submit(rows=chat_rows(200))
    first = world.job(job_id).estimate
    with services() as s:
        assert s.work.session.get_one(GpuReservation, job_id).gpu_seconds == pytest.approx(first["gpu_seconds"])
    world.validate()
    second = world.job(job_id).estimate
    assert (first["based_on"], second["based_on"]) == ("bytes", "validated_files")
    assert first["gpu_seconds"] != second["gpu_seconds"]
    with services() as s:
        assert s.work.session.get_one(GpuReservation, job_id).gpu_seconds == pytest.approx(second["gpu_seconds"])


def test_a_resumed_job_reserves_only_its_rest(client, world, pool, services):
    done(world, rows=400, seconds=900)
    task = world.running(rows=chat_rows(400))
    quoted = world.job(task.job_id).estimate["gpu_seconds"]
    with services() as s:
        s.work.session.execute(
            update(GpuLease)
            .where(GpuLease.job_id == task.job_id)
            .values(started_at=GpuLease.started_at - func.make_interval(0, 0, 0, 0, 0, 0, 300))
        )
    with services() as s:
        s.jobs.pause(world.team, task.job_id)
    with services() as s:
        s.job_worker.release(task.job_id, task.fence)
    with services() as s:
        s.jobs.resume(world.team, task.job_id)
    budget = client.get(f"/v1/organization/projects/{world.team.team_id}/budget").json()
    assert budget["reserved"]["gpu_seconds"] == pytest.approx(quoted - 300, abs=10)


@pytest.mark.parametrize(
    ("chunks", "rows"),
    [([b""], 0), ([b"a\nb\n", b"c"], 3), ([b"a", b"b\n\n\n", b"\nc\n"], 2), ([b"  \n\t\n"], 0), ([b"x\r\n" * 10], 10)],
)
def test_lines_that_hold_anything_are_counted_wherever_chunks_end(chunks, rows):
    assert count_rows(iter(chunks), sum(map(len, chunks))) == rows


def test_a_large_file_is_taken_to_be_like_its_beginning():
    chunk = b"0123456\n" * 131_072
    given = []

    def chunks():
        for _ in range(1000):
            given.append(1)
            yield chunk

    assert count_rows(chunks(), 1000 * len(chunk)) == 1000 * 131_072
    assert len(given) == 4


def test_memory_grows_with_base_rank_and_full_tuning_and_shrinks_with_four_bits():
    def of(*, parameters=500_000_000, rank=16, is_4_bit=False, device="cuda"):
        return memory_bytes(parameters=parameters, rank=rank, is_4_bit=is_4_bit, device_kind=device)

    assert of(is_4_bit=True) < of() < of(rank=64) < of(rank=None)
    assert of() < of(parameters=7_000_000_000)
    # LoRA of a 7 B base at 16 bits fits one 80 GB card; every weight in fp32 with its moments does not.
    assert of(parameters=7_000_000_000) < 80e9 < of(parameters=7_000_000_000, rank=None)
