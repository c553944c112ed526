"""How a worker is called: the same name at each start on a host, another incarnation."""

import secrets
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True)
class WorkerName:
    """`name` is the slot on its host (gpu0, cpu0)."""

    name: str
    host: str = field(default_factory=socket.gethostname)
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def worker_id(self) -> str:
        return f"{self.name}@{self.host}"

    @property
    def owner(self) -> str:
        """How leases name the holder."""
        return f"{self.worker_id}/{self.incarnation}"
