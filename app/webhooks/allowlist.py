"""To which hosts the webhooks of one team may go: a list of its admins, and one of the operator. Both must allow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.webhooks.addresses import BadTarget, Target

# A name, an address, or `*.` and a name for all names below it; with or without a port.
HOST_PATTERN = r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$"
_ENTRY = re.compile(HOST_PATTERN)


@dataclass(frozen=True)
class Allowlist:
    """None: no list, so every host that is public; an empty list allows none."""

    hosts: Sequence[str] | None = None
    operator_hosts: Sequence[str] | None = None

    def check(self, target: Target) -> None:
        """`BadTarget` names whose list lacks the host."""
        for whose, entries in (("your team's", self.hosts), ("the operator's", self.operator_hosts)):
            if entries is not None and not any(_matches(entry, target) for entry in entries):
                raise BadTarget(f"'{target.host}' is not on {whose} list of hosts for webhooks of this team")


EVERYWHERE = Allowlist()


def _matches(entry: str, target: Target) -> bool:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return False
    host, _, port = entry.partition(":")
    if port and int(port) != target.port:
        return False
    # `*.example.com` is not `example.com`, nor `badexample.com`.
    return target.host.endswith(host[1:]) if host.startswith("*.") else target.host == host
