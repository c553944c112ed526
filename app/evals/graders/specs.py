"""Graders as the wire has them, checked on the way in; what is kept is what was sent."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.evals.graders.formula import Formula, FormulaFault
from app.evals.graders.templates import TemplateFault, check_template

ROLES = ("user", "assistant", "system", "developer")
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=100_000)]


class Spec(BaseModel):
    """Fields of newer clients are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    def wire(self) -> dict[str, Any]:
        """As it was sent."""
        return self.model_dump(mode="json", exclude_unset=True)


def _checked(template: str) -> str:
    try:
        check_template(template)
    except TemplateFault as fault:
        raise ValueError(str(fault)) from None
    return template


class TextPart(Spec):
    """A part of a message's content."""

    type: str
    text: Text = ""

    @field_validator("type")
    @classmethod
    def _is_text(cls, value: str) -> str:
        if value not in {"input_text", "output_text"}:
            raise ValueError(
                f"'{value}' parts cannot be read: the models of this service read text only. Send 'input_text' parts."
            )
        return value


class TemplateMessage(Spec):
    """A message with variables. A role no chat template knows is read as the user's."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Text | TextPart | Annotated[list[Text | TextPart], Field(max_length=100)]
    type: Literal["message"] | None = None

    @field_validator("role")
    @classmethod
    def _known(cls, value: str) -> str:
        return value if value in ROLES else "user"

    @model_validator(mode="after")
    def _templates_parse(self) -> Self:
        _checked(self.template)
        return self

    @property
    def template(self) -> str:
        """The parts joined, variables still in it."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join(part if isinstance(part, str) else part.text for part in parts)


class StringCheckGrader(Spec):
    type: Literal["string_check"]
    name: Name
    input: Text
    reference: Text
    operation: Literal["eq", "ne", "like", "ilike"]

    _templates = field_validator("input", "reference")(_checked)


class TextSimilarityGrader(Spec):
    type: Literal["text_similarity"]
    name: Name
    input: Text
    reference: Text
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]

    _templates = field_validator("input", "reference")(_checked)


class GraderSampling(Spec):
    """How a grading model draws its answer; its likeliest one if nothing is said."""

    max_completions_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None


class ScoreModelGrader(Spec):
    type: Literal["score_model"]
    name: Name
    model: Name
    input: Annotated[list[TemplateMessage], Field(min_length=1, max_length=100)]
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    sampling_params: GraderSampling | None = None

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"'range' must be two numbers, the lower one first, not [{low}, {high}]")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.range is None else (self.range[0], self.range[1])


class LabelModelGrader(Spec):
    type: Literal["label_model"]
    name: Name
    model: Name
    input: Annotated[list[TemplateMessage], Field(min_length=1, max_length=100)]
    labels: Annotated[list[Name], Field(min_length=1, max_length=1000)]
    passing_labels: list[Name]
    sampling_params: GraderSampling | None = None

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        foreign = sorted(set(self.passing_labels) - set(self.labels))
        if foreign:
            raise ValueError(f"passing_labels has '{foreign[0]}', which is not among the labels")
        return self


class PythonGrader(Spec):
    type: Literal["python"]
    name: Name
    source: Text
    image_tag: str | None = None


LeafGrader = Annotated[
    StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader,
    Field(discriminator="type"),
]


class MultiGrader(Spec):
    """Several graders and a formula over their scores, which it calls by name."""

    type: Literal["multi"]
    name: Name
    graders: LeafGrader | dict[Name, LeafGrader]
    calculate_output: Annotated[str, Field(min_length=1, max_length=1000)]

    @model_validator(mode="before")
    @classmethod
    def _one_or_named(cls, value: Any) -> Any:
        """The client's types have one grader here, the guide a grader for each name."""
        if isinstance(value, dict) and isinstance(value.get("graders"), list):
            raise ValueError("'graders' must be an object that names each grader")  # noqa: TRY004 - pydantic's protocol
        return value

    @model_validator(mode="after")
    def _formula_fits(self) -> Self:
        try:
            formula = Formula(self.calculate_output)
        except FormulaFault as fault:
            raise ValueError(f"calculate_output: {fault}") from None
        unknown = sorted(formula.names - self.by_name.keys())
        if unknown:
            raise ValueError(f"calculate_output names '{unknown[0]}', which is none of the graders")
        return self

    @property
    def by_name(self) -> "dict[str, LeafGrader]":
        if isinstance(self.graders, dict):
            return self.graders
        return {self.graders.name: self.graders}


Grader = Annotated[
    StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader | MultiGrader,
    Field(discriminator="type"),
]


class TextSimilarityCriterion(TextSimilarityGrader):
    pass_threshold: float


class ScoreModelCriterion(ScoreModelGrader):
    pass_threshold: float | None = None


class PythonCriterion(PythonGrader):
    pass_threshold: float | None = None


Criterion = Annotated[
    StringCheckGrader | TextSimilarityCriterion | ScoreModelCriterion | LabelModelGrader | PythonCriterion,
    Field(discriminator="type"),
]
