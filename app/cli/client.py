"""The command line's HTTP client: where the service is, and its errors in the user's words."""

import ipaddress
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from app.cli.errors import CommandError
from app.cli.saved_logins import saved_service, saved_token

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


@dataclass(frozen=True)
class Connection:
    """Where the service is and the key for it; without a key only what is public can be asked."""

    base_url: str
    api_key: str


class ServiceError(CommandError):
    """An error answer of the service; its message is shown verbatim."""

    def __init__(self, status: int, message: str, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Unreachable(CommandError):  # noqa: N818 - a state of the world
    """No answer at all."""


def find_connection(base_url: str | None, api_key: str | None, data_dir: Path) -> Connection:
    """From the options, else the environment, else what `tunesmith up` keeps in `data_dir`, else the last log-in.

    A key belongs to its service: never send the one of a file elsewhere.
    """
    root = find_base_url(base_url, data_dir)
    ready = _ready(data_dir)
    api_key = api_key or os.environ.get("TUNESMITH_API_KEY")
    if api_key is None and ready is not None and ready.base_url == root:
        api_key = ready.api_key
    api_key = api_key or saved_token(root)
    if api_key is None:
        raise CommandError(
            f"No API key for {root}. Give one with --api-key or in TUNESMITH_API_KEY, or log in with `tunesmith login`."
        )
    return Connection(root, api_key)


def find_base_url(base_url: str | None, data_dir: Path) -> str:
    """Where the service is, in the same order."""
    ready = _ready(data_dir)
    base_url = base_url or os.environ.get("TUNESMITH_BASE_URL") or (ready.base_url if ready else saved_service())
    if base_url is None:
        raise CommandError(
            f"No service is running in {data_dir}. Start one with `tunesmith up`, "
            "or name one with --base-url (or TUNESMITH_BASE_URL)."
        )
    return _root(base_url)


def _ready(data_dir: Path) -> Connection | None:
    file = data_dir / "ready.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    return Connection(_root(found["base_url"]), found["api_key"])


def _root(base_url: str) -> str:
    """The address without the `/v1` that OpenAI's clients want at its end."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


class Client:
    """Verbs over HTTP. Paths start with `/v1/…`; answers are the decoded JSON."""

    def __init__(self, connection: Connection, *, transport: httpx.BaseTransport | None = None) -> None:
        self.connection = connection
        self._http = httpx.Client(
            base_url=_root(connection.base_url),
            headers={"Authorization": f"Bearer {connection.api_key}"} if connection.api_key else None,
            timeout=_TIMEOUT,
            trust_env=not is_loopback(connection.base_url),
            transport=transport,
        )

    def get(self, path: str, **query: str | int | None) -> Any:
        """`query` stands in place of one that `path` has."""
        return self._json(
            "GET", path, params={name: value for name, value in query.items() if value is not None} or None
        )

    def delete(self, path: str) -> Any:
        return self._json("DELETE", path)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, timeout_seconds: float = 60.0, **upload: Any
    ) -> Any:
        """POST JSON, or with `data` and `files` a form. Each call has its own Idempotency-Key."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        content = {"json": body} if body is not None else upload
        timeout = httpx.Timeout(timeout_seconds, connect=10.0)
        return self._json("POST", path, headers=headers, timeout=timeout, **content)

    def pages(self, path: str, *, limit: int = 100, most: int | None = None, **query: str) -> Iterator[dict[str, Any]]:
        """All objects of a list, page by page, at most `most`."""
        after: str | None = None
        given = 0
        while True:
            page = self.get(path, limit=limit, after=after, **query)
            for item in page["data"]:
                yield item
                given += 1
                if given == most:
                    return
            if not page.get("has_more") or not page["data"]:
                return
            after = page["data"][-1]["id"]

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """An answer read as it comes; error answers raise before the first byte is given."""
        with _named_faults(self.connection), self._http.stream(method, path, **arguments) as response:
            if response.is_error:
                response.read()
                raise _service_error(response)
            yield response

    def check_redirects(self, path: str) -> None:
        """Raise what the service says, unless it would send a browser on."""
        with _named_faults(self.connection):
            response = self._http.get(path, follow_redirects=False)
        if not response.is_redirect:
            raise _service_error(response)

    def is_ready(self) -> bool:
        """Whether `/health/ready` says so."""
        try:
            return self._http.get("/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        with _named_faults(self.connection):
            response = self._http.request(method, path, **arguments)
        if response.is_error:
            raise _service_error(response)
        return response.json()


@contextmanager
def _named_faults(connection: Connection) -> Iterator[None]:
    """Turn what the network does into what the user can do."""
    try:
        yield
    except httpx.ConnectError as error:
        raise Unreachable(
            f"No service answers at {connection.base_url}. Start one with `tunesmith up`, "
            "or name another with --base-url (or TUNESMITH_BASE_URL)."
        ) from error
    except httpx.TimeoutException as error:
        raise Unreachable(f"The service at {connection.base_url} did not answer in time. Try again.") from error
    except httpx.TransportError as error:
        raise Unreachable(f"The connection to {connection.base_url} broke: {error}. Try again.") from error


def _service_error(response: httpx.Response) -> ServiceError:
    """The message of an error answer; of a foreign one (a proxy's page) its status and beginning."""
    try:
        error = response.json()["error"]
        return ServiceError(response.status_code, str(error["message"]), error.get("code"))
    except (ValueError, KeyError, TypeError):
        text = response.text.strip()[:200]
        return ServiceError(response.status_code, f"{response.url} answered {response.status_code}: {text}", None)


def is_loopback(base_url: str) -> bool:
    host = httpx.URL(base_url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
