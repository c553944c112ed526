"""Budgets of teams: reserved when a job is submitted, settled on what it used, warned of and enforced.

What a team has committed in a month is what it used, its open leases until now, and what its open jobs may still use of
their reservations. A reservation exists exactly while its job is open and not paused; the same place that writes the
status takes it away, so none can leak.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from app.audit.service import AuditService
from app.db.tables import TeamBudget
from app.errors import NotFound, QuotaExceeded
from app.identity.caller import Caller
from app.identity.reach import within_reach
from app.settings import Settings
from app.usage.budget_repository import BudgetRepository
from app.usage.kinds import Kind, PriceKind, cost_of
from app.usage.repository import UsageRepository
from app.usage.schemas import BudgetSet
from app.webhooks.event_types import EventType
from app.webhooks.outbox import Outbox

# Of a job whose use nobody can estimate.
LEAST_RESERVED_SECONDS = 60.0


@dataclass(frozen=True)
class Standing:
    """What a team has used and reserved in a month."""

    month: datetime
    used_seconds: float
    used_cost: Decimal
    reserved_seconds: float
    reserved_cost: Decimal


@dataclass(frozen=True)
class Verdict:
    """What is to be told to a team, or done to it, at this moment."""

    team_id: str
    is_over: bool
    said: str
    is_news: bool
    """Not told before in this month."""


class BudgetService:
    def __init__(self, session: Session, settings: Settings, outbox: Outbox, audit: AuditService) -> None:
        self._session = session
        self._repository = BudgetRepository(session)
        self._usage = UsageRepository(session)
        self._settings = settings
        self._outbox = outbox
        self._audit = audit

    # For people.

    def set(self, caller: Caller, team_id: str, body: BudgetSet) -> TeamBudget:
        """Change the limits that are given; null takes one away. `NotFound` for a team that is not there."""
        changes = body.model_dump(exclude_unset=True)
        with within_reach(self._session, caller):
            if not self._repository.has_team(team_id):
                raise _absent(team_id)
            budget = self._repository.make(team_id)
            for name, value in changes.items():
                setattr(budget, name, value)
            # A new limit is told of anew.
            budget.warned_for = budget.exceeded_for = None
            budget.updated_at = self._usage.now()
        told = {name: None if value is None else float(value) for name, value in changes.items()}
        self._audit.record(team_id, caller.actor, "budget.set", team_id, **told)
        return budget

    def get(self, caller: Caller, team_id: str) -> TeamBudget:
        """An operator's of every team, everybody else's of the own; a team without limits has an empty one."""
        with within_reach(self._session, caller):
            is_visible = caller.is_operator or caller.team_id == team_id
            if not is_visible or not self._repository.has_team(team_id):
                raise _absent(team_id)
            return self._repository.find(team_id) or TeamBudget(team_id=team_id, warn_at=0.8)

    def standing(self, team_id: str, *, but_not_job: str | None = None) -> Standing:
        """Of the current month (UTC). `but_not_job` leaves a job's own reservation out."""
        month = month_of(self._usage.now())[0]
        used = self._usage.month(team_id, month.date())
        leases = self._repository.open_leases(team_id, month)
        running: dict[str, float] = {}
        cost = sum((money for _, money in used.values()), Decimal(0))
        for lease in leases:
            running[lease.job_id] = running.get(lease.job_id, 0.0) + lease.seconds
            price = self._usage.price_at(PriceKind.GPU_HOUR, lease.device_kind, lease.started_at)
            cost += cost_of(Kind.GPU_SECONDS, lease.month_seconds, price)
        reserved_seconds, reserved_cost = 0.0, Decimal(0)
        for one in self._repository.reservations(team_id, but_not=but_not_job):
            rest = max(0.0, one.gpu_seconds - one.used_seconds - running.get(one.job_id, 0.0))
            reserved_seconds += rest
            reserved_cost += one.cost * Decimal(rest / one.gpu_seconds if one.gpu_seconds else 0)
        used_seconds = used.get(Kind.GPU_SECONDS, (0.0, Decimal(0)))[0]
        used_seconds += sum(lease.month_seconds for lease in leases)
        return Standing(month, used_seconds, cost, reserved_seconds, reserved_cost)

    def stored_bytes(self, team_id: str) -> int:
        return self._usage.stored_bytes(team_id)

    # For jobs and uploads, in their transactions.

    def reserve(
        self, team_id: str, job_id: str, gpu_seconds: float | None, cost: float | None, *, used_seconds: float = 0.0
    ) -> None:
        """Hold what a job will use. `QuotaExceeded` (budget_exceeded) if the month's budget has no room for its rest.

        `gpu_seconds` and `cost` are of the whole job, of which `used_seconds` are used already; None: nobody knows,
        a minimum is held.
        """
        seconds = max(used_seconds + LEAST_RESERVED_SECONDS, gpu_seconds or 0.0)
        money = Decimal(repr(cost or 0.0))
        budget = self._repository.lock(team_id)
        if budget is not None:
            rest = seconds - used_seconds
            standing = self.standing(team_id, but_not_job=job_id)
            self._check_room(budget, standing, rest, money * Decimal(rest / seconds))
        self._repository.put_reservation(job_id=job_id, team_id=team_id, gpu_seconds=seconds, cost=money)

    def refine(self, team_id: str, job_id: str, gpu_seconds: float | None, cost: float | None) -> None:
        """A better estimate of a job that holds something already; never refused, its job was let in."""
        if gpu_seconds is not None and self._repository.has_reservation(job_id):
            self._repository.put_reservation(
                job_id=job_id,
                team_id=team_id,
                gpu_seconds=max(LEAST_RESERVED_SECONDS, gpu_seconds),
                cost=Decimal(repr(cost or 0.0)),
            )

    def settle(self, job_id: str) -> None:
        """The job holds nothing any more: what it used is in the ledger. Repeats harmlessly."""
        self._repository.remove_reservation(job_id)

    def check_storage(self, team_id: str, more_bytes: int) -> None:
        """`QuotaExceeded` (storage_quota_exceeded) if the team may not store so much more.

        Exact under parallel uploads: each waits for the one before to commit or give up.
        """
        budget = self._repository.lock(team_id)
        if budget is None or budget.storage_bytes is None:
            return
        stored = self._usage.stored_bytes(team_id)
        if stored + more_bytes > budget.storage_bytes:
            raise QuotaExceeded(
                f"Your team may store {budget.storage_bytes} bytes and stores {stored}: {more_bytes} more do not fit. "
                "Delete files or models you no longer need, or ask your operator for more.",
                code="storage_quota_exceeded",
            )

    # For the control role.

    def review(self) -> list[Verdict]:
        """Teams that have reached a limit or come near one. Tells webhooks of what is new in this month."""
        verdicts = [self._judge(team_id) for team_id in self._repository.limited_teams()]
        return [verdict for verdict in verdicts if verdict is not None]

    def _judge(self, team_id: str) -> Verdict | None:
        budget = self._repository.lock(team_id)
        if budget is None:
            return None
        standing = self.standing(team_id)
        share, said = _nearest(budget, standing, self._settings.currency)
        first_day = standing.month.date()
        if share >= 1:
            is_news = budget.exceeded_for != first_day
            budget.exceeded_for = first_day
            if is_news:
                self._tell(team_id, EventType.BUDGET_EXCEEDED, said)
            return Verdict(team_id, is_over=True, said=said, is_news=is_news)
        if share >= budget.warn_at and budget.warned_for != first_day:
            budget.warned_for = first_day
            self._tell(team_id, EventType.BUDGET_WARNED, said)
            return Verdict(team_id, is_over=False, said=said, is_news=True)
        return None

    def _tell(self, team_id: str, event_type: EventType, said: str) -> None:
        self._outbox.announce(team_id, event_type, team_id)
        self._audit.record(team_id, "system", event_type.value, team_id, said=said)

    def _check_room(self, budget: TeamBudget, standing: Standing, seconds: float, cost: Decimal) -> None:
        until = month_of(standing.month)[1]
        mend = (
            f"Cancel or pause open jobs, wait until {until:%d %B %Y} (UTC), or ask your operator to raise the budget."
        )
        limit = budget.gpu_seconds_per_month
        if limit is not None and standing.used_seconds + standing.reserved_seconds + seconds > limit:
            raise QuotaExceeded(
                f"Your team's budget of {limit:.0f} GPU-seconds for {standing.month:%B %Y} has no room for this job: "
                f"{standing.used_seconds:.0f} are used, {standing.reserved_seconds:.0f} are reserved by open jobs, and "
                f"it is expected to take {seconds:.0f}. {mend}",
                code="budget_exceeded",
            )
        money = budget.cost_per_month
        if money is not None and (
            standing.used_cost + standing.reserved_cost + cost > money or standing.used_cost >= money
        ):
            currency = self._settings.currency.upper()
            raise QuotaExceeded(
                f"Your team's budget of {money:.2f} {currency} for {standing.month:%B %Y} has no room for this job: "
                f"{standing.used_cost:.2f} are spent, {standing.reserved_cost:.2f} are reserved by open jobs, and it "
                f"is expected to cost {cost:.2f}. {mend}",
                code="budget_exceeded",
            )


def month_of(moment: datetime) -> tuple[datetime, datetime]:
    """The beginning of the moment's month (UTC) and of the next one."""
    month = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return month, (month + timedelta(days=32)).replace(day=1)


def _nearest(budget: TeamBudget, standing: Standing, currency: str) -> tuple[float, str]:
    """The share of the limit that is nearest to its end, and a sentence about it. A limit of 0 is reached at once."""
    found = [(0.0, "")]
    month = f"{standing.month:%B %Y}"
    if budget.gpu_seconds_per_month is not None:
        limit = budget.gpu_seconds_per_month
        share = standing.used_seconds / limit if limit else 1.0
        found.append((share, f"{standing.used_seconds:.0f} of the team's {limit:.0f} GPU-seconds for {month} are used"))
    if budget.cost_per_month is not None:
        money = budget.cost_per_month
        share = float(standing.used_cost / money) if money else 1.0
        found.append(
            (share, f"{standing.used_cost:.2f} of the team's {money:.2f} {currency.upper()} for {month} are spent")
        )
    return max(found)


def _absent(team_id: str) -> NotFound:
    return NotFound(f"There is no project '{team_id}'.", param="project_id", code="project_not_found")
