"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

# Learners' code, as it comes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F

from coursekit.grading.answers import dialect, wrong

# ------------------------------------------------------------------------------------- I1 saliency


def _slope(model, x, y):
    """Return the gradient of each picture's logit."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), x)[0]


@wrong("saliency", says="You differentiated the loss; the map is the slope of the class's score, the logit itself.")
def gradient_of_the_loss(model, x, y):
    x = x.detach().clone().requires_grad_()
    loss = F.cross_entropy(model(x), y, reduction="sum")
    return torch.autograd.grad(loss, x)[0].abs().amax(1)


@wrong("saliency", says="You differentiated the probability: softmax is flat where the model is sure. Take the logit.")
def gradient_of_the_probability(model, x, y):
    x = x.detach().clone().requires_grad_()
    score = model(x).softmax(1).gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, x)[0].abs().amax(1)


@wrong("saliency", says="Your code is made for a batch of five; take the number of pictures from x.")
def made_for_five_pictures(model, x, y):
    x = x.detach().clone().requires_grad_()
    scores = model(x).gather(1, y.view(-1, 1)).squeeze(1)
    scores.backward(torch.ones(5, dtype=x.dtype, device=x.device), inputs=[x])
    return x.grad.abs().amax(1)


@wrong("saliency", says="squeeze() removed more than you meant: a batch of one picture is a batch too.")
def squeezes_a_batch_of_one(model, x, y):
    x = x.detach().clone().requires_grad_()
    scores = model(x).gather(1, y.view(-1, 1)).squeeze()
    return torch.autograd.grad(scores.sum(), x)[0].abs().amax(1).squeeze()


@wrong("saliency", says="You switched the model to eval mode and left it so; its mode is the caller's business.")
def leaves_the_model_in_eval_mode(model, x, y):
    model.eval()
    return _slope(model, x, y).abs().amax(1)


@wrong("saliency", says="You called requires_grad_() on the caller's x; make a leaf of your own: x.detach().")
def asks_the_callers_tensor_for_gradients(model, x, y):
    x.requires_grad_()
    return torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), x)[0].abs().amax(1)


@wrong("saliency", says="backward() also added to every parameter's .grad; use torch.autograd.grad for x alone.")
def fills_the_parameters_gradients(model, x, y):
    x = x.detach().clone().requires_grad_()
    model(x).gather(1, y[:, None]).sum().backward()
    return x.grad.abs().amax(1)


@wrong("saliency", says="model.zero_grad() threw away gradients that belong to the caller.")
def clears_the_parameters_gradients(model, x, y):
    model.zero_grad()
    return _slope(model, x, y).abs().amax(1)


@wrong("saliency", says="Take the absolute value before the maximum: a strong negative slope counts as much.")
def maximum_before_the_absolute_value(model, x, y):
    return _slope(model, x, y).amax(1).abs()


@wrong("saliency", says="You kept the sign; the map shows the size of the slopes.")
def keeps_the_sign(model, x, y):
    return _slope(model, x, y).amax(1)


@wrong("saliency", says="You took the mean over the channels; the map is their maximum.")
def mean_over_the_channels(model, x, y):
    return _slope(model, x, y).abs().mean(1)


@wrong("saliency", says="You kept the axis of the channels: the maps are (B, H, W).")
def keeps_the_axis_of_the_channels(model, x, y):
    return _slope(model, x, y).abs().amax(1, keepdim=True)


@wrong("saliency", says="You differentiated all logits together; pick each picture's own class, y.")
def gradient_of_all_logits(model, x, y):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x)[0].abs().amax(1)


@wrong("saliency", says="You explained the predicted class; explain the one that y asks for.")
def explains_the_predicted_class(model, x, y):
    return _slope(model, x, model(x).argmax(1)).abs().amax(1)


@wrong("saliency", says="The mean over the batch divides every map by B; differentiate the sum of the scores.")
def mean_over_the_batch(model, x, y):
    x = x.detach().clone().requires_grad_()
    score = model(x).gather(1, y[:, None]).mean()
    return torch.autograd.grad(score, x)[0].abs().amax(1)


@wrong("saliency", says="You multiplied the gradient by the picture: that is another method (input times gradient).")
def gradient_times_picture(model, x, y):
    return (_slope(model, x, y) * x.detach()).abs().amax(1)


@wrong("saliency", says="You scaled each map to a maximum of 1; return the slopes as they are.")
def scales_each_map(model, x, y):
    maps = _slope(model, x, y).abs().amax(1)
    return maps / maps.amax((1, 2), keepdim=True)


# ------------------------------------------------------------------------- I2 integrated_gradients


def _mean_slope(f, x, baseline, alphas):
    """Return the mean gradient at these places of the path."""
    total = torch.zeros_like(x)
    for alpha in alphas:
        point = (baseline + alpha * (x - baseline)).detach().requires_grad_()
        total = total + torch.autograd.grad(f(point).sum(), point)[0]
    return total / len(alphas)


def _midpoints(n):
    return [(k + 0.5) / n for k in range(n)]


@wrong("integrated_gradients", says="You forgot to multiply the mean gradient by (x − baseline).")
def forgets_the_difference(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return _mean_slope(f, x, baseline, _midpoints(n))


@wrong("integrated_gradients", says="You multiplied by x; it is x − baseline, the way that the path goes.")
def multiplies_by_the_input(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return x * _mean_slope(f, x, baseline, _midpoints(n))


@wrong("integrated_gradients", says="Your path starts at zero; it starts at the baseline.")
def path_from_zero(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(f, x, torch.zeros_like(x), _midpoints(n))


@wrong("integrated_gradients", says="You added alpha · x to the baseline, which overshoots: the path ends at x.")
def path_past_the_input(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    total = torch.zeros_like(x)
    for alpha in _midpoints(n):
        point = (baseline + alpha * x).detach().requires_grad_()
        total = total + torch.autograd.grad(f(point).sum(), point)[0]
    return (x - baseline) * total / n


@wrong("integrated_gradients", says="You summed the gradients over the steps; take their mean.")
def sums_over_the_steps(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(f, x, baseline, _midpoints(n)) * n


@wrong(
    "integrated_gradients",
    says="Your rows mix: each row needs the gradient along its own path, and not the sum of all.",
)
def rows_mix(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    slope = _mean_slope(f, x, baseline, _midpoints(n))
    return (x - baseline) * slope.sum(0, keepdim=True)


@wrong("integrated_gradients", says="You undid the (n, B) batch in the order (B, n): steps and rows were exchanged.")
def steps_and_rows_exchanged(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    alphas = torch.tensor(_midpoints(n), dtype=x.dtype, device=x.device).view(n, *[1] * x.dim())
    path = (baseline + alphas * (x - baseline)).flatten(0, 1).detach().requires_grad_()
    slope = torch.autograd.grad(f(path).sum(), path)[0]
    return (x - baseline) * slope.reshape(x.shape[0], n, *x.shape[1:]).mean(1)


@wrong("integrated_gradients", says="You took the left end of each step, k / n; take the middle, (k + ½) / n.")
def left_ends(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(f, x, baseline, [k / n for k in range(n)])


@wrong("integrated_gradients", says="You took the right end of each step, (k + 1) / n; take the middle, (k + ½) / n.")
def right_ends(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(f, x, baseline, [(k + 1) / n for k in range(n)])


@wrong("integrated_gradients", says="linspace(0, 1, n) includes both ends, each at full weight; take the midpoints.")
def both_ends(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    alphas = torch.linspace(0, 1, n, dtype=torch.float64).tolist()
    return (x - baseline) * _mean_slope(f, x, baseline, alphas)


@wrong("integrated_gradients", says="You squashed the score into a probability; attribute the score as f returns it.")
def attributes_the_probability(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(lambda rows: torch.sigmoid(f(rows)), x, baseline, _midpoints(n))


@wrong("integrated_gradients", says="You used the gradient at x alone; the path from the baseline matters.")
def gradient_at_the_input_alone(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(f, x, baseline, [1.0])


@wrong("integrated_gradients", says="You took the mean of f over the rows, which divides every attribution by B.")
def mean_score_of_the_rows(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (x - baseline) * _mean_slope(lambda rows: f(rows).mean(), x, baseline, _midpoints(n))


@wrong("integrated_gradients", says="You returned absolute values; with them nothing adds up to f(x) − f(baseline).")
def absolute_attributions(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return ((x - baseline) * _mean_slope(f, x, baseline, _midpoints(n))).abs()


@wrong("integrated_gradients", says="The product is (x − baseline), and you have it the other way round.")
def difference_the_other_way(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    return (baseline - x) * _mean_slope(f, x, baseline, _midpoints(n))


@wrong("integrated_gradients", says="Your gradients pile up: the leaf keeps those of earlier steps when you read it.")
def gradients_pile_up_over_steps(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    shift = torch.zeros_like(x).requires_grad_()
    total = torch.zeros_like(x)
    for alpha in _midpoints(n):
        f(baseline + alpha * (x - baseline) + shift).sum().backward(inputs=[shift])
        total = total + shift.grad
    return (x - baseline) * total / n


@dialect("integrated_gradients", says="Your rule is the trapezoid, whose error is twice that of the midpoints.")
def trapezoid(f, x, baseline, n):
    x, baseline = x.detach(), baseline.detach()
    inner = [k / n for k in range(1, n)]
    ends = _mean_slope(f, x, baseline, [0.0, 1.0])
    total = ends + (_mean_slope(f, x, baseline, inner) * len(inner) if inner else 0)
    return (x - baseline) * total / n


# ----------------------------------------------------------------------------------- I3 smoothgrad


def _std(x, sigma):
    return sigma * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))


def _noise(x, g):
    return torch.randn(x.shape, generator=g, dtype=x.dtype, device=x.device)


def _smooth(f, x, y, n, noise):
    """Return the mean gradient over n copies with this noise."""
    return sum(_slope(f, x.detach() + noise(), y) for _ in range(n)) / n


@wrong("smoothgrad", says="You averaged the noisy pictures and took one gradient; average the gradients.")
def averages_the_pictures(f, x, y, sigma, n, g):
    noisy = sum(x.detach() + _std(x, sigma) * _noise(x, g) for _ in range(n)) / n
    return _slope(f, noisy, y).abs().amax(1)


@wrong("smoothgrad", says="Every copy has the same noise, so nothing is averaged away: draw anew for each copy.")
def same_noise_for_every_copy(f, x, y, sigma, n, g):
    noise = _std(x, sigma) * _noise(x, g)
    return _smooth(f, x, y, n, lambda: noise).abs().amax(1)


@wrong("smoothgrad", says="You took the absolute value before the mean; with their signs, fluctuations cancel.")
def absolute_value_before_the_mean(f, x, y, sigma, n, g):
    return (sum(_slope(f, x.detach() + _std(x, sigma) * _noise(x, g), y).abs() for _ in range(n)) / n).amax(1)


@wrong("smoothgrad", says="You averaged finished maps; average the gradients with their signs, then make one map.")
def averages_the_maps(f, x, y, sigma, n, g):
    return sum(_slope(f, x.detach() + _std(x, sigma) * _noise(x, g), y).abs().amax(1) for _ in range(n)) / n


@wrong("smoothgrad", says="sigma is a share of each picture's range (max − min), and no absolute deviation.")
def sigma_is_absolute(f, x, y, sigma, n, g):
    return _smooth(f, x, y, n, lambda: sigma * _noise(x, g)).abs().amax(1)


@wrong("smoothgrad", says="You took one range for the whole batch; each picture has its own.")
def range_of_the_batch(f, x, y, sigma, n, g):
    std = sigma * (x.max() - x.min()) if x.numel() else 0.0
    return _smooth(f, x, y, n, lambda: std * _noise(x, g)).abs().amax(1)


@wrong("smoothgrad", says="You took a range for each channel; the range is that of the whole picture.")
def range_of_each_channel(f, x, y, sigma, n, g):
    std = sigma * (x.amax((2, 3), keepdim=True) - x.amin((2, 3), keepdim=True))
    return _smooth(f, x, y, n, lambda: std * _noise(x, g)).abs().amax(1)


@wrong("smoothgrad", says="Gradients pile up in your leaf: each draw adds to those before, and you add up the sums.")
def gradients_pile_up_over_copies(f, x, y, sigma, n, g):
    leaf = x.detach().clone().requires_grad_()
    total = torch.zeros_like(leaf)
    for _ in range(n):
        f(leaf + _std(x, sigma) * _noise(x, g)).gather(1, y[:, None]).sum().backward(inputs=[leaf])
        total += leaf.grad
    return (total / n).abs().amax(1)


@wrong("smoothgrad", says="You summed over the copies and did not divide by n.")
def sums_over_the_copies(f, x, y, sigma, n, g):
    return n * _smooth(f, x, y, n, lambda: _std(x, sigma) * _noise(x, g)).abs().amax(1)


@wrong("smoothgrad", says="All pictures share one noise; draw for the whole shape of x.")
def one_noise_for_all_pictures(f, x, y, sigma, n, g):
    def noise():
        one = torch.randn(1, *x.shape[1:], generator=g, dtype=x.dtype, device=x.device)
        return _std(x, sigma) * one

    return _smooth(f, x, y, n, noise).abs().amax(1)


@wrong("smoothgrad", says="All channels share one noise; draw for the whole shape of x.")
def one_noise_for_all_channels(f, x, y, sigma, n, g):
    def noise():
        one = torch.randn(x.shape[0], 1, *x.shape[2:], generator=g, dtype=x.dtype, device=x.device)
        return _std(x, sigma) * one

    return _smooth(f, x, y, n, noise).abs().amax(1)


@wrong("smoothgrad", says="torch.rand is uniform and never below 0; the noise is N(0, 1): torch.randn.")
def uniform_noise(f, x, y, sigma, n, g):
    def noise():
        return _std(x, sigma) * torch.rand(x.shape, generator=g, dtype=x.dtype, device=x.device)

    return _smooth(f, x, y, n, noise).abs().amax(1)


@wrong("smoothgrad", says="You draw from PyTorch's global generator; hand g to torch.randn.")
def smooths_by_the_global_generator(f, x, y, sigma, n, g):
    return _smooth(f, x, y, n, lambda: _std(x, sigma) * torch.randn_like(x)).abs().amax(1)


@wrong(
    "smoothgrad", says="You multiplied the noise by a variance; it is the standard deviation, sigma times the range."
)
def variance_for_deviation(f, x, y, sigma, n, g):
    return _smooth(f, x, y, n, lambda: _std(x, sigma) ** 2 * _noise(x, g)).abs().amax(1)


@wrong("smoothgrad", says="You added up the noise from copy to copy: each copy starts from x again.")
def noise_on_noise(f, x, y, sigma, n, g):
    std, noisy, total = _std(x, sigma), x.detach().clone(), torch.zeros_like(x)
    for _ in range(n):
        noisy = noisy + std * _noise(x, g)
        total += _slope(f, noisy, y)
    return (total / n).abs().amax(1)


@wrong("smoothgrad", says="You returned the mean gradient's size for every channel; take the maximum over them.")
def keeps_the_channels(f, x, y, sigma, n, g):
    return _smooth(f, x, y, n, lambda: _std(x, sigma) * _noise(x, g)).abs()


# ------------------------------------------------------------------------------------- I4 grad_cam


def _watched(model, layer, x, y):
    """Return (A, its gradient) of a layer."""
    kept = []

    def hook(module, args, out):
        kept.append(out.detach().requires_grad_())
        return kept[0].clone()

    handle = layer.register_forward_hook(hook)
    try:
        logits = model(x)
    finally:
        handle.remove()
    score = logits.gather(1, y[:, None]).sum()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def _scaled(raw):
    """Return each map divided by its own maximum."""
    top = raw.amax((1, 2), keepdim=True)
    return raw / torch.where(top > 0, top, torch.ones_like(top))


@wrong("grad_cam", says="The ReLU belongs on the final map; on the gradients it loses what speaks against the class.")
def relu_on_the_gradients(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    weights = grad.relu().mean((2, 3), keepdim=True)
    return _scaled((weights * A).sum(1).relu())


@wrong("grad_cam", says="The ReLU belongs on the final map, and not on the weights.")
def relu_on_the_weights(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    weights = grad.mean((2, 3), keepdim=True).relu()
    return _scaled((weights * A).sum(1).relu())


@wrong("grad_cam", says="You put the ReLU on each channel's part; sum over the channels first.")
def relu_before_the_sum(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).relu().sum(1))


@wrong(
    "grad_cam", says="You averaged the gradient over the channels; a weight is its mean over space, one per channel."
)
def weights_averaged_over_channels(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean(1, keepdim=True) * A).sum(1).relu())


@wrong("grad_cam", says="You multiplied gradient and A at each place; the weight is the gradient's mean over space.")
def gradient_times_activation(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad * A).sum(1).relu())


@wrong("grad_cam", says="You averaged the weights over the batch too; each picture has its own.")
def weights_averaged_over_the_batch(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean((0, 2, 3), keepdim=True) * A).sum(1).relu())


@wrong("grad_cam", says="An in-place ReLU overwrote what your hook kept: keep a copy, or hand one on.")
def overwritten_in_place(model, layer, x, y):
    kept = []
    handle = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    try:
        logits = model(x.detach().clone().requires_grad_())
    finally:
        handle.remove()
    grad = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), kept[0])[0]
    return _scaled((grad.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1).relu())


@wrong("grad_cam", says="You left out the ReLU: the map shows only what speaks for the class.")
def without_the_relu(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1))


@wrong("grad_cam", says="You took the absolute value; what speaks against the class becomes 0, as max(0, ·) does.")
def absolute_value_for_the_relu(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1).abs())


@wrong("grad_cam", says="Your hook stays on the layer: remove it, or the next call runs it again.")
def hooks_never_removed(model, layer, x, y):
    kept = []

    def hook(module, args, out):
        kept.append(out.detach().requires_grad_())
        return kept[-1].clone()

    layer.register_forward_hook(hook)
    grad = torch.autograd.grad(model(x).gather(1, y[:, None]).sum(), kept[-1])[0]
    return _scaled((grad.mean((2, 3), keepdim=True) * kept[-1].detach()).sum(1).relu())


@wrong("grad_cam", says="When the model raises, your hook stays: remove it in a `finally`.")
def hook_stays_when_the_model_raises(model, layer, x, y):
    kept = []

    def hook(module, args, out):
        kept.append(out.detach().requires_grad_())
        return kept[-1].clone()

    handle = layer.register_forward_hook(hook)
    logits = model(x)
    handle.remove()
    grad = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), kept[-1])[0]
    return _scaled((grad.mean((2, 3), keepdim=True) * kept[-1].detach()).sum(1).relu())


@wrong("grad_cam", says="You removed all hooks of the layer; remove your own, by its handle.")
def removes_hooks_of_others(model, layer, x, y):
    try:
        A, grad = _watched(model, layer, x, y)
    finally:
        layer._forward_hooks.clear()
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1).relu())


@wrong("grad_cam", says="You divided by the maximum of the whole batch; each picture has its own maximum.")
def maximum_of_the_batch(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    raw = (grad.mean((2, 3), keepdim=True) * A).sum(1).relu()
    top = raw.max() if raw.numel() else 0
    return raw / top if top > 0 else raw


@wrong("grad_cam", says="A map of zeros became NaN: where the maximum is 0, leave the zeros.")
def zero_by_zero(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    raw = (grad.mean((2, 3), keepdim=True) * A).sum(1).relu()
    return raw / raw.amax((1, 2), keepdim=True)


@wrong("grad_cam", says="You did not divide the maps by their maxima.")
def maps_not_scaled(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    return (grad.mean((2, 3), keepdim=True) * A).sum(1).relu()


@wrong("grad_cam", says="You stretched each map from its minimum to its maximum; only divide by the maximum.")
def stretched_from_the_minimum(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    raw = (grad.mean((2, 3), keepdim=True) * A).sum(1).relu()
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    return (raw - low) / torch.where(high > low, high - low, torch.ones_like(high))


@wrong("grad_cam", says="A frozen network gives no graph: let the layer's output ask for a gradient, not the weights.")
def relies_on_the_parameters(model, layer, x, y):
    kept = []

    def hook(module, args, out):
        kept.append(out)
        return out.clone()

    handle = layer.register_forward_hook(hook)
    try:
        logits = model(x)
    finally:
        handle.remove()
    grad = torch.autograd.grad(logits.gather(1, y[:, None]).sum(), kept[0])[0]
    return _scaled((grad.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1).relu())


@wrong("grad_cam", says="You took the gradient of the probability; it is that of the logit.")
def cam_of_the_probability(model, layer, x, y):
    def logarithmic(pictures):
        return model(pictures).softmax(1)

    A, grad = _watched(logarithmic, layer, x, y)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1).relu())


@wrong("grad_cam", says="You explained the class with the highest logit; explain the one that y asks for.")
def cam_of_the_predicted_class(model, layer, x, y):
    with torch.no_grad():
        predicted = model(x).argmax(1) if len(x) else y
    A, grad = _watched(model, layer, x, predicted)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1).relu())


@wrong("grad_cam", says="backward() also added to the parameters' .grad; ask for the gradient of A alone.")
def cam_fills_the_parameters_gradients(model, layer, x, y):
    kept = []

    def hook(module, args, out):
        kept.append(out.detach().requires_grad_())
        return kept[0].clone()

    handle = layer.register_forward_hook(hook)
    try:
        logits = model(x)
    finally:
        handle.remove()
    logits.gather(1, y[:, None]).sum().backward()
    return _scaled((kept[0].grad.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1).relu())


@wrong("grad_cam", says="You switched the model to eval mode and left it so; its mode is the caller's business.")
def cam_leaves_eval_mode(model, layer, x, y):
    model.eval()
    A, grad = _watched(model, layer, x, y)
    return _scaled((grad.mean((2, 3), keepdim=True) * A).sum(1).relu())


@dialect("grad_cam", says="You add a small number to the maximum; dividing by 1 where it is 0 needs none.")
def small_number_beside_the_maximum(model, layer, x, y):
    A, grad = _watched(model, layer, x, y)
    raw = (grad.mean((2, 3), keepdim=True) * A).sum(1).relu()
    return raw / (raw.amax((1, 2), keepdim=True) + 1e-8)


# ------------------------------------------------------------------------------ I5 coalition_values


@wrong("coalition_values", says="Your absent features became 0; they take the baseline's entry.")
def absent_is_zero(f, x, baseline, coalitions):
    present = coalitions.to(x.device)[:, None, :]
    rows = torch.where(present, x, torch.zeros_like(x))
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


@wrong("coalition_values", says="Your mask is inverted: True is a feature that is there, with x's entry.")
def mask_is_inverted(f, x, baseline, coalitions):
    present = coalitions.to(x.device)[:, None, :]
    rows = torch.where(present, baseline, x)
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


@wrong("coalition_values", says="You added the baseline everywhere; it stands only where a feature is absent.")
def baseline_everywhere(f, x, baseline, coalitions):
    rows = coalitions.to(x)[:, None, :] * x + baseline
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


@wrong("coalition_values", says="You returned (B, M); the coalitions come first: (M, B).")
def inputs_before_coalitions(f, x, baseline, coalitions):
    present = coalitions.to(x.device)[:, None, :]
    rows = torch.where(present, x, baseline)
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2]).T


@wrong("coalition_values", says="You undid the batch in the wrong order: coalitions and inputs were mixed up.")
def coalitions_and_inputs_mixed_up(f, x, baseline, coalitions):
    present = coalitions.to(x.device)[:, None, :]
    rows = torch.where(present, x, baseline)
    return f(rows.flatten(0, 1)).reshape(rows.shape[1], rows.shape[0]).T


@wrong("coalition_values", says="You put the baseline into the caller's x in place; make new rows.")
def overwrites_the_inputs(f, x, baseline, coalitions):
    values, whole = [], x.clone()
    for coalition in coalitions.to(x.device):
        x.copy_(whole)
        x[:, ~coalition] = baseline.expand_as(x)[:, ~coalition]
        values.append(f(x.clone()))
    return torch.stack(values) if values else x.new_zeros(0, x.shape[0])


@wrong("coalition_values", says="Use the whole baseline: with one for each input you took the first for all.")
def first_baseline_for_all(f, x, baseline, coalitions):
    present = coalitions.to(x.device)[:, None, :]
    base = baseline if baseline.dim() == 1 or not len(baseline) else baseline[0]
    rows = torch.where(present, x, base)
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


@wrong("coalition_values", says="The coalitions may lie on another device than x: bring them there first.")
def coalitions_on_another_device(f, x, baseline, coalitions):
    rows = torch.where(coalitions[:, None, :], x, baseline)
    return f(rows.flatten(0, 1)).reshape(rows.shape[:2])


# -------------------------------------------------------------------------------- I5 shapley_exact


def _every(d):
    """Return all coalitions (2^d, d); bit i of the row's number is player i."""
    return (torch.arange(2**d)[:, None] >> torch.arange(d)) % 2 == 1


