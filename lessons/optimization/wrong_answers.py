"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

# Learners' code: an answer's name is that of its mistake, and some mistakes are such that the tools see them.
# ruff: noqa: N801, RET503
# pyright: reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

import math
from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.grading.answers import dialect, wrong

# --------------------------------------------------------------------------- O1 sgd_momentum_step


@wrong(
    "sgd_momentum_step", says="You scaled g by 1 − momentum; PyTorch's buffer is a sum of gradients, not their average."
)
def averages_the_gradient(p, g, buf, *, lr, momentum, nesterov=False):
    buf = torch.zeros_like(p) if buf is None else buf
    buf = momentum * buf + (1 - momentum) * g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="lr belongs outside the buffer, or a schedule would act on past gradients too late.")
def rate_inside_the_buffer(p, g, buf, *, lr, momentum, nesterov=False):
    buf = lr * g if buf is None else momentum * buf + lr * g
    return p - (lr * g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="The first buffer must equal the gradient; yours is still zero after the first step.")
def first_buffer_is_zero(p, g, buf, *, lr, momentum, nesterov=False):
    buf = torch.zeros_like(g) if buf is None else momentum * buf + g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="With nesterov the direction is g + momentum · buf', not the buffer alone.")
def nesterov_is_the_buffer(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else momentum * buf + g
    return p - lr * buf, buf


@wrong("sgd_momentum_step", says="Nesterov looks ahead by momentum · buf'; you added the whole buffer to g.")
def nesterov_adds_the_whole_buffer(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else momentum * buf + g
    return p - lr * (g + buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="The momentum scales the old buffer, not the new gradient.")
def momentum_scales_the_gradient(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else buf + momentum * g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="The sign is wrong: descend, do not ascend.")
def sgd_ascends(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else momentum * buf + g
    return p + lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="You returned (buf, p); the order is (p, buf).")
def sgd_swaps_its_results(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else momentum * buf + g
    return buf, p - lr * (g + momentum * buf if nesterov else buf)


@wrong(
    "sgd_momentum_step", says="Your first buffer is the gradient's own memory: the next zero_grad wipes it; clone it."
)
def buffer_shares_the_gradient(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g if buf is None else momentum * buf + g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="You changed the caller's p in place; return a new tensor.")
def sgd_changes_p(p, g, buf, *, lr, momentum, nesterov=False):
    buf = g.clone() if buf is None else momentum * buf + g
    p -= lr * (g + momentum * buf if nesterov else buf)
    return p, buf


@wrong("sgd_momentum_step", says="Your new buffer is always float32 on the CPU; build it from g, as in zeros_like(g).")
def buffer_is_always_float32(p, g, buf, *, lr, momentum, nesterov=False):
    buf = torch.zeros(p.shape) if buf is None else buf
    buf = momentum * buf + g
    return p - lr * (g + momentum * buf if nesterov else buf), buf


@wrong("sgd_momentum_step", says="You computed in float32 on the way, so float64 inputs lose precision.")
def sgd_in_float32(p, g, buf, *, lr, momentum, nesterov=False):
    g32 = g.float()
    buf = g32.clone() if buf is None else momentum * buf.float() + g32
    p = p.float() - lr * (g32 + momentum * buf if nesterov else buf)
    return p.to(g.dtype), buf.to(g.dtype)


# -------------------------------------------------------------------------------- O2 rmsprop_step


@wrong("rmsprop_step", says="eps is inside the root; PyTorch adds it outside, after the root.")
def rmsprop_eps_inside_the_root(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = alpha * v + (1 - alpha) * g**2
    return p - lr * g / torch.sqrt(v + eps), v


@wrong("rmsprop_step", says="alpha and 1 − alpha are swapped: alpha is the share of the old mean that is kept.")
def alpha_is_swapped(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = (1 - alpha) * v + alpha * g**2
    return p - lr * g / (v.sqrt() + eps), v


@wrong("rmsprop_step", says="You took no square root: v has the unit of g², the step must divide by √v.")
def rmsprop_without_the_root(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = alpha * v + (1 - alpha) * g**2
    return p - lr * g / (v + eps), v


@wrong("rmsprop_step", says="You added the step; subtract it to descend.")
def rmsprop_ascends(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = alpha * v + (1 - alpha) * g**2
    return p + lr * g / (v.sqrt() + eps), v


@wrong("rmsprop_step", says="You averaged g² over the whole tensor; v is kept for each element.")
def v_is_shared_by_all_elements(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = alpha * v + (1 - alpha) * (g**2).mean()
    return p - lr * g / (v.sqrt() + eps), v


@wrong("rmsprop_step", says="You divided by the old v; update v first, then use the new one.")
def divides_by_the_old_v(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    return p - lr * g / (v.sqrt() + eps), alpha * v + (1 - alpha) * g**2


@wrong("rmsprop_step", says="Without eps a zero gradient divides 0 by 0, and the weight becomes NaN.")
def rmsprop_without_eps(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = alpha * v + (1 - alpha) * g**2
    return p - lr * g / v.sqrt(), v


@wrong("rmsprop_step", says="That is AdaGrad: a sum that never forgets; RMSprop keeps a running mean.")
def sums_like_adagrad(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v = v + g**2
    return p - lr * g / (v.sqrt() + eps), v


@wrong("rmsprop_step", says="You changed the caller's v in place; return a new tensor.")
def rmsprop_changes_v(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    v.mul_(alpha).addcmul_(g, g, value=1 - alpha)
    return p - lr * g / (v.sqrt() + eps), v


@wrong("rmsprop_step", says="You computed in float32 on the way, so float64 inputs lose precision.")
def rmsprop_in_float32(p, g, v, *, lr, alpha=0.99, eps=1e-8):
    new = alpha * v.float() + (1 - alpha) * g.float() ** 2
    return (p.float() - lr * g.float() / (new.sqrt() + eps)).to(p.dtype), new.to(v.dtype)


# ---------------------------------------------------------------------------------- O3 adamw_step


@wrong("adamw_step", says="The bias correction is missing: m and v began at zero, so early steps come out wrong.")
def adamw_without_correction(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    return p * (1 - lr * weight_decay) - lr * m / (v.sqrt() + eps), m, v


@wrong("adamw_step", says="You corrected m but not v.")
def corrects_only_m(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    return p * (1 - lr * weight_decay) - lr * m / (1 - betas[0] ** t) / (v.sqrt() + eps), m, v


@wrong("adamw_step", says="Your first step used t = 2: t already counts this step, do not add one.")
def first_step_is_two(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    t = t + 1
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="The corrections need beta to the power t; yours are the same at every step.")
def correction_without_the_power(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0]), v / (1 - betas[1])
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="Weight decay entered the gradient: that is Adam with L2, not AdamW.")
def decay_enters_the_gradient(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="The decay is not multiplied by lr, so a schedule would not act on it.")
def decay_without_the_rate(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="eps is inside the square root; add it after the root.")
def adamw_eps_inside_the_root(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - lr * weight_decay) - lr * m_hat / torch.sqrt(v_hat + eps), m, v


@wrong("adamw_step", says="You took no square root: v has the unit of g², the step must divide by √v̂.")
def adamw_without_the_root(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat + eps), m, v


@wrong("adamw_step", says="You returned the corrected means; the next step needs m and v as they are.")
def returns_the_corrected_means(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - lr * weight_decay) - lr * m / (v.sqrt() + eps), m, v


@wrong("adamw_step", says="The betas are swapped: the first belongs to m, the second to v.")
def betas_are_swapped(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    beta2, beta1 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="You changed the caller's m and v in place; return new tensors.")
def adamw_changes_its_means(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@wrong("adamw_step", says="The betas and t were made float32 tensors, so float64 inputs lose precision.")
def adamw_in_float32(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = (mean / (1 - torch.tensor(beta) ** t) for mean, beta in zip((m, v), betas, strict=True))
    return p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps), m, v


@dialect(
    "adamw_step",
    says="Your decay shrinks the weight after the step; PyTorch shrinks it before. Both are in use.",
)
def decays_after_the_step(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    p = p - lr * m_hat / (v_hat.sqrt() + eps)
    return p - lr * weight_decay * p, m, v


@dialect(
    "adamw_step",
    says="This is the ε̂ form of Kingma & Ba, section 2: eps joins √v before the correction, PyTorch's after it.",
)
def epsilon_hat(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    return p * (1 - lr * weight_decay) - rate * m / (v.sqrt() + eps), m, v


@dialect(
    "adamw_step",
    says="Two habits differ from PyTorch: eps joins √v before the correction (ε̂), and the decay follows the step.",
)
def epsilon_hat_and_late_decay(p, g, m, v, t, *, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    p = p - lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * m / (v.sqrt() + eps)
    return p - lr * weight_decay * p, m, v


# ------------------------------------------------------------------------------------- O4 MyAdamW


class _RightSoFar(torch.optim.Optimizer):
    """A right AdamW in pieces; each class below replaces the piece that its author got wrong."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, group)
        return loss

    def update(self, p, group):
        state = self.state[p]
        if not state:
            state["t"], state["m"], state["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
        state["t"] += 1
        self.move(p, p.grad, state["m"], state["v"], state["t"], **group)

    def move(self, p, g, m, v, t, *, lr, betas, eps, weight_decay, **_):
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p.mul_(1 - lr * weight_decay).sub_(lr * m_hat / (v_hat.sqrt() + eps))


@wrong("MyAdamW", says="`step` takes no closure, so Lightning, which calls step(closure=...), cannot train with it.")
class step_takes_no_closure(_RightSoFar):
    def step(self):
        return super().step()


@wrong("MyAdamW", says="The closure ran without gradients, so its backward fails; wrap it in torch.enable_grad().")
class closure_without_gradients(_RightSoFar):
    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        super().step()
        return loss


@wrong("MyAdamW", says="The closure never ran: call it before the update, it computes the gradients.")
class closure_never_runs(_RightSoFar):
    def step(self, closure=None):
        return super().step()


@wrong("MyAdamW", says="`step` must return the closure's loss; yours returns None.")
class loss_is_not_returned(_RightSoFar):
    def step(self, closure=None):
        super().step(closure)


@wrong(
    "MyAdamW", says="You rebound p.data to a new tensor; update in place, so that others who hold the memory see it."
)
class rebinds_the_data(_RightSoFar):
    def move(self, p, g, m, v, t, **settings):
        value = p.data.clone()
        super().move(value, g, m, v, t, **settings)
        p.data = value


@wrong("MyAdamW", says="One t is shared by all parameters; keep t per parameter, or late ones are corrected wrongly.")
class one_t_for_all(_RightSoFar):
    def step(self, closure=None):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
        return super().step(closure)

    def move(self, p, g, m, v, t, *, steps, **settings):
        super().move(p, g, m, v, steps, **settings)


@wrong("MyAdamW", says="m, v and t are created in `__init__` outside self.state, so state_dict and resume lose them.")
class state_outside_the_state(_RightSoFar):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)
        everything = [p for group in self.param_groups for p in group["params"]]
        self.m = {p: torch.zeros_like(p) for p in everything}
        self.v = {p: torch.zeros_like(p) for p in everything}
        self.t = dict.fromkeys(everything, 0)

    def update(self, p, group):
        self.t[p] += 1
        self.move(p, p.grad, self.m[p], self.v[p], self.t[p], **group)


@wrong("MyAdamW", says="t is kept outside self.state, so after a resume the bias correction starts anew.")
class t_is_not_saved(_RightSoFar):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)
        self.counts = {}

    def update(self, p, group):
        state = self.state[p]
        if not state:
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
        self.counts[p] = self.counts.get(p, 0) + 1
        self.move(p, p.grad, state["m"], state["v"], self.counts[p], **group)


@wrong("MyAdamW", says="The new m and v are never stored back in self.state, so every step starts from zero.")
class means_are_not_stored(_RightSoFar):
    def move(self, p, g, m, v, t, **settings):
        super().move(p, g, m.clone(), v.clone(), t, **settings)


@wrong("MyAdamW", says="Parameters without a gradient must be skipped, not decayed.")
class decays_without_a_gradient(_RightSoFar):
    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
        return loss


@wrong("MyAdamW", says="Only the first parameter group is trained; walk through all of self.param_groups.")
class only_the_first_group(_RightSoFar):
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                self.update(p, self.param_groups[0])
        return loss


@wrong(
    "MyAdamW",
    says="Settings come from the constructor; read them from each group, or groups and schedules are ignored.",
)
class settings_from_the_constructor(_RightSoFar):
    def update(self, p, group):
        super().update(p, self.defaults)


@wrong("MyAdamW", says="You changed the gradient in place; others, such as gradient logging, read it after the step.")
class changes_the_gradient(_RightSoFar):
    def move(self, p, g, m, v, t, **settings):
        super().move(p, g, m, v, t, **settings)
        g.mul_(1 - settings["betas"][0])


@wrong("MyAdamW", says="Weight decay entered the gradient: that is Adam with L2, not AdamW.")
class optimizer_decay_enters_the_gradient(_RightSoFar):
    def move(self, p, g, m, v, t, *, weight_decay, **settings):
        super().move(p, g + weight_decay * p, m, v, t, weight_decay=0.0, **settings)


@wrong("MyAdamW", says="The bias correction is missing: m and v began at zero, so early steps come out wrong.")
class optimizer_without_correction(_RightSoFar):
    def move(self, p, g, m, v, t, *, lr, betas, eps, weight_decay, **_):
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        p.mul_(1 - lr * weight_decay).sub_(lr * m / (v.sqrt() + eps))


@dialect("MyAdamW", says="Your decay shrinks the weight after the step; PyTorch shrinks it before. Both are in use.")
class optimizer_decays_after_the_step(_RightSoFar):
    def move(self, p, g, m, v, t, *, weight_decay, **settings):
        super().move(p, g, m, v, t, weight_decay=0.0, **settings)
        p.mul_(1 - settings["lr"] * weight_decay)


@dialect(
    "MyAdamW",
    says="This is the ε̂ form of Kingma & Ba, section 2: eps joins √v before the correction, PyTorch's after it.",
)
class optimizer_epsilon_hat(_RightSoFar):
    def move(self, p, g, m, v, t, *, lr, betas, eps, weight_decay, **_):
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        p.mul_(1 - lr * weight_decay).addcdiv_(m, v.sqrt().add_(eps), value=-rate)


@dialect(
    "MyAdamW",
    says="Two habits differ from PyTorch: eps joins √v before the correction (ε̂), and the decay follows the step.",
)
class optimizer_epsilon_hat_and_late_decay(_RightSoFar):
    def move(self, p, g, m, v, t, *, lr, betas, eps, weight_decay, **_):
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        p.addcdiv_(m, v.sqrt().add_(eps), value=-rate).mul_(1 - lr * weight_decay)


# ---------------------------------------------------------------------------- O5 clip_by_global_norm_


@wrong("clip_by_global_norm_", says="The iterator was used up by the norm, so nothing was scaled; make a list first.")
def iterator_is_used_up(params, max_norm):
    norms = [p.grad.norm() for p in params if p.grad is not None]
    norm = torch.stack(norms).norm() if norms else torch.tensor(0.0)
    for p in params:
        if p.grad is not None:
            p.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="With no gradient at all there is nothing to stack; return a zero.")
def crashes_without_any_gradient(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm()
    for g in grads:
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="A parameter's .grad may be None; pass over it.")
def crashes_on_a_missing_gradient(params, max_norm):
    grads = [p.grad for p in params]
    norm = torch.stack([g.norm() for g in grads]).norm()
    for g in grads:
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="You clipped each tensor by its own norm; one common factor keeps the direction.")
def clips_each_tensor(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norms = [g.norm() for g in grads]
    for g, norm in zip(grads, norms, strict=True):
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return torch.stack(norms).norm() if norms else torch.tensor(0.0)


@wrong("clip_by_global_norm_", says="You clipped each value; the norm of all gradients is what max_norm bounds.")
def clips_each_value(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm() if grads else torch.tensor(0.0)
    for g in grads:
        g.clamp_(-max_norm, max_norm)
    return norm


@wrong("clip_by_global_norm_", says="You scaled small gradients up; the factor is never above 1.")
def scales_small_gradients_up(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm() if grads else torch.tensor(0.0)
    for g in grads:
        g.mul_(max_norm / (norm + 1e-6))
    return norm


@wrong(
    "clip_by_global_norm_", says="You returned the norm after clipping; the norm before it is what shows an explosion."
)
def returns_the_clipped_norm(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm() if grads else torch.tensor(0.0)
    for g in grads:
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return torch.stack([g.norm() for g in grads]).norm() if grads else norm


@wrong("clip_by_global_norm_", says="Norms do not add: take the root of the sum of their squares.")
def adds_the_norms(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).sum() if grads else torch.tensor(0.0)
    for g in grads:
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="The square root is missing: that is the squared norm.")
def norm_without_the_root(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.square().sum() for g in grads]).sum() if grads else torch.tensor(0.0)
    for g in grads:
        g.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="You measured the parameters; it is their gradients that are clipped.")
def measures_the_parameters(params, max_norm):
    params = [p for p in params if p.grad is not None]
    norm = torch.stack([p.detach().norm() for p in params]).norm() if params else torch.tensor(0.0)
    for p in params:
        p.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1))
    return norm


@wrong("clip_by_global_norm_", says="You bound .grad to a new tensor; scale the old one in place, others may hold it.")
def rebinds_the_gradient(params, max_norm):
    params = [p for p in params if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in params]).norm() if params else torch.tensor(0.0)
    for p in params:
        p.grad = p.grad * (max_norm / (norm + 1e-6)).clamp(max=1)
    return norm


@wrong("clip_by_global_norm_", says="You returned a Python number; return a tensor of shape ().")
def returns_a_number(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = sum(g.norm().item() ** 2 for g in grads) ** 0.5
    for g in grads:
        g.mul_(min(1.0, max_norm / (norm + 1e-6)))
    return norm


@wrong(
    "clip_by_global_norm_",
    says="`torch.tensor(number)` is float32 on the CPU; the norm has the gradients' dtype and device.",
)
def norm_is_always_float32(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = sum(g.norm().item() ** 2 for g in grads) ** 0.5
    for g in grads:
        g.mul_(min(1.0, max_norm / (norm + 1e-6)))
    return torch.tensor(norm)


@dialect(
    "clip_by_global_norm_", says="You divide by the bare norm; PyTorch adds 1e-6 to it, which only tiny norms notice."
)
def without_the_small_constant(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm() if grads else torch.tensor(0.0)
    for g in grads:
        g.mul_((max_norm / norm).clamp(max=1))
    return norm


# --------------------------------------------------------------------------------- O6 warmup_cosine


@wrong("warmup_cosine", says="Where warmup equals total, step `total` divides 0 by 0; ask for step ≥ total first.")
def divides_by_zero_without_a_fall(step, *, base, min, warmup, total):
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    if step <= total:
        return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return min


@wrong("warmup_cosine", says="With warmup = 0 the climb divides by zero; the climb is for step < warmup only.")
def divides_by_zero_without_a_climb(step, *, base, min, warmup, total):
    if step >= total:
        return min
    first = base / (warmup + 1)
    if step <= warmup:
        return first + (base - first) * step / warmup
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="After `total` the rate climbs again, as the cosine does; stay at min.")
def climbs_again(step, *, base, min, warmup, total):
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    if warmup == total:
        return min
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="Your peak comes one step late: step `warmup` itself runs at base.")
def peak_comes_late(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step <= warmup:
        return base * (step + 1) / (warmup + 2)
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup - 1) / (total - warmup)))


@wrong("warmup_cosine", says="Your peak comes one step early: step warmup − 1 is still climbing.")
def peak_comes_early(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * (step + 1) / warmup
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="Your cosine spans `total` steps; after the climb only total − warmup are left.")
def cosine_spans_all_steps(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / total))


@wrong("warmup_cosine", says="Past the end no branch returns, so the rate is None; return min.")
def returns_nothing_after_the_end(step, *, base, min, warmup, total):
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    if step < total:
        return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="Your cosine falls to zero; it must end at min.")
def falls_to_zero(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    return 0.5 * base * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="The ½ is missing: 1 + cos runs from 2 to 0.")
def cosine_without_the_half(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    return min + (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="math.cos counts in radians: half a turn is π.")
def cosine_without_pi(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    return min + 0.5 * (base - min) * (1 + math.cos((step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="Your climb starts from min; the formula's starts from 0.")
def climbs_from_min(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return min + (base - min) * (step + 1) / (warmup + 1)
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@wrong("warmup_cosine", says="Here `min` is the argument, a number: it hides Python's function min.")
def calls_the_argument(step, *, base, min, warmup, total):
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * progress))


@wrong("warmup_cosine", says="You returned a tensor; an optimizer's rate is a Python float.")
def rate_is_a_tensor(step, *, base, min, warmup, total):
    if step >= total:
        return torch.tensor(min)
    if step < warmup:
        return torch.tensor(base * (step + 1) / (warmup + 1))
    progress = torch.tensor((step - warmup) / (total - warmup))
    return min + 0.5 * (base - min) * (1 + torch.cos(math.pi * progress))


@dialect(
    "warmup_cosine", says="Your climb starts at rate 0, as in some libraries: step 0 trains nothing, the rest is right."
)
def climb_starts_at_zero(step, *, base, min, warmup, total):
    if step >= total:
        return min
    if step < warmup:
        return base * step / warmup
    return min + 0.5 * (base - min) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


# ----------------------------------------------------------------------------------------- O7 init_


def _fans(module):
    area = module.weight[0, 0].numel()
    return module.weight.shape[1] * area, module.weight.shape[0] * area


def _std(module, scheme):
    fan_in, fan_out = _fans(module)
    return math.sqrt(2 / fan_in if scheme.startswith("he") else 2 / (fan_in + fan_out))


@torch.no_grad()
def _draw(module, scheme, std):
    if scheme.endswith("normal"):
        module.weight.normal_(0, std)
    else:
        module.weight.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)
    if module.bias is not None:
        module.bias.zero_()


def _is_a_layer(module, scheme):
    if scheme not in ("he_normal", "he_uniform", "xavier_normal", "xavier_uniform"):
        raise ValueError(f"unknown scheme {scheme}")
    return isinstance(module, nn.Linear | nn.Conv2d)


@wrong("init_", says="fan_in and fan_out are swapped: the weight's shape is (out, in, ...).")
def fans_are_swapped(module, scheme):
    if _is_a_layer(module, scheme):
        fan_out, fan_in = _fans(module)
        _draw(module, scheme, math.sqrt(2 / fan_in if scheme.startswith("he") else 2 / (fan_in + fan_out)))


@wrong("init_", says="The area of the kernel is missing from the convolution's fans.")
def kernel_area_is_missing(module, scheme):
    if _is_a_layer(module, scheme):
        fan_out, fan_in = module.weight.shape[:2]
        _draw(module, scheme, math.sqrt(2 / fan_in if scheme.startswith("he") else 2 / (fan_in + fan_out)))


@wrong("init_", says="You passed the variance where the standard deviation is expected; take the root.")
def variance_as_deviation(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme) ** 2)


@wrong("init_", says="He's variance is 2 / fan_in: ReLU zeroes half of the inputs, the gain √2 makes up for it.")
def he_without_the_gain(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme) / (math.sqrt(2) if scheme.startswith("he") else 1))


@wrong("init_", says="Xavier's variance is 2 / (fan_in + fan_out), one over the *mean* of the fans; your 2 is missing.")
def xavier_without_the_two(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme) / (math.sqrt(2) if scheme.startswith("xavier") else 1))


@wrong("init_", says="He looks at fan_in alone; the mean of both fans is Xavier's.")
def he_uses_both_fans(module, scheme):
    if _is_a_layer(module, scheme):
        fan_in, fan_out = _fans(module)
        _draw(module, scheme, math.sqrt((4 if scheme.startswith("he") else 2) / (fan_in + fan_out)))


@wrong("init_", says="The uniform bound must be √3 · std: U(−a, a) has the variance a² / 3.")
def bound_is_the_deviation(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme) / (math.sqrt(3) if scheme.endswith("uniform") else 1))


@wrong("init_", says="torch.rand starts at 0, so all your uniform weights are positive; draw from −bound to bound.")
def uniform_starts_at_zero(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme))
        if scheme.endswith("uniform"):
            module.weight.data = torch.rand_like(module.weight) * math.sqrt(3) * _std(module, scheme)


@wrong("init_", says="Every scheme drew from the normal distribution; the uniform ones need uniform_.")
def always_normal(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, "he_normal", _std(module, scheme))


@wrong("init_", says="Biases should be zero; yours still hold what they held before.")
def bias_is_left(module, scheme):
    if _is_a_layer(module, scheme):
        bias = module.bias.data.clone() if module.bias is not None else None
        _draw(module, scheme, _std(module, scheme))
        if bias is not None:
            module.bias.data.copy_(bias)


@wrong("init_", says="A layer may have no bias: its .bias is None then.")
def crashes_without_a_bias(module, scheme):
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme))
        nn.init.zeros_(module.bias)


@wrong("init_", says="You put a new Parameter into the layer; an optimizer made before still holds the old one.")
def replaces_the_parameter(module, scheme):
    if _is_a_layer(module, scheme):
        module.weight = nn.Parameter(torch.empty_like(module.weight))
        _draw(module, scheme, _std(module, scheme))


@wrong("init_", says="Autograd watches parameters: change them under torch.no_grad().")
def draws_under_autograd(module, scheme):
    if _is_a_layer(module, scheme):
        std = _std(module, scheme)
        if scheme.endswith("normal"):
            module.weight.normal_(0, std)
        else:
            module.weight.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)
        if module.bias is not None:
            module.bias.zero_()


@wrong("init_", says="You seed the generator inside, so all layers of one shape get the same weights.")
def seeds_the_generator(module, scheme):
    torch.manual_seed(0)
    if _is_a_layer(module, scheme):
        _draw(module, scheme, _std(module, scheme))


@wrong("init_", says="Not every module with a weight is a Linear or Conv2d; BatchNorm must stay as it is.")
def takes_every_module_with_a_weight(module, scheme):
    _is_a_layer(module, scheme)
    if hasattr(module, "weight"):
        if module.weight.dim() > 1:
            _draw(module, scheme, _std(module, scheme))
        else:
            nn.init.normal_(module.weight, 0, 0.02)
            nn.init.zeros_(module.bias)


@wrong("init_", says="An unknown scheme passes in silence; raise ValueError, or a typing mistake costs an afternoon.")
def accepts_any_scheme(module, scheme):
    if isinstance(module, nn.Linear | nn.Conv2d):
        _draw(module, scheme, _std(module, scheme))


# ----------------------------------------------------------------------------- O8 train_accumulated


def _grouped(batches, k):
    batches = iter(batches)
    while group := list(islice(batches, k)):
        yield group


def _finish(model, optimizer, step, max_norm, schedule):
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    if schedule is not None:
        for settings in optimizer.param_groups:
            settings["lr"] = schedule(step)
    optimizer.step()


def _mean(parts):
    return sum(loss.item() for loss in parts)


@wrong(
    "train_accumulated",
    says="You divided by k, but micro-batches differ in rows and the last group may be short: count the rows.",
)
def divides_by_k(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        parts = [F.cross_entropy(model(inputs), targets) / k for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong(
    "train_accumulated",
    says="You averaged means, so the rows of a short micro-batch count more; divide by the true number of rows.",
)
def averages_the_means(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        parts = [F.cross_entropy(model(inputs), targets) / len(group) for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="You added up the means without dividing: the step is k times too long.")
def adds_the_means(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        parts = [F.cross_entropy(model(inputs), targets) for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="zero_grad ran before every micro-batch, so only the last one of a group counts.")
def forgets_every_micro_batch(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        rows, parts = sum(len(targets) for _, targets in group), []
        for inputs, targets in group:
            optimizer.zero_grad()
            parts.append(F.cross_entropy(model(inputs), targets, reduction="sum") / rows)
            parts[-1].backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="No zero_grad between the groups: every step still contains the gradients before it.")
def never_forgets(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="Gradients left from before the call entered your first step; forget them first.")
def keeps_old_gradients(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        optimizer.zero_grad()
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="Clipping ran after every micro-batch; clip the group's whole gradient, once.")
def clips_every_micro_batch(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        rows, parts = sum(len(targets) for _, targets in group), []
        for inputs, targets in group:
            parts.append(F.cross_entropy(model(inputs), targets, reduction="sum") / rows)
            parts[-1].backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        _finish(model, optimizer, step, None, schedule)
        losses.append(_mean(parts))
    return losses


@wrong(
    "train_accumulated", says="You clipped before backward, when there was no gradient yet; clip just before the step."
)
def clips_before_backward(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, None, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="The schedule advanced with every micro-batch; it counts optimizer steps.")
def schedules_every_micro_batch(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses, number = [], 0
    for group in _grouped(batches, k):
        optimizer.zero_grad()
        rows, parts = sum(len(targets) for _, targets in group), []
        for inputs, targets in group:
            parts.append(F.cross_entropy(model(inputs), targets, reduction="sum") / rows)
            parts[-1].backward()
            if schedule is not None:
                for settings in optimizer.param_groups:
                    settings["lr"] = schedule(number)
            number += 1
        _finish(model, optimizer, 0, max_norm, None)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="The rate is set after the step, so every step runs at the rate of the one before.")
def schedules_after_the_step(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, None)
        if schedule is not None:
            for settings in optimizer.param_groups:
                settings["lr"] = schedule(step)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="You set the rate of the first parameter group only; an optimizer may hold several.")
def schedules_the_first_group(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = schedule(step)
        _finish(model, optimizer, step, max_norm, None)
        losses.append(_mean(parts))
    return losses


@wrong(
    "train_accumulated", says="The last group was dropped because it has fewer than k micro-batches; it is a step too."
)
def drops_the_last_group(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        if len(group) < k:
            break
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong("train_accumulated", says="You took a step for every micro-batch; a step belongs to k of them.")
def steps_every_micro_batch(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, (inputs, targets) in enumerate(batches):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(loss.item())
    return losses


@wrong("train_accumulated", says="You walked through the iterator twice; the second walk found nothing.")
def walks_twice(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    count, losses = sum(1 for _ in batches), []
    for step, group in enumerate(_grouped(batches, min(k, max(1, count)))):
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        parts = [F.cross_entropy(model(inputs), targets, reduction="sum") / rows for inputs, targets in group]
        for loss in parts:
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(_mean(parts))
    return losses


@wrong(
    "train_accumulated", says="You put the group together first: the right gradient, but the memory of the big batch."
)
def builds_the_big_batch(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        inputs, targets = (torch.cat(part) for part in zip(*group, strict=True))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(loss.item())
    return losses


@wrong(
    "train_accumulated", says="You reported the last micro-batch's loss; report the mean over all rows of the group."
)
def reports_the_last_loss(model, batches, k, optimizer, *, max_norm=None, schedule=None):
    losses = []
    for step, group in enumerate(_grouped(batches, k)):
        optimizer.zero_grad()
        rows = sum(len(targets) for _, targets in group)
        for inputs, targets in group:
            loss = F.cross_entropy(model(inputs), targets, reduction="sum") / rows
            loss.backward()
        _finish(model, optimizer, step, max_norm, schedule)
        losses.append(loss.item() * rows / len(targets))
    return losses


@wrong("one_cycle", says="Your halves are straight lines; the rule asks for half a cosine each.")
def cycle_of_straight_lines(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first, top = peak / div_factor, pct_start * total - 1
    last = first / final_div_factor
    if step >= total:
        return last
    if step <= top:
        return first + (peak - first) * step / top
    return peak + (last - peak) * (step - top) / (total - 1 - top)


@wrong("one_cycle", says="Your top comes one step late: steps count from 0, so it lies at pct_start · total − 1.")
def cycle_top_comes_late(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first, top = peak / div_factor, pct_start * total
    last = first / final_div_factor
    if step >= total:
        return last
    a, b, progress = (first, peak, step / top) if step <= top else (peak, last, (step - top) / (total - 1 - top))
    return b + 0.5 * (a - b) * (1 + math.cos(math.pi * progress))


@wrong("one_cycle", says="Your last rate is the peak divided by final_div_factor; divide the *first* rate by it.")
def cycle_ends_too_high(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first, last, top = peak / div_factor, peak / final_div_factor, pct_start * total - 1
    if step >= total:
        return last
    a, b, progress = (first, peak, step / top) if step <= top else (peak, last, (step - top) / (total - 1 - top))
    return b + 0.5 * (a - b) * (1 + math.cos(math.pi * progress))


@wrong("one_cycle", says="After the end the rate climbs again, as the cosine does; stay at the last rate.")
def cycle_climbs_again(step, *, peak, total, pct_start=0.3, div_factor=25.0, final_div_factor=1e4):
    first, top = peak / div_factor, pct_start * total - 1
    last = first / final_div_factor
    a, b, progress = (first, peak, step / top) if step <= top else (peak, last, (step - top) / (total - 1 - top))
    return b + 0.5 * (a - b) * (1 + math.cos(math.pi * progress))
