"""Image-to-image translation between two domains without pairs, by adversarial losses and cycle consistency.

Two generators, G: A → B and F: B → A, each with a discriminator of the domain that it makes. Without pairs nothing says
which image of B belongs to one of A; the cycle's error, mean |F(G(a)) − a| + mean |G(F(b)) − b| times λ, asks that the
way there and back leads home (Zhu et al. 2017, equations 1 to 3, with the least-squares loss as there). It does not
forbid a swap of two classes on the way there that is undone on the way back: what a translation keeps must be measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import Data, Split
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError
from coursekit.harness.module import Module, OptimizerFactory, fuse
from lessons.gans.losses import AdversarialLoss, adversarial_loss

Change = Callable[[Tensor], Tensor]
"""Turns images (n, c, h, w) of the first domain into their partners of the second."""

DOMAINS: dict[str, Change] = {
    "inverted": torch.neg,
    "mirrored": lambda images: images.flip(3),
    "turned": lambda images: images.rot90(1, (2, 3)),
}
"""Second domains of images in [-1, 1] by name, each its own known partner of every image; a score needs to know it."""


def unpaired(data: Data, change: Change, *, repeats: int = 1) -> Data:
    """Return two domains as one data set: rows (n, 2, c, h, w) with an image of each.

    In the training part no image of the second domain is the partner of any of the first: one half of the rows gives
    the first domain, the other half is changed. In validation and test parts the two are partners, so that a
    translation can be compared with what it should be; targets are the class numbers of the first.

    Args:
        data: images in [-1, 1], see `in_tanh_range`.
        change: makes the second domain.
        repeats: how often the training part stands in an epoch.

    Raises:
        ArgumentError: the data are no images.
    """
    if len(data.input_shape) != 3:
        raise ArgumentError("unpaired", "images (n, c, h, w)", got=data.input_shape, fix="name an image data set")
    half = len(data.train) // 2
    images, labels = data.train.inputs, data.train.targets[:half]
    both = torch.stack([images[:half], change(images[half : 2 * half])], 1)
    train = Split(both.repeat(repeats, 1, 1, 1, 1), labels.repeat(repeats))
    pairs = (Split(torch.stack([x.inputs, change(x.inputs)], 1), x.targets) for x in (data.validation, data.test))
    return replace(data, train=train, **dict(zip(("validation", "test"), pairs, strict=True)))


class Translator(nn.Module):
    """Images to images of the same shape: a perceptron over all pixels, whose hidden layers are `width` wide.

    Any pixel may move anywhere: nothing in it says that a translation leaves an image's parts in their places.

    Args:
        shape: (c, h, w).
        width: of the two hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 128) -> None:
        super().__init__()
        pixels = torch.Size(shape).numel()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, pixels),
            nn.Tanh(),
            nn.Unflatten(1, shape),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return images (b, c, h, w) in (-1, 1)."""
        return self.layers(images)


class LocalTranslator(nn.Module):
    """Images to images of the same shape, by three 3 × 3 convolutions: what comes out depends on what is near.

    Args:
        channels: of the images.
        width: channels in between.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        sizes = [channels, width, width, channels]
        parts = [
            part
            for before, after in itertools.pairwise(sizes)
            for part in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
        ]
        self.layers = nn.Sequential(*parts[:-1], nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        """Return images (b, c, h, w) in (-1, 1)."""
        return self.layers(images)


class Translation(nn.Module):
    """Both generators and both discriminators."""

    def __init__(self, there: nn.Module, back: nn.Module, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.there, self.back = there, back
        self.first_critic, self.second_critic = first, second

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the first domain translated to the second."""
        return self.there(images)

    @property
    def generators(self) -> list[nn.Parameter]:
        """Weights of both generators."""
        return [*self.there.parameters(), *self.back.parameters()]

    @property
    def critics(self) -> list[nn.Parameter]:
        """Weights of both discriminators."""
        return [*self.first_critic.parameters(), *self.second_critic.parameters()]


class CycleGAN(Module):
    """Translation both ways, learned from two heaps of images.

    A step changes both discriminators, then both generators against them. The history's columns: `loss` (of the
    discriminators), `g_loss` (adversarial, of the generators), `cycle` (mean |·| of the ways there and back, added);
    on the validation part `val_cycle` (of the first domain's way alone), `val_error` (mean |·| from the true partner)
    and, with a judge, `val_accuracy`.

    Args:
        there: generator from the first domain to the second.
        back: the other way.
        critics: discriminators of the first and the second domain; images (b, c, h, w) to logits (b,).
        optimizer: builds the generators' optimizer, and the discriminators'.
        weight: λ; 10 in the paper; 0 leaves the cycle out. The identity is the cheapest cycle of all: should both
            generators stay there, less weight lets them go.
        loss: the pair of adversarial losses; least squares in the paper.
        judge: gives class logits (b, classes) of images of the second domain; its accuracy on translations says
            whether they keep their class.

    Raises:
        ArgumentError: a negative weight, or not two discriminators.
    """

    def __init__(
        self,
        there: nn.Module,
        back: nn.Module,
        critics: Sequence[nn.Module],
        *,
        optimizer: OptimizerFactory,
        weight: float = 10.0,
        loss: AdversarialLoss | None = None,
        judge: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if weight < 0 or len(critics) != 2:
            got = f"{weight}, {len(critics)}"
            raise ArgumentError("CycleGAN", "a weight from 0 up, and two discriminators", got=got, fix="mend that")
        super().__init__(Translation(there, back, *critics), optimizer=optimizer)
        self.weight, self.loss = weight, loss or adversarial_loss("least-squares")
        self.judge = [judge]  # in a list: a judge that is a module is no part of what is trained

    @property
    def translation(self) -> Translation:
        """The four networks."""
        assert isinstance(self.network, Translation)
        return self.network

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Build the optimizer of the generators, and that of the discriminators."""
        both = [self.make_optimizer(self.translation.generators), self.make_optimizer(self.translation.critics)]
        if self.fused:
            for optimizer in both:
                fuse(optimizer)
        return both

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        """Step the discriminators, then the generators, on one mini-batch of unpaired images (b, 2, c, h, w)."""
        networks = self.translation
        first, second = batch[0].unbind(1)
        with self.mixed_precision():
            fake_second, fake_first = networks.there(first), networks.back(second)
            judged = ((networks.first_critic, first, fake_first), (networks.second_critic, second, fake_second))
            d_loss = torch.stack(
                [self.loss.discriminator(critic(real), critic(fake.detach())) for critic, real, fake in judged]
            ).sum()
        generators, critics = self.trainer.strategy.optimizers
        critics.zero_grad()
        d_loss.backward(inputs=networks.critics)
        critics.step()
        with self.mixed_precision():
            g_loss = torch.stack([self.loss.generator(critic(fake)) for critic, _, fake in judged]).sum()
            home = F.l1_loss(networks.back(fake_second), first) + F.l1_loss(networks.there(fake_first), second)
            loss = g_loss + self.weight * home
        generators.zero_grad()
        loss.backward(inputs=networks.generators)
        generators.step()
        # Not finite as soon as one of them is not: the harness looks at one column to tell a divergence.
        return {"loss": (d_loss + 0 * loss).detach(), "g_loss": g_loss.detach(), "cycle": home.detach()}

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cycle's error, the distance from the true partners, and the judge's accuracy, row by row."""
        (first, second), labels = batch[0].unbind(1), batch[1]
        made = self.translation.there(first)
        values = {
            "cycle": (self.translation.back(made) - first).abs().flatten(1).mean(1),
            "error": (made - second).abs().flatten(1).mean(1),
        }
        judge = self.judge[0]
        return values if judge is None else values | {"accuracy": judge(made).argmax(-1) == labels}

    def extra_repr(self) -> str:
        """Say everything that changes the history: a checkpoint of other settings is not continued."""
        return f"weight={self.weight}, loss={self.loss.name}"
