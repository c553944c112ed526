"""Reports of one engine, sorted by the run they are about: whoever runs it reads its own."""

import queue
import threading

from app.contracts.reports import Failed, Ready, Report
from app.logs import logger

NOBODY = ""
"""The box of what is about no run."""


class Mailboxes:
    """Filled by one thread, read by one for each box."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: dict[str, queue.Queue[Report | Exception]] = {NOBODY: queue.Queue()}
        self._end: Exception | None = None

    def open(self, run_id: str) -> None:
        """Keep what comes about this run from now on."""
        with self._lock:
            box: queue.Queue[Report | Exception] = queue.Queue()
            self._boxes[run_id] = box
            if self._end is not None:
                box.put(self._end)

    def close(self, run_id: str) -> None:
        with self._lock:
            self._boxes.pop(run_id, None)

    def put(self, report: Report) -> None:
        """A failure that is about no run in particular is everybody's."""
        run_id = NOBODY if isinstance(report, Ready) else report.run_id
        with self._lock:
            if run_id == NOBODY and isinstance(report, Failed):
                boxes = list(self._boxes.values())
            else:
                boxes = [self._boxes[run_id]] if run_id in self._boxes else []
        if not boxes:
            logger.warning("a report of run %s was ignored", run_id)
        for box in boxes:
            box.put(report)

    def put_end(self, end: Exception) -> None:
        """Nothing more will come: what is asked for after all that came before raises `end`."""
        with self._lock:
            self._end = end
            for box in self._boxes.values():
                box.put(end)

    def get(self, run_id: str, timeout_seconds: float) -> Report | None:
        """The next report about the run, None after the timeout; raises the end once all was read."""
        with self._lock:
            box = self._boxes[run_id]
        try:
            report = box.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(report, Exception):
            box.put(report)  # for whoever asks again
            raise report
        return report
