"""Who is calling: comes from the key or the session, never from the body."""

from dataclasses import dataclass

from app.identity.policy import Permission, Role, is_allowed


@dataclass(frozen=True)
class Caller:
    """The team and key behind a request."""

    team_id: str
    team_slug: str
    key_id: str
    role: Role
    permissions: frozenset[Permission] | None = None
    """What the key is narrowed to; None: all that its role has."""
    user_id: str | None = None
    """The person who logged in: the key is then a session."""

    @property
    def actor(self) -> str:
        """How the audit log names the caller."""
        return f"key:{self.key_id}" if self.user_id is None else f"user:{self.user_id}"

    @property
    def is_operator(self) -> bool:
        """Whether the caller's rights go beyond the own team."""
        return self.may(Permission.ORGANIZATION_WRITE)

    def may(self, permission: Permission) -> bool:
        """Whether role and key both include this right."""
        return is_allowed(self.role, permission) and (self.permissions is None or permission in self.permissions)