def _shared(values, d, weight):
    """Return the weighted gains of each player, where weight(size) is that of a coalition without the player."""
    coalitions, numbers, phi = _every(d), torch.arange(2**d), []
    for i in range(d):
        without = numbers[~coalitions[:, i]]
        gain = values[without + 2**i] - values[without]
        w = torch.tensor(
            [weight(s) for s in coalitions[without].sum(1).tolist()], dtype=values.dtype, device=values.device
        )
        phi.append(torch.tensordot(w, gain, 1))
    return torch.stack(phi)


def _kernel(d):
    return lambda s: math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d)


@wrong("shapley_exact", says="Coalitions are not equally likely; orders of arrival are: |S|! (d − |S| − 1)! / d!.")
def coalitions_equally_likely(v, d):
    return _shared(v(_every(d)), d, lambda s: 1 / 2 ** (d - 1))


@wrong("shapley_exact", says="Your weight misses 1/d: each size of coalition has the share 1/d of all orders.")
def misses_the_share_of_a_size(v, d):
    return _shared(v(_every(d)), d, lambda s: 1 / math.comb(d - 1, s))


@wrong("shapley_exact", says="|S| counts S without the player; you counted the player too.")
def counts_the_player_too(v, d):
    return _shared(
        v(_every(d)), d, lambda s: math.factorial(s + 1) * math.factorial(max(d - s - 2, 0)) / math.factorial(d)
    )


