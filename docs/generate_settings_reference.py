"""Writes docs/reference/settings.md from the service's settings: `make docs`."""

from pathlib import Path
from typing import get_args

from pydantic import SecretStr

from app.settings import PREFIX, Settings

TARGET = Path(__file__).parent / "reference" / "settings.md"


def render() -> str:
    """The whole page."""
    lines = [
        "# Settings\n\nWritten by `make docs` from `app/settings.py`; a test keeps it current.\n",
        "Where no default stands, the service does not start without it. Secrets are never printed.\n",
        "| variable | default | |\n|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
        default = "" if field.is_required() else f"`{field.default}`" if field.default is not None else "not set"
        note = " ".join(filter(None, (field.description, "(secret)" if is_secret else "")))
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
