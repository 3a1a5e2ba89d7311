"""Reference solutions of lesson 1: update rules, clipping, schedules, initialisation and accumulation.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. PyTorch's own version
of an exercise is blocked while that exercise is graded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sgd_momentum_step(
    p: Tensor, g: Tensor, buf: Tensor | None, *, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Tensor, Tensor]:
    """Take one step of stochastic gradient descent with momentum.

        buf' = g                         on the first step, where `buf` is None
        buf' = momentum · buf + g        on every later step
        d    = g + momentum · buf'       with `nesterov`
        d    = buf'                      without
        p'   = p − lr · d

    Args:
        p: parameter, any shape and any floating dtype.
        g: gradient of the loss at p, shaped like p.
        buf: momentum buffer, shaped like p: what the step before returned; None on the first step.
        lr: learning rate of this step.
        momentum: share of the buffer that is kept, in [0, 1).
        nesterov: True looks one step of momentum ahead.

    Returns:
        (p', buf'), in that order: new tensors that share no memory with the arguments, since the caller
        may overwrite g before the next step.

    Source: Sutskever et al. 2013, in the form of `torch.optim.SGD` (dampening 0).
    """
    # The clone keeps the buffer alive when the training loop zeroes the gradient in place.
    buf = g.clone() if buf is None else momentum * buf + g
    direction = g + momentum * buf if nesterov else buf
    return p - lr * direction, buf


def rmsprop_step(
    p: Tensor, g: Tensor, v: Tensor, *, lr: float, alpha: float = 0.99, eps: float = 1e-8
) -> tuple[Tensor, Tensor]:
    """Take one step of RMSprop: each element divides its step by the size of its own recent gradients.

        v' = alpha · v + (1 − alpha) · g²
        p' = p − lr · g / (√v' + eps)

    Args:
        p: parameter, any shape and any floating dtype.
        g: gradient of the loss at p, shaped like p.
        v: running mean of g², shaped like p: what the step before returned; zeros on the first step.
        lr: learning rate of this step.
        alpha: share of the old mean that is kept.
        eps: small constant, added after the root; it keeps a zero gradient from dividing 0 by 0.

    Returns:
        (p', v'), in that order; the arguments keep their values.

    Source: Hinton 2012, lecture 6e, in the form of `torch.optim.RMSprop`.
    """
    v = alpha * v + (1 - alpha) * g.square()
    return p - lr * g / (v.sqrt() + eps), v


def adamw_step(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of AdamW: Adam, with weight decay kept out of the gradient.

        m' = β₁ · m + (1 − β₁) · g
        v' = β₂ · v + (1 − β₂) · g²
        m̂  = m' / (1 − β₁ᵗ)
        v̂  = v' / (1 − β₂ᵗ)
        p' = (1 − lr · weight_decay) · p − lr · m̂ / (√v̂ + eps)

    Args:
        p: parameter, any shape and any floating dtype.
        g: gradient of the loss at p, shaped like p.
        m: running mean of g, shaped like p; zeros on the first step.
        v: running mean of g², shaped like p; zeros on the first step.
        t: number of this step. The first step has t = 1.
        lr: learning rate of this step.
        betas: (β₁, β₂), the shares of the old means that are kept.
        eps: small constant, added to the root of the corrected v̂.
        weight_decay: strength of the decay; it shrinks p as it was before this step.

    Returns:
        (p', m', v'), in that order: the running means as they are, without the correction; the arguments
        keep their values.

    Source: Loshchilov & Hutter 2019, algorithm 2, in the form of `torch.optim.AdamW`.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g.square()
    # Both means began at zero; dividing by the weight collected so far removes that bias.
    corrected_m = m / (1 - beta1**t)
    corrected_v = v / (1 - beta2**t)
    p = (1 - lr * weight_decay) * p - lr * corrected_m / (corrected_v.sqrt() + eps)
    return p, m, v


class MyAdamW(torch.optim.Optimizer):
    """AdamW as an optimizer that a training loop, a checkpoint and Lightning can use.

    The rule is that of `adamw_step`, applied to every parameter that has a gradient.

    Args:
        params: parameters, or dictionaries of parameter groups with their own settings.
        lr: learning rate.
        betas: (β₁, β₂), the shares of the old means that are kept.
        eps: small constant, added to the root of the corrected v̂.
        weight_decay: strength of the decoupled decay.

    What it promises:
        - Settings are read from `self.param_groups` at every step, so groups may differ and a schedule may
          change `group["lr"]`.
        - A parameter whose `.grad` is None is left alone: it neither moves nor decays, and its own t stands still.
        - All that must survive a restart, t included, lies in `self.state[p]` as tensors and numbers. After
          `load_state_dict` into a new optimizer, training goes on as if it had never stopped.
        - Parameters change in place; whoever else holds their memory sees the new values. Gradients do not change.

    Source: Loshchilov & Hutter 2019; equals `torch.optim.AdamW`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        """Take the parameters and the settings that a group has when it names no others."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; it runs
                before the update, with gradients enabled even where the caller has switched them off.

        Returns:
            What the closure returned, or None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:  # at a parameter's first gradient: some join late, some never
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                t, m, v = state["t"], state["m"], state["v"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                root = v.sqrt() / math.sqrt(1 - beta2**t) + group["eps"]
                p.addcdiv_(m, root, value=-group["lr"] / (1 - beta1**t))
        return loss


@torch.no_grad()
def clip_by_global_norm_(params: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients by one common factor, so that together they are at most `max_norm` long.

        norm  = √(sum of g² over every element of every gradient)
        scale = min(1, max_norm / (norm + 1e-6))
        g     ← scale · g              in place, for every gradient

    Call it between `backward` and `step`; under mixed precision, after the gradients were unscaled.

    Args:
        params: parameters, as a list or as an iterator that can be walked once, such as `model.parameters()`;
            those whose `.grad` is None are passed over.
        max_norm: the largest length allowed, above 0.

    Returns:
        The norm *before* clipping, shape (), with the gradients' dtype; zero when there is no gradient at all.
        A norm of inf is returned as inf, so that the caller can skip the step; what the gradients hold then is
        left open.

    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1; equals `torch.nn.utils.clip_grad_norm_`.
    """
    grads = [p.grad for p in params if p.grad is not None]  # a list: it is walked twice
    if not grads:
        return torch.tensor(0.0)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # no `if`: that would wait for the GPU
    for g in grads:
        g.mul_(scale)
    return norm


