"""What the tests of files and uploads look at: the folder of the store, and the keys on their way."""

import pytest

from app.db.tables import PendingArtifact
from app.identity.policy import Role


@pytest.fixture
def stored_files(context):
    """Gives the objects in the store, temp files included, as paths below its folder."""
    root = context.artifacts._root
    return lambda: sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def pending_keys(context):
    """Gives the number of objects that are on their way."""

    def count():
        with context.database.unit_of_work() as work:
            return work.session.query(PendingArtifact).count()

    return count


@pytest.fixture
def other_team(services):
    """The headers of an admin of another team."""
    with services() as s:
        _, key = s.identity.create_key(s.identity.create_team("B", "b").id, "k", Role.ADMIN)
    return {"Authorization": f"Bearer {key}"}
