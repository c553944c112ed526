"""Which waiting job runs next, and why yours waits: one pure ordering, used for both.

Between teams: the team with the least weighted dominant share comes first; among equals, the one served longest
ago. Within a team: the higher priority first, then the older job; waiting raises a priority by one level every
`AGING_SECONDS`. So nobody waits for ever: each team's turn comes round, and within a team every job outgrows the
priority of later ones.

A team at its quota of GPUs is passed over, and so is, for a worker, a job that does not fit it. A worker that holds a
base may take a job of that base before the one whose turn it is, within bounds: see `_of_resident_base`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.pool.snapshot import Snapshot, TeamUse, WaitingJob, fits, share
from app.pool.standing import counts_before
from app.pool.words import count, own_use, why_nowhere

HIGH = 1
"""The priority that nobody overtakes."""
MAX_OVERTAKES = 4
"""So often a job is passed over, when it is its turn, for one whose base the worker holds."""


@dataclass(frozen=True)
class Choice:
    """The job for a GPU, and the jobs whose turn it was before."""

    job: WaitingJob
    overtaken: tuple[WaitingJob, ...] = ()


def pick(snapshot: Snapshot) -> str | None:
    """The job for the next free GPU, which is the worker's if the snapshot names one; None if none may start."""
    choice = choose(snapshot)
    return None if choice is None else choice.job.job_id


def choose(snapshot: Snapshot) -> Choice | None:
    """As `pick`, with the jobs that are overtaken."""
    heads = _heads(snapshot)
    if not heads:
        return None
    first = min(heads.values(), key=lambda job: _team_key(snapshot, job))
    return _of_resident_base(snapshot, heads, first) or Choice(first)


def rivals(snapshot: Snapshot) -> frozenset[str]:
    """Teams of which a job of the base at hand may come before the one whose turn it is; none if that has the base."""
    heads = _heads(snapshot)
    if not heads or snapshot.worker is None or not snapshot.worker.resident:
        return frozenset()
    first = min(heads.values(), key=lambda job: _team_key(snapshot, job))
    if first.base_id in snapshot.worker.resident or not _may_be_overtaken(first):
        return frozenset()
    return frozenset(team_id for team_id in heads if _is_rival(snapshot, team_id, first))


def position(snapshot: Snapshot, job_id: str) -> int | None:
    """How many jobs come first (0: it is next), whatever worker is free; None if the job does not wait here.

    Counted, not walked: it costs a logarithm of the queue's length. Needs `rank` and `waiting`.
    """
    job = next((job for job in snapshot.waiting if job.job_id == job_id), None)
    return None if job is None else sum(counts_before(snapshot, job))


def explain(snapshot: Snapshot, job_id: str) -> str:
    """A few sentences for the owner of a waiting job, from the same ordering that `pick` uses."""
    job = next((job for job in snapshot.waiting if job.job_id == job_id), None)
    if job is None:
        return "The job is not waiting for a GPU."
    use = snapshot.use(job.team_id)
    nowhere = why_nowhere(job, snapshot.cards)
    if nowhere is not None:
        return nowhere
    own, others = counts_before(snapshot, job)
    said = [_standing(use, own, others, is_capped=not use.has_room(job.rank)), own_use(use)]
    fitting = sum(fits(job, card) for card in snapshot.cards)
    if fitting < len(snapshot.cards):
        said.append(f"{fitting} of {count(len(snapshot.cards), 'worker')} can run it.")
    if job.overtaken:
        said.append(
            f"When it was its turn, a worker took a job whose base it held first: {job.overtaken} of at most "
            f"{count(MAX_OVERTAKES, 'time')}."
        )
    return " ".join(said)


