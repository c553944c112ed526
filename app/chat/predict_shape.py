"""Predict requests as the serving engine wants them, and its predictions in the shapes of Hugging Face's inference API.

What Hugging Face's servers answer and its client `huggingface_hub` reads, for one text and for a list of them:

    text-classification   [[{label, score}, …]]                          one inner list a text, always
    token-classification  [{entity_group, score, word, start, end}, …]   for one text; for a list, a list of such lists
    summarization         [{summary_text}]                               one object a text

A classifier that may abstain, or is asked for a set, answers with one object a text:
`{scores: [{label, score}, …], chosen: [label], abstained, min_confidence, set}`.
"""

from typing import Any, assert_never

from app.chat.model_to_ask import ModelToAsk
from app.chat.predict_schemas import PredictParameters, PredictRequest
from app.contracts.predictions import Entities, Labels, Prediction, Predictions, PredictSpec, Written
from app.contracts.specs import AdapterRef
from app.errors import InvalidInput

_PARAMETERS_OF = {
    "text-classification": {"top_k", "function_to_apply", "min_confidence", "max_risk", "return_set"},
    "token-classification": {"aggregation_strategy"},
    "summarization": {"max_new_tokens", "generate_parameters"},
}


def predict_spec(request: PredictRequest, model: ModelToAsk, adapter: AdapterRef) -> PredictSpec:
    """`InvalidInput` for a parameter of another task."""
    parameters = request.parameters
    _check_task(parameters, model)
    spec = PredictSpec(
        base=model.base,
        adapter=adapter,
        inputs=(request.inputs,) if isinstance(request.inputs, str) else tuple(request.inputs),
        function=parameters.function_to_apply,
        min_confidence=parameters.min_confidence,
        max_risk=parameters.max_risk,
        returns_set=bool(parameters.return_set),
    )
    limit = parameters.max_new_tokens
    if limit is None and parameters.generate_parameters is not None:
        limit = parameters.generate_parameters.max_new_tokens
    return spec if limit is None else spec.model_copy(update={"max_new_tokens": limit})


def predicted_wire(request: PredictRequest, found: Predictions) -> list[Any]:
    """The answer's body."""
    shown = [_shown(prediction, request.parameters, found.min_confidence) for prediction in found.predictions]
    is_flat = isinstance(request.inputs, str) and isinstance(found.predictions[0], Entities)
    return shown[0] if is_flat else shown


def predicted_headers(found: Predictions) -> dict[str, str]:
    """Usage under the names of Hugging Face's text servers, and the places of texts that were cut."""
    headers = {"x-prompt-tokens": str(found.input_tokens), "x-generated-tokens": str(found.output_tokens)}
    if found.temperature is not None:
        headers["x-temperature"] = f"{found.temperature:.6g}"
    if found.truncated:
        headers["x-truncated-inputs"] = ",".join(map(str, found.truncated))
    return headers


def _decides(parameters: PredictParameters) -> bool:
    """Whether more is asked for than scores."""
    return bool(parameters.return_set) or parameters.min_confidence is not None or parameters.max_risk is not None


def _check_task(parameters: PredictParameters, model: ModelToAsk) -> None:
    task = model.task
    foreign = sorted(parameters.model_dump(exclude_none=True).keys() - _PARAMETERS_OF[task])
    if foreign:
        raise InvalidInput(
            f"'{foreign[0]}' is no parameter of {task}, which '{model.id}' was tuned for; "
            f"there it is {' or '.join(sorted(_PARAMETERS_OF[task]))}.",
            param=f"parameters.{foreign[0]}",
        )


def _shown(prediction: Prediction, parameters: PredictParameters, min_confidence: float | None) -> Any:
    match prediction:
        case Labels():
            scores = [{"label": one.label, "score": one.score} for one in prediction.scores[: parameters.top_k]]
            if not _decides(parameters):
                return scores
            decided = {"scores": scores, "chosen": prediction.chosen, "abstained": prediction.abstained}
            return decided | {"min_confidence": min_confidence, "set": prediction.conformal_set}
        case Entities():
            return [
                {
                    "entity_group": span.label,
                    "score": span.score,
                    "word": span.text,
                    "start": span.start,
                    "end": span.end,
                }
                for span in prediction.spans
            ]
        case Written():
            return {"summary_text": prediction.text}
        case _:
            assert_never(prediction)