def warmup_cosine(step: int, *, base: float, min: float, warmup: int, total: int) -> float:
    """Return the learning rate of one step: a straight climb to `base`, then half a cosine down to `min`.

        step ≥ total             min
        step < warmup            base · (step + 1) / (warmup + 1)
        otherwise                min + ½ · (base − min) · (1 + cos(π · (step − warmup) / (total − warmup)))

    The first line that fits counts. So step 0 already moves, step `warmup` runs at `base` (the one peak),
    and step `total` and all after it run at `min`. With warmup = 0 the cosine starts at once; with
    warmup = total the climb lasts until the end.

    Args:
        step: number of the optimizer step (not of the epoch). The first step is step 0.
        base: the highest rate.
        min: the last rate. Inside this function the name hides Python's own `min`.
        warmup: steps of the climb, 0 ≤ warmup ≤ total.
        total: steps of the whole schedule, at least 1.

    Returns:
        The rate, a Python float.

    Source: Goyal et al. 2017 (warm-up); Loshchilov & Hutter 2017, equation 5 (cosine).
    """
    if step >= total:  # asked first, so that warmup = total never reaches the division below
        return min
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (total - warmup)
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * progress))


def init_(module: nn.Module, scheme: str) -> None:
    """Draw fresh weights for one layer in place, and set its bias to zero.

        scheme            weights are drawn from
        he_normal         N(0, σ²)              with σ² = 2 / fan_in
        he_uniform        U(−√3·σ, √3·σ)        with σ² = 2 / fan_in
        xavier_normal     N(0, σ²)              with σ² = 2 / (fan_in + fan_out)
        xavier_uniform    U(−√3·σ, √3·σ)        with σ² = 2 / (fan_in + fan_out)

    fan_in counts the inputs that one output sums, fan_out the outputs that one input reaches: for a Linear the
    numbers of features, for a Conv2d (groups = 1) the numbers of channels times the area of the kernel.

    Args:
        module: a `nn.Linear` or `nn.Conv2d`, with or without bias. Any other module is left untouched, so
            that `model.apply(lambda module: init_(module, "he_normal"))` works. The Parameter objects stay
            the same: an optimizer may hold them already.
        scheme: one of the four names above.

    Randomness comes from PyTorch's global generator; do not seed it here.

    Raises:
        ValueError: the scheme is not one of the four.

    Source: He et al. 2015, equation 10; Glorot & Bengio 2010, equations 12 and 16. The variances equal those of
    `nn.init.kaiming_*_(nonlinearity="relu")` and `nn.init.xavier_*_`.
    """
    family, _, shape = scheme.partition("_")
    if family not in ("he", "xavier") or shape not in ("normal", "uniform"):
        raise ValueError(f"init_: scheme must be he_ or xavier_ with normal or uniform. Got {scheme!r}.")
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return
    area = math.prod(module.weight.shape[2:])  # of the kernel; 1 for a Linear
    fan_out, fan_in = module.weight.shape[0] * area, module.weight.shape[1] * area
    # He halves the fan because ReLU zeroes half of the inputs; Xavier averages forward and backward.
    std = math.sqrt(2 / fan_in if family == "he" else 2 / (fan_in + fan_out))
    with torch.no_grad():
        if shape == "normal":
            module.weight.normal_(0, std)
        else:
            bound = math.sqrt(3) * std  # U(−a, a) has variance a²/3
            module.weight.uniform_(-bound, bound)
        if module.bias is not None:
            module.bias.zero_()


