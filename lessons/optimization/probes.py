"""Code that runs beside the learner's: optimizers, layers and loops, which do not cross the wire as values.

Each probe takes the learner's names as `code` and returns plain values. The checks call the same probes with
PyTorch's own classes as `code`, where PyTorch has them: that gives the expected values.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def first_step_then_overwrite(code: Any, p: Tensor, g: Tensor, later: Tensor, lr: float, momentum: float) -> Any:
    """Take the first momentum step, then overwrite p and g as a training loop does that reuses its memory."""
    p, g = p.clone(), g.clone()
    result = code.sgd_momentum_step(p, g, None, lr=lr, momentum=momentum)
    p.zero_()
    g.copy_(later)
    return result


# ---------------------------------------------------------------------------------------- MyAdamW


def adamw_steps(
    code: Any,
    parameters: list[Tensor],
    gradients: list[list[Tensor | None]],
    settings: dict[str, Any],
    groups: list[dict[str, Any]] | None = None,
    rates: list[float] | None = None,
    restart_after: int | None = None,
) -> list[list[Tensor]]:
    """Train with given gradients.

    Args:
        parameters: starting values.
        gradients: for each step, one gradient (or None) for each parameter.
        settings: keyword arguments of the constructor.
        groups: settings of parameter groups; `params` holds positions in `parameters`. None is one group.
        rates: learning rate of every step, set in all groups before it; None leaves the groups' own.
        restart_after: after this step, go on with new parameters and a new optimizer that loads the state.

    Returns:
        For each step, the parameters after it.
    """

    def build(values: list[Tensor]) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        made = [nn.Parameter(value.clone()) for value in values]
        parts = groups or [{"params": list(range(len(made)))}]
        chosen = [{**part, "params": [made[place] for place in part["params"]]} for part in parts]
        return made, code.MyAdamW(chosen, **settings)

    learned, optimizer = build(parameters)
    history = []
    for step, row in enumerate(gradients):
        if step == restart_after:
            saved = copy.deepcopy(optimizer.state_dict())
            learned, optimizer = build([p.detach() for p in learned])
            optimizer.load_state_dict(saved)
        for p, g in zip(learned, row, strict=True):
            p.grad = None if g is None else g.clone()
        if rates is not None:
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
        optimizer.step()
        history.append([p.detach().clone() for p in learned])
    return history


def adamw_with_closure(
    code: Any, start: Tensor, target: Tensor, steps: int, settings: dict[str, Any], grad_enabled: bool
) -> dict[str, Any]:
    """Minimise ½·|p − target|² through `step(closure=...)`, as Lightning calls it.

    Returns:
        p: values after the last step.
        losses: what each `step` returned.
    """
    p = nn.Parameter(start.clone())
    optimizer = code.MyAdamW([p], **settings)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (p - target).square().sum()
        loss.backward()
        return loss

    losses = []
    for _ in range(steps):
        with nullcontext() if grad_enabled else torch.no_grad():
            loss = optimizer.step(closure=closure)
        losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
    return {"p": p.detach(), "losses": losses}


def adamw_with_alias(code: Any, start: Tensor, gradient: Tensor, settings: dict[str, Any]) -> dict[str, Any]:
    """Take one step while someone else holds the parameter's memory; return what both see, and the gradient."""
    p = nn.Parameter(start.clone())
    alias = p.detach()
    optimizer = code.MyAdamW([p], **settings)
    p.grad = gradient.clone()
    optimizer.step()
    return {"p": p.detach(), "alias": alias, "gradient": p.grad}


# ---------------------------------------------------------------------------- clip_by_global_norm_


def clipped(code: Any, gradients: list[Tensor | None], max_norm: float, once: bool = False) -> dict[str, Any]:
    """Clip parameters with these gradients.

    Args:
        gradients: one for each parameter; None for a parameter without.
        once: hand the parameters over as a generator instead of a list.

    Returns:
        norm: what the function returned.
        gradients: what `.grad` holds afterwards.
        memory: what the tensors hold that were `.grad` before.
    """
    parameters = []
    for g in gradients:
        p = nn.Parameter(torch.ones(()) if g is None else torch.ones_like(g))
        p.grad = None if g is None else g.clone()
        parameters.append(p)
    memory = [p.grad for p in parameters]
    handed: list[nn.Parameter] | Iterator[nn.Parameter] = (p for p in parameters) if once else parameters
    norm = code.clip_by_global_norm_(handed, max_norm)
    return {"norm": norm, "gradients": [p.grad for p in parameters], "memory": memory}


