"""A session in a cookie: other sites cannot write with it, and programs with keys are not in the way."""

import pytest


@pytest.fixture
def logged_in(house):
    house.add_member(role="admin")
    house.browser.log_in()
    return house.client


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example.com"},
        {"origin": "http://tunesmith.example.com"},
        {"origin": "https://tunesmith.example.com:8443"},
        {"origin": "null"},
        {"origin": "https://tunesmith.example.com", "sec-fetch-site": "cross-site"},
    ],
)
def test_a_write_that_does_not_come_from_our_own_pages_is_refused(logged_in, headers):
    for method, path in (("POST", "/v1/teams/keys"), ("DELETE", "/v1/files/file-x"), ("POST", "/v1/auth/logout")):
        answer = logged_in.request(method, path, json={"name": "n"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site_request"), path
    assert logged_in.get("/v1/auth/session", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "https://tunesmith.example.com"}])
def test_a_write_from_our_own_pages_is_done(logged_in, headers):
    assert logged_in.post("/v1/teams/keys", json={"name": "n"}, headers=headers).status_code == 200


def test_a_key_in_the_header_counts_and_the_cookie_beside_it_does_not(logged_in, house):
    assert logged_in.post("/v1/teams/keys", json={"name": "n"}, headers=house.admin).status_code == 200
    made = logged_in.get("/v1/audit", headers=house.admin).json()["data"][0]
    assert made["actor"].startswith("key:")
    assert logged_in.get("/v1/files", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_what_a_session_does_is_audited_as_the_persons(logged_in, house):
    logged_in.post("/v1/teams/keys", json={"name": "n"}, headers={"sec-fetch-site": "same-origin"})
    user_id = logged_in.get("/v1/auth/session").json()["user"]["id"]
    event = house.audited("api_key.created")[0]
    assert event["actor"] == {"type": "session", "api_key": None, "session": {"user": {"id": user_id}}}
    found = logged_in.get(f"/v1/organization/audit_logs?actor_ids[]={user_id}").json()["data"]
    assert {event["type"] for event in found} == {"api_key.created", "login.succeeded"}
