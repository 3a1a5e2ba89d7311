"""Other right answers, written in other ways: the grader must accept each of them."""

# Learners' code: it leans on PyTorch's private names.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.grading.answers import alternative

# ------------------------------------------------------------------------------------- R1 dropout


@alternative("dropout", says="uniform numbers compared with p, and a choice with masked_fill")
def dropout_masked_fill(x, p, training, generator=None):
    if p < 0 or p > 1:
        raise ValueError("p must lie in [0, 1]")
    if not training or p == 0:
        return x
    dropped = torch.rand(x.shape, generator=generator, device=x.device) < p
    return (x / (1 - p) if p < 1 else x).masked_fill(dropped, 0)


@alternative("dropout", says="a Bernoulli mask, multiplied by a scale that is 0 at p = 1")
def dropout_bernoulli(x, p, training, generator=None):
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p is {p}")
    if training:
        stay = 1.0 - p
        mask = torch.bernoulli(torch.full_like(x, stay, requires_grad=False), generator=generator)
        x = x * mask * (1.0 / stay if stay > 0 else 0.0)
    return x


@alternative("dropout", says="a choice with torch.where between a product and zeros")
def dropout_where(x, p, training, generator=None):
    if p < 0 or p > 1:
        raise ValueError("p must lie in [0, 1]")
    if training is False:
        return x
    draws = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
    scale = torch.tensor(1 / (1 - p) if p < 1 else 0.0, dtype=x.dtype, device=x.device)
    return x * torch.where(draws >= p, scale, torch.zeros_like(scale))


# ---------------------------------------------------------------------------------- R2 batch_norm


