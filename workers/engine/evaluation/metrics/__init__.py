"""What is measured of answers, by task: every figure is a `statistics.Metric`. Pure functions, no tensors."""

from workers.engine.evaluation.metrics.label_match import accuracy, class_scores, macro_f1, match_label, normalise_label
from workers.engine.evaluation.metrics.percentile import percentile

__all__ = ["accuracy", "class_scores", "macro_f1", "match_label", "normalise_label", "percentile"]
