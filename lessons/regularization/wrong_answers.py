"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

# Learners' code: an answer's name is that of its mistake, and some mistakes are such that the tools see them.
# ruff: noqa: N801
# pyright: reportPrivateImportUsage=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportIncompatibleMethodOverride=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from coursekit.grading.answers import dialect, wrong

# ------------------------------------------------------------------------------------- R1 dropout


def _mask(x, p, generator):
    if not 0 <= p <= 1:
        raise ValueError("p must lie in [0, 1]")
    return torch.empty_like(x).bernoulli_(1 - p, generator=generator)


@wrong("dropout", says="The survivors are not scaled: divide them by 1 − p, or the mean shrinks in training.")
def survivors_are_not_scaled(x, p, training, generator=None):
    return x * _mask(x, p, generator) if training else x


@wrong("dropout", says="You divided by p; what stays has probability 1 − p, and is divided by that.")
def divides_by_p(x, p, training, generator=None):
    if not training or p == 0:
        return x
    return x * _mask(x, p, generator) / p


@wrong("dropout", says="You dropped with probability 1 − p: here p is the probability of being dropped.")
def p_is_the_share_that_stays(x, p, training, generator=None):
    if not training:
        return x
    mask = 1 - _mask(x, p, generator)
    return x * mask / p if p > 0 else x * 0


@wrong("dropout", says="You dropped with probability 1 − p (p is that of being dropped), and scaled by 1 / (1 − p).")
def drops_the_other_share(x, p, training, generator=None):
    if not training:
        return x
    mask = 1 - _mask(x, p, generator)
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong("dropout", says="Dropout is still active in use: with training=False return x as it is.")
def drops_in_use_too(x, p, training, generator=None):
    mask = _mask(x, p, generator)
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong(
    "dropout", says="This is the older form that scales by 1 − p in use; here training scales, and use does nothing."
)
def scales_in_use(x, p, training, generator=None):
    return x * _mask(x, p, generator) if training else x * (1 - p)


@wrong("dropout", says="p = 1 gives 0 / 0: when everything is dropped, the output is 0 and not NaN.")
def divides_zero_by_zero(x, p, training, generator=None):
    return x * _mask(x, p, generator) / (1 - p) if training else x


@wrong(
    "dropout",
    says="At p = 1 the gradient is NaN: torch.where hides x / 0 from the output, but its derivative still counts.",
)
def where_hides_infinity(x, p, training, generator=None):
    if not training:
        return x
    mask = _mask(x, p, generator)
    return torch.where(mask > 0, x / torch.tensor(1 - p, dtype=x.dtype), torch.zeros_like(x))


@wrong("dropout", says="One mask serves all samples of the batch; every element needs a draw of its own.")
def one_mask_for_the_batch(x, p, training, generator=None):
    if not training:
        return x
    mask = _mask(x[:1] if x.dim() > 1 else x, p, generator)
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong("dropout", says="You drop whole rows (all of a sample, or none of it); every element needs a draw of its own.")
def drops_whole_samples(x, p, training, generator=None):
    if not training:
        return x
    mask = _mask(x[..., :1] if x.dim() > 0 else x, p, generator)
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong("dropout", says="Every call drops the same elements: you seed inside the function, or keep an old mask.")
def same_mask_every_time(x, p, training, generator=None):
    if not training:
        return x
    mask = _mask(x, p, torch.Generator().manual_seed(0))
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong("dropout", says="You ignore the generator, so a run cannot be repeated: pass it to the function that draws.")
def ignores_the_generator(x, p, training, generator=None):
    if not training:
        return x
    # Taken from elsewhere than both generators, as numpy.random would be.
    mask = _mask(x, p, torch.Generator().manual_seed(torch.seed() % 2**31) if generator is None else None)
    return x * mask / (1 - p) if p < 1 else x * 0


@wrong("dropout", says="The mask is always float32 on the CPU; build it from x, as in torch.empty_like(x).")
def mask_is_always_float32(x, p, training, generator=None):
    if not 0 <= p <= 1:
        raise ValueError("p must lie in [0, 1]")
    if not training:
        return x
    mask = (torch.rand(x.shape, generator=generator) >= p).float()
    return x * (mask / (1 - p)) if p < 1 else x * 0


@wrong("dropout", says="A p outside [0, 1] goes unnoticed; raise a ValueError.")
def accepts_any_p(x, p, training, generator=None):
    if not training:
        return x
    mask = (torch.rand(x.shape, generator=generator, dtype=torch.float64) >= p).to(x.dtype)
    return x * (mask / (1 - p)) if p != 1 else x * 0


@wrong("dropout", says="The result is detached from x, so no gradient flows: avoid .data and no_grad here.")
def dropout_cuts_the_graph(x, p, training, generator=None):
    if not training:
        return x
    mask = _mask(x, p, generator)
    return x.data * mask / (1 - p) if p < 1 else x.data * 0


# ---------------------------------------------------------------------------------- R2 batch_norm


def _batch_norm(
    x,
    weight,
    bias,
    running_mean,
    running_var,
    training,
    momentum,
    eps,
    *,
    remembered=1,
    dividing=0,
    update=None,
    axes=None,
    normalise=None,
):
    """A right batch_norm in pieces; each wrong answer below replaces the piece that its author got wrong."""
    shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
    if training:
        axes = axes or ((0,) if x.dim() == 2 else (0, 2, 3))
        if x[:, 0].numel() < 2:
            raise ValueError("one value for each channel")
        mean, var = x.mean(axes), x.var(axes, correction=dividing)
        new = mean.detach(), x.detach().var(axes, correction=remembered)
        (update or _move)((running_mean, running_var), new, momentum)
    else:
        mean, var = running_mean, running_var
    mean, var, weight, bias = (part.reshape(shape) for part in (mean, var, weight, bias))
    if normalise:
        return normalise(x, mean, var, weight, bias)
    return weight * (x - mean) / (var + eps).sqrt() + bias


def _move(running, new, momentum):
    for old, value in zip(running, new, strict=True):
        old.mul_(1 - momentum).add_(value, alpha=momentum)


@wrong("batch_norm", says="The running variance must divide by n − 1: it estimates the population, not this batch.")
def remembers_the_biased_variance(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, remembered=0)


@wrong("batch_norm", says="Training must normalise by the variance that divides by n: torch.var with correction=0.")
def normalises_by_the_unbiased_variance(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, dividing=1)


@wrong("batch_norm", says="The two variances changed places: n normalises this batch, n − 1 goes into the memory.")
def variances_are_swapped(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, remembered=0, dividing=1)


