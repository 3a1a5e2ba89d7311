"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

# Learners' code: an answer's name is that of its mistake, and some mistakes are such that the tools see them.
# ruff: noqa: N801
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.grading.answers import dialect, wrong

# ---------------------------------------------------------------------------------- G1 d_loss, g_loss


def _entropy(x, y):
    """Return the cross entropy of each logit, from 0 to anything, for labels y."""
    return F.softplus(x) - x * y


@wrong("d_loss", says="Your labels for generated samples have the number of the real ones; give each batch its own.")
def labels_sized_from_the_real_batch(real_logits, fake_logits):
    ones, zeros = torch.ones_like(real_logits), torch.zeros_like(real_logits)
    return _entropy(real_logits, ones).mean() + _entropy(fake_logits, zeros).mean()


@wrong("d_loss", says="log(sigmoid(x)) is −inf where sigmoid rounds to 0 or 1; use softplus, or logsigmoid.")
def d_logarithm_of_sigmoid(real_logits, fake_logits):
    return -torch.log(torch.sigmoid(real_logits)).mean() - torch.log(1 - torch.sigmoid(fake_logits)).mean()


@wrong(
    "d_loss", says="A small eps inside the logarithm cuts the loss and its slope off for large logits; use softplus."
)
def eps_inside_the_logarithm(real_logits, fake_logits):
    real, fake = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
    return -torch.log(real + 1e-8).mean() - torch.log(1 - fake + 1e-8).mean()


@wrong("d_loss", says="Real and generated are swapped: real logits should go up, generated ones down.")
def d_swaps_the_labels(real_logits, fake_logits):
    return F.softplus(real_logits).mean() + F.softplus(-fake_logits).mean()


@wrong("d_loss", says="`n, _ = logits.shape` needs two axes; logits may come as (N,) too.")
def unpacks_two_axes(real_logits, fake_logits):
    (n, _), (m, _) = real_logits.shape, fake_logits.shape
    return F.softplus(-real_logits).sum() / n + F.softplus(fake_logits).sum() / m


@wrong(
    "d_loss", says="You added the terms sample by sample: (N, 1) with (N,) broadcasts to (N, N). Take each mean first."
)
def adds_sample_by_sample(real_logits, fake_logits):
    return (F.softplus(-real_logits) + F.softplus(fake_logits)).sum() / len(real_logits)


@wrong("d_loss", says="You took one mean over real and generated samples together; each kind has its own.")
def d_one_mean_over_both(real_logits, fake_logits):
    return torch.cat([F.softplus(-real_logits).flatten(), F.softplus(fake_logits).flatten()]).mean()


@wrong("d_loss", says="You halved the sum of the two means; at logits of zero the loss is 2 · log 2.")
def d_halves_the_sum(real_logits, fake_logits):
    return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2


@wrong("d_loss", says="You summed over the samples; take the mean of each kind.")
def d_sums(real_logits, fake_logits):
    return F.softplus(-real_logits).sum() + F.softplus(fake_logits).sum()


@wrong("d_loss", says="The term of the generated samples is missing, so D calls everything real.")
def d_forgets_the_generated(real_logits, fake_logits):
    return F.softplus(-real_logits).mean()


@wrong("d_loss", says="The mean over the first axis alone leaves a loss with axes; it should have the shape ().")
def d_mean_over_rows_only(real_logits, fake_logits):
    return F.softplus(-real_logits).mean(0) + F.softplus(fake_logits).mean(0)


@wrong("d_loss", says="You computed in float32 on the way, so float64 inputs lose precision.")
def d_loss_in_float32(real_logits, fake_logits):
    loss = F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()
    return loss.to(real_logits.dtype)


@wrong("d_loss", says="You detached the logits, so nothing can be learned from the loss.")
def d_detaches_the_logits(real_logits, fake_logits):
    loss = F.softplus(-real_logits.detach()).mean() + F.softplus(fake_logits.detach()).mean()
    return loss + 0 * real_logits.sum() + 0 * fake_logits.sum()


@wrong("g_loss", says="You implemented minimax where non-saturating was asked, and the other way round.")
def g_swaps_the_kinds(fake_logits, kind="non_saturating"):
    if kind not in ("non_saturating", "minimax"):
        raise ValueError(kind)
    return F.softplus(-fake_logits).mean() if kind == "minimax" else -F.softplus(fake_logits).mean()


@wrong("g_loss", says="You ignore kind: minimax has another loss than non-saturating.")
def g_is_always_non_saturating(fake_logits, kind="non_saturating"):
    if kind not in ("non_saturating", "minimax"):
        raise ValueError(kind)
    return F.softplus(-fake_logits).mean()


@wrong("g_loss", says="You ignore kind: that is minimax, which saturates, whatever was asked for.")
def g_is_always_minimax(fake_logits, kind="non_saturating"):
    if kind not in ("non_saturating", "minimax"):
        raise ValueError(kind)
    return -F.softplus(fake_logits).mean()


@wrong("g_loss", says="The sign of minimax is wrong: G minimises mean(log(1 − σ)), which is negative.")
def minimax_with_the_sign_of_d(fake_logits, kind="non_saturating"):
    if kind == "non_saturating":
        return F.softplus(-fake_logits).mean()
    if kind == "minimax":
        return F.softplus(fake_logits).mean()
    raise ValueError(kind)


