"""A week of the pool in simulation: the service's own `choose` gives out the GPUs, beside first come, first served.

    python bench/pool_sim.py [--gpus 1000] [--seed 1] [--load 1.0] [--out docs/operations/pool_sim]

Prints utilisation, waits by team (median and 95th percentile) and Jain's index of weighted shares among teams that
wait, and writes three plots as SVG and all figures as JSON into `--out`. Three GPUs in ten have 24 GB, the others
80 GB; three jobs in ten need more than 24 GB. A GPU that takes a job of a base it does not hold loads it for a minute.
"""

import argparse
import heapq
import json
import statistics
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.pool.fairshare import choose
from app.pool.snapshot import Capacity, Card, Needs, Snapshot, TeamUse, WaitingJob
from bench.pool_mix import GB, LARGE_BYTES, SMALL_BYTES, WEEK, Mix, MixedJob, draw
from bench.pool_plots import bars, lines

LOAD_SECONDS = 60.0
_SAMPLE_SECONDS = 600.0
_SMALL_CARD, _LARGE_CARD = 24 * GB, 80 * GB


@dataclass
class Figures:
    """What one policy did in the week."""

    busy: float = 0.0
    loads: int = 0
    waits: dict[str, list[float]] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    utilisation: list[tuple[float, float]] = field(default_factory=list)
    fairness: list[tuple[float, float]] = field(default_factory=list)
    picks: int = 0
    pick_seconds: float = 0.0


