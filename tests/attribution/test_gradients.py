"""Gradients, smoothed and integrated: closed forms, laws, captum."""

from __future__ import annotations

from typing import Any

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from coursekit.attribution import (
    RULES,
    completeness_error,
    expected_gradients,
    gradient,
    heatmap,
    input_times_gradient,
    integrated_gradients,
    quadrature,
    saliency,
    smoothgrad,
)
from coursekit.errors import ArgumentError

WRONG: Any = "other"


def _linear(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], len(weight)).double()
    layer.weight.data.copy_(weight)
    return layer


@pytest.fixture
def weight(g: torch.Generator) -> Tensor:
    return torch.randn(3, 6, generator=g, dtype=torch.float64)


def test_a_linear_score_has_its_weights_as_gradient(weight, table):
    model = _linear(weight)
    torch.testing.assert_close(gradient(model, table, 1), weight[1].expand(5, 6))
    torch.testing.assert_close(saliency(model, table, 1), weight[1].abs().expand(5, 6))
    torch.testing.assert_close(input_times_gradient(model, table, 1), table * weight[1])


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_of_a_linear_score_are_exact_at_any_step(rule, weight, table):
    steps = 2 if rule == "trapezoid" else 1
    found = integrated_gradients(_linear(weight), table, 2, baseline=table[:1], steps=steps, rule=rule)
    torch.testing.assert_close(found, (table - table[:1]) * weight[2])


@pytest.mark.parametrize(("rule", "steps", "degree"), [("midpoint", 5, 1), ("trapezoid", 5, 1), ("gauss", 5, 9)])
def test_a_rule_integrates_polynomials_up_to_its_degree(rule, steps, degree):
    places, weights = quadrature(rule, steps)
    assert places.shape == weights.shape == (steps,)
    for power in range(degree + 1):
        assert float((weights * places**power).sum()) == pytest.approx(1 / (power + 1), abs=1e-12)
    assert abs(float((weights * places ** (degree + 1)).sum()) - 1 / (degree + 2)) > 1e-9


@pytest.mark.parametrize(("rule", "places"), [("left", [0, 0.25, 0.5, 0.75]), ("right", [0.25, 0.5, 0.75, 1])])
def test_the_ends_that_a_rule_asks(rule, places):
    assert quadrature(rule, 4)[0].tolist() == places


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_are_complete(rule, cnn, pictures, targets):
    """256 steps on a network with kinks: 1e-3 of the largest score difference for midpoint, more for rules of ends."""
    bound = 1e-3 if rule in ("midpoint", "gauss") else 1e-2
    found = integrated_gradients(cnn, pictures, targets, baseline=0.3, steps=256, rule=rule)
    assert completeness_error(found, cnn, pictures, targets, baseline=0.3).abs().max() < bound


def test_two_networks_of_the_same_function_have_the_same_integrated_gradients(mlp, table):
    """Implementation invariance: hidden units in another order, scaled where the next layer scales back."""
    first, last = mlp[0], mlp[2]
    twin = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    twin[0].weight.data, twin[0].bias.data = -first.weight.flip(0).detach(), -first.bias.flip(0).detach()
    twin[2].weight.data, twin[2].bias.data = -last.weight.flip(1).detach(), last.bias.detach()
    torch.testing.assert_close(integrated_gradients(twin, table, 0), integrated_gradients(mlp, table, 0))


def test_several_baselines_are_averaged(mlp, table):
    baselines = torch.stack([table[:1], table[1:2]])
    wanted = sum(integrated_gradients(mlp, table, 1, baseline=row, steps=9) for row in baselines) / 2
    torch.testing.assert_close(integrated_gradients(mlp, table, 1, baseline=baselines, steps=9), wanted)


def test_smoothgrad_without_noise_is_the_gradient(cnn, pictures, targets, g):
    torch.testing.assert_close(
        smoothgrad(cnn, pictures, targets, sigma=0.0, draws=3, generator=g), gradient(cnn, pictures, targets)
    )
    spread = smoothgrad(cnn, pictures, targets, sigma=0.0, draws=3, generator=g, kind="variance")
    torch.testing.assert_close(spread, torch.zeros_like(pictures))


@pytest.mark.parametrize(
    ("kind", "absolute", "wanted"),
    [
        ("mean", False, lambda slopes: slopes.mean(0)),
        ("mean", True, lambda slopes: slopes.abs().mean(0)),
        ("square", False, lambda slopes: slopes.square().mean(0)),
        ("variance", False, lambda slopes: slopes.var(0, correction=0)),
        ("variance", True, lambda slopes: slopes.abs().var(0, correction=0)),
    ],
)
def test_smoothgrad_combines_the_gradients_of_its_draws(kind, absolute, wanted, mlp, table):
    sigma = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    noise = torch.Generator().manual_seed(5)
    slopes = torch.stack(
        [
            gradient(mlp, table + sigma * torch.randn(table.shape, generator=noise, dtype=torch.float64), 2)
            for _ in range(8)
        ]
    )
    found = smoothgrad(
        mlp,
        table,
        2,
        sigma=sigma,
        draws=8,
        generator=torch.Generator().manual_seed(5),
        kind=kind,
        absolute=absolute,
    )
    torch.testing.assert_close(found, wanted(slopes))


def test_the_variance_of_smoothgrad_falls_with_its_draws(mlp, table, g):
    """Ratio of variances at 4 and 16 draws: 4 expected; 300 repeats of 30 entries, 3 to 5.3 is beyond 5 sigma."""

    def variance(draws: int) -> float:
        many = [smoothgrad(mlp, table, 0, sigma=0.5, draws=draws, generator=g) for _ in range(300)]
        return float(torch.stack(many).var(0).mean())

    assert 3 < variance(4) / variance(16) < 5.3