@wrong("g_loss", says="log(sigmoid(x)) is −inf where sigmoid rounds to 0 or 1; use softplus, or logsigmoid.")
def g_logarithm_of_sigmoid(fake_logits, kind="non_saturating"):
    if kind == "non_saturating":
        return -torch.log(torch.sigmoid(fake_logits)).mean()
    if kind == "minimax":
        return torch.log(1 - torch.sigmoid(fake_logits)).mean()
    raise ValueError(kind)


@wrong("g_loss", says="An unknown kind should raise ValueError; yours quietly takes one of the two.")
def g_takes_any_kind(fake_logits, kind="non_saturating"):
    return -F.softplus(fake_logits).mean() if kind == "minimax" else F.softplus(-fake_logits).mean()


@wrong("g_loss", says="You summed over the samples; take the mean.")
def g_sums(fake_logits, kind="non_saturating"):
    if kind not in ("non_saturating", "minimax"):
        raise ValueError(kind)
    return F.softplus(-fake_logits).sum() if kind == "non_saturating" else -F.softplus(fake_logits).sum()


@wrong("g_loss", says="Without a kind, non-saturating is meant; your default is minimax.")
def g_defaults_to_minimax(fake_logits, kind="minimax"):
    if kind not in ("non_saturating", "minimax"):
        raise ValueError(kind)
    return F.softplus(-fake_logits).mean() if kind == "non_saturating" else -F.softplus(fake_logits).mean()


# ------------------------------------------------------------------------ G2 ls_losses, hinge_losses


@wrong("ls_losses", says="The factor ½ is missing in both losses.")
def ls_without_the_half(real_scores, fake_scores):
    return (real_scores - 1).square().mean() + fake_scores.square().mean(), (fake_scores - 1).square().mean()


@wrong("ls_losses", says="You summed over the samples; take the mean of each kind.")
def ls_sums(real_scores, fake_scores):
    d = 0.5 * (real_scores - 1).square().sum() + 0.5 * fake_scores.square().sum()
    return d, 0.5 * (fake_scores - 1).square().sum()


@wrong("ls_losses", says="You took one mean over real and generated samples together; each kind has its own.")
def ls_one_mean_over_both(real_scores, fake_scores):
    errors = torch.cat([(real_scores - 1).flatten(), fake_scores.flatten()])
    return errors.square().mean(), 0.5 * (fake_scores - 1).square().mean()


@wrong("ls_losses", says="G's target is the label of real samples, 1; yours is 0, at which G makes D right.")
def ls_generator_aims_at_zero(real_scores, fake_scores):
    d = 0.5 * (real_scores - 1).square().mean() + 0.5 * fake_scores.square().mean()
    return d, 0.5 * fake_scores.square().mean()


@wrong("ls_losses", says="Real and generated labels are swapped in D's loss: real ones are 1, generated ones 0.")
def ls_swaps_the_labels(real_scores, fake_scores):
    d = 0.5 * real_scores.square().mean() + 0.5 * (fake_scores - 1).square().mean()
    return d, 0.5 * (fake_scores - 1).square().mean()


@wrong("ls_losses", says="You pressed scores through a sigmoid; least squares compares the scores themselves.")
def ls_of_sigmoids(real_scores, fake_scores):
    real, fake = real_scores.sigmoid(), fake_scores.sigmoid()
    d = 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    return d, 0.5 * (fake - 1).square().mean()


@wrong("ls_losses", says="You returned (g, d); the order is (d, g).")
def ls_swaps_its_results(real_scores, fake_scores):
    d = 0.5 * (real_scores - 1).square().mean() + 0.5 * fake_scores.square().mean()
    return 0.5 * (fake_scores - 1).square().mean(), d


@wrong("ls_losses", says="You squared the mean; take the mean of the squares.")
def ls_squares_the_mean(real_scores, fake_scores):
    d = 0.5 * (real_scores.mean() - 1).square() + 0.5 * fake_scores.mean().square()
    return d, 0.5 * (fake_scores.mean() - 1).square()


@wrong("ls_losses", says="The labels are −1 and 1 in your losses; here they are 0 for generated and 1 for real.")
def ls_with_minus_one(real_scores, fake_scores):
    d = 0.5 * (real_scores - 1).square().mean() + 0.5 * (fake_scores + 1).square().mean()
    return d, 0.5 * (fake_scores - 1).square().mean()


@wrong("hinge_losses", says="The generator's hinge loss is −mean(D(G)), without a relu: it would stop learning at 1.")
def generator_with_a_relu(real_scores, fake_scores):
    d = F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
    return d, F.relu(1 - fake_scores).mean()


@wrong("hinge_losses", says="The signs are swapped: D takes relu(1 − real) and relu(1 + fake).")
def hinge_swaps_the_signs(real_scores, fake_scores):
    return F.relu(1 + real_scores).mean() + F.relu(1 - fake_scores).mean(), -fake_scores.mean()


@wrong("hinge_losses", says="The margin of 1 is missing: D would rest as soon as the sign is right.")
def hinge_without_a_margin(real_scores, fake_scores):
    return F.relu(-real_scores).mean() + F.relu(fake_scores).mean(), -fake_scores.mean()


@wrong("hinge_losses", says="You took the relu of the mean; each sample has a margin of its own.")
def relu_of_the_mean(real_scores, fake_scores):
    return F.relu(1 - real_scores.mean()) + F.relu(1 + fake_scores.mean()), -fake_scores.mean()