@wrong("shapley_exact", says="(d − |S| − 1)! counts those who come after the player; you took (d − |S|)!.")
def counts_too_many_after(v, d):
    return _shared(v(_every(d)), d, lambda s: math.factorial(s) * math.factorial(d - s) / math.factorial(d))


@wrong(
    "shapley_exact",
    says="v(∅) need not be 0: subtract it too, or the values add up to v(everyone) and not to v(everyone) − v(∅).",
)
def empty_is_worth_nothing(v, d):
    values = v(_every(d)).clone()
    values[0] = 0
    return _shared(values, d, _kernel(d))


@wrong("shapley_exact", says="You left out the empty coalition: arriving first counts too.")
def skips_the_empty_coalition(v, d):
    return _shared(v(_every(d)), d, lambda s: 0.0 if s == 0 else _kernel(d)(s))


@wrong("shapley_exact", says="You added what coalitions with the player are worth, without what they are worth before.")
def worth_for_gain(v, d):
    values, coalitions, phi = v(_every(d)), _every(d), []
    for i in range(d):
        mine = coalitions[:, i]
        w = torch.tensor(
            [_kernel(d)(s - 1) for s in coalitions[mine].sum(1).tolist()], dtype=values.dtype, device=values.device
        )
        phi.append(torch.tensordot(w, values[mine], 1))
    return torch.stack(phi)


