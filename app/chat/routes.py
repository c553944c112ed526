"""/v1/chat/completions and /v1/completions: ask a model, whole or streamed; stored completions.

The two `async` routes look the model up in a thread, give the database connection back, and only then
generate: an answer takes seconds, and a connection held meanwhile would be missing elsewhere.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import ContextDep, ServicesDep, allow
from app.api.edge import WorkRoute, release
from app.api.pagination import After, Limit20, Order
from app.chat import streams
from app.chat.answers import Answer, collect, collect_all
from app.chat.chat_shape import AnswerHead, chat_completion
from app.chat.connection import CallerGone, while_connected
from app.chat.model_to_ask import ModelToAsk
from app.chat.prediction_answers import answer_of, events_of, form_of, question_spec
from app.chat.requests import chat_form, chat_spec, completion_form, completion_specs
from app.chat.runtime import ChatRuntime
from app.chat.schemas import ChatRequest, CompletionRequest, MetadataUpdate
from app.chat.sse import HEADERS, MEDIA_TYPE, closed_by_done_or_error
from app.chat.text_shape import text_completion
from app.clock import unix_seconds
from app.context import Context
from app.contracts.specs import AdapterRef
from app.db.scope import team_scope
from app.factory import Services
from app.identity.caller import Caller
from app.identity.policy import Permission
from app.ids import Prefix, new_id

router = APIRouter(prefix="/v1", route_class=WorkRoute, tags=["Chat"])
CallerDep = Annotated[Caller, Depends(allow(Permission.MODELS_USE))]
Wire = dict[str, Any]


def _runtime(request: Request) -> ChatRuntime:
    runtime: ChatRuntime = request.app.state.chat
    return runtime


RuntimeDep = Annotated[ChatRuntime, Depends(_runtime)]


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    *,
    request: Request,
    body: ChatRequest,
    context: ContextDep,
    services: ServicesDep,
    caller: CallerDep,
    runtime: RuntimeDep,
) -> Response:
    """Answer a conversation with a base or fine-tuned model."""
    model, adapter = await find(request, services, runtime, caller, body.model)
    head = _head(Prefix.CHAT_COMPLETION, model, context)
    if adapter is not None and model.predicts and not model.converses:
        return await _predicted(request, body, context, caller, runtime, model=model, adapter=adapter, head=head)
    model.require_writing()
    spec = chat_spec(body, model.base, adapter)
    form = chat_form(body, spec)

    async def keep(answer: Answer) -> None:
        await _keep(context, caller, body, chat_completion(head, answer, form))

    if body.stream:
        lines = await streams.begun(runtime.generator, spec)
        return _event_stream(streams.chat_events(lines, head, spec.n, form, keep if body.store else None))
    try:
        answer = await while_connected(request, collect(runtime.generator, spec))
    except CallerGone:
        return Response(status_code=499)
    if body.store:
        await keep(answer)
    return JSONResponse(chat_completion(head, answer, form))


@router.post("/completions", response_model=None)
async def create_completion(
    *,
    request: Request,
    body: CompletionRequest,
    context: ContextDep,
    services: ServicesDep,
    caller: CallerDep,
    runtime: RuntimeDep,
) -> Response:
    """Continue a text, without a chat template; with `echo` and `logprobs`, score it."""
    model, adapter = await find(request, services, runtime, caller, body.model)
    model.require_writing()
    specs = completion_specs(body, model.base, adapter)
    form = completion_form(body)
    head = _head(Prefix.COMPLETION, model, context)
    if body.stream:
        first = await streams.begun(runtime.generator, specs[0])
        return _event_stream(streams.text_events(runtime.generator, first, specs, head, form))
    try:
        answers = await while_connected(request, collect_all(runtime.generator, specs))
    except CallerGone:
        return Response(status_code=499)
    return JSONResponse(text_completion(head, answers, form))


async def _predicted(
    request: Request,
    body: ChatRequest,
    context: Context,
    caller: Caller,
    runtime: ChatRuntime,
    *,
    model: ModelToAsk,
    adapter: AdapterRef,
    head: AnswerHead,
) -> Response:
    """The answer of a model that says something of a text: there at once, so a stream of it cannot break."""
    spec = question_spec(body, model, adapter)
    try:
        found = await while_connected(request, runtime.generator.predict(spec))
    except CallerGone:
        return Response(status_code=499)
    answer, form = answer_of(found, body, model), form_of(found, body, model)
    completion = chat_completion(head, answer, form)
    if body.store:
        await _keep(context, caller, body, completion)
    return _event_stream(events_of(head, answer, form)) if body.stream else JSONResponse(completion)


async def find(
    request: Request, services: Services, runtime: ChatRuntime, caller: Caller, model_id: str
) -> tuple[ModelToAsk, AdapterRef | None]:
    """The model in a short transaction, then its adapter as local files."""
    model = await run_in_threadpool(services.chat.find_model, caller, model_id)
    await release(request)
    if model.archive is None:
        return model, None
    return model, await run_in_threadpool(runtime.adapters.materialise, model.archive)


async def _keep(context: Context, caller: Caller, body: ChatRequest, completion: Wire) -> None:
    messages = [message.model_dump(exclude_none=True) for message in body.messages]
    await run_in_threadpool(_store, context, caller, messages, completion)


def _store(context: Context, caller: Caller, messages: list[Wire], completion: Wire) -> None:
    with context.database.unit_of_work(team_scope(caller.team_id)) as work:
        Services(context, work).chat.store(caller, messages, completion)


def _head(prefix: Prefix, model: ModelToAsk, context: Context) -> AnswerHead:
    return AnswerHead(new_id(prefix), unix_seconds(context.clock.now()), model.id, model.fingerprint)


def _event_stream(events: streams.Events) -> StreamingResponse:
    return StreamingResponse(closed_by_done_or_error(events), media_type=MEDIA_TYPE, headers=HEADERS)


@router.get("/chat/completions")
def list_stored_completions(
    *,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    model: str | None = None,
    order: Order = "asc",
) -> Wire:
    """The answers your team asked to keep (`store: true`), oldest first unless told otherwise."""
    metadata = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    data, has_more = services.chat.stored_page(
        caller, model=model, metadata=metadata, after=after, limit=limit, ascending=order == "asc"
    )
    return _list(data, has_more=has_more)


@router.get("/chat/completions/{completion_id}")
def retrieve_stored_completion(completion_id: str, caller: CallerDep, services: ServicesDep) -> Wire:
    """One stored answer."""
    return services.chat.stored(caller, completion_id)


@router.post("/chat/completions/{completion_id}")
def update_stored_completion(
    completion_id: str, body: MetadataUpdate, caller: CallerDep, services: ServicesDep
) -> Wire:
    """Replace the metadata of a stored answer."""
    return services.chat.set_metadata(caller, completion_id, body.metadata)


@router.delete("/chat/completions/{completion_id}")
def delete_stored_completion(completion_id: str, caller: CallerDep, services: ServicesDep) -> Wire:
    """Forget a stored answer."""
    services.chat.delete_stored(caller, completion_id)
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}


@router.get("/chat/completions/{completion_id}/messages")
def list_stored_messages(
    *,
    completion_id: str,
    caller: CallerDep,
    services: ServicesDep,
    after: After = None,
    limit: Limit20 = 20,
    order: Order = "asc",
) -> Wire:
    """The messages a stored answer was given to."""
    messages = services.chat.stored_messages(caller, completion_id)
    if order == "desc":
        messages.reverse()
    start = next((place + 1 for place, message in enumerate(messages) if message["id"] == after), 0)
    return _list(messages[start : start + limit], has_more=start + limit < len(messages))


def _list(data: list[Wire], *, has_more: bool) -> Wire:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
