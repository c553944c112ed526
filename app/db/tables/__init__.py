"""All tables, so that the metadata is whole wherever one of them is imported."""

from app.db.tables.api_keys import ApiKey
from app.db.tables.audit_events import AuditEvent
from app.db.tables.audit_heads import AuditHead
from app.db.tables.base_models import BaseModelRow
from app.db.tables.checkpoint_permissions import CheckpointPermission
from app.db.tables.checkpoints import CheckpointRow
from app.db.tables.eval_output_items import EvalOutputItem
from app.db.tables.eval_runs import EvalRun
from app.db.tables.evals import Eval
from app.db.tables.files import File
from app.db.tables.idempotency_keys import IdempotencyKey
from app.db.tables.job_events import JobEvent
from app.db.tables.job_metrics import JobMetric
from app.db.tables.jobs import Job
from app.db.tables.login_steps import LoginStep
from app.db.tables.pending_artifacts import PendingArtifact
from app.db.tables.service_accounts import ServiceAccount
from app.db.tables.stored_completions import StoredCompletion
from app.db.tables.team_limits import TeamLimits
from app.db.tables.teams import Team
from app.db.tables.tuned_models import TunedModel
from app.db.tables.uploads import Upload, UploadPart
from app.db.tables.usage import GpuLease, GpuReservation, Price, TeamBudget, UsageMonth, UsageRecord
from app.db.tables.users import TeamMember, User
from app.db.tables.webhooks import WebhookDelivery, WebhookEndpoint, WebhookHosts
from app.db.tables.workers import Worker

__all__ = [
    "ApiKey",
    "AuditEvent",
    "AuditHead",
    "BaseModelRow",
    "CheckpointPermission",
    "CheckpointRow",
    "Eval",
    "EvalOutputItem",
    "EvalRun",
    "File",
    "GpuLease",
    "GpuReservation",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobMetric",
    "LoginStep",
    "PendingArtifact",
    "Price",
    "ServiceAccount",
    "StoredCompletion",
    "Team",
    "TeamBudget",
    "TeamLimits",
    "TeamMember",
    "TunedModel",
    "Upload",
    "UploadPart",
    "UsageMonth",
    "UsageRecord",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookHosts",
    "Worker",
]
