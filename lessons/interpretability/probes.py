"""Code that runs beside the learner's: networks, games and generators, which do not cross the wire as values.

Each probe takes the learner's names as `code` and returns plain values. Networks are made of given weights, so that the
checks can make the same ones. What a check asks of the way to a result (which points, which coalitions) is recorded by
the function that the learner's code is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Rows = Callable[[Tensor], Tensor]


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU."""
    return torch.Generator(device="cpu").manual_seed(seed)


def found_on(value: Any) -> Any:
    """Return a value with each tensor that holds no numbers replaced by the name of its device."""
    if isinstance(value, Tensor) and value.is_meta:
        return "on the default device"
    return tuple(map(found_on, value)) if isinstance(value, tuple) else value


# ---------------------------------------------------------------------------------------- networks


def network(weights: list[Tensor]) -> nn.Sequential:
    """Build a classifier of pictures.

    Args:
        weights: of the last layer (K, features), after those of none, one or two 3 x 3 convolutions without padding:
            the first is followed by an in-place ReLU, the second by a SiLU.
    """
    dtype = weights[0].dtype
    *kernels, head = weights
    layers: list[nn.Module] = []
    for kernel, nonlinearity in zip(kernels, (nn.ReLU(inplace=True), nn.SiLU()), strict=False):
        outputs, inputs = kernel.shape[:2]
        layers += [nn.Conv2d(inputs, outputs, 3, bias=False, dtype=dtype), nonlinearity]
    layers += [nn.Flatten(), nn.Linear(head.shape[1], head.shape[0], bias=False, dtype=dtype)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for p, weight in zip(model.parameters(), weights, strict=True):
            p.copy_(weight)
    return model


def marked(model: nn.Module, training: bool) -> nn.Module:
    """Set a model's mode, and give each of its parameters a gradient that shows whether someone adds to it."""
    model.train(training)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    return model


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return what an explanation must leave as it is: modes, parameters, and their gradients."""
    parameters = list(model.parameters())
    return {
        "training": [module.training for module in model.modules()],
        "parameters": [p.detach().clone() for p in parameters],
        "gradients": [None if p.grad is None else p.grad.clone() for p in parameters],
        "ask for gradients": [p.requires_grad for p in parameters],
    }


def state_of_tensor(tensor: Tensor) -> dict[str, Any]:
    """Return what an explanation must leave as it is of the caller's tensor."""
    return {"values": tensor.detach().clone(), "requires_grad": tensor.requires_grad, "grad": tensor.grad}


APART = 1000.0  # between the levels of two rows of x whose samples are recorded


class Recorder:
    """A function of rows that keeps all rows it was asked about.

    Row b of x lies at the level b · APART, which tells whose samples are whose. The level is taken off before the
    function sees a row, so that all are explained alike.

    Args:
        function: that gives the answers.
    """

    def __init__(self, function: Rows) -> None:
        self.function = function
        self.asked: list[Tensor] = []

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the answers for rows (M, ...)."""
        self.asked.append(rows.detach().clone())
        return self.function(rows - APART * _level(rows))

    def by_source(self, count: int) -> Tensor | str:
        """Return the rows that belong to each of `count` rows of x, in the order in which they came.

        Returns:
            (count, n, ...), or, where not all rows of x have equally many, how many each has.
        """
        rows = torch.cat(self.asked)
        source = _level(rows).flatten()
        found = [rows[source == number] for number in range(count)]
        counts = [len(part) for part in found]
        return torch.stack(found) if len(set(counts)) == 1 else f"{counts} copies"


def _level(rows: Tensor) -> Tensor:
    mean = rows.detach().mean(tuple(range(1, rows.dim())), keepdim=True)
    return (mean / APART).round()


# ------------------------------------------------------------------------------------ I1 saliency


def saliency_map(code: Any, weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Explain pictures by the learner's saliency."""
    return code.saliency(network(weights), x, y)


def left_by_saliency(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, training: bool, asks: bool
) -> dict[str, Any]:
    """Explain pictures; return the maps, what is left of the model and of x, and whether a graph hangs on."""
    model, x = marked(network(weights), training), x.clone().requires_grad_(asks)
    given = code.saliency(model, x, y)
    return {"given": given, "model": state_of(model), "x": state_of_tensor(x), "graph": given.requires_grad}


def saliency_elsewhere(code: Any, weights: list[Tensor], x: Tensor, y: Tensor) -> Any:
    """Explain pictures where the default device is not theirs."""
    model = network(weights)
    with torch.device("meta"):
        return found_on(code.saliency(model, x, y))


# ------------------------------------------------------------------------- I2 integrated_gradients


def score(kind: str, weights: list[Tensor]) -> Rows:
    """Return a function of rows (M, ...) to scores (M,).

    Args:
        kind: of the entries of a row, r: `linear` w·r + 1, `cubic` w·r³, `network` v·tanh(W r), `saturated`
            w·min(r, 1), or `saturated otherwise`, the same as w·(1 − max(1 − r, 0)).
        weights: w, shaped like a row; of the network W (hidden, d) and v (hidden,).
    """

    def answer(rows: Tensor) -> Tensor:
        if kind == "network":
            return (rows.flatten(1) @ weights[0].mT).tanh() @ weights[1]
        shapes: dict[str, Rows] = {
            "linear": lambda r: r,
            "cubic": lambda r: r**3,
            "saturated": lambda r: r.clamp(max=1),
            "saturated otherwise": lambda r: 1 - (1 - r).relu(),
        }
        total = (shapes[kind](rows) * weights[0]).flatten(1).sum(1)
        return total + 1 if kind == "linear" else total

    return answer


def attributions(code: Any, kind: str, weights: list[Tensor], x: Tensor, baseline: Tensor, n: int) -> Tensor:
    """Explain rows by the learner's integrated gradients."""
    return code.integrated_gradients(score(kind, weights), x, baseline, n)


def left_by_attributions(
    code: Any, weights: list[Tensor], x: Tensor, baseline: Tensor, n: int, asks: bool
) -> dict[str, Any]:
    """Explain rows of a linear function; return that, what is left of x and baseline, and whether a graph hangs on."""
    x, baseline = x.clone().requires_grad_(asks), baseline.clone().requires_grad_(asks)
    given = code.integrated_gradients(score("linear", weights), x, baseline, n)
    left = {"x": state_of_tensor(x), "baseline": state_of_tensor(baseline), "graph": given.requires_grad}
    return {"given": given, **left}


def attributions_elsewhere(code: Any, weights: list[Tensor], x: Tensor, baseline: Tensor, n: int) -> Any:
    """Explain rows of a linear function where the default device is not theirs."""
    with torch.device("meta"):
        return found_on(code.integrated_gradients(score("linear", weights), x, baseline, n))


# ----------------------------------------------------------------------------------- I3 smoothgrad


def smooth_map(code: Any, weights: list[Tensor], x: Tensor, y: Tensor, sigma: float, n: int, seed: int) -> Tensor:
    """Explain pictures by the learner's SmoothGrad."""
    return code.smoothgrad(network(weights), x, y, sigma, n, generator(seed))


def smooth_points(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, sigma: float, n: int, seed: int
) -> dict[str, Any]:
    """Explain pictures, each at its level, and record the noisy copies.

    Returns:
        map: what `smoothgrad` returned.
        points: (B, n, C, H, W), the copies of each picture.
    """
    f = Recorder(network(weights))
    given = code.smoothgrad(f, x, y, sigma, n, generator(seed))
    return {"map": given, "points": f.by_source(len(x))}


def smooth_again(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, sigma: float, n: int, seeds: list[int]
) -> list[Tensor]:
    """Explain pictures twice with each of these seeds: each time first with a new generator, then with the same."""
    maps = []
    for seed in seeds:
        g = generator(seed)
        maps += [code.smoothgrad(network(weights), x, y, sigma, n, g) for _ in range(2)]
    return maps


def left_by_smoothgrad(code: Any, weights: list[Tensor], x: Tensor, y: Tensor, asks: bool) -> dict[str, Any]:
    """Explain pictures without noise; return the maps, what is left of the caller's x, and whether a graph hangs on."""
    x = x.clone().requires_grad_(asks)
    given = code.smoothgrad(network(weights), x, y, 0.0, 2, generator(0))
    return {"given": given, "x": state_of_tensor(x), "graph": given.requires_grad}


def smooth_elsewhere(code: Any, weights: list[Tensor], x: Tensor, y: Tensor) -> Any:
    """Explain pictures without noise where the default device is not theirs."""
    model = network(weights)
    with torch.device("meta"):
        return found_on(code.smoothgrad(model, x, y, 0.0, 2, generator(0)))


# ------------------------------------------------------------------------------------- I4 grad_cam


def cam(code: Any, weights: list[Tensor], layer: int, x: Tensor, y: Tensor, frozen: bool = False) -> Tensor:
    """Explain pictures by the learner's Grad-CAM.

    Args:
        layer: its number in the network.
        frozen: whether no parameter asks for a gradient.
    """
    model = network(weights).requires_grad_(not frozen)
    return code.grad_cam(model, model[layer], x, y)


def left_by_cam(
    code: Any, weights: list[Tensor], layer: int, x: Tensor, y: Tensor, training: bool, asks: bool
) -> dict[str, Any]:
    """Explain pictures; return the maps, what is left of the model and of x, and whether a graph hangs on.

    Args:
        layer: its number in the network; −1 stands for one in front of it, which hands x on as it is.
        asks: whether x asks for a gradient.
    """
    model, x = network(weights), x.clone().requires_grad_(asks)
    if layer < 0:
        model = nn.Sequential(nn.Identity(), *model)
        layer = 0
    marked(model, training)
    given = code.grad_cam(model, model[layer], x, y)
    return {"given": given, "model": state_of(model), "x": state_of_tensor(x), "graph": given.requires_grad}


def hooks_left_by_cam(
    code: Any, weights: list[Tensor], layer: int, x: Tensor, y: Tensor, broken: bool
) -> dict[str, Any]:
    """Explain pictures with a model whose layer has a hook already.

    Args:
        broken: whether the model raises after the layer.

    Returns:
        given: the maps; None where the model raised.
        raised: whether the call raised what the model did.
        calls: of the hook that was there, in the call and in one more forward pass.
        hooks: how many the model's modules have afterwards.
    """
    model = network(weights)
    calls: list[int] = []
    model[layer].register_forward_hook(lambda *_: calls.append(1))
    if broken:
        model.append(_Broken())
    given, raised = None, False
    try:
        given = code.grad_cam(model, model[layer], x, y)
    except _BrokenError:
        raised = True
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
    model[layer](x)
    return {"given": given, "raised": raised, "calls": len(calls), "hooks": hooks}


class _BrokenError(Exception):
    """What a broken model raises."""


class _Broken(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        """Raise, as a model does whose input does not fit."""
        raise _BrokenError("this model raises on purpose: your hook must be gone afterwards all the same")


def cam_elsewhere(code: Any, weights: list[Tensor], layer: int, x: Tensor, y: Tensor) -> Any:
    """Explain pictures where the default device is not theirs."""
    model = network(weights)
    with torch.device("meta"):
        return found_on(code.grad_cam(model, model[layer], x, y))


# ------------------------------------------------------------------- I5 and I6: coalitions and games


def asked_values(code: Any, weights: list[Tensor], x: Tensor, baseline: Tensor, coalitions: Tensor) -> Tensor:
    """Ask a small network about coalitions of features."""
    return code.coalition_values(_strict(score("network", weights), x.shape[1]), x, baseline, coalitions)


def left_by_asking(code: Any, x: Tensor, baseline: Tensor, coalitions: Tensor) -> dict[str, Any]:
    """Ask about coalitions; return the values, and x, the baseline and the coalitions as they are afterwards."""
    x, baseline, coalitions = x.clone(), baseline.clone(), coalitions.clone()
    given = code.coalition_values(lambda rows: rows.sum(1), x, baseline, coalitions)
    return {"given": given, "x": x, "baseline": baseline, "coalitions": coalitions}


def asked_elsewhere(code: Any, d: int, x_shape: tuple[int, int]) -> dict[str, Any]:
    """Ask about coalitions that lie on the CPU where x and the baseline lie on another device: `meta`."""
    x, baseline = torch.zeros(x_shape, device="meta"), torch.zeros(d, device="meta")
    values = code.coalition_values(lambda rows: rows.sum(1), x, baseline, torch.ones(3, d, dtype=torch.bool))
    return {"device": values.device.type, "shape": list(values.shape)}


def _strict(f: Rows, d: int) -> Rows:
    """Return f for tables (N, d) alone, as a network with a first layer of d inputs would be."""

    def answer(rows: Tensor) -> Tensor:
        if rows.dim() != 2 or rows.shape[1] != d:
            raise ValueError(f"f: rows must be (N, {d}). Got {tuple(rows.shape)}.")
        return f(rows)

    return answer


class Game:
    """The characteristic function of a game, from a table. It records which coalitions it was asked for.

    Args:
        table: (2^d, ...): entry number Σ 2^i over the players i of a coalition is its value.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.asked: list[int] = []

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Return the values of coalitions (M, d), bool."""
        players = len(self.table).bit_length() - 1
        if coalitions.dtype != torch.bool or coalitions.dim() != 2 or coalitions.shape[1] != players:
            got = f"{tuple(coalitions.shape)} of {coalitions.dtype}"
            raise TypeError(f"v: coalitions must be (M, {players}), bool. Got {got}.")
        places = coalitions.long() @ (2 ** torch.arange(players))
        self.asked += places.tolist()
        return self.table[places]


def shapley_values(code: Any, table: Tensor, d: int) -> Tensor:
    """Compute a game's Shapley values by the learner's enumeration."""
    return code.shapley_exact(Game(table), d)


def shapley_questions(code: Any, table: Tensor, d: int) -> dict[str, Any]:
    """Return a game's Shapley values, and how often each coalition was asked for."""
    v = Game(table)
    phi = code.shapley_exact(v, d)
    return {"phi": phi, "asked": [v.asked.count(number) for number in range(2**d)]}


def shapley_elsewhere(code: Any, d: int, axes: tuple[int, ...]) -> dict[str, Any]:
    """Compute the Shapley values of a game whose values lie on another device than the coalitions: `meta`."""
    phi = code.shapley_exact(lambda coalitions: torch.zeros(len(coalitions), *axes, device="meta"), d)
    return {"device": phi.device.type, "shape": list(phi.shape)}


def shapley_of_sums(code: Any, weights: Tensor, power: int) -> Tensor:
    """Return the Shapley values of v(S) = (3 + the sum of the weights in S) to a power, with many players."""
    d = len(weights)
    return code.shapley_exact(lambda coalitions: (3 + coalitions.to(weights) @ weights) ** power, d)


def shapley_of_a_model(code: Any, weights: list[Tensor], x: Tensor, baseline: Tensor) -> Tensor:
    """Explain rows of a linear function, both functions of the learner's together; return (d, B)."""
    f = score("linear", weights)
    return code.shapley_exact(lambda coalitions: code.coalition_values(f, x, baseline, coalitions), x.shape[1])


def regressed(code: Any, table: Tensor, d: int, n: int, seed: int) -> Tensor:
    """Estimate a game's Shapley values by the learner's regression."""
    return code.kernel_shap(Game(table), d, n, generator(seed))


def regression_questions(code: Any, table: Tensor, d: int, n: int, seed: int) -> dict[str, Any]:
    """Estimate Shapley values, and count the questions.

    Returns:
        phi: the estimates.
        most: how often the most frequent coalition was asked for.
        ends: whether the empty and the full coalition were asked for.
        too_many: how many different ones beyond these two and n.
    """
    v = Game(table)
    phi = code.kernel_shap(v, d, n, generator(seed))
    distinct = set(v.asked)
    return {
        "phi": phi,
        "most": max(v.asked.count(number) for number in distinct),
        "ends": {0, 2**d - 1} <= distinct,
        "too_many": max(0, len(distinct) - 2 - n),
    }


def regressed_often(code: Any, table: Tensor, d: int, n: int, seed: int, times: int) -> dict[str, Tensor]:
    """Estimate Shapley values many times from one generator.

    Returns:
        phi: (times, d), the estimates.
        seen: (times, 2^d), 1 where a coalition was asked for, else 0; float64.
    """
    g = generator(seed)
    estimates, seen = [], torch.zeros(times, 2**d, dtype=torch.float64)
    for time in range(times):
        v = Game(table)
        estimates.append(code.kernel_shap(v, d, n, g))
        seen[time, v.asked] = 1
    return {"phi": torch.stack(estimates), "seen": seen}


def regressed_again(code: Any, table: Tensor, d: int, n: int, seeds: list[int]) -> list[Tensor]:
    """Estimate Shapley values twice with each of these seeds: first with a new generator, then with the same."""
    estimates = []
    for seed in seeds:
        g = generator(seed)
        estimates += [code.kernel_shap(Game(table), d, n, g) for _ in range(2)]
    return estimates


# --------------------------------------------------------------------------------- I7 lime_tabular


def probabilities(kind: str, weights: list[Tensor]) -> Rows:
    """Return a function of rows (N, d) to one number for each of K classes.

    Args:
        kind: `linear` rows W + b, or `softmax` of it.
        weights: W (d, K), b (K,).
    """

    def answer(rows: Tensor) -> Tensor:
        if rows.dim() != 2:
            raise ValueError(f"f: rows must be (N, d). Got {tuple(rows.shape)}.")
        logits = rows @ weights[0] + weights[1]
        return logits if kind == "linear" else logits.softmax(-1)

    return answer


def imitated(
    code: Any,
    kind: str,
    weights: list[Tensor],
    x: Tensor,
    y: Tensor,
    std: Tensor,
    n: int,
    width: float,
    seed: int,
) -> Any:
    """Explain rows by the learner's local models."""
    return code.lime_tabular(probabilities(kind, weights), x, y, std, n, width, generator(seed))


def imitation_points(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, std: Tensor, n: int, width: float, seed: int
) -> dict[str, Any]:
    """Explain rows of a softmax, each at its level, and record the samples.

    Returns:
        coefficients, intercepts: what `lime_tabular` returned.
        points: (B, n, d), the samples of each row.
    """
    f = Recorder(probabilities("softmax", weights))
    coefficients, intercepts = code.lime_tabular(f, x, y, std, n, width, generator(seed))
    return {"coefficients": coefficients, "intercepts": intercepts, "points": f.by_source(len(x))}


def imitated_again(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, std: Tensor, n: int, width: float, seeds: list[int]
) -> list[Tensor]:
    """Explain rows twice with each of these seeds: first with a new generator, then with the same."""
    found = []
    for seed in seeds:
        g = generator(seed)
        f = probabilities("softmax", weights)
        found += [code.lime_tabular(f, x, y, std, n, width, g)[0] for _ in range(2)]
    return found


def left_by_imitating(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, std: Tensor, n: int, width: float, asks: bool
) -> dict[str, Any]:
    """Explain rows of a linear function that carries a graph.

    Returns:
        given: the local models.
        x: what is left of the caller's x.
        graph: whether a graph hangs on each part of the result.
    """
    x, graph = x.clone().requires_grad_(asks), [weight.clone().requires_grad_() for weight in weights]
    given = code.lime_tabular(probabilities("linear", graph), x, y, std, n, width, generator(0))
    return {"given": given, "x": state_of_tensor(x), "graph": [part.requires_grad for part in given]}


def imitated_elsewhere(
    code: Any, weights: list[Tensor], x: Tensor, y: Tensor, std: Tensor, n: int, width: float
) -> Any:
    """Explain rows of a linear function where the default device is not theirs."""
    g = generator(0)
    with torch.device("meta"):
        return found_on(code.lime_tabular(probabilities("linear", weights), x, y, std, n, width, g))


# -------------------------------------------------------------- I8 visualize_unit, randomization_test


def climbed(code: Any, weights: list[Tensor], depth: int, unit: int, start: Tensor, settings: dict[str, Any]) -> Tensor:
    """Climb the activation of a unit of the network's first layers.

    Args:
        depth: how many layers of the network; all of them give logits, fewer give feature maps.
        settings: keyword arguments of `visualize_unit`.
    """
    return code.visualize_unit(network(weights)[:depth], unit, start, **settings)


def left_by_climbing(
    code: Any, weights: list[Tensor], start: Tensor, training: bool, asks: bool, settings: dict[str, Any]
) -> dict[str, Any]:
    """Climb; return the pictures, what is left of the model and of the start, and whether a graph hangs on.

    `start afterwards` is the start after someone overwrote the pictures.
    """
    model, start = marked(network(weights), training), start.clone().requires_grad_(asks)
    given = code.visualize_unit(model, 0, start, **settings)
    left = {"model": state_of(model), "start": state_of_tensor(start), "graph": given.requires_grad}
    pictures = given.detach().clone()
    given.detach().zero_()
    return {"given": pictures, **left, "start afterwards": start.detach().clone()}


def climbed_elsewhere(code: Any, weights: list[Tensor], start: Tensor, settings: dict[str, Any]) -> Any:
    """Climb where the default device is not the start's."""
    model = network(weights)
    with torch.device("meta"):
        return found_on(code.visualize_unit(model, 0, start, **settings))


class Layered(nn.Module):
    """A stack of parameters with names: one in `inner`, two in `outer`, and what explains it by them.

    Args:
        values: of the three parameters; each (m,).
    """

    def __init__(self, values: list[Tensor]) -> None:
        super().__init__()
        self.inner = nn.ParameterDict({"a": nn.Parameter(values[0].clone())})
        self.outer = nn.ModuleDict({"b": nn.ParameterDict({"b": nn.Parameter(values[1].clone())})})
        self.outer.register_parameter("c", nn.Parameter(values[2].clone()))


def randomized(
    code: Any, values: list[Tensor], x: Tensor, layers: list[str], seed: int, training: bool = False
) -> dict[str, Any]:
    """Destroy a `Layered` network, and record what each explanation saw.

    An explanation is the product of each input (B, m) with the sum of the parameters.

    Returns:
        result: what `randomization_test` returned.
        maps: (explanations, B, m), as they were returned.
        parameters: (explanations, 3, m).
        model: what is left of the network.
        inputs: whether each explanation got x as it is.
        explained: whether the networks that were explained were in the given one's mode.
    """
    model, maps, parameters, inputs, modes = Layered(values), [], [], [], []
    marked(model, training)

    def explain(network: nn.Module, pictures: Tensor) -> Tensor:
        found = dict(network.named_parameters())
        stack = torch.stack([found["inner.a"], found["outer.b.b"], found["outer.c"]]).detach().clone()
        parameters.append(stack)
        inputs.append(torch.equal(pictures, x))
        modes.append(network.training == training)
        maps.append(pictures * stack.sum(0))
        return maps[-1].clone()

    result = code.randomization_test(explain, model, x, layers, generator(seed))
    return {
        "result": result,
        "maps": torch.stack(maps),
        "parameters": torch.stack(parameters),
        "model": state_of(model),
        "inputs": all(inputs),
        "explained": all(modes),
    }


def randomized_again(code: Any, values: list[Tensor], x: Tensor, layers: list[str], seeds: list[int]) -> list[Tensor]:
    """Destroy a network twice with each of these seeds: first with a new generator, then with the same."""
    found = []
    for seed in seeds:
        g = generator(seed)
        for _ in range(2):
            model = Layered(values)
            found.append(code.randomization_test(_sum_of_parameters, model, x, layers, g))
    return found


def _sum_of_parameters(model: nn.Module, x: Tensor) -> Tensor:
    return x * sum((p.detach() for p in model.parameters()), torch.zeros_like(x))
