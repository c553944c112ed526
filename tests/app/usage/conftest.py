"""The fixture `world`, of the team whose key the test's client has."""

import pytest

from tests.support.job_world import JobWorld, clients_world
from tests.support.service import OpenServices


@pytest.fixture
def world(services: OpenServices, api_key: str) -> JobWorld:
    """The operator's team with a base, over real servers."""
    return clients_world(services, api_key)
