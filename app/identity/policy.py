"""Who may do what: one pure table. Deny by default: a right not listed here is nobody's."""

from enum import StrEnum


class Role(StrEnum):
    """Roles of a key, weakest first."""

    VIEWER = "viewer"
    TRAINER = "trainer"
    ADMIN = "admin"
    OPERATOR = "operator"
    """Runs the installation: bases, the pool, all teams. Every right, in the own team too."""


class Permission(StrEnum):
    """One right; every route names exactly one."""

    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    MODELS_USE = "models:use"
    EVALS_READ = "evals:read"
    EVALS_WRITE = "evals:write"
    BASES_WRITE = "bases:write"
    POOL_READ = "pool:read"
    POOL_WRITE = "pool:write"
    AUDIT_READ = "audit:read"
    TEAM_WRITE = "team:write"
    ORGANIZATION_WRITE = "organization:write"
    SESSION_OWN = "session:own"
    """See and end the own log-in."""


_VIEWER = frozenset(
    {
        Permission.FILES_READ,
        Permission.JOBS_READ,
        Permission.MODELS_READ,
        Permission.MODELS_USE,
        Permission.EVALS_READ,
        Permission.POOL_READ,
        Permission.SESSION_OWN,
    }
)
_TRAINER = _VIEWER | {Permission.FILES_WRITE, Permission.JOBS_WRITE, Permission.MODELS_WRITE, Permission.EVALS_WRITE}
# What is shared by all teams is not an admin's to change.
_ADMIN = frozenset(Permission) - {Permission.BASES_WRITE, Permission.POOL_WRITE, Permission.ORGANIZATION_WRITE}
_GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.TRAINER: _TRAINER,
    Role.ADMIN: _ADMIN,
    Role.OPERATOR: frozenset(Permission),
}


def is_allowed(role: Role, permission: Permission) -> bool:
    """Whether a key of this role has this right."""
    return permission in _GRANTS[role]
