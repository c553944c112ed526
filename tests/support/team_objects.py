"""Of each kind of object one row, put straight into the tables: for tests of who may see what."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.db.tables import (
    ApiKey,
    BaseModelRow,
    CheckpointPermission,
    CheckpointRow,
    Eval,
    EvalOutputItem,
    EvalRun,
    File,
    GpuLease,
    GpuReservation,
    Job,
    ServiceAccount,
    StoredCompletion,
    TeamBudget,
    TeamLimits,
    TeamMember,
    TunedModel,
    Upload,
    UsageRecord,
    User,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookHosts,
)
from app.evals.tally import empty as empty_tally
from app.ids import Prefix, new_id, random_text
from tests.support.eval_world import CUSTOM, EXACT

ABSENT = "absent-0000"
"""An id that names nothing."""
HOOK = {"name": "n", "url": "https://hooks.example.com/x", "event_types": ["fine_tuning.job.succeeded"]}
_NUMBERS = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0}
_SUPERVISED = {
    "method": {"type": "supervised", "supervised": {"hyperparameters": _NUMBERS}},
    "hyperparameters": _NUMBERS,
}


@dataclass
class Objects:
    """One object of each kind that a team has, by the name of the path parameter."""

    ids: dict[str, str] = field(default_factory=dict)

    def fill(self, template: Any) -> Any:
        """A path or body with the ids in their places."""
        if isinstance(template, dict):
            return {name: self.fill(value) for name, value in template.items()}
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        if isinstance(template, str):
            for name, value in self.ids.items():
                template = template.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        return template

    def absent(self) -> "Objects":
        """The same kinds, none of which exists."""
        return Objects(dict.fromkeys(self.ids, ABSENT))


def add_base(session: Session) -> None:
    """The base `tiny`, which all teams share."""
    session.merge(
        BaseModelRow(
            id="tiny",
            folder="tiny",
            kind="decoder",
            licence="MIT",
            source="test",
            context_length=512,
            parameters=1,
            has_chat_template=True,
            files={},
            weights_sha256="0" * 64,
            created_at=datetime.now(UTC),
        )
    )
    session.flush()


def add_objects(session: Session, team_id: str) -> Objects:
    """Rows of a team, one of each kind. A job's are over, so that its stream ends."""
    unique = random_text(8)
    ids = _new_ids(team_id, unique)
    groups = [
        *_data(team_id, ids, unique),
        *_work(team_id, ids, unique),
        *_consumption(session, team_id, ids),
        *_webhooks(team_id, ids),
    ]
    for group in groups:
        session.add_all(group)
        session.flush()
    return Objects(ids)


def _new_ids(team_id: str, unique: str) -> dict[str, str]:
    return {
        "project_id": team_id,
        "base_id": "tiny",
        "file_id": new_id(Prefix.FILE),
        "upload_id": new_id(Prefix.UPLOAD),
        "key_id": new_id(Prefix.KEY),
        "account_id": new_id(Prefix.SERVICE_ACCOUNT),
        "user_id": new_id(Prefix.USER),
        "job_id": new_id(Prefix.JOB),
        "checkpoint": new_id(Prefix.CHECKPOINT),
        "evaluation_id": new_id(Prefix.EVALUATION),
        "model": f"ft:tiny:t:s:{unique}",
        "permission_id": new_id(Prefix.PERMISSION),
        "completion_id": new_id(Prefix.CHAT_COMPLETION),
        "eval_id": new_id(Prefix.EVAL),
        "run_id": new_id(Prefix.EVAL_RUN),
        "output_item_id": new_id(Prefix.OUTPUT_ITEM),
        "endpoint_id": new_id(Prefix.WEBHOOK_ENDPOINT),
        "delivery_id": new_id(Prefix.WEBHOOK_DELIVERY),
    }


