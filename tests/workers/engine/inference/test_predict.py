"""Predictions against the same model run one text at a time through transformers."""

import pytest
import torch
from torch.nn.functional import linear

from app.contracts.errors import WorkerFailure
from app.contracts.predictions import Entities, Labels
from app.contracts.specs import AbstentionPoint, AdapterTask, LabelCalibration
from tests.support.random_adapters import random_classifier
from tests.support.tiny_encoders import build_tiny_encoder
from workers.engine.base_model import load_base
from workers.engine.inference.label_rule import LabelRule
from workers.engine.inference.predict import predict
from workers.engine.recipes.head import BIAS, WEIGHT
from workers.engine.training.lora import activate

LABELS = ("billing", "delivery", "repair")
TEXTS = (
    "My parcel is late.",
    "Hello",
    "The machine is broken, and I want my money back, please, and soon. Thank you for the help.",
    "",
    "billing",
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
        return load_base(build_tiny_encoder(tmp_path_factory.mktemp("encoder")), torch.device("cpu"))


def classifier(resident, **fields):
    return random_classifier(resident, AdapterTask(recipe="text_classification", labels=LABELS, **fields))


def tagger(resident):
    return random_classifier(resident, AdapterTask(recipe="token_classification", labels=("THING", "WISH")))


def hidden_alone(resident, adapter, text):
    """Last hidden states [tokens, hidden] of one text, no packing, transformers' own attention and positions."""
    ids = resident.tokenizer(text, return_tensors="pt")["input_ids"]
    if resident.family == "decoder":
        ids = torch.cat([ids, torch.tensor([[resident.tokenizer.eos_token_id]])], 1).long()
    body = resident.model if resident.family == "encoder" else resident.model.get_decoder()
    with torch.no_grad(), activate(resident.linears, adapter):
        return body(input_ids=ids).last_hidden_state[0]


@torch.no_grad()
def logits_alone(resident, adapter, text, weight, bias):
    hidden = hidden_alone(resident, adapter, text)
    pooled = hidden.mean(0) if resident.family == "encoder" else hidden[-1]
    return linear(pooled, weight, bias)


def by_label(prediction):
    return torch.tensor([{entry.label: entry.score for entry in prediction.scores}[label] for label in LABELS])


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_labels_come_with_the_probabilities_each_text_has_alone(encoder, resident, family):
    base = encoder if family == "encoder" else resident
    adapter = classifier(base)
    found = predict(base, adapter, TEXTS)
    for text, prediction in zip(TEXTS, found.predictions, strict=True):
        logits = logits_alone(base, adapter, text, adapter.vectors[WEIGHT], adapter.vectors[BIAS])
        assert isinstance(prediction, Labels)
        assert torch.allclose(by_label(prediction), logits.softmax(0), atol=1e-5)
        assert prediction.chosen == (LABELS[logits.argmax()],) == (prediction.scores[0].label,)
        scores = [entry.score for entry in prediction.scores]
        assert scores == sorted(scores, reverse=True)
    assert len({prediction.scores[0].score for prediction in found.predictions}) == len(TEXTS)
    assert (found.output_tokens, found.truncated) == (0, ())
    assert found.total_ms > 0


def test_several_labels_are_judged_apart_and_chosen_above_one_half(encoder):
    adapter = classifier(encoder, is_multi_label=True)
    found = predict(encoder, adapter, TEXTS).predictions
    counts = set()
    for text, prediction in zip(TEXTS, found, strict=True):
        logits = logits_alone(encoder, adapter, text, adapter.vectors[WEIGHT], adapter.vectors[BIAS])
        assert torch.allclose(by_label(prediction), logits.sigmoid(), atol=1e-5)
        assert prediction.chosen == tuple(entry.label for entry in prediction.scores if entry.score > 0.5)
        counts.add(len(prediction.chosen))
    assert len(counts) > 1


def test_scores_can_be_the_plain_outputs_or_another_function_of_them(encoder):
    adapter = classifier(encoder)
    (softmax,) = predict(encoder, adapter, ["Hello"]).predictions
    (sigmoid,) = predict(encoder, adapter, ["Hello"], rule=LabelRule("sigmoid")).predictions
    (plain,) = predict(encoder, adapter, ["Hello"], rule=LabelRule("none")).predictions
    assert torch.allclose(by_label(plain).softmax(0), by_label(softmax), atol=1e-6)
    assert torch.allclose(by_label(plain).sigmoid(), by_label(sigmoid), atol=1e-6)
    assert plain.chosen == sigmoid.chosen == softmax.chosen


def calibrated(resident, **changes):
    """Temperature 2; sets from 0.3 on; the surest half of the rows was never wrong."""
    points = (
        AbstentionPoint(min_confidence=0.6, answered=0.5, risk=0.0, risk_bound=0.05),
        AbstentionPoint(min_confidence=0.4, answered=1.0, risk=0.1, risk_bound=0.2),
    )
    fields = {"temperature": 2.0, "conformal_threshold": 0.3, "conformal_coverage": 0.9, "abstention": points}
    return classifier(resident, calibration=LabelCalibration.model_validate(fields | {"rows": 100} | changes))


def test_scores_are_those_of_the_stored_temperature_and_answers_are_not_changed_by_it(encoder):
    plain, stored = (predict(encoder, adapter, TEXTS) for adapter in (classifier(encoder), calibrated(encoder)))
    outputs = predict(encoder, classifier(encoder), TEXTS, rule=LabelRule("none"))
    assert (plain.temperature, stored.temperature, outputs.temperature) == (1.0, 2.0, None)
    for before, after, output in zip(plain.predictions, stored.predictions, outputs.predictions, strict=True):
        assert torch.allclose(by_label(after), (by_label(output) / 2).softmax(0), atol=1e-6)
        assert not torch.allclose(by_label(after), by_label(before), atol=1e-2)
        assert after.chosen == before.chosen


@pytest.mark.parametrize("function", ["sigmoid", "none"])
def test_a_temperature_acts_on_no_other_function_than_the_one_it_was_fitted_for(encoder, function):
    rule = LabelRule(function)
    plain, stored = (
        predict(encoder, adapter, TEXTS, rule=rule) for adapter in (classifier(encoder), calibrated(encoder))
    )
    assert stored.predictions == plain.predictions


@pytest.mark.parametrize("adapter_of", [classifier, calibrated])
def test_where_it_is_less_sure_than_asked_it_answers_nothing(encoder, adapter_of):
    adapter = adapter_of(encoder)
    surest = sorted(one.scores[0].score for one in predict(encoder, adapter, TEXTS).predictions)
    found = predict(encoder, adapter, TEXTS, rule=LabelRule(min_confidence=surest[2]))
    assert found.min_confidence == surest[2]
    for prediction in found.predictions:
        is_sure = prediction.scores[0].score >= surest[2]
        assert prediction.abstained is not is_sure
        assert prediction.chosen == ((prediction.scores[0].label,) if is_sure else ())
    assert sum(one.abstained for one in found.predictions) == 2


@pytest.mark.parametrize(("max_risk", "expected"), [(0.2, 0.4), (0.1, 0.6), (0.05, 0.6)])
def test_a_risk_is_kept_by_the_lowest_confidence_that_was_shown_to_keep_it(encoder, max_risk, expected):
    assert predict(encoder, calibrated(encoder), TEXTS, rule=LabelRule(max_risk=max_risk)).min_confidence == expected
    both = LabelRule(max_risk=max_risk, min_confidence=0.5)
    assert predict(encoder, calibrated(encoder), TEXTS, rule=both).min_confidence == max(0.5, expected)


def test_a_set_has_the_labels_from_the_stored_threshold_on_likeliest_first(encoder):
    found = predict(encoder, calibrated(encoder), TEXTS, rule=LabelRule(returns_set=True)).predictions
    for prediction in found:
        assert prediction.conformal_set == tuple(one.label for one in prediction.scores if one.score >= 0.3)
    assert len({len(prediction.conformal_set) for prediction in found}) > 1
    assert predict(encoder, calibrated(encoder), ["Hello"]).predictions[0].conformal_set is None
    (nothing,) = predict(
        encoder, calibrated(encoder, conformal_threshold=1.0), ["Hello"], rule=LabelRule(returns_set=True)
    ).predictions
    assert nothing.conformal_set == ()


@pytest.mark.parametrize(
    ("rule", "fields", "code", "param"),
    [
        (LabelRule(returns_set=True), {}, "not_calibrated", "parameters.return_set"),
        (LabelRule(max_risk=0.1), {}, "not_calibrated", "parameters.max_risk"),
        (LabelRule("sigmoid", min_confidence=0.5), {}, "no_probabilities", "parameters.function_to_apply"),
        (LabelRule(min_confidence=0.5), {"is_multi_label": True}, "no_probabilities", "parameters.function_to_apply"),
    ],
)
def test_what_a_model_cannot_promise_is_refused_with_the_reason(encoder, rule, fields, code, param):
    with pytest.raises(WorkerFailure) as caught:
        predict(encoder, classifier(encoder, **fields), TEXTS, rule=rule)
    assert (caught.value.error.kind, caught.value.error.code, caught.value.error.param) == ("usage", code, param)


def test_a_risk_that_was_not_shown_is_refused_with_the_least_that_was(encoder):
    with pytest.raises(WorkerFailure, match=r"the least they show is 0\.050") as caught:
        predict(encoder, calibrated(encoder), TEXTS, rule=LabelRule(max_risk=0.01))
    assert (caught.value.error.code, caught.value.error.param) == ("risk_not_shown", "parameters.max_risk")


def test_batches_of_any_size_give_the_same_answers_in_the_order_of_the_texts(encoder, monkeypatch):
    adapter = classifier(encoder)
    texts = [f"{text} {number}" for number in range(7) for text in TEXTS]
    together = predict(encoder, adapter, texts).predictions
    monkeypatch.setattr("workers.engine.inference.predict_heads._CPU_TOKEN_BUDGET", 30)
    polls = []
    apart = predict(encoder, adapter, texts, poll=lambda: polls.append(1)).predictions
    assert len(polls) > 10
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(by_label(one), by_label(other), atol=1e-5)


def test_entities_are_characters_of_the_text_with_their_probability(encoder):
    adapter = tagger(encoder)
    found = predict(encoder, adapter, TEXTS).predictions
    spans = [span for prediction in found for span in prediction.spans]
    assert len(spans) > 3
    assert {span.label for span in spans} == {"THING", "WISH"}
    for text, prediction in zip(TEXTS, found, strict=True):
        assert isinstance(prediction, Entities)
        for span in prediction.spans:
            assert span.text == text[span.start : span.end] != ""
            assert 0 < span.score <= 1
    assert found[TEXTS.index("")].spans == ()


def test_entities_of_one_word_have_the_probability_of_its_tag(encoder):
    adapter = tagger(encoder)
    hidden = hidden_alone(encoder, adapter, "billing")
    with torch.no_grad():
        probabilities = linear(hidden, adapter.vectors[WEIGHT], adapter.vectors[BIAS]).softmax(1)[1]
    (prediction,) = predict(encoder, adapter, ["billing"]).predictions
    outside, *begins = (float(probabilities[tag]) for tag in (0, 1, 3))
    assert max(begins) > outside, "choose another seed: this one tags nothing"
    (span,) = prediction.spans
    assert span.score == pytest.approx(max(begins), abs=1e-5)
    assert (span.start, span.end, span.label) == (0, 7, ("THING", "WISH")[begins.index(max(begins))])


def test_a_text_longer_than_the_model_reads_is_cut_and_named(encoder):
    long = "my parcel is late. " * 40
    found = predict(encoder, classifier(encoder), ["Hello", long, long])
    assert found.truncated == (1, 2)
    assert found.input_tokens == len(encoder.tokenizer("Hello")["input_ids"]) + 2 * encoder.ref.context_length
    assert found.predictions[1] == found.predictions[2]


def test_of_a_very_long_text_only_the_beginning_is_read(encoder, monkeypatch):
    seen = []
    adapter, tokenizer = classifier(encoder), encoder.tokenizer
    long, blank = "my parcel is late. " * 5000, " " * 50_000 + "Hello"
    (expected,) = predict(encoder, adapter, ["my parcel is late. " * 40]).predictions

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, text, **kwargs):
            seen.append(len(text))
            return tokenizer(text, **kwargs)

    monkeypatch.setattr(encoder, "tokenizer", Counting())
    assert predict(encoder, adapter, [long]).predictions == (expected,)
    assert max(seen) < len(long) / 10
    (hello,) = predict(encoder, adapter, ["Hello"]).predictions
    assert predict(encoder, adapter, [blank]).predictions == (hello,)


def test_a_chat_model_predicts_nothing(resident, adapter):
    with pytest.raises(WorkerFailure, match="tuned for conversations") as caught:
        predict(resident, adapter, TEXTS)
    assert caught.value.error.code == "unsupported_task"


def test_nothing_at_all_is_no_text(encoder, monkeypatch):
    monkeypatch.setattr(encoder.tokenizer, "_tokenizer", plain_backend(encoder))
    with pytest.raises(WorkerFailure, match="Text 2 has nothing in it"):
        predict(encoder, classifier(encoder), ["Hello", " "])


def plain_backend(encoder):
    """The tokenizer without [CLS] and [SEP]."""
    from tokenizers import Tokenizer  # noqa: PLC0415
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415

    backend = Tokenizer.from_str(encoder.tokenizer.backend_tokenizer.to_str())
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return backend
