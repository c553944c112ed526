import pytest

from app.evals.item_schema import misfit

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["a", "b"]},
        "score": {"type": ["number", "null"]},
        "turns": {"type": "array", "items": {"type": "object", "required": ["role"]}},
        "flag": {"type": "boolean"},
        "count": {"type": "integer"},
    },
    "required": ["label"],
}


@pytest.mark.parametrize(
    "item",
    [
        {"label": "a"},
        {"label": "b", "score": None, "turns": [{"role": "user"}], "flag": True, "count": 3, "more": 1},
        {"label": "a", "score": 1},
    ],
)
def test_an_item_that_fits_has_no_fault(item):
    assert misfit(item, SCHEMA) is None


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ({}, "'item' lacks 'label'"),
        ({"label": 1}, "'item.label' is no string"),
        ({"label": "c"}, "'item.label' is none of"),
        ({"label": "a", "score": True}, "'item.score' is no number or null"),
        ({"label": "a", "turns": [{"role": "x"}, {}]}, "'item.turns[1]' lacks 'role'"),
        ({"label": "a", "flag": 1}, "'item.flag' is no boolean"),
        ({"label": "a", "count": 1.5}, "'item.count' is no integer"),
    ],
)
def test_the_first_fault_is_named_with_its_place(item, word):
    assert word in misfit(item, SCHEMA)


@pytest.mark.parametrize("schema", [{"foo": "bar"}, {}, {"type": "unheard"}, {"properties": 3, "required": "x"}])
def test_what_is_no_schema_asks_nothing(schema):
    assert misfit({"x": 1}, schema) is None
