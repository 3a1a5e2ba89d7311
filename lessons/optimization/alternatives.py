"""Other right answers, written in other ways: the grader must accept each of them."""

# Learners' code: it leans on PyTorch's private names and its loosely typed base class.
# pyright: reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.grading.answers import alternative

# --------------------------------------------------------------------------- O1 sgd_momentum_step


@alternative("sgd_momentum_step", says="in-place operators on copies")
def sgd_in_place_on_copies(p, g, buf, *, lr, momentum, nesterov=False):
    buf = torch.zeros_like(g) if buf is None else buf.clone()
    buf.mul_(momentum).add_(g)
    p = p.clone()
    p.sub_(g + momentum * buf if nesterov else buf, alpha=lr)
    return p, buf


@alternative("sgd_momentum_step", says="one sum: the Nesterov direction written out")
def sgd_written_out(p, g, buf, *, lr, momentum, nesterov=False):
    past = 0 * g if buf is None else momentum * buf
    ahead = (1 + momentum) * g + momentum * past if nesterov else g + past
    return torch.add(p, ahead, alpha=-lr), torch.add(past, g)


@alternative("sgd_momentum_step", says="foreach operators, as PyTorch's own multi-tensor path")
def sgd_foreach(p, g, buf, *, lr, momentum, nesterov=False):
    if buf is None:
        buffers = [g.detach().clone()]
    else:
        buffers = list(torch._foreach_add([g], [buf], alpha=momentum))
    directions = torch._foreach_add([g], buffers, alpha=momentum) if nesterov else buffers
    return torch._foreach_sub([p], directions, alpha=lr)[0], buffers[0]


# -------------------------------------------------------------------------------- O2 rmsprop_step


