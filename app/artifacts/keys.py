"""The keys of the artifact store: made by us, checked once more before they touch a file system."""

import re

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_MAX_LENGTH = 512


def checked_key(key: str) -> str:
    """The key itself, or `ValueError`: segments of letters, digits, `.`, `_`, `-`, none starting with a dot."""
    if len(key) > _MAX_LENGTH or _KEY.fullmatch(key) is None:
        raise ValueError("an artifact key has segments of letters, digits, '.', '_' and '-' that do not start with '.'")
    return key