@wrong(
    "shapley_exact", says="You asked for each coalition once per player; ask for all of them once, and look them up."
)
def asks_once_per_player(v, d):
    coalitions, phi = _every(d), []
    for i in range(d):
        without = coalitions[~coalitions[:, i]]
        joined = without.clone()
        joined[:, i] = True
        gain = v(joined) - v(without)
        w = torch.tensor([_kernel(d)(s) for s in without.sum(1).tolist()], dtype=gain.dtype, device=gain.device)
        phi.append(torch.tensordot(w, gain, 1))
    return torch.stack(phi)


@wrong("shapley_exact", says="You returned the players in the opposite order: column i of a coalition is player i.")
def players_in_the_opposite_order(v, d):
    return _shared(v(_every(d)), d, _kernel(d)).flip(0)


@wrong("shapley_exact", says="You gave each player what they are worth alone; other coalitions count as well.")
def worth_alone(v, d):
    values = v(_every(d))
    return torch.stack([values[2**i] - values[0] for i in range(d)])


@wrong("shapley_exact", says="You gave each player what is lost when they leave everyone; other coalitions count too.")
def leave_one_out(v, d):
    values = v(_every(d))
    return torch.stack([values[-1] - values[2**d - 1 - 2**i] for i in range(d)])


@wrong("shapley_exact", says="You mixed up games that are played at once: keep the further axes of v.")
def games_mixed_up(v, d):
    values = v(_every(d))
    phi = _shared(values, d, _kernel(d))
    return phi if phi.dim() == 1 else phi.flatten(1).sum(1)


