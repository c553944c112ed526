"""/v1/organization/projects: teams, their keys and service accounts; an admin's own project, an operator's all."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute, keep_answer_secret
from app.api.pagination import After, Limit20, ListPage, list_page
from app.identity.caller import Caller
from app.identity.organization_schemas import (
    AccountCreate,
    AccountKeyCreate,
    AccountKeyObject,
    AccountObject,
    AccountUpdate,
    Deleted,
    NewAccountObject,
    ProjectCreate,
    ProjectKeyObject,
    ProjectObject,
    ProjectUpdate,
    account_key_object,
    account_object,
    new_account_object,
    project_key_object,
    project_object,
    role_of,
)
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/organization/projects", route_class=WorkRoute, tags=["Organization"])
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]
Operator = Annotated[Caller, Depends(allow(Permission.ORGANIZATION_WRITE))]


@router.get("")
def list_projects(
    caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20, *, include_archived: bool = False
) -> ListPage[ProjectObject]:
    """All projects for an operator; your own for an admin."""
    page = services.projects.page(caller, with_archived=include_archived, after=after, limit=limit)
    return list_page([project_object(row) for row in page.rows], has_more=page.has_more)


@router.post("")
def create_project(caller: Operator, services: ServicesDep, body: ProjectCreate) -> ProjectObject:
    """Make a project, which is a team: it has no key yet."""
    return project_object(services.projects.create(caller, body.name, body.slug))


@router.get("/{project_id}")
def get_project(project_id: str, caller: Admin, services: ServicesDep) -> ProjectObject:
    """One project."""
    return project_object(services.projects.get(caller, project_id))


@router.post("/{project_id}")
def update_project(project_id: str, caller: Admin, services: ServicesDep, body: ProjectUpdate) -> ProjectObject:
    """Give a project another name; its slug stays."""
    return project_object(services.projects.rename(caller, project_id, body.name))


@router.post("/{project_id}/archive")
def archive_project(project_id: str, caller: Operator, services: ServicesDep) -> ProjectObject:
    """End a project: all its keys stop at once."""
    return project_object(services.projects.archive(caller, project_id))


@router.get("/{project_id}/api_keys")
def list_project_keys(
    project_id: str, caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[ProjectKeyObject]:
    """The keys that a project has, newest first, without their texts."""
    page, accounts = services.projects.list_keys(caller, project_id, after=after, limit=limit)
    return list_page([project_key_object(row, accounts) for row in page.rows], has_more=page.has_more)


@router.get("/{project_id}/api_keys/{key_id}")
def get_project_key(project_id: str, key_id: str, caller: Admin, services: ServicesDep) -> ProjectKeyObject:
    """One key, without its text."""
    return project_key_object(*services.projects.get_key(caller, project_id, key_id))


@router.delete("/{project_id}/api_keys/{key_id}")
def delete_project_key(project_id: str, key_id: str, caller: Admin, services: ServicesDep) -> Deleted:
    """Revoke a key; it stops working at once."""
    services.projects.revoke_key(caller, project_id, key_id)
    return Deleted(id=key_id, object="organization.project.api_key.deleted")


@router.get("/{project_id}/service_accounts")
def list_service_accounts(
    project_id: str, caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[AccountObject]:
    """The programs that have keys of a project."""
    page = services.accounts.page(caller, project_id, after=after, limit=limit)
    return list_page([account_object(row) for row in page.rows], has_more=page.has_more)


@router.post("/{project_id}/service_accounts", dependencies=[Depends(keep_answer_secret)])
def create_service_account(
    project_id: str, caller: Admin, services: ServicesDep, body: AccountCreate
) -> NewAccountObject:
    """Make a service account and its first key, whose text is shown in this answer only."""
    account, key = services.accounts.create(
        caller,
        project_id,
        body.name,
        role_of(body.role),
        with_key=not body.create_service_account_only,
        expires_after=_lifetime(body.expires_in_seconds),
    )
    return new_account_object(account, key)


@router.get("/{project_id}/service_accounts/{account_id}")
def get_service_account(project_id: str, account_id: str, caller: Admin, services: ServicesDep) -> AccountObject:
    """One service account."""
    return account_object(services.accounts.get(caller, project_id, account_id))


@router.post("/{project_id}/service_accounts/{account_id}")
def update_service_account(
    project_id: str, account_id: str, caller: Admin, services: ServicesDep, body: AccountUpdate
) -> AccountObject:
    """Another name or role; its keys have the new role at once."""
    role = None if body.role is None else role_of(body.role)
    return account_object(services.accounts.update(caller, project_id, account_id, name=body.name, role=role))


@router.delete("/{project_id}/service_accounts/{account_id}")
def delete_service_account(project_id: str, account_id: str, caller: Admin, services: ServicesDep) -> Deleted:
    """The account and all its keys stop at once."""
    services.accounts.delete(caller, project_id, account_id)
    return Deleted(id=account_id, object="organization.project.service_account.deleted")


@router.post("/{project_id}/service_accounts/{account_id}/api_keys", dependencies=[Depends(keep_answer_secret)])
def create_service_account_key(
    project_id: str, account_id: str, caller: Admin, services: ServicesDep, body: AccountKeyCreate
) -> AccountKeyObject:
    """Another key of a service account, with its role or narrowed by `scopes`; its text is shown this once."""
    row, text = services.accounts.create_key(
        caller,
        project_id,
        account_id,
        body.name,
        permissions=body.scopes,
        expires_after=_lifetime(body.expires_in_seconds),
    )
    return account_key_object(row, text)


def _lifetime(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
