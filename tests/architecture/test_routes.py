"""Deny by default: every route asks for exactly one right, or stands on a short public list."""

from fastapi.routing import APIRoute

from app.api.edge import WorkRoute
from app.identity.policy import Permission
from app.main import ROUTERS

PUBLIC = frozenset(
    {
        *("/health/live", "/health/ready", "/version"),
        *("/v1/auth/login", "/v1/auth/callback", "/v1/auth/token"),
    }
)
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def permissions_of(dependant) -> list[Permission]:
    own = getattr(dependant.call, "permission", None)
    found = [] if own is None else [own]
    for below in dependant.dependencies:
        found += permissions_of(below)
    return found


def named(route: APIRoute) -> str:
    return f"{'|'.join(sorted(route.methods))} {route.path}"


def test_every_route_has_exactly_one_permission_or_is_public():
    guilty = {}
    for route in ROUTES:
        found = permissions_of(route.dependant)
        if len(found) != (0 if route.path in PUBLIC else 1):
            guilty[named(route)] = found
    assert guilty == {}


def test_every_private_route_commits_before_it_answers():
    assert [named(route) for route in ROUTES if route.path not in PUBLIC and not isinstance(route, WorkRoute)] == []


def test_every_route_hangs_below_v1_or_is_public():
    assert [named(route) for route in ROUTES if route.path not in PUBLIC and not route.path.startswith("/v1/")] == []


def test_the_application_serves_these_routes_and_its_description_only(client):
    served = set(client.get("/openapi.json").json()["paths"])
    assert served == {route.path_format for route in ROUTES if route.include_in_schema}


def test_every_private_route_refuses_a_request_without_a_key(client):
    answers = {}
    for route in ROUTES:
        if route.path in PUBLIC:
            continue
        path = route.path_format.replace("{", "").replace("}", "")
        for method in route.methods:
            answer = client.request(method, path, headers={"Authorization": ""})
            answers[f"{method} {path}"] = (answer.status_code, answer.json()["error"]["code"])
    assert set(answers.values()) == {(401, "invalid_api_key")}


def test_a_viewer_can_change_nothing(client, services):
    from app.identity.policy import Role  # noqa: PLC0415

    with services() as s:
        team = s.identity.create_team("Viewers", "viewers")
        _, key = s.identity.create_key(team.id, "v", Role.VIEWER)
    writing = [r for r in ROUTES if any(str(p).endswith(":write") for p in permissions_of(r.dependant))]
    assert len(writing) > 10
    for route in writing:
        path = route.path_format.replace("{", "").replace("}", "")
        for method in route.methods:
            answer = client.request(method, path, headers={"Authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_permissions"), path