class Queue:
    """Waiting jobs by what a pick can ask for; the oldest of each is at hand. Started ones are dropped when met."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int, bool, str | None], deque[MixedJob]] = {}
        self.waiting: Counter[str] = Counter()
        self._gone: set[int] = set()

    def add(self, job: MixedJob) -> None:
        self.waiting[job.team] += 1
        for base in (None, job.base):
            self._lines.setdefault((job.team, job.priority, job.is_large, base), deque()).append(job)

    def take(self, job: MixedJob) -> None:
        self.waiting[job.team] -= 1
        self._gone.add(job.number)

    def heads(self, base: str | None, *, is_large_card: bool) -> list[MixedJob]:
        """The oldest of each team and priority that fits, and the same of the base."""
        found: dict[int, MixedJob] = {}
        for team, number in self.waiting.items():
            if not number:
                continue
            for priority in (-1, 0, 1):
                for held in (None, base):
                    oldest = None
                    for is_large in (False, True) if is_large_card else (False,):
                        line = self._lines.get((team, priority, is_large, held))
                        while line and line[0].number in self._gone:
                            line.popleft()
                        if line and (oldest is None or line[0].number < oldest.number):
                            oldest = line[0]
                    if oldest is not None:
                        found[oldest.number] = oldest
        return list(found.values())


class Week:
    """One run: GPUs, their queue, and the clock that jumps from arrival to end."""

    def __init__(self, mix: Mix, gpus: int, *, is_fair: bool) -> None:
        self.mix = mix
        self.is_fair = is_fair
        self.queue = Queue()
        self.figures = Figures(waits={team: [] for team in mix.weights})
        self.cards = [_SMALL_CARD if number % 10 < 3 else _LARGE_CARD for number in range(gpus)]
        self.resident: list[str | None] = [None] * gpus
        self.idle = set(range(gpus))
        self.ends: list[tuple[float, int]] = []
        self.on: dict[int, MixedJob] = {}
        self.use: Counter[str] = Counter()
        self.memory: Counter[str] = Counter()
        self.served: dict[str, float] = {}
        self.overtaken: Counter[str] = Counter()
        self.capacity = Capacity(gpus, sum(self.cards))

    def run(self) -> Figures:
        arrivals = iter(self.mix.jobs)
        coming = next(arrivals, None)
        sample = 0.0
        while coming is not None or self.ends:
            now = min(coming.arrives if coming else WEEK, self.ends[0][0] if self.ends else WEEK)
            while sample <= min(now, WEEK):
                self._sample(sample)
                sample += _SAMPLE_SECONDS
            if now >= WEEK:
                break
            if coming is not None and coming.arrives <= now:
                self.queue.add(coming)
                gpu = self._idle_for(coming)
                coming = next(arrivals, None)
            else:
                gpu = self._end()
            if gpu is not None:
                self._give(gpu, now)
        for job in self.mix.jobs:
            if job.number not in self.queue._gone:  # noqa: SLF001 - the same script
                self.figures.waits[job.team].append(WEEK - job.arrives)
        return self.figures

    def _idle_for(self, job: MixedJob) -> int | None:
        fitting = [gpu for gpu in self.idle if not job.is_large or self.cards[gpu] == _LARGE_CARD]
        return min(fitting, key=lambda gpu: (self.resident[gpu] != job.base, self.cards[gpu], gpu), default=None)

    def _end(self) -> int:
        _, gpu = heapq.heappop(self.ends)
        job = self.on.pop(gpu)
        self.use[job.team] -= 1
        self.memory[job.team] -= self.cards[gpu]
        self.idle.add(gpu)
        return gpu

    def _give(self, gpu: int, now: float) -> None:
        job = self._choose(gpu, now)
        if job is None:
            return
        self.queue.take(job)
        self.idle.discard(gpu)
        loads = self.resident[gpu] != job.base
        self.figures.loads += loads
        self.resident[gpu] = job.base
        seconds = job.seconds + (LOAD_SECONDS if loads else 0.0)
        self.figures.waits[job.team].append(now - job.arrives)
        self.figures.busy += min(now + seconds, WEEK) - now
        self.figures.used[job.team] += min(now + seconds, WEEK) - now
        self.on[gpu] = job
        self.use[job.team] += 1
        self.memory[job.team] += self.cards[gpu]
        self.served[job.team] = now
        heapq.heappush(self.ends, (now + seconds, gpu))

    def _choose(self, gpu: int, now: float) -> MixedJob | None:
        is_large_card = self.cards[gpu] == _LARGE_CARD
        if not self.is_fair:
            return min(self.queue.heads(None, is_large_card=is_large_card), key=lambda job: job.number, default=None)
        heads = {job.name: job for job in self.queue.heads(self.resident[gpu], is_large_card=is_large_card)}
        waiting = tuple(
            WaitingJob(
                job.name,
                job.team,
                job.priority,
                now - job.arrives,
                job.base,
                Needs(LARGE_BYTES if job.is_large else SMALL_BYTES),
                self.overtaken[job.name],
            )
            for job in heads.values()
        )
        teams = {
            team: TeamUse(
                self.use[team], self.memory[team], self.mix.weights[team], None, now - self.served.get(team, -WEEK)
            )
            for team in {job.team_id for job in waiting}
        }
        held = self.resident[gpu]
        card = Card(self.cards[gpu], 80, None, frozenset() if held is None else frozenset({held}))
        asked_at = time.perf_counter()
        choice = choose(Snapshot(waiting, teams, self.capacity, card))
        self.figures.pick_seconds += time.perf_counter() - asked_at
        self.figures.picks += 1
        if choice is None:
            return None
        self.overtaken.update(one.job_id for one in choice.overtaken)
        return heads[choice.job.job_id]

    def _sample(self, at: float) -> None:
        self.figures.utilisation.append((at / 3600, len(self.on) / len(self.cards)))
        shares = [self.use[team] / self.mix.weights[team] for team, number in self.queue.waiting.items() if number]
        if len(shares) > 1 and any(shares):
            self.figures.fairness.append((at / 3600, sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))))


def percentile(values: list[float], share: float) -> float:
    """By the nearest rank, in minutes."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 60 if ranked else 0.0


