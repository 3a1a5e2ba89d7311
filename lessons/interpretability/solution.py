"""Reference solutions of lesson 5: gradients, class maps, Shapley values, local models, and what tests them.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. A network is used in
the mode that it is in: whoever asks for an explanation has called `eval()`, and nothing of the network may change.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def saliency(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Show how strongly the score of a class reacts to each pixel.

        map[b, i, j] = max over channels c of |∂ model(x)[b, y[b]] / ∂ x[b, c, i, j]|

    The score is the logit as the model returns it: no softmax, no loss.

    Args:
        model: maps pictures (B, C, H, W) to logits (B, K), each picture alone.
        x: pictures (B, C, H, W), floating; B may be any number, 0 and 1 included. x keeps its values, its
            `requires_grad` and its `grad`.
        y: for each picture the class to explain (B,), int64; it need not be the predicted one.

    Returns:
        Maps (B, H, W), with x's dtype and device, without a graph. The model is as it was: its mode, and every
        parameter's `grad`.

    Source: Simonyan, Vedaldi & Zisserman 2014, section 3.
    """
    x = x.detach().requires_grad_()  # a leaf of its own: the caller's tensor stays as it is
    scores = model(x).gather(1, y[:, None])
    # Each picture's score depends on that picture alone, so that the sum's gradient holds all of theirs. Unlike
    # backward, grad leaves the parameters' .grad alone.
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    return gradient.abs().amax(1)


def integrated_gradients(f: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, n: int) -> Tensor:
    """Share out f(x) − f(baseline) among the entries of x, along the straight line between the two.

        α_k           = (k + ½) / n                          for k = 0, ..., n − 1: the midpoints of n equal steps
        attribution   = (x − baseline) · (1/n) · Σ_k ∇f(baseline + α_k · (x − baseline))

    The product is taken entry by entry. The attributions of one row add up to f(x) − f(baseline), up to the error
    of the midpoint rule, which falls with 1/n² where f is smooth.

    Args:
        f: maps rows (M, ...) to scores (M,), each row alone, for any M. Attribute the score as f returns it.
        x: inputs (B, ...), floating, B ≥ 0.
        baseline: what counts as "nothing there"; broadcasts to x, so one baseline may serve all rows.
        n: number of steps, at least 1.

    Returns:
        Attributions, shaped like x and with its dtype and device, without a graph. x and baseline stay as they are.

    Source: Sundararajan, Taly & Yan 2017, equation 1 and section 5, with midpoints for right ends.
    """
    x, baseline = x.detach(), baseline.detach()
    difference = x - baseline
    total = torch.zeros_like(x)
    for k in range(n):  # step by step: n steps in one batch would need n times the memory
        point = (baseline + (k + 0.5) / n * difference).requires_grad_()
        (gradient,) = torch.autograd.grad(f(point).sum(), point)
        total += gradient
    return difference * total / n


def smoothgrad(f: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, sigma: float, n: int, g: torch.Generator) -> Tensor:
    """Average the gradient over noisy copies of each picture, then make a saliency map of the average.

        std[b]       = sigma · (max of x[b] − min of x[b])       over all its channels and pixels
        noisy_k[b]   = x[b] + std[b] · noise                     for k = 1, ..., n; noise ~ N(0, 1), new everywhere
        mean[b]      = (1/n) · Σ_k ∂ f(noisy_k)[b, y[b]] / ∂ noisy_k[b]         with its sign
        map[b, i, j] = max over channels c of |mean[b, c, i, j]|

    With sigma = 0 this is `saliency`.

    Args:
        f: maps pictures (M, C, H, W) to logits (M, K), each picture alone, for any M: a model, or any function.
        x: pictures (B, C, H, W), floating, B ≥ 0.
        y: for each picture the class to explain (B,), int64.
        sigma: noise level, a share of each picture's own range; 0.1 to 0.2 is usual.
        n: noisy copies of each picture, at least 1.
        g: generator on x's device; all randomness comes from it.

    Returns:
        Maps (B, H, W), with x's dtype and device, without a graph. x stays as it is.

    Source: Smilkov, Thorat, Kim, Viégas & Wattenberg 2017, section 3.
    """
    ends = x.flatten(1).aminmax(dim=1)
    std = sigma * (ends.max - ends.min)[:, None, None, None]
    total = torch.zeros_like(x)
    for _ in range(n):
        noise = torch.empty_like(x).normal_(generator=g)
        noisy = (x + std * noise).requires_grad_()  # new for each draw: nothing can add up in it
        scores = f(noisy).gather(1, y[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), noisy)
        total += gradient
    # The absolute value comes last: noise that flips the sign from draw to draw cancels before it.
    return (total / n).abs().amax(1)


