"""`tunesmith login` against the real API and a provider, with a browser that a thread plays."""

import html
import json
import re
import stat
import threading

import httpx
import pytest

from app.cli.saved_logins import save, saved_token
from app.identity.policy import Role
from app.settings import Settings
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, providing


@pytest.fixture
def provider():
    with providing() as provider:
        yield provider


@pytest.fixture
def settings(settings, provider):
    return Settings.model_validate(
        {
            **settings.model_dump(),
            "public_url": "http://127.0.0.1:1",
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
        }
    )


@pytest.fixture
def run(live_server, monkeypatch, capsys, tmp_path):
    """Runs one command line without a key; (exit code, stdout, stderr)."""
    from app.cli.main import main  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)

    def run(*arguments, service=live_server):
        monkeypatch.setattr("sys.argv", ["tunesmith", *(["--base-url", service] if service else []), *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def team(services):
    with services() as s:
        team = s.identity.create_team("Legal", "legal")
        operator = s.identity.authenticate(s.identity.create_key(team.id, "o", Role.OPERATOR)[1])
        s.people.add_member(operator, team.id, Role.TRAINER, email="ada@example.com", user_id=None)
    return team.id


class Person(threading.Thread):
    """Logs in at the provider, reads the page, and (with `goes_on`) follows its link."""

    def __init__(self, url, provider, *, goes_on=True):
        super().__init__(daemon=True)
        self.url, self.provider, self.goes_on = url, provider, goes_on
        self.page = self.link = ""

    def run(self):
        with httpx.Client(trust_env=False) as http:
            begun = http.get(self.url)
            back = httpx.URL(self.provider.log_in(begun.headers["location"]))
            cookie = begun.headers["set-cookie"].partition(";")[0]
            home = httpx.URL(self.url)
            answer = http.get(home.copy_with(raw_path=back.raw_path), headers={"cookie": cookie})
            self.page = answer.text
            self.link = html.unescape(re.search(r'href="([^"]+)"', self.page)[1])
            if self.goes_on:
                # What else comes to the port is no code.
                http.get(httpx.URL(self.link).copy_with(path="/favicon.ico", query=None))
                http.get(self.link)


@pytest.fixture
def person(provider, monkeypatch):
    """Sits at the browser; the list of what was opened."""
    seen = []

    def open_browser(url):
        seen.append(Person(url, provider))
        seen[-1].start()
        return True

    monkeypatch.setattr("webbrowser.open", open_browser)
    return seen


def test_a_person_logs_in_works_and_logs_out(run, team, person, tmp_path, live_server):
    code, out, err = run("--json", "login", "--team", "legal")
    assert code == 0, err
    assert json.loads(out)["email"] == "ada@example.com"
    assert "ada@example.com in the team &#x27;legal&#x27;" in person[0].page
    file = tmp_path / "config" / "tunesmith" / "logins.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert saved_token(live_server) not in out + err
    assert run("files", "list")[0] == 0
    # The last log-in says where the service is, too.
    assert "legal" in run("whoami", service=None)[1]
    token = saved_token(live_server)
    assert run("logout")[0] == 0
    assert httpx.get(f"{live_server}/v1/files", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    code, _, err = run("files", "list")
    assert (code, "tunesmith login" in err) == (1, True)


def test_the_code_is_good_once_and_for_the_program_that_began(run, team, person, live_server, provider):
    assert run("login")[0] == 0
    code = httpx.URL(person[0].link).params["code"]
    again = httpx.post(f"{live_server}/v1/auth/token", json={"code": code, "verifier": "v" * 43})
    assert (again.status_code, again.json()["error"]["code"]) == (400, "login_not_known")
    stolen = Person(f"{live_server}/v1/auth/login?port=9999&challenge={'c' * 43}", provider, goes_on=False)
    stolen.run()
    code = httpx.URL(stolen.link).params["code"]
    for _ in range(2):
        answer = httpx.post(f"{live_server}/v1/auth/token", json={"code": code, "verifier": "v" * 43})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "login_not_known")


def test_a_person_removed_before_the_code_is_redeemed_gets_nothing(team, services, live_server, provider):
    import hashlib  # noqa: PLC0415
    from base64 import urlsafe_b64encode  # noqa: PLC0415

    verifier = "v" * 43
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    one = Person(f"{live_server}/v1/auth/login?port=9999&challenge={challenge}", provider, goes_on=False)
    one.run()
    with services() as s:
        operator = s.identity.authenticate(s.identity.create_key(team, "o", Role.OPERATOR)[1])
        user = s.people.page(emails=["ada@example.com"], after=None, limit=1).rows[0]
        s.people.delete(operator, user.id)
    code = httpx.URL(one.link).params["code"]
    answer = httpx.post(f"{live_server}/v1/auth/token", json={"code": code, "verifier": verifier})
    assert answer.status_code == 400


def test_nobody_at_the_browser_is_said_so(run, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    code, _, err = run("login", "--wait-seconds", "0.2")
    assert (code, "Nobody logged in" in err) == (1, True)


def test_a_log_in_is_not_sent_in_the_clear_to_another_machine(run):
    code, _, err = run("login", service="http://elsewhere.example")
    assert (code, "not https" in err) == (1, True)


def test_a_log_in_that_is_over_is_not_sent(run):
    save("https://elsewhere.example", "tsk_old", 1)
    code, _, err = run("files", "list", service="https://elsewhere.example")
    assert (code, "No API key" in err) == (1, True)
