"""What is counted, in which units it is stored, and in which it is priced."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

GB_MONTH_BYTE_SECONDS = 1e9 * 30 * 24 * 3600


class Kind(StrEnum):
    """A ledger line's kind; its quantity is in the unit of the name."""

    GPU_SECONDS = "gpu_seconds"
    ENERGY_WH = "energy_wh"
    """An estimate: seconds of a device times the watts that the operator set for it."""
    TRAINED_TOKENS = "trained_tokens"
    EVALUATED_TOKENS = "evaluated_tokens"
    BYTE_SECONDS = "byte_seconds"


class PriceKind(StrEnum):
    """What a price is for one of."""

    GPU_HOUR = "gpu_hour"
    ENERGY_KWH = "energy_kwh"
    TRAINED_MILLION_TOKENS = "trained_million_tokens"
    EVALUATED_MILLION_TOKENS = "evaluated_million_tokens"
    STORAGE_GB_MONTH = "storage_gb_month"


@dataclass(frozen=True)
class Unit:
    """How a kind is sold and shown."""

    price_kind: PriceKind
    of_one: float
    """Stored units in one priced unit."""
    line_item: str
    wire_unit: str
    """As OpenAI's `quantity_unit`."""


UNITS = {
    Kind.GPU_SECONDS: Unit(PriceKind.GPU_HOUR, 3600.0, "gpu_hours", "duration_hours"),
    Kind.ENERGY_WH: Unit(PriceKind.ENERGY_KWH, 1000.0, "energy_estimate", "kilowatt_hours"),
    Kind.TRAINED_TOKENS: Unit(PriceKind.TRAINED_MILLION_TOKENS, 1e6, "trained_tokens", "million_tokens"),
    Kind.EVALUATED_TOKENS: Unit(PriceKind.EVALUATED_MILLION_TOKENS, 1e6, "evaluated_tokens", "million_tokens"),
    Kind.BYTE_SECONDS: Unit(PriceKind.STORAGE_GB_MONTH, GB_MONTH_BYTE_SECONDS, "storage", "gigabyte_months"),
}


def cost_of(kind: Kind, quantity: float, amount: Decimal | None) -> Decimal:
    """Of a quantity in stored units; nothing where there is no price. Rounded to 10 places, as stored."""
    if amount is None:
        return Decimal(0)
    exact = Decimal(repr(quantity)) / Decimal(repr(UNITS[kind].of_one)) * amount
    return exact.quantize(Decimal("1e-10"))


def line_item(kind: Kind, device_kind: str | None) -> str:
    """As the wire names it: `gpu_hours, cuda`."""
    return UNITS[kind].line_item if not device_kind else f"{UNITS[kind].line_item}, {device_kind}"
