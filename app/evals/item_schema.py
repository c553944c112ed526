"""Whether an item is what the eval's `item_schema` describes: the part of JSON Schema that such schemas use."""

from collections.abc import Mapping
from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_MAX_DEPTH = 16


def misfit(value: Any, schema: Any, path: str = "item", depth: int = 0) -> str | None:
    """The first thing that does not fit, in words; None if everything does.

    Reads `type`, `properties`, `required`, `items` and `enum`; other keywords, and what is no schema, ask nothing.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if names and not any(_is_kind(value, name) for name in names):
        return f"'{path}' is no {' or '.join(map(str, names))}"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"'{path}' is none of {choices}"
    if isinstance(value, dict):
        return _object_misfit(value, schema, path, depth)
    if isinstance(value, list):
        found = (misfit(part, schema.get("items"), f"{path}[{at}]", depth + 1) for at, part in enumerate(value))
        return next((fault for fault in found if fault is not None), None)
    return None


def _object_misfit(value: dict[str, Any], schema: Mapping[str, Any], path: str, depth: int) -> str | None:
    required = schema.get("required")
    for name in required if isinstance(required, list) else []:
        if name not in value:
            return f"'{path}' lacks '{name}'"
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    found = (
        misfit(value[name], below, f"{path}.{name}", depth + 1) for name, below in properties.items() if name in value
    )
    return next((fault for fault in found if fault is not None), None)


def _is_kind(value: Any, name: Any) -> bool:
    types = _KINDS.get(name) if isinstance(name, str) else None
    if types is None:
        return True
    # A bool is an int in Python, and no number in JSON.
    return isinstance(value, types) and (name == "boolean" or not isinstance(value, bool))
