"""Builds every service for one unit of work; used by the API, the tasks, the CLI and the tests."""

from functools import cached_property

from app.audit.service import AuditService
from app.bases.service import BaseService
from app.chat.service import ChatService
from app.context import Context
from app.datasets.service import DatasetService
from app.db.engine import UnitOfWork
from app.evals.service import EvalService
from app.evals.worker_service import EvalWorkerService
from app.files.service import FileService
from app.files.uploads import UploadService
from app.identity.accounts import AccountService
from app.identity.admission import AdmissionService
from app.identity.people import PeopleService
from app.identity.projects import ProjectService
from app.identity.service import IdentityService
from app.jobs.evaluations import EvaluationService
from app.jobs.queue_service import QueueService
from app.jobs.service import JobService
from app.jobs.worker_service import JobWorkerService
from app.login.service import LoginService
from app.pool.limits import LimitsService
from app.pool.service import PoolService
from app.previews.service import PreviewService
from app.registry.service import RegistryService
from app.stages.service import StageService
from app.usage.budgets import BudgetService
from app.usage.ledger import UsageLedger
from app.usage.service import UsageService
from app.webhooks.delivering import DeliveryService
from app.webhooks.hosts import WebhookHostService
from app.webhooks.outbox import Outbox
from app.webhooks.service import WebhookService


class Services:
    """The verbs of all features over one unit of work, each built at first use."""

    def __init__(self, context: Context, work: UnitOfWork) -> None:
        self.context = context
        self.work = work

    @cached_property
    def audit(self) -> AuditService:
        return AuditService(self.work)

    @cached_property
    def identity(self) -> IdentityService:
        return IdentityService(self.work, self.audit, self.context.clock)

    @cached_property
    def projects(self) -> ProjectService:
        return ProjectService(self.work, self.identity, self.audit, self.context.clock)

    @cached_property
    def accounts(self) -> AccountService:
        return AccountService(self.work, self.identity, self.projects, self.audit, self.context.clock)

    @cached_property
    def people(self) -> PeopleService:
        return PeopleService(self.work, self.projects, self.audit, self.context.clock)

    @cached_property
    def admission(self) -> AdmissionService:
        return AdmissionService(self.work, self.audit, self.context.clock)

    @cached_property
    def login(self) -> LoginService:
        return LoginService(self.work, self.context, self.identity, self.admission, self.audit)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.work.session)

    @cached_property
    def webhooks(self) -> WebhookService:
        return WebhookService(self.work, self.context, self.audit)

    @cached_property
    def webhook_hosts(self) -> WebhookHostService:
        return WebhookHostService(self.work, self.projects, self.audit)

    @cached_property
    def deliveries(self) -> DeliveryService:
        return DeliveryService(self.work, self.context, self.webhooks, self.audit)

    @cached_property
    def usage_ledger(self) -> UsageLedger:
        return UsageLedger(self.work.session, self.context.settings)

    @cached_property
    def budgets(self) -> BudgetService:
        return BudgetService(self.work.session, self.context.settings, self.outbox, self.audit)

    @cached_property
    def usage(self) -> UsageService:
        return UsageService(self.work, self.context, self.audit)

    @cached_property
    def files(self) -> FileService:
        return FileService(self.work, self.context, self.audit, self.budgets)

    @cached_property
    def uploads(self) -> UploadService:
        return UploadService(self.work, self.context, self.files, self.audit, self.budgets)

    @cached_property
    def datasets(self) -> DatasetService:
        return DatasetService(self.files)

    @cached_property
    def bases(self) -> BaseService:
        return BaseService(self.work, self.context, self.audit)

    @cached_property
    def registry(self) -> RegistryService:
        return RegistryService(self.work, self.context, self.bases, self.audit)

    @cached_property
    def pool(self) -> PoolService:
        return PoolService(self.work, self.context, self.audit)

    @cached_property
    def limits(self) -> LimitsService:
        return LimitsService(self.work, self.audit)

    @cached_property
    def jobs(self) -> JobService:
        return JobService(
            self.work,
            self.context,
            self.files,
            self.bases,
            self.registry,
            self.pool,
            self.limits,
            self.audit,
            self.outbox,
            self.budgets,
        )

    @cached_property
    def job_queue(self) -> QueueService:
        return QueueService(self.work, self.jobs, self.pool)

    @cached_property
    def evaluations(self) -> EvaluationService:
        return EvaluationService(
            self.work, self.files, self.registry, self.limits, self.audit, self.outbox, self.budgets
        )

    @cached_property
    def job_worker(self) -> JobWorkerService:
        return JobWorkerService(
            self.work,
            self.context,
            self.files,
            self.datasets,
            self.bases,
            self.registry,
            self.pool,
            self.audit,
            self.outbox,
            self.usage_ledger,
            self.budgets,
        )

    @cached_property
    def chat(self) -> ChatService:
        return ChatService(self.work, self.context, self.bases, self.registry)

    @cached_property
    def stages(self) -> StageService:
        return StageService(self.registry, self.jobs, self.evaluations, self.audit)

    @cached_property
    def evals(self) -> EvalService:
        return EvalService(self.work, self.context, self.files, self.chat, self.audit, self.outbox)

    @cached_property
    def eval_worker(self) -> EvalWorkerService:
        return EvalWorkerService(
            self.work, self.context, self.files, self.chat, self.audit, self.outbox, self.usage_ledger
        )

    @cached_property
    def previews(self) -> PreviewService:
        return PreviewService(self.files, self.registry)