def ordered(snapshot: Snapshot) -> Iterator[str]:
    """All waiting jobs in the order in which GPUs would be given to them, if none became free by itself.

    Those beyond their team's quota come last. For a complete snapshot; `position` counts by the same rules.
    """
    queues: dict[str, list[WaitingJob]] = {}
    for job in sorted(snapshot.waiting, key=lambda one: one.key, reverse=True):
        queues.setdefault(job.team_id, []).append(job)
    started = dict.fromkeys(queues, 0)
    last_turn = {team_id: -snapshot.use(team_id).served_seconds_ago for team_id in queues}
    turn = 0
    for is_capped in (True, False):
        while open_ := [
            team_id
            for team_id, queue in queues.items()
            if queue and not (is_capped and not snapshot.use(team_id).has_room(started[team_id]))
        ]:
            team_id = min(
                open_,
                key=lambda team: (
                    share(snapshot.use(team), snapshot.capacity, started[team]),
                    last_turn[team],
                    -queues[team][-1].waited_seconds,
                    queues[team][-1].job_id,
                ),
            )
            turn += 1
            started[team_id] += 1
            last_turn[team_id] = float(turn)
            yield queues[team_id].pop().job_id


def _heads(snapshot: Snapshot, base_ids: frozenset[str] | None = None) -> dict[str, WaitingJob]:
    """Of each team that may take a GPU, the first job that fits the worker (and is of one of the bases)."""
    heads: dict[str, WaitingJob] = {}
    for job in snapshot.waiting:
        if base_ids is not None and job.base_id not in base_ids:
            continue
        if not fits(job, snapshot.worker) or not snapshot.use(job.team_id).has_room():
            continue
        head = heads.get(job.team_id)
        if head is None or job.key < head.key:
            heads[job.team_id] = job
    return heads


def _of_resident_base(snapshot: Snapshot, heads: dict[str, WaitingJob], first: WaitingJob) -> Choice | None:
    """A job whose base the worker holds, if it may overtake the one whose turn it is.

    Its team must not get more for its share than the team whose turn it is would have got, so shares stay what they
    are; in its own team it must be of the same level as the team's first job; and nobody is overtaken who is of high
    priority or was overtaken `MAX_OVERTAKES` times. So a job loses at most that many turns to other people's bases.
    """
    card = snapshot.worker
    if card is None or not card.resident or first.base_id in card.resident:
        return None
    for job in sorted(_heads(snapshot, card.resident).values(), key=lambda one: _team_key(snapshot, one)):
        if not _is_rival(snapshot, job.team_id, first):
            continue
        own_head = heads[job.team_id]
        overtaken = (first,) if own_head in {first, job} else (first, own_head)
        if job.level == own_head.level and all(_may_be_overtaken(one) for one in overtaken):
            return Choice(job, overtaken)
    return None


def _is_rival(snapshot: Snapshot, team_id: str, first: WaitingJob) -> bool:
    """Whether the team would not get more for its share than the one whose turn it is."""
    capacity = snapshot.capacity
    return share(snapshot.use(team_id), capacity, 1.0) <= share(snapshot.use(first.team_id), capacity, 1.0)


def _may_be_overtaken(job: WaitingJob) -> bool:
    return job.priority < HIGH and job.overtaken < MAX_OVERTAKES


def _team_key(snapshot: Snapshot, head: WaitingJob) -> tuple[float, float, float, str]:
    use = snapshot.use(head.team_id)
    return (share(use, snapshot.capacity), -use.served_seconds_ago, -head.waited_seconds, head.job_id)


def _standing(use: TeamUse, own: int, others: int, *, is_capped: bool) -> str:
    if is_capped:
        own_first = f"; {count(own, 'job')} of your team's come first" if own else ""
        return (
            f"Your team may use {count(use.max_gpus or 0, 'GPU')} at once (its quota): the job waits until one of its "
            f"jobs ends{own_first}."
        )
    if own + others == 0:
        return "The job is next: it starts when a GPU is free."
    reasons = []
    if own:
        reasons.append(f"{own} of your team's that are older or of a higher priority")
    if others:
        reasons.append(f"{others} of teams that use fewer GPUs for their share or were served longer ago")
    return f"{count(own + others, 'job')} come first: {' and '.join(reasons)}."
