"""Names of tuned models: `ft:<base>:<team>:<suffix or empty>:<8 characters>`, and `…:ckpt-step-N` for checkpoints."""

import re

from app.ids import random_text

_UNIQUE_CHARACTERS = 8
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_suffix(text: str) -> bool:
    """Whether `text` can be a suffix: 1 to 64 of A-Z, a-z, 0-9, `-` and `_`; no `:`, which parts the names."""
    return _SUFFIX.fullmatch(text) is not None


def model_name(base_id: str, team_slug: str, suffix: str | None) -> str:
    """A fresh, unique name; never given twice, so a cached adapter can never be another one's."""
    return f"ft:{base_id}:{team_slug}:{suffix or ''}:{random_text(_UNIQUE_CHARACTERS)}"


def checkpoint_name(base_id: str, team_slug: str, suffix: str | None, step: int) -> str:
    """A fresh name for the state after optimizer step `step`."""
    return f"{model_name(base_id, team_slug, suffix)}:ckpt-step-{step}"


def is_tuned(model_id: str) -> bool:
    return model_id.startswith("ft:")
