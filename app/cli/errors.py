"""What a command tells the user before it ends with exit code 1."""


class CommandError(Exception):
    """The message says what went wrong and what to do."""
