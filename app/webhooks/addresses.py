"""Where a webhook may be sent: the only parser of its URL, and which addresses are public.

Server-side request forgery is kept out by four rules: https alone, one parser for check and connection, every address
of the name must be public, and the connection goes to an address that was checked (see `app.webhooks.sending`). Hosts
that the operator has listed are exempt; nobody else can list one. After OWASP's SSRF prevention cheat sheet and
MLflow's CVE-2026-64849 (checked once, then resolved again).
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>/[A-Za-z0-9\-._~!$&'()*+,;=:@/%?]*)?",
    re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_TOP_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
# Beside what `ipaddress` knows, whose table differs between Python versions: networks that carry or reach an IPv4
# address of somebody's choice, and special ones (https://www.iana.org/assignments/iana-ipv4-special-registry).
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),
        *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
    )
)
MAX_URL_LENGTH = 2048


class BadTarget(ValueError):  # noqa: N818 - named after what it is
    """A URL or an address that no webhook may go to; the message says why."""


@dataclass(frozen=True)
class Target:
    """A parsed URL. `host` is lower case, an IPv6 address without its brackets."""

    scheme: str
    host: str
    port: int
    path_and_query: str

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (443 if self.scheme == "https" else 80)
        return name if is_usual else f"{name}:{self.port}"


def allowed_hosts(text: str) -> frozenset[str]:
    """The operator's list: `host` or `host:port`, separated by commas."""
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


def parse_target(url: str, allowed: frozenset[str] = frozenset()) -> Target:
    """The parts of a URL that may be a webhook's; `BadTarget` with the reason for every other text."""
    if len(url) > MAX_URL_LENGTH:
        raise BadTarget(f"it is longer than {MAX_URL_LENGTH} characters")
    found = _URL.fullmatch(url)
    if found is None:
        raise BadTarget(
            "it is not of the form https://host[:port]/path?query in plain ASCII, without user, password, fragment, "
            "backslash or spaces"
        )
    scheme, host = found["scheme"], found["host"].lower().strip("[]")
    port = int(found["port"]) if found["port"] else 443 if scheme == "https" else 80
    if not 0 < port < 65536:
        raise BadTarget(f"{port} is no port")
    target = Target(scheme, host, port, found["target"] or "/")
    if is_exempt(target, allowed):
        return target
    if scheme != "https":
        raise BadTarget("only https is allowed; the operator can list a host for which http is too")
    literal = _literal(found["host"])
    if literal is not None:
        check_public([str(literal)])
    else:
        _check_name(host)
    return target


def is_exempt(target: Target, allowed: frozenset[str]) -> bool:
    """Whether the operator has listed this host, for all ports or for this one."""
    return target.host in allowed or f"{target.host}:{target.port}" in allowed


def check_public(addresses: Sequence[str]) -> None:
    """`BadTarget` unless there are addresses and every one of them is public."""
    if not addresses:
        raise BadTarget("its name has no address")
    for text in addresses:
        if not is_public(text):
            raise BadTarget("its address is not a public one")


def is_public(text: str) -> bool:
    """A global unicast address that carries no other one inside."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.is_site_local):
        return False
    return not any(address in network for network in _REFUSED if network.version == address.version)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A host that is an address, written in the one usual way; None for a name."""
    if not host.startswith("[") and _DOTTED.fullmatch(host) is None:
        return None
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise BadTarget(f"'{host}' is an address in an unusual form") from None


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(labels) < 2:
        raise BadTarget(f"'{host}' is not the full name of a host")
    # A top label that begins with a digit makes a name that some resolvers read as an address (127.0.0.0x1).
    if not all(_LABEL.fullmatch(label) for label in labels) or _TOP_LABEL.fullmatch(labels[-1]) is None:
        raise BadTarget(f"'{host}' is not a name of the domain name system")
    if labels[-1] in {"localhost", "local", "internal", "localdomain", "home", "lan", "arpa"}:
        raise BadTarget(f"'{host}' is a name of a private network")
