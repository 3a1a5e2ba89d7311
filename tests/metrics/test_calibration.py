"""Calibration: torchmetrics as the reference, and cases that are known."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from coursekit.errors import ArgumentError
from coursekit.metrics import calibration


@pytest.mark.parametrize("bins", [1, 5, 15])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_the_error_is_torchmetrics(bins, scale):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(500, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (500,), generator=generator)
    found = calibration(logits, targets, bins=bins)
    expected = multiclass_calibration_error(logits.softmax(1), targets, num_classes=7, n_bins=bins, norm="l1")
    assert found.error == pytest.approx(float(expected), abs=1e-6)
    assert sum(found.share) == pytest.approx(1)
    assert list(found.confidence) == sorted(found.confidence)


def test_four_rows_by_hand():
    # Confidences 0.75 (right), 0.75 (wrong), 0.55 (right), 0.55 (right), in two of ten bins.
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.55, 0.45], [0.45, 0.55]], dtype=torch.float64)
    found = calibration(p.log(), torch.tensor([0, 0, 0, 1]))
    assert found.confidence == pytest.approx((0.55, 0.75))
    assert found.accuracy == pytest.approx((1.0, 0.5))
    assert found.share == pytest.approx((0.5, 0.5))
    assert found.error == pytest.approx(0.5 * 0.45 + 0.5 * 0.25)


def test_certainty_belongs_to_the_last_bin():
    found = calibration(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert found.confidence == (1.0,)
    assert found.error == 1.0


@pytest.mark.parametrize(
    ("rows", "targets", "bins"), [(0, 0, 10), (3, 2, 10), (3, 3, 0)], ids=["empty", "lengths", "no bins"]
)
def test_what_cannot_be_measured_is_refused(rows, targets, bins):
    with pytest.raises(ArgumentError, match=r"logits \(n, classes\)"):
        calibration(torch.zeros(rows, 2), torch.zeros(targets, dtype=torch.int64), bins=bins)
