import time

import pytest

from workers.supervisor.lease import MARGIN_SECONDS, Lease, LeaseLost


def test_a_lease_is_counted_from_the_request_not_from_the_answer() -> None:
    lease = Lease(30, granted_at=time.monotonic() - 10)
    assert lease.seconds_left() <= 20 - MARGIN_SECONDS


def test_a_renewal_makes_it_longer_and_a_late_one_never_shorter() -> None:
    now = time.monotonic()
    lease = Lease(30, granted_at=now - 20)
    before = lease.seconds_left()
    lease.renewed(now)
    after = lease.seconds_left()
    assert after > before + 19
    lease.renewed(now - 15)
    assert lease.seconds_left() == pytest.approx(after, abs=1)


def test_a_renewal_counts_from_its_request_too() -> None:
    now = time.monotonic()
    lease = Lease(30, granted_at=now - 20)
    lease.renewed(now - 10)
    assert lease.seconds_left() <= 20 - MARGIN_SECONDS


def test_the_last_seconds_of_a_lease_are_not_ours_any_more() -> None:
    lease = Lease(30, granted_at=time.monotonic() - 30 + MARGIN_SECONDS)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_lost_lease_cannot_be_renewed() -> None:
    lease = Lease(30, granted_at=time.monotonic())
    lease.lose()
    lease.renewed(time.monotonic())
    assert lease.seconds_left() == 0