# --------------------------------------------------------------------------------- I6 kernel_shap


def _picked(d, n, g, *, odds=None, merged=True):
    """Return (coalitions, weights) as the exercise states; `odds` are those of the sizes."""
    if n >= 2**d - 2:
        inner = _every(d)[1:-1]
        weights = [(d - 1) / (math.comb(d, s) * s * (d - s)) for s in inner.sum(1).tolist()]
        return inner, torch.tensor(weights, dtype=torch.float64)
    sizes = torch.arange(1, d)
    odds = 1 / (sizes * (d - sizes)) if odds is None else torch.tensor(odds, dtype=torch.float64)
    drawn = sizes[torch.multinomial(odds, n, replacement=True, generator=g)]
    inner = torch.rand(n, d, generator=g).argsort(1).argsort(1) < drawn[:, None]
    if not merged:
        return inner, torch.ones(n, dtype=torch.float64)
    inner, counts = torch.unique(inner, dim=0, return_counts=True)
    return inner, counts.double()


def _ends(d):
    return torch.tensor([[False], [True]]).expand(2, d)


def _constrained(values, inner, weights, *, empty=None):
    """Return φ of the constrained fit; the first two values are those of the ends."""
    d = inner.shape[1]
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    low = flat[0] if empty is None else torch.full_like(flat[0], empty)
    total = (flat[1] - flat[0])[None]
    Z = inner.to(flat.dtype)
    last = Z[:, -1:]
    root = weights.to(flat.dtype).sqrt()[:, None]
    others = torch.linalg.lstsq(root * (Z[:, :-1] - last), root * (flat[2:] - low - last * total)).solution
    return torch.cat([others, total - others.sum(0, keepdim=True)]).reshape(d, *values.shape[1:])


@wrong("kernel_shap", says="A huge weight for the empty and the full coalition costs digits; use constraints.")
def huge_weights_for_the_ends(v, d, n, g):
    inner, weights = _picked(d, n, g)
    values = v(torch.cat([_ends(d), inner]))
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    Z = torch.cat([_ends(d), inner]).to(flat.dtype)
    design = torch.cat([Z, torch.ones(len(Z), 1, dtype=flat.dtype)], 1)
    root = torch.cat([torch.full((2,), 1e6, dtype=torch.float64), weights]).to(flat.dtype).sqrt()[:, None]
    fit = torch.linalg.lstsq(root * design, root * flat).solution
    return fit[:d].reshape(d, *values.shape[1:])


@wrong("kernel_shap", says="The target is v(S) − v(∅); you did not subtract v(∅).")
def target_without_the_empty(v, d, n, g):
    inner, weights = _picked(d, n, g)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights, empty=0.0)


@wrong("kernel_shap", says="You did not impose that φ adds up to v(D) − v(∅).")
def without_the_constraint(v, d, n, g):
    inner, weights = _picked(d, n, g)
    values = v(torch.cat([_ends(d), inner]))
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    root = weights.to(flat.dtype).sqrt()[:, None]
    fit = torch.linalg.lstsq(root * inner.to(flat.dtype), root * (flat[2:] - flat[0])).solution
    return fit.reshape(d, *values.shape[1:])


@wrong("kernel_shap", says="The constraint is v(D) − v(∅); you took v(D).")
def adds_up_to_the_full_value(v, d, n, g):
    inner, weights = _picked(d, n, g)
    values = v(torch.cat([_ends(d), inner]))
    lifted = values.clone()
    lifted[1] = lifted[1] + lifted[0]
    return _constrained(lifted, inner, weights)


@wrong("kernel_shap", says="You weighted drawn coalitions by the kernel again: the draw has used it up already.")
def kernel_used_twice(v, d, n, g):
    inner, weights = _picked(d, n, g)
    if n < 2**d - 2:
        sizes = inner.sum(1).tolist()
        weights = weights * torch.tensor([1 / (math.comb(d, s) * s * (d - s)) for s in sizes], dtype=torch.float64)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="You asked v again for coalitions that were drawn twice; merge them and count.")
def duplicates_not_merged(v, d, n, g):
    inner, weights = _picked(d, n, g, merged=False)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="You merged equal draws and forgot how often they came.")
def counts_forgotten(v, d, n, g):
    inner, weights = _picked(d, n, g)
    weights = weights if n >= 2**d - 2 else torch.ones_like(weights)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="With all coalitions you weighted them equally; the Shapley kernel is their weight.")
def all_coalitions_weigh_the_same(v, d, n, g):
    inner, weights = _picked(d, n, g)
    weights = torch.ones_like(weights) if n >= 2**d - 2 else weights
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong(
    "kernel_shap", says="Your kernel lacks C(d, |S|): it is the weight of one coalition, and not of all of its size."
)
def kernel_of_a_whole_size(v, d, n, g):
    inner, weights = _picked(d, n, g)
    if n >= 2**d - 2:
        weights = torch.tensor([1 / (s * (d - s)) for s in inner.sum(1).tolist()], dtype=torch.float64)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="Your weights are float32, which costs digits of float64 values; take the values' dtype.")
def kernel_in_float32(v, d, n, g):
    inner, weights = _picked(d, n, g)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights.float())


@wrong("kernel_shap", says="You drew all sizes equally often; a size s comes in proportion to 1 / (s · (d − s)).")
def sizes_equally_likely(v, d, n, g):
    inner, weights = _picked(d, n, g, odds=[1.0] * (d - 1))
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="You drew all coalitions equally often, without a weight: the kernel is missing.")
def draws_without_the_kernel(v, d, n, g):
    odds = [float(math.comb(d, s)) for s in range(1, d)]
    inner, weights = _picked(d, n, g, odds=odds)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="You multiplied the rows by the weights; a weighted fit multiplies them by the roots.")
