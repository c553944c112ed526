"""The goals of losing nothing, each as one function: so many trials from this seed, and what came of it."""

import math
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.faults import history, mutants, mutations, races, scarcity, submit_kills, torn_checkpoints
from tests.faults.kinds import ENGINES, SERVERS, SUPERVISORS, Kind
from tests.faults.world import LEASE_SECONDS, STEP_SECONDS, World

_POISON_ATTEMPTS = 3
_CANCEL_SECONDS = 10.0
_NOTICE_SECONDS = LEASE_SECONDS + 5
_CLOCKS = ("3600", "-3600", "864000", "-864000", "jumps")
_DEAF_ONE_IN = 4
_PHASES = ("load", "encode", "train", "evaluate")


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    goal: str
    what: str
    trials: int
    found: str
    is_reached: bool
    seconds: float


def faults_of_kinds(kinds: dict[str, Kind], count: int, seed: int) -> list[Result]:
    """G1 for each kind, one after the other in the same world, and G3 if workers were killed."""
    results = []
    with World(seed) as world:
        for kind, throw in kinds.items():
            started = time.monotonic()
            hits = throw(world, count)
            world.house.script(step_seconds=STEP_SECONDS)
            jobs, lost = len(world.jobs), world.lost()
            wrong = history.faults(history.read(world.postgres.url()))
            found = _told(f"{jobs} jobs, {len(lost)} lost, {len(wrong)} breaches of a lease", lost + wrong)
            results.append(Result("G1", kind, hits, found, not lost and not wrong, _since(started)))
        if world.killed_at:
            results.append(_noticed(world, history.read(world.postgres.url())))
    return results


def _noticed(world: World, entries: list[history.Entry]) -> Result:
    """From the kill of a worker to the end of its lease."""
    waits = []
    for killed in world.killed_at:
        ends = [
            entry.at
            for entry in entries
            if entry.job_id == killed.job_id and entry.old_fence == killed.fence and entry.new_owner is None
        ]
        # Without an end of its own the job was over before the kill came.
        waits += [end - killed.at for end in ends[:1] if end > killed.at]
    worst = _percentile(waits, 0.99)
    return Result("G3", "a killed worker is noticed", len(waits), f"p99 {worst:.1f} s", worst <= _NOTICE_SECONDS, 0.0)


def stale_writes(count: int, seed: int) -> list[Result]:
    """G2."""
    started = time.monotonic()
    with World(seed, workers=0, has_control=False) as world:
        ran = races.race(world, count)
        wrong = history.faults(history.read(world.postgres.url()))
    found = f"{ran.refused} refused, {ran.in_time} in time, {ran.accepted_stale + len(wrong)} stale writes accepted"
    is_reached = not ran.accepted_stale and not wrong
    return [
        Result("G2", "a stale owner's writes", ran.ran, _told(found, wrong), is_reached, time.monotonic() - started)
    ]


def killed_submits(count: int, seed: int) -> list[Result]:
    """G4."""
    started = time.monotonic()
    row = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    with World(seed, workers=0, has_control=False) as world:
        team = world.house.caller
        with world.house.services() as services:
            key = services.identity.first_key()
            file = services.files.create_from_stream(
                team.team_id, team.actor, iter([row * 12]), filename="rows.jsonl", purpose="fine-tune"
            )
        done = submit_kills.run(world.house.context.settings, key=key, file_id=file.id, count=count)
    wrong = [str(one) for one in list(done["wrong"])]  # type: ignore[call-overload]
    found = f"{done['points']} points between statements, {len(wrong)} wrong"
    seconds = time.monotonic() - started
    return [Result("G4", "the API killed while it submits", count, _told(found, wrong), not wrong, seconds)]


