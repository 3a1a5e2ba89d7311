"""Recipes: a pair of losses and what is added to it, made into two networks that learn against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from coursekit.data import Data
from coursekit.harness.learner import LearnerCode
from lessons.gans.adversarial import Adversarial, Score, Step, Update
from lessons.gans.config import BASELINE, CURE, Config, Ring
from lessons.gans.losses import AdversarialLoss, Critic, GradientPenalty, Penalty, adversarial_loss
from lessons.gans.networks import (
    Constraint,
    DCGANDiscriminator,
    DCGANGenerator,
    PerceptronDiscriminator,
    PerceptronGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
    unconstrained,
)

_SMALL = 0.1  # of the learning rate, with small_steps


@dataclass(frozen=True)
class Learning:
    """How two networks learn, apart from the recipe.

    Attributes:
        shape: of one row.
        network: `perceptron`, `dcgan` or `sngan`.
        latent: numbers in one row of noise.
        width: of both networks.
        lr: learning rate of Adam.
        betas: of Adam.
        critic_steps: steps of the discriminator for each of the generator, in recipes that ask for more than one.
        penalty: weight of the gradient penalty.
        decay: of the generator's moving average.
        gain: what multiplies the logits under spectral normalisation.
        classes: above 0, both networks are conditional.
        update: whether the two networks step in turn or together.
    """

    shape: tuple[int, ...]
    network: str = "perceptron"
    latent: int = 16
    width: int = 128
    lr: float = 5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    critic_steps: int = 3
    penalty: float = 10.0
    decay: float = 0.98
    gain: float = 1.0
    classes: int = 0
    update: Update = "alternating"

    @classmethod
    def of_images(cls, config: Config, data: Data) -> Learning:
        """Return the settings of the lesson's GAN for images."""
        gan = config.gan
        return cls(
            data.input_shape,
            network=gan.network,
            latent=gan.latent,
            width=gan.width,
            lr=gan.lr,
            betas=gan.betas,
            critic_steps=gan.critic_steps,
            penalty=gan.penalty,
            decay=gan.decay,
            update=gan.update,
        )

    @classmethod
    def of_points(cls, ring: Ring) -> Learning:
        """Return the settings for the ring of Gaussians."""
        return cls(
            (2,),
            latent=ring.latent,
            width=ring.width,
            lr=ring.lr,
            betas=ring.betas,
            penalty=ring.penalty,
            gain=ring.gain,
        )


@dataclass(frozen=True)
class Parts:
    """What a learner may put in the place of ours.

    Attributes:
        losses: by name.
        penalty: from its weight to the penalty.
        constraint: spectral normalisation of a layer.
        step: one step of both networks, or None for ours.
    """

    losses: dict[str, AdversarialLoss] = field(default_factory=dict)
    penalty: Callable[[float], Penalty] = GradientPenalty
    constraint: Constraint = spectral_norm
    step: Step | None = None


def critic_steps(recipe: str, learning: Learning) -> int:
    """Return how many steps the discriminator takes for each of the generator."""
    remedies = recipe.split("+")[1:]
    return learning.critic_steps if {"penalty", "critic_steps"} & {*remedies} else 1


def build(
    recipe: str,
    learning: Learning,
    *,
    seed: int,
    grid_epochs: Sequence[int] = (),
    grid_rows: int = 36,
    score: Score | None = None,
    parts: Parts | None = None,
) -> Adversarial:
    """Return a generator and a discriminator that learn by a recipe; their first weights come from the global seed."""
    parts = parts or Parts()
    loss, *remedies = recipe.split("+")
    constraint = parts.constraint if "spectral_norm" in remedies else unconstrained
    generator, discriminator = networks(learning, constraint, penalised="penalty" in remedies)
    optimizer = partial(
        torch.optim.Adam,
        lr=learning.lr * (_SMALL if "small_steps" in remedies else 1),
        betas=(0.0 if "no_momentum" in remedies else learning.betas[0], learning.betas[1]),
    )
    return Adversarial(
        generator,
        discriminator,
        latent=learning.latent,
        loss=parts.losses.get(loss) or adversarial_loss(loss),
        generator_optimizer=optimizer,
        penalty=parts.penalty(learning.penalty) if "penalty" in remedies else None,
        critic_steps=critic_steps(recipe, learning),
        update="alternating" if parts.step else learning.update,
        classes=learning.classes,
        decay=learning.decay,
        seed=seed,
        grid_epochs=grid_epochs,
        grid_rows=grid_rows,
        score=score,
        step=parts.step,
    )


