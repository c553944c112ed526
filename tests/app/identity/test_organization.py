"""The administration wire through the official client: projects, keys, service accounts, people, admin keys."""

import threading

import httpx
import openai
import pytest

from app.errors import NotFound, Unauthorized
from app.identity.policy import Role


@pytest.fixture
def organization(openai_client):
    """The operator's administration, through OpenAI's client in strict validation."""
    with openai_client.with_options(admin_api_key=openai_client.api_key) as client:
        yield client.admin.organization


@pytest.fixture
def asked(live_server):
    """Status of a harmless request with a key, over a connection of its own."""

    def ask(key, path="/v1/files"):
        return httpx.get(f"{live_server}{path}", headers={"Authorization": f"Bearer {key}"}).status_code

    return ask


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_a_project_is_made_found_renamed_and_archived(organization):
    made = organization.projects.create(name="Legal & Tax")
    assert (made.status, made.slug) == ("active", "legal-tax")
    assert organization.projects.create(name="Legal & Tax").slug.startswith("legal-tax-")
    assert organization.projects.retrieve(made.id).name == "Legal & Tax"
    assert organization.projects.update(made.id, name="Law").name == "Law"
    assert made.id in {project.id for project in organization.projects.list(limit=1)}
    archived = organization.projects.archive(made.id)
    assert (archived.status, archived.archived_at is not None) == ("archived", True)
    assert organization.projects.archive(made.id).archived_at == archived.archived_at
    assert made.id not in {project.id for project in organization.projects.list()}
    assert made.id in {project.id for project in organization.projects.list(include_archived=True)}
    with pytest.raises(openai.ConflictError):
        organization.projects.update(made.id, name="Again")


def test_a_service_account_has_a_key_that_stops_with_it(organization, asked):
    project = organization.projects.create(name="A")
    made = organization.projects.service_accounts.create(project.id, name="ci")
    second = organization.projects.service_accounts.api_keys.create(made.id, project_id=project.id, name="two")
    assert [asked(made.api_key.value), asked(second.value)] == [200, 200]
    keys = list(organization.projects.api_keys.list(project.id))
    assert {key.owner.service_account.id for key in keys} == {made.id}
    assert {key.id for key in keys} == {made.api_key.id, second.id}
    assert made.id in {account.id for account in organization.projects.service_accounts.list(project.id)}
    assert organization.projects.service_accounts.retrieve(made.id, project_id=project.id).role == "member"
    assert organization.projects.service_accounts.delete(made.id, project_id=project.id).deleted
    assert [asked(made.api_key.value), asked(second.value)] == [401, 401]
    assert list(organization.projects.service_accounts.list(project.id)) == []
    with pytest.raises(openai.NotFoundError):
        organization.projects.service_accounts.retrieve(made.id, project_id=project.id)


def test_an_account_without_a_key_has_none(organization):
    project = organization.projects.create(name="A")
    made = organization.projects.service_accounts.create(project.id, name="ci", create_service_account_only=True)
    assert made.api_key is None
    assert list(organization.projects.api_keys.list(project.id)) == []


def test_an_accounts_keys_have_its_new_role_at_once(organization, asked):
    project = organization.projects.create(name="A")
    made = organization.projects.service_accounts.create(project.id, name="ci")
    assert asked(made.api_key.value, "/v1/audit") == 403
    updated = organization.projects.service_accounts.update(made.id, project_id=project.id, role="owner", name="boss")
    assert (updated.role, updated.name) == ("owner", "boss")
    assert asked(made.api_key.value, "/v1/audit") == 200


def test_archiving_a_project_stops_all_its_keys_at_once(organization, asked, services):
    project = organization.projects.create(name="A")
    account = organization.projects.service_accounts.create(project.id, name="ci")
    with services() as s:
        _, other = s.identity.create_key(project.id, "by hand", Role.ADMIN)
    assert [asked(account.api_key.value), asked(other)] == [200, 200]
    organization.projects.archive(project.id)
    assert [asked(account.api_key.value), asked(other)] == [401, 401]
    with pytest.raises(openai.ConflictError):
        organization.projects.service_accounts.create(project.id, name="late")


def test_a_key_of_a_project_is_shown_without_its_text_and_revoked(organization, asked):
    project = organization.projects.create(name="A")
    account = organization.projects.service_accounts.create(project.id, name="ci")
    shown = organization.projects.api_keys.retrieve(account.api_key.id, project_id=project.id)
    assert shown.redacted_value.endswith(account.api_key.value[-4:])
    assert len(shown.redacted_value) < 6
    assert organization.projects.api_keys.delete(account.api_key.id, project_id=project.id).deleted
    assert asked(account.api_key.value) == 401
    with pytest.raises(openai.NotFoundError):
        organization.projects.api_keys.retrieve(account.api_key.id, project_id=project.id)


