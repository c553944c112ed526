"""Fixtures of log-ins: a provider, the service that trusts it, a browser, and a team with somebody invited."""

from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient

from app.context import open_context
from app.factory import Services
from app.identity.policy import Role
from app.main import create_app
from app.settings import Settings
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Browser, providing

PUBLIC_URL = "https://tunesmith.example.com"


@pytest.fixture
def provider():
    with providing() as provider:
        yield provider


@pytest.fixture
def login_settings(settings, provider):
    """May be overridden by a test's own."""
    return {
        "public_url": PUBLIC_URL,
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
    }


@dataclass
class LoginHouse:
    context: object
    settings: Settings
    browser: Browser
    client: TestClient
    admin: dict
    team_id: str

    def add_member(self, email="ada@example.com", role="trainer", team_id=None):
        answer = self.client.post(
            f"/v1/organization/projects/{team_id or self.team_id}/users",
            json={"email": email, "role": role},
            headers=self.admin,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def add_team(self, slug):
        with self.context.database.unit_of_work() as work:
            return Services(self.context, work).identity.create_team(slug, slug).id

    def audited(self, *types):
        found = self.client.get("/v1/organization/audit_logs?limit=100", headers=self.admin).json()["data"]
        return [event for event in found if event["type"] in types]


@pytest.fixture
def open_house(settings, provider):
    """Builds the house over given settings; closed at the end of the test."""
    opened = []

    def build(**more):
        whole = Settings.model_validate({**settings.model_dump(), **more})
        context = open_context(whole)
        with context.database.unit_of_work() as work:
            services = Services(context, work)
            team = services.identity.create_team("Legal", "legal")
            _, key = services.identity.create_key(team.id, "operator", Role.OPERATOR)
        client = TestClient(
            create_app(context, closes_context=True), base_url=PUBLIC_URL, raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        return LoginHouse(
            context, whole, Browser(client, provider), client, {"Authorization": f"Bearer {key}"}, team.id
        )

    yield build
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def house(open_house, login_settings):
    return open_house(**login_settings)