# ------------------------------------------------------------------------------------------- init_


def initialised(
    code: Any,
    scheme: str,
    shapes: list[tuple[int, ...]],
    seed: int,
    bias: bool = True,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Initialise layers one after the other.

    Args:
        shapes: of the weights: (out, in) for a Linear, (out, in, height, width) for a Conv2d.

    Returns:
        weights, biases: what the Parameter objects hold that the layers had *before*.
    """
    layers = [layer(shape, bias, getattr(torch, dtype)) for shape in shapes]
    parameters = [list(module.parameters()) for module in layers]
    torch.manual_seed(seed)
    for module in layers:
        code.init_(module, scheme)
    return {
        "weights": [weight.detach() for weight, *_ in parameters],
        "biases": [bias.detach() for _, *rest in parameters for bias in rest],
    }


def applied(code: Any, scheme: str, shape: tuple[int, int], seed: int) -> dict[str, Any]:
    """Initialise a model through `model.apply`.

    Returns:
        weight: of its Linear.
        others: weight and bias of its BatchNorm, which were 0.5.
    """
    first, norm = layer(shape, True, torch.float32), nn.BatchNorm1d(shape[0])
    with torch.no_grad():
        for p in norm.parameters():
            p.fill_(0.5)
    model = nn.Sequential(first, norm, nn.ReLU())
    torch.manual_seed(seed)
    model.apply(lambda module: code.init_(module, scheme))
    return {"weight": first.weight.detach(), "others": [p.detach() for p in norm.parameters()]}


def layer(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> nn.Linear | nn.Conv2d:
    """Build a layer whose weights and bias are all 7, so that what is not initialised shows."""
    outputs, inputs, *kernel = shape
    made: nn.Linear | nn.Conv2d
    if kernel:
        made = _EmptyConv2d(inputs, outputs, (kernel[0], kernel[1]), bias=bias, dtype=dtype)
    else:
        made = _EmptyLinear(inputs, outputs, bias=bias, dtype=dtype)
    # A learner may well ask for `type(module) is nn.Linear`.
    made.__class__ = nn.Conv2d if kernel else nn.Linear  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        for p in made.parameters():
            p.fill_(7.0)
    return made


class _EmptyLinear(nn.Linear):
    def reset_parameters(self) -> None:
        """Do nothing: what PyTorch does here is blocked while this exercise is graded."""


class _EmptyConv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        """Do nothing, as above."""


# ------------------------------------------------------------------------------- train_accumulated


class Network(nn.Module):
    """A tiny classifier that remembers how many rows each forward pass had.

    Args:
        weights: (inputs, hidden) and (hidden, classes).
    """

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.inner = nn.Parameter(weights[0].clone())
        self.outer = nn.Parameter(weights[1].clone())
        self.rows: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (b, classes) of inputs (b, features)."""
        self.rows.append(len(inputs))
        return (inputs @ self.inner).tanh() @ self.outer


def accumulated(
    code: Any,
    weights: list[Tensor],
    batches: list[tuple[Tensor, Tensor]],
    k: int,
    lr: float,
    max_norm: float | None = None,
    rates: list[float] | None = None,
    once: bool = False,
    leftover: Tensor | None = None,
) -> dict[str, Any]:
    """Train a small network by SGD with momentum 0.9 on these micro-batches.

    Args:
        rates: learning rate of each optimizer step, handed over as a function; None hands over no schedule.
        once: hand the micro-batches over as a generator instead of a list.
        leftover: gradient that the inner weights already hold.

    Returns:
        weights: after the pass.
        losses: what the function returned.
        rows: rows of each forward pass.
    """
    model = Network(weights)
    # Two groups, which train like one as long as the schedule reaches both.
    optimizer = torch.optim.SGD([{"params": [model.inner]}, {"params": [model.outer]}], lr=lr, momentum=0.9)
    if leftover is not None:
        model.inner.grad = leftover.clone()
    losses = code.train_accumulated(
        model,
        (batch for batch in batches) if once else batches,
        k,
        optimizer,
        max_norm=max_norm,
        schedule=None if rates is None else rates.__getitem__,
    )
    return {"weights": [model.inner.detach(), model.outer.detach()], "losses": losses, "rows": model.rows}
