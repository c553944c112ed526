"""Patterns that users write, searched with a limit of time: no expression can hold up the engine."""

import regex

SECONDS = 1.0


def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Python's syntax of regular expressions. Raises ValueError with the place of a mistake."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error


def is_found(pattern: "regex.Pattern[str]", text: str, seconds: float = SECONDS) -> bool:
    """Whether the pattern matches somewhere in the text. Raises TimeoutError after `seconds`."""
    return pattern.search(text, timeout=seconds) is not None
