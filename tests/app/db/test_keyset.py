"""Pages by key: every row once, whatever happens between two pages."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.keyset import fetch_page
from app.db.tables import Team

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def page(session, after=None, limit=3, *, ascending=False, where=()):
    return fetch_page(
        session,
        Team,
        order_by=[Team.created_at, Team.id],
        identity=Team.id,
        scope=[Team.name == "mine"],
        where=where,
        after=after,
        limit=limit,
        ascending=ascending,
    )


@pytest.fixture
def session(context):
    work = context.database.open()
    yield work.session
    work.close()


def add(session, number, *, second=0, name="mine"):
    session.add(Team(id=f"t{number:03}", name=name, slug=f"s{number}", created_at=MOMENT.replace(second=second)))
    session.flush()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.integers(0, 3), max_size=12), limit=st.integers(1, 5), ascending=st.booleans())
def test_following_the_pages_gives_every_row_once_in_order(session, seconds, limit, ascending):
    savepoint = session.begin_nested()
    for number, second in enumerate(seconds):
        add(session, number, second=second)
    seen, after, has_more = [], None, True
    while has_more:
        found = page(session, after, limit, ascending=ascending)
        seen += [row.id for row in found.rows]
        has_more = found.has_more
        after = seen[-1] if seen else None
    expected = sorted((second, f"t{number:03}") for number, second in enumerate(seconds))
    assert seen == [identity for _, identity in (expected if ascending else reversed(expected))]
    savepoint.rollback()
    session.expunge_all()


def test_a_limit_of_zero_says_whether_there_is_more(session):
    assert page(session, limit=0) == page(session, limit=0)
    assert not page(session, limit=0).has_more
    add(session, 1)
    assert page(session, limit=0).rows == []
    assert page(session, limit=0).has_more


def test_an_unknown_cursor_and_one_of_another_scope_give_an_empty_page(session):
    add(session, 1)
    add(session, 2, name="foreign")
    for after in ("after", "t002"):
        found = page(session, after)
        assert (found.rows, found.has_more) == ([], False)


def test_a_row_that_left_the_list_still_marks_its_place(session):
    for number in range(4):
        add(session, number, second=number)
    found = page(session, "t002", where=[Team.id != "t002"])
    assert [row.id for row in found.rows] == ["t001", "t000"]
