"""Writes docs/reference/authorization.md from the application's own routes: `make docs`."""

from pathlib import Path

from fastapi.routing import APIRoute

from app.api.edge import permission_of
from app.identity.policy import Permission, Role, is_allowed
from app.main import ROUTERS

TARGET = Path(__file__).parent / "reference" / "authorization.md"
_HEAD = """# Who may call what

Written by `make docs` from the application's routes and the table of rights (`app/identity/policy.py`); a test keeps it
current, and another one asks every route as six identities: no key, an expired one, a revoked one, another team's, the
right team's with too low a role, the right one.

Without a valid key every route answers 401. A key whose role, or whose own list of permissions, lacks the right, gets
403. What belongs to another team is answered exactly as what does not exist: 404 with the same code. The team always
comes from the key. An operator has every right, and in `/v1/organization` reaches all teams.

"""
_SHARED = "/v1/bases"


def render() -> str:
    """The whole page."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    lines = [
        _line(method, route.path.replace(":path", ""), permission_of(route.dependant))
        for route in routes
        for method in sorted(route.methods)
    ]
    head = f"| route | right | {' | '.join(Role)} | another team's key |"
    return "\n".join([_HEAD, head, "|---|---|" + "---|" * (len(Role) + 1), *lines]) + "\n"


def _line(method: str, path: str, permission: Permission | None) -> str:
    if permission is None:
        return f"| `{method} {path}` | none: public | " + "yes | " * len(Role) + "yes |"
    marks = " | ".join("yes" if is_allowed(role, permission) else "no" for role in Role)
    if not is_allowed(Role.ADMIN, permission):
        foreign = "403, but an operator's"
    elif path.startswith(_SHARED):
        foreign = "shared by all teams"
    else:
        foreign = "404" if "{" in path else "its own only"
    return f"| `{method} {path}` | `{permission}` | {marks} | {foreign} |"


if __name__ == "__main__":
    TARGET.write_text(render())
    print(TARGET)
