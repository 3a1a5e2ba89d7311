"""The losses against their formulas, the penalty against closed forms, the networks against PyTorch's own layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils.parametrizations import spectral_norm

from coursekit import runtime
from coursekit.errors import ArgumentError
from lessons.gans.losses import LOSSES, GradientPenalty, adversarial_loss, between, slope_norms
from lessons.gans.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    PerceptronDiscriminator,
    PerceptronGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
    couples_rows,
    image_networks,
)
from lessons.gans.pixel_convolutions import FromPixels, ToPixels


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------- losses

REAL, FAKE = torch.tensor([-1.5, 0.0, 0.4, 3.0]).double(), torch.tensor([-2.0, 0.3, 1.7]).double()


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


FORMULAS: dict[str, tuple[Any, Any, Any]] = {
    "minimax": (
        lambda r: -math.log(sigmoid(r)),
        lambda f: -math.log(1 - sigmoid(f)),
        lambda f: math.log(1 - sigmoid(f)),
    ),
    "non-saturating": (
        lambda r: -math.log(sigmoid(r)),
        lambda f: -math.log(1 - sigmoid(f)),
        lambda f: -math.log(sigmoid(f)),
    ),
    "least-squares": (lambda r: (r - 1) ** 2 / 2, lambda f: f**2 / 2, lambda f: (f - 1) ** 2 / 2),
    "hinge": (lambda r: max(0.0, 1 - r), lambda f: max(0.0, 1 + f), lambda f: -f),
    "wasserstein": (lambda r: -r, lambda f: f, lambda f: -f),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_each_pair_is_its_formula(name):
    loss, (real, fake, made) = adversarial_loss(name), FORMULAS[name]
    expected = mean([real(x) for x in REAL.tolist()]) + mean([fake(x) for x in FAKE.tolist()])
    assert float(loss.discriminator(REAL, FAKE)) == pytest.approx(expected)
    assert float(loss.generator(FAKE)) == pytest.approx(mean([made(x) for x in FAKE.tolist()]))
    assert loss.discriminator(REAL[:, None], FAKE).shape == loss.generator(FAKE[:, None]).shape == ()
    assert FORMULAS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_and_gradients_stay_finite_for_large_logits(name):
    logits = torch.tensor([-2000.0, 2000.0], requires_grad=True)
    loss = adversarial_loss(name)
    total = loss.discriminator(logits, logits.flip(0)) + loss.generator(logits)
    (slope,) = torch.autograd.grad(total, logits)
    assert total.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", list(LOSSES))
def test_zero_sum_losses_are_those_whose_gradients_are_opposite(name):
    loss, fake = adversarial_loss(name), FAKE.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(loss.discriminator(REAL, fake), fake)
    (mine,) = torch.autograd.grad(loss.generator(fake), fake)
    assert loss.zero_sum == torch.allclose(mine, -theirs)


def test_at_a_sure_discriminator_minimax_has_no_slope_and_the_other_one_has():
    logits = torch.full((1,), -30.0, requires_grad=True)
    for name, expected in (("minimax", 0.0), ("non-saturating", -1.0)):
        (slope,) = torch.autograd.grad(adversarial_loss(name).generator(logits), logits)
        assert float(slope) == pytest.approx(expected, abs=1e-6)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean hinge"):
        adversarial_loss("hing")


# ------------------------------------------------------------------------------------------- the penalty


def test_the_penalty_of_a_plane_is_known():
    """λ (‖a‖ − 1)² wherever it is taken, over all numbers of a row."""
    direction = draw(2, 3, 3)
    random = torch.Generator().manual_seed(0)
    penalty = GradientPenalty(7.0)(
        lambda rows: (rows * direction).sum((1, 2, 3)), draw(5, 2, 3, 3, seed=1), draw(5, 2, 3, 3, seed=2), random
    )
    assert float(penalty) == pytest.approx(7 * (float(direction.norm()) - 1) ** 2)


def test_the_critics_weights_can_be_differentiated_through_it():
    runtime.seed_everything(0)
    critic = PerceptronDiscriminator((4,), width=6).double()
    real, fake = draw(8, 4), draw(8, 4, seed=1)
    weight = next(critic.parameters())

    def penalty() -> Tensor:
        return GradientPenalty()(critic, real, fake, torch.Generator().manual_seed(3))

    (slope,) = torch.autograd.grad(penalty(), weight)
    with torch.no_grad():
        weight[1, 2] += 1e-6
        above = penalty()
        weight[1, 2] -= 2e-6
        below = penalty()
    assert float(slope[1, 2]) == pytest.approx(float(above - below) / 2e-6, rel=1e-4)
    assert all(part.grad is None for part in critic.parameters())


def test_points_lie_between_one_place_for_each_row():
    real, fake = torch.zeros(2000, 2, 3), torch.ones(2000, 2, 3)
    points = between(real, fake, torch.Generator().manual_seed(0))
    assert points.flatten(1).std(1).max() == 0
    places = points[:, 0, 0]
    # The mean of 2000 uniform numbers is off by more than 5 standard errors (0.0323) once in two million.
    assert float(places.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * 2000))
    assert 0 <= float(places.min()) < 0.01
    assert 0.99 < float(places.max()) <= 1
    with pytest.raises(ArgumentError, match="as many generated rows"):
        between(real, fake[:5], torch.Generator())


def test_slopes_are_those_of_each_row_alone():
    runtime.seed_everything(0)
    critic, points = PerceptronDiscriminator((3,), width=5).double(), draw(6, 3)
    alone = [torch.autograd.functional.jacobian(critic, point[None]).norm() for point in points]  # pyright: ignore
    torch.testing.assert_close(slope_norms(critic, points), torch.stack(alone))


# ------------------------------------------------------------------------------------------- convolutions at the pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_pytorchs_with_all_gradients(channels):
    runtime.seed_everything(0)
    pairs = [
        (FromPixels(channels, 4).double(), draw(2, channels, 6, 8), F.conv2d),
        (ToPixels(4, channels).double(), draw(2, 4, 3, 4), F.conv_transpose2d),
    ]
    for layer, inputs, function in pairs:
        inputs.requires_grad_()

        def call(x: Tensor, weight: Tensor, layer: nn.Module = layer) -> Tensor:
            return torch.func.functional_call(layer, {"weight": weight}, (x,))

        torch.testing.assert_close(layer(inputs), function(inputs, layer.weight, stride=2, padding=1))
        assert gradcheck(call, (inputs, layer.weight))
        assert gradgradcheck(call, (inputs, layer.weight))


def test_mixed_precision_takes_pytorchs():
    layer = FromPixels(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 1, 8, 8)).dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("classes", [0, 4])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (
            lambda c: (PerceptronGenerator((2,), latent=5, classes=c), PerceptronDiscriminator((2,), classes=c)),
            (2,),
        ),
        (
            lambda c: (
                PerceptronGenerator((1, 8, 8), latent=5, classes=c, batch_norm=True),
                PerceptronDiscriminator((1, 8, 8), classes=c, constraint=spectral_norm, gain=10),
            ),
            (1, 8, 8),
        ),
        (lambda c: image_networks("dcgan", 3, latent=5, width=4, classes=c), (3, 32, 32)),
        (lambda c: image_networks("sngan", 3, latent=5, width=4, classes=c), (3, 32, 32)),
    ],
    ids=["points", "digits", "DCGAN", "SNGAN"],
)
def test_shapes_gradients_and_classes(build, shape, classes):
    runtime.seed_everything(0)
    generator, discriminator = build(classes)
    labels = (torch.tensor([0, 1, 3]),) if classes else ()
    rows = generator(torch.randn(3, 5), *labels)
    assert rows.shape == (3, *shape)
    if len(shape) == 3:
        assert rows.abs().max() < 1
    logits = discriminator(rows, *labels)
    assert logits.shape == (3,)
    logits.sum().backward()
    for part in (*generator.parameters(), *discriminator.parameters()):
        assert part.grad is not None
    if classes:
        with pytest.raises(ArgumentError, match="class numbers"):
            discriminator(rows)
        discriminator.eval()
        with torch.no_grad():
            for parameter in discriminator.parameters():  # an embedding of classes begins without any effect
                parameter.add_(0.1 * torch.randn_like(parameter))
            other = torch.tensor([2, 1, 3])
            changed = discriminator(rows, other) != discriminator(rows, *labels)
        assert changed.tolist() == [True, False, False]


def test_dcgan_is_radfords_in_pytorchs_layers():
    runtime.seed_everything(0)
    generator = DCGANGenerator(1, latent=5, width=4).double().eval()
    first = nn.ConvTranspose2d(5, 16, 4, bias=False).double()
    with torch.no_grad():
        first.weight.copy_(generator.first.weight.view(4, 4, 16, 5).permute(3, 2, 0, 1))
    noise = draw(3, 5)
    torch.testing.assert_close(generator.layers(first(noise[:, :, None, None])), generator(noise))
    kinds = [type(layer) for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert len(kinds) == 3
    weights = next(DCGANDiscriminator(3, width=32).parameters())
    # Standard deviation 0.02 of 1536 weights: five standard errors are 0.0018.
    assert float(weights.detach().std()) == pytest.approx(0.02, abs=0.0018)


def test_spectral_normalisation_bounds_every_layer():
    """By the largest singular value of its reshaped weight, once power iteration has settled."""
    runtime.seed_everything(0)
    critic = SNGANDiscriminator(3, width=4, classes=3)
    for _ in range(60):
        critic(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    critic.eval()
    layers = [part for part in critic.modules() if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) == 4 * 2 + 2 + 1 + 1  # the two stages that do not shrink need no shortcut
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)


def test_who_couples_rows():
    assert couples_rows(DCGANDiscriminator(1, width=4))
    assert not couples_rows(DCGANDiscriminator(1, width=4, batch_norm=False))
    assert not couples_rows(PerceptronDiscriminator((2,)))
    assert couples_rows(SNGANGenerator(1, width=4))
