"""G2: a worker whose lease ran out against the one that takes its job, for every call that writes.

Half of the races are in order (the job is taken, then the stale worker writes: it must be refused), half begin at the
same moment from two threads and are judged by the history.
"""

import threading
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import text

from app.context import Context
from app.factory import Services
from app.jobs.fencing import Fenced
from app.jobs.worker_messages import Directive
from tests.faults.world import World
from tests.support.worker_writes import WRITES, Verb

VERBS: dict[str, Verb] = {"heartbeat": lambda jobs, job, fence: jobs.heartbeat(job, fence), **WRITES}


@dataclass
class Races:
    """Counts of one run."""

    ran: int = 0
    refused: int = 0
    in_time: int = 0
    """Simultaneous writes that came before the job was taken: accepted, and rightly so if the history agrees."""
    accepted_stale: int = 0
    """Ordered writes that were let through. Must stay 0."""


def race(world: World, count: int) -> Races:
    """`count` races on a world without workers and control role."""
    contexts = [world.open_context("gpu0"), world.open_context("gpu1")]
    races = Races()
    job_id, holder = world.submit(), 0
    fence = _claim(contexts[holder], holder, job_id)
    verbs = list(VERBS)
    while races.ran < count:
        verb = VERBS[verbs[races.ran % len(verbs)]]
        is_ordered = races.ran // len(verbs) % 2 == 0
        world.sql("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s", job_id)
        taker = 1 - holder
        if is_ordered:
            new_fence = _take(world, contexts[taker], taker, job_id)
            is_refused = _write(contexts[holder], verb, job_id, fence)
            races.accepted_stale += not is_refused
        else:
            is_refused, new_fence = _at_once(world, contexts, holder, verb=verb, job_id=job_id, fence=fence)
            races.in_time += not is_refused
        races.refused += is_refused
        races.ran += 1
        if new_fence is None:  # the write came first and ended the job, or let go of it
            world.sql("UPDATE jobs SET not_before = NULL WHERE id = %s", job_id)
            if world.house.job(job_id).status != "queued":
                job_id = world.submit()
            new_fence = _claim(contexts[taker], taker, job_id)
        fence, holder = new_fence, taker
    for context in contexts:
        context.close()
    return races


def _at_once(
    world: World, contexts: list[Context], holder: int, *, verb: Verb, job_id: str, fence: int
) -> tuple[bool, int | None]:
    """Whether the write was refused, and the taker's fence (None if there was nothing left to take)."""
    barrier = threading.Barrier(2)
    refused: list[bool] = []

    def write() -> None:
        barrier.wait()
        refused.append(_write(contexts[holder], verb, job_id, fence))

    thread = threading.Thread(target=write)
    thread.start()
    barrier.wait()
    taker = 1 - holder
    taken = _take(world, contexts[taker], taker, job_id)
    thread.join()
    if taken is None:
        # A heartbeat in time gives the holder a new lease: it is let run out again.
        world.sql(
            "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s AND owner IS NOT NULL",
            job_id,
        )
        taken = _take(world, contexts[taker], taker, job_id)
    return refused[0], taken


def _write(context: Context, verb: Verb, job_id: str, fence: int) -> bool:
    """Whether it was refused."""
    try:
        with context.database.unit_of_work() as work:
            answer = verb(Services(context, work).job_worker, job_id, fence)
    except Fenced:
        return True
    except ValueError:  # to succeed it would need a result: it got past the fence
        return False
    return answer is Directive.FENCED


def _take(world: World, context: Context, number: int, job_id: str) -> int | None:
    """End the lease that ran out, as the control role does, and claim the job."""
    with context.database.unit_of_work() as work:
        work.session.execute(text("SET LOCAL tunesmith.writer = 'control'"))
        Services(context, work).job_worker.reap()
    world.sql("UPDATE jobs SET not_before = NULL WHERE id = %s AND owner IS NULL", job_id)
    with suppress(LookupError):
        return _claim(context, number, job_id)
    return None


def _claim(context: Context, number: int, job_id: str) -> int:
    with context.database.unit_of_work() as work:
        task = Services(context, work).job_worker.claim_training(f"gpu{number}@test-host/1")
    if task is None or task.job_id != job_id:
        raise LookupError(job_id)
    return task.fence
