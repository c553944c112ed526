"""The API with a scripted generator, a base and a tuned model in the registry."""

import hashlib
import io
import tarfile

import pytest
from fastapi.testclient import TestClient

from app.db.tables import BaseModelRow, TunedModel
from app.main import create_app
from tests.support.scripted_generator import ScriptedGenerator, saying

TUNED = "ft:tiny:default::abcd1234"
WEIGHTS = b"weights of an adapter"


@pytest.fixture
def generator():
    return ScriptedGenerator(saying("bill", "ing"))


@pytest.fixture
def api(context, api_key, generator, base):
    """A client of the API; errors of ours come as answers."""
    app = create_app(context, generator=generator)
    headers = {"Authorization": f"Bearer {api_key}"}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def base(context):
    row = BaseModelRow(
        id="tiny",
        folder="tiny",
        kind="decoder",
        licence="test",
        source="test",
        context_length=128,
        parameters=1000,
        has_chat_template=True,
        files={},
        weights_sha256="ab" * 32,
    )
    with context.database.unit_of_work() as work:
        work.session.add(row)
    return row


@pytest.fixture
def tuned(context, services, api_key, base):
    """A tuned model of the team `default`, its archive in the store."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("adapter_model.safetensors")
        entry.size = len(WEIGHTS)
        tar.addfile(entry, io.BytesIO(WEIGHTS))
    writer = context.artifacts.open_writer("adapters/one.tar")
    writer.write(buffer.getvalue())
    stored = writer.commit()
    with services() as opened:
        row = TunedModel(
            id=TUNED,
            team_id=opened.identity.authenticate(api_key).team_id,
            base_id="tiny",
            job_id="ftjob-1",
            step=3,
            is_final=True,
            adapter_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
            archive_key=stored.key,
            archive_sha256=stored.sha256,
            archive_bytes=stored.bytes,
            files={},
        )
        opened.work.session.add(row)
    return row


class Tune:
    """Says what the tuned model was tuned to do."""

    def __init__(self, services, row):
        self._services = services
        self.row = row

    def __call__(self, recipe, *, kind="decoder", has_chat_template=True, **fields):
        """`kind` and `has_chat_template` are the base's."""
        with self._services() as opened:
            base = opened.work.session.get_one(BaseModelRow, "tiny")
            base.kind, base.has_chat_template = kind, has_chat_template
            row = opened.work.session.get_one(TunedModel, self.row.id)
            row.recipe = recipe
            for name, value in fields.items():
                setattr(row, name, value)


@pytest.fixture
def tune(services, tuned):
    return Tune(services, tuned)


@pytest.fixture
def other_team_key(services):
    """A key of a team that owns nothing."""
    from app.identity.policy import Role  # noqa: PLC0415

    with services() as opened:
        team = opened.identity.create_team("Other", "other")
        return opened.identity.create_key(team.id, "theirs", Role.ADMIN)[1]