def summary(mix: Mix, figures: Figures, gpus: int) -> dict[str, object]:
    entitled = {team: weight / sum(mix.weights.values()) * gpus * WEEK for team, weight in mix.weights.items()}
    modest = [wait for team in mix.weights if mix.asked[team] <= entitled[team] for wait in figures.waits[team]]
    greedy = [wait for team in mix.weights if mix.asked[team] > entitled[team] for wait in figures.waits[team]]
    return {
        "utilisation": round(figures.busy / (gpus * WEEK), 4),
        "jain_mean": round(statistics.mean(value for _, value in figures.fairness), 4),
        "jain_worst": round(min(value for _, value in figures.fairness), 4),
        "contended_share_of_week": round(len(figures.fairness) / len(figures.utilisation), 3),
        "wait_minutes_within_share": [round(percentile(modest, q), 1) for q in (0.5, 0.95)],
        "wait_minutes_above_share": [round(percentile(greedy, q), 1) for q in (0.5, 0.95)],
        "base_loads": figures.loads,
        "pick_microseconds": round(1e6 * figures.pick_seconds / figures.picks, 1) if figures.picks else None,
        "teams": {
            team: {
                "weight": mix.weights[team],
                "asked_of_share": round(mix.asked[team] / entitled[team], 2),
                "got_of_share": round(figures.used[team] / entitled[team], 2),
                "wait_minutes": [round(percentile(figures.waits[team], q), 1) for q in (0.5, 0.95)],
            }
            for team in sorted(mix.weights, key=lambda team: mix.asked[team] / entitled[team])
        },
    }


def show(name: str, found: dict[str, object]) -> None:
    print(f"\n{name}")
    for key, value in found.items():
        if key != "teams":
            print(f"  {key:28} {value}")


def plot(runs: dict[str, Figures], found: dict[str, dict], out: Path) -> None:
    names = list(runs)
    teams = list(found[names[0]]["teams"])
    lines(
        out / "utilisation.svg",
        "GPUs in use",
        "hours",
        {name: runs[name].utilisation for name in names},
        y_range=(0.0, 1.0),
    )
    lines(
        out / "jain.svg",
        "Jain's index of GPUs for weight, among teams that wait",
        "hours",
        {name: runs[name].fairness for name in names},
        y_range=(0.0, 1.0),
    )
    bars(
        out / "waits.svg",
        "95th percentile of the wait in minutes, by team (left: asks least for its share)",
        [f"{found[names[0]]['teams'][team]['asked_of_share']:g}" for team in teams],
        {name: [found[name]["teams"][team]["wait_minutes"][1] for team in teams] for name in names},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/operations/pool_sim")
    arguments = parser.parse_args()
    mix = draw(arguments.seed, arguments.gpus, arguments.load)
    print(f"{len(mix.jobs)} jobs of {len(mix.weights)} teams, {arguments.gpus} GPUs, seed {arguments.seed}")
    runs = {
        "fair share": Week(mix, arguments.gpus, is_fair=True).run(),
        "first come, first served": Week(mix, arguments.gpus, is_fair=False).run(),
    }
    found = {name: summary(mix, figures, arguments.gpus) for name, figures in runs.items()}
    for name, one in found.items():
        show(name, one)
    print("\nteam     weight  asks/share | fair: got/share, wait median, p95 min | first come: got, median, p95")
    for team, fair in found["fair share"]["teams"].items():
        other = found["first come, first served"]["teams"][team]
        print(
            f"{team}  {fair['weight']:5g}  {fair['asked_of_share']:10.2f} | {fair['got_of_share']:6.2f} "
            f"{fair['wait_minutes'][0]:9.1f} {fair['wait_minutes'][1]:9.1f} | {other['got_of_share']:6.2f} "
            f"{other['wait_minutes'][0]:9.1f} {other['wait_minutes'][1]:9.1f}"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"gpus": arguments.gpus, "seed": arguments.seed, "load": arguments.load, "jobs": len(mix.jobs), **found}
    (arguments.out / "figures.json").write_text(json.dumps(facts, indent=1) + "\n")
    plot(runs, found, arguments.out)


if __name__ == "__main__":
    main()
