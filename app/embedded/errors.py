"""What can go wrong with an embedded server; the message says what to do."""


class EmbeddedError(Exception):
    """An embedded process cannot be started or did not become ready."""
