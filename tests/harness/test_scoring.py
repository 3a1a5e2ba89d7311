"""What the scorecard of a classifier holds, and what it leaves out."""

from __future__ import annotations

import pytest

from coursekit.config import Training
from coursekit.harness import classifier_scorecard, fit
from coursekit.metrics import METRICS


@pytest.mark.parametrize(("epochs", "area"), [(1, False), (2, True)])
def test_one_epoch_has_no_area_and_every_other_value(epochs, area, build, digits):
    """`coursekit run LESSON training.epochs=1` is what a learner tries first."""
    training = Training(epochs=epochs, device="cpu")
    runs = [fit(build(seed), digits, training, seed=seed, quiet=True) for seed in (0, 1)]
    card = classifier_scorecard("short", runs, digits, target=0.9)
    names = {row["metric"] for row in card.rows()}
    assert ("convergence_area" in names) == area
    assert names >= set(METRICS)
    assert all(len(run.history) == epochs for run in runs)
