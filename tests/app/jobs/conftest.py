"""The fixture `world`."""

import pytest

from tests.support.job_world import JobWorld
from tests.support.service import OpenServices


@pytest.fixture
def world(services: OpenServices) -> JobWorld:
    """One team with a base, over real servers."""
    return JobWorld(services)
