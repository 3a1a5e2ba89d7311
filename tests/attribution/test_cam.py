"""Grad-CAM and the other ways back through the ReLUs: by hand, and captum."""

from __future__ import annotations

from typing import Any

import captum.attr
import pytest
import torch
from torch import nn

from coursekit.attribution import deconvolution, grad_cam, guided_backpropagation, guided_grad_cam
from coursekit.errors import ArgumentError


@pytest.fixture
def by_hand() -> nn.Module:
    """One 1 × 1 convolution to two channels (x and −2x), then the score 3 · mean(first) + 1 · mean(second)."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    nn.utils.vector_to_parameters(torch.tensor([1.0, -2, 3, 1, 0]), model.parameters())
    return model


def test_grad_cam_by_hand(by_hand):
    """∂ score / ∂ channel is 3/4 and 1/4 at each of 4 pixels: the map is 3/4 x − 2/4 x = x / 4."""
    picture = torch.tensor([[[[4.0, -8.0], [0.0, 12.0]]]])
    assert grad_cam(by_hand, picture, layer="0").tolist() == [[[1, 0], [0, 3]]]
    assert grad_cam(by_hand, picture, layer=by_hand[0], relu=False).tolist() == [[[1, -2], [0, 3]]]
    # The sign of the score turns the map before the ReLU cuts it.
    assert grad_cam(lambda x: -by_hand(x), picture, layer=by_hand[0]).tolist() == [[[0, 2], [0, 0]]]


def test_maps_are_enlarged_to_the_pictures_bilinearly(cnn, pictures, targets):
    small = grad_cam(cnn, pictures, targets, layer="features.3", upsample=False)
    assert small.shape == (4, 3, 3)
    wanted = nn.functional.interpolate(small[:, None], size=(10, 10), mode="bilinear")[:, 0]
    torch.testing.assert_close(grad_cam(cnn, pictures, targets, layer="features.3"), wanted)


def test_a_relu_in_place_after_the_layer_changes_nothing(cnn, pictures, targets):
    found = grad_cam(cnn, pictures, targets, layer="features.0")
    cnn.features[1].inplace = False
    torch.testing.assert_close(grad_cam(cnn, pictures, targets, layer="features.0"), found)


@pytest.mark.parametrize("layer", ["features.0", "features.2", "features.3", "features.4"])
def test_grad_cam_equals_captums(layer, cnn, pictures, targets):
    cnn.eval().features[1].inplace = False  # captum's hook would see what the ReLU wrote
    theirs: Any = captum.attr.LayerGradCam(cnn, cnn.get_submodule(layer))
    for relu in (True, False):
        wanted = theirs.attribute(pictures, target=targets, relu_attributions=relu)
        found = grad_cam(cnn, pictures, targets, layer=layer, upsample=False, relu=relu)
        torch.testing.assert_close(found, wanted[:, 0], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", ["guided_backpropagation", "deconvolution", "guided_grad_cam"])
def test_ways_back_through_relus_equal_captums(name, in_place, cnn, pictures, targets):
    cnn.eval().features[1].inplace = False
    rows = pictures.clone().requires_grad_()
    if name == "guided_grad_cam":
        theirs = captum.attr.GuidedGradCam(cnn, cnn.features[3])
        wanted = theirs.attribute(rows, target=targets, interpolate_mode="bilinear").detach()
    else:
        kind = captum.attr.GuidedBackprop if name == "guided_backpropagation" else captum.attr.Deconvolution
        wanted = kind(cnn).attribute(rows, target=targets).detach()
    cnn.features[1].inplace = in_place
    call = {"guided_backpropagation": guided_backpropagation, "deconvolution": deconvolution}.get(name)
    found = call(cnn, pictures, targets) if call else guided_grad_cam(cnn, pictures, targets, layer="features.3")
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_hooks_go_even_when_the_model_fails(cnn, pictures):
    for call in (guided_backpropagation, lambda *args: grad_cam(*args, layer="features.3")):
        with pytest.raises(ArgumentError, match="target must be from 0 to 4"):
            call(cnn, pictures, 7)
        assert not any(module._forward_hooks for module in cnn.modules())
        assert cnn.features[1].inplace


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(2, 2, 3, padding=1)
        self.beside = nn.Conv2d(2, 2, 3)
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.beside(x)
        self.pair(x)
        return self.same(self.same(x)).mean((2, 3))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("features.9", r"layer must be one of the model's: features, features.0, .*Got 'features.9'"),
        ("head", r"layer must give maps \(n, c, h, w\). Got \(4, 5\)"),
        (nn.Conv2d(2, 2, 3), "layer must be a part of the model"),
    ],
)
def test_a_layer_that_will_not_do_is_named(layer, words, cnn, pictures, targets):
    with pytest.raises(ArgumentError, match=words):
        grad_cam(cnn, pictures, targets, layer=layer)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("same", "layer must be met once per pass. Got 2 times"),
        ("beside", "the score must depend on the layer"),
        ("pair", "layer must give one tensor"),
    ],
)
def test_a_layer_off_the_path_is_named(layer, words, pictures):
    with pytest.raises(ArgumentError, match=words):
        grad_cam(Twice().double(), pictures, 0, layer=layer)


def test_a_function_has_no_layer_names(cnn, pictures):
    with pytest.raises(ArgumentError, match=r"a function has no named layers. Got 'features'"):
        grad_cam(lambda x: cnn(x), pictures, 0, layer="features")


def test_a_model_without_relu_layers_is_refused(mlp, table):
    for call in (guided_backpropagation, deconvolution):
        with pytest.raises(ArgumentError, match=r"the model must have nn.ReLU layers. Got Sequential"):
            call(mlp, table, 0)
