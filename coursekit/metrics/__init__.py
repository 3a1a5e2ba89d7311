"""The ten metrics of every lesson, and the scorecard that holds them.

Plain functions on tensors and callables: no configuration object and no Lightning comes in here.
Importing this package imports torch; torchmetrics and scipy wait until a function needs them.
"""

from coursekit.metrics.calibration import Calibration, calibration
from coursekit.metrics.classification import classification_scores, cross_entropy_nats
from coursekit.metrics.convergence import normalised_area, steps_to_target
from coursekit.metrics.modes import evaluating
from coursekit.metrics.robustness import PERTURBATIONS, Robustness, fgsm, gaussian_noise, occlude, robustness
from coursekit.metrics.scorecard import COMPANIONS, METRICS, Metric, Scorecard
from coursekit.metrics.size import ModelSize, bytes_on_disk, model_size
from coursekit.metrics.tables import markdown_table, to_csv
from coursekit.metrics.timing import InferenceTime, Stopwatch, inference_time

__all__ = [
    "COMPANIONS",
    "METRICS",
    "PERTURBATIONS",
    "Calibration",
    "InferenceTime",
    "Metric",
    "ModelSize",
    "Robustness",
    "Scorecard",
    "Stopwatch",
    "bytes_on_disk",
    "calibration",
    "classification_scores",
    "cross_entropy_nats",
    "evaluating",
    "fgsm",
    "gaussian_noise",
    "inference_time",
    "markdown_table",
    "model_size",
    "normalised_area",
    "occlude",
    "robustness",
    "steps_to_target",
    "to_csv",
]
