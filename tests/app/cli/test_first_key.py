"""The operator's way in to a service without keys."""

import pytest

from app.cli.errors import CommandError
from app.cli.first_key import make_first_key
from app.settings import to_environment


def test_the_key_it_prints_opens_the_door_as_an_operator(settings, services, monkeypatch):
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    text = make_first_key()
    with services() as opened:
        assert opened.identity.authenticate(text).role == "operator"


def test_without_the_service_s_settings_it_says_where_to_run_it(monkeypatch):
    monkeypatch.delenv("TUNESMITH_DATABASE_URL", raising=False)
    with pytest.raises(CommandError, match="runs where the service runs"):
        make_first_key()