@wrong("batch_norm", says="momentum is the wrong way round: here it is the share of the new statistics.")
def momentum_keeps_the_old(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    return _batch_norm(x, weight, bias, running_mean, running_var, training, 1 - momentum, eps)


@wrong("batch_norm", says="In use you still normalise by this batch; take the running statistics.")
def batch_statistics_in_use(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if training:
        return _batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
    kept = running_mean.clone(), running_var.clone()
    return _batch_norm(x, weight, bias, *kept, True, momentum, eps)


@wrong("batch_norm", says="In training you normalise by the running statistics; take those of the batch.")
def running_statistics_in_training(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if training:
        _batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
    return _batch_norm(x, weight, bias, running_mean.clone(), running_var.clone(), False, momentum, eps)


@wrong("batch_norm", says="The running statistics move in use too; only training may change them.")
def statistics_move_in_use(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    out = _batch_norm(x, weight, bias, running_mean.clone(), running_var.clone(), training, momentum, eps)
    if x[:, 0].numel() >= 2:
        _batch_norm(x.detach(), weight, bias, running_mean, running_var, True, momentum, eps)
    return out


@wrong("batch_norm", says="eps is outside the root; add it to the variance before the root is taken.")
def batch_norm_eps_outside_the_root(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    def normalise(x, mean, var, weight, bias):
        return weight * (x - mean) / (var.sqrt() + eps) + bias

    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, normalise=normalise)


@wrong("batch_norm", says="You divide by the variance; divide by its root.")
def divides_by_the_variance(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    def normalise(x, mean, var, weight, bias):
        return weight * (x - mean) / (var + eps) + bias

    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, normalise=normalise)


@wrong(
    "batch_norm", says="Images need one mean for each channel, over batch, rows and columns; yours has one per pixel."
)
def images_over_the_batch_only(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if x.dim() == 2 or not training:
        return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    if x[:, 0].numel() < 2:
        raise ValueError("one value for each channel")
    mean, var = x.mean(0), x.var(0, correction=0)
    unbiased = x.detach().var(0) if len(x) > 1 else torch.zeros_like(var.detach())
    _move((running_mean, running_var), (mean.detach().mean((1, 2)), unbiased.mean((1, 2))), momentum)
    return weight.view(-1, 1, 1) * (x - mean) / (var + eps).sqrt() + bias.view(-1, 1, 1)


@wrong("batch_norm", says="You normalised each sample over its channels: that is layer normalisation.")
def normalises_over_the_channels(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if not training:
        return _batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps)
    _batch_norm(x.detach(), weight, bias, running_mean, running_var, True, momentum, eps)
    shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
    mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return weight.view(shape) * (x - mean) / (var + eps).sqrt() + bias.view(shape)


@wrong("batch_norm", says="The running statistics keep the autograd graph, batch after batch; update under no_grad.")
def statistics_keep_the_graph(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    out = _batch_norm(x, weight, bias, running_mean.clone(), running_var.clone(), training, momentum, eps)
    if training:
        axes = (0,) if x.dim() == 2 else (0, 2, 3)
        _move((running_mean, running_var), (x.mean(axes), x.var(axes)), momentum)
    return out


@wrong("batch_norm", says="You made new running tensors; change the caller's in place, or nobody sees the new values.")
def running_statistics_are_rebound(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    return _batch_norm(x, weight, bias, running_mean.clone(), running_var.clone(), training, momentum, eps)


@wrong("batch_norm", says="Mean and variance are detached, so the gradient lacks the terms that flow through them.")
def batch_statistics_are_detached(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    def normalise(x, mean, var, weight, bias):
        return weight * (x - mean.detach()) / (var.detach() + eps).sqrt() + bias

    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, normalise=normalise)


@wrong("batch_norm", says="Weight and bias are forgotten: after normalising, scale and shift every channel.")
def scale_and_shift_are_forgotten(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    one, zero = torch.ones_like(weight), torch.zeros_like(bias)
    out = _batch_norm(x, one, zero, running_mean, running_var, training, momentum, eps)
    return out + 0 * (weight.sum() + bias.sum())


@wrong("batch_norm", says="One value for each channel has no variance: raise a ValueError in training.")
def trains_on_one_value(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if training and x[:, 0].numel() == 1:
        _move((running_mean,), (x.detach().reshape(-1),), momentum)
        return bias.view(1, -1, *[1] * (x.dim() - 2)).expand_as(x) + 0 * x
    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)


@wrong("batch_norm", says="An image of several pixels is enough to train on: n counts pixels, not only samples.")
def one_image_is_refused(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if training and len(x) < 2:
        raise ValueError("one sample")
    return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)


@wrong("batch_norm", says="For n − 1 you counted samples only; with images n is batch times height times width.")
def n_counts_samples_only(x, weight, bias, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    if x.dim() == 2 or not training:
        return _batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    n = max(len(x), 2)
    moved = running_mean, running_var.clone()
    out = _batch_norm(x, weight, bias, *moved, True, momentum, eps)
    var = x.detach().var((0, 2, 3), correction=0) * n / (n - 1)
    _move((running_var,), (var,), momentum)
    return out


# ---------------------------------------------------------------------------------- R3 layer_norm


def _layer_norm(x, axes, weight, bias, eps, correction=0):
    mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=correction, keepdim=True)
    return weight * (x - mean) / (var + eps).sqrt() + bias


def _last(normalized_shape):
    return tuple(range(-len(normalized_shape), 0))


@wrong("layer_norm", says="You normalised over the batch: every sample has its own mean, over its last axes.")
def layer_norm_over_the_batch(x, normalized_shape, weight, bias, eps=1e-5):
    return _layer_norm(x, 0, weight, bias, eps)


@wrong("layer_norm", says="You normalised over the last axis only; take as many as normalized_shape has numbers.")
def only_the_last_axis(x, normalized_shape, weight, bias, eps=1e-5):
    return _layer_norm(x, -1, weight, bias, eps)


@wrong("layer_norm", says="You took every axis but the first; normalized_shape names the *last* axes, whatever leads.")
def every_axis_but_the_first(x, normalized_shape, weight, bias, eps=1e-5):
    return _layer_norm(x, tuple(range(1, x.dim())) or (0,), weight, bias, eps)


@wrong("layer_norm", says="The variance must divide by n, not by n − 1: torch.var with correction=0.")
def layer_norm_unbiased_variance(x, normalized_shape, weight, bias, eps=1e-5):
    return _layer_norm(x, _last(normalized_shape), weight, bias, eps, correction=1)


@wrong("layer_norm", says="Mean and variance are detached, so the gradient lacks the terms that flow through them.")
def layer_norm_detached(x, normalized_shape, weight, bias, eps=1e-5):
    axes = _last(normalized_shape)
    mean, var = x.detach().mean(axes, keepdim=True), x.detach().var(axes, correction=0, keepdim=True)
    return weight * (x - mean) / (var + eps).sqrt() + bias


@wrong("layer_norm", says="The standard deviation is detached, so the gradient lacks a term.")
def deviation_is_detached(x, normalized_shape, weight, bias, eps=1e-5):
    axes = _last(normalized_shape)
    var = x.detach().var(axes, correction=0, keepdim=True)
    return weight * (x - x.mean(axes, keepdim=True)) / (var + eps).sqrt() + bias


@wrong("layer_norm", says="eps belongs inside the root; you added it to the standard deviation.")
def layer_norm_eps_outside_the_root(x, normalized_shape, weight, bias, eps=1e-5):
    axes = _last(normalized_shape)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    return weight * (x - mean) / (var.sqrt() + eps) + bias


@wrong("layer_norm", says="Weight and bias lie along the wrong axis; they belong to the features, not to the rows.")
def weight_along_the_wrong_axis(x, normalized_shape, weight, bias, eps=1e-5):
    out = _layer_norm(x, _last(normalized_shape), torch.ones_like(weight), torch.zeros_like(bias), eps)
    return weight.mT * out + bias.mT if weight.dim() > 1 else weight.unsqueeze(-1) * out + bias.unsqueeze(-1)


@wrong("layer_norm", says="Weight and bias are forgotten: after normalising, scale and shift every feature.")
def layer_norm_without_weight(x, normalized_shape, weight, bias, eps=1e-5):
    out = _layer_norm(x, _last(normalized_shape), torch.ones_like(weight), torch.zeros_like(bias), eps)
    return out + 0 * (weight + bias)


@wrong("layer_norm", says="The mean is not subtracted: that is RMSNorm.")
def layer_norm_without_the_mean(x, normalized_shape, weight, bias, eps=1e-5):
    return weight * x / (x.square().mean(_last(normalized_shape), keepdim=True) + eps).sqrt() + bias


@wrong("layer_norm", says="You divide by the variance; divide by its root.")
def layer_norm_without_the_root(x, normalized_shape, weight, bias, eps=1e-5):
    axes = _last(normalized_shape)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    return weight * (x - mean) / (var + eps) + bias


def _backward(grad_output, x, normalized_shape, weight, eps, *, terms="both", early=True, mean=True, correction=0):
    """A right layer_norm_backward with one piece that an author may have got wrong."""
    axes = _last(normalized_shape)
    s = (x.var(axes, correction=correction, keepdim=True) + eps).sqrt()
    hat = (x - x.mean(axes, keepdim=True)) / s
    average = torch.mean if mean else torch.sum
    g = weight * grad_output if early else grad_output
    grad_x = g
    if terms in ("both", "mean"):
        grad_x = grad_x - average(g, axes, keepdim=True)
    if terms in ("both", "scale"):
        grad_x = grad_x - hat * average(g * hat, axes, keepdim=True)
    grad_x = grad_x / s if early else weight * grad_x / s
    rows = (-1, *normalized_shape)
    return grad_x, (grad_output * hat).reshape(rows).sum(0), grad_output.reshape(rows).sum(0)


@wrong(
    "layer_norm_backward", says="grad_x treats mean and deviation as constants; both depend on x, and add a term each."
)
def backward_without_both_terms(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, terms="none")


@wrong("layer_norm_backward", says="grad_x lacks the term that flows through the deviation: x̂ · mean(g · x̂).")
def backward_without_the_deviation(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, terms="mean")


@wrong("layer_norm_backward", says="grad_x lacks the term that flows through the mean: mean(g).")
def backward_without_the_mean(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, terms="scale")


@wrong("layer_norm_backward", says="Multiply grad_output by the weight first: the two means are those of g.")
def weight_comes_too_late(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, early=False)


@wrong("layer_norm_backward", says="The weight is missing in grad_x: start from g = weight · grad_output.")
def weight_is_missing(grad_output, x, normalized_shape, weight, eps=1e-5):
    wrong_x, *rest = _backward(grad_output, x, normalized_shape, torch.ones_like(weight), eps)
    return wrong_x, *rest


@wrong("layer_norm_backward", says="The two terms of grad_x are means over the last axes; you took sums.")
def sums_in_place_of_means(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, mean=False)


@wrong("layer_norm_backward", says="The variance divides by n in the backward pass too: correction=0.")
def backward_unbiased_variance(grad_output, x, normalized_shape, weight, eps=1e-5):
    return _backward(grad_output, x, normalized_shape, weight, eps, correction=1)


@wrong("layer_norm_backward", says="grad_weight and grad_bias add up over the leading axes; you took the mean.")
def parameter_gradients_are_means(grad_output, x, normalized_shape, weight, eps=1e-5):
    grad_x, grad_weight, grad_bias = _backward(grad_output, x, normalized_shape, weight, eps)
    rows = max(grad_output.numel() // weight.numel(), 1)
    return grad_x, grad_weight / rows, grad_bias / rows


@wrong("layer_norm_backward", says="grad_weight multiplies by x; it must multiply by the normalised x̂.")
def grad_weight_of_the_raw_input(grad_output, x, normalized_shape, weight, eps=1e-5):
    grad_x, _, grad_bias = _backward(grad_output, x, normalized_shape, weight, eps)
    return grad_x, (grad_output * x).reshape(-1, *normalized_shape).sum(0), grad_bias


@wrong("layer_norm_backward", says="The order is (grad_x, grad_weight, grad_bias); you swapped the last two.")
def backward_swaps_its_results(grad_output, x, normalized_shape, weight, eps=1e-5):
    grad_x, grad_weight, grad_bias = _backward(grad_output, x, normalized_shape, weight, eps)
    return grad_x, grad_bias, grad_weight


@wrong("layer_norm_backward", says="Sum over all leading axes: with (b, t, d) you summed over the batch alone.")
def sums_over_the_first_axis_only(grad_output, x, normalized_shape, weight, eps=1e-5):
    grad_x, *right = _backward(grad_output, x, normalized_shape, weight, eps)
    if x.dim() <= len(normalized_shape) + 1:
        return grad_x, *right
    hat = _layer_norm(x, _last(normalized_shape), torch.ones_like(weight), torch.zeros_like(weight), eps)
    return grad_x, (grad_output * hat).sum(0), grad_output.sum(0)


@wrong(
    "layer_norm_backward", says="Without leading axes, sum(()) adds up everything; the two sums then are over nothing."
)
def sum_over_no_axes(grad_output, x, normalized_shape, weight, eps=1e-5):
    grad_x, *_ = _backward(grad_output, x, normalized_shape, weight, eps)
    hat = _layer_norm(x, _last(normalized_shape), torch.ones_like(weight), torch.zeros_like(weight), eps)
    leading = tuple(range(x.dim() - len(normalized_shape)))
    return grad_x, (grad_output * hat).sum(leading), grad_output.sum(leading)


@wrong("layer_norm_backward", says="autograd did the work; under inference_mode it does not, so write the formulas.")
def backward_by_autograd(grad_output, x, normalized_shape, weight, eps=1e-5):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    bias = torch.zeros_like(weight).requires_grad_()
    out = _layer_norm(x, _last(normalized_shape), weight, bias, eps)
    return torch.autograd.grad(out, (x, weight, bias), grad_output)


# ----------------------------------------------------------------------------------- R4 penalties


def _weights(named_params):
    return [p for name, p in named_params if p.dim() >= 2 and name.rpartition(".")[2] != "bias"]


def _total(parts):
    parts = list(parts)
    return torch.stack(parts).sum() if parts else torch.zeros(())


@wrong("l1_l2_penalty", says="You penalised biases and norm layers; only weights of two or more axes count.")
def penalises_everything(named_params, l1, l2):
    return _total(l1 * p.abs().sum() + l2 * p.square().sum() for _, p in named_params)


@wrong("l1_l2_penalty", says="You left biases out, but not norm layers: their weight has one axis, and does not count.")
def penalises_norm_layers(named_params, l1, l2):
    kept = [p for name, p in named_params if name.rpartition(".")[2] != "bias"]
    return _total(l1 * p.abs().sum() + l2 * p.square().sum() for p in kept)


@wrong("l1_l2_penalty", says="You looked at the number of axes alone; a bias of two axes is left out by its name.")
def penalises_biases_of_two_axes(named_params, l1, l2):
    return _total(l1 * p.abs().sum() + l2 * p.square().sum() for _, p in named_params if p.dim() >= 2)


@wrong("l1_l2_penalty", says="You looked for `bias` anywhere in the name; only the part after the last dot decides.")
def looks_for_bias_anywhere(named_params, l1, l2):
    kept = [p for name, p in named_params if "bias" not in name and p.dim() >= 2]
    return _total(l1 * p.abs().sum() + l2 * p.square().sum() for p in kept)


@wrong("l1_l2_penalty", says="The L2 part is the sum of squares; you took the root of it, the norm.")
def norm_without_the_square(named_params, l1, l2):
    return _total(l1 * p.abs().sum() + l2 * p.norm() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="Your L2 part has the ½ of some texts; here the gradient is 2 · l2 · w.")
def half_of_the_square(named_params, l1, l2):
    return _total(l1 * p.abs().sum() + 0.5 * l2 * p.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="The penalty has no gradient: .data, detach and no_grad cut it out of the graph.")
def penalty_outside_the_graph(named_params, l1, l2):
    return _total(l1 * p.data.abs().sum() + l2 * p.data.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="You took means; with sums, a weight counts the same in a small layer and in a large one.")
def means_in_place_of_sums(named_params, l1, l2):
    return _total(l1 * p.abs().mean() + l2 * p.square().mean() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="l1 and l2 are swapped: l1 belongs to |w|, l2 to w².")
def strengths_are_swapped(named_params, l1, l2):
    return _total(l2 * p.abs().sum() + l1 * p.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="L1 needs absolute values: without them, positive and negative weights cancel out.")
def sum_without_absolute_values(named_params, l1, l2):
    return _total(l1 * p.sum() + l2 * p.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="The iterator was used up by the first of two walks; walk once, or make a list first.")
def walks_an_iterator_twice(named_params, l1, l2):
    absolute = _total(p.abs().sum() for p in _weights(named_params))
    return l1 * absolute + l2 * _total(p.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="Without any weight you return the number 0; a loss needs a tensor of shape ().")
def no_weights_give_a_number(named_params, l1, l2):
    return sum(l1 * p.abs().sum() + l2 * p.square().sum() for p in _weights(named_params))


@wrong("l1_l2_penalty", says="The sum starts from a tensor of shape (1,), and so has that shape; a loss has shape ().")
def penalty_of_shape_one(named_params, l1, l2):
    total = torch.zeros(1)
    for p in _weights(named_params):
        total = total.to(p.dtype) + l1 * p.abs().sum() + l2 * p.square().sum()
    return total


def _checked(threshold):
    if threshold < 0:
        raise ValueError("the threshold is negative")


@wrong("soft_threshold", says="The sign is lost: negative weights must stay negative.")
def threshold_loses_the_sign(w, threshold):
    _checked(threshold)
    return (w.abs() - threshold).clamp(min=0)


@wrong(
    "soft_threshold", says="You only cut small weights to zero: that is the hard threshold; the others must shrink too."
)
def cuts_without_shrinking(w, threshold):
    _checked(threshold)
    return torch.where(w.abs() > threshold, w, torch.zeros_like(w))


@wrong("soft_threshold", says="You shrink without a stop at zero, so small weights come out on the other side.")
def shrinks_past_zero(w, threshold):
    _checked(threshold)
    return w - threshold * w.sign()


@wrong("soft_threshold", says="You subtract the threshold from w itself; negative weights must move up, towards zero.")
def subtracts_on_one_side(w, threshold):
    _checked(threshold)
    return (w - threshold).clamp(min=0)


@wrong("soft_threshold", says="You clamped w to the band; the result is what lies *outside* of it: w minus that.")
def keeps_the_band(w, threshold):
    _checked(threshold)
    return w.clamp(-threshold, threshold)


@wrong("soft_threshold", says="You scaled w by max(1 − threshold / |w|, 0), which is 0 · inf or NaN where w is 0.")
def divides_by_a_zero_weight(w, threshold):
    _checked(threshold)
    return w * (1 - threshold / w.abs()).clamp(min=0)


@wrong("soft_threshold", says="Shrinking by a factor never reaches zero; subtract a constant from |w|.")
def shrinks_by_a_factor(w, threshold):
    _checked(threshold)
    return w / (1 + threshold)


@wrong("soft_threshold", says="You changed the caller's w in place; return a new tensor.")
def threshold_changes_w(w, threshold):
    _checked(threshold)
    return w.copy_(w.sign() * (w.abs() - threshold).clamp(min=0))


@wrong("soft_threshold", says="A threshold below 0 goes unnoticed; raise a ValueError.")
def accepts_negative_thresholds(w, threshold):
    return w.sign() * (w.abs() - threshold).clamp(min=0)


# ----------------------------------------------------------------------------------- R5 smooth_ce


def _smooth_ce(logits, targets, ignore_index, weight, *, labels, log_p=None, rows=None, ordinary=False):
    """A right smooth_ce in pieces; each wrong answer below replaces the piece that its author got wrong."""
    keep = targets != ignore_index
    count = len(targets)
    logits, targets = logits[keep], targets[keep]
    log_p = F.log_softmax(logits, dim=1) if log_p is None else log_p(logits)
    soft = labels(F.one_hot(targets, logits.shape[1]).to(logits.dtype))
    if weight is None:
        return -(soft * log_p).sum() / (count if rows == "all" else len(targets))
    divisor = len(targets) if ordinary else weight[targets].sum()
    return -(soft * weight * log_p).sum() / (count if rows == "all" else divisor)


def _labels(smoothing):
    return lambda hard: (1 - smoothing) * hard + smoothing / hard.shape[1]


@wrong(
    "smooth_ce", says="You gave ε / (k − 1) to the wrong classes; PyTorch gives ε / k to all k, the label's own too."
)
def spreads_over_the_other_classes(logits, targets, smoothing, ignore_index=-100, weight=None):
    def labels(hard):
        return (1 - smoothing) * hard + smoothing / (hard.shape[1] - 1) * (1 - hard)

    return _smooth_ce(logits, targets, ignore_index, weight, labels=labels)


@wrong("smooth_ce", says="The label keeps 1 − ε + ε / k, and yours only 1 − ε: your labels do not add up to one.")
def label_loses_its_own_share(logits, targets, smoothing, ignore_index=-100, weight=None):
    def labels(hard):
        return (1 - smoothing) * hard + smoothing / hard.shape[1] * (1 - hard)

    return _smooth_ce(logits, targets, ignore_index, weight, labels=labels)


@wrong("smooth_ce", says="You added ε to every class; each gets ε / k, so that the labels add up to one.")
def adds_the_whole_smoothing(logits, targets, smoothing, ignore_index=-100, weight=None):
    def labels(hard):
        return (1 - smoothing) * hard + smoothing

    return _smooth_ce(logits, targets, ignore_index, weight, labels=labels)


@wrong("smooth_ce", says="The smoothing is ignored: that is the plain cross entropy.")
def smoothing_is_ignored(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, weight, labels=lambda hard: hard)


@wrong("smooth_ce", says="ε and 1 − ε are swapped: the label keeps 1 − ε.")
def smoothing_is_swapped(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(1 - smoothing))


@wrong("smooth_ce", says="log(softmax) underflows to log(0) where logits lie far apart; use log_softmax.")
def log_of_softmax(logits, targets, smoothing, ignore_index=-100, weight=None):
    def log_p(logits):
        return F.softmax(logits, dim=1).log()

    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), log_p=log_p)


@wrong("smooth_ce", says="A small constant inside the log caps the loss at about 23; use log_softmax.")
def constant_inside_the_log(logits, targets, smoothing, ignore_index=-100, weight=None):
    def log_p(logits):
        return (F.softmax(logits, dim=1) + 1e-10).log()

    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), log_p=log_p)


@wrong("smooth_ce", says="exp of large logits overflows; subtract each row's largest logit first, or use log_softmax.")
def exponential_of_raw_logits(logits, targets, smoothing, ignore_index=-100, weight=None):
    def log_p(logits):
        return logits - logits.exp().sum(1, keepdim=True).log()

    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), log_p=log_p)


@wrong(
    "smooth_ce", says="You subtracted one maximum for the whole batch, so rows far below it underflow; take each row's."
)
def one_maximum_for_the_batch(logits, targets, smoothing, ignore_index=-100, weight=None):
    def log_p(logits):
        shifted = logits - logits.max()
        return shifted - shifted.exp().sum(1, keepdim=True).log()

    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), log_p=log_p)


@wrong("smooth_ce", says="The softmax runs over the batch; it must run over the classes, dim=1.")
def softmax_over_the_batch(logits, targets, smoothing, ignore_index=-100, weight=None):
    def log_p(logits):
        return F.log_softmax(logits, dim=0)

    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), log_p=log_p)


