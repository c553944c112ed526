"""Service accounts: programs of a team with keys of their own, which stop when the account goes."""

from datetime import timedelta

from app.audit.service import AuditService
from app.clock import Clock
from app.db.engine import UnitOfWork
from app.db.keyset import Page
from app.db.tables import ApiKey, ServiceAccount
from app.errors import Conflict, Forbidden, NotFound
from app.identity.caller import Caller
from app.identity.policy import Permission, Role
from app.identity.projects import ProjectService
from app.identity.repository import IdentityRepository
from app.identity.service import IdentityService, KeyOwner
from app.ids import Prefix, new_id


class AccountService:
    def __init__(
        self,
        work: UnitOfWork,
        identity: IdentityService,
        projects: ProjectService,
        audit: AuditService,
        clock: Clock,
    ) -> None:
        self._repository = IdentityRepository(work.session)
        self._identity = identity
        self._projects = projects
        self._audit = audit
        self._clock = clock

    def create(
        self, caller: Caller, project_id: str, name: str, role: Role, *, with_key: bool, expires_after: timedelta | None
    ) -> tuple[ServiceAccount, tuple[ApiKey, str] | None]:
        """A new account, and its first key with its text, which is shown this once."""
        with self._projects.reach(caller, project_id) as team:
            if team.archived_at is not None:
                raise Conflict(f"The project '{project_id}' is archived, and gets no new service accounts.")
            account = ServiceAccount(id=new_id(Prefix.SERVICE_ACCOUNT), team_id=project_id, name=name, role=role.value)
            self._repository.add_account(account)
            self._audit.record(
                project_id, caller.actor, "service_account.create", account.id, name=name, role=role.value
            )
            key = self._key(caller, account, name, None, expires_after) if with_key else None
            return account, key

    def create_key(
        self,
        caller: Caller,
        project_id: str,
        account_id: str,
        name: str,
        *,
        permissions: list[Permission] | None,
        expires_after: timedelta | None,
    ) -> tuple[ApiKey, str]:
        """Another key of the account, with its role or narrower."""
        with self._projects.reach(caller, project_id):
            account = self._find(project_id, account_id)
            return self._key(caller, account, name or account.name, permissions, expires_after)

    def page(self, caller: Caller, project_id: str, *, after: str | None, limit: int) -> Page[ServiceAccount]:
        with self._projects.reach(caller, project_id):
            return self._repository.list_accounts(project_id, after=after, limit=limit)

    def get(self, caller: Caller, project_id: str, account_id: str) -> ServiceAccount:
        with self._projects.reach(caller, project_id):
            return self._find(project_id, account_id)

    def update(
        self, caller: Caller, project_id: str, account_id: str, *, name: str | None, role: Role | None
    ) -> ServiceAccount:
        """Another name or role; its keys have the new role from their next request on."""
        with self._projects.reach(caller, project_id):
            account = self._find(project_id, account_id)
            if caller.permissions is not None and role is not None and role != account.role:
                raise Forbidden(
                    "A key that is narrowed to some rights cannot change the role of an account. Use one that is not.",
                    code="insufficient_permissions",
                )
            changes = {"name": name or account.name, "role": (role or Role(account.role)).value}
            if changes != {"name": account.name, "role": account.role}:
                account.name, account.role = changes["name"], changes["role"]
                self._repository.flush()
                self._repository.set_roles(account.role, team_id=project_id, service_account_id=account.id)
                self._audit.record(project_id, caller.actor, "service_account.update", account.id, **changes)
            return account

    def delete(self, caller: Caller, project_id: str, account_id: str) -> None:
        """The account and all its keys stop at once."""
        with self._projects.reach(caller, project_id):
            account = self._find(project_id, account_id)
            now = self._clock.now()
            account.deleted_at = now
            self._repository.flush()
            keys = self._repository.revoke_all(now, team_id=project_id, service_account_id=account.id)
            self._audit.record(
                project_id,
                caller.actor,
                "service_account.delete",
                account.id,
                name=account.name,
                revoked_keys=list(keys),
            )

    def _key(
        self,
        caller: Caller,
        account: ServiceAccount,
        name: str,
        permissions: list[Permission] | None,
        expires_after: timedelta | None,
    ) -> tuple[ApiKey, str]:
        return self._identity.create_key_of_caller(
            caller,
            account.team_id,
            name,
            Role(account.role),
            expires_after=expires_after,
            permissions=permissions,
            owner=KeyOwner(service_account_id=account.id),
        )

    def _find(self, project_id: str, account_id: str) -> ServiceAccount:
        account = self._repository.find_account(project_id, account_id)
        if account is None:
            raise NotFound(
                f"No service account with id '{account_id}' found in this project.", param="service_account_id"
            )
        return account
