"""What every route needs to be asked properly, for the authorization matrix: a route that is not here fails the build.

Objects are rows put straight into the tables, so that each route has one of each kind to be asked about.
"""

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
_ALL_BUT_REFUSALS = frozenset({200, 400, 409, 413, 429, 503})


@dataclass(frozen=True)
class Entry:
    """How a route is asked. `body` may name objects by their parameter, as `{file_id}`."""

    body: dict[str, Any] | None = None
    right: frozenset[int] = _ALL_BUT_REFUSALS
    """What the right key may be answered."""
    shared: bool = False
    """The object belongs to the installation, and every team may see it."""


_MESSAGES = [{"role": "user", "content": "hi"}]
_NAME = {"name": "n"}
_HOOK = {"name": "n", "url": "https://hooks.example.com/x", "event_types": ["fine_tuning.job.succeeded"]}
_NUMBERS = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0}
_SUPERVISED = {
    "method": {"type": "supervised", "supervised": {"hyperparameters": _NUMBERS}},
    "hyperparameters": _NUMBERS,
}
_PLAIN = Entry()
_REFUSABLE = Entry(right=_ALL_BUT_REFUSALS | {404})
"""The object is there, and this part of it is not: nothing trained it."""
_UNSERVED = _ALL_BUT_REFUSALS | {500}
"""The model's row has no bytes in the store."""
ENTRIES: dict[str, Entry] = {
    "GET /v1/audit": _PLAIN,
    # A key is no session.
    "GET /v1/auth/session": _REFUSABLE,
    "POST /v1/auth/logout": _REFUSABLE,
    "GET /v1/organization/audit_logs": _PLAIN,
    "GET /v1/organization/audit_logs/head": _PLAIN,
    "GET /v1/organization/audit_logs/rows": _PLAIN,
    "GET /v1/organization/audit_logs/verify": _PLAIN,
    "POST /v1/teams/keys": Entry(_NAME),
    "GET /v1/teams/keys": _PLAIN,
    "DELETE /v1/teams/keys/{key_id}": _PLAIN,
    "GET /v1/organization/projects": _PLAIN,
    "POST /v1/organization/projects": Entry(_NAME),
    "GET /v1/organization/projects/{project_id}": _PLAIN,
    "POST /v1/organization/projects/{project_id}": Entry(_NAME),
    "POST /v1/organization/projects/{project_id}/archive": _PLAIN,
    "GET /v1/organization/projects/{project_id}/api_keys": _PLAIN,
    "GET /v1/organization/projects/{project_id}/api_keys/{key_id}": _PLAIN,
    "DELETE /v1/organization/projects/{project_id}/api_keys/{key_id}": _PLAIN,
    "GET /v1/organization/projects/{project_id}/service_accounts": _PLAIN,
    "POST /v1/organization/projects/{project_id}/service_accounts": Entry(_NAME),
    "GET /v1/organization/projects/{project_id}/service_accounts/{account_id}": _PLAIN,
    "POST /v1/organization/projects/{project_id}/service_accounts/{account_id}": Entry(_NAME),
    "DELETE /v1/organization/projects/{project_id}/service_accounts/{account_id}": _PLAIN,
    "POST /v1/organization/projects/{project_id}/service_accounts/{account_id}/api_keys": Entry(_NAME),
    "GET /v1/organization/projects/{project_id}/users": _PLAIN,
    "POST /v1/organization/projects/{project_id}/users": Entry({"role": "viewer", "email": "new@example.com"}),
    "GET /v1/organization/projects/{project_id}/users/{user_id}": _PLAIN,
    "POST /v1/organization/projects/{project_id}/users/{user_id}": Entry({"role": "trainer"}),
    "DELETE /v1/organization/projects/{project_id}/users/{user_id}": _PLAIN,
    "GET /v1/organization/users": _PLAIN,
    "GET /v1/organization/users/{user_id}": _PLAIN,
    "POST /v1/organization/users/{user_id}": Entry({"role": "reader"}),
    "DELETE /v1/organization/users/{user_id}": _PLAIN,
    "GET /v1/organization/admin_api_keys": _PLAIN,
    "POST /v1/organization/admin_api_keys": Entry(_NAME),
    "GET /v1/organization/admin_api_keys/{key_id}": _REFUSABLE,
    "DELETE /v1/organization/admin_api_keys/{key_id}": _REFUSABLE,
    "POST /v1/files": _PLAIN,
    "GET /v1/files": _PLAIN,
    "GET /v1/files/{file_id}": _PLAIN,
    "DELETE /v1/files/{file_id}": _PLAIN,
    # The row's bytes are not in the store.
    "GET /v1/files/{file_id}/content": _REFUSABLE,
    "POST /v1/files/{file_id}/preview": Entry({"model": "tiny"}, right=_ALL_BUT_REFUSALS | {404}),
    "POST /v1/uploads": Entry({"bytes": 1, "filename": "f", "mime_type": "text/plain", "purpose": "fine-tune"}),
    "POST /v1/uploads/{upload_id}/parts": _PLAIN,
    "POST /v1/uploads/{upload_id}/complete": Entry({"part_ids": []}),
    "POST /v1/uploads/{upload_id}/cancel": _PLAIN,
    "POST /v1/bases": Entry({"id": "tiny", "licence": "MIT", "source": "test"}, right=_ALL_BUT_REFUSALS | {404}),
    "GET /v1/bases": _PLAIN,
    "GET /v1/bases/{base_id}": Entry(shared=True),
    "DELETE /v1/bases/{base_id}": _PLAIN,
    "GET /v1/models": _PLAIN,
    "GET /v1/models/{model:path}": _PLAIN,
    "DELETE /v1/models/{model:path}": _PLAIN,
    "GET /v1/models/{model:path}/adapter": _REFUSABLE,
    "GET /v1/models/{model:path}/stage": _PLAIN,
    "POST /v1/models/{model:path}/stage": Entry({"stage": "approved"}, right=_REFUSABLE.right),
    "POST /v1/models/{model:path}/predict": Entry({"inputs": "hi"}, right=_UNSERVED),
    "POST /v1/fine_tuning/checkpoints/{model:path}/permissions": Entry({"project_ids": ["team_x"]}),
    "GET /v1/fine_tuning/checkpoints/{model:path}/permissions": _PLAIN,
    "DELETE /v1/fine_tuning/checkpoints/{model:path}/permissions/{permission_id}": _PLAIN,
    "GET /v1/pool": _PLAIN,
    "POST /v1/fine_tuning/jobs": Entry({"model": "tiny", "training_file": "{file_id}"}),
    "GET /v1/fine_tuning/jobs": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}": _PLAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": _PLAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/pause": _PLAIN,
    "POST /v1/fine_tuning/jobs/{job_id}/resume": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/events": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/metrics": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/evaluation": _REFUSABLE,
    "GET /v1/fine_tuning/jobs/{job_id}/evaluation/report": _REFUSABLE,
    "GET /v1/fine_tuning/jobs/{job_id}/stream": _PLAIN,
    "POST /v1/evaluations": Entry({"model": "{model}", "file": "{file_id}"}),
    "GET /v1/evaluations": _PLAIN,
    "GET /v1/evaluations/{evaluation_id}": _PLAIN,
    "POST /v1/evaluations/{evaluation_id}/cancel": _PLAIN,
    "GET /v1/evaluations/{evaluation_id}/events": _PLAIN,
    "GET /v1/evaluations/{evaluation_id}/report": _REFUSABLE,
    "GET /v1/evaluations/{evaluation_id}/stream": _PLAIN,
    "POST /v1/chat/completions": Entry({"model": "{model}", "messages": _MESSAGES}, right=_UNSERVED),
    "POST /v1/completions": Entry({"model": "{model}", "prompt": "hi"}, right=_UNSERVED),
    "GET /v1/chat/completions": _PLAIN,
    "GET /v1/chat/completions/{completion_id}": _PLAIN,
    "POST /v1/chat/completions/{completion_id}": Entry({"metadata": {"a": "b"}}),
    "DELETE /v1/chat/completions/{completion_id}": _PLAIN,
    "GET /v1/chat/completions/{completion_id}/messages": _PLAIN,
    "POST /v1/evals": Entry({"data_source_config": CUSTOM, "testing_criteria": [EXACT]}),
    "GET /v1/evals": _PLAIN,
    "GET /v1/evals/{eval_id}": _PLAIN,
    "POST /v1/evals/{eval_id}": Entry(_NAME),
    "DELETE /v1/evals/{eval_id}": _PLAIN,
    "POST /v1/evals/{eval_id}/runs": Entry(
        {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"label": "a"}}]}}}
    ),
    "GET /v1/evals/{eval_id}/runs": _PLAIN,
    "GET /v1/evals/{eval_id}/runs/{run_id}": _PLAIN,
    "DELETE /v1/evals/{eval_id}/runs/{run_id}": _PLAIN,
    "POST /v1/evals/{eval_id}/runs/{run_id}": _PLAIN,
    "POST /v1/evals/{eval_id}/runs/{run_id}/cancel": _PLAIN,
    "GET /v1/evals/{eval_id}/runs/{run_id}/output_items": _PLAIN,
    "GET /v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}": _PLAIN,
    "GET /v1/fine_tuning/jobs/{job_id}/queue": _PLAIN,
    # The file's bytes, which are counted, are not in the store.
    "POST /v1/fine_tuning/jobs/estimate": Entry(
        {"model": "tiny", "training_file": "{file_id}"}, right=_REFUSABLE.right
    ),
    "GET /v1/organization/costs": _PLAIN,
    "GET /v1/organization/prices": _PLAIN,
    "POST /v1/organization/prices": Entry({"kind": "gpu_hour", "amount": 1}),
    "GET /v1/organization/usage/export.csv": _PLAIN,
    # `kind` names a report, not an object.
    "GET /v1/organization/usage/{kind}": _REFUSABLE,
    "GET /v1/organization/projects/{project_id}/budget": _PLAIN,
    "POST /v1/organization/projects/{project_id}/budget": Entry({"gpu_seconds_per_month": 1e9}),
    "GET /v1/organization/projects/{project_id}/limits": _PLAIN,
    "POST /v1/organization/projects/{project_id}/limits": Entry({"weight": 2.0}),
    # No worker is there.
    "POST /v1/pool/workers/{worker_id}/drain": _REFUSABLE,
    "POST /v1/pool/workers/{worker_id}/resume": _REFUSABLE,
    "GET /v1/organization/projects/{project_id}/webhook_hosts": _PLAIN,
    "POST /v1/organization/projects/{project_id}/webhook_hosts": Entry({"hosts": ["hooks.example.com"]}),
    "GET /v1/webhook_event_types": _PLAIN,
    "GET /v1/webhook_endpoints": _PLAIN,
    "POST /v1/webhook_endpoints": Entry(_HOOK),
    "GET /v1/webhook_endpoints/{endpoint_id}": _PLAIN,
    "POST /v1/webhook_endpoints/{endpoint_id}": Entry(_NAME),
    "DELETE /v1/webhook_endpoints/{endpoint_id}": _PLAIN,
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret": _PLAIN,
    "POST /v1/webhook_endpoints/{endpoint_id}/test": Entry({"event_type": "fine_tuning.job.succeeded"}),
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries": _PLAIN,
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}": _PLAIN,
    "POST /v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver": _PLAIN,
    "POST /v1/fine_tuning/alpha/graders/validate": Entry({"grader": EXACT}),
    "POST /v1/fine_tuning/alpha/graders/run": Entry({"grader": EXACT, "model_sample": "a", "item": {"label": "a"}}),
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
        [WebhookEndpoint(id=endpoint_id, team_id=team_id, created_by="key:k", secret="whsec_c2VjcmV0", **_HOOK)],
        [WebhookDelivery(id=delivery_id, endpoint_id=endpoint_id, team_id=team_id, status="failed", **told)],
    ]
