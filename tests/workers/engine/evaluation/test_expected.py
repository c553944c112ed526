"""The users' own examples, put to base and tuned model of every recipe."""

from app.contracts.requirements import Expectation
from app.contracts.rows import ChatMessage, ChatRow
from tests.workers.engine.evaluation.conftest import chat_spec, evaluated, trained
from tests.workers.engine.recipes.conftest import labelled_rows, tagged_rows
from workers.engine.evaluation.run import evaluate


def case(text, kind, value, **more):
    return Expectation(input=text, kind=kind, value=value, **more)


def with_cases(encoder, spec, *cases):
    return evaluated(encoder, spec.model_copy(update={"expectations": cases}))


def test_a_classifier_answers_with_its_label_and_each_case_has_its_verdict(encoder, tmp_path):
    rows = labelled_rows(24)
    cases = [case(row.text, "equals", row.labels[0]) for row in rows[:6]]
    cases += [case(row.text, "not_contains", row.labels[0].upper(), ignores_case=True) for row in rows[:6]]
    cases += [case(rows[0].text, "regex", "^[a-z]+$"), case(rows[0].text, "max_length", 3)]
    found = with_cases(encoder, trained(encoder, tmp_path, rows), *cases)
    assert [one.passed for one in found.expectations] == [True] * 6 + [False] * 6 + [True, False]
    assert [one.tuned for one in found.expectations[:6]] == [row.labels[0] for row in rows[:6]]
    assert found.expectations[6].sentence == f"The answer contains '{rows[0].labels[0].upper()}'."
    assert {one.base for one in found.expectations} <= {"billing", "delivery", "repair"}
    figure = next(figure for figure in found.tuned.figures if figure.name == "expectations_met")
    assert (figure.value, figure.n) == (0.5, 14)
    assert found.rows == 24, "expectations are no held-out rows"


def test_a_tagger_answers_with_its_entities_and_their_words(encoder, tmp_path):
    rows = tagged_rows(24)
    span = rows[0].spans[0]
    words = rows[0].text[span.start : span.end]
    found = with_cases(
        encoder, trained(encoder, tmp_path, rows), case(rows[0].text, "contains", f"{words} [{span.label}]")
    )
    assert found.expectations[0].passed, found.expectations[0]


def test_an_input_that_cannot_be_read_is_a_case_that_is_not_met_in_outcome_and_figure_alike(encoder, tmp_path):
    spec = trained(encoder, tmp_path, tagged_rows(24))
    found = with_cases(encoder, spec, case(" ", "max_length", 10), case("Ann", "min_length", 0))
    assert [one.passed for one in found.expectations] == [False, True]
    assert "nothing of the input could be read" in found.expectations[0].sentence
    figures = [next(f for f in scores.figures if f.name == "expectations_met") for scores in (found.base, found.tuned)]
    assert [figure.value for figure in figures] == [0.5, 0.5]


def test_a_schema_that_refers_to_nothing_is_a_case_that_is_not_met(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    found = with_cases(encoder, spec, case("a parcel", "json_schema", {"$ref": "https://x.test/s"}))
    assert found.expectations[0].passed is False


def test_a_pattern_that_is_none_is_a_case_that_is_not_met_and_its_neighbours_count(encoder, tmp_path):
    spec = trained(encoder, tmp_path, labelled_rows(24))
    found = with_cases(encoder, spec, case("a", "min_length", 1), case("a", "regex", "("))
    assert [one.passed for one in found.expectations] == [True, False]
    assert "cannot be checked" in found.expectations[1].sentence


def test_a_chat_model_answers_in_its_own_words(decoder, tmp_path):
    cases = (case("What is a parcel?", "min_length", 1), case("What is a parcel?", "contains", "no such words"))
    reports = []
    turns = (ChatMessage(role="user", content="Hello"), ChatMessage(role="assistant", content="Good day"))
    rows = [ChatRow(line=line, messages=turns) for line in (1, 2, 3)]
    evaluate(decoder, chat_spec(decoder, tmp_path, rows, expectations=cases), reports.append, lambda: None)
    first, second = reports[-1].expectations
    assert first.tuned == second.tuned
    assert first.tuned != first.base
    assert (first.passed, second.passed) == (True, False)
    assert second.sentence == "The answer does not contain 'no such words'."