@wrong("hinge_losses", says="You summed over the samples; take the mean of each kind.")
def hinge_sums(real_scores, fake_scores):
    return F.relu(1 - real_scores).sum() + F.relu(1 + fake_scores).sum(), -fake_scores.sum()


@wrong("hinge_losses", says="You took one mean over real and generated samples together; each kind has its own.")
def hinge_one_mean_over_both(real_scores, fake_scores):
    both = torch.cat([F.relu(1 - real_scores).flatten(), F.relu(1 + fake_scores).flatten()])
    return 2 * both.mean(), -fake_scores.mean()


@wrong("hinge_losses", says="The generator's sign is wrong: it wants its samples scored high.")
def generator_wants_low_scores(real_scores, fake_scores):
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean(), fake_scores.mean()


@wrong("hinge_losses", says="There is no relu in your D: its loss has no floor, which is the Wasserstein critic's.")
def hinge_without_relu(real_scores, fake_scores):
    return (1 - real_scores).mean() + (1 + fake_scores).mean(), -fake_scores.mean()


@wrong("hinge_losses", says="You halved D's two terms; the hinge has no ½.")
def hinge_with_halves(real_scores, fake_scores):
    return (F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()) / 2, -fake_scores.mean()


# --------------------------------------------------------------------------------------- G3 gan_step


def _d_loss(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _g_loss(fake):
    return F.softplus(-fake).mean()


def _step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    return optimizer.step()


@dialect(
    "gan_step", says="You returned floats; reading a number waits for the GPU in every step: return loss.detach()."
)
def returns_floats(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.item(), loss_g.item()


@wrong("gan_step", says="The generated batch was not detached in D's step: its loss went back into G.")
def does_not_detach(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real)))))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="Both gradients were cleared at the beginning only, and D's loss went back into G's step.")
def clears_once_and_does_not_detach(G, D, opt_g, opt_d, real, z):
    opt_g.zero_grad()
    opt_d.zero_grad()
    loss_d = _d_loss(D(real), D(G(z(len(real)))))
    loss_d.backward()
    opt_d.step()
    loss_g = _g_loss(D(G(z(len(real)))))
    loss_g.backward()
    opt_g.step()
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="D's gradients from G's step leak into its next update; clear them before D's backward.")
def never_clears_d(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    loss_d.backward()
    opt_d.step()
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="You cleared D's gradients after its step, and G's step fills them again for the next one.")
def clears_d_too_early(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    loss_d.backward()
    opt_d.step()
    opt_d.zero_grad()
    loss_g = _g_loss(D(G(z(len(real)))))
    loss_g.backward()
    opt_g.step()
    opt_g.zero_grad()
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="G's gradients add up from step to step; clear them before G's backward.")
def never_clears_g(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    loss_g.backward()
    opt_g.step()
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="The batch was detached in G's step too, which kills its gradient: G never learns.")
def detaches_in_the_step_of_g(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real))).detach()))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="You used one z for both steps; G's step wants fresh noise.")
def uses_one_noise(G, D, opt_g, opt_d, real, z):
    fake = G(z(len(real)))
    loss_d = _d_loss(D(real), D(fake.detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(fake))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong(
    "gan_step", says="You drew the noise of both steps at once; ask for it in each step, with one row for each real."
)
def draws_all_noise_at_once(G, D, opt_g, opt_d, real, z):
    first, second = z(2 * len(real)).chunk(2)
    loss_d = _d_loss(D(real), D(G(first).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(second)))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="D stays frozen after G's step; its parameters must want gradients again.")
