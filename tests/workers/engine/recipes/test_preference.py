import hashlib

import pytest
import torch

from app.contracts.rows import ChatMessage, PreferenceRow
from app.contracts.specs import AdapterRef, DpoSpec, EvalSpec, LoraSpec
from tests.workers.engine.conftest import train_spec
from workers.engine.evaluation.preference import preference_margins, preference_scores, preferred_rows
from workers.engine.evaluation.run import evaluate
from workers.engine.inference.adapters import load_verified_adapter
from workers.engine.recipes.open import open_recipe
from workers.engine.recipes.preference import encode_pair
from workers.engine.recipes.templates import decode
from workers.engine.training.loop import train
from workers.engine.training.lora import activate

BETA = 0.3


def message(role, content, **fields):
    return ChatMessage(role=role, content=content, **fields)


def pair(line, *, good="billing", bad="no idea, sorry", filler=0):
    return PreferenceRow(
        line=line,
        messages=(
            message("user", "hello " * filler),
            message("assistant", "how can I help?"),
            message("user", f"ticket {line}: my parcel is late. " + "please. " * (line % 4)),
        ),
        preferred=message("assistant", good),
        non_preferred=message("assistant", bad),
    )


PAIRS = tuple(
    pair(i, good=("billing", "delivery, soon")[i % 2], bad=("no", "I cannot say that")[i % 2]) for i in range(1, 13)
)


