"""The report is one HTML page that needs nothing else."""

import re
from html.parser import HTMLParser

from app.reports.page import page
from app.reports.words import summary
from tests.support.evaluations import calibrated, confused, evaluation, figure, outcome, scores, weak_class


class Balanced(HTMLParser):
    """Fails on a tag that is closed wrongly or not at all."""

    VOID = frozenset({"meta", "br", "line", "circle", "rect", "polyline"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Open and closed at once."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def full():
    tuned = scores(classes=(weak_class(),), confusion=confused("refund", ""), calibration=calibrated())
    found = evaluation(tuned=tuned)
    return found.model_copy(update={"summary": summary(found)})


def test_the_page_is_whole_and_asks_nobody_for_anything():
    made = page(full(), title="Is it better?", subtitle="ft:x")
    reader = Balanced()
    reader.feed(made)
    assert reader.open == []
    assert not re.search(r"https?://|<script|<link|@import|url\(", made)


def test_the_page_has_paragraph_verdict_figures_plots_labels_and_methods():
    made = page(full(), title="Is it better?", subtitle="ft:x")
    for words in (
        "the tuned model",
        ">Better<",
        "macro-F1",
        "0.800 (0.750 to 0.850)",
        "against majority",
        "no label",
        "temperature 0.70",
        "BCa bootstrap",
    ):
        assert words in made
    assert made.count("<svg") == 3


def test_texts_of_users_are_shown_and_not_obeyed():
    made = page(full(), title="<i>", subtitle="&")
    assert "&lt;b&gt;my parcel&lt;/b&gt;" in made
    assert "<b>my parcel" not in made


def test_a_task_without_labels_or_calibration_leaves_those_parts_out():
    made = page(evaluation(), title="t", subtitle="s")
    assert "Label by label" not in made
    assert "right as often" not in made


def test_expectations_are_listed_with_both_answers_those_not_met_first():
    html = page(evaluation(expectations=(outcome(), outcome(passed=False))), title="t", subtitle="s")
    assert html.index("The answer is not &#x27;delivery&#x27;.") < html.index(">met<")


def test_times_are_shown_in_whole_milliseconds_under_a_name_that_people_say():
    timed = scores(figures=(figure("p95_ms", 57.641, low=54.248, high=64.341, higher_is_better=False),))
    html = page(evaluation(tuned=timed, base=timed), title="t", subtitle="s")
    assert "time of an answer, 95 of 100 within" in html
    assert "58 ms (54 ms to 64 ms)" in html
