"""Other right solutions of lesson 5, which the grader must accept: written as learners write them."""

# Learners' code, as it comes.
# ruff: noqa: B905
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import torch

from coursekit.grading.answers import alternative

# ------------------------------------------------------------------------------------- I1 saliency


@alternative("saliency", says="backward, for the inputs alone")
def saliency_by_backward(model, x, y):
    x = x.detach().clone().requires_grad_(True)
    logits = model(x)
    picked = logits[torch.arange(len(y), device=y.device), y]
    picked.backward(torch.ones_like(picked), inputs=[x])
    return x.grad.abs().max(dim=1).values


@alternative("saliency", says="picture by picture")
def saliency_one_by_one(model, x, y):
    maps = torch.zeros(x.size(0), x.size(2), x.size(3), dtype=x.dtype, device=x.device)
    for i in range(x.size(0)):
        one = x[i : i + 1].detach().clone()
        one.requires_grad = True
        (grad,) = torch.autograd.grad(model(one)[0, y[i]], one)
        maps[i] = grad[0].abs().amax(dim=0)
    return maps


@alternative("saliency", says="a one-hot mask of the logits as the vector of a vector-Jacobian product")
def saliency_by_vjp(model, x, y):
    logits, pullback = torch.func.vjp(model, x.detach())
    onehot = (torch.arange(logits.shape[1], device=x.device) == y[:, None]).to(logits.dtype)
    (grad,) = pullback(onehot)
    return torch.maximum(grad.amax(1), (-grad).amax(1)).detach()


# ------------------------------------------------------------------------- I2 integrated_gradients


@alternative("integrated_gradients", says="all steps in one batch")
def attributions_in_one_batch(f, x, baseline, n):
    alphas = (torch.arange(n, dtype=x.dtype, device=x.device) + 0.5) / n
    alphas = alphas.view(n, *([1] * x.dim()))
    x, baseline = x.detach(), baseline.detach().expand_as(x)
    path = (baseline + alphas * (x - baseline)).detach().requires_grad_()
    scores = f(path.reshape(-1, *x.shape[1:]))
    grads = torch.autograd.grad(scores.sum(), path)[0]
    return (x - baseline) * grads.mean(dim=0)


@alternative("integrated_gradients", says="the gradients added up in one leaf by backward, from right to left")
def attributions_by_backward(f, x, baseline, n):
    base = torch.broadcast_to(baseline, x.shape).detach()
    shift = torch.zeros_like(x).requires_grad_()
    for k in reversed(range(n)):
        alpha = (2 * k + 1) / (2 * n)
        point = (1 - alpha) * base + alpha * x.detach() + shift
        f(point).sum().backward(inputs=[shift])
    return (x.detach() - base) * shift.grad / n


@alternative("integrated_gradients", says="row by row, torch.func.grad by the row's end points")
def attributions_row_by_row(f, x, baseline, n):
    rows = []
    for one, base in zip(x.detach(), baseline.detach().expand_as(x)):
        alphas = torch.linspace(0.5 / n, 1 - 0.5 / n, n, dtype=x.dtype, device=x.device)
        path = torch.lerp(base, one, alphas.reshape(n, *[1] * one.dim()))
        slope = torch.func.grad(lambda shift, path=path: f(path + shift).mean())(torch.zeros_like(one))
        rows.append((one - base) * slope)
    return torch.stack(rows) if rows else torch.zeros_like(x)


# ----------------------------------------------------------------------------------- I3 smoothgrad


@alternative("smoothgrad", says="all copies in one batch, copy by copy")
def smooth_in_one_batch(f, x, y, sigma, n, g):
    x = x.detach()
    B = x.shape[0]
    lo = x.flatten(1).min(1).values
    hi = x.flatten(1).max(1).values
    std = (sigma * (hi - lo)).view(B, 1, 1, 1)
    noise = torch.empty(n, *x.shape, dtype=x.dtype, device=x.device).normal_(generator=g)
    noisy = (x + std * noise).flatten(0, 1).requires_grad_()
    picked = f(noisy)[torch.arange(n * B, device=x.device), y.repeat(n)]
    grads = torch.autograd.grad(picked.sum(), noisy)[0]
    return grads.view(n, *x.shape).mean(0).abs().max(1)[0]


