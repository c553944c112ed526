"""Calibration on real rows: some intents of Banking77, an encoder, the engine as a job uses it.

    python bench/calibration.py --data FOLDER_OF_BANKING77 --base FOLDER_OF_MINILM [--intents 20] [--rows-per-intent 11]

`FOLDER/train.csv` and `test.csv` (text, category; Casanueva et al. 2020, CC BY 4.0). A tenth of the training rows is
split off to choose the checkpoint, and calibrates it; the test rows of the same intents judge it. A mistake costs 1,
on the first intent 20, and handing a text on 0.5. Needs torch and transformers.
"""

import argparse
import csv
import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from app.bases.folder import read_folder
from app.contracts.costs import Costs, PairCost
from app.contracts.reports import Evaluation, Report
from app.contracts.rows import LabelledText
from app.contracts.specs import AdapterRef, BaseRef, EvalSpec, OptimizerSpec, TrainSpec
from workers.engine.base_model import load_base
from workers.engine.evaluation.run import evaluate
from workers.engine.machine import pick_device, set_up_torch
from workers.engine.training.loop import train


def main() -> None:
    options = _options()
    set_up_torch()
    found = read_folder(options.base)
    base = BaseRef(
        id=options.base.name, path=str(options.base), weights_sha256=found.weights_sha256, context_length=256
    )
    resident = load_base(base, pick_device())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reports: list[Report] = []
        spec = _spec(base, folder, options)
        train(resident, spec, reports.append, lambda: None)
        finished = next(report for report in reports if report.kind == "finished")
        evaluation_spec = EvalSpec(
            run_id="evaluation",
            base=base,
            adapter=AdapterRef(id="tuned", path=finished.adapter_path, sha256=finished.adapter_sha256),
            recipe=spec.recipe,
            labels=spec.labels,
            rows=str(folder / "test.jsonl"),
            calibration_rows=spec.selection_rows,
            costs=_costs(spec.labels or ()),
            max_length=256,
        )
        evaluate(resident, evaluation_spec, reports.append, lambda: None)
        stored = json.loads((Path(finished.adapter_path) / "tunesmith.json").read_text())["calibration"]
        _print(finished.reason, stored, next(report for report in reports if report.kind == "evaluation"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--intents", type=int, default=20, help="the first ones by their names")
    parser.add_argument("--rows-per-intent", type=int, default=1000, help="at most")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _spec(base: BaseRef, folder: Path, options: argparse.Namespace) -> TrainSpec:
    """What "auto" chooses for so many rows, and the rows themselves in three files."""
    rows = _read(options.data / "train.csv")
    labels = sorted({label for _, label in rows})[: options.intents]
    mine = [(text, label) for text, label in rows if label in labels]
    mine.sort(key=lambda row: hashlib.sha256(row[0].encode()).digest())  # by chance, and the same each time
    counts: Counter[str] = Counter()
    mine = [row for row in mine if counts.update([row[1]]) or counts[row[1]] <= options.rows_per_intent]
    chosen = len(mine) // 10
    _write(folder / "selection.jsonl", mine[:chosen])
    _write(folder / "train.jsonl", mine[chosen:])
    _write(folder / "test.jsonl", [row for row in _read(options.data / "test.csv") if row[1] in labels])
    return TrainSpec(
        run_id="train",
        base=base,
        recipe="text_classification",
        labels=tuple(labels),
        train_rows=str(folder / "train.jsonl"),
        train_rows_sha256=hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest(),
        selection_rows=str(folder / "selection.jsonl"),
        output_dir=str(folder / "out"),
        optimizer=OptimizerSpec(learning_rate=5e-4),
        batch_size=16,
        n_epochs=options.epochs,
        seed=options.seed,
        max_length=256,
        resume_checkpoint_seconds=1000,
    )


def _costs(labels: tuple[str, ...]) -> Costs:
    dear = [PairCost(expected=labels[0], predicted=label, cost=20.0) for label in labels[1:]]
    return Costs(pairs=tuple(dear), abstain=0.5)


def _read(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [LabelledText(line=i, text=text, labels=(label,)) for i, (text, label) in enumerate(rows, start=1)]
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines))


def _print(reason: str, stored: dict[str, Any], evaluation: Evaluation) -> None:
    print(reason)
    print(
        f"stored with the adapter, from {stored['rows']} rows: T = {stored['temperature']:.3f}, "
        f"set from {stored['conformal_threshold']:.3f}"
    )
    for point in stored["abstention"]:
        print(
            f"  from {point['min_confidence']:.4f}: {point['answered']:.2f} answered, risk {point['risk']:.4f}, "
            f"shown below {point['risk_bound']:.3f}"
        )
    for name, scores in (("probe on the frozen base", evaluation.base), ("tuned", evaluation.tuned)):
        one, classes = scores.calibration, scores.classification
        assert one is not None
        assert classes is not None
        print(
            f"{name}: {classes.n} test rows, accuracy {classes.accuracy:.4f}, T {one.temperature:.3f}, "
            f"ECE {one.ece:.4f} -> {one.ece_at_temperature:.4f}, Brier {one.brier:.4f} -> "
            f"{one.brier_at_temperature:.4f}, accuracy at 80 % coverage {dict(one.coverage)[0.8]:.4f}, "
            f"90 % sets hold the truth: {one.conformal_coverage}, labels a set: {one.conformal_set_size}"
        )
        money = next(figure for figure in scores.figures if figure.name == "cost_per_1000_decisions")
        decisions = scores.decisions
        assert decisions is not None
        print(
            f"  1,000 decisions cost {money.value:.0f} ({money.low:.0f} to {money.high:.0f}), the likeliest answers "
            f"{decisions.likeliest_per_1000:.0f}; {decisions.changed:.3f} differ, {decisions.abstained:.3f} handed on"
        )
    assert evaluation.judgement is not None
    for compared in evaluation.judgement.comparisons:
        print(
            f"{compared.name}: {compared.difference:+.4f} ({compared.low:+.4f} to {compared.high:+.4f}), "
            f"p {compared.p_adjusted:.4f}, {compared.verdict}"
        )


if __name__ == "__main__":
    main()