def grad_cam(model: nn.Module, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Show where a convolutional layer saw evidence for a class.

        A              = what `layer` returns while the model looks at x            (B, C, h, w)
        weight[b, c]   = mean over space of ∂ model(x)[b, y[b]] / ∂ A[b, c]         (B, C)
        raw[b, i, j]   = max(0, Σ_c weight[b, c] · A[b, c, i, j])                   (B, h, w)
        map[b]         = raw[b] / max of raw[b]            each picture by its own maximum; zeros stay zeros

    A is the layer's output as it leaves the layer: what follows may be an in-place ReLU, which overwrites it.

    Args:
        model: maps pictures to logits (B, K), each picture alone.
        layer: a module inside the model, used once in a forward pass; its output is (B, C, h, w).
        x: pictures (B, ...), floating, B ≥ 0.
        y: for each picture the class to explain (B,), int64.

    Returns:
        Maps (B, h, w), as fine as the layer's output, between 0 and 1, with A's dtype and device, without a graph.
        It works for a frozen network too, where no parameter asks for a gradient. The model is as it was: its mode,
        every parameter's `grad`, and its hooks. Yours is gone afterwards, also when the model raises; hooks of
        others stay.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        kept.append(leaf)
        return leaf.clone()  # what follows may overwrite the copy

    handle = layer.register_forward_hook(keep)
    try:
        logits = model(x)
    finally:
        handle.remove()
    (activations,) = kept
    (gradient,) = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), activations)
    weights = F.adaptive_avg_pool2d(gradient, 1)  # (B, C, 1, 1), means over space
    raw = (weights * activations.detach()).sum(1).relu()
    highest = raw.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, raw / highest, raw)


def coalition_values(f: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, coalitions: Tensor) -> Tensor:
    """Ask a model what it says when only some of the features are there.

        values[m, b] = f(row)    where row[i] = x[b, i] if coalitions[m, i] else baseline's entry of that feature

    Args:
        f: maps rows (N, d) to scores (N,), each row alone, for any N.
        x: inputs (B, d), floating.
        baseline: what an absent feature takes; (d,), or (B, d) with one baseline for each input.
        coalitions: (M, d), bool; True is a feature that is there. It may lie on another device than x.

    Returns:
        Values (M, B), as f gives them, on x's device.

    Source: Lundberg & Lee 2017, section 2, with a baseline for what is absent.
    """
    present = coalitions.to(x.device)[:, None, :]  # (M, 1, d)
    rows = torch.where(present, x, baseline)  # (M, B, d)
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


def shapley_exact(v: Callable[[Tensor], Tensor], d: int) -> Tensor:
    """Compute the Shapley values of a game with d players, from all its coalitions.

        φ_i = Σ over coalitions S without player i of  |S|! · (d − |S| − 1)! / d!  ·  (v(S with i) − v(S))

    The values add up to v(everyone) − v(no one), and v(no one) need not be 0.

    Args:
        v: maps coalitions (M, d), bool, on the CPU, to their values (M,) or (M, ...): further axes are further
            games that are played at once. For the values of a model fix the first arguments of `coalition_values`.
            A value may be costly: each of the 2^d coalitions is asked for once, in one call or in several.
        d: number of players, at least 1.

    Returns:
        φ (d,) or (d, ...), with the dtype and device of v's values.

    Source: Shapley 1953; Lundberg & Lee 2017, equation 4.
    """
    numbers = torch.arange(2**d)  # bit i of a coalition's number tells whether player i is in
    coalitions = (numbers[:, None] >> torch.arange(d)) % 2 == 1
    values = v(coalitions)
    orders = math.factorial(d)
    by_size = [math.factorial(size) * math.factorial(d - size - 1) / orders for size in range(d)]
    phi = []
    for player in range(d):
        without = numbers[~coalitions[:, player]]
        gain = values[without + 2**player] - values[without]  # (2^(d−1), ...)
        # A coalition's size is the number of ones among its bits.
        weights = [by_size[number.bit_count()] for number in without.tolist()]
        phi.append(torch.tensordot(torch.tensor(weights, dtype=gain.dtype, device=gain.device), gain, 1))
    return torch.stack(phi)


