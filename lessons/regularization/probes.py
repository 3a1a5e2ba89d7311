"""Code that runs beside the learner's: generators, modules and autograd, which do not cross the wire as values.

Each probe takes the learner's names as `code` and returns plain values. Where PyTorch has the same function, the
checks call the same probe with PyTorch's as `code`: that gives the expected values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

# ---------------------------------------------------------------------------------------- dropout


def dropped(
    code: Any, x: Tensor, p: float, seed: int, calls: tuple[bool, ...] = (True,), own_generator: bool = True
) -> dict[str, Any]:
    """Call dropout several times with one generator.

    Args:
        seed: of the generator.
        calls: `training` of each call.
        own_generator: False seeds PyTorch's global generator and hands over none.

    Returns:
        outputs: of each call.
        gradients: of the sum of each output by x.
    """
    generator = torch.Generator().manual_seed(seed) if own_generator else None
    if generator is None:
        torch.manual_seed(seed)
    x = x.detach().requires_grad_()
    outputs = [code.dropout(x, p, training, generator) for training in calls]
    return {"outputs": outputs, "gradients": [_gradients(output, [x])[0] for output in outputs]}


def _gradients(output: Tensor, inputs: list[Tensor], cotangent: Tensor | None = None) -> list[Tensor | None]:
    """Return the gradients of the sum of output (times the cotangent) by each of the inputs."""
    if not output.requires_grad:
        raise RuntimeError("no gradient can flow through what you return: somewhere it was detached")
    cotangent = torch.ones_like(output) if cotangent is None else cotangent
    return list(torch.autograd.grad(output, inputs, cotangent, allow_unused=True))


# ------------------------------------------------------------------------------------- batch_norm


def batch_normed(
    code: Any,
    batches: list[Tensor],
    training: list[bool],
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    cotangents: list[Tensor] | None = None,
    settings: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Normalise batches one after the other, with the same running statistics.

    Args:
        training: of each call.
        cotangents: one for each output, to be multiplied by it before the gradients of the sum are taken; None takes no
            gradients.
        settings: momentum and eps; None leaves the defaults.

    Returns:
        For each batch: its output, x afterwards, the running tensors afterwards, whether they ask for gradients, and
        the gradients by x, weight and bias.
    """
    running_mean, running_var = running_mean.clone(), running_var.clone()
    learned = [weight.detach().requires_grad_(), bias.detach().requires_grad_()]
    history = []
    for number, x in enumerate(batches):
        x = x.detach()
        if cotangents is not None:
            x.requires_grad_()
        output = code.batch_norm(x, *learned, running_mean, running_var, training[number], **(settings or {}))
        entry = {
            "output": output.detach(),
            "x": x.detach().clone(),
            "running": [running_mean.detach().clone(), running_var.detach().clone()],
            "asks": [running_mean.requires_grad, running_var.requires_grad],
        }
        if cotangents is not None:
            entry["gradients"] = _gradients(output, [x, *learned], cotangents[number])
        history.append(entry)
    return history


# ------------------------------------------------------------------------------------- layer_norm


def layer_norm_gradients(
    code: Any,
    grad_output: Tensor,
    x: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor,
    settings: dict[str, float] | None = None,
) -> Any:
    """Call layer_norm_backward where autograd does not work."""
    with torch.inference_mode():
        return code.layer_norm_backward(grad_output, x, tuple(normalized_shape), weight, **(settings or {}))


# --------------------------------------------------------------------------------- l1_l2_penalty


def penalised(
    code: Any, named_params: list[tuple[str, Tensor]], l1: float, l2: float, once: bool = False
) -> dict[str, Any]:
    """Compute the penalty of parameters.

    Args:
        once: hand the pairs over as a generator instead of a list.

    Returns:
        penalty: what the function returned.
        gradients: of the penalty by each parameter; None where it does not depend on it.
    """
    pairs = [(name, nn.Parameter(p.clone())) for name, p in named_params]
    handed: list[tuple[str, nn.Parameter]] | Iterator[tuple[str, nn.Parameter]] = (
        (pair for pair in pairs) if once else pairs
    )
    penalty = code.l1_l2_penalty(handed, l1, l2)
    return {"penalty": penalty, "gradients": _gradients(penalty, [p for _, p in pairs])}


