"""A small world for tests of jobs: teams, a base, files, and jobs brought to any state through the services."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager

from app.contracts.reports import Metric
from app.db.tables import BaseModelRow, Job, Team
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Role
from app.ids import Prefix, new_id
from app.jobs.schemas import JobCreate
from app.jobs.worker_messages import PublishedAdapter, TrainingTask

OWNER = "host-0/first"
LABELS = ("billing", "card", "login")


def chat_rows(count: int, *, start: int = 0) -> bytes:
    """JSONL of `count` distinct questions whose answers are one of three labels."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"question {number}"},
                    {"role": "assistant", "content": LABELS[number % 3]},
                ]
            }
        )
        for number in range(start, start + count)
    ]
    return "\n".join(lines).encode()


def preference_rows(count: int) -> bytes:
    """JSONL of `count` questions, each with the answer that is wanted and another."""
    lines = [
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": f"question {number}"}]},
                "preferred_output": [{"role": "assistant", "content": f"yes, {number}"}],
                "non_preferred_output": [{"role": "assistant", "content": f"no, not {number}"}],
            }
        )
        for number in range(count)
    ]
    return "\n".join(lines).encode()


def labelled_rows(count: int, *, several: bool = False) -> bytes:
    """JSONL of `count` texts, each with one of three labels, or (`several`) a list of one or two of them."""
    lines = []
    for number in range(count):
        labels = [LABELS[number % 3], *([LABELS[(number + 1) % 3]] if number % 2 else [])]
        label = {"labels": labels} if several else {"label": labels[0]}
        lines.append(json.dumps({"text": f"text {number}", **label}))
    return "\n".join(lines).encode()


class JobWorld:
    """Everything goes through the services, one unit of work a step."""

    def __init__(self, services: Callable[[], AbstractContextManager[Services]]) -> None:
        self.services = services
        self.base_id = "tiny"
        self.team = self.add_team("acme")
        self.add_base(self.base_id)

    def add_base(self, base_id: str, kind: str = "decoder") -> None:
        with self.services() as s:
            s.work.session.add(
                BaseModelRow(
                    id=base_id,
                    folder=base_id,
                    kind=kind,
                    licence="Apache-2.0",
                    source="made in the test",
                    context_length=128,
                    parameters=1000,
                    has_chat_template=True,
                    files={},
                    weights_sha256="0" * 64,
                )
            )

    def add_team(self, slug: str) -> Caller:
        team_id = new_id(Prefix.TEAM)
        with self.services() as s:
            s.work.session.add(Team(id=team_id, name=slug, slug=slug))
        return Caller(team_id=team_id, team_slug=slug, key_id="key_test", role=Role.ADMIN)

    def add_file(
        self, content: bytes, caller: Caller | None = None, *, purpose: str = "fine-tune", filename: str = "rows.jsonl"
    ) -> str:
        caller = caller or self.team
        with self.services() as s:
            return s.files.create_from_stream(
                caller.team_id, caller.actor, iter([content]), filename=filename, purpose=purpose
            ).id

    def submit(self, caller: Caller | None = None, *, rows: bytes | None = None, **body: object) -> str:
        """A job in `validating_files`; its id."""
        caller = caller or self.team
        if "training_file" not in body:
            body["training_file"] = self.add_file(chat_rows(30) if rows is None else rows, caller)
        with self.services() as s:
            return s.jobs.submit(caller, JobCreate.model_validate({"model": self.base_id, **body})).id

    def validate(self, **found: object) -> str | None:
        """Do what a cpu worker does for the next job; its id. `found` is laid over what inspection reports."""
        with self.services() as s:
            task = s.job_worker.claim_validation("cpu-0/first")
        if task is None:
            return None
        with self.services() as s:
            report = s.job_worker.inspect(task).model_copy(update=found)
        with self.services() as s:
            s.job_worker.finish_validation(task, report)
        return task.job_id

    def queued(self, caller: Caller | None = None, **body: object) -> str:
        job_id = self.submit(caller, **body)
        assert self.validate() == job_id
        return job_id

    def claim(self, owner: str = OWNER) -> TrainingTask | None:
        with self.services() as s:
            return s.job_worker.claim_training(owner)

    def running(self, caller: Caller | None = None, **body: object) -> TrainingTask:
        job_id = self.queued(caller, **body)
        task = self.claim()
        assert task is not None
        assert task.job_id == job_id
        return task

    def expire(self, job_id: str) -> None:
        """Let the lease run out, as if its time had passed."""
        with self.services() as s:
            job = s.work.session.get(Job, job_id)
            assert job is not None
            job.lease_until = job.created_at

    def job(self, job_id: str) -> Job:
        with self.services() as s:
            job = s.work.session.get(Job, job_id)
            assert job is not None
            return job

    def messages(self, job_id: str, caller: Caller | None = None) -> list[str]:
        """All event messages, oldest first."""
        with self.services() as s:
            page = s.jobs.events(caller or self.team, job_id, after=None, limit=1000)
        return [event.message for event in reversed(page.rows)]

    def audited(self, job_id: str) -> list[str]:
        """All audit actions on the job, oldest first."""
        with self.services() as s:
            page = s.audit.page(self.team.team_id, object_id=job_id, limit=100)
        return [event.action for event in reversed(page.rows)]


def clients_world(services: Callable[[], AbstractContextManager[Services]], api_key: str) -> JobWorld:
    """The world of the team whose key a test's client has."""
    world = JobWorld(services)
    with services() as s:
        world.team = s.identity.authenticate(api_key)
    return world


def metric(step: int, *, total_steps: int = 20, **figures: float) -> Metric:
    return Metric.model_validate(
        {
            "run_id": "r",
            "step": step,
            "total_steps": total_steps,
            "epoch": step / total_steps,
            "train_loss": 2.0 / step,
            "train_mean_token_accuracy": 0.5,
            "learning_rate": 1e-4,
            "grad_norm": 1.0,
            "tokens": 10,
            "trained_tokens": 10 * step,
            "step_seconds": 0.1,
            "eta_seconds": 60.0,
            **figures,
        }
    )


def adapter(key: str = "adapters/a") -> PublishedAdapter:
    return PublishedAdapter(
        archive_key=key, archive_sha256="1" * 64, archive_bytes=10, adapter_sha256="2" * 64, files={"x": "y"}
    )
