"""Users' own examples, checked before anything is trained: by the libraries that will judge the answers."""

from collections.abc import Sequence
from typing import Any, cast

import jsonschema
import regex

from app.contracts.requirements import Expectation
from app.errors import InvalidInput


def stored_expectations(asked: Sequence[Expectation] | None) -> list[Any] | None:
    """As they are kept; `InvalidInput` names the first whose pattern or schema is none."""
    for place, one in enumerate(asked or ()):
        problem = _problem(one)
        if problem is not None:
            raise InvalidInput(f"expectation {place + 1}: {problem}", param=f"expectations[{place}].value")
    return None if asked is None else [one.model_dump(mode="json") for one in asked]


def _problem(one: Expectation) -> str | None:
    if one.kind == "regex":
        try:
            regex.compile(str(one.value))
        except regex.error as error:
            return f"'{one.value}' is no regular expression: {error}"
    if one.kind == "json_schema":
        schema = cast("dict[str, Any]", one.value)
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            return f"the JSON schema is wrong at {error.json_path}: {error.message}"
    return None
