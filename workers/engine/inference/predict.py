"""What `/predict` answers: labels, entities or texts from a model that was tuned for them."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from app.contracts.errors import usage
from app.contracts.predictions import Predictions
from app.contracts.specs import AdapterTask
from workers.engine.base_model import ResidentBase
from workers.engine.inference.label_rule import PLAIN, LabelRule
from workers.engine.inference.predict_heads import Classifier, HeadRun
from workers.engine.inference.predict_texts import DecoderRun, Seq2SeqRun
from workers.engine.recipes.open import open_recipe
from workers.engine.training.lora import AdapterWeights

DEFAULT_NEW_TOKENS = 256


class PredictionRun(Protocol):
    """The answer to some texts, worked out in steps short enough to let others in between."""

    @property
    def is_done(self) -> bool: ...

    def step(self) -> None:
        """The next part of the work. Raises `WorkerFailure` for a text that cannot be read."""
        ...

    def predictions(self, *, since: float) -> Predictions:
        """Once it is done. `since` is the moment (`time.monotonic`) its time counts from."""
        ...


def predict(
    resident: ResidentBase,
    adapter: AdapterWeights,
    inputs: Sequence[str],
    *,
    max_new_tokens: int = DEFAULT_NEW_TOKENS,
    rule: LabelRule = PLAIN,
    poll: Callable[[], None] = lambda: None,
) -> Predictions:
    """What the tuned model says of each text; usage failure `unsupported_task` where it is a chat model.

    `poll` is called between steps and may raise to stop.
    """
    since = time.monotonic()
    run = open_run(resident, adapter, inputs, max_new_tokens=max_new_tokens, rule=rule)
    while not run.is_done:
        poll()
        run.step()
    return run.predictions(since=since)


def open_run(
    resident: ResidentBase,
    adapter: AdapterWeights,
    inputs: Sequence[str],
    *,
    max_new_tokens: int,
    rule: LabelRule = PLAIN,
) -> PredictionRun:
    """The work of `predict`, not begun."""
    task = adapter.task or AdapterTask(recipe="chat")
    match task.recipe:
        case "text_classification" | "token_classification":
            recipe = open_recipe(resident, task.recipe, labels=task.labels, is_multi_label=task.is_multi_label)
            return HeadRun(cast("Classifier", recipe), adapter, inputs, rule)
        case "summarization" if resident.family == "decoder":
            return DecoderRun(resident, adapter, inputs, max_new_tokens)
        case "summarization":
            return Seq2SeqRun(resident, adapter, inputs, max_new_tokens)
        case "chat" | "preference":
            raise usage(
                "unsupported_task",
                "This model was tuned for conversations and has nothing to predict; ask it with messages.",
                param="model",
            )
