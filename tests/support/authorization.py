"""What every route needs to be asked properly, for the authorization matrix: a route that is not here fails the build.

The objects that it is asked about are in `team_objects`.
"""

from dataclasses import dataclass
from typing import Any

from tests.support.eval_world import CUSTOM, EXACT
from tests.support.team_objects import HOOK

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
    "POST /v1/webhook_endpoints": Entry(HOOK),
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
