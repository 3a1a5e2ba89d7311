"""Other right answers, written in other ways: the grader must accept each of them."""

# Learners' code, and an autograd function, whose two methods have no common signature.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.grading.answers import alternative

# ---------------------------------------------------------------------------------- G1 d_loss, g_loss


@alternative("d_loss", says="logsigmoid, with σ(−x) for 1 − σ(x)")
def d_loss_by_logsigmoid(real_logits, fake_logits):
    return -F.logsigmoid(real_logits).mean() - F.logsigmoid(-fake_logits).mean()


@alternative("d_loss", says="the stable cross entropy written out, with labels for each kind")
def d_loss_with_labels(real_logits, fake_logits):
    def entropy(x, y):
        return (x.clamp(min=0) - x * y + torch.log1p(torch.exp(-x.abs()))).mean()

    return entropy(real_logits, torch.ones_like(real_logits)) + entropy(fake_logits, torch.zeros_like(fake_logits))


@alternative("d_loss", says="two classes with the logits x and 0: logaddexp, and sums divided by counts")
def d_loss_by_logaddexp(real_logits, fake_logits):
    nothing = real_logits.new_zeros(())
    real = torch.logaddexp(nothing, -real_logits.reshape(-1))
    fake = torch.logaddexp(nothing, fake_logits.reshape(-1))
    return real.sum() / real.numel() + fake.sum() / fake.numel()


@alternative("g_loss", says="logsigmoid; the kinds in a table")
def g_loss_from_a_table(fake_logits, kind="non_saturating"):
    kinds = {"non_saturating": lambda x: -F.logsigmoid(x), "minimax": lambda x: F.logsigmoid(-x)}
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind}")
    return kinds[kind](fake_logits).mean()


@alternative("g_loss", says="two classes with the logits x and 0, by cross_entropy with a class number")
def g_loss_by_two_classes(fake_logits, kind="non_saturating"):
    flat = fake_logits.flatten()
    logits = torch.stack([torch.zeros_like(flat), flat], dim=1)
    match kind:
        case "non_saturating":
            return F.cross_entropy(logits, torch.ones(len(flat), dtype=torch.long, device=flat.device))
        case "minimax":
            return -F.cross_entropy(logits, torch.zeros(len(flat), dtype=torch.long, device=flat.device))
    raise ValueError(kind)


# ------------------------------------------------------------------------ G2 ls_losses, hinge_losses


@alternative("ls_losses", says="mse_loss with tensors of labels")
def ls_by_mse_loss(real_scores, fake_scores):
    d_real = F.mse_loss(real_scores, torch.ones_like(real_scores))
    d_fake = F.mse_loss(fake_scores, torch.zeros_like(fake_scores))
    return (d_real + d_fake) / 2, F.mse_loss(fake_scores, torch.ones_like(fake_scores)) / 2


@alternative("ls_losses", says="multiplied out into moments")
def ls_by_moments(real_scores, fake_scores):
    first, second = fake_scores.mean(), (fake_scores**2).mean()
    real = (real_scores**2).mean() - 2 * real_scores.mean() + 1
    return (real + second) / 2, (second - 2 * first + 1) / 2


@alternative("ls_losses", says="norms of flat tensors")
def ls_by_norms(real_scores, fake_scores):
    def half(x, label):
        x = x.reshape(-1) - label
        return (x @ x) / (2 * len(x))

    return half(real_scores, 1) + half(fake_scores, 0), half(fake_scores, 1)


@alternative("hinge_losses", says="clamp")
def hinge_by_clamp(real_scores, fake_scores):
    d = torch.clamp(1 - real_scores, min=0).mean() + torch.clamp(1 + fake_scores, min=0).mean()
    return d, (-fake_scores).mean()


@alternative("hinge_losses", says="sums over the samples inside the margin, divided by all")
def hinge_by_where(real_scores, fake_scores):
    real = torch.where(real_scores < 1, 1 - real_scores, 0).sum() / real_scores.numel()
    fake = torch.where(fake_scores > -1, 1 + fake_scores, 0).sum() / fake_scores.numel()
    return real + fake, -fake_scores.sum() / fake_scores.numel()


