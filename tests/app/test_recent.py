"""What requests share for a moment, and no longer."""

import pytest

from app.recent import Recent


class Reader:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return f"read {self.times}"


@pytest.fixture
def now():
    return [100.0]


def test_a_value_is_shared_until_it_is_too_old(now):
    recent, read = Recent(1.0, clock=lambda: now[0]), Reader()
    assert [recent.get("a", read), recent.get("a", read)] == ["read 1", "read 1"]
    now[0] += 0.9
    assert recent.get("a", read) == "read 1"
    now[0] += 0.1
    assert recent.get("a", read) == "read 2"


def test_keys_do_not_share(now):
    recent, read = Recent(1.0, clock=lambda: now[0]), Reader()
    assert [recent.get("a", read), recent.get("b", read)] == ["read 1", "read 2"]


def test_a_value_that_does_not_fit_is_read_anew_for_all(now):
    recent, read = Recent(1.0, clock=lambda: now[0]), Reader()
    recent.get("a", read)
    assert recent.get("a", read, is_fit=lambda value: value == "read 2") == "read 2"
    assert recent.get("a", read) == "read 2"


def test_a_value_ages_from_before_it_was_read(now):
    def read_slowly():
        now[0] += 5.0
        return "slow"

    recent = Recent(1.0, clock=lambda: now[0])
    recent.get("a", read_slowly)
    assert recent.get("a", lambda: "new") == "new"


def test_what_cannot_be_read_is_not_kept(now):
    def fail():
        raise OSError("gone")

    recent = Recent(1.0, clock=lambda: now[0])
    with pytest.raises(OSError, match="gone"):
        recent.get("a", fail)
    assert recent.get("a", lambda: "there") == "there"


def test_no_age_at_all_shares_nothing(now):
    recent, read = Recent(0.0, clock=lambda: now[0]), Reader()
    assert [recent.get("a", read), recent.get("a", read)] == ["read 1", "read 2"]
