"""/v1/bases: registered once, checked by hashes, never by path."""

import json
from pathlib import Path

import pytest

from app.contracts.specs import BaseRef
from app.identity.policy import Role
from tests.support.tiny_models import build_tiny_base
from tests.support.tuned_models import register

BODY = {"id": "tiny", "licence": "Apache-2.0", "source": "built in a test"}


@pytest.fixture
def built(context):
    return build_tiny_base(context.settings.bases_dir / "tiny", base_id="tiny")


def test_a_base_is_registered_shown_and_usable_by_reference(client, services, built):
    made = client.post("/v1/bases", json=BODY)
    assert made.status_code == 200
    assert made.json()["weights_sha256"] == built.weights_sha256
    assert client.get("/v1/bases/tiny").json() == made.json()
    assert client.get("/v1/bases").json()["data"] == [made.json()]
    with services() as s:
        assert s.bases.ref(s.bases.get("tiny")) == BaseRef(**built.model_dump())
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]


def test_the_answer_tells_no_path_of_the_server(client, context, built):
    assert str(context.settings.bases_dir) not in client.post("/v1/bases", json=BODY).text
    assert str(context.settings.bases_dir) not in client.post("/v1/bases", json={**BODY, "id": "none"}).text


def test_registering_the_same_files_again_changes_nothing(client, built):
    first = client.post("/v1/bases", json=BODY).json()
    assert client.post("/v1/bases", json=BODY).json() == first
    assert len(client.get("/v1/audit", params={"object_id": "tiny"}).json()["data"]) <= 1


def test_changed_files_under_the_same_id_are_a_conflict(client, built):
    client.post("/v1/bases", json=BODY)
    path = Path(built.path) / "chat_template.jinja"
    path.write_text(path.read_text() + " ")
    answer = client.post("/v1/bases", json=BODY)
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "base_id", ["../tiny", "/etc", "a/b", "Tiny", "", ".", "..", "-x", "t" * 97, "a\u2215b", "tiny\n"]
)
def test_an_id_that_could_be_a_path_is_refused(client, built, base_id):
    answer = client.post("/v1/bases", json={**BODY, "id": base_id})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "id")


def test_a_poisoned_folder_is_refused_with_the_file_and_the_reason(client, built):
    path = Path(built.path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    answer = client.post("/v1/bases", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_base_model")
    assert "'config.json'" in answer.json()["error"]["message"]
    assert client.get("/v1/bases").json()["data"] == []


def test_only_an_admin_registers(client, services, built):
    with services() as s:
        team = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(team.id, "t", Role.TRAINER)
    headers = {"Authorization": f"Bearer {key}"}
    assert client.post("/v1/bases", json=BODY, headers=headers).status_code == 403
    client.post("/v1/bases", json=BODY)
    assert client.get("/v1/bases/tiny", headers=headers).status_code == 200


def test_an_unused_base_can_be_taken_out_and_one_in_use_cannot(client, services, built):
    client.post("/v1/bases", json=BODY)
    assert client.delete("/v1/bases/tiny").json()["deleted"]
    assert client.get("/v1/bases/tiny").status_code == 404
    assert (Path(built.path) / "config.json").exists()
    client.post("/v1/bases", json=BODY)
    register(client, services)
    answer = client.delete("/v1/bases/tiny")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
    assert client.get("/v1/bases/tiny").status_code == 200