def weights_instead_of_roots(v, d, n, g):
    inner, weights = _picked(d, n, g)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights**2)


@wrong("kernel_shap", says="You draw from PyTorch's global generator; hand g to every function that draws.")
def regresses_by_the_global_generator(v, d, n, g):
    inner, weights = _picked(d, n, None)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@wrong("kernel_shap", says="You sample although n covers all coalitions: then take each of them once.")
def samples_although_all_fit(v, d, n, g):
    if d == 1:
        inner, weights = _picked(d, n, g)
    else:
        sizes = torch.arange(1, d)
        drawn = sizes[torch.multinomial(1 / (sizes * (d - sizes)), n, replacement=True, generator=g)]
        ranks = torch.rand(n, d, generator=g).argsort(1).argsort(1)
        inner, counts = torch.unique(ranks < drawn[:, None], dim=0, return_counts=True)
        weights = counts.double()
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@dialect(
    "kernel_shap", says="You draw each coalition together with its opposite, which halves the questions for an error."
)
def coalitions_with_their_opposites(v, d, n, g):
    if n >= 2**d - 2:
        inner, weights = _picked(d, n, g)
    else:
        sizes = torch.arange(1, d)
        drawn = sizes[torch.multinomial(1 / (sizes * (d - sizes)), n // 2, replacement=True, generator=g)]
        half = torch.rand(n // 2, d, generator=g).argsort(1).argsort(1) < drawn[:, None]
        inner, counts = torch.unique(torch.cat([half, ~half]), dim=0, return_counts=True)
        weights = counts.double()
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


@dialect("kernel_shap", says="You draw all coalitions alike and weigh them by the kernel: right, with larger errors.")
def drawn_alike_and_weighted(v, d, n, g):
    if n >= 2**d - 2:
        inner, weights = _picked(d, n, g)
    else:
        numbers, counts = torch.randint(1, 2**d - 1, (n,), generator=g).unique(return_counts=True)
        inner = (numbers[:, None] >> torch.arange(d)) % 2 == 1
        kernel = [1 / (math.comb(d, s) * s * (d - s)) for s in inner.sum(1).tolist()]
        weights = counts * torch.tensor(kernel, dtype=torch.float64)
    return _constrained(v(torch.cat([_ends(d), inner])), inner, weights)


# -------------------------------------------------------------------------------- I7 lime_tabular


def _drawn(x, n, g):
    return torch.randn(x.shape[0], n, x.shape[1], generator=g, dtype=x.dtype, device=x.device)


def _asked(f, samples, y):
    """Return the probability of each row's class at its samples (B, n)."""
    n = samples.shape[1]
    with torch.no_grad():
        answers = f(samples.flatten(0, 1))
    return answers.gather(1, y.repeat_interleave(n)[:, None]).reshape(samples.shape[:2])


def _fit(design, targets, weights, intercept=True):
    """Return (coefficients, intercepts) of weighted least squares."""
    ones = torch.ones_like(design[..., :1])
    Z = torch.cat([design, ones], -1) if intercept else design
    root = weights.sqrt()[..., None]
    beta = torch.linalg.lstsq(root * Z, root * targets[..., None]).solution[..., 0]
    return (beta[:, :-1], beta[:, -1]) if intercept else (beta, torch.zeros_like(beta[:, 0]))


def _near(noise, width):
    return torch.exp(-noise.square().sum(-1) / width**2)


@wrong("lime_tabular", says="You did not weigh the samples by their proximity to x.")
def without_proximity(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    targets = _asked(f, x[:, None] + std * noise, y)
    return _fit(noise, targets, torch.ones_like(targets))


@wrong("lime_tabular", says="You measured distances in raw units; divide by std first, so that features count alike.")
def distance_in_raw_units(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    targets = _asked(f, x[:, None] + std * noise, y)
    far = (std * noise).square().sum(-1) / width**2
    return _fit(noise, targets, torch.exp(-(far - far.amin(-1, keepdim=True))))


@wrong("lime_tabular", says="The local model needs an intercept: without one it must pass through 0 at x.")
def without_an_intercept(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width), intercept=False)


@wrong("lime_tabular", says="You sampled around zero; sample around x.")
def samples_around_zero(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, std * noise, y), _near(noise, width))


@wrong("lime_tabular", says="You fitted hard labels; fit the probabilities as they are.")
def fits_hard_labels(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    with torch.no_grad():
        labels = f((x[:, None] + std * noise).flatten(0, 1)).argmax(1).reshape(noise.shape[:2])
    return _fit(noise, (labels == y[:, None]).to(x.dtype), _near(noise, width))


@wrong("lime_tabular", says="You multiplied the rows by the weights; a weighted fit multiplies them by the roots.")
def weights_squared(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width) ** 2)


@wrong("lime_tabular", says="The kernel takes the squared distance: exp(−‖ε‖² / width²).")
def distance_not_squared(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), torch.exp(-noise.norm(dim=-1) / width**2))


@wrong("lime_tabular", says="The width enters squared: exp(−‖ε‖² / width²).")
def width_not_squared(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), torch.exp(-noise.square().sum(-1) / width))


@wrong("lime_tabular", says="Your coefficients are per raw unit; per standard deviation they can be compared.")
def coefficients_per_raw_unit(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    coefficients, intercepts = _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width))
    return coefficients / std, intercepts


@wrong("lime_tabular", says="You did not multiply the noise by std: each feature varies by its own deviation.")
def noise_without_std(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + noise, y), _near(noise, width))


@wrong("lime_tabular", says="torch.rand is uniform between 0 and 1; the samples are normal: torch.randn.")
def uniform_samples(f, x, y, std, n, width, g):
    noise = torch.rand(x.shape[0], n, x.shape[1], generator=g, dtype=x.dtype, device=x.device)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width))


@wrong("lime_tabular", says="One number moves all features together; each feature needs noise of its own.")
def one_noise_for_all_features(f, x, y, std, n, width, g):
    noise = torch.randn(x.shape[0], n, 1, generator=g, dtype=x.dtype, device=x.device).expand(-1, -1, x.shape[1])
    targets, root = _asked(f, x[:, None] + std * noise, y), _near(noise, width).sqrt()[..., None]
    Z = torch.cat([noise, torch.ones_like(root)], -1)
    # All its columns but the last are equal: the shortest of the many solutions.
    rtol = 1e-9 if x.dtype == torch.float64 else 1e-4
    beta = (torch.linalg.pinv(root * Z, rtol=rtol) @ (root * targets[..., None]))[..., 0]
    return beta[:, :-1], beta[:, -1]


