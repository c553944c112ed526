"""Eight attempts in seventeen hours, spread."""

from app.webhooks.retries import MAX_ATTEMPTS, delay_seconds, is_delivered


def delays(delivery_id):
    return [delay_seconds(attempts, delivery_id) for attempts in range(1, MAX_ATTEMPTS + 1)]


def test_there_are_eight_attempts_from_five_seconds_to_twelve_hours():
    found = delays("whd_1")
    assert len(found) == 8
    assert found[-1] is None
    assert 5 <= found[0] <= 6
    assert 12 * 3600 <= found[-2] <= 1.2 * 12 * 3600
    assert found[:-1] == sorted(found[:-1])
    assert delay_seconds(20, "whd_1") is None


def test_deliveries_that_failed_together_do_not_come_back_together():
    assert len({delay_seconds(1, f"whd_{number}") for number in range(100)}) == 100
    assert delays("whd_1") == delays("whd_1")


def test_only_two_hundreds_are_delivered():
    assert [is_delivered(status) for status in (199, 200, 204, 299, 300, 301, 307, 404, 500)] == [
        False, True, True, True, False, False, False, False, False,
    ]  # fmt: skip