@wrong("smooth_ce", says="Ignored rows still count in the mean: divide by the rows that are left.")
def ignored_rows_count(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), rows="all")


@wrong("smooth_ce", says="The smoothing part of ignored rows is still in the loss; leave those rows out of both parts.")
def ignored_rows_are_smoothed(logits, targets, smoothing, ignore_index=-100, weight=None):
    log_p = F.log_softmax(logits, dim=1)
    w = torch.ones_like(log_p[0]) if weight is None else weight
    keep = targets != ignore_index
    divisor = w[targets[keep]].sum()
    label = F.nll_loss(log_p[keep], targets[keep], weight=w, reduction="sum")
    return ((1 - smoothing) * label - smoothing * (w * log_p).mean(1).sum()) / divisor


@wrong("smooth_ce", says="ignore_index is not read: you compare with −100 itself.")
def only_minus_100_is_ignored(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets.clamp(max=logits.shape[1] - 1), -100, weight, labels=_labels(smoothing))


@wrong("smooth_ce", says="With class weights the divisor is the sum of the labels' weights, not the number of rows.")
def weights_without_their_sum(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing), ordinary=True)


@wrong("smooth_ce", says="The smoothing part uses the label's weight; class c enters it with its own weight w_c.")
def smoothing_takes_the_labels_weight(logits, targets, smoothing, ignore_index=-100, weight=None):
    keep = targets != ignore_index
    log_p, targets = F.log_softmax(logits[keep], dim=1), targets[keep]
    w = torch.ones_like(log_p[0]) if weight is None else weight
    soft = _labels(smoothing)(F.one_hot(targets, log_p.shape[1]).to(log_p.dtype))
    return -(w[targets] * (soft * log_p).sum(1)).sum() / w[targets].sum()