@alternative("smoothgrad", says="picture by picture, a running mean")
def smooth_one_by_one(f, x, y, sigma, n, g):
    maps = []
    for image, label in zip(x.detach(), y):
        std = sigma * (image.max() - image.min())
        mean = torch.zeros_like(image)
        for k in range(1, n + 1):
            noisy = image + std * torch.randn(image.shape, generator=g, dtype=image.dtype, device=image.device)
            noisy = noisy.unsqueeze(0).requires_grad_()
            grad = torch.autograd.grad(f(noisy)[0, label], noisy)[0][0]
            mean = mean + (grad - mean) / k
        maps.append(mean.abs().amax(0))
    if not maps:
        return x.new_zeros((0, *x.shape[2:]))
    return torch.stack(maps)


@alternative("smoothgrad", says="gradients added up on purpose, in one leaf that the noise is added to")
def smooth_in_one_leaf(f, x, y, sigma, n, g):
    leaf = x.detach().clone().requires_grad_()
    std = sigma * (x.detach().amax(dim=(1, 2, 3)) - x.detach().amin(dim=(1, 2, 3)))
    for _ in range(n):
        noise = torch.randn(tuple(x.shape), generator=g, dtype=x.dtype, device=x.device)
        noise = noise * std[:, None, None, None]
        score = f(leaf + noise).gather(1, y.unsqueeze(1)).sum() / n
        score.backward(inputs=[leaf])
    return leaf.grad.abs().max(dim=1).values


# ------------------------------------------------------------------------------------- I4 grad_cam


@alternative("grad_cam", says="the clone kept by the hook, and the layer's own output asked for a gradient")
def cam_with_a_kept_clone(model, layer, x, y):
    store = {}

    def hook(module, args, out):
        out = out.detach().clone().requires_grad_(True)
        store["a"] = out
        return out + 0

    h = layer.register_forward_hook(hook)
    try:
        out = model(x.detach())
    finally:
        h.remove()
    a = store["a"]
    score = out[torch.arange(len(y), device=out.device), y].sum()
    grads = torch.autograd.grad(score, a)[0]
    alpha = grads.flatten(2).mean(-1)
    cam = torch.einsum("bc,bchw->bhw", alpha, a.detach()).clamp(min=0)
    top = cam.flatten(1).amax(1)
    top[top == 0] = 1
    return cam / top[:, None, None]


@alternative("grad_cam", says="a zero added to the layer's output; its gradient is that of the output")
def cam_with_an_added_zero(model, layer, x, y):
    found = []

    def hook(module, args, out):
        zero = torch.zeros_like(out, requires_grad=True)
        found.extend([out.detach().clone(), zero])
        return out.detach() + zero

    handle = layer.register_forward_hook(hook)
    try:
        scores = model(x)
    finally:
        handle.remove()
    A, zero = found
    scores.gather(1, y.view(-1, 1)).sum().backward(inputs=[zero])
    w = zero.grad.mean(dim=-1, keepdim=True).mean(dim=-2, keepdim=True)
    maps = torch.relu((w * A).sum(dim=1))
    if maps.shape[0] == 0:
        return maps
    biggest = maps.amax(dim=(-1, -2), keepdim=True)
    return torch.nan_to_num(maps / biggest)


# ------------------------------------------------------------------------------ I5 coalition_values


@alternative("coalition_values", says="coalition by coalition")
def values_one_by_one(f, x, baseline, coalitions):
    values = [f(torch.where(c.to(x.device), x, baseline.expand_as(x))) for c in coalitions]
    if not values:
        return x.new_zeros(0, x.shape[0])
    return torch.stack(values)


@alternative("coalition_values", says="input by input, multiplied by 0 and 1")
def values_by_multiplying(f, x, baseline, coalitions):
    mask = coalitions.to(device=x.device, dtype=x.dtype)
    base = baseline.expand(x.shape)
    columns = [f(mask * one + (1 - mask) * b) for one, b in zip(x, base)]
    if len(columns) == 0:
        return x.new_zeros(len(mask), 0)
    return torch.stack(columns, dim=1)


# ------------------------------------------------------------------------------ I5 shapley_exact


@alternative("shapley_exact", says="a dictionary of coalitions, and itertools")
def shapley_by_combinations(v, d):
    subsets = [s for r in range(d + 1) for s in itertools.combinations(range(d), r)]
    rows = torch.zeros(len(subsets), d, dtype=torch.bool)
    for row, s in zip(rows, subsets):
        row[list(s)] = True
    values = v(rows)
    place = {frozenset(s): k for k, s in enumerate(subsets)}
    phi = torch.zeros(d, *values.shape[1:], dtype=values.dtype, device=values.device)
    for s in subsets:
        for i in set(range(d)) - set(s):
            weight = math.factorial(len(s)) * math.factorial(d - len(s) - 1) / math.factorial(d)
            phi[i] += weight * (values[place[frozenset({*s, i})]] - values[place[frozenset(s)]])
    return phi


