"""Generators and discriminators: perceptrons for points and 8 × 8 digits, DCGAN for 32 × 32, SNGAN's residual ones.

A generator takes noise (b, latent), a discriminator rows (b, ...), and gives logits (b,). With `classes` above 0 both
take class numbers (b,) too, as their second argument. Images lie in [-1, 1], the range of the generators' tanh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from coursekit.errors import ArgumentError
from lessons.gans.pixel_convolutions import FromPixels, ToPixels

Constraint = Callable[[nn.Module], nn.Module]
"""Is laid on each layer with weights of a discriminator, for example `spectral_norm`."""


def unconstrained(layer: nn.Module) -> nn.Module:
    """Leave a layer as it is."""
    return layer


def couples_rows(network: nn.Module) -> bool:
    """Return whether one row's output depends on the other rows of its mini-batch, through BatchNorm."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


# ------------------------------------------------------------------------------------------- perceptrons


class PerceptronGenerator(nn.Module):
    """Noise (b, latent) to rows (b, *shape), through hidden layers with ReLU.

    Args:
        shape: of one row: (2,) of a point, (1, 8, 8) of a digit.
        latent: numbers in the noise.
        width: of each hidden layer.
        layers: hidden layers.
        classes: above 0, a class number comes in as a one-hot row beside the noise (Mirza & Osindero 2014).
        squash: whether the rows lie in (-1, 1) through tanh; points of the plane do not.
        batch_norm: whether each hidden layer normalises over the mini-batch.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent: int = 32,
        width: int = 128,
        layers: int = 2,
        classes: int = 0,
        squash: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        sizes = [latent + classes, *[width] * layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batch_norm else []), nn.ReLU()]
        parts += [nn.Linear(sizes[-1], math.prod(shape)), *([nn.Tanh()] if squash else []), nn.Unflatten(1, shape)]
        self.layers = nn.Sequential(*parts)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return rows (b, *shape)."""
        return self.layers(_with_class(noise, labels, self.classes))


class PerceptronDiscriminator(nn.Module):
    """Rows (b, *shape) to logits (b,), through hidden layers with LeakyReLU (slope 0.2).

    Args:
        shape: of one row.
        width: of each hidden layer.
        layers: hidden layers.
        classes: above 0, a class number comes in as a one-hot row beside the pixels.
        constraint: is laid on each linear layer.
        gain: multiplies the logits. Under spectral normalisation on the whole network D is Lipschitz with constant 1,
            which leaves logits of points that lie close together close together.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 128,
        layers: int = 2,
        classes: int = 0,
        constraint: Constraint = unconstrained,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.classes, self.gain = classes, gain
        sizes = [math.prod(shape) + classes, *[width] * layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [constraint(nn.Linear(before, after)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, constraint(nn.Linear(sizes[-1], 1)))

    def forward(self, rows: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (b,)."""
        logits = self.layers(_with_class(rows.flatten(1), labels, self.classes)).squeeze(1)
        return logits if self.gain == 1 else logits * self.gain

    def extra_repr(self) -> str:
        """Say what the layers do not."""
        return f"gain={self.gain}"


