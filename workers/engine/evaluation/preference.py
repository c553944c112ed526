"""Preferences on held-out pairs: how often, and by how much, a model leans to the wanted answer against the base."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch

from app.contracts.reports import Evaluation, PreferenceScores
from app.contracts.rows import ChatRow, PreferenceRow
from workers.engine.evaluation.chat import evaluate_chat
from workers.engine.evaluation.heldout import Heldout
from workers.engine.evaluation.judgement import figures, judge
from workers.engine.evaluation.metrics.signature import signature
from workers.engine.evaluation.statistics.metric import Metric, mean
from workers.engine.recipes.preference import EncodedPair, PreferenceRecipe, answer_row
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.training.lora import AdapterWeights, activate


def evaluate_preference(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Base beside tuned: preferences on the pairs, and as a chat model on the wanted answers."""
    recipe = cast("PreferenceRecipe", heldout.recipe)
    pairs = cast("tuple[EncodedPair, ...]", heldout.encoded.rows)
    heldout.progress.total += 2 * len(pairs)
    recipe.note_reference(None, pairs, heldout.progress.poll)
    margins = {
        name: preference_margins(
            recipe,
            model,
            pairs,
            token_budget=heldout.token_budget,
            on_batch=lambda count, name=name: heldout.progress.advance(count, f"preferences, {name}"),  # type: ignore[misc]
        )
        for model, name in ((heldout.against, "base"), (adapter, "tuned"))
    }
    wanted = EncodedRows(tuple(pair.preferred for pair in pairs), heldout.encoded.dropped)
    rows = preferred_rows(cast("Sequence[PreferenceRow]", heldout.rows))
    found = evaluate_chat(replace(heldout, rows=rows, encoded=wanted), adapter)
    metrics = {name: _metrics(values, recipe.dpo.beta) for name, values in margins.items()}
    scores = {
        name: getattr(found, name).model_copy(
            update={
                "preference": preference_scores(margins[name]),
                "figures": (*figures(metrics[name], seed=heldout.spec.seed), *getattr(found, name).figures),
            }
        )
        for name in margins
    }
    judgement = judge(
        metrics["base"],
        metrics["tuned"],
        decides="preference_accuracy",
        beside=["preference_margin"],
        base_name=heldout.base_is,
        seed=heldout.spec.seed,
    )
    return found.model_copy(update={**scores, "judgement": judgement})


def preference_scores(margins: Sequence[float]) -> PreferenceScores:
    """From the rewards' margins of all pairs; a tie counts half."""
    return PreferenceScores(
        accuracy=sum(map(_won, margins)) / len(margins), margin=sum(margins) / len(margins), n=len(margins)
    )


def preference_margins(
    recipe: PreferenceRecipe,
    adapter: AdapterWeights | None,
    pairs: Sequence[EncodedPair],
    *,
    token_budget: int,
    on_batch: Callable[[int], None] = lambda _pairs: None,
) -> list[float]:
    """Reward of the preferred answer minus the other's, of each pair in the order given.

    Against the base, whose margins `recipe.note_reference(None, …)` has noted before. The base itself (`adapter` None)
    is its own reference: 0 for each pair.
    `on_batch(pairs)` after each batch may raise to stop.
    """
    found: dict[int, float] = {}
    for batch in recipe.pack(pairs, token_budget):
        if adapter is None:
            margins = batch.reference_margins
        else:
            with torch.inference_mode(), activate(recipe.resident.linears, adapter):
                margins = recipe.answer_margins(batch.to(recipe.resident.device))
        judged = recipe.judge(batch, margins)
        rewards = cast("torch.Tensor", judged.outputs).double().tolist()
        found |= zip((pair.line for pair in batch.rows), rewards, strict=True)
        on_batch(batch.count)
    return [found[pair.line] for pair in pairs]


def _metrics(margins: Sequence[float], beta: float) -> list[Metric]:
    shown = {"reference": "base", "beta": beta}
    return [
        mean("preference_accuracy", [_won(margin) for margin in margins], signature=signature(ties="half", **shown)),
        mean("preference_margin", margins, signature=signature(unit="nat", **shown)),
    ]


def _won(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def preferred_rows(rows: Sequence[PreferenceRow]) -> tuple[ChatRow, ...]:
    """The conversations with their wanted answers: what loss, sample answers and latency are measured on."""
    return tuple(answer_row(row, row.preferred) for row in rows)
