"""The authorization matrix (G14): every route of the application, asked by six identities.

Generated from the application's own routes: one that has no entry in `tests/support/authorization.py` fails here.
"""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.identity.policy import Permission, Role, is_allowed
from app.main import create_app
from tests.architecture.test_routes import PUBLIC, ROUTES, permissions_of
from tests.support.authorization import ENTRIES
from tests.support.team_objects import Objects, add_base, add_objects

MATRIX = [
    (f"{method} {route.path}", permissions_of(route.dependant)[0])
    for route in ROUTES
    if route.path not in PUBLIC
    for method in sorted(route.methods)
]


def test_every_route_has_an_entry_and_every_entry_a_route():
    assert sorted(name for name, _ in MATRIX) == sorted(ENTRIES)


@pytest.fixture
def house(context, services):
    """The application, two teams, and `key(team, role)`."""
    with services() as s:
        add_base(s.work.session)
        teams = {slug: s.identity.create_team(slug, slug).id for slug in ("mine", "theirs")}
    with TestClient(create_app(context), raise_server_exceptions=False) as client:
        yield House(client, services, teams)


class House:
    def __init__(self, client, services, teams):
        self.client = client
        self.services = services
        self.teams = teams
        self.keys = {}

    def key(self, team, role, **more):
        with self.services() as s:
            return s.identity.create_key(self.teams[team], "k", role, **more)

    def lasting_key(self, team, role):
        if (team, role) not in self.keys:
            self.keys[team, role] = self.key(team, role)[1]
        return self.keys[team, role]

    def objects(self):
        with self.services() as s:
            return add_objects(s.work.session, self.teams["mine"])

    def ask(self, name, objects: Objects, key):
        method, _, path = name.partition(" ")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        body = objects.fill(ENTRIES[name].body)
        return self.client.request(method, objects.fill(path), headers=headers, json=body)


def weakest(permission: Permission) -> Role:
    return next(role for role in Role if is_allowed(role, permission))


def code_of(answer):
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"], error["type"]


# A few routes at a time: one house for each would take most of the time.
CHUNKS = [MATRIX[start : start + 12] for start in range(0, len(MATRIX), 12)]


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk[0][0].replace("/", "_"))
def test_each_route_answers_each_identity_as_it_must(house, chunk):
    for name, permission in chunk:
        check_strangers(house, name, permission)
        check_low_role(house, name, permission)
        check_other_team(house, name, permission)
        check_right(house, name, permission)


@pytest.fixture
def no_row_security(context):
    """The second wall is down: this database shows the API's role the rows of every team."""
    with context.database.unit_of_work() as work:
        walled = list(work.session.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity")))
    assert walled
    switch_row_security(context, walled, "DISABLE")
    yield
    switch_row_security(context, walled, "ENABLE")


def switch_row_security(context, tables, verb):
    with context.database.unit_of_work() as work:
        for table in tables:
            work.session.execute(text(f"ALTER TABLE {table} {verb} ROW LEVEL SECURITY"))


@pytest.mark.usefixtures("no_row_security")
@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk[0][0].replace("/", "_"))
def test_the_queries_alone_keep_teams_apart(house, chunk):
    for name, permission in chunk:
        check_other_team(house, name, permission)


def check_strangers(house, name, permission):
    """No key, an expired one, a revoked one."""
    role = weakest(permission)
    objects = house.objects()
    _, expired = house.key("mine", role, expires_after=timedelta(seconds=-1))
    row, revoked = house.key("mine", role)
    with house.services() as s:
        found = s.identity._repository.find_key_of_team(row.team_id, row.id)
        s.identity._repository.revoke(found, s.context.clock.now())
    for what, key in (("no key", None), ("expired", expired), ("revoked", revoked)):
        answer = house.ask(name, objects, key)
        assert code_of(answer)[:2] == (401, "invalid_api_key"), (name, what, answer.text)


def check_low_role(house, name, permission):
    """The right team, with the strongest role that lacks the right; and a strong key that is narrowed to others."""
    lower = [role for role in Role if not is_allowed(role, permission)]
    role = weakest(permission)
    other = next(right for right in Permission if right != permission and is_allowed(role, right))
    keys = [house.key("mine", role, permissions=[other])[1]]
    keys += [house.lasting_key("mine", lower[-1])] if lower else []
    objects = house.objects()
    for key in keys:
        answer = house.ask(name, objects, key)
        assert code_of(answer)[:2] == (403, "insufficient_permissions"), (name, answer.text)


def check_other_team(house, name, permission):
    """Not yours is answered as absent is; what is no object holds nothing of the other team."""
    role = weakest(permission)
    if role is Role.OPERATOR:
        return  # an operator has all teams; a team's admin is refused by the role
    objects = house.objects()
    key = house.lasting_key("theirs", role)
    answer = house.ask(name, objects, key)
    named = {part for part in objects.ids if f"{{{part}" in name or f"{{{part}" in str(ENTRIES[name].body)}
    if not named or ENTRIES[name].shared:
        assert answer.status_code not in {401, 403, 500}, (name, answer.text)
        mine = [value for part, value in objects.ids.items() if part != "base_id" and value in answer.text]
        assert mine == [], (name, answer.text)
        return
    absent = house.ask(name, objects.absent(), key)
    assert code_of(answer) == code_of(absent), (name, answer.text, absent.text)
    assert answer.status_code == 404 or "{" not in name, (name, answer.text)


def check_right(house, name, permission):
    answer = house.ask(name, house.objects(), house.lasting_key("mine", weakest(permission)))
    assert answer.status_code in ENTRIES[name].right, (name, answer.status_code, answer.text)
