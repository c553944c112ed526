"""Which checkpoint is the result, and whether the run ends early: decided on rows that are scored for nothing else."""

from dataclasses import asdict, dataclass
from typing import Any

from app.contracts.specs import EarlyStopping
from workers.engine.recipes.recipe import Score


@dataclass
class Selection:
    """What the validations so far have shown. Plain values, saved with every checkpoint."""

    best_step: int | None = None
    best_score: float | None = None
    score_name: str | None = None
    lowest_loss: float | None = None
    checks_without_gain: int = 0
    has_ended_run: bool = False

    def ends_run(self, loss: float, rule: EarlyStopping | None) -> bool:
        """Whether a check with this loss would end the run. Changes nothing: a check may be cut short and repeated."""
        if rule is None or self.lowest_loss is None or loss < self.lowest_loss - rule.min_delta:
            return False
        return self.checks_without_gain + 1 >= rule.patience

    def see_check(self, loss: float, rule: EarlyStopping | None) -> None:
        """Account for a finished check."""
        if rule is None:
            return
        self.has_ended_run = self.ends_run(loss, rule)
        if self.lowest_loss is None or loss < self.lowest_loss - rule.min_delta:
            self.lowest_loss, self.checks_without_gain = loss, 0
        else:
            self.checks_without_gain += 1

    def see_candidate(self, step: int, score: Score) -> None:
        """Account for a checkpoint that may be the result; of equals the earlier one is kept."""
        if self.best_score is None or score.value > self.best_score:
            self.best_step, self.best_score, self.score_name = step, score.value, score.name

    def reason(self, *, step: int, steps_done: int, total_steps: int) -> str:
        """Why the adapter of `step` is the result, for the job's owner."""
        ended = ""
        if self.has_ended_run:
            ended = f"Training ended early after step {steps_done} of {total_steps}: the validation loss fell no more. "
        if self.best_score is None:
            return f"{ended}The result is the last step, {step}."
        name = "validation loss" if self.score_name == "negative_loss" else (self.score_name or "").replace("_", " ")
        place = "the last step" if step == steps_done else f"step {step} of {steps_done}"
        return f"{ended}The result is {place}: it has the best {name} ({abs(self.best_score):.4f})."

    def state(self) -> dict[str, Any]:
        return asdict(self)
