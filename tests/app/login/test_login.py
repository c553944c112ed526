"""Log-in of people, against a real provider on a loopback port: who comes in, and what is written down."""

from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from tests.support.openid_provider import Browser


def session_of(house):
    return house.client.get("/v1/auth/session")


def test_an_invited_person_logs_in_and_acts_with_the_role_of_the_membership(house):
    user_id = house.add_member(role="viewer")
    answer = house.browser.log_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/v1/auth/session")
    cookie = next(part for part in answer.headers.get_list("set-cookie") if "tunesmith-session" in part)
    assert cookie.startswith("__Host-tunesmith-session=tsk_")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=43200"):
        assert attribute in cookie
    assert "Domain" not in cookie
    found = session_of(house).json()
    assert (found["user"]["id"], found["user"]["email"]) == (user_id, "ada@example.com")
    assert (found["team_id"], found["role"]) == (house.team_id, "viewer")
    assert [team["slug"] for team in found["teams"]] == ["legal"]
    assert found["expires_at"] - found["created_at"] == 12 * 3600
    assert house.client.get("/v1/files").status_code == 200
    refused = house.client.post("/v1/teams/keys", json={"name": "n"}, headers={"sec-fetch-site": "same-origin"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")


def test_a_log_in_and_a_log_out_are_audited_and_the_session_is_dead_at_once(house):
    user_id = house.add_member()
    house.browser.log_in()
    token = house.client.cookies["__Host-tunesmith-session"]
    answer = house.client.post("/v1/auth/logout", headers={"origin": "https://tunesmith.example.com"})
    assert answer.json()["deleted"]
    assert "__Host-tunesmith-session" not in house.client.cookies
    dead = house.client.get("/v1/files", headers={"Authorization": f"Bearer {token}"})
    assert dead.status_code == 401
    assert "Log in again" in dead.json()["error"]["message"]
    events = house.audited("login.succeeded", "logout.succeeded")
    assert [event["type"] for event in events] == ["logout.succeeded", "login.succeeded"]
    assert {event["actor"]["session"]["user"]["id"] for event in events} == {user_id}


def test_the_text_of_a_session_and_the_secrets_of_a_log_in_are_stored_nowhere(house):
    house.add_member()
    url = house.browser.begin()
    state = parse_qs(urlsplit(url).query)["state"][0]
    browser = house.client.cookies["__Host-tunesmith-login"]
    with house.context.database.unit_of_work() as work:
        steps = work.session.execute(text("SELECT string_agg(t::text, ' ') FROM login_steps t")).scalar_one()
    assert state not in steps
    assert browser not in steps
    house.browser.come_back(house.browser.provider.log_in(url))
    token = house.client.cookies["__Host-tunesmith-session"]
    with house.context.database.unit_of_work() as work:
        for table in ("api_keys", "audit_events", "login_steps"):
            dump = work.session.execute(text(f"SELECT string_agg(t::text, ' ') FROM {table} t")).scalar_one()  # noqa: S608
            assert token[29:] not in (dump or "")


def test_nobody_else_gets_in_and_the_refusal_is_audited(house):
    answer = house.browser.log_in()
    assert answer.status_code == 403
    assert "Nobody has invited ada@example.com" in answer.text
    assert session_of(house).status_code == 401
    (event,) = house.audited("login.failed")
    assert (event["data"]["reason"], event["project"]) == ("not_invited", None)
    assert event["object_id"].endswith("/realm s-1")


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email_verified": None}, {"email": None}])
def test_an_address_that_is_not_verified_is_nobody(house, provider, claims):
    house.add_member()
    provider.claims = claims
    assert "not say that your email address is verified" in house.browser.log_in().text
    assert house.audited("login.failed")[0]["data"]["reason"] == "email_not_verified"


def test_a_person_is_known_by_the_subject_once_it_was_seen(house, provider):
    house.add_member()
    house.add_member("eve@example.com")
    assert house.browser.log_in().status_code == 303
    provider.person["email"] = "ada.new@example.com"
    provider.person["email_verified"] = False
    assert house.browser.log_in().status_code == 303
    assert session_of(house).json()["user"]["email"] == "ada@example.com"
    provider.person = {"sub": "s-2", "email": "ada@example.com", "email_verified": True}
    answer = house.browser.log_in()
    assert answer.status_code == 403
    assert "belongs to another account" in answer.text


def test_a_removed_person_is_out_at_once_and_stays_out(house):
    user_id = house.add_member()
    house.browser.log_in()
    assert session_of(house).status_code == 200
    assert house.client.delete(f"/v1/organization/users/{user_id}", headers=house.admin).status_code == 200
    assert session_of(house).status_code == 401
    assert house.browser.log_in().status_code == 403
    house.add_member()
    assert house.browser.log_in().status_code == 303


def test_a_membership_that_ends_ends_the_session_and_a_new_role_holds_at_once(house):
    user_id = house.add_member(role="viewer")
    path = f"/v1/organization/projects/{house.team_id}/users/{user_id}"
    house.browser.log_in()
    house.client.post(path, json={"role": "admin"}, headers=house.admin)
    assert house.client.get("/v1/teams/keys").status_code == 200
    house.client.delete(path, headers=house.admin)
    assert house.client.get("/v1/teams/keys").status_code == 401
    assert "member of no team" in house.browser.log_in().text


def test_an_operator_by_word_of_another_acts_as_one_from_the_next_log_in_on(house):
    user_id = house.add_member()
    house.browser.log_in()
    assert session_of(house).json()["role"] == "trainer"
    house.client.post(f"/v1/organization/users/{user_id}", json={"role": "owner"}, headers=house.admin)
    house.browser.log_in()
    assert session_of(house).json()["role"] == "operator"
    house.client.post(f"/v1/organization/users/{user_id}", json={"role": "reader"}, headers=house.admin)
    assert session_of(house).status_code == 401


def test_a_person_of_several_teams_chooses_one(house):
    house.add_member()
    other = house.add_team("art")
    house.add_member(role="admin", team_id=other)
    house.browser.log_in()
    assert session_of(house).json()["team_id"] == other
    house.browser.log_in(team="legal")
    found = session_of(house).json()
    assert (found["team_id"], found["role"]) == (house.team_id, "trainer")
    assert "no member of a team &#x27;tax&#x27;" in house.browser.log_in(team="tax").text


def test_a_session_sees_its_team_only(house):
    house.add_member(role="admin")
    other = house.add_team("art")
    house.browser.log_in()
    assert house.client.get(f"/v1/organization/projects/{other}").status_code == 404


def test_a_state_is_good_once_and_in_the_browser_that_began(house, provider):
    house.add_member()
    back = provider.log_in(house.browser.begin())
    cookie = house.client.cookies["__Host-tunesmith-login"]
    assert house.browser.come_back(back).status_code == 303
    house.client.cookies.set("__Host-tunesmith-login", cookie, domain="tunesmith.example.com")
    replayed = house.browser.come_back(back)
    assert replayed.status_code == 400
    assert "used before" in replayed.text
    for wrong in (None, "another browser"):
        back = provider.log_in(house.browser.begin())
        house.client.cookies.clear()
        if wrong:
            house.client.cookies.set("__Host-tunesmith-login", wrong, domain="tunesmith.example.com")
        assert house.browser.come_back(back).status_code == 400
        assert session_of(house).status_code == 401


def test_a_state_of_nobody_or_that_is_too_old_is_refused_and_the_provider_is_not_asked(house, provider):
    house.add_member()
    back = provider.log_in(house.browser.begin())
    with house.context.database.unit_of_work() as work:
        work.session.execute(text("UPDATE login_steps SET expires_at = clock_timestamp()"))
    assert house.browser.come_back(back).status_code == 400
    house.browser.begin()
    assert house.browser.come_back(back.replace("state=", "state=x")).status_code == 400
    assert "/token" not in provider.asked


def test_a_code_that_was_used_is_refused_by_the_provider_and_gives_no_session(house, provider):
    house.add_member()
    back = provider.log_in(house.browser.begin())
    provider.codes.clear()
    answer = house.browser.come_back(back)
    assert answer.status_code == 400
    assert "does not take this code" in answer.text
    assert session_of(house).status_code == 401


def test_a_code_of_another_log_in_is_stopped_by_its_verifier(house, provider):
    """An attacker's code, put into a victim's answer."""
    house.add_member()
    stolen = parse_qs(urlsplit(provider.log_in(house.browser.begin())).query)["code"][0]
    mine = urlsplit(provider.log_in(house.browser.begin()))
    query = mine.query.replace(parse_qs(mine.query)["code"][0], stolen)
    assert "does not take this code" in house.browser.come_back(f"{mine.path}?{query}").text


def test_an_error_of_the_provider_is_shown_as_text(house, provider):
    back = urlsplit(provider.log_in(house.browser.begin()))
    state = parse_qs(back.query)["state"][0]
    answer = house.browser.come_back(f"{back.path}?state={state}&error=<script>denied")
    assert answer.status_code == 400
    assert "&lt;script&gt;denied" in answer.text
    assert "<script" not in answer.text


def test_a_provider_that_is_away_costs_log_ins_only(house, provider):
    provider.is_away = True
    answer = house.client.get("/v1/auth/login", follow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "login_provider_unavailable")
    asked = len(provider.asked)
    assert house.client.get("/v1/auth/login", follow_redirects=False).status_code == 503
    assert len(provider.asked) == asked
    assert house.client.get("/v1/files", headers=house.admin).status_code == 200


def test_log_in_is_off_where_no_provider_is_set(client):
    for method, path in (("GET", "/v1/auth/login"), ("GET", "/v1/auth/callback?state=x&code=y")):
        answer = client.request(method, path, follow_redirects=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "login_disabled")
    answer = client.post("/v1/auth/token", json={"code": "c" * 43, "verifier": "v" * 43})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "login_disabled")


def test_a_key_is_no_session(client):
    assert client.get("/v1/auth/session").status_code == 404
    assert client.post("/v1/auth/logout").status_code == 404


def test_two_people_log_in_side_by_side(house, provider):
    house.add_member()
    house.add_member("eve@example.com", role="viewer")
    first = provider.log_in(house.browser.begin())
    assert house.browser.come_back(first).status_code == 303
    other = Browser(type(house.client)(house.client.app, base_url=house.client.base_url), provider)
    provider.person = {"sub": "s-2", "email": "eve@example.com", "email_verified": True}
    assert other.log_in().status_code == 303
    assert other.client.get("/v1/auth/session").json()["role"] == "viewer"
    assert session_of(house).json()["role"] == "trainer"


def test_what_nobody_took_and_sessions_of_long_ago_are_swept(house):
    house.add_member()
    house.browser.begin()
    house.browser.log_in()
    with house.context.database.unit_of_work() as work:
        work.session.execute(text("UPDATE login_steps SET expires_at = clock_timestamp()"))
        work.session.execute(
            text("UPDATE api_keys SET expires_at = now() - interval '31 days' WHERE user_id IS NOT NULL")
        )
    from app.factory import Services  # noqa: PLC0415

    with house.context.database.unit_of_work() as work:
        assert Services(house.context, work).login.forget_old() == 2
    assert house.client.get("/v1/files", headers=house.admin).status_code == 200