@alternative("rmsprop_step", says="lerp towards the squared gradient, then addcdiv")
def rmsprop_lerp(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = torch.lerp(v, g * g, 1 - alpha)
    return torch.addcdiv(p, g, v.sqrt() + eps, value=-lr), v


@alternative("rmsprop_step", says="in-place operators on copies")
def rmsprop_in_place_on_copies(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    p, v = p.clone(), v.clone()
    v.mul_(alpha).addcmul_(g, g, value=1 - alpha)
    p.addcdiv_(g, v.sqrt().add_(eps), value=-lr)
    return p, v


@alternative("rmsprop_step", says="each element's own learning rate first")
def rmsprop_rate_first(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = g**2 + alpha * (v - g**2)
    rate = lr / (v**0.5 + eps)
    return p - rate * g, v


# ---------------------------------------------------------------------------------- O3 adamw_step


@alternative("adamw_step", says="PyTorch's own order: decay, lerp, addcmul, addcdiv, on copies")
def adamw_in_pytorch_order(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    p = p.clone().mul_(1 - lr * weight_decay)
    m = m.clone().lerp_(g, 1 - beta1)
    v = v.clone().mul_(beta2).addcmul_(g, g, value=1 - beta2)
    root = (v.sqrt() / math.sqrt(1 - beta2**t)).add_(eps)
    return p.addcdiv_(m, root, value=-lr / (1 - beta1**t)), m, v


@alternative("adamw_step", says="the paper's form: decay inside the bracket, of the weight before the step")
def adamw_decay_in_the_bracket(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    adam = m / (1 - betas[0] ** t) / ((v / (1 - betas[1] ** t)) ** 0.5 + eps)
    return p - lr * (adam + weight_decay * p), m, v


@alternative("adamw_step", says="the ε̂ form with eps scaled to fit: √v + eps·√(1 − β₂ᵗ)")
def adamw_scaled_eps(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    (beta1, beta2), root = betas, math.sqrt(1 - betas[1] ** t)
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g.pow(2) - v)
    rate = lr * root / (1 - beta1**t)
    return p - lr * weight_decay * p - rate * m / (v.sqrt() + eps * root), m, v


# ------------------------------------------------------------------------------------- O4 MyAdamW


@alternative("MyAdamW", says="state made for every parameter at once, in self.state")
class AdamWEagerState(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}

    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    self.update(p, self.state[p], **{k: v for k, v in group.items() if k != "params"})
        return loss

    @staticmethod
    def update(p, state, lr, betas, eps, weight_decay, **_):
        state["step"] += 1
        state["mean"] = torch.lerp(state["mean"], p.grad, 1 - betas[0])
        state["square"] = torch.lerp(state["square"], p.grad.square(), 1 - betas[1])
        mean = state["mean"] / (1 - betas[0] ** state["step"])
        square = state["square"] / (1 - betas[1] ** state["step"])
        p -= lr * (mean / (square.sqrt() + eps) + weight_decay * p)


@alternative("MyAdamW", says="foreach operators and a step count that is a tensor")
class AdamWForeach(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def update(self, parameters, group):
        if not parameters:
            return
        grads = [p.grad for p in parameters]
        for p in parameters:
            if "step" not in self.state[p]:
                self.state[p]["step"] = torch.tensor(0.0)
                self.state[p]["exp_avg"] = p.new_zeros(p.shape)
                self.state[p]["exp_avg_sq"] = p.new_zeros(p.shape)
        states = [self.state[p] for p in parameters]
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        beta1, beta2 = group["betas"]
        torch._foreach_add_([s["step"] for s in states], 1)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for p, mean, square, state in zip(parameters, means, squares, states, strict=True):
            t = state["step"].item()
            p.addcdiv_(mean, (square / (1 - beta2**t)).sqrt() + group["eps"], value=-group["lr"] / (1 - beta1**t))


# ---------------------------------------------------------------------------- O5 clip_by_global_norm_


@alternative("clip_by_global_norm_", says="one long vector of all gradients, changed through .data")
def clip_one_long_vector(params, max_norm):
    with_gradient = [p for p in list(params) if p.grad is not None]
    if len(with_gradient) == 0:
        return torch.zeros(())
    norm = torch.cat([p.grad.detach().reshape(-1) for p in with_gradient]).norm()
    factor = torch.minimum(torch.ones_like(norm), max_norm / (norm + 1e-6))
    for p in with_gradient:
        p.grad.data *= factor
    return norm


@alternative("clip_by_global_norm_", says="foreach operators, and an if: scaled only where the norm is too large")
@torch.no_grad()
def clip_foreach(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack(torch._foreach_norm(grads)).norm() if grads else torch.tensor(0.0)
    if norm > max_norm:
        torch._foreach_mul_(grads, max_norm / (norm.item() + 1e-6))
    return norm


@alternative("clip_by_global_norm_", says="a running sum of squares, written back with copy_")
def clip_sum_of_squares(params, max_norm):
    grads = []
    for p in params:
        if p.grad is not None:
            grads.append(p.grad)
    if not grads:
        return torch.tensor(0.0)
    total = torch.zeros((), dtype=grads[0].dtype, device=grads[0].device)
    for g in grads:
        total = total + (g * g).sum()
    norm = total.sqrt()
    for g in grads:
        g.copy_(g * (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


# --------------------------------------------------------------------------------- O6 warmup_cosine


@alternative("warmup_cosine", says="the mean of both ends plus half their distance times the cosine; divisions guarded")
def schedule_mean_and_amplitude(step, *, base, min, warmup, total):
    import builtins

    if step < warmup and step < total:
        return base / (warmup + 1) * (step + 1)
    progress = builtins.min(1.0, (step - warmup) / max(1, total - warmup))
    if step >= total:
        progress = 1.0
    return (base + min) / 2 + (base - min) / 2 * math.cos(progress * math.pi)


@alternative("warmup_cosine", says="the squared cosine of half the angle, branches in another order")
def schedule_squared_cosine(step, *, base, min, warmup, total):
    if step < warmup:
        return base - base * (warmup - step) / (warmup + 1)
    if step < total:
        angle = 0.5 * math.pi * (step - warmup) / (total - warmup)
        return min * math.sin(angle) ** 2 + base * math.cos(angle) ** 2
    return float(min)


@alternative("warmup_cosine", says="with torch, turned into a float at the end")
def schedule_with_torch(step, *, base, min, warmup, total):
    climb = torch.linspace(0, base, warmup + 2, dtype=torch.float64)[1:-1]
    fall = torch.linspace(0, math.pi, total - warmup + 1, dtype=torch.float64)[:-1].cos() + 1
    rates = torch.cat([climb, min + fall * (base - min) / 2])
    return rates[step].item() if step < total else min


# ----------------------------------------------------------------------------------------- O7 init_


@alternative("init_", says="copies drawn tensors into the parameters through .data; the schemes in a table")
def init_from_a_table(module, scheme):
    if scheme not in {"he_normal", "he_uniform", "xavier_normal", "xavier_uniform"}:
        raise ValueError(f"unknown scheme {scheme}")
    if type(module) not in (nn.Linear, nn.Conv2d):
        return
    weight = module.weight.data
    fan_in = weight[0].numel()
    fan_out = weight[:, 0].numel()
    std = {"he": (2 / fan_in) ** 0.5, "xavier": (2 / (fan_in + fan_out)) ** 0.5}[scheme.split("_")[0]]
    if scheme.endswith("uniform"):
        weight.copy_((2 * torch.rand(weight.shape, dtype=weight.dtype) - 1) * 3**0.5 * std)
    else:
        weight.copy_(torch.randn(weight.shape, dtype=weight.dtype) * std)
    if module.bias is not None:
        module.bias.data.fill_(0)


@alternative("init_", says="nn.init's plain draws, with the fans read from the layer's own attributes")
def init_from_attributes(module, scheme):
    if isinstance(module, nn.Linear):
        fan_in, fan_out = module.in_features, module.out_features
    elif isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_in, fan_out = module.in_channels * height * width, module.out_channels * height * width
    else:
        return
    match scheme:
        case "he_normal":
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in))
        case "he_uniform":
            nn.init.uniform_(module.weight, -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in))
        case "xavier_normal":
            nn.init.normal_(module.weight, std=math.sqrt(2 / (fan_in + fan_out)))
        case "xavier_uniform":
            bound = math.sqrt(6 / (fan_in + fan_out))
            nn.init.uniform_(module.weight, -bound, bound)
        case _:
            raise ValueError(scheme)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


@alternative("init_", says="new data for the same Parameter objects; the bound of Glorot and He written out")
def init_with_new_data(module, scheme):
    if scheme not in ("he_normal", "he_uniform", "xavier_normal", "xavier_uniform"):
        raise ValueError(scheme)
    if module.__class__.__name__ not in ("Linear", "Conv2d"):
        return
    outputs, inputs, *kernel = module.weight.shape
    area = kernel[0] * kernel[1] if kernel else 1
    fans = inputs * area if scheme.startswith("he") else (inputs + outputs) * area
    if "normal" in scheme:
        module.weight.data = torch.randn_like(module.weight) * math.sqrt(2 / fans)
    else:
        module.weight.data = (torch.rand_like(module.weight) - 0.5) * 2 * math.sqrt(6 / fans)
    if module.bias is not None:
        module.bias.data = torch.zeros_like(module.bias)


# ----------------------------------------------------------------------------- O8 train_accumulated


@alternative("train_accumulated", says="one walk: sums first, gradients divided by the rows when the group is full")
def accumulate_then_divide(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses: list[float] = []
    rows, total = 0, 0.0

    def finish():
        nonlocal rows, total
        for p in model.parameters():
            p.grad.div_(rows)
        if max_norm:
            norm = torch.stack([(p.grad**2).sum() for p in model.parameters()]).sum().sqrt()
            for p in model.parameters():
                p.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
        if schedule:
            for group in optimizer.param_groups:
                group["lr"] = schedule(len(losses))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / rows)
        rows, total = 0, 0.0

    optimizer.zero_grad()
    for number, (inputs, targets) in enumerate(batches, start=1):
        loss = F.cross_entropy(model(inputs), targets, reduction="sum")
        loss.backward()
        rows, total = rows + len(targets), total + loss.item()
        if number % k == 0:
            finish()
    if rows:
        finish()
    return losses


@alternative("train_accumulated", says="mean losses weighted by their share of rows, gradients from autograd.grad")
def accumulate_weighted_means(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    batches, parameters, losses = list(batches), list(model.parameters()), []
    for first in range(0, len(batches), k):
        group = batches[first : first + k]
        weights = torch.tensor([len(targets) for _, targets in group], dtype=torch.float64)
        weights /= weights.sum()
        sums: list[Any] = [torch.zeros_like(p) for p in parameters]
        mean = 0.0
        for weight, (inputs, targets) in zip(weights.tolist(), group, strict=True):
            loss = F.cross_entropy(model(inputs), targets)
            for total, g in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                total.add_(g, alpha=weight)
            mean += weight * loss.item()
        for p, total in zip(parameters, sums, strict=True):
            p.grad = total
        if max_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_norm)
        if schedule is not None:
            for settings in optimizer.param_groups:
                settings.update(lr=schedule(len(losses)))
        optimizer.step()
        losses.append(mean)
    return losses


@alternative("one_cycle", says="one helper for both halves, the squared cosine of half the angle")
def cycle_with_a_helper(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    def between(a: float, b: float, progress: float) -> float:
        return b + (a - b) * math.cos(0.5 * math.pi * progress) ** 2

    top, end = pct_start * total - 1, total - 1
    first = peak / div_factor
    if step < top:
        return between(first, peak, step / top)
    return between(peak, first / final_div_factor, (min(step, end) - top) / (end - top))


@alternative("one_cycle", says="with torch.where, turned into a float at the end")
def cycle_with_torch(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    now = torch.tensor(float(step), dtype=torch.float64).clamp(max=total - 1)
    top = torch.tensor(pct_start * total - 1, dtype=torch.float64)
    first, last = peak / div_factor, peak / div_factor / final_div_factor

    def cosine(a: float, b: float, progress: Tensor) -> Tensor:
        return b + (a - b) * (1 + torch.cos(math.pi * progress)) / 2

    return torch.where(
        now <= top, cosine(first, peak, now / top), cosine(peak, last, (now - top) / (total - 1 - top))
    ).item()
