"""Whether the statistics of evaluations keep their word, on simulated rows whose truth is known.

    python bench/evaluation_statistics.py [--sets 1000] [--pairs 2000]

Prints one table: how often 95 % intervals hold the truth, how often equal models are told apart, how often a difference
as large as the stated smallest detectable one is found. Everything is seeded; one thread, a few minutes.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from workers.engine.evaluation.metrics.classes import Labelled, class_metrics
from workers.engine.evaluation.statistics.intervals import interval
from workers.engine.evaluation.statistics.metric import Metric, mean, proportion
from workers.engine.evaluation.statistics.paired import compare, mcnemar

N = 200
ACCURACY = 0.8
SHARES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
SKEWED_MEAN = 0.25  # of a beta(0.5, 1.5): most scores near 0, a long tail to 1
CONFUSION = SHARES[:, None] * (ACCURACY * np.eye(5) + (1 - ACCURACY) * SHARES[None, :])
"""Share of rows [expected, answered]; mistakes go to frequent labels."""


def hits(draw: np.random.Generator) -> Metric:
    return proportion("accuracy", draw.random(N) < ACCURACY, signature="simulated")


def macro_f1(draw: np.random.Generator) -> Metric:
    cells = draw.choice(25, size=N, p=CONFUSION.ravel())
    return macro_f1_of(cells // 5, cells % 5)


def macro_f1_of(truth: np.ndarray, answered: np.ndarray) -> Metric:
    rows = Labelled(tuple("abcde"), np.eye(5)[truth], np.eye(5)[answered], is_multi_label=False)
    return next(metric for metric in class_metrics(rows) if metric.name == "macro_f1")


def skewed(draw: np.random.Generator) -> Metric:
    return mean("score", draw.beta(0.5, 1.5, size=N), signature="simulated")


def coverage(sample: Callable[[np.random.Generator], Metric], truth: float, sets: int) -> float:
    held = 0
    for seed in range(sets):
        found = interval(sample(np.random.default_rng(seed)), seed=seed)
        held += found.low <= truth <= found.high
    return held / sets


def paired_hits(
    draw: np.random.Generator, difference: float, n: int = N, discordant: float = 0.2
) -> tuple[Metric, ...]:
    """Two models of which B is right more often by `difference`; they disagree in a share of the rows."""
    kinds = draw.choice(
        4, size=n, p=[0.7, (discordant + difference) / 2, (discordant - difference) / 2, 0.3 - discordant]
    )
    return (
        proportion("accuracy", (kinds == 0) | (kinds == 2), signature="simulated"),
        proportion("accuracy", (kinds == 0) | (kinds == 1), signature="simulated"),
    )


def paired_macro_f1(draw: np.random.Generator) -> tuple[Metric, ...]:
    """Equally good models: given the truth, each answers by itself."""
    truth = draw.choice(5, size=N, p=SHARES)
    given = CONFUSION[truth] / SHARES[truth][:, None]
    answers = [(draw.random((N, 1)) > given.cumsum(1)).sum(1).clip(max=4) for _ in range(2)]
    return tuple(macro_f1_of(truth, answer) for answer in answers)


def paired_scores(draw: np.random.Generator, difference: float) -> tuple[Metric, ...]:
    """Skewed scores that share half of what makes a row easy."""
    shared = draw.beta(0.5, 1.5, size=N)
    scores = [(shared + draw.beta(0.5, 1.5, size=N)) / 2 + shift for shift in (0.0, difference)]
    return tuple(mean("score", score, signature="simulated") for score in scores)


def claims(sample: Callable[[np.random.Generator], tuple[Metric, ...]], pairs: int) -> dict[str, float]:
    """Shares of the verdicts, and the mean smallest detectable difference."""
    found = [compare([sample(np.random.default_rng(seed))], seed=seed)[0] for seed in range(pairs)]
    return {
        "better": sum(one.verdict == "better" for one in found) / pairs,
        "claimed": sum(one.verdict in ("better", "worse") for one in found) / pairs,
        "detectable": float(np.mean([one.smallest_detectable for one in found])),
    }


def seconds_of_77_labels() -> float:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 77, size=3080)
    answered = np.where(draw.random(3080) < 0.9, truth, draw.integers(0, 77, size=3080))
    rows = Labelled(tuple(map(str, range(77))), np.eye(77)[truth], np.eye(77)[answered], is_multi_label=False)
    metric = next(metric for metric in class_metrics(rows) if metric.name == "macro_f1")
    started = time.perf_counter()
    interval(metric)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=2000)
    arguments = parser.parse_args()
    true_macro_f1 = float(np.mean(2 * np.diag(CONFUSION) / (CONFUSION.sum(0) + CONFUSION.sum(1))))
    print(f"| figure ({N} rows unless said) | wanted | found |\n| --- | --- | --- |", flush=True)

    def line(name: str, wanted: str, found: str) -> None:
        print(f"| {name} | {wanted} | {found} |", flush=True)

    for name, sample, truth in (
        ("accuracy, Wilson", hits, ACCURACY),
        ("macro-F1 of 5 unbalanced labels, BCa", macro_f1, true_macro_f1),
        ("mean of skewed scores, BCa", skewed, SKEWED_MEAN),
    ):
        line(f"coverage: {name}", "93-97 %", f"{coverage(sample, truth, arguments.sets):.1%}")
    nulls = {
        "accuracy, McNemar": lambda draw: paired_hits(draw, 0.0),
        "macro-F1, randomisation": paired_macro_f1,
        "mean score, randomisation": lambda draw: paired_scores(draw, 0.0),
    }
    detectable = {}
    for name, pair in nulls.items():
        found = claims(pair, arguments.pairs)
        detectable[name] = found["detectable"]
        line(
            f"equal models called different: {name}",
            "<= 5.5 %",
            f"{found['claimed']:.1%} ('better' {found['better']:.1%})",
        )
    powers = {
        "accuracy, McNemar": paired_hits,
        "mean score, randomisation": paired_scores,
    }
    for name, pair in powers.items():
        effect = detectable[name]
        found = claims(lambda draw, pair=pair, effect=effect: pair(draw, effect), arguments.pairs)
        line(f"power at the smallest detectable {effect:.3f}: {name}", "about 80 %", f"{found['better']:.1%}")
    for n in (60, 1000):
        effect = claims(lambda draw, n=n: paired_hits(draw, 0.0, n), 200)["detectable"]
        found = claims(lambda draw, n=n, effect=effect: paired_hits(draw, effect, n), arguments.pairs // 2)
        line(
            f"power at the smallest detectable {effect:.3f}: accuracy of {n} rows",
            "about 80 %",
            f"{found['better']:.1%}",
        )
    line("p of 30 against 12 discordant rows", "0.0079", f"{mcnemar(30, 12):.4f}")
    line("2,000 resamples of macro-F1, 3,080 rows, 77 labels", "< 1 s", f"{seconds_of_77_labels():.2f} s")


if __name__ == "__main__":
    main()