def test_people_are_members_with_roles(organization):
    project = organization.projects.create(name="A")
    made = organization.projects.users.create(project.id, role="member", email="Ada@Example.com")
    assert (made.email, made.role) == ("ada@example.com", "trainer")
    with pytest.raises(openai.ConflictError):
        organization.projects.users.create(project.id, role="viewer", email="ada@example.com")
    assert organization.projects.users.update(made.id, project_id=project.id, role="admin").role == "admin"
    assert [user.id for user in organization.projects.users.list(project.id)] == [made.id]
    person = organization.users.retrieve(made.id)
    assert [(team.id, team.role) for team in person.projects.data] == [(project.id, "admin")]
    assert organization.users.update(made.id, role="owner").role == "owner"
    assert [user.id for user in organization.users.list(emails=["ada@example.com"])] == [made.id]
    assert organization.projects.users.delete(made.id, project_id=project.id).deleted
    assert list(organization.projects.users.list(project.id)) == []
    assert organization.users.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        organization.users.retrieve(made.id)


def test_a_persons_keys_stop_with_the_membership(organization, asked, services):
    project = organization.projects.create(name="A")
    person = organization.projects.users.create(project.id, role="member", email="a@b.example")
    with services() as s:
        row, key = s.identity.create_key(project.id, "session", Role.TRAINER)
        row.user_id = person.id
    assert asked(key) == 200
    organization.projects.users.delete(person.id, project_id=project.id)
    assert asked(key) == 401


@pytest.mark.parametrize("email", [None, "", "nobody", "a b@c.example", "a@b@c", "a@\x00"])
def test_a_person_needs_an_address(client, email):
    project = client.get("/v1/organization/projects").json()["data"][0]["id"]
    body = {"role": "viewer", "email": email}
    answer = client.post(f"/v1/organization/projects/{project}/users", json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_admin_keys_are_the_operators(organization, asked):
    made = organization.admin_api_keys.create(name="second operator", expires_in_seconds=600)
    assert made.expires_at is not None
    assert asked(made.value, "/v1/organization/users") == 200
    assert made.id in {key.id for key in organization.admin_api_keys.list(limit=1)}
    assert organization.admin_api_keys.retrieve(made.id).name == "second operator"
    assert organization.admin_api_keys.delete(made.id).deleted
    assert asked(made.value) == 401
    with pytest.raises(openai.NotFoundError):
        organization.admin_api_keys.retrieve(made.id)


@pytest.fixture
def admin(services):
    """An admin of the team `b`: the team's id and headers."""
    with services() as s:
        team = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
    return team.id, bearer(key)


def test_a_team_admin_looks_after_the_own_project_only(client, admin):
    team, headers = admin
    foreign = client.post("/v1/organization/projects", json={"name": "C"}).json()["id"]
    listed = client.get("/v1/organization/projects", headers=headers).json()["data"]
    assert [project["id"] for project in listed] == [team]
    base = "/v1/organization/projects"
    assert client.post(f"{base}/{team}/service_accounts", headers=headers, json={"name": "x"}).status_code == 200
    for project in (foreign, "team_none"):
        answers = [
            client.get(f"{base}/{project}", headers=headers),
            client.post(f"{base}/{project}", headers=headers, json={"name": "mine"}),
            client.get(f"{base}/{project}/api_keys", headers=headers),
            client.post(f"{base}/{project}/service_accounts", headers=headers, json={"name": "x"}),
            client.post(f"{base}/{project}/users", headers=headers, json={"role": "admin", "email": "a@b.example"}),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert {answer.json()["error"]["param"] for answer in answers} == {"project_id"}


def test_a_member_by_id_is_an_operators_to_add(client, admin):
    """Otherwise an admin could learn the address behind the id of a person of another team."""
    team, headers = admin
    mine = client.get("/v1/organization/projects").json()["data"][-1]["id"]
    body = {"role": "viewer", "email": "secret@example.com"}
    person = client.post(f"/v1/organization/projects/{mine}/users", json=body).json()["id"]
    path = f"/v1/organization/projects/{team}/users"
    assert client.post(path, headers=headers, json={"role": "viewer", "user_id": person}).status_code == 404
    assert client.post(path, json={"role": "viewer", "user_id": person}).status_code == 200


def test_an_operators_key_is_not_a_team_admins_to_revoke(client, services):
    with services() as s:
        operator = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer "))
        _, key = s.identity.create_key(operator.team_id, "k", Role.ADMIN)
    answer = client.delete(f"/v1/teams/keys/{operator.key_id}", headers=bearer(key))
    assert answer.status_code == 403


def test_a_key_that_is_made_while_its_team_is_archived_never_lives(services):
    """Who makes a key holds the team until the commit; so either the archive revokes it, or it is refused."""
    with services() as s:
        team = s.identity.create_team("A", "a")
        operator = s.identity.authenticate(s.identity.first_key())
    archived = threading.Event()

    def archive():
        with services() as s:
            s.projects.archive(operator, team.id)
        archived.set()

    with services() as s:
        _, text = s.identity.create_key(team.id, "late", Role.ADMIN)
        thread = threading.Thread(target=archive)
        thread.start()
        assert not archived.wait(0.3)
    thread.join(30)
    assert archived.is_set()
    with services() as s, pytest.raises(Unauthorized):
        s.identity.authenticate(text)
    with services() as s, pytest.raises(NotFound):
        s.identity.create_key(team.id, "later", Role.ADMIN)