def leaves_d_frozen(G, D, opt_g, opt_d, real, z):
    D.requires_grad_(True)
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    D.requires_grad_(False)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="D stays in evaluation mode after G's step; leave both networks in the mode they came in.")
def leaves_d_in_evaluation(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    D.eval()
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="You set both networks to training mode; leave them in the mode they came in.")
def sets_training_mode(G, D, opt_g, opt_d, real, z):
    G.train()
    D.train()
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="G was asked about the D of before D's step; it must learn from the D as it is now.")
def asks_the_old_d(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    loss_g = _g_loss(D(G(z(len(real)))))
    opt_g.zero_grad()
    loss_g.backward()
    _step(opt_d, loss_d)
    opt_g.step()
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="G stepped first; D's step comes first.")
def g_steps_first(G, D, opt_g, opt_d, real, z):
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="G's step uses the minimax loss, which saturates; the non-saturating one was asked for.")
def step_of_g_is_minimax(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = -F.softplus(D(G(z(len(real))))).mean()
    _step(opt_g, loss_g)
    return loss_d.detach(), loss_g.detach()


@wrong("gan_step", says="You returned the losses with their graphs, which keeps all memory of the step; detach them.")
def returns_graphs(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_d, loss_g


@wrong("gan_step", says="You returned (G's loss, D's loss); D's comes first.")
def step_swaps_its_results(G, D, opt_g, opt_d, real, z):
    loss_d = _d_loss(D(real), D(G(z(len(real))).detach()))
    _step(opt_d, loss_d)
    loss_g = _g_loss(D(G(z(len(real)))))
    _step(opt_g, loss_g)
    return loss_g.detach(), loss_d.detach()


# ------------------------------------------------------------------------------- G4 gradient_penalty


def _refuse(D):
    for layer in D.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and layer.training:
            raise ValueError("the critic holds a BatchNorm")


def _between(real, fake, g):
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=g, dtype=real.dtype, device=real.device)
    return (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()


def _slope(D, x, create_graph=True):
    return torch.autograd.grad(D(x).sum(), x, create_graph=create_graph)[0]


@wrong(
    "gradient_penalty", says="The norm was taken over the channels only; each sample has one norm over all its axes."
)
def norm_over_channels(D, real, fake, lam, g):
    _refuse(D)
    slope = _slope(D, _between(real, fake, g))
    return lam * (slope.norm(2, dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="You took one norm over the whole batch; every sample has its own.")
def norm_over_the_batch(D, real, fake, lam, g):
    _refuse(D)
    return lam * (_slope(D, _between(real, fake, g)).norm() - 1).square()


@wrong("gradient_penalty", says="create_graph is missing: the penalty has a value, and nobody learns from it.")
def penalty_without_a_graph(D, real, fake, lam, g):
    _refuse(D)
    norms = _slope(D, _between(real, fake, g), create_graph=False).flatten(1).norm(dim=1)
    nothing = 0 * sum(parameter.sum() for parameter in D.parameters())
    return lam * (norms - 1).square().mean() + nothing


@wrong(
    "gradient_penalty",
    says="create_graph is missing: the slope is a constant then, and the penalty has no gradient at all.",
)
def penalty_that_is_a_constant(D, real, fake, lam, g):
    _refuse(D)
    norms = _slope(D, _between(real, fake, g), create_graph=False).flatten(1).norm(dim=1)
    return lam * (norms - 1).square().mean()


@wrong("gradient_penalty", says="ε has the shape of the pixels; one number for each sample keeps x̂ on the line.")
def an_epsilon_for_each_pixel(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(real.shape, generator=g, dtype=real.dtype, device=real.device)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="All samples share one ε; each draws its own.")
def one_epsilon_for_the_batch(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(1, generator=g, dtype=real.dtype, device=real.device)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong(
    "gradient_penalty", says="ε is drawn from the normal distribution; it must be uniform, or x̂ leaves the line's ends."
)
def epsilon_is_normal(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.randn(len(real), *[1] * (real.dim() - 1), generator=g, dtype=real.dtype, device=real.device)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="x̂ is always the middle; draw ε anew for each sample.")
def always_in_the_middle(D, real, fake, lam, g):
    _refuse(D)
    between = (0.5 * real + 0.5 * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong(
    "gradient_penalty", says="You asked for the gradient at the real samples; Gulrajani et al. ask between both kinds."
)
def penalty_at_the_real_samples(D, real, fake, lam, g):
    _refuse(D)
    torch.rand(len(real), generator=g)
    x = real.detach().requires_grad_()
    return lam * (_slope(D, x).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="The target of the norm is 1, not 0.")
def target_is_zero(D, real, fake, lam, g):
    _refuse(D)
    return lam * _slope(D, _between(real, fake, g)).flatten(1).square().sum(1).mean()


@wrong("gradient_penalty", says="You compared the squared norm with 1; the penalty is the square of (norm − 1).")
def squared_norm_minus_one(D, real, fake, lam, g):
    _refuse(D)
    return lam * (_slope(D, _between(real, fake, g)).flatten(1).square().sum(1) - 1).square().mean()


@wrong("gradient_penalty", says="Only slopes above 1 are punished in yours; here those below 1 are too.")
def one_sided_penalty(D, real, fake, lam, g):
    _refuse(D)
    norms = _slope(D, _between(real, fake, g)).flatten(1).norm(dim=1)
    return lam * (norms - 1).relu().square().mean()


@wrong(
    "gradient_penalty",
    says="You took the gradient of the mean score: every sample's gradient came out N times too small.",
)
def gradient_of_the_mean(D, real, fake, lam, g):
    _refuse(D)
    x = _between(real, fake, g)
    slope = torch.autograd.grad(D(x).mean(), x, create_graph=True)[0]
    return lam * (slope.flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="You summed over the samples; take the mean.")
def penalty_sums(D, real, fake, lam, g):
    _refuse(D)
    return lam * (_slope(D, _between(real, fake, g)).flatten(1).norm(dim=1) - 1).square().sum()


@wrong("gradient_penalty", says="lam is missing from what you return.")
def forgets_lam(D, real, fake, lam, g):
    _refuse(D)
    return (_slope(D, _between(real, fake, g)).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="The critic's BatchNorm couples the samples of a batch: refuse it in training mode.")
def takes_batch_norm(D, real, fake, lam, g):
    return lam * (_slope(D, _between(real, fake, g)).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="You refuse every BatchNorm; in evaluation mode it treats samples alone, and is fine.")
def refuses_batch_norm_in_evaluation(D, real, fake, lam, g):
    if any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in D.modules()):
        raise ValueError("the critic holds a BatchNorm")
    return lam * (_slope(D, _between(real, fake, g)).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="The root of a sum of squares has no slope at zero: a flat critic gets NaN gradients.")
def root_of_the_sum(D, real, fake, lam, g):
    _refuse(D)
    norms = _slope(D, _between(real, fake, g)).flatten(1).square().sum(1).sqrt()
    return lam * (norms - 1).square().mean()


@wrong("gradient_penalty", says="An eps under the root moves every norm; vector_norm needs none.")
def eps_under_the_root(D, real, fake, lam, g):
    _refuse(D)
    norms = (_slope(D, _between(real, fake, g)).flatten(1).square().sum(1) + 1e-6).sqrt()
    return lam * (norms - 1).square().mean()


@wrong(
    "gradient_penalty", says="backward() filled the critic's .grad on the way; ask autograd.grad for the one you want."
)
def fills_grad_on_the_way(D, real, fake, lam, g):
    _refuse(D)
    x = _between(real, fake, g)
    D(x).sum().backward(create_graph=True)
    return lam * (x.grad.flatten(1).norm(dim=1) - 1).square().mean()


@wrong(
    "gradient_penalty", says="x̂ still hangs on the samples: the penalty's gradient reaches the generator. Detach it."
)
def reaches_the_generator(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=g, dtype=real.dtype, device=real.device)
    between = epsilon * real + (1 - epsilon) * fake
    between = between if between.requires_grad else between.requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="ε came from PyTorch's global generator; draw it from g.")
def ignores_the_generator(D, real, fake, lam, g):
    _refuse(D)
    return lam * (_slope(D, _between(real, fake, None)).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="ε lies on the default device; draw it on that of the samples.")
def epsilon_on_the_default_device(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=g, dtype=real.dtype)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="ε is always float32, which makes the penalty of bfloat16 samples another dtype.")
def epsilon_is_always_float32(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=g, dtype=torch.float32, device=real.device)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="You seeded a generator of your own; every call then draws the same ε.")
def seeds_by_itself(D, real, fake, lam, g):
    _refuse(D)
    g = torch.Generator(real.device).manual_seed(0)
    return lam * (_slope(D, _between(real, fake, g)).flatten(1).norm(dim=1) - 1).square().mean()


@wrong(
    "gradient_penalty", says="`epsilon.view(-1, 1, 1, 1)` fits images only; give it as many axes as the samples have."
)
def epsilon_for_images_only(D, real, fake, lam, g):
    _refuse(D)
    epsilon = torch.rand(len(real), generator=g, dtype=real.dtype, device=real.device).view(-1, 1, 1, 1)
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    return lam * (_slope(D, between).flatten(1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="`.view(N, -1)` needs memory in order; use flatten or reshape.")
def flattens_with_view(D, real, fake, lam, g):
    _refuse(D)
    slope = _slope(D, _between(real, fake, g))
    slope = slope.mT.contiguous().mT if slope.dim() > 2 else slope  # as a critic of convolutions returns it
    return lam * (slope.view(len(real), -1).norm(dim=1) - 1).square().mean()


@wrong("gradient_penalty", says="You computed in float32 on the way, so float64 inputs lose precision.")
def penalty_in_float32(D, real, fake, lam, g):
    _refuse(D)
    norms = _slope(D, _between(real, fake, g)).flatten(1).float().norm(dim=1)
    return (lam * (norms - 1).square().mean()).to(real.dtype)


# ----------------------------------------------------------------------------------- G5 SpectralNorm


class _Spectral(nn.Module):
    """The right thing, in pieces that one mistake each can replace."""

    u: Tensor
    v: Tensor

    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__()
        self.n, self.eps = n_power_iterations, eps
        matrix = self.matrix(weight.detach())
        u, v = self.begin(matrix)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def begin(self, matrix):
        u = F.normalize(torch.randn(matrix.shape[0], dtype=matrix.dtype), dim=0)
        return u, F.normalize(matrix.T @ u, dim=0, eps=self.eps)

    def matrix(self, weight):
        return weight.flatten(1)

    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                self.u = F.normalize(matrix @ self.v, dim=0, eps=self.eps)
                self.v = F.normalize(matrix.T @ self.u, dim=0, eps=self.eps)

    def sigma(self, matrix):
        return self.u @ matrix @ self.v

    def forward(self, weight):
        matrix = self.matrix(weight)
        if self.training:
            self.improve(matrix)
        return weight / self.sigma(matrix)


@wrong(
    "SpectralNorm", says="A convolution's weight must be flattened to (out, everything else); you kept the input axis."
)
class flattens_to_the_kernel(_Spectral):
    def matrix(self, weight):
        return weight.flatten(0, 1).flatten(1) if weight.dim() > 2 else weight

    def begin(self, matrix):
        return super().begin(matrix)


@wrong("SpectralNorm", says="You flattened to (everything else, out): u must have one entry for each output.")
class flattens_the_wrong_way(_Spectral):
    def matrix(self, weight):
        return weight.flatten(1).T


@wrong("SpectralNorm", says="You looked at one pixel of the kernel, or at its sum; the whole kernel counts.")
class sums_over_the_kernel(_Spectral):
    def matrix(self, weight):
        return weight.flatten(2).sum(2) if weight.dim() > 2 else weight

    def begin(self, matrix):
        return super().begin(matrix)


@wrong("SpectralNorm", says="u was made with the wrong side of the matrix: M · v has the shape of u, Mᵀ · u that of v.")
class multiplies_by_the_wrong_side(_Spectral):
    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                self.u = F.normalize(matrix.T @ self.v, dim=0, eps=self.eps)
                self.v = F.normalize(matrix @ self.u, dim=0, eps=self.eps)


@wrong("SpectralNorm", says="v was made from the old u; the new u goes into it at once.")
class v_from_the_old_u(_Spectral):
    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                u = F.normalize(matrix @ self.v, dim=0, eps=self.eps)
                self.v = F.normalize(matrix.T @ self.u, dim=0, eps=self.eps)
                self.u = u


@wrong("SpectralNorm", says="v is updated before u here; first u from v, then v from the new u.")
class v_comes_first(_Spectral):
    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                self.v = F.normalize(matrix.T @ self.u, dim=0, eps=self.eps)
                self.u = F.normalize(matrix @ self.v, dim=0, eps=self.eps)


@wrong(
    "SpectralNorm", says="The power iteration runs in evaluation mode: the same weight gives another output each time."
)
class iterates_in_evaluation(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        self.improve(matrix)
        return weight / self.sigma(matrix)


@wrong("SpectralNorm", says="u and v carry gradient: the power iteration belongs under torch.no_grad().")
class iterates_with_gradient(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        u, v = self.u, self.v
        if self.training:
            for _ in range(self.n):
                u = F.normalize(matrix @ v, dim=0, eps=self.eps)
                v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
            self.u, self.v = u.detach(), v.detach()
        return weight / (u @ matrix @ v)


@wrong("SpectralNorm", says="σ is a constant in your quotient; compute it outside of torch.no_grad(), from the weight.")
class sigma_without_gradient(_Spectral):
    def sigma(self, matrix):
        return super().sigma(matrix).detach()


@wrong("SpectralNorm", says="`weight.data /= σ` changes the raw weight, and makes σ invisible to the gradient.")
class divides_the_raw_weight(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        if self.training:
            self.improve(matrix)
        weight.data /= self.sigma(matrix).detach()
        return weight * 1.0


@wrong("SpectralNorm", says="u is updated in place, which breaks two forwards before a backward; let σ use copies.")
class overwrites_what_backward_needs(_Spectral):
    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=self.eps))
                self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=self.eps))


@wrong("SpectralNorm", says="u and v were written through .data: a backward after two forwards uses the wrong ones.")
class overwrites_through_data(_Spectral):
    def improve(self, matrix):
        with torch.no_grad():
            for _ in range(self.n):
                self.u.data.copy_(F.normalize(matrix @ self.v, dim=0, eps=self.eps))
                self.v.data.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=self.eps))