# ---------------------------------------------------------------------------------- mixup, cutmix


def mixed(
    code: Any, name: str, x: Tensor, y: Tensor, alpha: float, seed: int, times: int = 1, own_generator: bool = True
) -> dict[str, Any]:
    """Mix one batch several times with one generator.

    Args:
        name: mixup or cutmix.
        own_generator: False seeds PyTorch's global generator and hands over none.

    Returns:
        results: of each call, without its λ.
        lam: the λ of each call.
        x, y: afterwards.
        shares: whether the first result lies in x's memory.
    """
    generator = torch.Generator().manual_seed(seed) if own_generator else None
    if generator is None:
        torch.manual_seed(seed)
    results, lams, shares = [], [], False
    for _ in range(times):
        inputs, first, second, lam = getattr(code, name)(x, y, alpha, generator)
        results.append([inputs.clone(), first, second])
        shares |= inputs.data_ptr() == x.data_ptr() and x.numel() > 0
        lams.append(lam)
    return {"results": results, "lam": lams, "x": x, "y": y, "shares": shares}


def mixed_often(code: Any, name: str, x: Tensor, y: Tensor, alpha: float, seed: int, times: int) -> dict[str, Tensor]:
    """Mix one batch many times with one generator, and stack what comes.

    Returns:
        mixed: (times, b, ...).
        partners: (times, b), the second labels.
        lam: (times,), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    calls = [getattr(code, name)(x, y, alpha, generator) for _ in range(times)]
    return {
        "mixed": torch.stack([inputs for inputs, *_ in calls]),
        "partners": torch.stack([second for _, _, second, _ in calls]),
        "lam": torch.tensor([float(lam) for *_, lam in calls], dtype=torch.float64),
    }


# ---------------------------------------------------------------------------------- EarlyStopping


class Marked(nn.Module):
    """A module with parameters, a buffer of numbers and one of counts, all of which hold one mark.

    Args:
        mark: the number.
    """

    def __init__(self, mark: int) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, dtype=torch.float64)
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.mark(mark)

    def mark(self, mark: int) -> None:
        """Write a number everywhere, in place, as training does."""
        with torch.no_grad():
            for tensor in self.state_dict().values():
                tensor.fill_(mark)

    def marks(self) -> list[float]:
        """Return what stands in each parameter and buffer: its mean."""
        return [tensor.double().mean().item() for tensor in self.state_dict().values()]


def watched(
    code: Any,
    values: list[float],
    settings: dict[str, Any],
    as_tensors: bool = False,
    restore_each_time: bool = False,
) -> dict[str, Any]:
    """Let EarlyStopping watch a training whose module holds the number of the step everywhere.

    Args:
        values: of each validation.
        settings: of the constructor.
        as_tensors: hand the values over as tensors of shape ().
        restore_each_time: restore after every step, into a module of its own.

    Returns:
        stops: what each step returned.
        best, best_step: after each step.
        seen: the marks in the module right after each step.
        restored: the marks after each restore; the last is that of the module itself, marked 1000 before.
        memory: what stands in the memory that the module's weight had at first.
    """
    module = Marked(-1)
    memory = module.layer.weight.data
    stopper = code.EarlyStopping(**settings)
    report: dict[str, Any] = {"stops": [], "best": [], "best_step": [], "seen": [], "restored": []}
    for step, value in enumerate(values):
        module.mark(step)
        report["stops"].append(stopper.step(torch.tensor(value) if as_tensors else value, module))
        report["best"].append(stopper.best)
        report["best_step"].append(stopper.best_step)
        report["seen"].append(module.marks())
        if restore_each_time:
            other = Marked(1000)
            stopper.restore(other)
            report["restored"].append(other.marks())
            other.mark(2000)  # trained on: what was kept must not change with it
    module.mark(1000)
    stopper.restore(module)
    report["restored"].append(module.marks())
    report["memory"] = memory.clone()
    return report
