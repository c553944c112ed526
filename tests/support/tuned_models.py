"""Rows for tests about models: a base that needs no folder, a tuned model with bytes in the store."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi.testclient import TestClient

from app.db.tables import BaseModelRow
from app.identity.caller import Caller

if TYPE_CHECKING:
    from app.factory import Services

OpenServices = Callable[[], AbstractContextManager["Services"]]
ARCHIVE = b"a tar archive" * 1000


def team_of(client: TestClient, services: OpenServices) -> Caller:
    """Who the client's key says it is."""
    with services() as s:
        return s.identity.authenticate(client.headers["authorization"].removeprefix("Bearer "))


def add_base(services: OpenServices, base_id: str = "tiny") -> None:
    with services() as s:
        if s.bases.find(base_id) is None:
            s.work.session.add(
                BaseModelRow(
                    id=base_id,
                    folder=base_id,
                    kind="decoder",
                    licence="MIT",
                    source="test",
                    context_length=512,
                    parameters=1,
                    has_chat_template=True,
                    files={},
                    weights_sha256="0" * 64,
                    created_at=datetime.now(UTC),
                )
            )


def register(
    client: TestClient,
    services: OpenServices,
    *,
    step: int = 10,
    is_final: bool = True,
    job_id: str = "ftjob-1",
    suffix: str = "suf",
) -> str:
    """A tuned model of the client's team, with its bytes in the store; its id."""
    add_base(services)
    caller = team_of(client, services)
    with services() as s:
        writer = s.context.artifacts.open_writer(f"jobs/{job_id}/{step}-{is_final}")
        writer.write(ARCHIVE)
        stored = writer.commit()
        model = s.registry.register(
            team_id=caller.team_id,
            actor="worker:1",
            base_id="tiny",
            job_id=job_id,
            suffix=suffix,
            step=step,
            is_final=is_final,
            archive_key=stored.key,
            archive_sha256=stored.sha256,
            archive_bytes=stored.bytes,
            adapter_sha256="a" * 64,
            files={},
        )
    return model.id
