"""Preferences on held-out pairs: how often, and by how much, a model leans to the wanted answer against the base."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch

from app.contracts.reports import Evaluation, PreferenceScores
from app.contracts.rows import ChatRow, PreferenceRow
from workers.engine.evaluation.chat import evaluate_chat
from workers.engine.evaluation.heldout import Heldout
from workers.engine.recipes.preference import EncodedPair, PreferenceRecipe, answer_row
from workers.engine.recipes.recipe import EncodedRows
from workers.engine.training.lora import AdapterWeights, activate


def evaluate_preference(heldout: Heldout, adapter: AdapterWeights) -> Evaluation:
    """Base beside tuned: preferences on the pairs, and as a chat model on the wanted answers."""
    recipe = cast("PreferenceRecipe", heldout.recipe)
    pairs = cast("tuple[EncodedPair, ...]", heldout.encoded.rows)
    heldout.progress.total += 2 * len(pairs)
    recipe.note_reference(None, pairs, heldout.progress.poll)
    base, tuned = (
        score_preferences(
            recipe,
            model,
            pairs,
            token_budget=heldout.token_budget,
            on_batch=lambda count, name=name: heldout.progress.advance(count, f"preferences, {name}"),  # type: ignore[misc]
        )
        for model, name in ((None, "base"), (adapter, "tuned"))
    )
    wanted = EncodedRows(tuple(pair.preferred for pair in pairs), heldout.encoded.dropped)
    rows = preferred_rows(cast("Sequence[PreferenceRow]", heldout.rows))
    found = evaluate_chat(replace(heldout, rows=rows, encoded=wanted), adapter)
    return found.model_copy(
        update={
            "base": found.base.model_copy(update={"preference": base}),
            "tuned": found.tuned.model_copy(update={"preference": tuned}),
        }
    )


def score_preferences(
    recipe: PreferenceRecipe,
    adapter: AdapterWeights | None,
    pairs: Sequence[EncodedPair],
    *,
    token_budget: int,
    on_batch: Callable[[int], None] = lambda _pairs: None,
) -> PreferenceScores:
    """Against the base, whose margins `recipe.note_reference(None, …)` has noted before.

    The base itself (`adapter` None) is its own reference: a margin of 0 and, ties counting half, an accuracy of 0.5.
    `on_batch(pairs)` after each batch may raise to stop.
    """
    rewards = torch.zeros((), dtype=torch.float64)
    right = torch.zeros((), dtype=torch.float64)
    for batch in recipe.pack(pairs, token_budget):
        if adapter is None:
            margins = batch.reference_margins
        else:
            with torch.inference_mode(), activate(recipe.resident.linears, adapter):
                margins = recipe.answer_margins(batch.to(recipe.resident.device))
        judged = recipe.judge(batch, margins)
        right += judged.correct.double().cpu()
        if judged.outputs is not None:
            rewards += judged.outputs.double().sum().cpu()
        on_batch(batch.count)
    return PreferenceScores(accuracy=right.item() / len(pairs), margin=rewards.item() / len(pairs), n=len(pairs))


def preferred_rows(rows: Sequence[PreferenceRow]) -> tuple[ChatRow, ...]:
    """The conversations with their wanted answers: what loss, sample answers and latency are measured on."""
    return tuple(answer_row(row, row.preferred) for row in rows)
