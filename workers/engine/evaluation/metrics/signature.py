"""What a figure depends on beside its rows, in one string, as sacrebleu's: only equal ones may be compared."""

import hashlib
from collections.abc import Iterable

VERSION = 1
"""Of our schemes: one more whenever a figure's value would change for the same answers."""


def signature(**parts: object) -> str:
    """E.g. `average:macro|labels:8/1f0c9a|tunesmith:1`, in the order given."""
    return "|".join(f"{name}:{value}" for name, value in (*parts.items(), ("tunesmith", VERSION)))


def fingerprint(names: Iterable[str]) -> str:
    """How many names and which, whatever their order: `8/1f0c9a`."""
    ordered = sorted(names)
    digest = hashlib.sha256("\0".join(ordered).encode()).hexdigest()
    return f"{len(ordered)}/{digest[:6]}"
