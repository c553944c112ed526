import pytest

from app.evals.graders.model_graders import UnreadableAnswer, read_label, read_score
from app.evals.graders.specs import LabelModelGrader, ScoreModelGrader

MESSAGES = [{"role": "user", "content": "x"}]
SCORE = ScoreModelGrader.model_validate(
    {"type": "score_model", "name": "s", "model": "m", "input": MESSAGES, "range": [0, 10]}
)
LABEL = LabelModelGrader.model_validate(
    {
        "type": "label_model",
        "name": "l",
        "model": "m",
        "input": MESSAGES,
        "labels": ["good", "not good", "n/a"],
        "passing_labels": ["good"],
    }
)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"result": 7.5}', 7.5),
        ('Let me see. {"result": 3}', 3.0),
        ('{"steps": [{"result": 1}], "result": 4}', 4.0),
        ('```json\n{"score": "6"}\n```', 6.0),
        ("I give it 8.", 8.0),
        ("9", 9.0),
    ],
)
def test_a_score_is_read(text, score):
    assert read_score(text, SCORE) == score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "good",
        "7 or 8",
        '{"result": 11}',
        '{"result": true}',
        '{"result": null}',
        "-1",
        '{"result": 1' + "0" * 400 + "}",
    ],
)
def test_an_answer_without_one_score_of_the_range_is_no_score(text):
    with pytest.raises(UnreadableAnswer):
        read_score(text, SCORE)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"result": "good"}', "good"),
        ("Not good.", "not good"),
        ('"n/a"', "n/a"),
        ('It is {"result": "Not Good"}', "not good"),
        ("The label is n/a here", "n/a"),
    ],
)
def test_a_label_is_read(text, label):
    assert read_label(text, LABEL) == label


@pytest.mark.parametrize("text", ["", "bad", '{"result": "fine"}', "good, or n/a", "goodness"])
def test_an_answer_that_names_no_label_or_several_is_no_label(text):
    with pytest.raises(UnreadableAnswer):
        read_label(text, LABEL)