@alternative("hinge_losses", says="minima with zero and minus signs, as the paper has them")
def hinge_by_minimum(real_scores, fake_scores):
    zero = real_scores.new_zeros(())
    d = -torch.minimum(zero, real_scores - 1).mean() - torch.minimum(zero, -fake_scores - 1).mean()
    return d, fake_scores.mean().neg()


# --------------------------------------------------------------------------------------- G3 gan_step


@alternative("gan_step", says="one pass of D over real and generated rows together; G's samples detached")
def step_with_one_pass(G, D, opt_g, opt_d, real, z):
    n = len(real)
    opt_d.zero_grad()
    real_logits, fake_logits = D(torch.cat([real, G(z(n)).detach()])).split(n)
    loss_d = -F.logsigmoid(real_logits).mean() - F.logsigmoid(-fake_logits).mean()
    loss_d.backward()
    opt_d.step()
    opt_g.zero_grad()
    loss_g = -F.logsigmoid(D(G(z(n)))).mean()
    loss_g.backward()
    opt_g.step()
    opt_d.zero_grad()
    return loss_d.detach(), loss_g.detach()


@alternative("gan_step", says="D frozen in G's step, and opened again")
def step_with_a_frozen_d(G, D, opt_g, opt_d, real, z):
    with torch.no_grad():
        fake = G(z(real.shape[0]))
    D.zero_grad()
    loss_d = F.softplus(-D(real)).mean() + F.softplus(D(fake)).mean()
    loss_d.backward()
    opt_d.step()

    D.requires_grad_(False)
    G.zero_grad()
    loss_g = F.softplus(-D(G(z(real.shape[0])))).mean()
    loss_g.backward()
    opt_g.step()
    D.requires_grad_(True)
    return loss_d.detach(), loss_g.detach()


@alternative("gan_step", says="gradients by autograd.grad, assigned to .grad; two backward passes for D's terms")
def step_with_assigned_gradients(G, D, opt_g, opt_d, real, z):
    def go_down(loss, network, optimizer):
        parameters = list(network.parameters())
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = g
        optimizer.step()
        return loss.detach()

    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(real))]).to(real)
    both = torch.cat([real, G(z(len(real))).detach()])
    terms = F.binary_cross_entropy_with_logits(D(both).reshape(-1), labels, reduction="none")
    d = go_down(2 * terms.mean(), D, opt_d)
    logits = D(G(z(len(real)))).reshape(-1)
    g = go_down(F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)), G, opt_g)
    return d, g


# ------------------------------------------------------------------------------- G4 gradient_penalty


def _refuse_batch_norm(D):
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    for layer in D.modules():
        if type(layer) in kinds and layer.training:
            raise ValueError(f"the critic must not hold a {type(layer).__name__}")


@alternative("gradient_penalty", says="lerp from generated to real, grad_outputs of ones, norm over all axes at once")
def penalty_by_lerp(D, real, fake, lam, g):
    _refuse_batch_norm(D)
    shape = [len(real)] + [1] * (real.ndim - 1)
    between = torch.lerp(
        fake.detach(), real.detach(), torch.rand(shape, generator=g, dtype=real.dtype, device=real.device)
    )
    between.requires_grad_(True)
    scores = D(between)
    slopes = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)[0]
    norms = slopes.norm(2, dim=tuple(range(1, real.ndim)))
    return lam * ((norms - 1) ** 2).mean()


@alternative("gradient_penalty", says="one sample after the other, ε on the generated side")
def penalty_sample_by_sample(D, real, fake, lam, g):
    _refuse_batch_norm(D)
    shares = torch.empty(len(real), dtype=real.dtype, device=real.device).uniform_(0, 1, generator=g)
    total = real.new_zeros(())
    for x, y, share in zip(real.detach(), fake.detach(), shares, strict=True):
        point = (x + share * (y - x)).unsqueeze(0).requires_grad_()
        slope = torch.autograd.grad(D(point).sum(), point, create_graph=True)[0]
        total = total + (slope.norm() - 1) ** 2
    return lam * total / len(real)


