"""Roles by the groups of the provider: given, changed and taken back at each log-in, beside invitations."""

import pytest

from app.identity.policy import Role
from app.login.groups import parse_table, roles_of

TABLE = "ml=legal:trainer,ml-leads=legal:admin,/art/all=art:viewer,platform=legal:operator,ml=art:trainer"


@pytest.fixture
def house(open_house, login_settings):
    house = open_house(**login_settings, oidc_roles=TABLE)
    house.art = house.add_team("art")
    return house


def teams_of(house):
    found = house.client.get("/v1/auth/session").json()
    return {team["slug"]: team["role"] for team in found["teams"]}


def log_in(house, groups):
    house.browser.provider.person["groups"] = groups
    return house.browser.log_in()


def test_the_strongest_role_of_all_groups_counts():
    table = parse_table(TABLE)
    assert roles_of(["ml", "ml-leads", "unknown"], table) == {"legal": Role.ADMIN, "art": Role.TRAINER}
    assert roles_of(["ml-leads", "platform", "ml"], table)["legal"] is Role.OPERATOR
    assert roles_of([], table) == {}


def test_a_person_nobody_invited_comes_in_by_a_group_and_in_no_other_way(house):
    assert log_in(house, ["others"]).status_code == 403
    assert log_in(house, ["/art/all"]).status_code == 303
    assert teams_of(house) == {"art": "viewer"}
    created = house.audited("user.added")[0]
    assert (created["project"]["id"], created["data"]["by"]) == (house.art, "groups")


def test_groups_that_change_change_the_roles_and_end_the_sessions_of_teams_that_were_left(house):
    log_in(house, ["ml"])
    assert teams_of(house) == {"art": "trainer", "legal": "trainer"}
    old = house.client.cookies["__Host-tunesmith-session"]
    assert log_in(house, ["ml-leads"]).status_code == 303
    assert teams_of(house) == {"legal": "admin"}
    assert house.client.get("/v1/files", headers={"Authorization": f"Bearer {old}"}).status_code == 401
    assert log_in(house, []).status_code == 403
    assert house.client.get("/v1/files").status_code == 401


def test_an_invitation_is_not_touched_by_groups(house):
    house.add_member(role="viewer")
    log_in(house, ["ml"])
    assert teams_of(house) == {"legal": "viewer", "art": "trainer"}
    log_in(house, [])
    assert teams_of(house) == {"legal": "viewer"}


def test_an_operators_group_makes_an_operators_session_in_its_team_only(house):
    log_in(house, ["platform", "/art/all"])
    assert teams_of(house) == {"art": "viewer", "legal": "admin"}
    assert house.client.get("/v1/auth/session").json()["role"] == "viewer"
    house.browser.log_in(team="legal")
    assert house.client.get("/v1/auth/session").json()["role"] == "operator"
    assert house.client.get("/v1/organization/users").status_code == 200
    log_in(house, ["/art/all"])
    assert house.client.get("/v1/organization/users").status_code == 403


def test_a_person_whom_an_operator_removed_does_not_come_back_by_a_group(house):
    log_in(house, ["ml"])
    user_id = house.client.get("/v1/auth/session").json()["user"]["id"]
    house.client.delete(f"/v1/organization/users/{user_id}", headers=house.admin)
    assert log_in(house, ["ml"]).status_code == 403


def test_groups_that_did_not_fit_into_the_token_take_nothing_away(house):
    log_in(house, ["ml"])
    del house.browser.provider.person["groups"]
    house.browser.provider.claims = {"_claim_names": {"groups": "src1"}}
    answer = house.browser.log_in()
    assert answer.status_code == 403
    assert "more groups" in answer.text
    assert teams_of(house) == {"legal": "trainer", "art": "trainer"}


def test_a_group_may_come_as_one_text_and_what_is_no_text_gives_nothing(house):
    assert log_in(house, "ml").status_code == 303
    assert log_in(house, [{"ml": 1}, 7, None]).status_code == 403


def test_a_claim_of_another_name_can_say_what_is_verified(open_house, login_settings):
    """As Entra ID does: `xms_edov` as a number or a text."""
    house = open_house(**login_settings, oidc_verified_claim="xms_edov")
    house.add_member()
    house.browser.provider.person["xms_edov"] = "0"
    assert house.browser.log_in().status_code == 403
    house.browser.provider.person["xms_edov"] = "1"
    assert house.browser.log_in().status_code == 303