@wrong("lime_tabular", says="You added a ridge penalty, which pulls the coefficients to 0; there is none here.")
def ridge_penalty(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    targets, weights = _asked(f, x[:, None] + std * noise, y), _near(noise, width)
    Z = torch.cat([noise, torch.ones_like(noise[..., :1])], -1)
    penalty = torch.eye(Z.shape[-1], dtype=x.dtype, device=x.device)
    penalty[-1, -1] = 0
    normal = Z.mT @ (weights[..., None] * Z) + penalty
    beta = torch.linalg.solve(normal, Z.mT @ (weights * targets)[..., None])[..., 0]
    return beta[:, :-1], beta[:, -1]


@wrong("lime_tabular", says="You explained the first row's class in every row; each row has its own y.")
def one_class_for_all_rows(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y[:1].expand(len(y))), _near(noise, width))


@wrong("lime_tabular", says="You returned f(x) as the intercept; it is the local model's own value at x.")
def intercept_is_f_of_x(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    coefficients, _ = _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width))
    with torch.no_grad():
        return coefficients, f(x).gather(1, y[:, None]).flatten()


@wrong("lime_tabular", says="You draw from PyTorch's global generator; hand g to torch.randn.")
def imitates_by_the_global_generator(f, x, y, std, n, width, g):
    noise = torch.randn(x.shape[0], n, x.shape[1], dtype=x.dtype, device=x.device)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width))


@wrong("lime_tabular", says="You return the intercept first; the coefficients come first.")
def intercept_first(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    coefficients, intercepts = _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width))
    return intercepts, coefficients


@dialect("lime_tabular", says="You take the root of the kernel, as the lime package does: a width √2 times as large.")
def root_of_the_kernel(f, x, y, std, n, width, g):
    noise = _drawn(x, n, g)
    return _fit(noise, _asked(f, x[:, None] + std * noise, y), _near(noise, width).sqrt())


# ------------------------------------------------------------------------------ I8 visualize_unit


def _uphill(model, unit, x, weight_decay):
    """Return the gradient of the objective."""
    x = x.detach().requires_grad_()
    value = model(x)[:, unit].unsqueeze(-1).flatten(1).mean(1).sum() - weight_decay * x.square().sum()
    return torch.autograd.grad(value, x)[0]


def _activation(model, unit, x):
    return model(x)[:, unit].unsqueeze(-1).flatten(1).mean(1).sum()


