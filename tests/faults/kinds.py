"""Twelve kinds of fault (G1). Each throws a number of them at a world at work, and returns how many hit.

A fault counts only if it hit while a job was in the phase it is meant for.
"""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.world import LEASE_SECONDS, STEP_SECONDS, World, pause, send

_EVERY_OTHER = 2
_COMMITS_FAIL_ONE_IN = 20
_AT_WORK_SECONDS = 1.0
"""At most so long the pool works before a fault that would else meet the same few jobs at their first moment."""


def engine_killed_at(phase: str) -> Callable[[World, int], int]:
    """The engine dies by kill -9 at this point of its work, at every other arrival there."""

    def throw(world: World, count: int) -> int:
        script = world.house.script_path
        fault = {"phase": phase, "kind": "sigkill", "times": count, "every": _EVERY_OTHER if phase == "load" else 15}
        world.house.script(fault, step_seconds=STEP_SECONDS)
        hits = Path(f"{script}.0")

        def have_all_hit() -> bool:
            world.keep_busy()
            return hits.exists() and hits.stat().st_size >= count

        world.house.wait_until(have_all_hit, f"{count} engines killed at {phase}", 60 + 10 * count)
        return count

    return throw


def supervisor_killed(world: World, count: int) -> int:
    """kill -9 of a worker in the middle of a job. Its name never comes back, so that only its lease's end tells."""
    for _ in range(count):
        pause(world.chance.uniform(0, _AT_WORK_SECONDS))
        world.kill_worker(world.a_held_job())
        world.staff()
    return count


def supervisor_stopped(world: World, count: int) -> int:
    """SIGSTOP until the lease has run out and the job is another's, then SIGCONT: the dead man walks."""
    hits = 0
    while hits < count:
        held = world.a_held_job()
        others = [one for one in world.held() if one.worker in world.workers and one.worker != held.worker]
        stopped = [held, *others][: max(1, min(len(world.workers) - 1, count - hits))]
        for one in stopped:
            send(world.workers[one.worker], signal.SIGSTOP)

        def are_fenced(stopped: list = stopped) -> bool:
            now = {one.job_id: one for one in world.held()}
            return all(now.get(one.job_id) != one for one in stopped)

        world.house.wait_until(are_fenced, "the leases have run out", 3 * LEASE_SECONDS + 10)
        for one in stopped:
            send(world.workers[one.worker], signal.SIGCONT)
        hits += len(stopped)
    return hits


def postgres_restarted(world: World, count: int) -> int:
    """An immediate shutdown (no checkpoint, clients cut) and a restart with recovery."""
    for _ in range(count):
        pause(world.chance.uniform(0, _AT_WORK_SECONDS))
        world.a_held_job()
        world.postgres_process.send_signal(signal.SIGQUIT)
        world.postgres_process.wait()
        world.postgres_process = world.start_postgres()
    return count


def backends_terminated(world: World, count: int) -> int:
    """Every connection of the service is cut by the database."""
    hits = 0
    while hits < count:
        world.a_held_job()
        rows = world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tunesmith' AND pid <> pg_backend_pid()"
        )
        hits += bool(rows)
        pause(world.chance.uniform(0, 0.2))
    return hits


def redis_killed(world: World, count: int) -> int:
    """kill -9, and an empty Redis a moment later."""
    for _ in range(count):
        world.a_held_job()
        world.redis_process.kill()
        world.redis_process.wait()
        pause(world.chance.uniform(0, 0.2))
        world.redis_process = world.start_redis()
    return count


def redis_emptied(world: World, count: int) -> int:
    """FLUSHALL: bells and bindings are gone."""
    client = world.redis.connect()
    for _ in range(count):
        world.a_held_job()
        client.flushall()
        pause(world.chance.uniform(0, 0.2))
    client.close()
    return count


def redis_silent(world: World, count: int) -> int:
    """A black hole: connections are taken, nothing is answered."""
    for _ in range(count):
        world.a_held_job()
        send(world.redis_process, signal.SIGSTOP)
        pause(world.chance.uniform(0.1, 0.5))
        send(world.redis_process, signal.SIGCONT)
    return count


def commit_answers_lost(world: World, count: int) -> int:
    """One commit in twenty happens, and its worker is told that it failed."""
    counter = world.folder / "lost-commits"
    world.dismiss()
    world.staff(variables={"CHAOS_COMMITS_FAIL_ONE_IN": str(_COMMITS_FAIL_ONE_IN), "CHAOS_COUNTER": str(counter)})

    def have_all_hit() -> bool:
        world.keep_busy()
        return counter.exists() and counter.stat().st_size >= count

    world.house.wait_until(have_all_hit, f"{count} lost answers", 20 + 5 * count)
    world.dismiss()
    world.staff()
    return count


Kind = Callable[[World, int], int]
ENGINES: dict[str, Kind] = {
    "engine killed while it loads": engine_killed_at("load"),
    "engine killed in a step": engine_killed_at("train"),
    "engine killed in the middle of a checkpoint": engine_killed_at("save"),
    "engine killed while a checkpoint is uploaded": engine_killed_at("saved"),
}
SUPERVISORS: dict[str, Kind] = {
    "supervisor killed": supervisor_killed,
    "supervisor stopped past its lease, then continued": supervisor_stopped,
}
SERVERS: dict[str, Kind] = {
    "Postgres restarted at once": postgres_restarted,
    "connections to Postgres cut": backends_terminated,
    "Redis killed and restarted": redis_killed,
    "Redis emptied": redis_emptied,
    "Redis silent": redis_silent,
    "answers of commits lost": commit_answers_lost,
}
