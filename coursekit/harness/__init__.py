"""The training harness: `fit` a `Module` on data, get a `Run` back; an `Experiment` gathers a lesson's runs."""

from coursekit.harness.early_stopping import EarlyStopping
from coursekit.harness.experiment import Claim, Experiment, run_lesson, run_script
from coursekit.harness.module import Classifier, Module
from coursekit.harness.run import Run
from coursekit.harness.scoring import classifier_scorecard
from coursekit.harness.trainer import fit

__all__ = [
    "Claim",
    "Classifier",
    "EarlyStopping",
    "Experiment",
    "Module",
    "Run",
    "classifier_scorecard",
    "fit",
    "run_lesson",
    "run_script",
]