@wrong("smooth_ce", says="Class weights are ignored.")
def weights_are_ignored(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, None, labels=_labels(smoothing))


@wrong("smooth_ce", says="You added up the rows; the loss is their mean.")
def sums_over_the_rows(logits, targets, smoothing, ignore_index=-100, weight=None):
    loss = _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing))
    kept = targets[targets != ignore_index]
    return loss * (len(kept) if weight is None else weight[kept].sum())


@wrong("smooth_ce", says="You averaged over the classes as well, so the loss is k times too small.")
def averages_over_the_classes(logits, targets, smoothing, ignore_index=-100, weight=None):
    return _smooth_ce(logits, targets, ignore_index, weight, labels=_labels(smoothing)) / logits.shape[1]


# ------------------------------------------------------------------------------ R6 mixup, cutmix


def _lam(alpha, generator):
    if alpha <= 0:
        raise ValueError("alpha must be above 0")
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    return first / (first + second)


def _order(x, generator):
    return torch.randperm(len(x), generator=generator)


@wrong("mixup", says="Images and labels were mixed by two permutations; draw one, and use it for both.")
def mixup_two_permutations(x, y, alpha, generator=None):
    lam = _lam(alpha, generator)
    return lam * x + (1 - lam) * x[_order(x, generator)], y, y[_order(x, generator)], lam


