"""Probes: what is ready, what is not, and that the doorbell's absence is no reason to send nobody."""

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session


def test_a_healthy_service_is_live_and_ready_without_a_key(client):
    no_key = {"Authorization": ""}
    assert client.get("/health/live", headers=no_key).json() == {"status": "ok"}
    assert client.get("/health/ready", headers=no_key).json() == {
        "status": "ready", "database": "ok", "artifacts": "ok", "broker": "ok",
    }  # fmt: skip
    assert "version" in client.get("/version", headers=no_key).json()


def test_without_a_database_the_service_is_unready(client, monkeypatch):
    def away(*_, **__):
        raise OperationalError("SELECT 1", {}, Exception("refused"))

    monkeypatch.setattr(Session, "execute", away)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["database"]) == (503, "unreachable")


def test_without_a_store_the_service_is_unready(client, context, monkeypatch):
    def away():
        raise OSError("no disk")

    monkeypatch.setattr(context.artifacts, "check", away)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["artifacts"]) == (503, "unreachable")


def test_without_the_broker_the_service_is_ready_all_the_same(client, context, monkeypatch):
    def away():
        raise BrokerError("refused")

    monkeypatch.setattr(context.broker, "check", away)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["broker"], answer.json()["status"]) == (200, "unreachable", "ready")
