"""One signed POST to somebody else's server: to a checked address, within a deadline, redirects not followed.

The name is resolved once; all its addresses must be public; the connection goes to those addresses and to nothing else,
while Host and the certificate's name stay those of the URL. Proxies of the environment are not used. What the
server says beyond its status is thrown away.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpcore
import httpx

from app.webhooks.addresses import BadTarget, Target, check_public, is_exempt, parse_target
from app.webhooks.allowlist import EVERYWHERE, Allowlist

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 * 1024

Resolver = Callable[[str, int], Sequence[str]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt: a status, or why there is none."""

    status_code: int | None
    fault: str | None
    took_seconds: float


def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, by the system's resolver; none if it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


class Sender:
    """Safe to use from several threads: each POST has a connection of its own."""

    def __init__(
        self,
        allowed: frozenset[str],
        *,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._allowed = allowed
        self._resolver = resolver
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._timeout_seconds = timeout_seconds

    def post(self, url: str, body: bytes, headers: Mapping[str, str], allowlist: Allowlist = EVERYWHERE) -> Outcome:
        """Never raises for what the other side does. Blocks for `timeout_seconds` and a look-up at most.

        `allowlist` is of the team for which it is sent: asked at each attempt, since lists and URLs change.
        """
        began = time.monotonic()
        try:
            status_code, fault = self._post(url, body, headers, allowlist), None
        except BadTarget as error:
            status_code, fault = None, f"The URL cannot be used: {error}."
        except httpcore.TimeoutException:
            status_code, fault = None, f"No answer within {self._timeout_seconds:g} s."
        except httpcore.ConnectError as error:
            status_code, fault = None, _said(error)
        except (httpcore.NetworkError, httpcore.ProtocolError):
            status_code, fault = None, "The connection broke, or the answer was not HTTP."
        return Outcome(status_code, fault, time.monotonic() - began)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str], allowlist: Allowlist) -> int:
        target = parse_target(url, self._allowed)
        allowlist.check(target)
        addresses = tuple(self._resolver(target.host, target.port))
        if not addresses:
            raise BadTarget("its name has no address")
        if not is_exempt(target, self._allowed):
            check_public(addresses)
        deadline = time.monotonic() + self._timeout_seconds
        sent = {
            "host": target.host_header,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "user-agent": "tunesmith-webhooks/1",
            "connection": "close",
            **headers,
        }
        with (
            httpcore.ConnectionPool(
                ssl_context=self._ssl_context,
                max_connections=1,
                retries=0,
                http2=False,
                network_backend=_PinnedBackend(addresses, deadline),
            ) as pool,
            pool.stream(
                "POST",
                _core_url(target),
                headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()],
                content=body,
            ) as response,
        ):
            received = 0
            for chunk in response.iter_stream():
                received += len(chunk)
                if received > MAX_ANSWER_BYTES:
                    break
            return response.status


def _said(error: httpcore.ConnectError) -> str:
    """A fault of the certificate is named: its owner can mend it."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"No TLS connection: {cause.verify_message}."
    return "No TLS connection." if isinstance(cause, ssl.SSLError) else "No connection."


def _core_url(target: Target) -> httpcore.URL:
    """Made of the parts that were checked: no second parser reads the text."""
    return httpcore.URL(
        scheme=target.scheme.encode("ascii"),
        host=target.host.encode("ascii"),
        port=target.port,
        target=target.path_and_query.encode("ascii"),
    )


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to the given addresses, whatever name it is asked for."""

    def __init__(self, addresses: Sequence[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """The first address that takes the connection."""
        del host, timeout, local_address, socket_options
        fault: httpcore.ConnectError | None = None
        for address in self._addresses:
            try:
                stream = self._plain.connect_tcp(address, port, timeout=_left(self._deadline))
            except httpcore.ConnectError as error:
                fault = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise fault or httpcore.ConnectError("no address")


class _DeadlineStream(httpcore.NetworkStream):
    """One deadline for all that happens on a connection: a server that drips bytes gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    """Seconds; a timeout error once there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left