@alternative("gradient_penalty", says="torch.func.grad of the summed score; mean of squares by mse_loss")
def penalty_by_func_grad(D, real, fake, lam, g):
    _refuse_batch_norm(D)
    epsilon = torch.rand(len(real), generator=g, dtype=real.dtype, device=real.device).view(
        -1, *(1 for _ in real.shape[1:])
    )
    between = (fake + epsilon * (real - fake)).detach()
    slopes = torch.func.grad(lambda x: D(x).sum())(between)
    norms = torch.linalg.norm(slopes.reshape(len(real), -1), dim=1)
    return lam * F.mse_loss(norms, torch.ones_like(norms))


# ----------------------------------------------------------------------------------- G5 SpectralNorm


@alternative("SpectralNorm", says="new tensors for the buffers instead of writing into them")
class SpectralNormWithNewBuffers(nn.Module):
    u: Tensor
    v: Tensor

    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__()
        self.times, self.eps = n_power_iterations, eps
        with torch.no_grad():
            u = torch.randn(weight.shape[0], dtype=weight.dtype, device=weight.device)
            self.register_buffer("u", u / u.norm())
            v = weight.reshape(weight.shape[0], -1).T @ self.u
            self.register_buffer("v", v / v.norm().clamp(min=eps))

    def forward(self, weight):
        rows = weight.reshape(weight.shape[0], -1)
        if self.training:
            for _ in range(self.times):
                left = (rows @ self.v).detach()
                self.u = left / left.norm().clamp(min=self.eps)
                right = (rows.T @ self.u).detach()
                self.v = right / right.norm().clamp(min=self.eps)
        return weight / torch.dot(self.u, torch.mv(rows, self.v))


@alternative("SpectralNorm", says="σ as the sum of M times u · vᵀ; the power method in a function of its own")
class SpectralNormByOuterProduct(nn.Module):
    u: Tensor
    v: Tensor

    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__()
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        u = F.normalize(weight.new_empty(weight.size(0)).normal_(), dim=0)
        self.register_buffer("u", u)
        self.register_buffer("v", F.normalize(torch.mv(weight.detach().flatten(1).t(), u), dim=0, eps=eps))

    @torch.no_grad()
    def improve(self, matrix):
        u, v = self.u, self.v
        for _ in range(self.n_power_iterations):
            u = F.normalize(torch.einsum("ij,j->i", matrix, v), dim=0, eps=self.eps)
            v = F.normalize(torch.einsum("ij,i->j", matrix, u), dim=0, eps=self.eps)
        self.u.data = u
        self.v.data = v

    def forward(self, weight):
        matrix = weight.flatten(start_dim=1)
        if self.training:
            self.improve(matrix)
        sigma = (matrix * torch.outer(self.u, self.v)).sum()
        return weight * sigma.reciprocal()


@alternative("SpectralNorm", says="the rule of the gradient written out as an autograd function")
class SpectralNormWithItsOwnBackward(nn.Module):
    u: Tensor
    v: Tensor

    class Divide(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight, direction):
            sigma = (weight * direction).sum()
            ctx.save_for_backward(weight, direction, sigma)
            return weight / sigma

        @staticmethod
        def backward(ctx, grad):
            weight, direction, sigma = ctx.saved_tensors
            # d(W / σ) = dW / σ − W · ⟨u vᵀ, dW⟩ / σ²
            return grad / sigma - (grad * weight).sum() / sigma**2 * direction, None

    def __init__(self, weight, n_power_iterations=1, eps=1e-12):
        super().__init__()
        self.n, self.eps = n_power_iterations, eps
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(len(matrix)).to(matrix), dim=0))
        self.register_buffer("v", F.normalize(self.u @ matrix, dim=0, eps=eps))

    def forward(self, weight):
        matrix = weight.detach().flatten(1)
        for _ in range(self.n if self.training else 0):
            self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=self.eps))
            self.v.copy_(F.normalize(self.u @ matrix, dim=0, eps=self.eps))
        return self.Divide.apply(weight, torch.outer(self.u, self.v).view_as(weight))


# ------------------------------------------------------------------------------- G6 frechet_distance


@alternative("frechet_distance", says="eigenvalues of the product itself, complex, their real parts kept")
def frechet_by_eigvals(mu1, cov1, mu2, cov2):
    product = cov1.double() @ cov2.double()
    roots = torch.linalg.eigvals(product).sqrt().real
    distance = ((mu1 - mu2).double() ** 2).sum() + torch.trace(cov1.double() + cov2.double()) - 2 * roots.sum()
    return distance.to(mu1.dtype)


