"""What the engine's tests share: one thread, fp32, a tiny base, and rows on disk."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from app.contracts.rows import ChatMessage, ChatRow
from app.contracts.specs import BaseRef, LoraSpec, OptimizerSpec, TrainSpec
from tests.support.tiny_models import build_tiny_base
from workers.engine.base_model import ResidentBase, load_base


@pytest.fixture(scope="session", autouse=True)
def one_thread_fp32() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TUNESMITH_ENGINE_DTYPE", "float32")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


@pytest.fixture(scope="session")
def tiny_ref(tmp_path_factory: pytest.TempPathFactory) -> BaseRef:
    return build_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_ref: BaseRef) -> ResidentBase:
    return load_base(tiny_ref, torch.device("cpu"))


def chat_row(line: int, user: str, assistant: str) -> ChatRow:
    return ChatRow(
        line=line,
        messages=(ChatMessage(role="user", content=user), ChatMessage(role="assistant", content=assistant)),
    )


def ticket_rows(count: int) -> tuple[ChatRow, ...]:
    """Rows of unequal lengths with a pattern to learn."""
    labels = ("billing", "delivery", "repair", "a longer answer about returns")
    return tuple(
        chat_row(i + 1, f"ticket {i}: " + "my parcel is late. " * (i % 5), labels[i % 4]) for i in range(count)
    )


def write_rows(path: Path, rows: Sequence[ChatRow]) -> str:
    """Write canonical rows; returns the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_spec(ref: BaseRef, folder: Path, *, rows: int = 12, valid: int = 0, **changes: object) -> TrainSpec:
    """A small run: unequal lengths, several micro-batches a step, dropout, two epochs."""
    sha256 = write_rows(folder / "train.jsonl", ticket_rows(rows))
    if valid:
        write_rows(folder / "valid.jsonl", ticket_rows(valid))
    fields: dict[str, object] = {
        "run_id": "run-1",
        "base": ref,
        "train_rows": str(folder / "train.jsonl"),
        "train_rows_sha256": sha256,
        "valid_rows": str(folder / "valid.jsonl") if valid else None,
        "output_dir": str(folder / "out"),
        "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        "optimizer": OptimizerSpec(learning_rate=5e-3),
        "batch_size": 4,
        "n_epochs": 2,
        "seed": 7,
        "max_length": 256,
        "token_budget": 150,
        "resume_checkpoint_seconds": 0,
    }
    return TrainSpec.model_validate(fields | changes)
