"""Feature visualisation: closed forms of the regularisers, and that activations rise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from coursekit.attribution import visualize_units
from coursekit.errors import ArgumentError


def _start(g: torch.Generator, rows: int = 1) -> Tensor:
    return 0.1 * torch.randn(rows, 2, 10, 10, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("layer", [None, "features.0", "features.3", "head"])
@pytest.mark.parametrize("jitter", [0, 2])
def test_activations_rise(layer, jitter, cnn, g):
    found = visualize_units(cnn, [3, 0, 3], start=_start(g), layer=layer, steps=30, jitter=jitter, generator=g)
    assert found.pictures.shape == (3, 2, 10, 10)
    assert found.activations.shape == (31, 3)
    assert (found.activations[-1] > found.activations[0] + 0.05).all()
    cnn.eval()
    seen = []
    handle = (cnn if layer is None else cnn.get_submodule(layer)).register_forward_hook(
        lambda _, __, output: seen.append(output.clone())  # what follows may work in place
    )
    cnn(found.pictures)
    handle.remove()
    wanted = seen[0].flatten(2).mean(2) if seen[0].ndim > 2 else seen[0]
    torch.testing.assert_close(found.activations[-1], wanted[range(3), [3, 0, 3]].detach())


def test_nothing_of_the_callers_changes(cnn, g):
    start = _start(g)
    before = start.clone()
    cnn.train()
    with torch.inference_mode():
        found = visualize_units(cnn, [1], start=start, layer="features.3", steps=3)
    assert torch.equal(start, before)
    assert cnn.training
    assert all(parameter.grad is None for parameter in cnn.parameters())
    assert not any(module._forward_hooks for module in cnn.modules())
    assert not found.pictures.requires_grad


def test_the_weight_of_l2_decides_the_size_of_the_picture():
    """A linear unit w · x − λ |x|² / n has its top at x = n w / (2 λ)."""
    weight = torch.linspace(-1, 1, 9, dtype=torch.float64)
    linear = nn.Linear(9, 1, bias=False).double()
    linear.weight.data[0] = weight
    model = nn.Sequential(nn.Flatten(), linear)
    start = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    found = visualize_units(model, [0], start=start, steps=600, lr=0.02, l2=9.0)
    torch.testing.assert_close(found.pictures.flatten(), weight / 2, rtol=0, atol=1e-3)


def test_total_variation_makes_neighbours_alike(cnn, g):
    start = _start(g)
    rough, smooth = (
        visualize_units(cnn, [0, 1], start=start, steps=60, total_variation=strength).pictures
        for strength in (0.0, 2.0)
    )

    def variation(pictures: Tensor) -> Tensor:
        return pictures.diff(dim=2).square().mean() + pictures.diff(dim=3).square().mean()

    assert variation(smooth) < 0.3 * variation(rough)


def test_pictures_stay_in_their_range_and_units_apart(cnn, g):
    start = _start(g, 2)
    found = visualize_units(cnn, [0, 4], start=start, steps=40, low=-0.2, high=0.3)
    assert found.pictures.min() == pytest.approx(-0.2)
    assert found.pictures.max() == pytest.approx(0.3)
    alone = visualize_units(cnn, [4], start=start[1:], steps=40, low=-0.2, high=0.3)
    torch.testing.assert_close(found.pictures[1:], alone.pictures)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"units": []}, "with at least one unit"),
        ({"units": [0, 1, 2], "start": torch.zeros(2, 2, 10, 10)}, r"start must be \(1, C, H, W\) or \(3, C, H, W\)"),
        ({"start": torch.zeros(2, 10, 10)}, r"start must be \(1, C, H, W\)"),
        ({"start": torch.full((1, 2, 10, 10), torch.nan)}, "inputs must be finite"),
        ({"steps": 0}, "steps at least 1"),
        ({"lr": float("nan")}, "finite and at least 0"),
        ({"l2": -1.0}, "finite and at least 0"),
        ({"jitter": 2}, "a generator for the jitter"),
        ({"units": [5]}, r"units must be from 0 to 4. Got \[5\]"),
        ({"units": [-1]}, "units must be from 0 to 4"),
        ({"layer": "features.7"}, "layer must be one of the model's"),
    ],
)
def test_bad_settings_are_named(settings, words, cnn):
    settings = {"units": [0], "start": torch.zeros(1, 2, 10, 10).double(), "steps": 2, **settings}
    with pytest.raises(ArgumentError, match=words):
        visualize_units(cnn, settings.pop("units"), **settings)


def test_an_activation_without_a_gradient_is_refused():
    for output in (lambda x: x.detach().flatten(1), lambda x: torch.ones(1, 2, requires_grad=True) * 2):
        with pytest.raises(ArgumentError, match="activations with a finite gradient"):
            visualize_units(output, [0], start=torch.zeros(1, 1, 2, 2), l2=0.1)
    with pytest.raises(ArgumentError, match=r"outputs \(n, K\) or \(n, c, h, w\)"):
        visualize_units(lambda x: x.sum(), [0], start=torch.zeros(1, 1, 2, 2))
