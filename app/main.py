"""The API as one ASGI application: routers, error handlers, middleware, lifespan; nothing else."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.middleware import Middleware

import app.audit.organization_routes
import app.audit.routes
import app.bases.routes
import app.chat.predict_routes
import app.chat.routes
import app.evals.grader_routes
import app.evals.routes
import app.files.routes
import app.files.upload_routes
import app.identity.admin_key_routes
import app.identity.people_routes
import app.identity.project_routes
import app.identity.routes
import app.jobs.evaluation_routes
import app.jobs.routes
import app.login.routes
import app.pool.routes
import app.previews.routes
import app.registry.routes
import app.stages.routes
import app.usage.routes
import app.webhooks.routes
from app import logs
from app.api import errors, health
from app.api.middleware import BodyMiddleware, RequestMiddleware
from app.chat.backend import Generator
from app.chat.runtime import open_runtime
from app.context import Context, open_context
from app.db.scope import API
from app.login.provider import OpenIdProvider
from app.settings import load_settings

_ENDING_THREADS = 40
# The busiest first: a request is compared with the paths in this order.
ROUTERS = (
    app.jobs.routes.router,
    app.chat.routes.router,
    app.files.routes.router,
    app.jobs.evaluation_routes.router,
    health.router,
    app.audit.routes.router,
    app.audit.organization_routes.router,
    app.identity.routes.router,
    app.identity.project_routes.router,
    app.identity.people_routes.router,
    app.identity.admin_key_routes.router,
    app.login.routes.router,
    app.files.upload_routes.router,
    app.bases.routes.router,
    app.stages.routes.router,
    app.registry.routes.router,
    app.pool.routes.router,
    app.chat.predict_routes.router,
    app.previews.routes.router,
    app.evals.routes.router,
    app.evals.grader_routes.router,
    app.usage.routes.router,
    app.webhooks.routes.router,
)


def create_app(context: Context, *, generator: Generator | None = None, closes_context: bool = False) -> FastAPI:
    """The application over `context`, which it closes at shutdown if `closes_context`.

    `generator` answers chat requests in place of the serving engine; for tests.
    """
    # Whatever opens a transaction here and names no team sees no team's rows.
    context = replace(context, database=context.database.within(API))
    chat = open_runtime(context, generator)
    openid = OpenIdProvider(context.settings, context.clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await chat.aclose()
        await openid.aclose()
        if closes_context:
            context.close()

    api = FastAPI(
        title="Tunesmith",
        description="Supervised fine-tuning on your own machines, behind the OpenAI wire.",
        lifespan=lifespan,
        # The stock documentation pages load scripts from other people's servers.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(RequestMiddleware, organization=context.settings.organization),
            Middleware(BodyMiddleware, max_body_bytes=context.settings.max_body_bytes),
        ],
    )
    api.state.context = context
    api.state.ending_threads = CapacityLimiter(_ENDING_THREADS)
    api.state.chat = chat
    api.state.openid = openid
    errors.install(api)
    for router in ROUTERS:
        # Not `include_router`, which finds each route twice and looks through the routers first.
        api.router.routes.extend(router.routes)
    return api


def build() -> FastAPI:
    """For `uvicorn --factory app.main:build`: settings from the environment."""
    logs.configure("api")
    api = create_app(open_context(load_settings()), closes_context=True)
    # What is loaded by now lives as long as the process: the collector of cycles need not walk over it, and the few
    # cycles that a request leaves can wait for more of their kind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    return api
