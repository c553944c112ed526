"""Many runs on one resident base: who sits, whose turn it is, and who leaves when memory is short.

Each run computes what it would alone. Its randomness comes from its own seed and counters, its adapter is active in its
own turns only, and its micro-batches do not depend on who else is there; so the result is the same to the bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from app.contracts.reports import Report, Stopped
from app.contracts.specs import TrainSpec
from workers.engine.base_model import ResidentBase
from workers.engine.failures import failed, is_out_of_memory
from workers.engine.machine import release_memory
from workers.engine.training.loop import StopReason, leave, take_turn
from workers.engine.training.opening import open_seat
from workers.engine.training.seats import CROWDED, Seat, StopRequestedError

Signal = Callable[[], str | None]


@dataclass
class _Place:
    """A seat that is taken."""

    seat: Seat
    resident: ResidentBase
    wish: Signal
    """Why it shall leave, if it shall."""
    served_tokens: int
    """Trained in its turns here, counted from where the others were when it came."""


@dataclass
class Seating:
    """The runs that train now, in the order in which they came. Nothing they raise escapes: it is reported."""

    report: Callable[[Report], None]
    places: list[_Place] = field(default_factory=list)
    _at_turn: _Place | None = None

    @property
    def is_taken(self) -> bool:
        return bool(self.places)

    def join(self, resident: ResidentBase, spec: TrainSpec, wish: Signal, poll: Signal) -> None:
        """Open a seat for a run beside those that train. `poll` is `wish`, asked at every micro-batch.

        Failures are the caller's, but for want of memory beside others: then the run is turned away (`crowded`).
        """
        try:
            seat = self._open(resident, spec, poll)
        except StopRequestedError as stop:
            self.report(Stopped(run_id=spec.run_id, reason=cast("StopReason", stop.reason), step=0))
            return
        # From where the others are: nobody has to wait until it has caught up, nor does it wait for them.
        started = min((place.served_tokens for place in self.places), default=0)
        self.places.append(_Place(seat, resident, wish, started))

    def take_turn(self) -> None:
        """One turn of the run that had the fewest tokens; of equals, of the one that came first."""
        place = self._at_turn = min(self.places, key=lambda one: one.served_tokens)
        before = place.seat.trained_tokens
        is_short = False
        try:
            is_over = not take_turn(place.resident, place.seat)
        except Exception as error:  # noqa: BLE001 the edge of a run: the engine and the others outlive it
            is_over = True
            is_short = is_out_of_memory(error) and len(self.places) > 1
            if not is_short:
                self.report(failed(place.seat.spec.run_id, error))
        self._at_turn = None
        # Not in the handler above: while it runs, its traceback keeps the tensors alive.
        if is_short:
            self._make_room(place)
        elif is_over:
            self._vacate(place)
        place.served_tokens += place.seat.trained_tokens - before

    def see_to_wishes(self) -> None:
        """Let those leave who shall and are not at their turn, where they would see it themselves."""
        for place in tuple(self._waiting()):
            reason = place.wish()
            if reason is not None:
                self._send_off(place, reason)

    def _waiting(self) -> Iterator[_Place]:
        return (place for place in self.places if place is not self._at_turn)

    def _open(self, resident: ResidentBase, spec: TrainSpec, poll: Signal) -> Seat:
        others = tuple(place.seat for place in self.places)
        try:
            return open_seat(resident, spec, self.report, poll, beside=others)
        except Exception as error:
            if not (is_out_of_memory(error) and self.places):
                raise
        release_memory(resident.device)
        raise StopRequestedError(CROWDED)

    def _make_room(self, hit: _Place) -> None:
        """Memory ran out in the turn of `hit`: the last one to come leaves, and `hit` takes its turn again.

        Where `hit` was at its update, it leaves itself: it goes on from its last checkpoint, as after a crash.
        """
        release_memory(hit.resident.device)
        self._send_off(self.places[-1] if hit.seat.is_whole else hit, CROWDED)

    def _send_off(self, place: _Place, reason: str) -> None:
        seat = place.seat
        unsaved = Stopped(run_id=seat.spec.run_id, reason=cast("StopReason", reason), step=seat.saved_step)
        try:
            if seat.is_whole:
                leave(place.resident, seat, reason)
            else:
                self.report(unsaved)
        except Exception as error:  # noqa: BLE001 as above
            self.report(unsaved if is_out_of_memory(error) else failed(seat.spec.run_id, error))
        self._vacate(place)

    def _vacate(self, place: _Place) -> None:
        self.places.remove(place)
        device = place.resident.device
        del place
        release_memory(device)
