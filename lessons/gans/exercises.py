"""Your exercises: write each body below, then run pytest on this folder.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. PyTorch's own version
of an exercise is blocked while that exercise is graded. N counts samples; G is the generator and D the discriminator,
which is called a critic where its output is no probability's logit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the discriminator's loss: the cross entropy of calling real samples real and generated ones generated.

        loss = −mean(log σ(real)) − mean(log(1 − σ(fake)))

    Each mean is over all elements of its own tensor: real and generated samples weigh the same in all, however many
    there are of each.

    Args:
        real_logits: D's output for real samples: (N,), (N, 1), or any other shape; at least one element.
        fake_logits: D's output for generated samples; its number of samples may differ.

    Returns:
        The loss in nats, shape (), with the logits' dtype. It is finite for any finite logit: for −200 as for 200,
        where σ rounds to 0 and 1. At logits of zero it is 2 · log 2.

    Source: Goodfellow et al. 2014, equation 1, as a loss; the sum of two
    `torch.nn.functional.binary_cross_entropy_with_logits`.
    """
    raise NotImplementedError("G1: write d_loss")


def g_loss(fake_logits: Tensor, kind: str = "non_saturating") -> Tensor:
    """Return the generator's loss; the generator minimises it.

        kind              loss
        non_saturating    −mean(log σ(fake))
        minimax           mean(log(1 − σ(fake)))

    Both push the logits up. Where D is sure (very negative logits), the slope of minimax dies out, and that of the
    non-saturating loss stays at −1.

    Args:
        fake_logits: D's output for generated samples: (N,), (N, 1), or any other shape; at least one element.
        kind: one of the two names above.

    Returns:
        The loss in nats, shape (), with the logits' dtype; finite for any finite logit.

    Raises:
        ValueError: the kind is neither of the two.

    Source: Goodfellow et al. 2014, equation 1 (minimax) and the end of section 3 (non-saturating).
    """
    raise NotImplementedError("G1: write g_loss")


