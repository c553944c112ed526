"""/v1/organization/users and the users of a project: people, and what they may do where."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.api.dependencies import ServicesDep, allow
from app.api.edge import WorkRoute
from app.api.pagination import After, Limit20, ListPage, list_page
from app.identity.caller import Caller
from app.identity.organization_schemas import (
    Deleted,
    MemberCreate,
    MemberObject,
    MemberUpdate,
    UserObject,
    UserUpdate,
    member_object,
    role_of,
    user_object,
)
from app.identity.policy import Permission

router = APIRouter(prefix="/v1/organization", route_class=WorkRoute, tags=["Organization"])
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]
Operator = Annotated[Caller, Depends(allow(Permission.ORGANIZATION_WRITE))]


@router.get("/projects/{project_id}/users")
def list_project_users(
    project_id: str, caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[MemberObject]:
    """The members of a project, newest first."""
    page, users = services.people.list_members(caller, project_id, after=after, limit=limit)
    return list_page([member_object(row, users[row.user_id]) for row in page.rows], has_more=page.has_more)


@router.post("/projects/{project_id}/users")
def create_project_user(project_id: str, caller: Admin, services: ServicesDep, body: MemberCreate) -> MemberObject:
    """Make a person a member, named by `email`; who was not known yet is known from now on."""
    return member_object(
        *services.people.add_member(caller, project_id, role_of(body.role), email=body.email, user_id=body.user_id)
    )


@router.get("/projects/{project_id}/users/{user_id}")
def get_project_user(project_id: str, user_id: str, caller: Admin, services: ServicesDep) -> MemberObject:
    """One member."""
    return member_object(*services.people.get_member(caller, project_id, user_id))


@router.post("/projects/{project_id}/users/{user_id}")
def update_project_user(
    project_id: str, user_id: str, caller: Admin, services: ServicesDep, body: MemberUpdate
) -> MemberObject:
    """Give a member another role: viewer, trainer or admin (`member` is trainer, `owner` is admin)."""
    role = None if body.role is None else role_of(body.role)
    return member_object(*services.people.set_member_role(caller, project_id, user_id, role))


@router.delete("/projects/{project_id}/users/{user_id}")
def delete_project_user(project_id: str, user_id: str, caller: Admin, services: ServicesDep) -> Deleted:
    """End a membership; the person's keys of this project stop at once."""
    services.people.remove_member(caller, project_id, user_id)
    return Deleted(id=user_id, object="organization.project.user.deleted")


@router.get("/users", dependencies=[Depends(allow(Permission.ORGANIZATION_WRITE))])
def list_users(
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    emails: Annotated[list[str] | None, Query(alias="emails[]", max_length=100)] = None,
) -> ListPage[UserObject]:
    """Everybody who is known here, newest first."""
    page = services.people.page(emails=emails or (), after=after, limit=limit)
    return list_page([user_object(row) for row in page.rows], has_more=page.has_more)


@router.get("/users/{user_id}", dependencies=[Depends(allow(Permission.ORGANIZATION_WRITE))])
def get_user(user_id: str, services: ServicesDep) -> UserObject:
    """One person, with the projects and the role in each."""
    return user_object(*services.people.get(user_id))


@router.post("/users/{user_id}")
def update_user(user_id: str, caller: Operator, services: ServicesDep, body: UserUpdate) -> UserObject:
    """`owner` makes a person an operator of the installation, `reader` ends it."""
    is_operator = None if body.role is None else body.role == "owner"
    return user_object(services.people.set_operator(caller, user_id, is_operator))


@router.delete("/users/{user_id}")
def delete_user(user_id: str, caller: Operator, services: ServicesDep) -> Deleted:
    """Remove a person from all projects; all keys of the person stop at once."""
    services.people.delete(caller, user_id)
    return Deleted(id=user_id, object="organization.user.deleted")