def torn_checkpoints_(count: int, seed: int) -> list[Result]:
    """G5."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        torn = torn_checkpoints.killed(Path(folder) / "killed", chance, count)
        first = Result(
            "G5",
            "a writer of checkpoints killed",
            count,
            _told(f"{len(torn)} unusable", torn),
            not torn,
            _since(started),
        )
        started, each = time.monotonic(), max(1, count // 5)
        taken = torn_checkpoints.damaged(Path(folder) / "damaged", chance, each)
    found = _told(f"{len(taken)} taken for whole", taken)
    second = Result("G5", "the newest checkpoint damaged", 3 * each, found, not taken, _since(started))
    return [first, second]


def wrong_clocks(count: int, seed: int) -> list[Result]:
    """G8: `count` jobs on workers whose clocks are hours and days off."""
    results = []
    with World(seed, workers=2) as world:
        for clock in _CLOCKS:
            started = time.monotonic()
            world.dismiss()
            world.staff(variables={"CHAOS_CLOCK_SECONDS": clock})
            jobs = [world.submit() for _ in range(count)]
            lost = world.lost()
            wrong = history.faults(history.read(world.postgres.url()))
            again = [job_id for job_id in jobs if world.house.job(job_id).attempts]
            found = f"{len(lost)} lost, {len(wrong)} breaches of a lease, {len(again)} jobs begun again"
            is_reached = not lost and not wrong and not again
            what = "clocks of workers that jump" if clock == "jumps" else f"clocks of workers off by {clock} s"
            results.append(Result("G8", what, count, _told(found, lost + wrong), is_reached, _since(started)))
    return results


def poison_jobs(count: int, seed: int) -> list[Result]:
    """G9: a job that always kills its engine ends after three attempts, and the next one runs.

    Every other one strikes in the middle of its training, when the next job shares its engine. The first kill
    then hits both and is an attempt of neither.
    """
    started, wrong = time.monotonic(), []
    with World(seed, workers=1, max_attempts=_POISON_ATTEMPTS) as world:
        for number in range(count):
            place = {"phase": "train", "step": 5} if number % 2 else {"phase": "encode"}
            poison = world.again(world.house.create)
            world.house.script({**place, "kind": "sigkill", "run": poison}, step_seconds=STEP_SECONDS)
            world.house.inspect(poison)
            harmless = world.submit()
            job = world.house.wait_for_status(poison, "failed", 60)
            if job.attempts != _POISON_ATTEMPTS or (job.error or {}).get("code") != "worker_crashed":
                wrong.append(f"{poison} failed after {job.attempts} attempts with {job.error}")
            neighbour = world.house.wait_for_status(harmless, "succeeded", 60)
            if neighbour.attempts:
                wrong.append(f"{harmless}, beside {poison}, was charged {neighbour.attempts} attempts")
        wrong += world.lost()
    return [
        Result(
            "G9",
            "jobs that always kill their engine",
            count,
            _told(f"{len(wrong)} wrong", wrong),
            not wrong,
            _since(started),
        )
    ]


def cancels(count: int, seed: int) -> list[Result]:
    """G10: in every phase, engines that listen and deaf ones, with Redis and without."""
    results = []
    for has_redis in (True, False):
        started = time.monotonic()
        with World(seed, workers=1) as world:
            if not has_redis:
                world.redis_process.kill()
                world.redis_process.wait()
            waits = [
                _cancel(world, _PHASES[number % len(_PHASES)], is_deaf=number % _DEAF_ONE_IN == 1)
                for number in range(count // 2)
            ]
            if not has_redis:
                world.redis_process = world.start_redis()
        worst = _percentile(waits, 0.99)
        what = "from a cancel to a free GPU" + ("" if has_redis else ", Redis down")
        found = f"p99 {worst:.1f} s, median {_percentile(waits, 0.5):.1f} s"
        results.append(Result("G10", what, len(waits), found, worst <= _CANCEL_SECONDS, _since(started)))
    return results


def _cancel(world: World, phase: str, *, is_deaf: bool) -> float:
    """Seconds until nobody trains the job any more; a deaf engine's process must be gone."""
    house = world.house
    step = 5 if phase == "train" else None
    house.script(
        {"phase": phase, "step": step, "kind": "hang" if is_deaf else "hold", "times": 1}, step_seconds=STEP_SECONDS
    )
    reached = Path(f"{house.script_path}.reached-{phase}")
    reached.unlink(missing_ok=True)
    job_id = world.again(house.submit)
    house.wait_until(reached.exists, phase, 60)
    (name,) = world.workers
    engine = world.engine_of(name)
    assert engine is not None, "an engine that holds a job"
    asked_at = time.monotonic()
    house.cancel(job_id)
    house.wait_until(lambda: house.job(job_id).owner is None and not (is_deaf and is_running(engine)), "the end", 60)
    return time.monotonic() - asked_at


def is_running(process: psutil.Process) -> bool:
    """Whether it lives; a dead child that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed; infinite without values."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.inf


def _told(found: str, wrong: list[str]) -> str:
    return found if not wrong else f"{found}: {'; '.join(wrong[:3])}"


def _since(started: float) -> float:
    return time.monotonic() - started


_SCARCITIES: dict[str, Callable[[int, int], scarcity.Tally]] = {
    "the worker's disk full, anywhere in a job": scarcity.full_scratch,
    "the store's disk full, anywhere in a job": scarcity.full_store,
    "the store's disk full at an upload": scarcity.full_uploads,
    "engines ended by the system for want of memory": scarcity.little_memory_jobs,
}


def scarce_disks_and_memory(count: int, seed: int) -> list[Result]:
    """G7: the job ends with the name of what was missing, nothing half-written can be seen, the service goes on."""
    results = []
    for what, run in _SCARCITIES.items():
        started = time.monotonic()
        try:
            tally = run(count, seed)
        except scarcity.NotAllowedError as error:
            results.append(Result("G7", what, 0, f"not run: {error}", is_reached=False, seconds=_since(started)))
            continue
        found = f"{tally.hit - len(tally.wrong)} named, {len(tally.wrong)} wrong"
        if tally.taken_along:
            found += f", {tally.taken_along} workers ended beside their engines and were started again"
        found = _told(found, tally.wrong)
        results.append(Result("G7", what, tally.hit, found, not tally.wrong, _since(started)))
    return results


def mutants_killed(_: int, seed: int) -> list[Result]:
    """G24: all of them, whatever the number asked for."""
    started = time.monotonic()
    left = mutants.survivors()
    what = "guards taken out, one at a time"
    found = _told(f"{len(left)} survived", left)
    return [Result("G24", what, len(mutations.MUTANTS), found, not left, _since(started))]


Goal = Callable[[int, int], list[Result]]
GOALS: dict[str, tuple[Goal, int]] = {
    "engines": (partial(faults_of_kinds, ENGINES), 100),
    "supervisors": (partial(faults_of_kinds, SUPERVISORS), 100),
    "servers": (partial(faults_of_kinds, SERVERS), 100),
    "races": (stale_writes, 5000),
    "submits": (killed_submits, 200),
    "torn": (torn_checkpoints_, 500),
    "scarcity": (scarce_disks_and_memory, 50),
    "clocks": (wrong_clocks, 20),
    "poison": (poison_jobs, 20),
    "cancels": (cancels, 100),
    "mutants": (mutants_killed, len(mutations.MUTANTS)),
}
"""Name → the goal and how many trials its figure asks for."""


def run(name: str, share: float, seed: int) -> list[Result]:
    """A goal with this share of the trials its figure asks for."""
    goal, count = GOALS[name]
    return goal(max(1, round(share * count)), seed)
