"""Who is calling: comes from the key, never from the body."""

from dataclasses import dataclass

from app.identity.policy import Role


@dataclass(frozen=True)
class Caller:
    """The team and key behind a request."""

    team_id: str
    team_slug: str
    key_id: str
    role: Role

    @property
    def actor(self) -> str:
        """How the audit log names the caller."""
        return f"key:{self.key_id}"