def test_expected_gradients_tend_to_integrated_gradients(mlp, table, g):
    """Each entry within 5 standard errors of 400 groups (30 entries: a false alarm once in 60 000 seeds)."""
    baselines = torch.randn(7, 1, 6, generator=g, dtype=torch.float64)
    wanted = integrated_gradients(mlp, table, 1, baseline=baselines, steps=64, rule="gauss")
    groups = torch.stack(
        [expected_gradients(mlp, table, 1, baseline=baselines, draws=40, generator=g) for _ in range(400)]
    )
    assert ((groups.mean(0) - wanted).abs() <= 5 * groups.std(0) / 20).all()
    assert groups.std(0).min() > 0


@pytest.mark.parametrize("method", [saliency, input_times_gradient])
def test_gradient_methods_equal_captums(method, cnn, pictures, targets):
    theirs = {saliency: captum.attr.Saliency, input_times_gradient: captum.attr.InputXGradient}[method]
    cnn.eval()
    wanted = theirs(cnn).attribute(pictures.clone().requires_grad_(), target=targets)
    torch.testing.assert_close(method(cnn, pictures, targets), wanted.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("midpoint", "riemann_middle"),
        ("left", "riemann_left"),
        ("right", "riemann_right"),
        ("trapezoid", "riemann_trapezoid"),
        ("gauss", "gausslegendre"),
    ],
)
def test_integrated_gradients_equal_captums(rule, method, cnn, pictures, targets):
    """Captum's trapezoid has its own places: compared at the many steps where both are the integral."""
    steps, bound = (600, 5e-3) if rule == "trapezoid" else (20, 1e-5)
    baseline = torch.full_like(pictures[:1], 0.2)
    wanted = captum.attr.IntegratedGradients(cnn.eval()).attribute(
        pictures, baseline, target=targets, n_steps=steps, method=method
    )
    found = integrated_gradients(cnn, pictures, targets, baseline=baseline, steps=steps, rule=rule)
    torch.testing.assert_close(found, wanted, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("kind", "theirs"), [("mean", "smoothgrad"), ("square", "smoothgrad_sq"), ("variance", "vargrad")]
)
def test_smoothgrad_agrees_with_captums_noise_tunnel(kind, theirs, mlp, table, g):
    """Means of 200 groups of 20 draws each, 5 standard errors of the difference: 30 entries, 1 alarm in 60 000."""
    tunnel: Any = captum.attr.NoiseTunnel(captum.attr.Saliency(mlp))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = torch.stack(
            [
                tunnel.attribute(table, target=1, nt_type=theirs, nt_samples=20, stdevs=0.4, abs=False)
                for _ in range(200)
            ]
        ).detach()
    found = torch.stack([smoothgrad(mlp, table, 1, sigma=0.4, draws=20, generator=g, kind=kind) for _ in range(200)])
    error = ((found.var(0) + wanted.var(0)) / 200).sqrt()
    assert ((found.mean(0) - wanted.mean(0)).abs() <= 5 * error).all()


def test_expected_gradients_agree_with_captums_gradient_shap(mlp, table, g):
    """Means of 200 groups of 20 draws each, 5 standard errors of the difference: 30 entries, 1 alarm in 60 000."""
    baselines = torch.randn(7, 6, generator=g, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = captum.attr.GradientShap(mlp)
        wanted = torch.stack(
            [
                theirs.attribute(table, baselines=baselines, target=1, n_samples=20, stdevs=0.3).detach()
                for _ in range(200)
            ]
        )
    found = torch.stack(
        [
            expected_gradients(mlp, table, 1, baseline=baselines[:, None], draws=20, sigma=0.3, generator=g)
            for _ in range(200)
        ]
    )
    error = ((found.var(0) + wanted.var(0)) / 200).sqrt()
    assert ((found.mean(0) - wanted.mean(0)).abs() <= 5 * error).all()


def test_heatmaps():
    maps = torch.tensor([[[[3.0]], [[-4.0]]]])
    assert heatmap(maps).tolist() == [[[4]]]
    assert heatmap(maps, channels="sum").tolist() == [[[-1]]]
    assert heatmap(maps, channels="norm").tolist() == [[[5]]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x, g: smoothgrad(m, x, 0, sigma=-0.1, generator=g), "sigma must be finite and at least 0. Got -0.1"),
        (lambda m, x, g: smoothgrad(m, x, 0, sigma=float("nan"), generator=g), "sigma must be finite"),
        (lambda m, x, g: smoothgrad(m, x, 0, sigma=0.1, draws=0, generator=g), "draws must be at least 1. Got 0"),
        (lambda m, x, g: smoothgrad(m, x, 0, sigma=0.1, generator=g, kind=WRONG), "kind must be mean, square"),
        (lambda m, x, g: integrated_gradients(m, x, 0, steps=0), "steps must be at least 1. Got 0"),
        (lambda m, x, g: integrated_gradients(m, x, 0, steps=1, rule="trapezoid"), "steps must be at least 2"),
        (lambda m, x, g: integrated_gradients(m, x, 0, rule=WRONG), "rule must be one of midpoint, left"),
        (lambda m, x, g: expected_gradients(m, x, 0, draws=0, generator=g), "draws must be at least 1"),
        (lambda m, x, g: expected_gradients(m, x, 0, sigma=-1.0, generator=g), "sigma must be finite and at least 0"),
        (lambda m, x, g: heatmap(x), r"attribution must be \(B, C, H, W\)"),
        (lambda m, x, g: heatmap(x[..., None, None], channels=WRONG), "channels must be one of max, sum, norm"),
    ],
)
def test_bad_settings_are_named(call, words, mlp, table, g):
    with pytest.raises(ArgumentError, match=words):
        call(mlp, table, g)
