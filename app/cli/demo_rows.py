"""Which rows a demo learns from, and what they need."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.minilm import MINILM_ID
from app.cli.smollm2 import SMOLLM2_ID
from app.cli.tasks import MethodName, TaskName

_TICKETS = Path(__file__).parent / "demo"
_FOR_ENCODERS = {TaskName.TEXT_CLASSIFICATION, TaskName.TOKEN_CLASSIFICATION}


@dataclass(frozen=True)
class DemoRows:
    """Files to upload and what is to be made of them."""

    training: Path
    heldout: Path | None = None
    task: TaskName | None = None
    method: MethodName = MethodName.SUPERVISED

    @property
    def suitable_base(self) -> str:
        """A small real base for the task that was named."""
        return MINILM_ID if self.task in _FOR_ENCODERS else SMOLLM2_ID

    def question(self, job: Mapping[str, Any]) -> list[dict[str, str]]:
        """Messages to ask the tuned model: those of the last held-out ticket, or a held-out text of the evaluation."""
        if self == TICKETS:
            row = json.loads((_TICKETS / "tickets_heldout.jsonl").read_text(encoding="utf-8").strip().splitlines()[-1])
            return [message for message in row["messages"] if message["role"] != "assistant"]
        return [{"role": "user", "content": str(job["evaluation"]["samples"][-1]["prompt"])}]


TICKETS = DemoRows(_TICKETS / "tickets_train.jsonl", _TICKETS / "tickets_heldout.jsonl")
