"""The serving engine over HTTP: one POST an answer, dropped when the reader goes away; texts are read line by line."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

import httpx
from pydantic import ValidationError

from app.chat.backend import AnswerLine
from app.contracts.base import Contract
from app.contracts.errors import WorkerError
from app.contracts.generation import Done, ErrorLine, GenerationLine, generation_line_adapter
from app.contracts.predictions import Predictions, PredictSpec
from app.contracts.previews import Preview, PreviewSpec
from app.contracts.specs import GenerateSpec
from app.errors import AppError, InvalidInput, Unavailable
from app.logs import logger
from app.settings import Settings

_CONNECT_SECONDS = 5.0
# The first line comes only once the request has left the engine's queue.
_READ_SECONDS = 600.0
_JSON = {"Content-Type": "application/json"}
_BROKEN = "The answer was cut off: the serving engine went away in the middle of it. Please send the request again."


AnswerT = TypeVar("AnswerT", bound=Contract)


class HttpGenerator:
    """Talks to `settings.server_url`; keeps connections between requests."""

    def __init__(self, settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        token = settings.server_token
        self._url = settings.server_url
        self._client = httpx.AsyncClient(
            base_url=settings.server_url or "",
            headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {},
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            transport=transport,
            trust_env=False,  # a private address: never through a proxy of the surroundings
        )

    async def generate(self, spec: GenerateSpec) -> AsyncGenerator[AnswerLine, None]:
        with _named_faults(self._url):
            async with self._client.stream(
                "POST", "/generate", content=spec.model_dump_json().encode(), headers=_JSON
            ) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await response.aread())
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        yield line

    async def predict(self, spec: PredictSpec) -> Predictions:
        return await self._post("/predict", spec, Predictions)

    async def preview(self, spec: PreviewSpec) -> Preview:
        return await self._post("/preview", spec, Preview)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(self, path: str, spec: Contract, answer: type[AnswerT]) -> AnswerT:
        """One question, one whole answer."""
        with _named_faults(self._url):
            response = await self._client.post(path, content=spec.model_dump_json().encode(), headers=_JSON)
        if response.status_code != 200:
            raise _refusal(response.status_code, response.content)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise _not_in_the_contract(error) from error


@contextmanager
def _named_faults(url: str | None) -> Iterator[None]:
    """What the network does, as errors for the caller and the operator."""
    if url is None:
        raise Unavailable(
            "This installation has no serving engine, so models can be trained but not asked. "
            "The operator starts one and names it in TUNESMITH_SERVER_URL.",
            code="no_serving_engine",
        )
    try:
        yield
    except httpx.ConnectError as error:
        logger.warning("serving engine not reachable at %s: %s", url, error)
        raise Unavailable(
            "The serving engine is not reachable right now; try again in a few seconds. "
            "If it stays away, the operator should look at the process behind TUNESMITH_SERVER_URL.",
            code="serving_engine_unreachable",
        ) from error
    except httpx.TimeoutException as error:
        raise Unavailable(
            "The serving engine did not answer in time; it is overloaded or hangs. Please try again later.",
            code="serving_engine_timeout",
        ) from error
    except httpx.TransportError as error:
        raise Unavailable(_BROKEN, code="answer_cut") from error


async def _lines(response: httpx.Response) -> AsyncGenerator[AnswerLine, None]:
    """The stream up to and with `Done`; an error line and a missing end are raised."""
    async for text in response.aiter_lines():
        if not text:
            continue
        line = _parse(text)
        if isinstance(line, ErrorLine):
            raise to_app_error(line.error)
        yield line
        if isinstance(line, Done):
            return
    raise Unavailable(_BROKEN, code="answer_cut")


def _parse(text: str | bytes) -> GenerationLine:
    try:
        return generation_line_adapter.validate_json(text)
    except ValidationError as error:
        raise _not_in_the_contract(error) from error


def _not_in_the_contract(error: ValidationError) -> AppError:
    logger.error("the serving engine sent what is not in the contract: %s", error)
    return AppError(
        "The serving engine answered in a form this service does not understand; are both of the same version?",
        code="serving_engine_protocol",
    )


def _refusal(status: int, body: bytes) -> AppError:
    """The error behind a status other than 200."""
    if status == 401:
        logger.error("the serving engine refused our token: set the same TUNESMITH_SERVER_TOKEN for both")
        return Unavailable(
            "The serving engine refused this service's own token. The operator must give both the same "
            "TUNESMITH_SERVER_TOKEN.",
            code="serving_engine_token",
        )
    line = _parse(body)
    if not isinstance(line, ErrorLine):
        return AppError("The serving engine answered with an error but no reason.", code="serving_engine_protocol")
    return to_app_error(line.error)


def to_app_error(error: WorkerError) -> AppError:
    """Usage is the caller's to mend, transient passes by itself, fatal is ours."""
    match error.kind:
        case "usage":
            return InvalidInput(error.message, code=error.code, param=error.param)
        case "transient":
            return Unavailable(error.message, code=error.code)
        case "fatal":
            logger.error("the serving engine failed: %s: %s", error.code, error.message)
            return AppError(error.message, code=error.code)
