import hashlib

import pytest
import torch

from app.contracts.rows import LabelledText, Span, TaggedText
from app.contracts.specs import LoraSpec, OptimizerSpec, TrainSpec
from tests.support.tiny_encoders import build_tiny_encoder
from workers.engine.base_model import load_base

LABELS = ("billing", "delivery", "repair")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return load_base(build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"), torch.device("cpu"))


def labelled_rows(count):
    """Texts of unequal lengths whose words tell the label."""
    words = {"billing": "money invoice paid", "delivery": "parcel late where", "repair": "machine broken again"}
    return tuple(
        LabelledText(line=i + 1, text=f"{words[LABELS[i % 3]]} {i} " * (1 + i % 4), labels=(LABELS[i % 3],))
        for i in range(count)
    )


def tagged_rows(count):
    """Texts with a city and, in every other one, a person."""
    rows = []
    for i in range(count):
        text = "Please send it to Paris" + (", says Anna Berg." if i % 2 else " today.") + " again" * (i % 3)
        spans = [Span(start=18, end=23, label="city")]
        if i % 2:
            spans.append(Span(start=30, end=39, label="person"))
        rows.append(TaggedText(line=i + 1, text=text, spans=tuple(spans)))
    return tuple(rows)


def head_spec(ref, folder, rows, *, valid=(), **changes):
    """A small run of a classification recipe, two epochs, several micro-batches a step."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (("train", rows), ("valid", valid)):
        (folder / f"{name}.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in some))
    labels = {label for row in rows for label in (getattr(row, "labels", None) or [s.label for s in row.spans])}
    fields = {
        "run_id": "run-1",
        "base": ref,
        "recipe": rows[0].kind,
        "labels": tuple(sorted(labels)),
        "train_rows": str(folder / "train.jsonl"),
        "train_rows_sha256": hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest(),
        "valid_rows": str(folder / "valid.jsonl") if valid else None,
        "output_dir": str(folder / "out"),
        "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        "optimizer": OptimizerSpec(learning_rate=5e-3),
        "batch_size": 4,
        "n_epochs": 2,
        "seed": 7,
        "max_length": 64,
        "token_budget": 40,
        "resume_checkpoint_seconds": 0,
    }
    return TrainSpec.model_validate(fields | changes)
