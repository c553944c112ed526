"""The objects openai-python's tests name, written straight into the database and the artifact store.

Test-only: nothing in the service knows of it.
"""

import hashlib
import io
import json
import tarfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from app.clock import unix_seconds
from app.context import Context
from app.contracts.specs import BaseRef
from app.db.base import Base
from app.db.tables import (
    BaseModelRow,
    CheckpointPermission,
    CheckpointRow,
    Eval,
    EvalOutputItem,
    EvalRun,
    File,
    Job,
    JobEvent,
    StoredCompletion,
    Team,
    TunedModel,
    Upload,
    UploadPart,
)
from app.evals.scoring import NO_ERROR
from app.evals.tally import added, empty
from app.factory import Services
from app.identity.policy import Role
from app.ids import Prefix, new_id

BASES = ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-3.5-turbo-instruct", "gpt-6-astra")
KEYS = ("My API Key", "My Admin API Key")
TEAM = "team_openai_suite"
JOB = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
TUNED = "ft:gpt-4o-mini:acemeco:suffix:abc123"
# One test asks for the permissions of a model that has a job's name.
CHECKPOINTS = ("ft:gpt-4o-mini-2024-07-18:org:weather:B7R9VjQd", JOB)
PERMISSION = "cp_zc4Q7MP6XxulcVzj4MZdwsAB"
PART = b"Example data"
_ROW = {"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "delivery"}]}
TRAINING = b"".join(json.dumps(_ROW).encode() + b"\n" for _ in range(20))


class Seeder:
    """`prepare` once, then `restore` before each test."""

    def __init__(self, context: Context, base: BaseRef) -> None:
        self._context = context
        self._base = base
        self._archive, self._weights_sha256 = _adapter_archive()

    def prepare(self) -> None:
        """The team and its keys, which no test changes."""
        with self._context.database.unit_of_work() as work:
            session = work.session
            # The project that permissions are given to is a team of this id.
            session.add_all([Team(id=TEAM, name="Suite", slug="acemeco"), Team(id="string", name="S", slug="string")])
            session.flush()
            identity = Services(self._context, work).identity
            for text in KEYS:
                identity.create_key_with_known_text_for_tests(TEAM, text, Role.OPERATOR, text)
        self.restore()

    def restore(self) -> None:
        """Every fixture as at the beginning, whatever a test did to it."""
        with self._context.database.unit_of_work() as work:
            self._restore_models(work.session)
            self._restore_job(work.session)
            self._restore_files(work.session)
            self._restore_completion(work.session)
            self._restore_eval(work.session)

    def _restore_models(self, session: Session) -> None:
        now = self._context.clock.now()
        for base_id in BASES:
            _put(
                session,
                BaseModelRow,
                id=base_id,
                folder=Path(self._base.path).name,
                kind="decoder",
                licence="test",
                source="built in-process",
                context_length=self._base.context_length,
                parameters=40_000,
                has_chat_template=True,
                files={path.name: _sha256(path.read_bytes()) for path in Path(self._base.path).iterdir()},
                weights_sha256=self._base.weights_sha256,
            )
        self._put_bytes("openai_suite/adapter.tar", self._archive)
        for model_id in (TUNED, *CHECKPOINTS):
            _put(
                session,
                TunedModel,
                id=model_id,
                team_id=TEAM,
                base_id=BASES[0],
                job_id=JOB,
                step=10,
                is_final=model_id == TUNED,
                adapter_sha256=self._weights_sha256,
                archive_key="openai_suite/adapter.tar",
                archive_sha256=_sha256(self._archive),
                archive_bytes=len(self._archive),
                files={"adapter_model.safetensors": self._weights_sha256},
                created_at=now,
            )
        for place, model_id in enumerate(CHECKPOINTS):
            permission_id = PERMISSION if place == 0 else f"{PERMISSION}2"
            others = select(CheckpointPermission).where(
                CheckpointPermission.model_id == model_id, CheckpointPermission.id != permission_id
            )
            for other in session.scalars(others):
                session.delete(other)
            session.flush()
            _put(
                session,
                CheckpointPermission,
                id=permission_id,
                model_id=model_id,
                team_id="project_id",
                owner_team_id=TEAM,
            )

    def _restore_job(self, session: Session) -> None:
        now = self._context.clock.now()
        _put(
            session,
            Job,
            id=JOB,
            team_id=TEAM,
            created_by="key:suite",
            status="queued",
            base_id=BASES[0],
            training_file="file-abc123",
            seed=42,
            priority=0,
            method={"type": "supervised", "supervised": {"hyperparameters": {}}},
            hyperparameters={"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0},
            dataset_report={},
            fence=0,
            attempts=0,
            created_at=now - timedelta(minutes=5),
        )
        session.flush()
        if session.scalars(select(JobEvent).where(JobEvent.job_id == JOB)).first() is None:
            message = f"Created fine-tuning job: {JOB}"
            session.add(JobEvent(id=new_id(Prefix.EVENT), job_id=JOB, level="info", type="message", message=message))
        _put(
            session,
            CheckpointRow,
            id="ftckpt_openai_suite",
            job_id=JOB,
            step=10,
            model_id=CHECKPOINTS[0],
            metrics={"step": 10, "train_loss": 0.5, "train_mean_token_accuracy": 0.9},
        )

    def _restore_files(self, session: Session) -> None:
        now = self._context.clock.now()
        for file_id in ("file-abc123", "file_id"):
            key = f"files/{file_id}"
            self._put_bytes(key, TRAINING)
            _put(
                session,
                File,
                id=file_id,
                team_id=TEAM,
                filename="train.jsonl",
                purpose="fine-tune",
                bytes=len(TRAINING),
                sha256=_sha256(TRAINING),
                artifact_key=key,
                created_at=now,
            )
        _put(
            session,
            Upload,
            id="upload_abc123",
            team_id=TEAM,
            filename="train.jsonl",
            purpose="assistants",
            mime_type="text/jsonl",
            bytes=len(PART),
            status="pending",
            created_at=now,
            expires_at=now + timedelta(hours=1),
        )
        session.flush()
        key = "uploads/upload_abc123/string"
        self._put_bytes(key, PART)
        _put(
            session,
            UploadPart,
            id="string",
            upload_id="upload_abc123",
            bytes=len(PART),
            sha256=_sha256(PART),
            artifact_key=key,
            created_at=now,
        )

    def _restore_completion(self, session: Session) -> None:
        now = self._context.clock.now()
        _put(
            session,
            StoredCompletion,
            id="completion_id",
            team_id=TEAM,
            model="gpt-6-astra",
            messages={"messages": [{"role": "user", "content": "Hello"}]},
            completion=_completion(now),
            user_metadata={"foo": "string"},
            created_at=now,
        )

    def _restore_eval(self, session: Session) -> None:
        now = self._context.clock.now()
        grader = {"type": "string_check", "name": "check", "input": "a", "reference": "a", "operation": "eq"}
        _put(
            session,
            Eval,
            id="eval_id",
            team_id=TEAM,
            created_by="key:suite",
            name="Suite",
            data_source_config={"type": "custom", "item_schema": {"foo": "bar"}},
            testing_criteria=[grader],
            created_at=now,
            updated_at=now,
        )
        session.flush()
        _put(
            session,
            EvalRun,
            id="run_id",
            eval_id="eval_id",
            team_id=TEAM,
            created_by="key:suite",
            name="Suite",
            status="queued",
            data_source={
                "type": "jsonl",
                "source": {"type": "file_content", "content": [{"item": {"foo": "bar"}}, {"item": {"foo": "baz"}}]},
            },
            tally=added(empty(1), "passed", ("passed",), ()),
            total=2,
            created_at=now,
            fence=0,
            attempts=0,
        )
        session.flush()
        _put(
            session,
            EvalOutputItem,
            id="output_item_id",
            run_id="run_id",
            position=0,
            item={"foo": "bar"},
            status="pass",
            sample=_EVAL_SAMPLE,
            results=[{"name": "check", "type": "string_check", "passed": True, "score": 1.0}],
            created_at=now,
        )

    def _put_bytes(self, key: str, data: bytes) -> None:
        try:
            self._context.artifacts.size(key)
        except KeyError:
            writer = self._context.artifacts.open_writer(key)
            writer.write(data)
            writer.commit()


def _put(session: Session, table: type[Base], **values: Any) -> None:
    """Insert the row or bring it back to these values; nullable columns not named are emptied."""
    columns = inspect(table).column_attrs
    empty = {attribute.key: None for attribute in columns if attribute.columns[0].nullable}
    session.merge(table(**{**empty, **values}))


def _completion(now: datetime) -> dict[str, Any]:
    return {
        "id": "completion_id",
        "object": "chat.completion",
        "created": unix_seconds(now),
        "model": "gpt-6-astra",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


_EVAL_SAMPLE = {
    "input": [{"role": "user", "content": "Hello"}],
    "output": [{"role": "assistant", "content": "Hi"}],
    "finish_reason": "stop",
    "model": "gpt-4o-mini",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cached_tokens": 0},
    "error": NO_ERROR,
    "temperature": 1.0,
    "max_completion_tokens": 16,
    "top_p": 1.0,
    "seed": 42,
}


def _adapter_archive() -> tuple[bytes, str]:
    """A stand-in for an adapter: no test of the suite asks a tuned model."""
    weights = b"no weights"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("adapter_model.safetensors")
        entry.size = len(weights)
        tar.addfile(entry, io.BytesIO(weights))
    return buffer.getvalue(), _sha256(weights)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
