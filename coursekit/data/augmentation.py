"""Data augmentation on whole mini-batches, on the device where they lie: crops, flips, mixup and CutMix.

An augmentation is called with a mini-batch (inputs, targets) and returns one. torchvision's transforms draw once for
all images of a batch; `RandomCrop` and `RandomFlip` draw for each image, without a loop over them. `Mixup` and `CutMix`
return targets (b, classes) that are shares of the classes, as `torchvision.transforms.v2` does, and
`F.cross_entropy` takes them as they are.

All random numbers come from CPU generators, so that a GPU is never waited for. Without a generator of its own an
augmentation takes PyTorch's global one, whose state a checkpoint keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError

Augmentation = Callable[[Batch], Batch]


@dataclass(frozen=True)
class RandomCrop:
    """Move each image by up to `padding` pixels in both directions; what comes in at the border is `fill`.

    Args:
        padding: pixels, at least 1; each of the (2 padding + 1)² positions has the same probability.
        fill: the value outside the image, in the units of the (normalised) input; `Data.low` is black.
        generator: see the module's head.

    Raises:
        ArgumentError: padding below 1.
    """

    padding: int
    fill: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.padding < 1:
            raise ArgumentError("RandomCrop", "a padding of 1 pixel or more", got=self.padding, fix="leave it out")

    def __call__(self, batch: Batch) -> Batch:
        """Take images (b, c, h, w) and their targets; return the moved images with the same targets."""
        images, targets = _images("RandomCrop", batch)
        b, _, h, w = images.shape
        padded = F.pad(images, [self.padding] * 4, value=self.fill)
        corners = torch.randint(2 * self.padding + 1, (2, b), generator=self.generator).to(images.device)
        rows = corners[0, :, None] + torch.arange(h, device=images.device)  # (b, h)
        columns = corners[1, :, None] + torch.arange(w, device=images.device)  # (b, w)
        image = torch.arange(b, device=images.device)[:, None, None]
        moved = padded.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]]  # (b, h, w, c)
        return moved.movedim(-1, 1), targets


@dataclass(frozen=True)
class RandomFlip:
    """Mirror each image left to right with probability one half. Not for digits: a mirrored 2 is none.

    Args:
        generator: see the module's head.
    """

    generator: torch.Generator | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Take images (b, c, h, w) and their targets; return some images mirrored, with the same targets."""
        images, targets = _images("RandomFlip", batch)
        flipped = (torch.rand(len(images), generator=self.generator) < 0.5).to(images.device)
        return torch.where(flipped[:, None, None, None], images.flip(-1), images), targets


@dataclass(frozen=True)
class Mixup:
    """Blend each row with its neighbour in the mini-batch, labels and all: x' = λ x + (1 - λ) x[next].

    The mini-batches are shuffled, so the neighbour is a random partner.

    Args:
        classes: how many there are.
        alpha: λ ~ Beta(alpha, alpha), one for the mini-batch; above 0.
        generator: see the module's head.

    Raises:
        ArgumentError: alpha is not above 0.

    Source: Zhang, Cisse, Dauphin & Lopez-Paz 2018; equals `torchvision.transforms.v2.MixUp`.
    """

    classes: int
    alpha: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        _check_alpha("Mixup", self.alpha)

    def __call__(self, batch: Batch) -> Batch:
        """Take inputs (b, ...) and class numbers (b,) or shares (b, classes); return inputs and shares."""
        inputs, targets = batch
        share = _beta(self.alpha, self.generator)
        return inputs.lerp(inputs.roll(1, 0), 1 - share), _mixed(targets, share, self.classes)


@dataclass(frozen=True)
class CutMix:
    """Paste a box of its neighbour in the mini-batch into each image; labels mix by the areas.

    Args:
        classes: how many there are.
        alpha: the box has the share 1 - λ of the area, λ ~ Beta(alpha, alpha), before the border cuts it.
        generator: see the module's head.

    Raises:
        ArgumentError: alpha is not above 0.

    Source: Yun et al. 2019, section 3.1; equals `torchvision.transforms.v2.CutMix`.
    """

    classes: int
    alpha: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        _check_alpha("CutMix", self.alpha)

    def __call__(self, batch: Batch) -> Batch:
        """Take images (b, c, h, w) and class numbers (b,) or shares (b, classes); return images and shares."""
        images, targets = _images("CutMix", batch)
        half = 0.5 * math.sqrt(1 - _beta(self.alpha, self.generator))
        box, area = [], 1.0
        for size in images.shape[2:]:
            centre = int(torch.randint(size, (), generator=self.generator))
            reach = int(half * size)
            low, high = max(centre - reach, 0), min(centre + reach, size)
            box.append(slice(low, high))
            area *= (high - low) / size
        mixed = images.clone()
        mixed[:, :, box[0], box[1]] = images.roll(1, 0)[:, :, box[0], box[1]]
        return mixed, _mixed(targets, 1 - area, self.classes)


@dataclass(frozen=True, init=False)
class Chain:
    """Apply several augmentations one after the other; without any, nothing changes."""

    steps: tuple[Augmentation, ...]

    def __init__(self, *steps: Augmentation) -> None:
        object.__setattr__(self, "steps", steps)

    def __call__(self, batch: Batch) -> Batch:
        """Take a mini-batch through all steps."""
        for step in self.steps:
            batch = step(batch)
        return batch


def _images(where: str, batch: Batch) -> Batch:
    if batch[0].dim() != 4:
        shape = tuple(batch[0].shape)
        raise ArgumentError(where, "images (b, c, h, w)", got=f"inputs {shape}", fix="augment images only")
    return batch


def _check_alpha(where: str, alpha: float) -> None:
    if not alpha > 0:
        raise ArgumentError(where, "an alpha above 0", got=alpha, fix="1 draws all shares alike")


def _beta(alpha: float, generator: torch.Generator | None) -> float:
    """Draw from Beta(alpha, alpha) as a ratio of two Gamma draws; torch.distributions takes no generator."""
    # As logarithms, by Gamma(a) = Gamma(a + 1) · U^(1/a): for a small alpha the draws themselves underflow.
    shapes = torch.full((2,), alpha + 1, dtype=torch.float64)
    logs = torch._standard_gamma(shapes, generator=generator).log()  # pyright: ignore[reportPrivateImportUsage]
    logs += torch.rand(2, dtype=torch.float64, generator=generator).log() / alpha
    return float(torch.sigmoid(logs[0] - logs[1]))


def _mixed(targets: Tensor, share: float, classes: int) -> Tensor:
    """Return the labels' shares (b, classes): `share` of a row's own, the rest of its neighbour's."""
    shares = F.one_hot(targets, classes).float() if targets.dim() == 1 else targets
    return shares.lerp(shares.roll(1, 0), 1 - share)
