"""Lists of hosts: both must allow, at creation and at each attempt, and nobody widens what the operator narrowed."""

import pytest

from app.identity.policy import Role
from app.webhooks.addresses import BadTarget, parse_target
from app.webhooks.allowlist import Allowlist
from app.webhooks.sending import Sender
from tests.app.webhooks.test_deliveries import (  # noqa: F401 - fixtures
    PATH,
    context,
    listen,
    receiver,
    send,
    world,
)

BODY = {"name": "n", "url": "https://hooks.example.com/t", "event_types": ["fine_tuning.job.succeeded"]}


def allows(entries, url):
    try:
        Allowlist(entries).check(parse_target(url))
    except BadTarget:
        return False
    return True


@pytest.mark.parametrize(
    ("entry", "yes", "no"),
    [
        ("hooks.example.com", "https://HOOKS.example.com:8443/x", "https://a.hooks.example.com/"),
        ("hooks.example.com:8443", "https://hooks.example.com:8443/", "https://hooks.example.com/"),
        ("hooks.example.com:443", "https://hooks.example.com/", "https://hooks.example.com:8443/"),
        ("*.example.com", "https://a.b.example.com/", "https://example.com/"),
        ("*.example.com", "https://a.example.com/", "https://badexample.com/"),
        ("93.184.216.34", "https://93.184.216.34/", "https://93.184.216.35/"),
        ("example.com", "https://example.com/", "https://example.com.evil.net/"),
    ],
)
def test_an_entry_is_a_host_or_all_below_it(entry, yes, no):
    assert allows([entry], yes)
    assert not allows([entry], no)
    assert not allows([], yes)
    assert allows(None, no)


def test_a_host_must_be_on_both_lists():
    target = parse_target("https://a.example.com/")
    Allowlist(["a.example.com"], ["*.example.com"]).check(target)
    with pytest.raises(BadTarget, match="operator's list"):
        Allowlist(["a.example.com"], ["b.example.com"]).check(target)
    with pytest.raises(BadTarget, match="your team's list"):
        Allowlist([], None).check(target)


def test_a_host_that_is_not_listed_is_not_even_looked_up():
    asked = []
    sender = Sender(frozenset(), resolver=lambda host, _: asked.append(host) or ("93.184.216.34",))
    outcome = sender.post("https://hooks.example.com/", b"{}", {}, Allowlist(["other.example.com"]))
    assert "not on your team's list" in outcome.fault
    assert asked == []


@pytest.fixture
def hosts(client, services):
    """`hosts(body, role)`: sets the lists of the client's team as one of its admins or operators."""
    with services() as s:
        caller = s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer "))
        keys = {role: s.identity.create_key(caller.team_id, role, role)[1] for role in (Role.ADMIN, Role.OPERATOR)}
    path = f"/v1/organization/projects/{caller.team_id}/webhook_hosts"

    def change(body, role=Role.ADMIN):
        return client.post(path, json=body, headers={"Authorization": f"Bearer {keys[role]}"})

    return change


def test_lists_bound_new_endpoints_and_new_urls_and_are_audited(client, hosts):
    made = client.post(PATH, json=BODY).json()
    assert hosts({"hosts": ["other.example.com"]}).json()["hosts"] == ["other.example.com"]
    for path in (PATH, f"{PATH}/{made['id']}"):
        answer = client.post(path, json={**BODY, "url": "https://third.example.com/"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_webhook_url")
        assert "list of hosts" in answer.json()["error"]["message"]
    assert client.post(PATH, json={**BODY, "url": "https://other.example.com/"}).status_code == 200
    hosts({"hosts": None})
    assert client.post(PATH, json=BODY).status_code == 200
    events = [row["data"] for row in client.get("/v1/audit").json()["data"] if row["action"] == "webhook_hosts.update"]
    assert events[-1] == {"before": {"hosts": None}, "after": {"hosts": ["other.example.com"]}}


def test_an_admin_cannot_touch_the_operators_list(client, hosts):
    narrowed = hosts({"operator_hosts": ["only.example.com"]}, Role.OPERATOR).json()
    assert (narrowed["hosts"], narrowed["operator_hosts"]) == (None, ["only.example.com"])
    assert hosts({"operator_hosts": None}).status_code == 403
    hosts({"hosts": ["hooks.example.com"]})
    assert client.post(PATH, json=BODY).status_code == 400


@pytest.mark.parametrize(
    "hosts_given", [["https://x.example.com"], ["*"], ["*.*.com"], ["a b"], ["X.example.com"], [""], ["a"] * 201, "a"]
)
def test_what_is_no_host_is_refused(hosts, hosts_given):
    assert hosts({"hosts": hosts_given}).status_code == 400


def test_an_endpoint_that_is_no_longer_allowed_gets_nothing_more(*, world, client, listen, send, receiver, hosts):  # noqa: F811
    made = listen("fine_tuning.job.cancelled")
    hosts({"hosts": ["elsewhere.example.com"]})
    job_id = world.submit()
    client.post(f"/v1/fine_tuning/jobs/{job_id}/cancel")
    send()
    assert receiver.received == []
    (delivery,) = client.get(f"{PATH}/{made['id']}/deliveries").json()["data"]
    assert "not on your team's list" in delivery["outcomes"][0]["fault"]
    answer = client.post(f"{PATH}/{made['id']}/test", json={"event_type": "fine_tuning.job.cancelled"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "webhook_not_delivered")
    hosts({"hosts": ["127.0.0.1"]})
    client.post(f"{PATH}/{made['id']}/deliveries/{delivery['id']}/redeliver")
    send()
    assert len(receiver.received) == 1
