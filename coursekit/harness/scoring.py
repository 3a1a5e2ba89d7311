"""The ten metrics of a trained classifier, seed by seed, gathered into a scorecard."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from coursekit.data import Data
from coursekit.harness.run import Run
from coursekit.metrics import (
    Scorecard,
    bytes_on_disk,
    classification_scores,
    cross_entropy_nats,
    evaluating,
    inference_time,
    model_size,
    normalised_area,
    robustness,
    steps_to_target,
)

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Strengths of noise, occlusion and attack: for images in units of full brightness, for tables of one standard
deviation."""


def classifier_scorecard(
    variant: str,
    runs: Sequence[Run],
    data: Data,
    *,
    target: float,
    patience: int = 3,
    strengths: Sequence[float] = STRENGTHS,
) -> Scorecard:
    """Measure a classifier trained with several seeds on the test part.

    Convergence is read from the validation accuracy: epochs to the first epoch from which it stays at `target`
    for `patience` epochs. Precision, recall and F1 are macro averages.

    Args:
        variant: what was trained.
        runs: one finished run for each seed.
        data: the data that they were trained on.
        target: validation accuracy that counts as converged.
        patience: epochs for which it must hold.
        strengths: see `STRENGTHS`.
    """
    measured = [_measure(run, data, target, patience, strengths) for run in runs]
    values = {name: [row[name] for row in measured] for name in measured[0]}
    curves = [run.curve("val_accuracy") for run in runs]
    if min(map(len, curves)) > 1:  # one epoch is a point without an area
        values["convergence_area"] = [normalised_area(curve) for curve in curves]
    return Scorecard.from_seeds(variant, values, [run.seed for run in runs])


def _measure(run: Run, data: Data, target: float, patience: int, strengths: Sequence[float]) -> dict[str, float | None]:
    # In float32, whatever the training used: variants stay comparable.
    network = run.module.network.float()
    data = data.to(next(network.parameters()).device)
    inputs, targets = data.test.inputs, data.test.targets
    images = inputs.dim() == 4
    accuracy = run.curve("val_accuracy")
    with evaluating(network):
        with torch.no_grad():
            logits = torch.cat([network(part) for part in inputs.split(4096)])
        speed = inference_time(network, inputs[:256])
        # Images are disturbed in units of brightness: the network sees them normalised again.
        sturdy = robustness(
            (lambda pixels: network((pixels - data.mean) / data.std)) if images else network,
            data.denormalise(inputs).clamp(0, 1) if images else inputs,
            targets,
            strengths=strengths,
            low=0.0 if images else None,
            high=1.0 if images else None,
            seed=run.seed,
        )
    epochs = steps_to_target(accuracy, target, patience=patience)
    return {
        **classification_scores(logits, targets, classes=len(data.classes)),
        "loss": cross_entropy_nats(logits, targets),
        "training_time": run.watch.seconds,
        "warmup_time": run.watch.warmup_seconds,
        "inference_time": speed.median_ms,
        "inference_time_p95": speed.p95_ms,
        "model_size": bytes_on_disk(network),
        "parameters": model_size(network).parameters,
        "convergence_rate": epochs,
        "convergence_steps": None if epochs is None else epochs * run.steps_per_epoch,
        "robustness": sturdy.score,
    }