def _with_class(rows: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Return the rows with a one-hot class beside them, (b, d + classes)."""
    if not classes:
        return rows
    return torch.cat([rows, F.one_hot(_required(labels), classes).to(rows.dtype)], 1)


def _required(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ArgumentError(
            "conditional network", "class numbers (b,) as its second argument", got="none", fix="pass the labels"
        )
    return labels


# ------------------------------------------------------------------------------------------- DCGAN, 32 x 32


class DCGANGenerator(nn.Module):
    """Noise (b, latent) to images (b, channels, 32, 32) in (-1, 1), by transposed convolutions.

    Radford et al. 2016, section 3, with one stage fewer than for their 64 × 64: 4 × 4 kernels, stride 2, BatchNorm and
    ReLU but for the last layer's tanh, weights from N(0, 0.02²).

    Args:
        channels: of the images.
        latent: numbers in the noise; 100 in the paper.
        width: channels before the last layer; two and four times as many before that.
        classes: above 0, a class number comes in as a one-hot row beside the noise.
    """

    def __init__(self, channels: int, *, latent: int = 100, width: int = 64, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        sizes = [4 * width, 2 * width, width]
        # "Project and reshape" in the paper's figure 1; a transposed convolution of 1 × 1 pixels is the same product.
        self.first = nn.Linear(latent + classes, 16 * sizes[0], bias=False)
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
            parts += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
        parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), ToPixels(width, channels), nn.Tanh()]
        self.layers = nn.Sequential(*parts)
        self.apply(_radford)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (b, channels, 32, 32)."""
        pixels = self.first(_with_class(noise, labels, self.classes)).unflatten(1, (4, 4, -1))
        return self.layers(pixels.permute(0, 3, 1, 2))  # (b, channels, 4, 4), laid out by pixel


class DCGANDiscriminator(nn.Module):
    """Images (b, channels, 32, 32) to logits (b,), by convolutions with stride 2 and LeakyReLU (slope 0.2).

    Radford et al. 2016, section 3, with one stage fewer. BatchNorm stands in the inner layers only.

    Args:
        channels: of the images.
        width: channels after the first layer; two and four times as many after the next two.
        classes: above 0, a class number is spread over one-hot planes beside the image's channels.
        batch_norm: whether the inner layers normalise over the mini-batch. A gradient penalty and a bound on the
            weights both want it off.
        constraint: is laid on each convolution.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        classes: int = 0,
        batch_norm: bool = True,
        constraint: Constraint = unconstrained,
    ) -> None:
        super().__init__()
        self.classes = classes
        sizes = [channels + classes, width, 2 * width, 4 * width]
        parts: list[nn.Module] = []
        for depth, (before, after) in enumerate(pairwise(sizes)):
            normalised = batch_norm and depth > 0
            parts += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not normalised)
                if depth > 0
                else FromPixels(before, after)
            ]
            parts += [*([nn.BatchNorm2d(after)] if normalised else []), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(sizes[-1], 1, 4))
        self.apply(_radford)
        _constrain(self, constraint)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (b,)."""
        if self.classes:
            planes = F.one_hot(_required(labels), self.classes).to(images.dtype)[:, :, None, None]
            images = torch.cat([images, planes.expand(-1, -1, *images.shape[2:])], 1)
        return self.layers(images).flatten()


@torch.no_grad()
def _radford(part: nn.Module) -> None:
    """Draw a layer's weights as Radford et al. 2016, section 3, do."""
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(part.weight, 0.0, 0.02)
    elif isinstance(part, nn.BatchNorm2d):
        nn.init.normal_(part.weight, 1.0, 0.02)


def _constrain(network: nn.Module, constraint: Constraint) -> None:
    """Lay the constraint on every layer with weights: after their initialisation, which it would take part in."""
    if constraint is not unconstrained:
        for part in list(network.modules()):
            if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
                constraint(part)


# ------------------------------------------------------------------------------------------- SNGAN, 32 x 32


class SNGANGenerator(nn.Module):
    """Noise (b, latent) to images (b, channels, 32, 32) in (-1, 1), by three residual stages that double the size.

    Miyato et al. 2018, table 4 (CIFAR-10; width 256 and latent 128 there). With classes, each BatchNorm has a scale and
    a shift for each class, as in Miyato & Koyama 2018.

    Args:
        channels: of the images.
        latent: numbers in the noise.
        width: channels of every stage.
        classes: above 0, how many classes there are.
    """

    def __init__(self, channels: int = 3, *, latent: int = 128, width: int = 256, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.classes, self.width = latent, classes, width
        self.first = nn.Linear(latent, 16 * width)
        self.stages = nn.ModuleList(_Upwards(width, classes) for _ in range(3))
        self.last = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()
        )
        self.apply(_glorot)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (b, channels, 32, 32)."""
        labels = _required(labels) if self.classes else None
        images = self.first(noise).unflatten(1, (self.width, 4, 4))
        for stage in self.stages:
            images = stage(images, labels)
        return self.last(images)


class SNGANDiscriminator(nn.Module):
    """Images (b, channels, 32, 32) to logits (b,), by residual stages, a sum over the image, and one linear layer.

    Miyato et al. 2018, table 4 (width 128 there). With classes, the logit gets the inner product of the features with a
    vector of the class (projection: Miyato & Koyama 2018).

    Args:
        channels: of the images.
        width: channels of every stage.
        classes: above 0, how many classes there are.
        constraint: is laid on every layer with weights; spectral normalisation in the paper.
    """

    def __init__(
        self, channels: int = 3, *, width: int = 128, classes: int = 0, constraint: Constraint = spectral_norm
    ) -> None:
        super().__init__()
        self.classes = classes
        self.stages = nn.Sequential(
            _Downwards(channels, width, shrinks=True, first=True),
            _Downwards(width, width, shrinks=True),
            _Downwards(width, width, shrinks=False),
            _Downwards(width, width, shrinks=False),
            nn.ReLU(inplace=True),
        )
        self.last = nn.Linear(width, 1)
        self.directions = nn.Embedding(classes, width) if classes else None
        self.apply(_glorot)
        _constrain(self, constraint)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (b,)."""
        features = self.stages(images).sum((2, 3))  # (b, width)
        logits = self.last(features).squeeze(1)
        if self.directions is not None:
            logits = logits + (features * self.directions(_required(labels))).sum(1)
        return logits


class _ClassNorm(nn.Module):
    """BatchNorm with a scale and a shift for each class; the usual one where there are no classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not classes)
        self.gains = nn.Embedding(classes, 2 * channels) if classes else None
        if self.gains is not None:
            nn.init.zeros_(self.gains.weight)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        images = self.norm(images)
        if self.gains is None:
            return images
        gain, shift = self.gains(labels)[:, :, None, None].chunk(2, 1)
        return images * (1 + gain) + shift


class _Upwards(nn.Module):
    """norm, ReLU, twice the size, 3 × 3, norm, ReLU, 3 × 3; beside it twice the size and 1 × 1."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_ClassNorm(width, classes) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        twice = partial(F.interpolate, scale_factor=2, mode="nearest")
        inner = self.convolutions[0](twice(F.relu(self.norms[0](images, labels))))
        inner = self.convolutions[1](F.relu(self.norms[1](inner, labels)))
        # A 1 × 1 convolution and a repetition of pixels may change places: the smaller image is convolved.
        return inner + twice(self.shortcut(images))


class _Downwards(nn.Module):
    """ReLU, 3 × 3, ReLU, 3 × 3, a mean over 2 × 2 where it shrinks; beside it 1 × 1 and the same mean."""

    def __init__(self, before: int, after: int, *, shrinks: bool, first: bool = False) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *([] if first else [nn.ReLU()]),
            nn.Conv2d(before, after, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            *([nn.AvgPool2d(2)] if shrinks else []),
        )
        # A mean and a 1 × 1 convolution may change places too.
        self.shortcut = nn.Sequential(
            *([nn.AvgPool2d(2)] if shrinks else []),
            *([nn.Conv2d(before, after, 1)] if shrinks or before != after else []),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) + self.shortcut(images)


@torch.no_grad()
def _glorot(part: nn.Module) -> None:
    if isinstance(part, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def image_networks(
    name: Literal["dcgan", "sngan"], channels: int, *, latent: int, width: int, classes: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Return a generator and a discriminator for 32 × 32 images: DCGAN's, or SNGAN's with spectral normalisation.

    Args:
        name: of the architecture.
        channels: of the images.
        latent: numbers in the noise.
        width: of the generator's and the discriminator's narrowest stage.
        classes: above 0, both are conditional.
    """
    if name == "dcgan":
        generator = DCGANGenerator(channels, latent=latent, width=width, classes=classes)
        return generator, DCGANDiscriminator(channels, width=width, classes=classes)
    generator = SNGANGenerator(channels, latent=latent, width=width, classes=classes)
    return generator, SNGANDiscriminator(channels, width=max(1, width // 2), classes=classes)