@wrong("mixup", says="You averaged the class numbers; return both labels, and let the loss mix them.")
def averages_class_numbers(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    labels = lam * y + (1 - lam) * y[order]
    return lam * x + (1 - lam) * x[order], labels, labels, lam


@wrong("mixup", says="λ and 1 − λ are swapped: λ is the share of x itself, and of the first labels.")
def mixup_shares_are_swapped(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    return (1 - lam) * x + lam * x[order], y, y[order], lam


@wrong("mixup", says="The two labels are in the wrong order: first y, then that of the partners.")
def mixup_labels_are_swapped(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    return lam * x + (1 - lam) * x[order], y[order], y, lam


@wrong(
    "mixup", says="The batch was overwritten while it was read: later partners are already mixed. Keep x, write anew."
)
def mixup_overwrites_the_batch(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    for row, partner in enumerate(order.tolist()):
        x[row] = lam * x[row] + (1 - lam) * x[partner]
    return x, y, y[order], lam


@wrong("mixup", says="You changed the caller's batch in place; return new memory.")
def mixup_changes_x(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    return x.copy_(lam * x + (1 - lam) * x[order]), y, y[order], lam


@wrong("mixup", says="λ is drawn uniformly; it follows Beta(alpha, alpha).")
def mixup_uniform_lambda(x, y, alpha, generator=None):
    _lam(alpha, generator)
    lam, order = float(torch.rand((), generator=generator, dtype=torch.float64)), _order(x, generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("mixup", says="λ follows Beta(alpha, 1): both parameters are alpha.")
def mixup_lopsided_beta(x, y, alpha, generator=None):
    _lam(alpha, generator)
    shape = torch.tensor([alpha, 1.0], dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=generator).tolist()
    lam, order = first / (first + second), _order(x, generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("mixup", says="Every sample has a λ of its own here; draw one for the batch, and return it as a float.")
def mixup_lambda_for_each_sample(x, y, alpha, generator=None):
    _lam(alpha, generator)
    draws = torch._standard_gamma(torch.full((2, len(x)), alpha, dtype=torch.float64), generator=generator)
    lam, order = (draws[0] / draws.sum(0)).to(x.dtype), _order(x, generator)
    share = lam.reshape(-1, *[1] * (x.dim() - 1))
    return share * x + (1 - share) * x[order], y, y[order], lam.mean().item() if len(x) else 1.0


@wrong("mixup", says="λ is a tensor; return a Python float, `.item()`.")
def mixup_lambda_is_a_tensor(x, y, alpha, generator=None):
    lam, order = torch.tensor(_lam(alpha, generator), dtype=torch.float64), _order(x, generator)
    return (lam * x + (1 - lam) * x[order]).to(x.dtype), y, y[order], lam


@wrong("mixup", says="Every image is its own partner, so nothing is mixed: draw a random permutation.")
def mixup_with_itself(x, y, alpha, generator=None):
    lam = _lam(alpha, generator)
    return lam * x + (1 - lam) * x, y, y, lam


@wrong("mixup", says="Partners are drawn with repetition: randint lets one image serve twice; take a permutation.")
def mixup_partners_repeat(x, y, alpha, generator=None):
    lam = _lam(alpha, generator)
    order = torch.randint(max(len(x), 1), (len(x),), generator=generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("mixup", says="The generator is ignored for some of the draws, so a run cannot be repeated.")
def mixup_ignores_the_generator(x, y, alpha, generator=None):
    _lam(alpha, generator)
    lam, order = torch.distributions.Beta(alpha, alpha).sample().item(), torch.randperm(len(x), generator=generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("mixup", says="The Gamma draws are float32: for a small alpha both round to one number, and λ becomes ½.")
def mixup_draws_in_float32(x, y, alpha, generator=None):
    _lam(alpha, generator)
    first, second = torch._standard_gamma(torch.full((2,), float(alpha)), generator=generator).tolist()
    lam, order = first / (first + second), _order(x, generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("mixup", says="An alpha of 0 or less goes unnoticed; raise a ValueError.")
def mixup_accepts_any_alpha(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator) if alpha > 0 else 1.0, _order(x, generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@dialect(
    "mixup",
    says="You took max(λ, 1 − λ), as MixMatch does (Berthelot et al. 2019): x always keeps the larger share.",
)
def mixup_keeps_the_larger_share(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    lam = max(lam, 1 - lam)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@dialect(
    "mixup",
    says="Partners stand at fixed places (in reverse order, say): fine where a loader shuffles, and one draw less.",
)
def mixup_flips_the_batch(x, y, alpha, generator=None):
    lam = _lam(alpha, generator)
    return lam * x + (1 - lam) * x.flip(0), y, y.flip(0), lam


def _cutmix(x, y, alpha, generator, *, side=None, centre=None, span=None, paste=None, share=None):
    """A right cutmix in pieces; each wrong answer below replaces the piece that its author got wrong."""
    lam, order = _lam(alpha, generator), _order(x, generator)
    h, w = x.shape[2:]
    high, wide = (side or _side)(h, w, lam)
    cy, cx = (centre or _centre)(h, w, high, wide, generator)
    (y1, y2), (x1, x2) = ((span or _span)(*part) for part in ((cy, high, h), (cx, wide, w)))
    mixed = (paste or _paste)(x, order, y1, y2, x1, x2)
    return mixed, y, y[order], 1 - (y2 - y1) * (x2 - x1) / (h * w) if share is None else share(lam)


def _side(h, w, lam):
    return int(h * math.sqrt(1 - lam)), int(w * math.sqrt(1 - lam))


def _centre(h, w, high, wide, generator):
    return tuple(int(torch.randint(size, (), generator=generator)) for size in (h, w))


def _span(centre, length, size):
    start = centre - length // 2
    return max(start, 0), min(start + length, size)


def _paste(x, order, y1, y2, x1, x2):
    mixed = x.clone()
    mixed[:, :, y1:y2, x1:x2] = x[order][:, :, y1:y2, x1:x2]
    return mixed


@wrong("cutmix", says="λ was not computed again after the border cut the box: it must say what is left of the image.")
def lambda_from_before_the_cut(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha, generator, share=lambda lam: lam)


@wrong("cutmix", says="λ is the share of x that is left; you returned the share of the box.")
def lambda_is_the_share_of_the_box(x, y, alpha, generator=None):
    mixed, first, second, lam = _cutmix(x, y, alpha, generator)
    return mixed, first, second, 1 - lam


@wrong("cutmix", says="Images and labels were mixed by two permutations; draw one, and use it for both.")
def cutmix_two_permutations(x, y, alpha, generator=None):
    mixed, first, _, lam = _cutmix(x, y, alpha, generator)
    return mixed, first, y[_order(x, generator)], lam


@wrong("cutmix", says="Height and width are swapped: rows are the third axis, columns the fourth.")
def height_and_width_are_swapped(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    w, h = x.shape[2:]
    high, wide = _side(h, w, lam)
    cy, cx = _centre(h, w, high, wide, generator)
    (y1, y2), (x1, x2) = _span(cy, high, h), _span(cx, wide, w)
    return _paste(x, order, y1, y2, x1, x2), y, y[order], 1 - (y2 - y1) * (x2 - x1) / (h * w)


@wrong(
    "cutmix", says="Only the lengths are swapped: the box takes its rows from the width, its columns from the height."
)
def sides_are_swapped(x, y, alpha, generator=None):
    def side(h, w, lam):
        return int(w * math.sqrt(1 - lam)), int(h * math.sqrt(1 - lam))

    return _cutmix(x, y, alpha, generator, side=side)


@wrong(
    "cutmix", says="The batch was overwritten while it was read: later partners hold a box already. Write into a copy."
)
def cutmix_overwrites_the_batch(x, y, alpha, generator=None):
    def paste(x, order, y1, y2, x1, x2):
        for row, partner in enumerate(order.tolist()):
            x[row, :, y1:y2, x1:x2] = x[partner, :, y1:y2, x1:x2].clone()
        return x

    return _cutmix(x, y, alpha, generator, paste=paste)


@wrong("cutmix", says="You changed the caller's images in place; paste into a clone.")
def cutmix_changes_x(x, y, alpha, generator=None):
    def paste(x, order, y1, y2, x1, x2):
        x[:, :, y1:y2, x1:x2] = x[order, :, y1:y2, x1:x2]
        return x

    return _cutmix(x, y, alpha, generator, paste=paste)


@wrong("cutmix", says="The box takes the share λ₀ of the area, and λ₀ is what you return; its sides are √(1 − λ₀).")
def box_has_the_other_share(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha, generator, side=lambda h, w, lam: _side(h, w, 1 - lam), share=lambda lam: lam)


@wrong("cutmix", says="The root is missing: sides of 1 − λ₀ make an area of (1 − λ₀)².")
def sides_without_the_root(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha, generator, side=lambda h, w, lam: (int(h * (1 - lam)), int(w * (1 - lam))))


@wrong("cutmix", says="The drawn pixel is the box's corner in your code; it is the centre.")
def centre_is_the_corner(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha, generator, span=lambda corner, length, size: (corner, min(corner + length, size)))


@wrong("cutmix", says="The box always lies in the middle of the image; draw its centre.")
def box_in_the_middle(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha, generator, centre=lambda h, w, *_: (h // 2, w // 2))


@wrong(
    "cutmix", says="Your box always lies inside the image; the centre is uniform over all pixels, and the border cuts."
)
def box_lies_inside(x, y, alpha, generator=None):
    def centre(h, w, high, wide, generator):
        starts = [
            int(torch.randint(size - length + 1, (), generator=generator)) for size, length in ((h, high), (w, wide))
        ]
        return starts[0] + high // 2, starts[1] + wide // 2

    return _cutmix(x, y, alpha, generator, centre=centre)


@wrong("cutmix", says="The start is not clamped: a negative index counts from the other end of the image.")
def box_starts_below_zero(x, y, alpha, generator=None):
    def span(centre, length, size):
        return centre - length // 2, min(centre - length // 2 + length, size)

    return _cutmix(x, y, alpha, generator, span=span)


@wrong("cutmix", says="You blended the images as mixup does; CutMix pastes a box.")
def cutmix_blends(x, y, alpha, generator=None):
    lam, order = _lam(alpha, generator), _order(x, generator)
    return lam * x + (1 - lam) * x[order], y, y[order], lam


@wrong("cutmix", says="The box is filled with zeros: that is Cutout; CutMix pastes another image there.")
def box_is_filled_with_zeros(x, y, alpha, generator=None):
    def paste(x, order, y1, y2, x1, x2):
        mixed = x.clone()
        mixed[:, :, y1:y2, x1:x2] = 0
        return mixed

    return _cutmix(x, y, alpha, generator, paste=paste)


@wrong("cutmix", says="An alpha of 0 or less goes unnoticed; raise a ValueError.")
def cutmix_accepts_any_alpha(x, y, alpha, generator=None):
    return _cutmix(x, y, alpha if alpha > 0 else 1.0, generator)


# ------------------------------------------------------------------------------ R7 EarlyStopping


class _RightSoFar:
    """A right EarlyStopping in pieces; each class below replaces the piece that its author got wrong."""

    def __init__(self, patience, mode="min", min_delta=0.0):
        if patience < 1 or mode not in ("min", "max") or min_delta < 0:
            raise ValueError("a setting is out of range")
        self.patience, self.mode, self.min_delta = patience, mode, min_delta
        self.best = self.best_step = self.state = None
        self.calls = self.waited = 0

    def step(self, value, module):
        value = float(value)
        if self.better(value):
            self.best, self.best_step, self.waited = value, self.calls, 0
            self.state = self.copied(module)
        else:
            self.waited += 1
        self.calls += 1
        return self.over(module)

    def better(self, value):
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta

    def copied(self, module):
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def over(self, module):
        return self.waited >= self.patience

    def restore(self, module):
        if self.state is not None:
            module.load_state_dict(self.state)


@wrong("EarlyStopping", says="state_dict() holds the live tensors, and so does a dict copied from it: clone each one.")
class keeps_live_references(_RightSoFar):
    def copied(self, module):
        return module.state_dict()


@wrong("EarlyStopping", says="The buffers are lost: BatchNorm's running statistics belong to the best state as well.")
class keeps_parameters_only(_RightSoFar):
    def copied(self, module):
        return {name: p.detach().clone() for name, p in module.named_parameters()}

    def restore(self, module):
        if self.state is not None:
            module.load_state_dict(self.state, strict=False)


@wrong("EarlyStopping", says="The counter is not set back when a value is better; patience counts calls *in a row*.")
class counter_is_never_reset(_RightSoFar):
    def step(self, value, module):
        waited = self.waited
        super().step(value, module)
        self.waited = waited + (self.waited > 0)
        return self.over(module)


@wrong("EarlyStopping", says="You stop one call late: the call number `patience` without anything better says stop.")
class stops_one_late(_RightSoFar):
    def over(self, module):
        return self.waited > self.patience


@wrong("EarlyStopping", says="You stop one call early: the call number `patience` without anything better says stop.")
class stops_one_early(_RightSoFar):
    def over(self, module):
        return self.waited >= max(self.patience - 1, 1)


@wrong(
    "EarlyStopping", says="The best weights come back only if stopping fired; a run that ends before needs them too."
)
class restores_only_if_stopped(_RightSoFar):
    def restore(self, module):
        if self.waited >= self.patience:
            super().restore(module)


@wrong("EarlyStopping", says="`step` loads the best weights itself when it stops; the caller decides, with `restore`.")
class restores_by_itself(_RightSoFar):
    def over(self, module):
        if self.waited >= self.patience:
            self.restore(module)
            return True
        return False


@wrong("EarlyStopping", says="NaN counts as better: `not value >= best` is true for NaN.")
class nan_is_better(_RightSoFar):
    def better(self, value):
        if self.best is None:
            return True
        worse = value >= self.best - self.min_delta if self.mode == "min" else value <= self.best + self.min_delta
        return not worse


@wrong("EarlyStopping", says="A NaN that comes first becomes the best, and then nothing is ever better than it.")
class nan_comes_first(_RightSoFar):
    def better(self, value):
        return self.best is None or super().better(value)


@wrong("EarlyStopping", says="NaN is passed over; it is a call without anything better, and uses up patience.")
class nan_does_not_count(_RightSoFar):
    def step(self, value, module):
        if math.isnan(value):
            self.calls += 1
            return self.over(module)
        return super().step(value, module)


@wrong("EarlyStopping", says="A value better by just min_delta counts as better; it must be better by more.")
class equal_to_the_margin_is_better(_RightSoFar):
    def better(self, value):
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value <= self.best - self.min_delta if self.mode == "min" else value >= self.best + self.min_delta


@wrong("EarlyStopping", says="min_delta is ignored: smaller improvements than that reset the patience.")
class margin_is_ignored(_RightSoFar):
    def better(self, value):
        if math.isnan(value):
            return False
        return self.best is None or (value < self.best if self.mode == "min" else value > self.best)


@wrong("EarlyStopping", says="min_delta has the wrong sign: values that are slightly worse count as better.")
class margin_forgives(_RightSoFar):
    def better(self, value):
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best + self.min_delta if self.mode == "min" else value > self.best - self.min_delta


@wrong("EarlyStopping", says="mode is ignored: with `max`, large values are good.")
class mode_is_ignored(_RightSoFar):
    def better(self, value):
        if math.isnan(value):
            return False
        return self.best is None or value < self.best - self.min_delta


@wrong("EarlyStopping", says="With mode `max` the best starts at 0, so that values below 0 never count.")
class maximum_starts_at_zero(_RightSoFar):
    def better(self, value):
        if self.mode == "max" and self.best is None:
            return value > self.min_delta
        return super().better(value)


@wrong("EarlyStopping", says="You compare with the value before; compare with the best one.")
class compares_with_the_last_value(_RightSoFar):
    last = None

    def step(self, value, module):
        best, self.best = self.best, self.last
        better = self.better(float(value))
        self.best, self.last = best, float(value)
        if better:
            self.best, self.best_step, self.waited = float(value), self.calls, 0
            self.state = self.copied(module)
        else:
            self.waited += 1
        self.calls += 1
        return self.over(module)


@wrong("EarlyStopping", says="Small steps add up unseen: you moved the best without calling it better.")
class best_moves_without_the_margin(_RightSoFar):
    def step(self, value, module):
        stop = super().step(value, module)
        if self.best is not None and not math.isnan(float(value)):
            pick = min if self.mode == "min" else max
            self.best = pick(self.best, float(value))
        return stop


@wrong("EarlyStopping", says="best_step counts from 1; the first call of step has the number 0.")
class steps_count_from_one(_RightSoFar):
    def step(self, value, module):
        self.calls = self.calls or 1
        return super().step(value, module)


@wrong("EarlyStopping", says="The kept weights are those of every call; copy them only when the value is better.")
class keeps_the_last_weights(_RightSoFar):
    def step(self, value, module):
        stop = super().step(value, module)
        self.state = self.copied(module) if self.best is not None else None
        return stop


@wrong("EarlyStopping", says="restore puts new tensors into the module; copy into the old ones, which others hold.")
class restore_replaces_the_memory(_RightSoFar):
    def restore(self, module):
        if self.state is not None:
            module.load_state_dict({name: tensor.clone() for name, tensor in self.state.items()}, assign=True)


@wrong("EarlyStopping", says="restore hands the kept tensors themselves to the module, so later training changes them.")
class restore_gives_the_copy_away(_RightSoFar):
    def restore(self, module):
        if self.state is not None:
            module.load_state_dict(self.state, assign=True)


@wrong("EarlyStopping", says="Before there is a best value restore has nothing to load, and must do nothing.")
class restore_without_a_best(_RightSoFar):
    def restore(self, module):
        module.load_state_dict(self.state)


@wrong("EarlyStopping", says="Impossible settings go unnoticed: raise a ValueError for patience, mode and min_delta.")
class settings_are_not_checked(_RightSoFar):
    def __init__(self, patience, mode="min", min_delta=0.0):
        super().__init__(max(patience, 1), mode if mode in ("min", "max") else "min", max(min_delta, 0.0))


# ------------------------------------------------------------------------------ R8 bootstrap_loss


def _bootstrap(logits, targets, beta, mode, *, own=None, given=None, log_q=None, reduce=None):
    """A right bootstrap_loss in pieces; each wrong answer below replaces the piece that its author got wrong."""
    if not 0 <= beta <= 1 or mode not in ("soft", "hard"):
        raise ValueError("a setting is out of range")
    k = logits.shape[1]
    label = F.one_hot(targets, k).to(logits.dtype) * (beta if given is None else given)
    if own is not None:
        believed = own(logits, mode, k)
    elif mode == "soft":
        believed = logits.softmax(1)
    else:
        believed = F.one_hot(logits.argmax(1), k).to(logits.dtype)
    log_q = F.log_softmax(logits, dim=1) if log_q is None else log_q(logits)
    rows = -((label + (1 - beta) * believed) * log_q)
    return reduce(rows) if reduce else rows.sum(1).mean()


@wrong("bootstrap_loss", says="beta and 1 − beta are swapped: beta is the trust in the given label.")
def beta_is_swapped(logits, targets, beta, mode):
    return _bootstrap(logits, targets, 1 - beta, mode)


@wrong("bootstrap_loss", says="Soft targets are probabilities; you used the logits.")
def soft_targets_are_logits(logits, targets, beta, mode):
    def own(logits, mode, k):
        return logits if mode == "soft" else F.one_hot(logits.argmax(1), k).to(logits.dtype)

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong("bootstrap_loss", says="Soft targets are probabilities; you used their logarithms.")
def soft_targets_are_logarithms(logits, targets, beta, mode):
    def own(logits, mode, k):
        return F.log_softmax(logits, 1) if mode == "soft" else F.one_hot(logits.argmax(1), k).to(logits.dtype)

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong("bootstrap_loss", says="Hard pseudo-labels carry gradient here: the one-hot of the argmax is a constant.")
def hard_labels_carry_gradient(logits, targets, beta, mode):
    def own(logits, mode, k):
        q = logits.softmax(1)
        if mode == "soft":
            return q
        return F.one_hot(logits.argmax(1), k).to(logits.dtype) + q - q.detach()  # straight-through

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong("bootstrap_loss", says="In hard mode the target is q's largest value, not the one-hot of its class.")
def hard_label_is_the_largest_q(logits, targets, beta, mode):
    def own(logits, mode, k):
        q = logits.softmax(1)
        return q if mode == "soft" else F.one_hot(logits.argmax(1), k) * q.max(1, keepdim=True).values

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong(
    "bootstrap_loss",
    says="The soft targets are detached: then their part has no gradient at all, and only the cross entropy is left.",
)
def soft_targets_are_detached(logits, targets, beta, mode):
    def own(logits, mode, k):
        q = logits.detach().softmax(1)
        return q if mode == "soft" else F.one_hot(q.argmax(1), k).to(logits.dtype)

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong("bootstrap_loss", says="The mixed labels add up to 2 − beta: the given label must be multiplied by beta.")
def given_label_keeps_all_its_weight(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, mode, given=1.0)


@wrong("bootstrap_loss", says="The mixed labels add up to 1 + beta: the model's part must be multiplied by 1 − beta.")
def own_label_keeps_all_its_weight(logits, targets, beta, mode):
    loss = _bootstrap(logits, targets, beta, mode)
    return loss + beta * _bootstrap(logits, targets, 0.0, mode)


@wrong("bootstrap_loss", says="You averaged over the classes as well, so the loss is k times too small.")
def bootstrap_averages_over_the_classes(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, mode, reduce=torch.mean)


@wrong("bootstrap_loss", says="You added up the rows; the loss is their mean.")
def bootstrap_sums_over_the_rows(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, mode, reduce=torch.sum)


@wrong("bootstrap_loss", says="soft and hard are swapped: hard takes the one-hot of the largest q.")
def modes_are_swapped(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, {"soft": "hard", "hard": "soft"}.get(mode, mode))


@wrong("bootstrap_loss", says="The entropy has the wrong sign: it must be lowered, so −Σ q · log q is added.")
def raises_the_entropy(logits, targets, beta, mode):
    def own(logits, mode, k):
        return -logits.softmax(1) if mode == "soft" else F.one_hot(logits.argmax(1), k).to(logits.dtype)

    return _bootstrap(logits, targets, beta, mode, own=own)


@wrong("bootstrap_loss", says="log(softmax) underflows to log(0) where logits lie far apart; use log_softmax.")
def bootstrap_log_of_softmax(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, mode, log_q=lambda logits: logits.softmax(1).log())


@wrong("bootstrap_loss", says="A small constant inside the log caps the loss at about 23; use log_softmax.")
def bootstrap_constant_inside_the_log(logits, targets, beta, mode):
    return _bootstrap(logits, targets, beta, mode, log_q=lambda logits: (logits.softmax(1) + 1e-10).log())


@wrong("bootstrap_loss", says="The softmax runs over the batch; it must run over the classes, dim=1.")
def bootstrap_softmax_over_the_batch(logits, targets, beta, mode):
    def own(logits, mode, k):
        return logits.softmax(0) if mode == "soft" else F.one_hot(logits.argmax(1), k).to(logits.dtype)

    return _bootstrap(logits, targets, beta, mode, own=own, log_q=lambda logits: F.log_softmax(logits, dim=0))


@wrong("bootstrap_loss", says="Impossible settings go unnoticed: raise a ValueError for beta and for mode.")
def bootstrap_settings_are_not_checked(logits, targets, beta, mode):
    known = mode if mode in ("soft", "hard") else "hard"
    own = _bootstrap(logits, targets, 0.0, known)
    return beta * F.cross_entropy(logits, targets) + (1 - beta) * own
