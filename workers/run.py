"""`python -m workers.run --role gpu|cpu|control --name NAME`: one worker process."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from celery import signals

from app import logs
from app.context import Context, open_context
from app.contracts.tasks import Queue
from app.logs import logger
from app.settings import Settings, SettingsError, load_settings
from workers.celery_app import make_consumer, make_worker_app
from workers.supervisor.deliver import DeliveryRounds
from workers.supervisor.engine_process import ENGINE_COMMAND, engine_environment
from workers.supervisor.engine_run import Patience
from workers.supervisor.engine_slot import EngineSlot
from workers.supervisor.identity import WorkerName
from workers.supervisor.presence import Presence
from workers.supervisor.round import ControlRounds, cpu_round, train_round
from workers.supervisor.score_run import Scoring
from workers.tasks.rounds import Rounds

LOOK_SECONDS = 5.0  # how late a worker finds work when no bell rings
_LEAVE_SECONDS = 28.0  # after the signal; whoever started us may kill at 30


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.run", description=__doc__)
    parser.add_argument("--role", required=True, choices=[queue.value for queue in Queue])
    parser.add_argument("--name", help="slot on this host, the same at each start; default: the role and 0")
    options = parser.parse_args(arguments)
    role = Queue(options.role)
    name = WorkerName(options.name or f"{role.value}0")
    logs.configure(f"worker {name.name}")
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run_worker(settings, role, name)


def run_worker(
    settings: Settings,
    role: Queue,
    name: WorkerName,
    *,
    engine_command: Sequence[str] = ENGINE_COMMAND,
    patience: Patience | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> int:
    """Work until a signal says to leave; the exit status. Call it in the main thread. No engine outlives it."""
    shutdown = threading.Event()
    context = open_context(settings)
    with ExitStack() as stack:
        stack.callback(context.close)
        stack.enter_context(_shutdown_on_signal(shutdown))
        work = _open_role(
            context, role, name, shutdown, stack, engine_command=engine_command, patience=patience or Patience()
        )
        period_seconds = settings.tick_seconds if role is Queue.CONTROL else look_seconds
        rounds = stack.enter_context(Rounds(work, period_seconds=period_seconds, shutdown=shutdown))
        celery = make_worker_app(settings.redis_url.get_secret_value(), role, rounds)
        consumer = make_consumer(celery, role, name)
        consumer.start()
        return int(consumer.exitcode or 0)


def _open_role(
    context: Context,
    role: Queue,
    name: WorkerName,
    shutdown: threading.Event,
    stack: ExitStack,
    *,
    engine_command: Sequence[str],
    patience: Patience,
) -> Callable[[], None]:
    """What a round of this role does; what it needs for life is put on `stack`."""
    if role is Queue.CONTROL:
        rounds = DeliveryRounds(context, shutdown)
        stack.enter_context(Rounds(rounds.run, period_seconds=context.settings.tick_seconds, shutdown=shutdown))
        return ControlRounds(context).run
    if role is Queue.CPU:
        stack.enter_context(Presence(context, name, None))
        return lambda: cpu_round(context, name, shutdown, Scoring())
    folder = context.settings.scratch_dir.absolute() / name.name
    settings = context.settings
    environment = engine_environment(os.environ, threads=settings.engine_threads, dtype=settings.engine_dtype)
    slot = EngineSlot(engine_command, environment, folder / "engine", shutdown)
    stack.callback(slot.close)
    stack.enter_context(Presence(context, name, slot))
    return lambda: train_round(context, name, slot, root=folder / "jobs", shutdown=shutdown, patience=patience)


@contextmanager
def _shutdown_on_signal(shutdown: threading.Event) -> Iterator[None]:
    """Set `shutdown` from Celery's signal handler, and leave by force if leaving in good order takes too long."""

    def on_signal(**_: object) -> None:
        shutdown.set()
        last_call = threading.Timer(_LEAVE_SECONDS, _leave_by_force)
        last_call.daemon = True
        last_call.start()

    # Until Celery has put up its own handlers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signals.worker_shutting_down.connect(on_signal, weak=False)
    try:
        yield
    finally:
        signals.worker_shutting_down.disconnect(on_signal)


def _leave_by_force() -> None:
    """Everything we held is found again: the engine dies with us, the lease runs out."""
    logger.error("could not leave in good order within %.0f s", _LEAVE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