@wrong(
    "SpectralNorm",
    says="You divided by the Frobenius norm; that is the root of the sum of all squared singular values.",
)
class divides_by_the_frobenius_norm(_Spectral):
    def sigma(self, matrix):
        return torch.linalg.matrix_norm(matrix)


@wrong(
    "SpectralNorm", says="You computed σ exactly, by a decomposition of each weight; the power method was asked for."
)
class decomposes_every_time(_Spectral):
    def sigma(self, matrix):
        return torch.linalg.matrix_norm(matrix, ord=2)


@wrong("SpectralNorm", says="n_power_iterations is ignored: one iteration is run whatever it says.")
class iterates_once(_Spectral):
    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__(weight, 1, eps)


@wrong("SpectralNorm", says="Lengths are not bounded by eps: F.normalize takes it as an argument.")
class ignores_eps(_Spectral):
    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__(weight, n_power_iterations)


@wrong("SpectralNorm", says="Only the u of the first forward is kept, so no forward goes on where the last one ended.")
class starts_over_each_time(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        u, v = self.u, self.v
        if self.training:
            with torch.no_grad():
                for _ in range(self.n):
                    u = F.normalize(matrix @ v, dim=0, eps=self.eps)
                    v = F.normalize(matrix.T @ u, dim=0, eps=self.eps)
        return weight / (u @ matrix @ v)


@wrong("SpectralNorm", says="u and v are parameters, which an optimizer will move; register them as buffers.")
class learns_its_vectors(_Spectral):
    def register_buffer(self, name: str, tensor: Any, persistent: bool = True):
        self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))