@wrong("visualize_unit", says="The picture's gradient was never cleared, so that each step adds those before it.")
def gradients_never_cleared(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone().requires_grad_()
    for _ in range(steps):
        value = _activation(model, unit, x) - weight_decay * x.square().sum()
        value.backward(inputs=[x])
        with torch.no_grad():
            x += lr * x.grad
    return x.detach()


@wrong("visualize_unit", says="model.zero_grad() does not clear the picture's gradient, and clears the caller's.")
def clears_the_model_only(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone().requires_grad_()
    for _ in range(steps):
        model.zero_grad()
        value = _activation(model, unit, x) - weight_decay * x.square().sum()
        value.backward(inputs=[x])
        with torch.no_grad():
            x += lr * x.grad
    return x.detach()


@wrong("visualize_unit", says="The penalty is the sum of the squares, ‖x‖²; you took the norm ‖x‖.")
def norm_for_its_square(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x.requires_grad_()
        value = _activation(model, unit, x) - weight_decay * x.flatten(1).norm(dim=1).sum()
        x = x.detach() + lr * torch.autograd.grad(value, x)[0]
    return x


@wrong("visualize_unit", says="x.data hides the penalty from autograd, so that it pulls at nothing.")
def penalty_hidden_from_autograd(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x.requires_grad_()
        value = _activation(model, unit, x) - weight_decay * x.data.square().sum()
        x = x.detach() + lr * torch.autograd.grad(value, x)[0]
    return x


@wrong("visualize_unit", says="Your penalty has the wrong sign: it makes large pixels larger.")
def penalty_with_the_wrong_sign(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x + lr * _uphill(model, unit, x, -weight_decay)
    return x


@wrong("visualize_unit", says="You changed a copy in each step and returned the start.")
def changes_a_copy(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        better = x.clone()
        better += lr * _uphill(model, unit, x, weight_decay)
    return x


@wrong("visualize_unit", says="You went downhill: the activation is to rise, so add the gradient.")
def goes_downhill(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x - lr * _uphill(model, unit, x, weight_decay)
    return x


@wrong("visualize_unit", says="You overwrote the caller's start; begin with a clone.")
def overwrites_the_start(model, unit, start, *, steps, lr, weight_decay):
    for _ in range(steps):
        start += lr * _uphill(model, unit, start, weight_decay)
    return start


@wrong("visualize_unit", says="backward() also added to the parameters' .grad; ask for the picture's gradient alone.")
def climbing_fills_the_parameters_gradients(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (_activation(model, unit, x) - weight_decay * x.square().sum()).backward()
        x = x.detach() + lr * x.grad
    return x


@wrong("visualize_unit", says="You scaled each gradient to length 1; a step is lr times the gradient as it is.")
def gradient_scaled_to_one(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        gradient = _uphill(model, unit, x, weight_decay)
        length = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))
        x = x + lr * gradient / length
    return x


@wrong("visualize_unit", says="The mean over the pictures makes steps B times too short; each picture climbs alone.")
def mean_over_the_pictures(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x + lr * _uphill(model, unit, x, weight_decay) / max(len(x), 1)
    return x


@wrong("visualize_unit", says="Your penalty pulls half as hard: the gradient of ‖x‖² is 2x.")
def half_the_penalty(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x + lr * _uphill(model, unit, x, weight_decay / 2)
    return x


@wrong("visualize_unit", says="You summed the feature map; the unit's activation is its mean.")
def sum_of_the_feature_map(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps):
        x = x.requires_grad_()
        value = model(x)[:, unit].sum() - weight_decay * x.square().sum()
        x = x.detach() + lr * torch.autograd.grad(value, x)[0]
    return x


@wrong("visualize_unit", says="You took one step too many, or too few: `steps` of them.")
def one_step_too_many(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach().clone()
    for _ in range(steps + 1):
        x = x + lr * _uphill(model, unit, x, weight_decay)
    return x


@wrong("visualize_unit", says="After no step you return the caller's own memory; return a clone.")
def returns_the_callers_memory(model, unit, start, *, steps, lr, weight_decay):
    x = start.detach()
    for _ in range(steps):
        x = x + lr * _uphill(model, unit, x, weight_decay)
    return x


# ---------------------------------------------------------------------------- I8 rank_correlation


def _pearson(a, b):
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    bottom = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(bottom > 0, (a * b).sum(1) / torch.where(bottom > 0, bottom, 1), 0)


def _mean_ranks(m):
    flat = m.flatten(1).double()
    return (flat[:, :, None] - flat[:, None]).sign().sum(2) / 2


@wrong("rank_correlation", says="You correlated the values; replace each entry by its rank first.")
def correlates_the_values(a, b):
    flat = (a == a.flatten(1)[:, :1].view(-1, *[1] * (a.dim() - 1))).flatten(1).all(1)
    return torch.where(flat, 0, _pearson(a.flatten(1), b.flatten(1)))


@wrong("rank_correlation", says="argsort gives the order, and not the ranks; the argsort of the order gives ranks.")
def order_for_ranks(a, b):
    constant = (_mean_ranks(a) == 0).all(1) | (_mean_ranks(b) == 0).all(1)
    orders = [m.flatten(1).argsort(dim=1, stable=True).double() for m in (a, b)]
    return torch.where(constant, 0, _pearson(*orders)).to(a.dtype)


@wrong("rank_correlation", says="Equal entries got different ranks by their position; they share the mean rank.")
def ties_broken_by_position(a, b):
    constant = (_mean_ranks(a) == 0).all(1) | (_mean_ranks(b) == 0).all(1)
    ranks = [m.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).double() for m in (a, b)]
    return torch.where(constant, 0, _pearson(*ranks)).to(a.dtype)


@wrong("rank_correlation", says="Equal entries share the mean of their ranks; you gave them a rank without gaps.")
def dense_ranks(a, b):
    def ranks(m):
        return torch.stack([row.unique(return_inverse=True)[1].double() for row in m.flatten(1)])

    return _pearson(ranks(a), ranks(b)).to(a.dtype)


@wrong("rank_correlation", says="Equal entries share the mean of their ranks; you gave them the lowest.")
def lowest_rank_of_equals(a, b):
    def ranks(m):
        flat = m.flatten(1)
        return (flat[:, :, None] > flat[:, None]).double().sum(2)

    return _pearson(ranks(a), ranks(b)).to(a.dtype)


@wrong("rank_correlation", says="A constant map gives 0/0, which is NaN; the docstring asks for 0.")
def nan_for_a_constant_map(a, b):
    ranks = [_mean_ranks(m) for m in (a, b)]
    first, second = (m - m.mean(1, keepdim=True) for m in ranks)
    return ((first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))).to(a.dtype)


@wrong("rank_correlation", says="You ranked the whole batch together; each map is ranked alone.")
def ranks_of_the_batch(a, b):
    ranks = [_mean_ranks(m.reshape(1, -1)).reshape(len(m), -1) for m in (a, b)]
    return _pearson(*ranks).to(a.dtype)


@wrong("rank_correlation", says="You returned the mean over the batch; there is one correlation for each pair of maps.")
def mean_correlation(a, b):
    return _pearson(_mean_ranks(a), _mean_ranks(b)).to(a.dtype).mean()


@wrong("rank_correlation", says="1 − 6 Σ d² / (m (m² − 1)) holds only where no entries are equal.")
def formula_without_ties(a, b):
    first, second = _mean_ranks(a), _mean_ranks(b)
    m = first.shape[1]
    result = 1 - 6 * (first - second).square().sum(1) / (m * (m**2 - 1))
    constant = (first == 0).all(1) | (second == 0).all(1)
    return torch.where(constant, 0, result).to(a.dtype)


@wrong("rank_correlation", says="You returned the size of the correlation; opposite orders have −1.")
def size_of_the_correlation(a, b):
    return _pearson(_mean_ranks(a), _mean_ranks(b)).to(a.dtype).abs()


# ------------------------------------------------------------------------- I8 randomization_test


def _alike(a, b):
    return _pearson(_mean_ranks(a), _mean_ranks(b)).to(a.dtype)


@torch.no_grad()
def _forget(module, g, recurse=True):
    for p in module.parameters(recurse):
        p.normal_(0, p.square().mean().sqrt().item(), generator=g)


@wrong("randomization_test", says="You destroyed the caller's network; work on a deep copy.")
def destroys_the_callers_network(explain, model, x, layers, g):
    first, rows = explain(model, x).abs(), []
    for name in layers:
        _forget(model.get_submodule(name), g)
        rows.append(_alike(first, explain(model, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="Each layer was drawn anew in a fresh copy; the layers before should stay destroyed.")
def one_layer_at_a_time(explain, model, x, layers, g):
    first, rows = explain(model, x).abs(), []
    for name in layers:
        other = copy.deepcopy(model)
        _forget(other.get_submodule(name), g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You compared signed maps; take their absolute values first.")
def compares_signed_maps(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x), []
    for name in layers:
        _forget(other.get_submodule(name), g)
        rows.append(_alike(first, explain(other, x)))
    return torch.stack(rows)


@wrong("randomization_test", says="You compared with the step before; compare with the maps of the whole network.")
def compares_with_the_step_before(explain, model, x, layers, g):
    other, before, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        _forget(other.get_submodule(name), g)
        after = explain(other, x).abs()
        rows.append(_alike(before, after))
        before = after
    return torch.stack(rows)


@wrong("randomization_test", says="You drew from N(0, 1); the deviation is the root mean square of the old entries.")
def draws_standard_normal(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        for p in other.get_submodule(name).parameters():
            p.data.normal_(generator=g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong(
    "randomization_test", says="std() takes the mean off first; r is the root of the mean square of the old entries."
)
def deviation_around_the_mean(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        for p in other.get_submodule(name).parameters():
            p.data.normal_(0, p.std().item(), generator=g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You added noise to the parameters; they are to be replaced.")
def adds_noise_to_the_parameters(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        for p in other.get_submodule(name).parameters():
            p.data += p.square().mean().sqrt().item() * torch.randn(p.shape, generator=g, dtype=p.dtype)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You shuffled the parameters' entries; draw new ones from N(0, r²).")
def shuffles_the_parameters(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        for p in other.get_submodule(name).parameters():
            p.data = p.data.flatten()[torch.randperm(p.numel(), generator=g)].view(p.shape)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You left out the modules inside a layer: its parameters() has theirs too.")
def leaves_out_inner_modules(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        _forget(other.get_submodule(name), g, recurse=False)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="All parameters of a layer were filled from one generator state; let g run on.")
def same_seed_for_every_parameter(explain, model, x, layers, g):
    other, first, rows, state = copy.deepcopy(model), explain(model, x).abs(), [], g.get_state()
    for name in layers:
        for p in other.get_submodule(name).parameters():
            g.set_state(state)
            p.data.normal_(0, p.square().mean().sqrt().item(), generator=g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You drew from PyTorch's global generator; hand g to normal_.")
def destroys_by_the_global_generator(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        _forget(other.get_submodule(name), None)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You took the layers in the opposite order; keep the order of `layers`.")
def layers_in_the_opposite_order(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in reversed(layers):
        _forget(other.get_submodule(name), g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You switched the copy to eval mode; explain it in the mode that the network is in.")
def copy_in_eval_mode(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model).eval(), explain(model, x).abs(), []
    for name in layers:
        _forget(other.get_submodule(name), g)
        rows.append(_alike(first, explain(other, x).abs()))
    return torch.stack(rows)


@wrong("randomization_test", says="You returned one number for each layer; each input has its own correlation.")
def mean_over_the_inputs(explain, model, x, layers, g):
    other, first, rows = copy.deepcopy(model), explain(model, x).abs(), []
    for name in layers:
        _forget(other.get_submodule(name), g)
        rows.append(_alike(first, explain(other, x).abs()).mean())
    return torch.stack(rows)