def _data(team_id: str, ids: dict[str, str], unique: str) -> list[list[Any]]:
    """Files, people and keys, evals, kept completions."""
    now = datetime.now(UTC)
    owned = {"team_id": team_id, "created_at": now}
    content = {"bytes": 1, "purpose": "fine-tune", "filename": "f.jsonl"}
    return [
        [
            File(id=ids["file_id"], sha256="0" * 64, artifact_key=f"f/{unique}", **content, **owned),
            ServiceAccount(id=ids["account_id"], name="a", role="trainer", **owned),
            User(id=ids["user_id"], email=f"{unique.lower()}@example.com", name="u"),
            Eval(
                id=ids["eval_id"],
                name="e",
                data_source_config=CUSTOM,
                testing_criteria=[EXACT],
                updated_at=now,
                created_by="key:k",
                **owned,
            ),
            StoredCompletion(
                id=ids["completion_id"], model="tiny", messages={"messages": []}, completion={"id": "c"}, **owned
            ),
        ],
        [
            Upload(
                id=ids["upload_id"],
                mime_type="text/plain",
                status="pending",
                expires_at=now + timedelta(hours=1),
                **content,
                **owned,
            ),
            ApiKey(id=ids["key_id"], name="k", role="viewer", sha256=unique.encode(), hint="…", **owned),
            TeamMember(team_id=team_id, user_id=ids["user_id"], role="viewer"),
        ],
    ]


def _work(team_id: str, ids: dict[str, str], unique: str) -> list[list[Any]]:
    """Models, jobs, runs, and what hangs on them."""
    now = datetime.now(UTC)
    owned = {"team_id": team_id, "created_at": now}
    by = {"created_by": "key:k"}
    job = {"base_id": "tiny", "training_file": ids["file_id"], "seed": 1, **_SUPERVISED}
    over = {"status": "failed", "finished_at": now, "error": {"code": "c", "message": "m", "param": None}}
    archive = {"archive_key": f"a/{unique}", "archive_sha256": "a" * 64, "archive_bytes": 1, "adapter_sha256": "a" * 64}
    run = {"status": "completed", "data_source": {"type": "jsonl"}, "tally": empty_tally(1), "total": 1}
    return [
        [
            TunedModel(
                id=ids["model"],
                base_id="tiny",
                job_id=ids["job_id"],
                step=1,
                is_final=True,
                files={},
                **archive,
                **owned,
            ),
            Job(id=ids["job_id"], purpose="training", **job, **over, **by, **owned),
            EvalRun(id=ids["run_id"], eval_id=ids["eval_id"], name="r", **run, **by, **owned),
        ],
        [
            CheckpointRow(
                id=new_id(Prefix.CHECKPOINT), job_id=ids["job_id"], step=1, model_id=ids["model"], metrics={}
            ),
            CheckpointPermission(
                id=ids["permission_id"], model_id=ids["model"], team_id="team_z", owner_team_id=team_id, created_at=now
            ),
            Job(
                id=ids["evaluation_id"],
                purpose="evaluation",
                parent_model_id=ids["model"],
                **job,
                **over,
                **by,
                **owned,
            ),
            EvalOutputItem(
                id=ids["output_item_id"],
                run_id=ids["run_id"],
                position=0,
                item={"label": "a"},
                status="pass",
                sample={},
                results=[],
                created_at=now,
            ),
        ],
    ]


def _consumption(session: Session, team_id: str, ids: dict[str, str]) -> list[list[Any]]:
    """What the team may have, has reserved and has used; the first two exist once a team."""
    now, job_id = datetime.now(UTC), ids["job_id"]
    group: list[Any] = [
        GpuLease(
            job_id=job_id,
            fence=1,
            team_id=team_id,
            worker_id="w",
            device_kind="cpu",
            gpus=1,
            started_at=now,
            ended_at=now,
        ),
        GpuReservation(job_id=job_id, team_id=team_id, gpu_seconds=1.0, cost=Decimal(0)),
        UsageRecord(
            team_id=team_id,
            member="key:k",
            object_id=job_id,
            kind="gpu_seconds",
            source=f"{job_id}/1",
            device_kind="cpu",
            quantity=1.0,
            started_at=now,
            ended_at=now,
            cost=Decimal(0),
        ),
    ]
    if session.get(TeamLimits, team_id) is None:
        group += [TeamLimits(team_id=team_id), TeamBudget(team_id=team_id), WebhookHosts(team_id=team_id)]
    return [group]


def _webhooks(team_id: str, ids: dict[str, str]) -> list[list[Any]]:
    endpoint_id, delivery_id = ids["endpoint_id"], ids["delivery_id"]
    told = {"event_type": "fine_tuning.job.succeeded", "event_id": f"evt_{delivery_id}", "body": "{}"}
    return [
        [WebhookEndpoint(id=endpoint_id, team_id=team_id, created_by="key:k", secret="whsec_c2VjcmV0", **HOOK)],
        [WebhookDelivery(id=delivery_id, endpoint_id=endpoint_id, team_id=team_id, status="failed", **told)],
    ]