def kernel_shap(v: Callable[[Tensor], Tensor], d: int, n: int, g: torch.Generator) -> Tensor:
    """Estimate Shapley values by a weighted regression on n coalitions.

    Only coalitions S with 0 < |S| < d take part; the empty and the full one enter as constraints.

        n ≥ 2^d − 2:  every S once, with the weight     w(S) = (d − 1) / (C(d, |S|) · |S| · (d − |S|))
        otherwise:    n coalitions, drawn with replacement with a probability in proportion to w(S), as follows:
                      the size s with a probability in proportion to 1 / (s · (d − s)), then s of the d players,
                      each choice equally likely. Equal draws are merged: w(S) = how often S was drawn.

        φ = the minimum of  Σ_S w(S) · (v(S) − v(∅) − Σ_{i in S} φ_i)²   subject to   Σ_i φ_i = v(D) − v(∅)

    So Σ_i φ_i is exact, however few coalitions were drawn, and with all coalitions φ equals `shapley_exact`, up to
    rounding in the dtype of v's values.

    Args:
        v: maps coalitions (M, d), bool, on the CPU, to their values (M,) or (M, ...), as in `shapley_exact`. No
            coalition is asked for twice, in one call or in several.
        d: number of players, at least 1.
        n: number of coalitions, at least several times d.
        g: generator on the CPU; all randomness comes from it.

    Returns:
        φ (d,) or (d, ...), with the dtype and device of v's values.

    Source: Lundberg & Lee 2017, theorem 2; the constraint as in Covert & Lee 2021, section 3.
    """
    if n >= 2**d - 2:
        rows = [row for row in product([False, True], repeat=d) if 0 < sum(row) < d]
        inner = torch.tensor(rows, dtype=torch.bool).reshape(-1, d)
        # Without the factor d − 1, which all weights share and no minimum sees.
        kernel = [math.comb(d, sum(row)) * sum(row) * (d - sum(row)) for row in rows]
        weights = torch.tensor(kernel, dtype=torch.float64).reciprocal()  # float32 would cost half of the digits
    else:
        sizes = torch.arange(1, d)
        drawn = sizes[torch.multinomial((sizes * (d - sizes)).reciprocal(), n, replacement=True, generator=g)]
        orders = torch.multinomial(torch.ones(n, d), d, generator=g)  # a random order of 0, ..., d − 1 in each row
        # The draw has used up the kernel's weight: what is left is how often a coalition came.
        inner, weights = torch.unique(orders < drawn[:, None], dim=0, return_counts=True)
    ends = torch.tensor([[False], [True]]).expand(2, d)
    values = v(torch.cat([ends, inner]))
    empty, total, rest = values[0], values[1] - values[0], values[2:]
    design = inner.to(values)
    # The constraint takes the last player out of the fit: φ_d = total − the others.
    last = design[:, -1:]
    left = (rest - empty).flatten(1) if values.dim() > 1 else (rest - empty)[:, None]
    left = left - last * total.reshape(1, -1)
    root = weights.to(values)[:, None] ** 0.5
    others = torch.linalg.lstsq(root * (design[:, :-1] - last), root * left).solution
    phi = torch.cat([others, total.reshape(1, -1) - others.sum(0)])
    return phi.reshape(d, *values.shape[1:])


