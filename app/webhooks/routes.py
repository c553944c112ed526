"""/v1/webhook_endpoints: OpenAI's routes, then what was delivered and sending it again."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ContextDep, ServicesDep, allow
from app.api.edge import WorkRoute, keep_answer_secret, release
from app.api.pagination import After, Limit20, ListPage, list_page
from app.errors import InvalidInput
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.webhooks.addresses import allowed_hosts
from app.webhooks.event_types import EventType
from app.webhooks.schemas import (
    DeliveryObject,
    EndpointCreate,
    EndpointDeleted,
    EndpointObject,
    EndpointTest,
    EndpointTestResult,
    EndpointUpdate,
    EndpointWithSecretObject,
    EventTypeList,
    HostsChange,
    HostsObject,
    SecretRotation,
    delivery_object,
    endpoint_object,
    endpoint_with_secret_object,
    hosts_object,
)
from app.webhooks.sending import Sender

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Webhooks"])
Admin = Annotated[Caller, Depends(allow(Permission.TEAM_WRITE))]
_PATH = "/webhook_endpoints"


@router.get("/webhook_event_types")
def list_event_types(caller: Admin) -> EventTypeList:
    """The event types that this server sends."""
    del caller
    return EventTypeList(data=[event_type.value for event_type in EventType])


@router.post(_PATH, dependencies=[Depends(keep_answer_secret)])
def create_endpoint(caller: Admin, services: ServicesDep, body: EndpointCreate) -> EndpointWithSecretObject:
    """Name a URL that is told of events. The signing secret is shown in this answer only."""
    return endpoint_with_secret_object(services.webhooks.create(caller, body))


@router.get(_PATH)
def list_endpoints(
    caller: Admin, services: ServicesDep, after: After = None, limit: Limit20 = 20
) -> ListPage[EndpointObject]:
    """Your team's endpoints, newest first."""
    page = services.webhooks.page(caller, after=after, limit=limit)
    return list_page([endpoint_object(row) for row in page.rows], has_more=page.has_more)


@router.get(_PATH + "/{endpoint_id}")
def get_endpoint(endpoint_id: str, caller: Admin, services: ServicesDep) -> EndpointObject:
    """One endpoint, without its secret."""
    return endpoint_object(services.webhooks.get(caller, endpoint_id))


@router.post(_PATH + "/{endpoint_id}")
def update_endpoint(endpoint_id: str, caller: Admin, services: ServicesDep, body: EndpointUpdate) -> EndpointObject:
    """Change name, URL or event types; `enabled` sets a disabled endpoint to work again."""
    return endpoint_object(services.webhooks.update(caller, endpoint_id, body))


@router.delete(_PATH + "/{endpoint_id}")
def delete_endpoint(endpoint_id: str, caller: Admin, services: ServicesDep) -> EndpointDeleted:
    """Delete an endpoint with its deliveries."""
    services.webhooks.delete(caller, endpoint_id)
    return EndpointDeleted(id=endpoint_id)


@router.post(_PATH + "/{endpoint_id}/rotate_secret", dependencies=[Depends(keep_answer_secret)])
def rotate_endpoint_secret(
    endpoint_id: str, caller: Admin, services: ServicesDep, body: SecretRotation | None = None
) -> EndpointWithSecretObject:
    """A new signing secret; on request the old one signs beside it for 24 hours."""
    keeps_old = body is not None and body.keep_old_secret_active_for_24_hours
    return endpoint_with_secret_object(services.webhooks.rotate_secret(caller, endpoint_id, keeps_old=keeps_old))


@router.post(_PATH + "/{endpoint_id}/test")
async def check_endpoint(
    *, endpoint_id: str, request: Request, caller: Admin, services: ServicesDep, context: ContextDep, body: EndpointTest
) -> EndpointTestResult:
    """Send a sample event at once, with the object id `sample`, and tell the status it was answered with."""
    message = await run_in_threadpool(services.webhooks.sample, caller, endpoint_id, body.event_type)
    await release(request)
    sender = Sender(allowed_hosts(context.settings.webhook_allowed_hosts))
    outcome = await run_in_threadpool(sender.post, message.url, message.body, message.headers, message.allowlist)
    if outcome.status_code is None:
        raise InvalidInput(
            f"The sample event could not be delivered. {outcome.fault}", param="url", code="webhook_not_delivered"
        )
    return EndpointTestResult(
        webhook_endpoint_id=endpoint_id, event_type=body.event_type, status_code=outcome.status_code
    )


@router.get(_PATH + "/{endpoint_id}/deliveries")
def list_deliveries(
    *,
    endpoint_id: str,
    caller: Admin,
    services: ServicesDep,
    status: Literal["pending", "delivered", "failed"] | None = None,
    after: After = None,
    limit: Limit20 = 20,
) -> ListPage[DeliveryObject]:
    """What was sent, or waits to be sent, newest first. Kept for 30 days."""
    page = services.webhooks.deliveries(caller, endpoint_id, status=status, after=after, limit=limit)
    return list_page([delivery_object(row) for row in page.rows], has_more=page.has_more)


@router.get(_PATH + "/{endpoint_id}/deliveries/{delivery_id}")
def get_delivery(endpoint_id: str, delivery_id: str, caller: Admin, services: ServicesDep) -> DeliveryObject:
    """One delivery with what became of its attempts."""
    return delivery_object(services.webhooks.delivery(caller, endpoint_id, delivery_id))


@router.post(_PATH + "/{endpoint_id}/deliveries/{delivery_id}/redeliver")
def redeliver(endpoint_id: str, delivery_id: str, caller: Admin, services: ServicesDep) -> DeliveryObject:
    """Send it again, with the same `webhook-id`."""
    return delivery_object(services.webhooks.redeliver(caller, endpoint_id, delivery_id))


@router.get("/organization/projects/{project_id}/webhook_hosts")
def get_hosts(project_id: str, caller: Admin, services: ServicesDep) -> HostsObject:
    """To which hosts a team's webhooks may go: an admin's own team, or any for the operator."""
    return hosts_object(project_id, services.webhook_hosts.get(caller, project_id))


@router.post("/organization/projects/{project_id}/webhook_hosts")
def change_hosts(project_id: str, caller: Admin, services: ServicesDep, body: HostsChange) -> HostsObject:
    """Set the lists; what is left out stays as it is. `operator_hosts` is the operator's alone."""
    changes = body.model_dump(exclude_unset=True)
    return hosts_object(project_id, services.webhook_hosts.change(caller, project_id, changes))