@wrong("SpectralNorm", says="The buffers are not persistent: a checkpoint forgets u and v.")
class forgets_its_vectors(_Spectral):
    def register_buffer(self, name, tensor, persistent=True):
        super().register_buffer(name, tensor, persistent=False)


@wrong("SpectralNorm", says="u begins with numbers from 0 to 1, all of one sign; draw it from the normal distribution.")
class begins_uniform(_Spectral):
    def begin(self, matrix):
        u = F.normalize(torch.rand(matrix.shape[0], dtype=matrix.dtype), dim=0)
        return u, F.normalize(matrix.T @ u, dim=0, eps=self.eps)


@wrong("SpectralNorm", says="The first u and v do not have length 1.")
class begins_too_long(_Spectral):
    def begin(self, matrix):
        u = torch.randn(matrix.shape[0], dtype=matrix.dtype)
        return u, matrix.T @ u


@wrong("SpectralNorm", says="The first v is drawn at random; the exercise begins with Mᵀ · u, of length 1.")
class begins_with_a_random_v(_Spectral):
    def begin(self, matrix):
        first, second = (torch.randn(size, dtype=matrix.dtype) for size in matrix.shape)
        return F.normalize(first, dim=0), F.normalize(second, dim=0)


@wrong("SpectralNorm", says="You multiplied by σ; divide by it.")
class multiplies_by_sigma(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        if self.training:
            self.improve(matrix)
        return weight * self.sigma(matrix)


@wrong("SpectralNorm", says="You returned the flattened matrix; the weight keeps its shape.")
class returns_the_matrix(_Spectral):
    def forward(self, weight):
        matrix = self.matrix(weight)
        if self.training:
            self.improve(matrix)
        return matrix / self.sigma(matrix)


@wrong("SpectralNorm", says="The weight is only divided where σ is above 1; spectral normalisation always divides.")
class only_ever_shrinks(_Spectral):
    def sigma(self, matrix):
        return super().sigma(matrix).clamp(min=1)


# ------------------------------------------------------------------------------- G6 frechet_distance


def _root(cov):
    values, vectors = torch.linalg.eigh(cov)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.mT


def _cross(cov1, cov2):
    half = _root(cov1)
    return torch.linalg.eigvalsh(half @ cov2 @ half).clamp(min=0).sqrt().sum()


@dialect(
    "frechet_distance", says="A jitter on both covariances moves the distance by about its root; clamping needs none."
)
def frechet_with_jitter(mu1, cov1, mu2, cov2):
    a, b = (cov.double() + 1e-6 * torch.eye(len(cov), dtype=torch.float64) for cov in (cov1, cov2))
    distance = (mu1 - mu2).double().square().sum() + (a + b).trace() - 2 * torch.linalg.eigvals(a @ b).sqrt().real.sum()
    return distance.to(mu1.dtype)


@wrong("frechet_distance", says="You took the root of each element; the root of the product is a matrix root.")
def root_of_each_element(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    cross = (a @ b).clamp(min=0).sqrt().trace()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong("frechet_distance", says="The trace term needs the factor 2.")
def cross_term_without_two(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - _cross(a, b)).to(mu1.dtype)


@wrong("frechet_distance", says="The distance of the means must be squared.")
def mean_distance_without_square(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    return ((mu1.double() - mu2.double()).norm() + a.trace() + b.trace() - 2 * _cross(a, b)).to(mu1.dtype)


@wrong(
    "frechet_distance",
    says="You returned a complex number: eigvals is complex for a matrix without symmetry; keep the real part.",
)
def returns_a_complex_residue(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    cross = torch.linalg.eigvals(a @ b).sqrt().sum()
    return (mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross


@wrong(
    "frechet_distance",
    says="A singular covariance gives eigenvalues just below zero, and their root is NaN; clamp them.",
)
def root_of_a_negative_number(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    half = _root(a)
    cross = torch.linalg.eigvalsh(half @ b @ half).sqrt().sum()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong("frechet_distance", says="Cholesky needs full rank; a covariance of few samples has none.")
def needs_full_rank(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    half = torch.linalg.cholesky(a)
    cross = torch.linalg.eigvalsh(half.mT @ b @ half).clamp(min=0).sqrt().sum()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong(
    "frechet_distance",
    says="The product is not symmetric, and eigvalsh reads only half of it; make it symmetric first.",
)
def takes_the_product_for_symmetric(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    cross = torch.linalg.eigvalsh(a @ b).clamp(min=0).sqrt().sum()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong("frechet_distance", says="tr(Σ₁^½ · Σ₂^½) is not tr((Σ₁ · Σ₂)^½), unless the two commute.")
def product_of_the_roots(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    cross = (_root(a) @ _root(b)).trace()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong("frechet_distance", says="You compared the variances alone; the covariances off the diagonal count too.")
def variances_only(mu1, cov1, mu2, cov2):
    a, b = cov1.double().diagonal().clamp(min=0), cov2.double().diagonal().clamp(min=0)
    return ((mu1.double() - mu2.double()).square().sum() + (a.sqrt() - b.sqrt()).square().sum()).to(mu1.dtype)


@wrong("frechet_distance", says="You returned the root of the distance; d² was asked for, as everybody reports it.")
def returns_the_root(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    squared = (mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * _cross(a, b)
    return squared.clamp(min=0).sqrt().to(mu1.dtype)


@wrong("frechet_distance", says="You averaged over the dimensions; the distance of the means is a sum.")
def averages_over_dimensions(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    return ((mu1.double() - mu2.double()).square().mean() + a.trace() + b.trace() - 2 * _cross(a, b)).to(mu1.dtype)


@wrong("frechet_distance", says="The root of the product is missing: that is tr(Σ₁ · Σ₂).")
def trace_without_the_root(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    cross = (a @ b).trace()
    return ((mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong(
    "frechet_distance",
    says="You computed in float32, where the root turns an error of 10⁻⁷ into 3 · 10⁻⁴; use float64.",
)
def computes_in_float32(mu1, cov1, mu2, cov2):
    a, b = cov1.float(), cov2.float()
    cross = _cross(a, b)
    return ((mu1.float() - mu2.float()).square().sum() + a.trace() + b.trace() - 2 * cross).to(mu1.dtype)


@wrong("frechet_distance", says="You always return float64; the result has the dtype of mu1.")
def always_returns_float64(mu1, cov1, mu2, cov2):
    a, b = cov1.double(), cov2.double()
    return (mu1.double() - mu2.double()).square().sum() + a.trace() + b.trace() - 2 * _cross(a, b)


# -------------------------------------------------------------------------------------- G7 train_gan


@wrong("train_gan", says="That is the loop without a cure: it loses digits on every seed.")
def loop_without_a_cure(G, D, opt_g, opt_d, batches, z, *, g):
    for real in batches:
        _step(opt_d, _d_loss(D(real), D(G(z(len(real))).detach())))
        _step(opt_g, _g_loss(D(G(z(len(real))))))
    return G


def _with_slope_penalty(G, D, opt_g, opt_d, batches, z, weight=5.0, prepare=lambda real: real):
    for real in batches:
        x = prepare(real).clone().requires_grad_()
        scores = D(x)
        slope = torch.autograd.grad(scores.sum(), x, create_graph=True)[0]
        penalty = weight * slope.square().sum(1).mean()
        _step(opt_d, _d_loss(scores, D(G(z(len(x))).detach())) + penalty)
        _step(opt_g, _g_loss(D(G(z(len(x))))))
    return G


@wrong("train_gan", says="create_graph is missing: your penalty has a value, and D learns nothing from it.")
def cure_without_a_graph(G, D, opt_g, opt_d, batches, z, *, g):
    for real in batches:
        fake = G(z(len(real))).detach()
        norms = _slope(D, _between(real, fake, g), create_graph=False).norm(dim=1)
        _step(opt_d, D(fake).mean() - D(real).mean() + 10 * (norms - 1).square().mean())
        _step(opt_g, -D(G(z(len(real)))).mean())
    return G


@wrong("train_gan", says="The penalty has hardly any weight; look at D's slope while it trains, and make it heavier.")
def penalty_weighs_nothing(G, D, opt_g, opt_d, batches, z, *, g):
    return _with_slope_penalty(G, D, opt_g, opt_d, batches, z, weight=1e-3)


@wrong(
    "train_gan", says="Tanh range and data range differ: G ends in a sigmoid, from 0 to 1; leave the digits there too."
)
def rescales_the_digits(G, D, opt_g, opt_d, batches, z, *, g):
    return _with_slope_penalty(G, D, opt_g, opt_d, batches, z, prepare=lambda real: 2 * real - 1)


@wrong("train_gan", says="You return images with brightness from −1 to 1; the digits, and G, have 0 to 1.")
def returns_another_range(G, D, opt_g, opt_d, batches, z, *, g):
    trained = _with_slope_penalty(G, D, opt_g, opt_d, batches, z)
    return lambda noise: 2 * trained(noise) - 1


@wrong("train_gan", says="The samples are memorised training images: your module looks rows up and makes none.")
def looks_up_training_images(G, D, opt_g, opt_d, batches, z, *, g):
    rows = torch.cat(list(batches))
    ways = torch.randn(16, len(rows), generator=torch.Generator().manual_seed(0))
    return lambda noise: rows[(noise @ ways).argmax(1)]


@wrong(
    "train_gan", says="The samples are training images with a little noise on top; your module makes none of its own."
)
def adds_noise_to_training_images(G, D, opt_g, opt_d, batches, z, *, g):
    rows = torch.cat(list(batches))
    generator = torch.Generator().manual_seed(0)
    ways, blur = (torch.randn(16, size, generator=generator) for size in (len(rows), rows.shape[1]))
    return lambda noise: (rows[(noise @ ways).argmax(1)] + 0.02 * noise @ blur).clamp(0, 1)


@wrong(
    "train_gan", says="Your samples jump from image to image: that is a table of training images, hidden under noise."
)
def hides_a_table_under_noise(G, D, opt_g, opt_d, batches, z, *, g):
    rows = torch.cat(list(batches))
    generator = torch.Generator().manual_seed(0)
    ways, blur = (torch.randn(16, size, generator=generator) for size in (len(rows), rows.shape[1]))
    return lambda noise: (rows[(noise @ ways).argmax(1)] + 0.06 * noise @ blur).clamp(0, 1)


@wrong("train_gan", says="Your module adds noise of its own: one row of noise must always give the same image.")
def adds_noise_to_its_images(G, D, opt_g, opt_d, batches, z, *, g):
    trained = _with_slope_penalty(G, D, opt_g, opt_d, batches, z)
    return lambda noise: (trained(noise) + 0.05 * torch.randn(len(noise), 64)).clamp(0, 1)


@wrong(
    "train_gan",
    says="Your module is in training mode: its BatchNorm lets every image depend on the others in its batch.",
)
def leaves_batch_norm_in_training(G, D, opt_g, opt_d, batches, z, *, g):
    G.insert(1, nn.BatchNorm1d(128))
    opt_g = torch.optim.Adam(G.parameters(), lr=0.006, betas=(0.5, 0.9))
    return _with_slope_penalty(G, D, opt_g, opt_d, batches, z).train()


@wrong("train_gan", says="Your module returns the mean of what it saw: no game against D, no variety.")
def learns_the_mean_image(G, D, opt_g, opt_d, batches, z, *, g):
    for real in batches:
        _step(opt_g, F.mse_loss(G(z(len(real))), real))
    return G


@wrong(
    "train_gan", says="Clipping D's weights was not enough here: D gets too weak to tell digits apart, or too steep."
)
def clips_the_weights(G, D, opt_g, opt_d, batches, z, *, g):
    for real in batches:
        _step(opt_d, D(G(z(len(real))).detach()).mean() - D(real).mean())
        with torch.no_grad():
            for parameter in D.parameters():
                parameter.clamp_(-0.01, 0.01)
        _step(opt_g, -D(G(z(len(real)))).mean())
    return G


@wrong("train_gan", says="Only some seeds work: smaller steps put collapse off and do not cure it; try several seeds.")
def takes_smaller_steps(G, D, opt_g, opt_d, batches, z, *, g):
    for optimizer in (opt_g, opt_d):
        for group in optimizer.param_groups:
            group["lr"] /= 3
    return loop_without_a_cure(G, D, opt_g, opt_d, batches, z, g=g)


@wrong("train_gan", says="You return a copy of G from before the training; copy, or average, after each step.")
def returns_an_untrained_copy(G, D, opt_g, opt_d, batches, z, *, g):
    before = copy.deepcopy(G)
    _with_slope_penalty(G, D, opt_g, opt_d, batches, z)
    return before
