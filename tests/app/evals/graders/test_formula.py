import pytest

from app.evals.graders.formula import MAX_CHARACTERS, Formula, FormulaFault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5 * a + 0.5 * b", 0.75),
        ("a ^ 2 - -b", 1.5),
        ("2 ^ 3 ^ 2", 512.0),
        ("min(a, b, 3) / max(b, 0.25)", 1.0),
        ("floor(1.9) + ceil(0.1) + abs(-2)", 4.0),
        ("sqrt(4) + exp(0) + log(1)", 3.0),
        (" (a) ", 1.0),
    ],
)
def test_arithmetic_has_its_value(text, value):
    assert Formula(text).value({"a": 1.0, "b": 0.5}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a.real",
        "a[0]",
        "[a]",
        "lambda: a",
        "a if b else 1",
        "a == b",
        "a or b",
        "'text'",
        "True",
        "1j",
        "f(a)",
        "min()",
        "sqrt(a, b)",
        "max(*a)",
        "min(a, key=b)",
        "a // b",
        "a % b",
        "(x := a)",
        "a; b",
        "a +",
        "",
        "1" * (MAX_CHARACTERS + 1),
        "+" * 600 + "a",
        "(" * 400 + "a" + ")" * 400,
    ],
)
def test_what_is_no_arithmetic_is_refused_before_it_is_used(text):
    with pytest.raises(FormulaFault):
        Formula(text)


@pytest.mark.parametrize("text", ["1 / (a - a)", "log(0 * a)", "9 ^ 9 ^ 9 ^ 9", "sqrt(-a)", "exp(1000)", "1e308 * 10"])
def test_a_formula_without_a_value_says_so_at_once(text):
    with pytest.raises(FormulaFault):
        Formula(text).value({"a": 1.0})


def test_the_names_of_graders_are_known_and_functions_are_none():
    assert Formula("min(a, b) + abs(c)").names == {"a", "b", "c"}


def test_a_score_that_is_missing_is_named():
    with pytest.raises(FormulaFault, match="'b'"):
        Formula("a + b").value({"a": 1.0})
