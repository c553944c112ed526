"""/v1/models: what a team may use, download, share and delete."""

import hashlib

import pytest

from app.db.tables import Job, TunedModel
from app.identity.policy import Role
from tests.support.tuned_models import ARCHIVE, add_base, register, team_of


@pytest.fixture
def other(services):
    with services() as s:
        team = s.identity.create_team("B", "b")
        _, key = s.identity.create_key(team.id, "k", Role.ADMIN)
        caller = s.identity.authenticate(key)
    return caller, {"Authorization": f"Bearer {key}"}


def test_the_official_client_lists_shows_and_deletes_models(openai_client, client, services):
    final = register(client, services)
    checkpoint = register(client, services, step=5, is_final=False)
    assert {model.id for model in openai_client.models.list()} == {final, checkpoint, "tiny"}
    shown = openai_client.models.retrieve(final)
    assert (shown.owned_by, shown.id) == ("default", final)
    assert openai_client.models.retrieve("tiny").owned_by == "tunesmith"
    assert openai_client.models.delete(checkpoint).deleted
    assert {model.id for model in openai_client.models.list()} == {final, "tiny"}


def test_bytes_that_two_names_share_go_with_the_last_of_them(openai_client, client, services, context):
    checkpoint = register(client, services, is_final=False)
    final = register(client, services)
    with services() as s:
        rows = [s.work.session.get(TunedModel, model) for model in (checkpoint, final)]
        rows[1].archive_key = key = rows[0].archive_key
    assert openai_client.models.delete(checkpoint).deleted
    with services() as s:
        s.registry.purge_deleted()
    assert client.get(f"/v1/models/{final}/adapter").content == ARCHIVE
    openai_client.models.delete(final)
    with services() as s:
        s.registry.purge_deleted()
    with pytest.raises(KeyError):
        context.artifacts.size(key)


def test_a_tuned_model_says_its_task_and_a_base_none(client, services):
    final = register(client, services)
    assert client.get(f"/v1/models/{final}").json()["task"] == "chat"
    assert client.get("/v1/models/tiny").json()["task"] is None


def test_an_absent_model_is_told_in_openais_words(client):
    for model in ("none", "ft:none:a:b:c", "a/b"):
        error = client.get(f"/v1/models/{model}").json()["error"]
        assert error == {
            "message": f"The model `{model}` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }


def test_a_base_cannot_be_deleted_as_a_model(client, services):
    add_base(services)
    assert client.delete("/v1/models/tiny").status_code == 404
    assert client.get("/v1/models/tiny").status_code == 200


@pytest.mark.parametrize("form", ["raw", "escaped"])
def test_a_name_may_be_sent_raw_or_escaped(client, services, form):
    model = register(client, services)
    path = model if form == "raw" else model.replace(":", "%3A")
    assert client.get(f"/v1/models/{path}").json()["id"] == model
    assert client.get("/v1/models/a%2Fb").json()["error"]["message"].startswith("The model `a/b`")


def test_the_adapter_is_downloaded_with_its_hashes_and_a_name(client, services):
    model = register(client, services)
    answer = client.get(f"/v1/models/{model}/adapter")
    assert answer.content == ARCHIVE
    assert answer.headers["x-archive-sha256"] == hashlib.sha256(ARCHIVE).hexdigest()
    assert answer.headers["x-adapter-sha256"] == "a" * 64
    assert answer.headers["content-type"] == "application/x-tar"
    assert f'filename="{model.replace(":", "_")}.tar"' in answer.headers["content-disposition"]
    assert client.get("/v1/models/tiny/adapter").status_code == 404


def test_a_step_registered_again_by_a_later_attempt_keeps_its_name(client, services):
    first = register(client, services, step=5, is_final=False)
    assert register(client, services, step=5, is_final=False) == first
    assert register(client, services, step=5, is_final=True) != first


def test_resolving_gives_the_base_and_the_adapter(client, services):
    model = register(client, services)
    caller = team_of(client, services)
    with services() as s:
        tuned, base = s.registry.resolve(caller, model), s.registry.resolve(caller, "tiny")
    assert tuned.base == base.base
    assert base.adapter is None
    assert tuned.adapter.archive_sha256 == hashlib.sha256(ARCHIVE).hexdigest()


def test_another_team_sees_a_model_only_while_it_is_permitted(client, services, other):
    caller, headers = other
    model = register(client, services)
    adapter = f"/v1/models/{model}/adapter"
    assert client.get(f"/v1/models/{model}", headers=headers).status_code == 404
    assert client.get(adapter, headers=headers).status_code == 404
    path = f"/v1/fine_tuning/checkpoints/{model}/permissions"
    permission = client.post(path, json={"project_ids": [caller.team_id]}).json()["data"][0]
    assert client.get(adapter, headers=headers).content == ARCHIVE
    assert model in client.get("/v1/models", headers=headers).text
    with services() as s:
        assert s.registry.resolve(caller, model).adapter is not None
    assert client.delete(f"/v1/models/{model}", headers=headers).status_code == 404
    assert client.get(path, headers=headers).status_code == 404
    assert client.delete(f"{path}/{permission['id']}").json()["deleted"]
    assert client.get(adapter, headers=headers).status_code == 404


def test_the_official_client_manages_permissions(openai_client, client, services):
    model = register(client, services)
    permissions = openai_client.fine_tuning.checkpoints.permissions
    made = list(permissions.create(model, project_ids=["team_a", "team_b", "team_a"]))
    assert [permission.project_id for permission in made] == ["team_a", "team_b"]
    again = list(permissions.create(model, project_ids=["team_a"]))
    assert again[0].id == made[0].id
    listed = permissions.list(model, limit=1, order="ascending")
    assert [permission.project_id for permission in listed] == ["team_a", "team_b"]
    assert permissions.list(model, project_id="team_b").data[0].id == made[1].id
    assert permissions.delete(made[0].id, fine_tuned_model_checkpoint=model).deleted
    assert [permission.project_id for permission in permissions.list(model)] == ["team_b"]


def test_a_deleted_models_bytes_go_and_a_sweep_repeats_it(client, services, context):
    model = register(client, services)
    client.delete(f"/v1/models/{model}")
    with pytest.raises(KeyError):
        context.artifacts.size("jobs/ftjob-1/10-True")
    with services() as s:
        assert s.registry.purge_deleted() == 1
        assert s.registry.purge_deleted() == 0
    with services() as s:
        assert s.work.session.get(TunedModel, model).purged_at is not None


def test_a_model_that_a_job_continues_from_cannot_be_deleted(client, services):
    model = register(client, services)
    caller = team_of(client, services)
    with services() as s:
        s.work.session.add(
            Job(
                id="ftjob-2",
                team_id=caller.team_id,
                created_by=caller.actor,
                status="queued",
                base_id="tiny",
                parent_model_id=model,
                training_file="file-x",
                seed=1,
                method={},
                hyperparameters={},
            )
        )
    answer = client.delete(f"/v1/models/{model}")
    assert answer.status_code == 409
    assert "ftjob-2" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [{}, {"project_ids": "team"}, {"project_ids": [""]}, {"project_ids": [1]}, {"project_ids": ["x"] * 101}]
)
def test_permissions_that_cannot_be_are_refused(client, services, body):
    model = register(client, services)
    assert client.post(f"/v1/fine_tuning/checkpoints/{model}/permissions", json=body).status_code == 400
