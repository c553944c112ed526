"""The verbs of the lists that bound where a team's webhooks go."""

from collections.abc import Mapping, Sequence

from app.audit.service import AuditService
from app.db.engine import UnitOfWork
from app.errors import Forbidden
from app.identity.caller import Caller
from app.identity.projects import ProjectService
from app.webhooks.allowlist import Allowlist
from app.webhooks.repository import WebhookRepository


class WebhookHostService:
    def __init__(self, work: UnitOfWork, projects: ProjectService, audit: AuditService) -> None:
        self._repository = WebhookRepository(work.session)
        self._projects = projects
        self._audit = audit

    def get(self, caller: Caller, project_id: str) -> Allowlist:
        """`NotFound` for a team that is absent, or not the caller's unless the caller is an operator."""
        with self._projects.reach(caller, project_id):
            return self._repository.allowlist(project_id)

    def change(self, caller: Caller, project_id: str, changes: Mapping[str, Sequence[str] | None]) -> Allowlist:
        """Set what is named; endpoints that are there and no longer allowed get nothing from their next attempt on.

        `Forbidden` for an admin who would change the operator's list.
        """
        if "operator_hosts" in changes and not caller.is_operator:
            raise Forbidden(
                "'operator_hosts' is the operator's list. Set 'hosts', which is your team's.", param="operator_hosts"
            )
        with self._projects.reach(caller, project_id):
            before = self._repository.allowlist(project_id)
            if changes:
                self._repository.save_allowlist(project_id, changes)
                self._audit.record(
                    project_id,
                    caller.actor,
                    "webhook_hosts.update",
                    project_id,
                    before={name: getattr(before, name) for name in changes},
                    after=dict(changes),
                )
            return self._repository.allowlist(project_id)
