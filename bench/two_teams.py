"""Two teams of different weights and quotas submit 40 jobs, then 2 workers come: shares, waits, explanations.

    python bench/two_teams.py [--jobs 20] [--step-seconds 0.1]

Postgres, Redis, the control role and both workers are real processes; engines are scripted (ten steps a job), so that
the whole takes a minute. Prints a transcript.
"""

import argparse
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.identity.caller import Caller
from app.identity.policy import Role
from app.jobs.queue_objects import QueueObject, queue_object
from tests.faults.world import World

_EVERY_SECONDS = 6.0
_LIMITS = {"atlas": {"weight": 2.0, "max_queued_jobs": 30}, "borea": {"weight": 1.0, "max_gpus": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20, help="of each team")
    parser.add_argument("--step-seconds", type=float, default=0.1)
    options = parser.parse_args()
    with World(1, workers=2, changed={"seats_per_worker": 1}) as world:
        world.house.script(step_seconds=options.step_seconds)
        world.house.wait_until(lambda: len(world.sql("SELECT id FROM workers")) == 2, "both workers", 60)
        teams = {slug: make_team(world, slug, limits) for slug, limits in _LIMITS.items()}
        names = {caller.team_id: slug for slug, caller in teams.items()}
        warm_up(world)
        for slug, limits in _LIMITS.items():
            print(f"{slug}: {', '.join(f'{name} {value}' for name, value in limits.items())}")
        world.dismiss()
        jobs = submit_all(world, teams, options.jobs)
        print(f"{len(jobs)} jobs wait; two workers start")
        started = time.monotonic()
        world.staff()
        held = watch(world, teams, names, started)
        report(world, names, held)


def make_team(world: World, slug: str, limits: dict[str, object]) -> Caller:
    """A team with its trainer; the operator sets what it may have."""
    with world.house.services() as services:
        team = services.identity.create_team(slug.title(), slug)
        services.limits.change(world.house.caller, team.id, limits)
        _, key = services.identity.create_key(team.id, "trainer", Role.TRAINER)
        return services.identity.authenticate(key)


def warm_up(world: World) -> None:
    """A job of the operator's, so that the speed of the base is known."""
    world.submit()
    world.lost()


def submit_all(world: World, teams: dict[str, Caller], count: int) -> list[str]:
    """Both teams in turns."""
    own, jobs = world.house.caller, []
    for _ in range(count):
        for caller in teams.values():
            world.house.caller = caller
            jobs.append(world.house.submit())
    world.house.caller = own
    return jobs


def watch(world: World, teams: dict[str, Caller], names: dict[str, str], started: float) -> Counter[str]:
    """Until all is done: who has the GPUs (looked at every 50 ms while both wait), and what a waiting job is told."""
    held: Counter[str] = Counter()
    told_at = started + _EVERY_SECONDS
    while True:
        rows = world.sql(
            "SELECT team_id, status, count(*) FROM jobs WHERE status IN ('queued', 'running') GROUP BY 1, 2"
        )
        if not rows:
            return held
        waiting = {names[str(team)]: int(str(number)) for team, status, number in rows if status == "queued"}
        running = {names[str(team)]: int(str(number)) for team, status, number in rows if status == "running"}
        if len(waiting) == len(teams):
            held.update(running)
        if time.monotonic() >= told_at:
            told_at += _EVERY_SECONDS
            print(f"\nafter {time.monotonic() - started:.0f} s: running {running or 'nothing'}, waiting {waiting}")
            for slug, caller in teams.items():
                explain(world, slug, caller)
        threading.Event().wait(0.05)


def explain(world: World, slug: str, caller: Caller) -> None:
    """What the newest waiting job of a team is told."""
    rows = world.sql(
        "SELECT id FROM jobs WHERE team_id = %s AND status = 'queued' ORDER BY created_at DESC LIMIT 1", caller.team_id
    )
    if not rows:
        return

    def ask() -> QueueObject:
        with world.house.services() as services:
            return queue_object(services.job_queue.standing(caller, str(rows[0][0])))

    answer = world.again(ask)
    start = answer.estimated_start
    when = answer.estimated_start_reason if start is None else f"in about {max(0, start - time.time()):.0f} s"
    print(f"  {slug}'s last job: position {answer.position}. {answer.reason} Starts: {when}")


def report(world: World, names: dict[str, str], held: Counter[str]) -> None:
    rows = world.sql(
        """
        SELECT team_id, extract(epoch FROM claimed_at - first)::float8, extract(epoch FROM finished_at - first)::float8,
               status
        FROM jobs, (SELECT min(claimed_at) AS first FROM jobs WHERE team_id = ANY(%s)) AS begin
        WHERE team_id = ANY(%s)
        """,
        list(names),
        list(names),
    )
    print("\n| team | GPU time while both wait | jobs | succeeded | median start | p95 | all done |")
    print("|---|---|---|---|---|---|---|")
    for team_id, slug in names.items():
        own = [row for row in rows if row[0] == team_id]
        waits = sorted(float(str(row[1])) for row in own)
        cells = [
            slug,
            f"{held[slug] / max(1, held.total()):.0%}",
            len(own),
            sum(row[3] == "succeeded" for row in own),
            f"{statistics.median(waits):.1f} s",
            f"{waits[int(0.95 * (len(waits) - 1))]:.1f} s",
            f"{max(float(str(row[2])) for row in own):.1f} s",
        ]
        print(f"| {' | '.join(str(cell) for cell in cells)} |")


if __name__ == "__main__":
    main()