def lime_tabular(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    std: Tensor,
    n: int,
    width: float,
    g: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Explain rows of a table by the linear model that imitates f nearby.

        ε_k ~ N(0, 1) for each feature           k = 1, ..., n: how far a sample lies from x, in standard deviations
        z_k = x + std · ε_k                      the samples
        w_k = exp(−‖ε_k‖² / width²)              the closer, the heavier
        (c, c₀) = the minimum of  Σ_k w_k · (f(z_k)[y] − c₀ − c · ε_k)²

    So c[i] says by how much the probability rises when feature i rises by one standard deviation, and c₀ is the
    local model's own value at x. There is no penalty on c.

    Args:
        f: maps rows (N, d) to probabilities (N, K), each row alone, for any N. Fit these numbers as they are.
        x: rows to explain (B, d), floating, B ≥ 0; each gets a local model of its own.
        y: for each row the class to explain (B,), int64.
        std: standard deviation of each feature in the data (d,), above 0.
        n: samples for each row, more than d + 1. Whether rows of x share their ε is up to you.
        width: of the kernel, in standard deviations.
        g: generator on x's device; all randomness comes from it.

    Returns:
        (coefficients (B, d), intercepts (B,)), with x's dtype and device, without a graph.

    Source: Ribeiro, Singh & Guestrin 2016, equations 1 and 2 and the kernel of section 3.4.
    """
    B, d = x.shape
    noise = torch.randn(B, n, d, generator=g, dtype=x.dtype, device=x.device)
    samples = x[:, None] + std * noise
    with torch.no_grad():
        probabilities = f(samples.flatten(0, 1))  # (B · n, K)
    targets = probabilities.gather(1, y.repeat_interleave(n)[:, None]).reshape(B, n, 1)
    # A weighted fit is a plain one of rows that are multiplied by the root of their weight.
    root = torch.exp(-noise.square().sum(-1, keepdim=True) / width**2) ** 0.5
    design = torch.cat([noise, noise.new_ones(B, n, 1)], -1)
    fitted = torch.linalg.lstsq(root * design, root * targets).solution.squeeze(-1)  # (B, d + 1)
    return fitted[:, :-1], fitted[:, -1]


def visualize_unit(model: nn.Module, unit: int, start: Tensor, *, steps: int, lr: float, weight_decay: float) -> Tensor:
    """Search a picture that excites one unit, by climbing its activation from a start.

        J(x) = activation of the unit at x − weight_decay · ‖x‖²
        x   ← x + lr · ∇J(x)                                     `steps` times

    Each picture climbs alone; ‖x‖² is the sum of the squares of its entries.

    Args:
        model: maps pictures (B, ...) to activations (B, K), or to feature maps (B, K, ...): then the unit's
            activation is the mean of its map. To see a unit inside a network, pass the layers up to it.
        unit: index k of the unit.
        start: pictures to begin with (B, ...), floating, B ≥ 0; they keep their values.
        steps: number of steps, 0 or more.
        lr: length of a step for a gradient of length 1.
        weight_decay: strength of the penalty on large pixels, 0 or more.

    Returns:
        The pictures after the last step, new memory, shaped like start, with its dtype and device, without a graph.
        The model is as it was: its mode, and every parameter's `grad`.

    Source: Simonyan, Vedaldi & Zisserman 2014, section 2.
    """
    x = start.detach().clone()
    for _ in range(steps):
        x.requires_grad_()
        activation = model(x)[:, unit]  # (B,), or maps (B, ...)
        mean = activation.sum() / math.prod(activation.shape[1:])
        objective = mean - weight_decay * x.square().sum()
        (gradient,) = torch.autograd.grad(objective, x)
        x = x.detach() + lr * gradient
    return x


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of each pair of maps: how far two maps order their pixels alike.

    Replace each entry by its rank among the entries of its map, then take the ordinary (Pearson) correlation of the
    ranks. Entries that are equal share the mean of the ranks that they take up together, so that a map with many
    zeros is treated fairly.

    Args:
        a: maps (B, ...), floating, at least two entries each.
        b: maps shaped like a; B ≥ 1.

    Returns:
        Correlations (B,) from −1 to 1, with a's dtype and device; 0 where one of the maps is constant.

    Source: Spearman 1904; Adebayo et al. 2018, section 3, compares maps by it.
    """

    def ranks(maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        ordered = flat.sort().values
        # The first and the last place of an entry among the sorted ones: their mean is its rank, up to a factor of 2
        # and a shift, which no correlation sees.
        return (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True)).double()

    both = torch.stack([ranks(a), ranks(b)])  # (2, B, entries)
    both -= both.mean(-1, keepdim=True)
    lengths = both.norm(dim=-1).prod(0)
    return torch.where(lengths.bool(), torch.linalg.vecdot(*both) / lengths, 0).to(a)


def randomization_test(
    explain: Callable[[nn.Module, Tensor], Tensor],
    model: nn.Module,
    x: Tensor,
    layers: Sequence[str],
    g: torch.Generator,
) -> Tensor:
    """Test whether an explanation depends on what the network has learned: destroy the network, layer by layer.

    An explanation that hardly changes while the network forgets all it knew explains the picture, not the network.
    In the order of `layers`, each parameter of the layer (and of what it contains) is drawn anew

        p ~ N(0, r²)     with r = √(mean of the squares of p's old entries)

    and stays so while the next layers follow. After each layer the new maps are compared with the first ones by
    `rank_correlation` of their absolute values.

    Args:
        explain: maps (model, x) to maps (B, ...), which may have a sign.
        model: the network; it stays as it is, and a copy is destroyed.
        x: inputs (B, ...), handed to `explain`, B ≥ 1.
        layers: names of modules as in `model.named_modules()`, usually from the output to the input.
        g: generator on the parameters' device; all randomness comes from it.

    Returns:
        Correlations (len(layers), B): row l compares the maps of the whole network with those after the layers 0 to l
        were drawn anew.

    Source: Adebayo et al. 2018, section 4.1 (cascading randomisation).
    """
    first = explain(model, x).abs()
    destroyed = copy.deepcopy(model)
    rows = []
    for name in layers:
        for p in destroyed.get_submodule(name).parameters():
            with torch.no_grad():
                r = torch.linalg.vector_norm(p) / math.sqrt(p.numel())
                p.normal_(generator=g).mul_(r)
        later = explain(destroyed, x).abs()
        rows.append(rank_correlation(first, later))
    return torch.stack(rows)
