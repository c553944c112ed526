"""Follows a job to its end: a live bar on a terminal, plain lines elsewhere."""

import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.client import Client
from app.cli.job_feed import JOBS, follow
from app.cli.session import duration_text, make_console

_PLAIN_LINE_SECONDS = 5.0
# The time left follows from the pace of so many last steps.
_PACE_STEPS = 30


@dataclass
class Milestone:
    """When a phase of the job was first seen, by the monotonic clock."""

    name: str
    at: float


class JobView:
    """What is shown of one job; `milestones` keeps when each status began."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("waiting", total=None, detail="")
        self._plain_due = 0.0
        self._pace: deque[tuple[int, int]] = deque(maxlen=_PACE_STEPS)
        self.milestones: list[Milestone] = []

    def __enter__(self) -> Self:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show_job(self, job: dict[str, Any]) -> None:
        status = str(job["status"])
        if status not in {milestone.name for milestone in self.milestones[-2:]}:
            self.milestones.append(Milestone(status, time.monotonic()))
            self._bar.update(self._task, description=status.replace("_", " "))

    def show_event(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        if event.get("type") == "metrics" and isinstance(data, dict):
            self._show_metric(data, int(event["created_at"]))
            return
        message = str(event["message"])
        if message.startswith("Evaluating "):  # also after a run that ended before its last step
            self._begin_evaluation()
        self._console.print(message)

    def _begin_evaluation(self) -> None:
        if self.milestones and self.milestones[-1].name == "running":
            self.milestones.append(Milestone("evaluation", time.monotonic()))
            self._bar.update(self._task, description="evaluation")

    def _show_metric(self, figures: dict[str, Any], at_seconds: int) -> None:
        """One optimizer step, recorded at `at_seconds` since the epoch."""
        if "train_loss" not in figures or not figures.get("total_steps"):
            return
        step, total = int(figures["step"]), int(figures["total_steps"])
        detail = f"step {step}/{total}  loss {figures['train_loss']:.3f}"
        if isinstance(figures.get("valid_loss"), float):
            detail += f"  validation loss {figures['valid_loss']:.3f}"
        self._pace.append((step, at_seconds))
        seconds = self._pace[-1][1] - self._pace[0][1]
        steps = self._pace[-1][0] - self._pace[0][0]
        if seconds > 0 and steps > 0:
            detail += f"  {duration_text((total - step) * seconds / steps)} left"
        self._bar.update(self._task, total=total, completed=step, detail=detail)
        now = time.monotonic()
        if step == total:
            self._begin_evaluation()
        if not self._live and (now >= self._plain_due or step == total):
            self._plain_due = now + _PLAIN_LINE_SECONDS
            self._console.print(detail)


def watch(
    client: Client, job_id: str, console: Console | None = None, *, of: str = JOBS
) -> tuple[dict[str, Any], list[Milestone]]:
    """Show the job, one of the collection `of`, until it ends; its last state and when its statuses began."""
    with JobView(console or make_console()) as view:
        job: dict[str, Any] = {}
        for kind, value in follow(client, job_id, of=of):
            if kind == "job":
                job = value
                view.show_job(value)
            else:
                view.show_event(value)
    return job, view.milestones
