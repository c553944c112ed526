"""What can be scored by what: the rules of evaluations on demand; pure."""

from app.datasets.report import DatasetReport
from app.db.tables import Job
from app.jobs.parents import Unsuited
from app.registry.service import ResolvedModel, Tuned


def misfit_of(model: ResolvedModel, against: ResolvedModel) -> str | None:
    """Why two models cannot answer the same rows in the same form; None where they can."""
    if against.id == model.id:
        return f"`{model.id}` cannot be compared with itself"
    if against.base.weights_sha256 != model.base.weights_sha256:
        return f"`{against.id}` stands on the base '{against.base.id}' and `{model.id}` on '{model.base.id}'"
    first, second = (one.tuned or Tuned() for one in (model, against))
    if second.recipe != first.recipe:
        return f"`{against.id}` and `{model.id}` were tuned for different tasks"
    if second.labels != first.labels:
        return f"`{against.id}` and `{model.id}` tell different labels apart"
    return None


def check_evaluable(job: Job, report: DatasetReport) -> None:
    """`Unsuited` for rows with labels that the scored model does not know: left out, they would flatter it."""
    known = (job.parent_adapter or {}).get("labels")
    strange = [] if known is None else [label for label in report.labels or () if label not in known]
    if strange:
        named = ", ".join(repr(label) for label in strange[:5]) + (" and more" if len(strange) > 5 else "")
        raise Unsuited(
            f"{job.parent_model_id} does not know the label(s) {named}. Map these rows to labels it knows, or remove "
            "them from the file."
        )