@alternative("shapley_exact", says="one weight for each value: with player i it counts plus, without minus")
def shapley_by_one_matrix(v, d):
    S = torch.tensor(list(itertools.product([False, True], repeat=d)), dtype=torch.bool)
    values = v(S)
    size = S.sum(1)
    log_fact = torch.lgamma(torch.arange(d + 1, dtype=torch.float64) + 1)
    joined = torch.exp(log_fact[size - 1] + log_fact[d - size] - log_fact[d])
    apart = torch.exp(log_fact[size] + log_fact[d - size - 1] - log_fact[d])
    M = torch.where(S, joined[:, None], -apart[:, None]).T  # (d, 2^d)
    return torch.tensordot(M.to(device=values.device, dtype=values.dtype), values, dims=1)


@alternative("shapley_exact", says="v asked in pieces, the weights as 1 / (d · C(d − 1, |S|))")
def shapley_in_pieces(v, d):
    numbers = torch.arange(2**d)
    S = torch.stack([(numbers // 2**i) % 2 == 1 for i in range(d)], dim=1)
    values = torch.cat([v(part) for part in S.split(5)])
    shape = values.shape[1:]
    phi = []
    for i in range(d):
        cube = values.reshape(2 ** (d - 1 - i), 2, 2**i, *shape)
        gain = (cube[:, 1] - cube[:, 0]).reshape(2 ** (d - 1), *shape)
        others = S.reshape(2 ** (d - 1 - i), 2, 2**i, d)[:, 0].reshape(-1, d).sum(1)
        w = torch.tensor([1 / (d * math.comb(d - 1, int(s))) for s in others], dtype=values.dtype).to(values.device)
        phi.append((w.view(-1, *[1] * len(shape)) * gain).sum(0))
    return torch.stack(phi)


# --------------------------------------------------------------------------------- I6 kernel_shap


@alternative("kernel_shap", says="normal equations with a Lagrange multiplier")
def regression_by_lagrange(v, d, n, g):
    if n >= 2**d - 2:
        numbers = torch.arange(1, 2**d - 1)
        S = numbers.unsqueeze(1).bitwise_and(2 ** torch.arange(d)).ne(0)
        s = S.sum(1).double()
        C = torch.tensor([math.comb(d, int(k)) for k in s], dtype=torch.float64)
        w = (d - 1) / (C * s * (d - s))
    else:
        p = torch.tensor([1 / (s * (d - s)) for s in range(1, d)], dtype=torch.float64)
        S = torch.zeros(n, d, dtype=torch.bool)
        for row, s in zip(S, torch.multinomial(p, n, replacement=True, generator=g) + 1):
            row[torch.randperm(d, generator=g)[:s]] = True
        S, counts = S.unique(dim=0, return_counts=True)
        w = counts.double()
    v0 = v(torch.zeros(1, d, dtype=torch.bool))[0]
    v1 = v(torch.ones(1, d, dtype=torch.bool))[0]
    shape = v0.shape
    y = (v(S) - v0).reshape(len(S), math.prod(shape))
    total = (v1 - v0).reshape(1, -1)
    Z = S.to(y.dtype)
    w = w.to(y.dtype)
    K = torch.zeros(d + 1, d + 1, dtype=y.dtype)
    K[:d, :d] = Z.T @ (w[:, None] * Z)
    K[:d, d] = 1
    K[d, :d] = 1
    right = torch.cat([Z.T @ (w[:, None] * y), total])
    return torch.linalg.solve(K, right)[:d].reshape(d, *shape)


@alternative("kernel_shap", says="projection onto the sum of zero, and the pseudo-inverse; draws kept in a dictionary")
def regression_by_projection(v, d, n, g):
    if n >= 2**d - 2:
        kept = {}
        for row in itertools.product((False, True), repeat=d):
            if 0 < sum(row) < d:
                kept[row] = (d - 1) / (math.comb(d, sum(row)) * sum(row) * (d - sum(row)))
    else:
        odds = [1 / (s * (d - s)) for s in range(1, d)]
        edges = torch.tensor(odds, dtype=torch.float64).cumsum(0) / sum(odds)
        sizes = torch.searchsorted(edges, torch.rand(n, generator=g, dtype=torch.float64), right=True) + 1
        kept = {}
        for size in sizes.clamp(max=d - 1).tolist():
            order = torch.randperm(d, generator=g).tolist()
            row = tuple(player in order[:size] for player in range(d))
            kept[row] = kept.get(row, 0) + 1
    rows = [(False,) * d, (True,) * d, *kept]
    values = v(torch.tensor(rows, dtype=torch.bool))
    flat = values.reshape(len(rows), math.prod(values.shape[1:])).double()
    total = flat[1] - flat[0]
    Z = torch.tensor(rows[2:], dtype=flat.dtype).reshape(-1, d)
    w = torch.tensor(list(kept.values()), dtype=flat.dtype)
    even = total / d  # everyone's equal share; what is left adds up to zero
    rest = flat[2:] - flat[0] - Z.sum(1, keepdim=True) * even
    P = torch.eye(d, dtype=flat.dtype) - 1 / d
    A = Z @ P
    inverse = torch.linalg.pinv(A.T @ (w[:, None] * A), rtol=1e-9, hermitian=True)
    phi = even + P @ (inverse @ (A.T @ (w[:, None] * rest)))
    return phi.reshape(d, *values.shape[1:]).to(values.dtype)


# -------------------------------------------------------------------------------- I7 lime_tabular


@alternative("lime_tabular", says="row by row, normal equations, f asked for one row's samples at a time")
def lime_row_by_row(f, x, y, std, n, width, g):
    coefs, intercepts = [], []
    for row, label in zip(x.detach(), y.tolist()):
        eps = torch.randn(n, x.shape[1], generator=g, dtype=x.dtype, device=x.device)
        z = row + eps * std
        p = f(z).detach()[:, label]
        w = torch.exp(-(eps**2).sum(1) / width**2)
        Z = torch.cat([torch.ones(n, 1, dtype=x.dtype, device=x.device), eps], dim=1)
        beta = torch.linalg.solve(Z.T @ (w[:, None] * Z), Z.T @ (w * p))
        coefs.append(beta[1:])
        intercepts.append(beta[0])
    if not coefs:
        return x.new_zeros(x.shape), x.new_zeros(0)
    return torch.stack(coefs), torch.stack(intercepts)


@alternative("lime_tabular", says="one set of noise for all rows, centred by weighted means")
def lime_with_shared_noise(f, x, y, std, n, width, g):
    B, d = x.shape
    noise = torch.empty(n, d, dtype=x.dtype, device=x.device).normal_(generator=g)
    with torch.no_grad():
        points = x.unsqueeze(1) + noise.unsqueeze(0) * std
        answers = f(points.reshape(B * n, d)).unflatten(0, (B, n))
        target = answers[torch.arange(B, device=x.device), :, y]  # (B, n)
        w = torch.softmax(-(noise.norm(dim=1) ** 2) / width**2, dim=0)
        centre = w @ noise
        level = target @ w
        E = noise - centre
        right = (target - level[:, None]) @ (w[:, None] * E)
        coef = torch.linalg.solve(E.T @ (w[:, None] * E), right.T).T
        return coef, level - coef @ centre


@alternative("lime_tabular", says="fitted in raw units, then rescaled")
def lime_in_raw_units(f, x, y, std, n, width, g):
    B, d = x.shape
    noise = torch.randn(B, n, d, generator=g, dtype=x.dtype, device=x.device)
    shift = noise * std
    with torch.no_grad():
        probs = f((x.view(B, 1, d) + shift).view(B * n, d))
    p = probs[torch.arange(B * n, device=x.device), y.repeat_interleave(n)].view(B, n, 1)
    w = torch.exp(-((shift / std) ** 2).sum(2) / (2 * width**2)).unsqueeze(2)
    Z = torch.cat((shift, torch.ones(B, n, 1, dtype=x.dtype, device=x.device)), dim=2)
    Q, R = torch.linalg.qr(Z * w)
    beta = torch.linalg.solve_triangular(R, Q.transpose(1, 2) @ (p * w), upper=True)[:, :, 0]
    return beta[:, :d] * std, beta[:, d]


# ------------------------------------------------------------------------------ I8 visualize_unit


@alternative("visualize_unit", says="PyTorch's SGD, upside down")
def climb_with_sgd(model, unit, start, *, steps, lr, weight_decay):
    x = torch.nn.Parameter(start.detach().clone())
    # SGD's penalty is half of weight_decay times the square; maximising turns its sign.
    optimizer = torch.optim.SGD([x], lr=lr)
    for _ in range(steps):
        out = model(x)[:, unit]
        act = out.reshape(out.shape[0], math.prod(out.shape[1:])).mean(1).sum()
        loss = weight_decay * (x**2).sum() - act
        x.grad = torch.autograd.grad(loss, x)[0]
        optimizer.step()
    return x.detach()


@alternative("visualize_unit", says="picture by picture, with the penalty's gradient written out")
def climb_one_by_one(model, unit, start, *, steps, lr, weight_decay):
    out = torch.empty_like(start)
    for i, picture in enumerate(start.detach()):
        for _ in range(steps):
            p = picture.unsqueeze(0).clone().requires_grad_(True)
            (g,) = torch.autograd.grad(model(p)[0, unit].mean(), p)
            picture = picture + lr * (g[0] - 2 * weight_decay * picture)
        out[i] = picture
    return out


# ---------------------------------------------------------------------------- I8 rank_correlation


@alternative("rank_correlation", says="ranks by comparing all pairs")
def ranks_by_pairs(a, b):
    def ranks(m):
        m = m.flatten(1)
        lower = (m[:, :, None] > m[:, None, :]).double().sum(2)
        equal = (m[:, :, None] == m[:, None, :]).double().sum(2)
        return lower + (equal + 1) / 2

    ra, rb = ranks(a), ranks(b)
    ra = ra - ra.mean(1, keepdim=True)
    rb = rb - rb.mean(1, keepdim=True)
    bottom = (ra.pow(2).sum(1) * rb.pow(2).sum(1)).sqrt()
    r = (ra * rb).sum(1) / bottom
    return torch.where(bottom == 0, torch.zeros_like(r), r).to(a.dtype)


@alternative("rank_correlation", says="the mean rank of each group of equals, from unique; then corrcoef")
def ranks_by_groups(a, b):
    def ranks(row):
        _, group, counts = torch.unique(row, return_inverse=True, return_counts=True)
        last = counts.cumsum(0).to(torch.float64)
        return (last - (counts - 1) / 2)[group], len(counts)

    out = []
    for p, q in zip(a.flatten(1), b.flatten(1)):
        (rp, groups), (rq, others) = ranks(p), ranks(q)
        if groups == 1 or others == 1:
            out.append(torch.zeros((), dtype=torch.float64))
        else:
            out.append(torch.corrcoef(torch.stack([rp, rq]))[0, 1])
    return torch.stack(out).type_as(a)


@alternative("rank_correlation", says="numpy, ties walked through in a loop")
def ranks_in_numpy(a, b):
    def ranks(values):
        order = np.argsort(values, kind="stable")
        out = np.zeros(len(values))
        i = 0
        while i < len(values):
            j = i
            while j + 1 < len(values) and values[order[j + 1]] == values[order[i]]:
                j += 1
            out[order[i : j + 1]] = (i + j) / 2
            i = j + 1
        return out

    results = []
    for p, q in zip(a.flatten(1).detach().cpu().numpy(), b.flatten(1).detach().cpu().numpy()):
        rp, rq = ranks(p), ranks(q)
        results.append(np.corrcoef(rp, rq)[0, 1] if rp.std() > 0 and rq.std() > 0 else 0.0)
    return torch.tensor(np.array(results), dtype=a.dtype, device=a.device)


# ------------------------------------------------------------------------- I8 randomization_test


def _spearman(a, b):
    """Return the rank correlation of each pair of maps."""
    out = []
    for p, q in zip(a.flatten(1), b.flatten(1)):
        p, q = ((row[:, None] > row).sum(1) + (row[:, None] == row).sum(1).double() / 2 for row in (p, q))
        both = torch.stack([p, q])
        flat = bool((both.std(1) == 0).any())
        out.append(torch.zeros((), dtype=torch.float64) if flat else torch.corrcoef(both)[0, 1])
    return torch.stack(out).to(a)


@alternative("randomization_test", says="a state dict changed name by name, and loaded anew after each layer")
def randomization_by_state_dict(explain, model, x, layers, g):
    other = copy.deepcopy(model)
    state = {k: t.clone() for k, t in other.state_dict().items()}
    reference = explain(model, x)
    rows = []
    for layer in layers:
        for key, old in state.items():
            if key.startswith(layer + "."):
                rms = old.pow(2).mean().sqrt()
                state[key] = torch.randn(old.shape, generator=g, dtype=old.dtype) * rms
        other.load_state_dict(state)
        rows.append(_spearman(torch.abs(reference), torch.abs(explain(other, x))))
    return torch.stack(rows)


@alternative("randomization_test", says="the copy explained first, parameters replaced through .data")
def randomization_through_data(explain, model, x, layers, g):
    model = copy.deepcopy(model)
    modules = dict(model.named_modules())
    before = explain(model, x).abs().detach()
    result = torch.zeros(len(layers), len(x), dtype=before.dtype)
    for i, layer in enumerate(layers):
        for p in modules[layer].parameters():
            scale = p.data.norm() / math.sqrt(p.numel())
            p.data = torch.empty_like(p.data).normal_(generator=g) * scale
        result[i] = _spearman(before, explain(model, x).abs().detach())
    return result
