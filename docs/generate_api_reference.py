"""Writes docs/reference/api.md from the service's OpenAPI document: `make docs`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.context import open_context
from app.main import create_app
from app.settings import Settings

TARGET = Path(__file__).parent / "reference" / "api.md"
_HEAD = """# API reference

Written by `make docs` from the service's OpenAPI document (`GET /openapi.json`); a test keeps it current.

Every request carries `Authorization: Bearer KEY`. Every POST honours `Idempotency-Key`. Every answer carries
`x-request-id`. Errors are `{"error": {"message", "type", "param", "code"}}` with a status:

| status | |
|---|---|
| 400 | the request is wrong; `param` says where |
| 401 | no valid key |
| 403 | the key lacks the right |
| 404 | absent, or another team's |
| 409 | right request, wrong moment |
| 413 | too many bytes |
| 429 | a limit of the team is reached |
| 503 | a part of the service is away; try again |
"""
_METHODS = ("get", "post", "put", "patch", "delete")


def render() -> str:
    """The whole page."""
    document = _without_names_of_values(_document())
    parts = [_HEAD]
    for tag, operations in _by_tag(document).items():
        parts.append(f"\n## {tag}\n")
        parts += [_operation(method, path, operation) for method, path, operation in operations]
    parts.append("\n## Objects\n\nFields marked * are always there.\n")
    schemas = document["components"]["schemas"]
    parts += [_object(name, schemas[name]) for name in sorted(schemas) if "properties" in schemas[name]]
    return "".join(parts).rstrip() + "\n"


def _document() -> dict[str, Any]:
    """OpenAPI of an application that is never run: nothing is connected to."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {
                "database_url": "postgresql://nobody@localhost/none",
                "redis_url": "redis://localhost:1",
                "artifacts_url": Path(folder).as_uri(),
                "bases_dir": folder,
                "scratch_dir": folder,
            }
        )
        context = open_context(settings)
        try:
            return create_app(context).openapi()
        finally:
            context.close()


def _without_names_of_values(document: dict[str, Any]) -> dict[str, Any]:
    """References to schemas that have no fields become those schemas: the page has a section for objects alone."""
    schemas = document["components"]["schemas"]

    def inlined(value: Any) -> Any:
        if isinstance(value, list):
            return [inlined(item) for item in value]
        if not isinstance(value, dict):
            return value
        named = schemas.get(str(value.get("$ref", "")).rpartition("/")[2])
        if named is not None and "properties" not in named:
            return inlined(named)
        return {key: inlined(item) for key, item in value.items()}

    return inlined(document)


def _by_tag(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    result: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                result.setdefault(item[method]["tags"][0], []).append((method.upper(), path, item[method]))
    return result


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"\n### {method} {path}\n", f"\n{_flat(operation.get('description', ''))}\n"]
    rows = list(_parameters(operation))
    if rows:
        lines.append("\n| parameter | in | type | |\n|---|---|---|---|\n")
        lines += [f"| `{row[0]}` | {row[1]} | {row[2]} | {row[3]} |\n" for row in rows]
    lines += [f"\nBody: {text}\n" for text in _contents(operation.get("requestBody", {}))]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            texts = list(_contents(answer))
            lines.append(f"\nAnswer {status}: {texts[0] if texts else 'a stream or bytes'}\n")
    return "".join(lines)


def _parameters(operation: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for parameter in operation.get("parameters", ()):
        note = _flat(parameter.get("description", ""))
        default = parameter["schema"].get("default")
        if default is not None:
            note = f"{note} default {default}".strip()
        yield parameter["name"], parameter["in"], _type(parameter["schema"]), note


def _contents(holder: dict[str, Any]) -> Iterator[str]:
    for kind, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        if "properties" in schema:
            fields = ", ".join(f"`{name}` ({_type(field)})" for name, field in schema["properties"].items())
            yield f"{kind} with {fields}"
        elif schema:
            yield _type(schema) if kind == "application/json" else f"{kind} {_type(schema)}"


def _object(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    lines = [f"\n### {name}\n"]
    if schema.get("description"):
        lines.append(f"\n{_flat(schema['description'])}\n")
    lines.append("\n| field | type | |\n|---|---|---|\n")
    for field, value in schema["properties"].items():
        mark = "*" if field in required else ""
        lines.append(f"| `{field}`{mark} | {_type(value)} | {_flat(value.get('description', ''))} |\n")
    return "".join(lines)


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, objects as links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        return " \\| ".join(f"`{value}`" for value in values)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " \\| ".join(dict.fromkeys(_type(part) for part in schema[key]))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'])}"
    return kind + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    if low is None and high is None:
        return ""
    return f" {'' if low is None else low}…{'' if high is None else high}"


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
