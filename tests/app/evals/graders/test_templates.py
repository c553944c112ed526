import pytest

from app.evals.graders.templates import TemplateFault, check_template, look_up, render

VALUES = {
    "item": {"q": "Why?", "n": 3, "list": [{"x": "deep"}], "none": None, "with-dash": "d", "braces": "{{item.q}}"},
    "sample": {"output_text": "So.", "output_json": {"a": {"b": [1, 2]}}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.q}} {{ sample.output_text }}", "Why? So."),
        ("{{item.n}}", "3"),
        ("{{item.list[0].x}} {{item.list.0.x}}", "deep deep"),
        ("{{sample.output_json.a}}", '{"b": [1, 2]}'),
        ("{{item.none}}", "null"),
        ("{{item.with-dash}}", "d"),
        ("no variable { here }", "no variable { here }"),
        ("{{item.braces}}", "{{item.q}}"),
    ],
)
def test_variables_are_filled_in_once(template, text):
    check_template(template)
    assert render(template, VALUES) == text


@pytest.mark.parametrize("template", ["{{row.q}}", "{{}}", "{{item..q}}", "{{item.q | upper}}", "{{item.__class__()}}"])
def test_what_is_no_variable_is_refused(template):
    with pytest.raises(TemplateFault):
        check_template(template)


@pytest.mark.parametrize("path", ["item.absent", "item.q.x", "item.list[1]", "sample.output_json.a.c"])
def test_a_variable_the_row_lacks_is_named(path):
    with pytest.raises(TemplateFault, match=r"there is no '\w+' in"):
        look_up(path, VALUES)


def test_attributes_of_objects_are_no_variables():
    with pytest.raises(TemplateFault):
        render("{{item.__class__}}", VALUES)
