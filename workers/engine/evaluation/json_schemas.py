"""JSON Schema (draft 2020-12 unless the schema says otherwise) for answers; nothing is fetched from anywhere."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from workers.engine.evaluation.metrics.fields import read_json


def compile_schema(schema: Mapping[str, Any]) -> Validator:
    """Raises ValueError where the schema itself is wrong."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the JSON schema is wrong at {error.json_path}: {error.message}") from error
    # An empty registry: a reference to another document is an error, not a download.
    return kind(schema, registry=Registry())


def fault(validator: Validator, text: str) -> str | None:
    """Why the text does not meet the schema, in a sentence, or None. ValueError for a reference that leads nowhere."""
    is_json, value = read_json(text)
    if not is_json:
        return "The answer is not JSON."
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except Unresolvable as unresolved:
        raise ValueError(f"the JSON schema refers to '{unresolved.ref}', which it does not contain") from unresolved
    return None if error is None else f"At {error.json_path}: {error.message}."
