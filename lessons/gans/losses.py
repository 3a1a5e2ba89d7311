"""The losses of a GAN, each a pair: what the discriminator lowers and what the generator lowers, from logits.

With D the discriminator's logit, σ the sigmoid, x real, G(z) generated, all as means over their own mini-batch:

| name | discriminator | generator |
|---|---|---|
| `minimax` | −log σ(D(x)) − log(1 − σ(D(G(z)))) | log(1 − σ(D(G(z)))) |
| `non-saturating` | the same | −log σ(D(G(z))) |
| `least-squares` | ½ (D(x) − 1)² + ½ D(G(z))² | ½ (D(G(z)) − 1)² |
| `hinge` | max(0, 1 − D(x)) + max(0, 1 + D(G(z))) | −D(G(z)) |
| `wasserstein` | D(G(z)) − D(x) | −D(G(z)) |

Sources: Goodfellow et al. 2014, algorithm 1 and section 3 (the first two); Mao et al. 2017 (targets 0 and 1); Lim & Ye
2017 and Miyato et al. 2018 (hinge); Arjovsky et al. 2017 and Gulrajani et al. 2017 (Wasserstein, and its penalty).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.config import nearest
from coursekit.errors import ArgumentError

Critic = Callable[[Tensor], Tensor]
"""From images (b, ...) to logits (b,) or (b, 1); of a conditional one, with its labels filled in."""

Penalty = Callable[[Critic, Tensor, Tensor, torch.Generator], Tensor]
"""Is given the critic, real and generated rows of equal number, and a generator; returns a scalar to add."""


@dataclass(frozen=True)
class AdversarialLoss:
    """One pair of losses.

    Attributes:
        name: what figures call it.
        discriminator: of the logits of real and of generated rows, which may differ in number; a scalar.
        generator: of the logits of generated rows; a scalar.
        zero_sum: whether the generator's loss is minus the generated rows' part of the discriminator's, so that
            one backward pass gives both gradients.
    """

    name: str
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    zero_sum: bool = False


def adversarial_loss(name: str) -> AdversarialLoss:
    """Return one of `LOSSES` by its name.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name not in LOSSES:
        close = nearest(name, list(LOSSES))
        raise ArgumentError(
            "adversarial_loss",
            f"one of {', '.join(LOSSES)}",
            got=repr(name),
            fix=f"did you mean {close}?" if close else "choose one of them",
        )
    return LOSSES[name]


def _classified(logits: Tensor, label: float) -> Tensor:
    """Return the mean cross entropy (nats) of logits whose rows all have one label; finite for any finite logit."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _distance(logits: Tensor, target: float) -> Tensor:
    return F.mse_loss(logits, torch.full_like(logits, target)) / 2


def _margin(logits: Tensor) -> Tensor:
    # PyTorch's name for max(0, 1 - logits), averaged, when every target is -1.
    return F.hinge_embedding_loss(logits, torch.full_like(logits, -1))


def _raised(logits: Tensor) -> Tensor:
    return logits.mean().neg()


LOSSES = {
    loss.name: loss
    for loss in (
        AdversarialLoss(
            "minimax",
            lambda real, fake: _classified(real, 1) + _classified(fake, 0),
            lambda fake: _classified(fake, 0).neg(),
            zero_sum=True,
        ),
        AdversarialLoss(
            "non-saturating",
            lambda real, fake: _classified(real, 1) + _classified(fake, 0),
            lambda fake: _classified(fake, 1),
        ),
        AdversarialLoss(
            "least-squares",
            lambda real, fake: _distance(real, 1) + _distance(fake, 0),
            lambda fake: _distance(fake, 1),
        ),
        AdversarialLoss("hinge", lambda real, fake: _margin(real) + _margin(-fake), _raised),
        AdversarialLoss("wasserstein", lambda real, fake: fake.mean() - real.mean(), _raised, zero_sum=True),
    )
}
"""The losses by name."""


@dataclass(frozen=True)
class GradientPenalty:
    """λ · mean((‖∇D(x̂)‖ − 1)²) at random points x̂ between real and generated rows: Gulrajani et al. 2017, equation 3.

    The norm is taken row by row over all of a row's numbers, so a critic must not couple rows: no BatchNorm in it.

    Attributes:
        weight: λ; 10 in the paper.
    """

    weight: float = 10.0

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Return the penalty, a scalar that the critic's weights can be differentiated by.

        Args:
            critic: whose slope is penalised.
            real: rows (b, ...).
            fake: generated rows of the same shape.
            generator: draws one place between the two for each row, on their device.

        Raises:
            ArgumentError: the shapes differ.
        """
        norms = slope_norms(critic, between(real, fake, generator), differentiable=True)
        return self.weight * F.mse_loss(norms, torch.ones_like(norms))


def between(real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Return one random point on the line from each real row to its generated one, without a gradient.

    Raises:
        ArgumentError: the shapes differ.
    """
    if real.shape != fake.shape:
        raise ArgumentError(
            "gradient penalty",
            "as many generated rows as real ones, of one shape",
            got=f"{tuple(real.shape)} and {tuple(fake.shape)}",
            fix="cut the longer one",
        )
    places = torch.empty(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return torch.lerp(real.detach(), fake.detach(), places.uniform_(generator=generator))


def slope_norms(critic: Critic, points: Tensor, *, differentiable: bool = False) -> Tensor:
    """Return ‖∇D‖ at each row, (b,): of rows that the critic does not couple.

    Args:
        critic: whose slope is asked for.
        points: rows (b, ...).
        differentiable: whether the norms can be differentiated by the critic's weights.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        # The sum's gradient holds every row's own one, since no row has a part in another's logit.
        slopes = torch.autograd.grad(critic(points).sum(), points, create_graph=differentiable)[0]
    return torch.linalg.vector_norm(slopes.flatten(1), dim=1)
