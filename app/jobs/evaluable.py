"""What can be scored by what: the rules of evaluations on demand; pure."""

from app.datasets.report import DatasetReport
from app.db.tables import Job
from app.errors import InvalidInput
from app.jobs.parents import Unsuited
from app.registry.service import ResolvedModel


def check_pair(model: ResolvedModel, against: ResolvedModel) -> None:
    """`InvalidInput` for two models that cannot answer the same rows in the same form."""
    assert model.tuned is not None and against.tuned is not None  # noqa: S101, PT018 - only tuned models are compared
    problem = None
    if against.id == model.id:
        problem = f"`{model.id}` cannot be compared with itself"
    elif against.base.weights_sha256 != model.base.weights_sha256:
        problem = f"`{against.id}` stands on the base '{against.base.id}' and `{model.id}` on '{model.base.id}'"
    elif against.tuned.recipe != model.tuned.recipe:
        problem = f"`{against.id}` and `{model.id}` were tuned for different tasks"
    elif against.tuned.labels != model.tuned.labels:
        problem = f"`{against.id}` and `{model.id}` tell different labels apart"
    if problem is not None:
        raise InvalidInput(f"{problem}: their figures cannot stand side by side.", param="against")


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
