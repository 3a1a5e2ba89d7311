"""Accuracy, precision, recall, F1 and the loss of a classifier."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.errors import ArgumentError

Average = Literal["macro", "micro", "weighted"]


def classification_scores(
    predictions: Tensor, targets: Tensor, *, classes: int, average: Average = "macro"
) -> dict[str, float]:
    """Score single-label predictions, pooled over all samples given.

    Pool the predictions of every batch and call this once: the mean of F1 over batches is not F1.

    A score whose denominator is zero (the precision of a class that was never predicted) counts as 0.
    The macro average runs over the classes that occur in the targets or the predictions; a class that
    occurs in neither has no score and does not pull the average down.

    Args:
        predictions: class indices (n,), integer, or logits (n, classes), floating; the first of equal
            logits wins.
        targets: class indices (n,), integer, on the same device.
        classes: number of classes, at least 2.
        average: how precision, recall and F1 of the classes become one number: `macro` gives every
            class one vote, `weighted` as many as it has targets, `micro` pools the counts (which makes
            all three equal to the accuracy). Accuracy is always the fraction of samples.

    Returns:
        `accuracy`, `precision`, `recall` and `f1`, each a fraction between 0 and 1.

    Raises:
        ArgumentError: no samples, shapes or types that do not fit, NaN logits, or a class out of range.

    Source: the `multiclass_*` functions of torchmetrics with `zero_division=0`; equal to scikit-learn's
        `precision_recall_fscore_support` with its default labels and `zero_division=0`.
    """
    where = "classification_scores"
    if classes < 2:
        raise ArgumentError(where, "classes must be at least 2", got=classes, fix="count the classes")
    if average not in get_args(Average):
        raise ArgumentError(
            where, f"average must be one of {', '.join(get_args(Average))}", got=repr(average), fix="name one"
        )
    if predictions.ndim == 2:
        check_logits(where, predictions, classes=classes)
        predictions = predictions.argmax(dim=1)
    check_labels(where, "predictions", predictions, classes=classes)
    check_labels(where, "targets", targets, classes=classes, count=len(predictions))

    # torchmetrics costs about ten CPU seconds to import: only who scores pays.
    from torchmetrics.functional import classification as torchmetrics

    predictions, targets = predictions.long(), targets.long()
    # torchmetrics divides in float32, where 380 / 400 is 0.94999999 and misses a target of 0.95.
    scores = [(predictions == targets).double().mean()]
    for metric in (
        torchmetrics.multiclass_precision,
        torchmetrics.multiclass_recall,
        torchmetrics.multiclass_f1_score,
    ):
        score = metric(predictions, targets, classes, average=average, zero_division=0, validate_args=False)
        scores.append(score.double())
    values = torch.stack(scores).tolist()  # one wait for the device, not four
    return dict(zip(("accuracy", "precision", "recall", "f1"), values, strict=True))


@torch.no_grad()
def cross_entropy_nats(logits: Tensor, targets: Tensor) -> float:
    """Mean cross entropy of class logits, in nats per sample.

    Args:
        logits: (n, k), floating; half precision is raised to float32 first.
        targets: class indices (n,), integer, on the same device.

    Raises:
        ArgumentError: no samples, shapes or types that do not fit, NaN logits, or a class out of range.

    Source: `torch.nn.functional.cross_entropy` with `reduction="mean"`.
    """
    where = "cross_entropy_nats"
    check_logits(where, logits)
    check_labels(where, "targets", targets, classes=logits.shape[1], count=len(logits))
    return F.cross_entropy(at_least_float32(logits), targets.long()).item()


def check_logits(where: str, logits: object, *, classes: int | None = None, count: int | None = None) -> Tensor:
    """Return logits that are floating (n, classes) with n > 0 and no NaN, refuse anything else.

    Args:
        where: the function that complains.
        logits: what should be logits.
        classes: the width they must have; any width of at least 2 when not given.
        count: the number of samples they must have, when given.

    Raises:
        ArgumentError: they are something else.
    """
    rows = "n" if count is None else str(count)
    if (
        not isinstance(logits, Tensor)
        or logits.ndim != 2
        or not logits.is_floating_point()
        or logits.shape[1] != (classes or max(2, logits.shape[1]))
        or (count is not None and len(logits) != count)
    ):
        raise ArgumentError(
            where,
            f"logits must be floating of shape ({rows}, {classes or 'classes'})",
            got=describe(logits),
            fix="pass one row per sample and one column per class, at least 2",
        )
    if len(logits) == 0:
        raise ArgumentError(where, "at least one sample was expected", got=describe(logits), fix="pass some")
    if logits.isnan().any():
        raise ArgumentError(
            where,
            "logits must not be NaN",
            got=f"{int(logits.isnan().any(dim=1).sum())} of {len(logits)} rows with NaN",
            fix="find the step at which the model broke",
        )
    return logits


def check_labels(where: str, name: str, labels: Tensor, *, classes: int, count: int | None = None) -> None:
    """Refuse anything but class indices (n,) with n > 0 and each in [0, classes).

    Args:
        where: the function that complains.
        name: what the labels are called there.
        labels: what should be class indices.
        classes: number of classes.
        count: the number of samples they must have, when given.

    Raises:
        ArgumentError: they are something else.
    """
    whole = not labels.is_floating_point() and not labels.is_complex()
    if labels.ndim != 1 or not whole or (count is not None and len(labels) != count):
        rows = "n" if count is None else count
        raise ArgumentError(
            where,
            f"{name} must be class indices, integers of shape ({rows},)",
            got=describe(labels),
            fix="pass one class index per sample",
        )
    if len(labels) == 0:
        raise ArgumentError(where, "at least one sample was expected", got=describe(labels), fix="pass some")
    low, high = (int(bound) for bound in labels.long().aminmax())
    if low < 0 or high >= classes:
        raise ArgumentError(
            where,
            f"{name} must lie in [0, {classes})",
            got=f"values from {low} to {high}",
            fix="number the classes from 0 and check how many there are",
        )


def describe(value: object) -> str:
    """Shape and dtype of a tensor, or the type of anything else, in words for an error message."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    return f"a {type(value).__name__}"


def at_least_float32(logits: Tensor) -> Tensor:
    """Raise half precision to float32; leave float32 and float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
