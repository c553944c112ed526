"""Where a job stands in the queue, by counting: the order of `fairshare.ordered` without walking it.

Each team's jobs take their turns at growing shares, so the order of all is a merge of one rising sequence a team, and
how many of another team's jobs come before a given one is found by bisection.
"""

from dataclasses import dataclass

from app.pool.snapshot import Snapshot, TeamUse, WaitingJob, dominant_gpus


@dataclass(frozen=True, slots=True)
class _Line:
    """The turns of one team: at its i-th it has `dominant + i` GPUs."""

    use: TeamUse
    dominant: float
    head: tuple[float, float, str]
    """Decides between teams of equal share that have had no turn yet."""

    @property
    def room(self) -> int | None:
        """Turns until its quota is full; None: no quota."""
        return None if self.use.max_gpus is None else max(0, self.use.max_gpus - self.use.gpus)

    def phase(self, i: int) -> int:
        """0 within the quota, 1 beyond."""
        return 0 if self.room is None or i < self.room else 1

    def since_phase(self, i: int) -> int:
        """Turns of the same phase before the i-th."""
        return i if self.phase(i) == 0 else i - (self.room or 0)

    def share(self, i: int) -> float:
        return (self.dominant + i) / self.use.weight


def counts_before(snapshot: Snapshot, job: WaitingJob) -> tuple[int, int]:
    """Jobs that come before it: its own team's, and others'."""
    heads: dict[str, WaitingJob] = {}
    for other in snapshot.waiting:
        if other.rank == 0:
            heads[other.team_id] = other
    own = _line(snapshot, job.team_id, heads)
    others = 0
    for team_id, use in snapshot.teams.items():
        if team_id != job.team_id and use.waiting:
            others += _turns_before(_line(snapshot, team_id, heads), use.waiting, own, job.rank)
    return job.rank, others


def _line(snapshot: Snapshot, team_id: str, heads: dict[str, WaitingJob]) -> _Line:
    use, head = snapshot.use(team_id), heads.get(team_id)
    key = (-use.served_seconds_ago, 0.0 if head is None else -head.waited_seconds, "" if head is None else head.job_id)
    return _Line(use, dominant_gpus(use, snapshot.capacity), key)


def _turns_before(line: _Line, turns: int, own: _Line, rank: int) -> int:
    """How many of the line's turns come before the `rank`-th of `own`."""
    low, high = 0, turns
    while low < high:
        middle = (low + high) // 2
        if _is_before(line, middle, own, rank):
            low = middle + 1
        else:
            high = middle
    return low


def _is_before(line: _Line, i: int, own: _Line, k: int) -> bool:
    """Whether the i-th turn of one team comes before the k-th of the other.

    Equal shares go to the team whose turn before was earlier; one that has had no turn yet comes first.
    """
    while True:
        ours, theirs = own.phase(k), line.phase(i)
        if ours != theirs:
            return theirs < ours
        if line.share(i) != own.share(k):
            return line.share(i) < own.share(k)
        if i == 0 and k == 0:
            return line.head < own.head
        if i == 0 or k == 0:
            return i == 0
        # Of equal weight: equal at each turn of this phase before, too.
        back = min(line.since_phase(i), own.since_phase(k)) if line.use.weight == own.use.weight else 1
        i, k = i - max(1, back), k - max(1, back)