@alternative("batch_norm", says="sums of squares written out, and the statistics changed with lerp_ through detach")
def batch_norm_written_out(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    axes = (0,) if x.ndim == 2 else (0, 2, 3)
    view = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
    if not training:
        mean, var = running_mean.view(view), running_var.view(view)
        return (x - mean) * torch.rsqrt(var + eps) * weight.view(view) + bias.view(view)
    n = x.shape[0] * math.prod(x.shape[2:])
    if n <= 1:
        raise ValueError("one value for each channel")
    mean = x.sum(axes, keepdim=True) / n
    centred = x - mean
    square = (centred * centred).sum(axes, keepdim=True)
    running_mean.lerp_(mean.detach().flatten(), momentum)
    running_var.lerp_(square.detach().flatten() / (n - 1), momentum)
    return centred * (square / n + eps) ** -0.5 * weight.view(view) + bias.view(view)


@alternative("batch_norm", says="channels moved to the last axis, one affine map at the end, copy_ through .data")
def batch_norm_channels_last(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    if training:
        if len(rows) < 2:
            raise ValueError("more than one value is needed")
        var, mean = torch.var_mean(rows, dim=0, unbiased=False)
        unbiased = rows.detach().var(0)
        running_mean.data.copy_((1 - momentum) * running_mean + momentum * mean.detach())
        running_var.data.copy_((1 - momentum) * running_var + momentum * unbiased)
    else:
        mean, var = running_mean, running_var
    scale = weight / (var + eps).sqrt()
    shift = bias - mean * scale
    view = [1] * x.ndim
    view[1] = -1
    return x * scale.view(view) + shift.view(view)


@alternative("batch_norm", says="one path for images, reached by giving features a height and a width of 1")
def batch_norm_as_images(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    flat = x.dim() == 2
    x = x[:, :, None, None] if flat else x
    if training:
        count = x[:, 0].numel()
        if count == 1:
            raise ValueError("expected more than one value for each channel")
        mean = x.mean((0, 2, 3))
        var = (x - mean[None, :, None, None]).pow(2).mean((0, 2, 3))
        with torch.no_grad():
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * count / (count - 1) - running_var)
    else:
        mean, var = running_mean, running_var
    mean, var, weight, bias = (part[None, :, None, None] for part in (mean, var, weight, bias))
    out = (x - mean) / (var + eps).sqrt() * weight + bias
    return out[:, :, 0, 0] if flat else out


# ---------------------------------------------------------------------------------- R3 layer_norm


@alternative("layer_norm", says="the last axes flattened into one, and the centred squares averaged")
def layer_norm_flattened(x, normalized_shape, weight, bias, eps=1e-5):
    rows = x.flatten(-len(normalized_shape))
    centred = rows - rows.mean(-1, keepdim=True)
    rows = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return torch.addcmul(bias, weight, rows.reshape(x.shape))


@alternative("layer_norm", says="var_mean over the last axes")
def layer_norm_var_mean(x, normalized_shape, weight, bias, eps=1e-5):
    var, mean = torch.var_mean(x, dim=list(range(x.ndim - len(normalized_shape), x.ndim)), unbiased=False, keepdim=True)
    return bias + weight * ((x - mean) / (var + eps) ** 0.5)


@alternative("layer_norm_backward", says="sums over flattened axes, as the usual derivation has it")
def layer_norm_backward_flattened(grad_output, x, normalized_shape, weight, eps=1e-5):
    n = math.prod(normalized_shape)
    rows, grads = x.reshape(-1, n), grad_output.reshape(-1, n)
    centred = rows - rows.mean(1, keepdim=True)
    inverse = (centred.pow(2).mean(1, keepdim=True) + eps).rsqrt()
    hat = centred * inverse
    g = grads * weight.reshape(n)
    total = g.sum(1, keepdim=True) + hat * (g * hat).sum(1, keepdim=True)
    grad_x = inverse / n * (n * g - total)
    return grad_x.reshape(x.shape), (grads * hat).sum(0).reshape(weight.shape), grads.sum(0).reshape(weight.shape)


@alternative("layer_norm_backward", says="the chain rule node by node: through x̂, the variance and the mean")
def layer_norm_backward_by_nodes(grad_output, x, normalized_shape, weight, eps=1e-5):
    last = tuple(range(x.dim() - len(normalized_shape), x.dim()))
    first = tuple(range(x.dim() - len(normalized_shape)))
    n = math.prod(normalized_shape)
    centred = x - x.mean(last, keepdim=True)
    var = (centred**2).mean(last, keepdim=True)
    inverse = 1 / (var + eps).sqrt()
    by_hat = grad_output * weight
    by_var = (by_hat * centred).sum(last, keepdim=True) * -0.5 * inverse**3
    by_centred = by_hat * inverse + by_var * 2 * centred / n
    grad_x = by_centred - by_centred.mean(last, keepdim=True)
    by_weight, by_bias = grad_output * centred * inverse, grad_output
    return grad_x, by_weight.sum(first) if first else by_weight, by_bias.sum(first) if first else by_bias.clone()


# ----------------------------------------------------------------------------------- R4 penalties


@alternative("l1_l2_penalty", says="a running total, from a zero tensor")
def penalty_running_total(named_params, l1, l2):
    total = None
    for name, p in named_params:
        if name == "bias" or name.endswith(".bias") or p.ndim < 2:
            continue
        part = l1 * torch.sum(torch.abs(p)) + l2 * torch.sum(p**2)
        total = part if total is None else total + part
    return torch.zeros(()) if total is None else total


@alternative("l1_l2_penalty", says="norms of each weight, the L2 one squared as a product")
def penalty_by_flat_weights(named_params, l1, l2):
    kept = [p.reshape(-1) for name, p in named_params if p.ndim > 1 and name.split(".")[-1] != "bias"]
    if not kept:
        return torch.tensor(0.0)
    flat = torch.cat(kept)
    return l1 * flat.norm(p=1) + l2 * torch.dot(flat, flat)


@alternative("soft_threshold", says="three cases with torch.where")
def threshold_three_cases(w, threshold):
    if threshold < 0:
        raise ValueError("the threshold is negative")
    zero = torch.zeros_like(w)
    return torch.where(w > threshold, w - threshold, torch.where(w < -threshold, w + threshold, zero))


@alternative("soft_threshold", says="a difference of two ReLUs")
def threshold_two_relus(w, threshold):
    if not threshold >= 0:
        raise ValueError("the threshold must be at least 0")
    return torch.relu(w - threshold) - torch.relu(-w - threshold)


@alternative("soft_threshold", says="w minus its projection on [−threshold, threshold]")
def threshold_minus_projection(w, threshold):
    if threshold < 0:
        raise ValueError("no negative threshold")
    return w - w.clamp(-threshold, threshold)


# ----------------------------------------------------------------------------------- R5 smooth_ce


@alternative("smooth_ce", says="a matrix of soft labels, and its product with the log-probabilities")
def smooth_ce_soft_labels(logits, targets, smoothing, ignore_index=-100, weight=None):
    keep = targets.ne(ignore_index)
    logits, targets = logits[keep], targets[keep]
    k = logits.shape[1]
    labels = F.one_hot(targets, k).to(logits.dtype) * (1 - smoothing) + smoothing / k
    divisor = torch.tensor(len(targets), dtype=logits.dtype)
    if weight is not None:
        labels, divisor = labels * weight, weight[targets].sum()
    return -(labels * logits.log_softmax(-1)).sum() / divisor


@alternative("smooth_ce", says="nll_loss for the label, logsumexp for the log-probabilities, ignored rows times zero")
def smooth_ce_nll(logits, targets, smoothing, ignore_index=-100, weight=None):
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    used = (targets != ignore_index).to(logits.dtype)
    label = torch.where(targets == ignore_index, 0, targets)
    w = weight if weight is not None else torch.ones(logits.size(1), dtype=logits.dtype, device=logits.device)
    nll = F.nll_loss(log_p, label, weight=w, reduction="none")
    everywhere = -(log_p @ w) / logits.size(1)
    rows = (1 - smoothing) * nll + smoothing * everywhere
    return (rows * used).sum() / (w[label] * used).sum()


@alternative("smooth_ce", says="the row's own largest logit subtracted by hand")
def smooth_ce_by_hand(logits, targets, smoothing, ignore_index=-100, weight=None):
    rows = torch.nonzero(targets != ignore_index).flatten()
    z, y = logits.index_select(0, rows), targets.index_select(0, rows)
    z = z - z.max(dim=1, keepdim=True).values.detach()
    log_p = z - z.exp().sum(1, keepdim=True).log()
    w = log_p.new_ones(log_p.shape[1]) if weight is None else weight
    label = torch.zeros_like(log_p).scatter_(1, y.unsqueeze(1), 1.0)
    smooth = (label + smoothing * (1.0 / log_p.shape[1] - label)) * w
    return torch.einsum("bk,bk->", smooth, -log_p) / w[y].sum()


# ------------------------------------------------------------------------------ R6 mixup, cutmix


@alternative("mixup", says="lerp between the batch and its permutation, Beta by Jöhnk's rejection")
def mixup_lerp(x, y, alpha, generator=None):
    if not alpha > 0:
        raise ValueError("alpha must be positive")
    order = torch.randperm(x.shape[0], generator=generator)
    while True:
        u, v = (torch.rand(2, generator=generator, dtype=torch.float64) ** (1 / alpha)).tolist()
        if 0 < u + v <= 1:
            break
    lam = u / (u + v)
    return torch.lerp(x.index_select(0, order), x, lam), y, y.index_select(0, order), lam


@alternative("mixup", says="two scalar Gamma draws, and the permutation by sorting random keys")
def mixup_argsort(x, y, alpha, generator=None):
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}")
    shape = torch.tensor(float(alpha), dtype=torch.float64)
    a, b = torch._standard_gamma(shape, generator=generator), torch._standard_gamma(shape, generator=generator)
    lam = (a / (a + b)).item()
    keys = torch.rand(len(x), generator=generator, dtype=torch.float64)
    order = torch.argsort(keys)
    return x.mul(lam).add(x[order].mul(1.0 - lam)), y.clone(), y[order], lam


@alternative("cutmix", says="a mask of ones and zeros in the place of slices")
def cutmix_mask(x, y, alpha, generator=None):
    if alpha <= 0:
        raise ValueError("alpha must be above 0")
    g = torch._standard_gamma(torch.tensor([alpha, alpha], dtype=torch.float64), generator=generator)
    lam0 = (g[0] / g.sum()).item()
    h, w = x.size(2), x.size(3)
    high, wide = math.floor(h * math.sqrt(1 - lam0)), math.floor(w * math.sqrt(1 - lam0))
    column = torch.randint(0, w, (1,), generator=generator).item()
    row = torch.randint(0, h, (1,), generator=generator).item()
    rows = torch.arange(h)[:, None] - (row - high // 2)
    columns = torch.arange(w)[None, :] - (column - wide // 2)
    inside = (rows >= 0) & (rows < high) & (columns >= 0) & (columns < wide)
    order = torch.randperm(x.size(0), generator=generator)
    return torch.where(inside, x[order], x), y, y[order], 1.0 - inside.double().mean().item()


@alternative("cutmix", says="borders by min and max, the box copied from the whole batch before it is written")
def cutmix_borders(x, y, alpha, generator=None):
    if alpha <= 0:
        raise ValueError("alpha must be above 0")
    (b, _, h, w), draws = x.shape, torch.full((2,), float(alpha), dtype=torch.float64)
    order = torch.randperm(b, generator=generator)
    keep, cut = torch._standard_gamma(draws, generator=generator).tolist()
    share = (cut / (keep + cut)) ** 0.5
    cut_h, cut_w = int(share * h), int(share * w)
    cy, cx = (int(torch.rand((), generator=generator, dtype=torch.float64) * size) for size in (h, w))
    y1, x1 = max(cy - cut_h // 2, 0), max(cx - cut_w // 2, 0)
    y2, x2 = min(cy - cut_h // 2 + cut_h, h), min(cx - cut_w // 2 + cut_w, w)
    mixed = torch.clone(x)
    mixed[..., y1:y2, x1:x2] = x[order, :, y1:y2, x1:x2]
    return mixed, y, y[order], 1 - (y2 - y1) * (x2 - x1) / (h * w)


# ------------------------------------------------------------------------------ R7 EarlyStopping


@alternative("EarlyStopping", says="a deep copy of the state_dict, and a comparison for each mode")
class StoppingDeepCopy:
    def __init__(self, patience, mode="min", min_delta=0.0):
        if patience < 1 or mode not in {"min", "max"} or min_delta < 0:
            raise ValueError("a setting is out of range")
        self.patience, self.mode, self.min_delta = patience, mode, min_delta
        self.best = self.best_step = self.kept = None
        self.number = 0
        self.bad = 0

    def step(self, value, module):
        value = value.item() if isinstance(value, torch.Tensor) else value
        if self.is_better(value):
            self.best, self.best_step, self.bad = value, self.number, 0
            self.kept = copy.deepcopy(module.state_dict())
        else:
            self.bad += 1
        self.number += 1
        return self.bad >= self.patience

    def is_better(self, value):
        if value != value:
            return False
        if self.best is None:
            return True
        return value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta

    def restore(self, module):
        if self.kept is not None:
            module.load_state_dict(self.kept, strict=True)


@alternative("EarlyStopping", says="the best value starts at infinity; parameters and buffers are kept and copied back")
class StoppingFromInfinity:
    def __init__(self, patience: int, mode: str = "min", min_delta: float = 0.0):
        if patience < 1:
            raise ValueError("patience")
        if mode != "min" and mode != "max":
            raise ValueError("mode")
        if min_delta < 0:
            raise ValueError("min_delta")
        self.settings = patience, mode, min_delta
        self.history: list[float] = []
        self.best: float | None = None
        self.best_step: int | None = None
        self.tensors: dict[str, torch.Tensor] = {}

    def step(self, value, module: nn.Module) -> bool:
        patience, mode, delta = self.settings
        self.history.append(float(value))
        now = self.history[-1] if mode == "min" else -self.history[-1]
        before = self.best if mode == "min" or self.best is None else -self.best
        first = before is None and not math.isnan(now)
        if first or (before is not None and now < before - delta):
            self.best, self.best_step = self.history[-1], len(self.history) - 1
            self.tensors = {name: tensor.clone() for name, tensor in self.everything(module)}
        waited = len(self.history) - (0 if self.best_step is None else self.best_step + 1)
        return waited >= patience

    def everything(self, module):
        with torch.no_grad():
            yield from module.named_parameters()
            yield from module.named_buffers()

    def restore(self, module: nn.Module) -> None:
        for name, tensor in self.everything(module):
            if name in self.tensors:
                with torch.no_grad():
                    tensor.copy_(self.tensors[name])


# ------------------------------------------------------------------------------ R8 bootstrap_loss


@alternative("bootstrap_loss", says="one matrix of mixed labels for both modes")
def bootstrap_mixed_labels(logits, targets, beta, mode):
    if beta < 0 or beta > 1:
        raise ValueError("beta")
    if mode not in ("soft", "hard"):
        raise ValueError("mode")
    k = logits.shape[1]
    given = F.one_hot(targets, k).to(logits.dtype)
    own = logits.softmax(1) if mode == "soft" else F.one_hot(logits.argmax(1), k).to(logits.dtype)
    labels = beta * given + (1 - beta) * own
    return -(labels * F.log_softmax(logits, dim=1)).sum(1).mean()


@alternative(
    "bootstrap_loss", says="the cross entropy plus the entropy, or the negative log of the largest probability"
)
def bootstrap_entropy(logits, targets, beta, mode):
    if not 0 <= beta <= 1:
        raise ValueError("beta must lie in [0, 1]")
    log_q = logits.log_softmax(-1)
    given = F.nll_loss(log_q, targets)
    if mode == "soft":
        return beta * given - (1 - beta) * (log_q.exp() * log_q).sum(-1).mean()
    if mode == "hard":
        own = logits.detach().argmax(1, keepdim=True)
        return beta * given - (1 - beta) * log_q.gather(1, own).mean()
    raise ValueError("mode must be soft or hard")


@alternative("bootstrap_loss", says="each class's loss first; soft mode is the expected one")
def bootstrap_by_losses(logits, targets, beta, mode):
    if beta < 0 or beta > 1 or mode not in ("soft", "hard"):
        raise ValueError("a setting is out of range")
    losses = torch.logsumexp(logits, 1, keepdim=True) - logits  # of each class, if it were the label
    rows = torch.arange(len(logits))
    if mode == "soft":
        own = (torch.exp(-losses) * losses).sum(1)
    else:
        own = losses[rows, logits.argmax(1)]
    return (beta * losses[rows, targets] + (1 - beta) * own).mean()
