"""How far an evaluation is, and whether it shall stop."""

from collections.abc import Callable

from app.contracts.reports import Progress, Report

_ENCODE_PROGRESS_ROWS = 200


class StopRequestedError(Exception):
    """The supervisor wants this evaluation to end; the text is the reason."""


class EvaluationProgress:
    """Tells the supervisor; every method may raise `StopRequestedError`. Set `total` (in rows) before `advance`."""

    def __init__(self, run_id: str, report: Callable[[Report], None], should_stop: Callable[[], str | None]) -> None:
        self.total = 0
        self._done = 0
        self._run_id = run_id
        self._report = report
        self.should_stop = should_stop

    def on_encoded(self, total: int) -> Callable[[int], None]:
        """What `Recipe.encode` calls after each of `total` rows."""

        def tell(done: int) -> None:
            self.poll()
            if done % _ENCODE_PROGRESS_ROWS == 0 or done == total:
                self._report(Progress(run_id=self._run_id, phase="encode", done=done, total=total))

        return tell

    def advance(self, units: int, message: str) -> None:
        self._done += units
        self._report(
            Progress(run_id=self._run_id, phase="evaluate", done=self._done, total=self.total, message=message)
        )
        self.poll()

    def poll(self) -> None:
        reason = self.should_stop()
        if reason is not None:
            raise StopRequestedError(reason)
