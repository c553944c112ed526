"""What kind of device a worker has, how many, and what one of them draws."""

from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"


def device_kind(device: Mapping[str, Any]) -> str:
    """The name of the card where the worker has told it, else `cuda` or `cpu`; the words of the worker's own report."""
    name = device.get("name") or str(device.get("device") or UNKNOWN).partition(":")[0]
    return str(name)


def gpus_of(device: Mapping[str, Any]) -> int:
    """Devices that a lease takes; a CPU counts as one."""
    return max(1, int(device.get("gpus") or 1))


def watts_of(table: str, kind: str) -> float:
    """From the operator's list `kind=watts,…` (its form is checked where settings are read).

    A card without an entry draws what `cuda` does; of what nobody knows, nothing is estimated: 0.
    """
    found = {
        name.strip(): float(watts) for name, _, watts in (part.rpartition("=") for part in table.split(",") if part)
    }
    if kind in found:
        return found[kind]
    return 0.0 if kind in {"cpu", UNKNOWN} else found.get("cuda", 0.0)
