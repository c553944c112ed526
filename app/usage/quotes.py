"""What a quantity would cost by the prices of this moment."""

from decimal import Decimal

from sqlalchemy.orm import Session

from app.settings import Settings
from app.usage.devices import watts_of
from app.usage.kinds import UNITS, Kind, cost_of
from app.usage.repository import UsageRepository


class Quotes:
    def __init__(self, session: Session, settings: Settings) -> None:
        self._repository = UsageRepository(session)
        self._settings = settings

    @property
    def currency(self) -> str:
        return self._settings.currency

    def energy_wh(self, device_kind: str, gpu_seconds: float) -> float:
        """An estimate, as in the ledger."""
        return gpu_seconds * watts_of(self._settings.device_watts, device_kind) / 3600

    def cost(self, device_kind: str | None, gpu_seconds: float | None, tokens: float) -> Decimal | None:
        """Of a training. None if it depends on seconds that nobody knows."""
        seconds_kinds = (Kind.GPU_SECONDS, Kind.ENERGY_WH)
        names = {kind: UNITS[kind].price_kind for kind in (*seconds_kinds, Kind.TRAINED_TOKENS)}
        found = self._repository.prices_at(list(names.values()), device_kind)
        prices = {kind: found.get(name) for kind, name in names.items()}
        if gpu_seconds is None and any(prices[kind] for kind in seconds_kinds):
            return None
        seconds = gpu_seconds or 0.0
        energy = 0.0 if device_kind is None else self.energy_wh(device_kind, seconds)
        return (
            cost_of(Kind.GPU_SECONDS, seconds, prices[Kind.GPU_SECONDS])
            + cost_of(Kind.ENERGY_WH, energy, prices[Kind.ENERGY_WH])
            + cost_of(Kind.TRAINED_TOKENS, tokens, prices[Kind.TRAINED_TOKENS])
        )