@alternative("frechet_distance", says="roots of both covariances, and the nuclear norm of their product")
def frechet_by_nuclear_norm(mu1, cov1, mu2, cov2):
    def root(cov):
        values, vectors = torch.linalg.eigh(cov.to(torch.float64))
        return vectors @ torch.diag(values.relu().sqrt())

    a, b = root(cov1), root(cov2)
    cross = torch.linalg.svdvals(a.T @ b).sum()
    spread = a.square().sum() + b.square().sum()
    return ((mu1.double() - mu2.double()).norm() ** 2 + spread - 2 * cross).to(mu1.dtype)


@alternative("frechet_distance", says="the first root by a singular value decomposition, the second by eigvalsh")
def frechet_by_svd(mu1, cov1, mu2, cov2):
    dtype = mu1.dtype
    mu1, cov1, mu2, cov2 = (part.double() for part in (mu1, cov1, mu2, cov2))
    left, values, right = torch.linalg.svd(cov1)
    half = left @ values.sqrt().diag() @ right
    middle = half @ cov2 @ half
    values = torch.linalg.eigvalsh((middle + middle.T) / 2)
    cross = torch.where(values > 0, values, 0).sqrt().sum()
    return (torch.dot(mu1 - mu2, mu1 - mu2) + (cov1 + cov2).diagonal().sum() - 2 * cross).to(dtype)


# -------------------------------------------------------------------------------------- G7 train_gan


@alternative("train_gan", says="Wasserstein loss with gradient penalty, three steps of D for one of G")
def cure_by_gradient_penalty(G, D, opt_g, opt_d, batches, z, *, g):
    for number, real in enumerate(batches, start=1):
        fake = G(z(len(real))).detach()
        share = torch.rand(len(real), 1, generator=g)
        between = (share * real + (1 - share) * fake).requires_grad_()
        scores = D(torch.cat([real, fake, between]))
        of_real, of_fake, of_between = scores.chunk(3)
        slopes = torch.autograd.grad(of_between.sum(), between, create_graph=True)[0]
        loss = of_fake.mean() - of_real.mean() + (slopes.norm(dim=1) - 1).pow(2).mean()
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
        if number % 3 == 0:
            opt_g.zero_grad()
            (-D(G(z(len(real)))).mean()).backward()
            opt_g.step()
    return G


@alternative("train_gan", says="least squares with a penalty on the squared slope at the real samples")
def cure_by_least_squares(G, D, opt_g, opt_d, batches, z, *, g):
    for real in batches:
        x = real.clone().requires_grad_()
        real_scores, fake_scores = D(x), D(G(z(len(x))).detach())
        slopes = torch.autograd.grad(real_scores, x, torch.ones_like(real_scores), create_graph=True)[0]
        loss = 0.5 * ((real_scores - 1) ** 2).mean() + 0.5 * (fake_scores**2).mean()
        loss = loss + 5 * slopes.pow(2).sum(dim=1).mean()
        D.zero_grad()
        loss.backward()
        opt_d.step()
        G.zero_grad()
        (0.5 * (D(G(z(len(x)))) - 1) ** 2).mean().backward()
        opt_g.step()
    return G


@alternative("train_gan", says="optimizers of its own, slope penalty on every second step, and averaged weights")
def cure_with_averaged_weights(G, D, opt_g, opt_d, batches, z, *, g):
    opt_g = torch.optim.Adam(G.parameters(), lr=4e-3, betas=(0.5, 0.9))
    opt_d = torch.optim.Adam(D.parameters(), lr=4e-3, betas=(0.5, 0.9))
    average = copy.deepcopy(G)
    for number, real in enumerate(batches):
        loss = F.softplus(-D(real)).mean() + F.softplus(D(G(z(len(real))).detach())).mean()
        if number % 2 == 0:
            x = real.clone().requires_grad_()
            slopes = torch.autograd.grad(D(x).sum(), x, create_graph=True)[0]
            loss = loss + 10 * slopes.square().sum(1).mean()
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
        opt_g.zero_grad()
        F.softplus(-D(G(z(len(real))))).mean().backward()
        opt_g.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), G.parameters(), strict=True):
                slow.lerp_(fast, 0.05)
    return average