def networks(learning: Learning, constraint: Constraint, *, penalised: bool) -> tuple[nn.Module, nn.Module]:
    """Return a generator and a discriminator, freshly initialised.

    Args:
        learning: which networks, and how large.
        constraint: is laid on the discriminator's layers.
        penalised: whether a gradient penalty will be taken, which BatchNorm in the discriminator would falsify.
    """
    shape, latent, width, classes = learning.shape, learning.latent, learning.width, learning.classes
    if learning.network == "perceptron":
        generator = PerceptronGenerator(shape, latent=latent, width=width, classes=classes, squash=len(shape) == 3)
        gain = 1.0 if constraint is unconstrained else learning.gain
        return generator, PerceptronDiscriminator(shape, width=width, classes=classes, constraint=constraint, gain=gain)
    if learning.network == "dcgan":
        generator = DCGANGenerator(shape[0], latent=latent, width=width, classes=classes)
        plain = not penalised and constraint is unconstrained
        return generator, DCGANDiscriminator(
            shape[0], width=width, classes=classes, batch_norm=plain, constraint=constraint
        )
    generator = SNGANGenerator(shape[0], latent=latent, width=width, classes=classes)
    return generator, SNGANDiscriminator(shape[0], width=max(1, width // 2), classes=classes, constraint=constraint)


# ---------------------------------------------------------------------------------------------- the learner's own


@dataclass(frozen=True)
class MyPenalty:
    """The learner's gradient penalty, called as ours is.

    Attributes:
        weight: λ.
        penalty: `gradient_penalty(D, real, fake, lam, g)`.
    """

    weight: float
    penalty: Callable[..., Tensor]

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Return the penalty of rows between real and generated ones."""
        return self.penalty(_AsModule(critic), real, fake, self.weight, generator)


class _AsModule(nn.Module):
    """A critic with its labels filled in, where a module is asked for."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, rows: Tensor) -> Tensor:
        return self.critic(rows)


def my_parts(mine: LearnerCode) -> tuple[dict[str, Parts], list[str]]:
    """Return, for each recipe, what of it the learner has written; and what of the lesson is not written yet."""
    found: dict[str, Parts] = {}
    missing = [name for name in NAMES if not mine.has(name)]

    def written(*names: str) -> bool:
        return not {*names} & {*missing}

    def loss(name: str, discriminator: Callable[..., Any], generator: Callable[[Tensor], Tensor]) -> Parts:
        return Parts(losses={name: AdversarialLoss(f"my {name}", discriminator, generator)})

    if written("d_loss", "g_loss"):
        found[BASELINE] = loss(BASELINE, mine.d_loss, partial(mine.g_loss, kind="non_saturating"))
    if written("ls_losses"):
        found["least-squares"] = _paired("least-squares", mine.ls_losses)
    if written("hinge_losses"):
        found["hinge"] = _paired("hinge", mine.hinge_losses)
    if written("gradient_penalty"):
        found[CURE] = Parts(penalty=partial(MyPenalty, penalty=mine.gradient_penalty))
    if written("SpectralNorm"):
        recipe = "hinge+spectral_norm"
        found[recipe] = replace(found.get("hinge", Parts()), constraint=partial(_constrained, mine.SpectralNorm))
    if written("gan_step"):
        found["gan_step"] = Parts(step=mine.gan_step)
    return found, missing


NAMES = (
    "d_loss",
    "g_loss",
    "ls_losses",
    "hinge_losses",
    "gan_step",
    "gradient_penalty",
    "SpectralNorm",
    "frechet_distance",
)
"""What `--mine` takes from a learner's file."""


def _paired(name: str, losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Parts:
    """Return a pair of losses from a function that gives both."""
    pair = AdversarialLoss(
        f"my {name}", lambda real, fake: losses(real, fake)[0], lambda fake: losses(torch.zeros_like(fake), fake)[1]
    )
    return Parts(losses={name: pair})


def _constrained(kind: Callable[[Tensor], nn.Module], layer: nn.Module) -> nn.Module:
    """Lay the learner's spectral normalisation on a layer, as PyTorch's own does it."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    parametrize.register_parametrization(layer, "weight", kind(weight))
    return layer
