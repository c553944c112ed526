"""When a webhook is tried again: 5 s, 30 s, 2 min, 10 min, 1 h, 4 h and 12 h after the attempt before, and no more."""

import zlib

_DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
MAX_ATTEMPTS = len(_DELAYS_SECONDS) + 1
_SPREAD = 0.2


def delay_seconds(attempts: int, delivery_id: str) -> float | None:
    """Seconds until the attempt after `attempts` failed ones; None if there is none.

    Each delivery waits up to a fifth longer, by its id: those that failed together do not come back together.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    share = zlib.crc32(f"{delivery_id}{attempts}".encode()) / 2**32
    return _DELAYS_SECONDS[attempts - 1] * (1 + _SPREAD * share)


def is_delivered(status_code: int) -> bool:
    """Any 2xx. A redirect is a failure: we follow none."""
    return 200 <= status_code < 300


GONE = 410
"""The receiver says that it wants no more: the endpoint is disabled at once."""