def write_pairs(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def preference_spec(ref, folder, **changes):
    valid = write_pairs(folder / "pairs-valid.jsonl", PAIRS[:5])
    assert valid
    fields = {
        "recipe": "preference",
        "dpo": DpoSpec(beta=BETA),
        "train_rows_sha256": write_pairs(folder / "pairs.jsonl", PAIRS),
        "train_rows": str(folder / "pairs.jsonl"),
        "valid_rows": str(folder / "pairs-valid.jsonl"),
        "token_budget": 300,
    }
    return train_spec(ref, folder, **(fields | changes))


def run(resident, spec, should_stop=lambda: None, reports=None):
    reports = [] if reports is None else reports
    train(resident, spec, reports.append, should_stop)
    return reports


def of_kind(reports, kind):
    return [report for report in reports if report.kind == kind]


def moved_adapter(resident, seed):
    adapter = resident.linears.new_adapter(LoraSpec(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(seed)
    adapter.initialise(generator)
    with torch.no_grad():
        for b in adapter.B.values():
            b.copy_(torch.randn(b.shape, generator=generator) * 0.1)
    adapter.refresh()
    return adapter


def recipe_and_pairs(tiny, rows=PAIRS):
    recipe = open_recipe(tiny, "preference", dpo=DpoSpec(beta=BETA))
    return recipe, recipe.encode(rows, max_length=256, on_progress=lambda _done: None).rows


def answer_log_probability(tiny, adapter, row):
    """Of one row alone, by the whole model's own logits."""
    ids = torch.from_numpy(row.input_ids.astype("int64"))
    with activate(tiny.linears, adapter):
        log_p = tiny.model(ids[None]).logits[0, :-1].log_softmax(-1)
    taken = log_p.gather(1, ids[1:, None])[:, 0]
    return taken[torch.from_numpy(row.is_supervised[1:])].sum()


def test_only_the_last_answer_of_each_row_is_learned(tiny):
    _, pairs = recipe_and_pairs(tiny)
    for encoded, row in zip(pairs, PAIRS, strict=True):
        for part, answer in ((encoded.preferred, row.preferred), (encoded.other, row.non_preferred)):
            learned = decode(tiny.tokenizer, part.input_ids[part.is_supervised].tolist())
            assert learned == f"{answer.content}<|im_end|>"


def test_the_loss_is_the_papers_formula_summed_over_the_pairs(tiny):
    recipe, pairs = recipe_and_pairs(tiny)
    start, now = moved_adapter(tiny, 1), moved_adapter(tiny, 2)
    recipe.begin(start, pairs, [], is_fresh=False, poll=lambda: None)
    (batch,) = recipe.pack(pairs, 100_000)
    with torch.no_grad():
        with activate(tiny.linears, now):
            found = recipe.loss(batch, now)
        expected, margins = 0.0, []
        for one in batch.rows:
            better = answer_log_probability(tiny, now, one.preferred) - answer_log_probability(
                tiny, start, one.preferred
            )
            worse = answer_log_probability(tiny, now, one.other) - answer_log_probability(tiny, start, one.other)
            margins.append(BETA * (better - worse).item())
            expected += torch.log(1 + torch.exp(torch.tensor(-margins[-1]))).item()
    assert found.nll_sum.item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found.outputs, torch.tensor(margins), rtol=1e-3, atol=1e-4)
    assert found.correct.item() == sum(margin > 0 for margin in margins)
    assert 0 < found.correct.item() < found.count == len(PAIRS)


def test_the_gradient_is_the_same_for_one_batch_of_pairs_and_for_one_pair_at_a_time(tiny):
    recipe, pairs = recipe_and_pairs(tiny)
    adapter = moved_adapter(tiny, 3)
    recipe.begin(moved_adapter(tiny, 4), pairs, [], is_fresh=False, poll=lambda: None)

    def gradient(budget):
        adapter.zero_grad()
        for batch in recipe.pack(pairs, budget):
            with activate(tiny.linears, adapter):
                torch.autograd.backward(recipe.loss(batch, adapter).nll_sum / len(pairs))
        return adapter.gradient.clone()

    whole, split = gradient(100_000), gradient(1)
    assert whole.norm() > 0
    assert (whole - split).norm() < 1e-4 * whole.norm()


def test_both_rows_of_a_pair_lie_in_one_batch_within_the_budget(tiny):
    recipe, pairs = recipe_and_pairs(tiny)
    budget = 3 * max(one.tokens for one in pairs)
    batches = recipe.pack(pairs, budget)
    assert len(batches) > 1
    assert sorted(one.line for batch in batches for one in batch.rows) == [row.line for row in PAIRS]
    for batch in batches:
        assert batch.row_tokens <= budget
        assert len(batch.packed.rows) == len(batch.answer_tokens) == 2 * batch.count


def test_a_pair_that_is_too_long_loses_the_same_part_of_its_prompt_in_both_rows(tiny):
    row = pair(1, filler=40, bad="a much longer answer that nobody wanted")
    whole = encode_pair(tiny, row, 512)
    limit = whole.other.tokens - 20
    cut = encode_pair(tiny, row, limit)
    assert whole.other.tokens > whole.preferred.tokens
    assert cut.other.tokens == limit
    assert cut.preferred.tokens == whole.preferred.tokens - 20
    assert cut.is_truncated
    assert not whole.is_truncated
    prompt = cut.preferred.tokens - cut.preferred.supervised_tokens
    assert (cut.preferred.input_ids[:prompt] == cut.other.input_ids[:prompt]).all()


@pytest.mark.parametrize(("good", "limit", "reason"), [("same", 512, "the same"), ("other", 3, "the limit is 3")])
def test_a_pair_that_teaches_nothing_or_does_not_fit_is_dropped_with_its_reason(tiny, good, limit, reason):
    recipe = open_recipe(tiny, "preference", dpo=DpoSpec())
    encoded = recipe.encode([pair(3, good=good, bad="same")], max_length=limit, on_progress=lambda _done: None)
    assert not encoded.rows
    assert encoded.dropped[0][0] == 3
    assert reason in encoded.dropped[0][1]


@pytest.fixture(scope="module")
def unbroken(tiny, tmp_path_factory):
    return run(tiny, preference_spec(tiny.ref, tmp_path_factory.mktemp("unbroken"), n_epochs=3))


def test_training_raises_the_share_of_preferred_answers_from_one_half(tiny, unbroken, tmp_path):
    metrics = of_kind(unbroken, "metric")
    finished = of_kind(unbroken, "finished")[0]
    assert metrics[0].train_loss == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=0.05)
    assert metrics[-1].full_valid_loss < 0.6
    recipe, pairs = recipe_and_pairs(tiny)
    recipe.note_reference(None, pairs, lambda: None)
    base = preference_scores(preference_margins(recipe, None, pairs, token_budget=200))
    reference = {"id": "dpo", "path": finished.adapter_path, "sha256": finished.adapter_sha256}
    adapter = load_verified_adapter(tiny, AdapterRef.model_validate(reference))
    tuned = preference_scores(preference_margins(recipe, adapter, pairs, token_budget=200))
    assert (base.accuracy, base.margin, base.n) == (0.5, 0.0, len(PAIRS))
    assert tuned.accuracy > 0.9
    assert tuned.margin > 0.1


@pytest.mark.parametrize("is_continued", [False, True])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_preference_run_stopped_and_resumed_ends_as_the_unbroken_one(tiny, tmp_path, stop_after, is_continued):
    changes = {}
    if is_continued:
        first = of_kind(run(tiny, train_spec(tiny.ref, tmp_path / "sft")), "finished")[0]
        changes["initial_adapter"] = {"id": "sft", "path": first.adapter_path, "sha256": first.adapter_sha256}
    whole = run(tiny, preference_spec(tiny.ref, tmp_path / "whole", **changes))
    reports = []
    spec = preference_spec(tiny.ref, tmp_path / "parts", resume_checkpoint_seconds=1000, **changes)
    run(tiny, spec, lambda: "preempt" if len(of_kind(reports, "metric")) >= stop_after else None, reports)
    resumed = spec.model_copy(update={"resume_from": of_kind(reports, "checkpoint")[-1].path})
    run(tiny, resumed, reports=reports)
    assert {m.step: m.train_loss for m in of_kind(reports, "metric")} == {
        m.step: m.train_loss for m in of_kind(whole, "metric")
    }
    assert of_kind(reports, "finished")[0].adapter_sha256 == of_kind(whole, "finished")[0].adapter_sha256


def test_the_reference_of_a_continued_run_is_the_adapter_it_continues(tiny, tmp_path):
    first = of_kind(run(tiny, train_spec(tiny.ref, tmp_path / "sft")), "finished")[0]
    initial = {"id": "sft", "path": first.adapter_path, "sha256": first.adapter_sha256}
    spec = preference_spec(tiny.ref, tmp_path / "dpo", initial_adapter=initial, lora={"rank": 4, "alpha": 8})
    metrics = of_kind(run(tiny, spec), "metric")
    assert metrics[0].train_loss == pytest.approx(0.6931, abs=1e-3)


def test_an_evaluation_puts_preferences_beside_the_base_and_reads_the_wanted_answers(tiny, unbroken, tmp_path):
    finished = of_kind(unbroken, "finished")[0]
    write_pairs(tmp_path / "held.jsonl", PAIRS[:6])
    spec = EvalSpec(
        run_id="eval-1",
        base=tiny.ref,
        adapter=AdapterRef(id="dpo", path=finished.adapter_path, sha256=finished.adapter_sha256),
        recipe="preference",
        dpo=DpoSpec(beta=BETA),
        rows=str(tmp_path / "held.jsonl"),
        max_length=256,
        latency_rows=2,
        latency_new_tokens=4,
    )
    reports = []
    evaluate(tiny, spec, reports.append, lambda: None)
    (found,) = of_kind(reports, "evaluation")
    assert (found.base.preference.accuracy, found.base.preference.margin) == (0.5, 0.0)
    assert found.tuned.preference.accuracy > 0.5
    assert found.tuned.preference.n == found.rows == 6
    assert found.tuned.supervised_tokens == found.base.supervised_tokens > 0
    assert found.samples[0].expected == PAIRS[0].preferred.content
    steps = [(p.done, p.total) for p in of_kind(reports, "progress") if p.phase == "evaluate"]
    assert steps[-1][0] == steps[-1][1]


def test_the_wanted_answers_are_scored_as_chat_rows(tiny):
    (row,) = preferred_rows([pair(2)])
    assert [m.content for m in row.messages][-1] == "billing"
    assert [m.weight for m in row.messages if m.role == "assistant"] == [0, 1]