def ls_losses(real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of the least-squares GAN, with the labels 1 for real and 0 for generated.

        d = ½ · mean((real − 1)²) + ½ · mean(fake²)
        g = ½ · mean((fake − 1)²)

    Args:
        real_scores: D's output for real samples, any shape; at least one element.
        fake_scores: D's output for generated samples; its number of samples may differ.

    Returns:
        (d, g), in that order, each of shape () and with the scores' dtype. Gradients flow into both arguments, as
        the formulas say: whoever wants to spare the generator hands in scores of detached samples.

    Source: Mao et al. 2017, equation 9.
    """
    raise NotImplementedError("G2: write ls_losses")


def hinge_losses(real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of the hinge GAN.

        d = mean(max(0, 1 − real)) + mean(max(0, 1 + fake))
        g = −mean(fake)

    D stops where it is right by a margin of 1; G has no such rest.

    Args:
        real_scores: D's output for real samples, any shape; at least one element.
        fake_scores: D's output for generated samples; its number of samples may differ.

    Returns:
        (d, g), in that order, each of shape () and with the scores' dtype. Gradients flow into both arguments.

    Source: Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17.
    """
    raise NotImplementedError("G2: write hinge_losses")


def gan_step(
    G: nn.Module,
    D: nn.Module,
    opt_g: torch.optim.Optimizer,
    opt_d: torch.optim.Optimizer,
    real: Tensor,
    z: Callable[[int], Tensor],
) -> tuple[Tensor, Tensor]:
    """Train both networks by one step each, D first, with the discriminator's loss and the non-saturating one.

        1. D's step: loss = mean(softplus(−D(real))) + mean(softplus(D(fake))), fake = G(z(N)). Only D changes;
           nothing is added to the gradients of G.
        2. G's step, with *fresh* noise and D as it is now: loss = mean(softplus(−D(fake))), fake = G(z(N)). Only G
           changes.

    Each step uses the gradient of its own loss alone: what a `.grad` held before, from another step or another
    network's loss, never enters it.

    Args:
        G: maps noise (N, latent) to samples (N, ...).
        D: maps samples (N, ...) to logits (N,) or (N, 1). It treats rows alone: no BatchNorm.
        opt_g: holds G's parameters.
        opt_d: holds D's parameters.
        real: N real samples (N, ...).
        z: `z(n)` draws n rows of noise, (n, latent), new ones at each call. Call it once in each of the two steps.

    Returns:
        (D's loss, G's loss), in that order, each before its step and of shape (), without a graph. As tensors, not
        as floats: reading a number would wait for the GPU.

    Both networks are left as they were found but for their parameters: in the mode (training or evaluation) that
    they were in, and with every parameter still open to gradients.

    Source: Goodfellow et al. 2014, algorithm 1, with k = 1.
    """
    raise NotImplementedError("G3: write gan_step")


def gradient_penalty(D: nn.Module, real: Tensor, fake: Tensor, lam: float, g: torch.Generator) -> Tensor:
    """Return the penalty that keeps the length of a critic's gradient near 1, between real and generated samples.

        x̂_i     = ε_i · real_i + (1 − ε_i) · fake_i              one ε_i, uniform on [0, 1), for each sample i
        penalty = lam · mean over i of (‖∇D(x̂_i)‖₂ − 1)²         ∇ by x̂_i; the norm is over all its elements

    (1 − ε in the place of ε is the same in distribution, and as good.)

    Args:
        D: the critic; maps samples (N, ...) to scores (N,) or (N, 1).
        real: real samples (N, ...), at least two axes.
        fake: generated samples, shaped like real.
        lam: weight of the penalty; Gulrajani et al. take 10.
        g: draws every ε, and lies on the samples' device. PyTorch's global generator stays as it is.

    Returns:
        The penalty, shape (), with the samples' dtype. Its gradient reaches D's parameters (through the gradient of D:
        the graph of a gradient), and nothing else: both kinds of samples are constants here, also where `fake` comes
        with the generator's graph. Where D is flat (∇D = 0), a sample adds lam / N, and its gradient is finite.
        Calling the function leaves every `.grad` as it was.

    Raises:
        ValueError: D holds a BatchNorm in training mode: it couples the samples of a batch, and then no sample has a
            gradient of its own.

    Source: Gulrajani et al. 2017, equation 3 and section 4.
    """
    raise NotImplementedError("G4: write gradient_penalty")


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value, as PyTorch's parametrization of a layer.

        layer = nn.Conv2d(3, 8, 3)
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))

    From then on `layer.weight` is what `forward` returns of the trained, raw weight W. The matrix M of a weight is
    W itself for a Linear (out, in), and W flattened to (out, everything else) for a convolution. Two buffers, which
    a checkpoint keeps, follow its largest singular value σ:

        u    (out,)               left singular vector, of length 1
        v    (everything else,)   right singular vector, of length 1
        σ  = u · M · v

    and one iteration of the power method is

        u ← M · v / ‖M · v‖₂
        v ← Mᵀ · u / ‖Mᵀ · u‖₂           with the new u; each length is taken as at least eps

    Note what it bounds: the matrix M. A convolution as a whole can stretch its input by more than that.

    Args:
        weight: the raw weight, at least two axes, the first of them counting outputs. Only its shape, dtype and
            device are kept, and its numbers for the first v.
        n_power_iterations: iterations in each training-mode forward, at least 1.
        eps: smallest length to divide by.

    Source: Miyato et al. 2018, algorithm 1; equals `torch.nn.utils.parametrizations.spectral_norm`.
    """

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, eps: float = 1e-12) -> None:
        """Register the buffers: u drawn from the normal distribution, of length 1; v = Mᵀ · u, of length 1."""
        raise NotImplementedError("G5: write SpectralNorm.__init__")

    def forward(self, weight: Tensor) -> Tensor:
        """Return weight / σ, shaped like weight.

        In training mode u and v are first improved by `n_power_iterations`; in evaluation mode they stay as they are.
        u and v are constants for the gradient, σ is not: it depends on the weight through M. Several forwards may
        come before one backward.
        """
        raise NotImplementedError("G5: write SpectralNorm.forward")


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    """Return the Fréchet distance between two normal distributions.

        d² = ‖μ₁ − μ₂‖² + tr(Σ₁) + tr(Σ₂) − 2 · tr((Σ₁ · Σ₂)^½)

    The root is the matrix root, and its trace is the sum of the square roots of the eigenvalues of Σ₁ · Σ₂, which are
    real and at least 0 although the product is not symmetric. A covariance from fewer samples than dimensions has no
    full rank: then some of them are 0, and come out of any computation as tiny numbers of either sign.

    Args:
        mu1, mu2: means (d,), floating.
        cov1, cov2: covariances (d, d): symmetric, no eigenvalue below 0, perhaps of lower rank than d.

    Returns:
        d², shape (), real, with the dtype and on the device of mu1. It is computed in float64 whatever comes in:
        a root makes an error of 10⁻⁷ in an eigenvalue one of 3 · 10⁻⁴.

    Source: Dowson & Landau 1982; Heusel et al. 2017, equation 6 (they call d² the FID; so does `torchmetrics`).
    """
    raise NotImplementedError("G6: write frechet_distance")


def train_gan(
    G: nn.Module,
    D: nn.Module,
    opt_g: torch.optim.Optimizer,
    opt_d: torch.optim.Optimizer,
    batches: Iterable[Tensor],
    z: Callable[[int], Tensor],
    *,
    g: torch.Generator,
) -> nn.Module:
    """Train a generator of digits that does not collapse. The method is yours.

        for real in batches:
            gan_step(G, D, opt_g, opt_d, real, z)
        return G

    runs, and loses digits on every seed: about seven of ten classes are left, some seeds keep three. Losses, penalties,
    the number of steps of each network, averages of the weights, other networks and other optimizers: change whatever
    you like, and use whatever you wrote for the other exercises, which then has to be in this file too.

    Args:
        G: 16 → 128 → 64 with ReLU, and a sigmoid at its end: images of 8 × 8 pixels as rows (N, 64).
        D: 64 → 128 → 1 with leaky ReLU of slope 0.2; scores (N, 1).
        opt_g: Adam for G, with lr 0.006 and betas (0.5, 0.9).
        opt_d: the same for D.
        batches: 300 mini-batches of real digits, (64, 64) each, brightness from 0 to 1: an iterator that can be walked
            once. They are all the data there is; put them into a list to use them again.
        z: `z(n)` draws n rows of noise, (n, 16), from the standard normal distribution.
        g: for whatever else you draw, such as the ε of a gradient penalty.

    Returns:
        A module that maps noise (N, 16) to images (N, 64) with brightness from 0 to 1: G itself, or another. It is
        used as it is returned, without any call of `eval`, and each image must follow from its own row of noise alone.

    What is asked, each time with networks, batches and noise that were drawn anew, and within 60 seconds:
        classes     of 2000 images, at least 3 show the class clearly, for 9 of the 10 classes or more. A classifier
                    that was trained on other digits decides, and images between two classes count for none
        distance    the Fréchet distance to other digits, on their 16 leading principal components, is 1.0 or less.
                    Real digits reach 0.04, uniform noise 2.4, the loop above about 2
        no copies   the median distance of an image to the nearest row of `batches` is at least 0.8 times that of
                    digits that are not in there, and a small step of the noise is a small step of the image

    Source: Mescheder, Geiger & Nowozin 2018, equation 9 with γ = 2, is what our solution does; others will do.
    """
    raise NotImplementedError("G7: write train_gan")