def train_accumulated(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    k: int,
    optimizer: torch.optim.Optimizer,
    *,
    max_norm: float | None = None,
    schedule: Callable[[int], float] | None = None,
) -> list[float]:
    """Train one pass, taking one optimizer step for every k micro-batches.

    Each step must equal the step on the *big batch*: the k micro-batches put together, with the mean cross
    entropy over all its rows. Only the memory differs: the model sees one micro-batch at a time.
    For every group of k micro-batches, in this order:

        1. forget every gradient that the parameters still hold
        2. add up the gradients of the group's micro-batches
        3. clip the global norm of the sum to `max_norm`, once
        4. set the rate of every parameter group to `schedule(n)`
        5. take one optimizer step

    Micro-batches may differ in rows: every *row* of the group counts the same. The last group may have fewer
    than k micro-batches; it is a step like the others.

    Args:
        model: maps inputs (b, ...) to logits (b, classes). It must treat rows alone: BatchNorm would see
            the micro-batch, and then no way of accumulating equals the big batch.
        batches: pairs of inputs (b, ...) and class numbers (b,), b ≥ 1; an iterator that can be walked once
            is enough.
        k: micro-batches in a group, at least 1.
        optimizer: holds all parameters of the model.
        max_norm: largest global norm of a step's gradient, as in `torch.nn.utils.clip_grad_norm_` (which you
            may use here); None does not clip.
        schedule: learning rate of *optimizer* step n = 0, 1, 2, ... of this call; None leaves the optimizer's own.

    Returns:
        For each optimizer step, the mean cross entropy over the group's rows before the step (nats), as floats.

    Source: the linearity of the gradient; Goyal et al. 2017, section 3, for its pitfalls.
    """
    losses: list[Tensor] = []
    batches = iter(batches)
    while group := list(islice(batches, k)):
        rows = sum(targets.numel() for _, targets in group)
        optimizer.zero_grad()
        shares = []
        for inputs, targets in group:
            # Sum over this micro-batch, divide by the whole group: the mean that the big batch has.
            loss = F.cross_entropy(model(inputs), targets, reduction="sum") / rows
            loss.backward()  # adds to .grad, and frees this micro-batch's graph
            shares.append(loss.detach())
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        if schedule is not None:
            for settings in optimizer.param_groups:
                settings["lr"] = schedule(len(losses))
        optimizer.step()
        losses.append(torch.stack(shares).sum())
    return [loss.item() for loss in losses]


def one_cycle(
    step: int,
    *,
    peak: float,
    total: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """Return the learning rate of one optimizer step in the one-cycle schedule.

        first = peak / div_factor
        last  = first / final_div_factor
        top   = pct_start · total − 1                               may lie between two steps
        step ≤ top           half a cosine from first (step 0) up to peak (step top)
        top < step < total   half a cosine from peak (step top) down to last (step total − 1)
        step ≥ total         last

    Half a cosine from a to b, at progress x from 0 to 1, is b + ½ · (a − b) · (1 + cos(π · x)).

    Args:
        step: number of the optimizer step (not of the micro-batch, not of the epoch). The first is step 0.
        peak: the highest rate.
        total: steps of the whole cycle, at least 2.
        pct_start: share of the steps that climb; 1 < pct_start · total < total.
        div_factor: the first rate is the peak divided by this.
        final_div_factor: the last rate is the first divided by this.

    Returns:
        The rate, a Python float.

    Source: Smith & Topin 2018; equals `torch.optim.lr_scheduler.OneCycleLR` (cosine, two phases), and stays at
    its last rate afterwards.
    """
    first = peak / div_factor
    last = first / final_div_factor
    top = pct_start * total - 1
    if step <= top:
        a, b, progress = first, peak, step / top
    elif step < total:
        a, b, progress = peak, last, (step - top) / (total - 1 - top)
    else:
        return last
    return b + 0.5 * (a - b) * (1 + math.cos(math.pi * progress))
