"""LIME: linear scores, scikit-learn's ridge, captum's regression on the same samples, kernels and seeds."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.model import Model
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from coursekit.attribution import grid_segments, lime, lime_tabular
from coursekit.attribution.regression import solve_normal, weighted_ridge
from coursekit.errors import ArgumentError

SEGMENTS = grid_segments(10, 10, 5)


@pytest.fixture
def linear() -> nn.Module:
    layer = nn.Linear(6, 2).double()
    layer.weight.data[1] = torch.tensor([1.0, -2, 0, 4, 0.5, 3])
    layer.bias.data[1] = 7
    return layer


def test_a_linear_score_is_recovered(linear, table, g):
    scale = torch.tensor([1.0, 2, 3, 0.5, 1, 0.1], dtype=torch.float64)
    found = lime_tabular(linear, table, 1, scale=scale, ridge=0, samples=100, generator=g)
    torch.testing.assert_close(found.coefficients, (linear.weight[1].detach() * scale).expand(5, 6))
    torch.testing.assert_close(found.intercept, linear(table)[:, 1].detach())
    torch.testing.assert_close(found.fit, torch.ones(5, dtype=torch.float64))


def test_segments_of_a_sum_get_what_they_hold(pictures, g):
    found = lime(lambda x: x.sum((1, 2, 3)) + 2, pictures, segments=SEGMENTS, ridge=0, generator=g)
    held = pictures.sum(1).unfold(1, 5, 5).unfold(2, 5, 5).sum((3, 4)).flatten(1)
    torch.testing.assert_close(found.coefficients, held)
    torch.testing.assert_close(found.intercept, torch.full((4,), 2.0, dtype=torch.float64))


def _samples_of(method, rows: Tensor, **settings) -> Tensor:
    """Record the samples at which a method asks a model, (samples, ...)."""
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1).square().sum(1)

    method(model, rows, generator=torch.Generator().manual_seed(8), **settings)
    return torch.cat(seen).clone()


@pytest.mark.parametrize("width", [None, 0.7, 3.0])
@pytest.mark.parametrize("ridge", [0.1, 5.0])
def test_tables_are_fitted_by_the_weighted_ridge(width, ridge, mlp, table):
    scale = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    asked = _samples_of(lime_tabular, table[:1], scale=scale, samples=200)
    z = ((asked - table[0]) / scale).numpy()
    weights = np.exp(-(z**2).sum(1) / (0.75 * 6**0.5 if width is None else width) ** 2)
    found = lime_tabular(
        mlp,
        table,
        2,
        scale=scale,
        samples=200,
        kernel_width=width,
        ridge=ridge,
        generator=torch.Generator().manual_seed(8),
    )
    for row in range(5):  # all rows share the z
        scores = mlp(table[row] + scale * torch.as_tensor(z))[:, 2].detach().numpy()
        wanted = Ridge(ridge).fit(z, scores, sample_weight=weights)
        torch.testing.assert_close(found.coefficients[row], torch.as_tensor(wanted.coef_))
        assert float(found.intercept[row]) == pytest.approx(wanted.intercept_)
        assert float(found.fit[row]) == pytest.approx(wanted.score(z, scores, sample_weight=weights))


def test_pictures_equal_captums_regression_on_the_same_samples(cnn, pictures, targets):
    """Captum's `LimeBase`, given our samples, our weights and scikit-learn's ridge."""
    coalitions = torch.rand(60, 4, generator=torch.Generator().manual_seed(8)) < 0.5
    coalitions[0] = True  # the picture itself

    class Fit(Model):
        def fit(self, train_data, **_) -> dict:
            x, y, w = (part.numpy() for part in next(iter(train_data)))
            self.found = Ridge(0.3).fit(x, y.ravel(), sample_weight=w.ravel())
            return {}

        def representation(self) -> Tensor:
            return torch.as_tensor(self.found.coef_)[None]

        def __call__(self, x):
            raise NotImplementedError

    def closeness(original, changed, sample, **_) -> float:
        return float(torch.exp(-((1 - sample.double().mean().sqrt()) ** 2) / 0.4**2))

    found = lime(
        cnn,
        pictures,
        targets,
        segments=SEGMENTS,
        samples=60,
        kernel_width=0.4,
        ridge=0.3,
        baseline=0.1,
        generator=torch.Generator().manual_seed(8),
    )
    for row in range(4):
        samples = iter(coalitions)
        theirs = captum.attr.LimeBase(
            cnn.eval(),
            Fit(),
            closeness,
            lambda original, samples=samples, **_: next(samples)[None],
            True,
            lambda sample, original, **_: torch.where(sample[0].bool()[SEGMENTS], original, 0.1),
            None,
        )
        wanted = theirs.attribute(pictures[row : row + 1], target=int(targets[row]), n_samples=60)
        torch.testing.assert_close(found.coefficients[row], wanted[0].detach().double(), rtol=0, atol=1e-5)


def test_half_of_the_segments_are_present_on_average():
    """16 segments × 999 samples: the share is within 5 sigma, 0.02, of 1/2."""
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    seen = _samples_of(lime, ones, segments=torch.arange(16).view(4, 4), samples=1000)
    assert abs(float(seen[1:].mean()) - 0.5) < 0.02


@pytest.mark.parametrize("method", [lime, lime_tabular])
def test_seeds_decide(method, mlp, table):
    first, again, other = (
        method(mlp, table, 0, samples=50, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.coefficients, again.coefficients)
    assert not torch.allclose(first.coefficients, other.coefficients)


def test_an_explanation_of_a_constant_is_nothing(table, g):
    found = lime_tabular(lambda x: torch.ones_like(x[:, 0]), table, generator=g)
    torch.testing.assert_close(found.coefficients, torch.zeros_like(table))
    assert found.fit.tolist() == [1] * 5
    assert found.intercept.tolist() == pytest.approx([1] * 5)


def test_least_squares_equal_lstsq(g):
    design, values = (torch.randn(n, 30, generator=g, dtype=torch.float64) for n in (4, 7))
    weights = torch.rand(30, generator=g, dtype=torch.float64)
    wanted = torch.linalg.lstsq(design.mT * weights.sqrt()[:, None], (values * weights.sqrt()).mT).solution.mT
    torch.testing.assert_close(solve_normal("x", design.mT, values, weights), wanted)


def test_samples_that_do_not_determine_are_refused(mlp, table, g):
    with pytest.raises(ArgumentError, match=r"samples must determine 6 coefficients. Got 4 samples"):
        lime_tabular(mlp, table, 0, samples=4, ridge=0, generator=g)
    ones = torch.ones(9, 2)
    with pytest.raises(ArgumentError, match="samples must determine 2 coefficients"):
        weighted_ridge("x", ones, torch.ones(1, 9), torch.ones(9), 0.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samples": 1}, "samples must be at least 2. Got 1"),
        ({"kernel_width": 0.0}, "kernel_width must be finite and above 0"),
        ({"kernel_width": float("nan")}, "kernel_width must be finite"),
        ({"ridge": -1.0}, "ridge must be finite and at least 0"),
    ],
)
@pytest.mark.parametrize("method", [lime, lime_tabular])
def test_bad_settings_are_named(method, settings, words, mlp, table, g):
    with pytest.raises(ArgumentError, match=words):
        method(mlp, table, 0, generator=g, **settings)


@pytest.mark.parametrize("scale", [0.0, torch.ones(5), torch.tensor([1.0, 1, 1, 1, 1, 0]), float("inf")])
def test_a_bad_scale_is_named(scale, mlp, table, g):
    with pytest.raises(ArgumentError, match=r"scale must be a number or \(6,\), finite and above 0"):
        lime_tabular(mlp, table, 0, scale=scale, generator=g)


def test_pictures_are_no_table(cnn, pictures, g):
    with pytest.raises(ArgumentError, match=r"inputs must be a table \(B, d\)"):
        lime_tabular(cnn, pictures, 0, generator=g)
