"""Reference solutions of lesson 2: dropout, normalisation, penalties, soft labels, mixing, stopping and bootstrapping.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. PyTorch's own version
of an exercise is blocked while that exercise is graded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(x: Tensor, p: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Drop each element of x with probability p, and scale up those that stay.

        training       output = 0             for a dropped element
                       output = x / (1 − p)   for one that stays
        not training   output = x

    So the expected output is x, and nothing needs to be scaled when the model is used ("inverted" dropout). With
    p = 1 everything is dropped, and the output is 0.

    Args:
        x: any shape, also without elements, and any floating dtype.
        p: probability that an element is *dropped*, in [0, 1]. Some texts use p for the probability of staying.
        training: False switches dropout off.
        generator: source of the random numbers, on x's device; None takes PyTorch's global generator.

    Returns:
        A tensor like x; in training, every element of every call has a draw of its own. The gradient for x is 0 where
        an element was dropped and 1 / (1 − p) where it stayed. x keeps its values.

    Raises:
        ValueError: p lies outside [0, 1].

    Source: Srivastava et al. 2014, in the form of `torch.nn.functional.dropout`.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in [0, 1]. Got {p}.")
    if not training:
        return x
    if p == 1:
        return x * 0  # the rule below would compute 0 / 0; a product, so that autograd still knows x
    stays = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * (stays / (1 - p))


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel over the batch, then scale and shift it.

        output = weight · (x − mean) / √(var + eps) + bias          with one of each for every channel

        training       mean and var are those of this batch: over all axes but the channels', n values for each
                       channel, and var divides by n. The running statistics change in place:
                           running_mean ← (1 − momentum) · running_mean + momentum · mean
                           running_var  ← (1 − momentum) · running_var  + momentum · var · n / (n − 1)
        not training   mean and var are the running statistics, which do not change

    Args:
        x: (b, c) features or (b, c, height, width) images, any floating dtype.
        weight: (c,), the scale γ.
        bias: (c,), the shift β.
        running_mean: (c,), changed in place in training.
        running_var: (c,), changed in place in training; it estimates the variance of the *population*, hence n − 1.
        training: which of the two rules holds.
        momentum: share of the *new* statistics. Other libraries give this name to the share of the old ones.
        eps: small constant, added to the variance before the root.

    Returns:
        A tensor like x. In training, gradients flow through mean and var too; the running statistics never ask for
        a gradient.

    Raises:
        ValueError: in training, n < 2: one value has no variance. An image of more than one pixel is enough.

    Source: Ioffe & Szegedy 2015, algorithms 1 and 2; equals `torch.nn.functional.batch_norm`.
    """
    shape = (1, -1, *[1] * (x.dim() - 2))  # one number for each channel, against x
    if training:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        n = x.numel() // x.shape[1]
        if n < 2:
            raise ValueError(f"batch_norm: training needs two values for each channel or more. Got {tuple(x.shape)}.")
        mean, var = x.mean(axes), x.var(axes, correction=0)
        with torch.no_grad():  # else every batch's graph would hang on the statistics, and grow
            running_mean.mul_(1 - momentum).add_(momentum * mean)
            running_var.mul_(1 - momentum).add_(momentum * var * n / (n - 1))
    else:
        mean, var = running_mean, running_var
    normalised = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + eps)
    return weight.reshape(shape) * normalised + bias.reshape(shape)


def layer_norm(x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each sample over its last axes, then scale and shift every feature.

        output = weight · (x − mean) / √(var + eps) + bias

    mean and var are taken over the last `len(normalized_shape)` axes, for each of the other places alone; var
    divides by the number of elements, not by one less.

    Args:
        x: (..., *normalized_shape), any floating dtype; there may be no leading axes, or none of a batch's rows.
        normalized_shape: sizes of the last axes of x, at least one.
        weight: normalized_shape, the scale γ of every feature.
        bias: normalized_shape, the shift β of every feature.
        eps: small constant, added to the variance before the root.

    Returns:
        A tensor like x. Gradients flow through mean and var too. No batch statistics: training and use are the same.

    Source: Ba, Kiros & Hinton 2016; equals `torch.nn.functional.layer_norm`.
    """
    axes = tuple(range(-len(normalized_shape), 0))
    mean = x.mean(axes, keepdim=True)
    var = x.var(axes, correction=0, keepdim=True)
    return weight * (x - mean) / torch.sqrt(var + eps) + bias


def layer_norm_backward(
    grad_output: Tensor, x: Tensor, normalized_shape: tuple[int, ...], weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three gradients of `layer_norm`, computed by hand.

    With s = √(var + eps), x̂ = (x − mean) / s and g = weight · grad_output, and with means over the last axes as in
    `layer_norm`:

        grad_x      = (g − mean(g) − x̂ · mean(g · x̂)) / s
        grad_weight = sum over the leading axes of grad_output · x̂
        grad_bias   = sum over the leading axes of grad_output

    Args:
        grad_output: gradient of a loss by the output of `layer_norm`, shaped like x.
        x: the input, (..., *normalized_shape).
        normalized_shape: sizes of the last axes of x.
        weight: normalized_shape.
        eps: as in `layer_norm`.

    Returns:
        (grad_x, grad_weight, grad_bias), in that order, shaped like x, weight and weight. It must work under
        `torch.inference_mode()`, where autograd does not.

    Source: the chain rule on the formula of `layer_norm`; equals the gradients of `torch.nn.functional.layer_norm`.
    """
    axes = tuple(range(-len(normalized_shape), 0))
    mean = x.mean(axes, keepdim=True)
    s = torch.sqrt(x.var(axes, correction=0, keepdim=True) + eps)
    x_hat = (x - mean) / s
    g = weight * grad_output
    # What is left of g has mean 0, and no part along x̂: moving or stretching x changes nothing.
    grad_x = (g - g.mean(axes, keepdim=True) - x_hat * (g * x_hat).mean(axes, keepdim=True)) / s
    rows = (-1, *normalized_shape)  # a row also where there is no leading axis: sum(()) would add up everything
    grad_weight = (grad_output * x_hat).reshape(rows).sum(0)
    return grad_x, grad_weight, grad_output.reshape(rows).sum(0)


def l1_l2_penalty(named_params: Iterable[tuple[str, Tensor]], l1: float, l2: float) -> Tensor:
    """Return the penalty on a model's weights, to be added to the loss.

        penalty = l1 · Σ |w| + l2 · Σ w²          over all elements of all weights

    Weights are the parameters with at least two axes whose name does not end in `bias`. So biases and both
    parameters of a norm layer (one axis each) are left out, and so is `attention.bias` of shape (h, s). It is
    the part of the name after its last dot that counts: `bias.weight` is a weight.

    Args:
        named_params: pairs (name, parameter), as a list or as an iterator that can be walked once, such as
            `model.named_parameters()`.
        l1: strength of the L1 part, at least 0.
        l2: strength of the L2 part, at least 0. There is no ½: the gradient of the L2 part is 2 · l2 · w.

    Returns:
        The penalty, shape (), with the weights' dtype; its gradient reaches every weight. Zero of shape () where
        there is no weight at all.

    Source: Tibshirani 1996 (L1); Krogh & Hertz 1992 (L2).
    """
    weights = [w for name, w in named_params if w.dim() >= 2 and name.rpartition(".")[2] != "bias"]
    if not weights:
        return torch.zeros(())
    return torch.stack([l1 * w.abs().sum() + l2 * w.square().sum() for w in weights]).sum()


def soft_threshold(w: Tensor, threshold: float) -> Tensor:
    """Move every element towards zero by `threshold`, and stop there: the proximal step of the L1 penalty.

        output = sign(w) · max(|w| − threshold, 0)

    It is the z that minimises ½ · (z − w)² + threshold · |z|. After a gradient step with rate lr on the loss alone,
    a call with threshold lr · l1 is what the L1 penalty adds: small weights become exactly zero, and stay there.

    Args:
        w: any shape and any floating dtype.
        threshold: at least 0.

    Returns:
        A new tensor like w; w keeps its values.

    Raises:
        ValueError: threshold < 0.

    Source: Daubechies, Defrise & De Mol 2004 (ISTA); equals `torch.nn.functional.softshrink`.
    """
    if threshold < 0:
        raise ValueError(f"soft_threshold: threshold must be at least 0. Got {threshold}.")
    return w.sign() * (w.abs() - threshold).clamp(min=0)


def smooth_ce(
    logits: Tensor, targets: Tensor, smoothing: float, ignore_index: int = -100, weight: Tensor | None = None
) -> Tensor:
    """Return the cross entropy against smoothed labels, averaged over the rows that count.

    With ε = smoothing, k classes, log p the log-softmax of a row, y its class and w_c the weight of class c:

        row loss = (1 − ε) · w_y · (−log p_y) + ε / k · Σ_c w_c · (−log p_c)
        loss     = Σ row losses / Σ w_y          both sums over the rows whose y is not `ignore_index`

    Without weights every w is 1, and the loss is the mean over the rows that count. The smoothed label is 1 − ε + ε / k
    at y and ε / k everywhere else.

    Args:
        logits: (b, k), any floating dtype; they may be as large as ±10,000, and differ as much between rows.
        targets: (b,) class numbers from 0 to k − 1, or `ignore_index`; at least one row counts.
        smoothing: ε in [0, 1].
        ignore_index: rows with this target are passed over; it may be any number, also that of a class.
        weight: (k,) weights of the classes, with the dtype of the logits; None is 1 for all.

    Returns:
        The loss in nats, shape ().

    Source: Szegedy et al. 2016, section 7; equals `torch.nn.functional.cross_entropy(label_smoothing=ε)`.
    """
    counts = targets != ignore_index
    logits, targets = logits[counts], targets[counts]
    _, k = logits.shape
    w = logits.new_ones(k) if weight is None else weight
    log_p = F.log_softmax(logits, dim=1)  # never log(softmax): far from the largest logit that is log(0)
    of_labels = F.nll_loss(log_p, targets, weight=w, reduction="sum")
    of_all = -(w * log_p).sum() / k
    return ((1 - smoothing) * of_labels + smoothing * of_all) / w[targets].sum()


def mixup(
    x: Tensor, y: Tensor, alpha: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Blend every input with another one of the batch.

        λ  ~ Beta(alpha, alpha), one for the batch
        π  = a random permutation of the batch
        x' = λ · x + (1 − λ) · x[π]

    Train with λ · loss(x', y) + (1 − λ) · loss(x', y[π]): the labels are never averaged, since class 1 is not halfway
    between class 0 and class 2.

    PyTorch's distributions take no generator. But Beta(alpha, alpha) is g₁ / (g₁ + g₂) of two independent Gamma draws,
    and `torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)` gives those. (In
    float32, with an alpha near 0, both would often round to the smallest number there is, and λ would be ½.)

    Args:
        x: (b, ...), any floating dtype.
        y: (b,) class numbers.
        alpha: above 0. Near 0, λ is close to 0 or 1; at 1 it is uniform.
        generator: source of all random numbers, on the CPU wherever x lies, so that a GPU is not waited for; None takes
            PyTorch's global generator.

    Returns:
        (x', y, y[π], λ), in that order: x' is new memory with x's dtype, λ a Python float. x and y keep their values.

    Raises:
        ValueError: alpha ≤ 0.

    Source: Zhang, Cisse, Dauphin & Lopez-Paz 2018.
    """
    if alpha <= 0:
        raise ValueError(f"mixup: alpha must be above 0. Got {alpha}.")
    lam = _beta_draw(alpha, generator)
    partners = torch.randperm(len(x), generator=generator).to(x.device)
    return lam * x + (1 - lam) * x[partners], y, y[partners], lam


def cutmix(
    x: Tensor, y: Tensor, alpha: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Paste a box of another image of the batch into every image.

        λ₀    ~ Beta(alpha, alpha)                                     see `mixup` for how to draw it
        π     = a random permutation of the batch
        box   = ⌊height · √(1 − λ₀)⌋ rows and ⌊width · √(1 − λ₀)⌋ columns around a centre that is uniform over the
                pixels; what reaches beyond the image is cut off
        x'    = x[π] inside the box, x outside
        λ     = 1 − (rows · columns of the box that is left) / (height · width)

    One λ₀, one box and one π serve the whole batch. A box of side s around the pixel c begins at c − ⌊s / 2⌋ and ends
    before c − ⌊s / 2⌋ + s. λ is the share of x that is really there, which is not λ₀ where the border cut the box.

    Args:
        x: (b, c, height, width) images, any floating dtype.
        y: (b,) class numbers.
        alpha: above 0.
        generator: as in `mixup`.

    Returns:
        (x', y, y[π], λ), in that order: x' is new memory, λ a Python float. x and y keep their values.

    Raises:
        ValueError: alpha ≤ 0.

    Source: Yun et al. 2019, section 3.1, with λ set to the box that is left, as in the authors' code.
    """
    if alpha <= 0:
        raise ValueError(f"cutmix: alpha must be above 0. Got {alpha}.")
    side = math.sqrt(1 - _beta_draw(alpha, generator))  # of the box, as a share: its area is what is replaced
    partners = torch.randperm(len(x), generator=generator).to(x.device)
    _, _, height, width = x.shape
    spans = []
    for size in (height, width):
        length = int(size * side)
        start = int(torch.randint(size, (), generator=generator)) - length // 2
        spans.append(slice(max(start, 0), min(start + length, size)))
    rows, columns = spans
    mixed = x.clone()
    mixed[:, :, rows, columns] = x[partners][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, y, y[partners], 1 - area / (height * width)


def _beta_draw(alpha: float, generator: torch.Generator | None) -> float:
    """Draw from Beta(alpha, alpha)."""
    alphas = torch.full((2,), alpha, dtype=torch.float64)  # float32 would round both draws to one number near alpha 0
    first, second = torch._standard_gamma(alphas, generator=generator).tolist()  # pyright: ignore[reportPrivateImportUsage]
    return first / (first + second)


class EarlyStopping:
    """Watch a validation value, keep the best weights, and say when to stop.

        stopper = EarlyStopping(patience=5)
        for epoch in range(epochs):
            train(model)
            if stopper.step(validation_loss(model), model):
                break
        stopper.restore(model)

    Args:
        patience: how many calls in a row may bring nothing better; the last of them says stop. At least 1.
        mode: "min" where small values are good (a loss), "max" where large ones are (accuracy).
        min_delta: how much better a value must be, at least 0. "min" asks for value < best − min_delta, "max" for
            value > best + min_delta: strictly, so that with min_delta = 0 a tie is nothing better.

    Attributes:
        best: the best value so far, a float; None before there is one.
        best_step: number of the `step` call that brought it, counted from 0; None before there is one.

    Raises:
        ValueError: patience < 1, another mode, or min_delta < 0.

    Source: Prechelt 1998 (the idea and its criteria); patience counts as in Keras and Lightning.
    """

    def __init__(self, patience: int, mode: str = "min", min_delta: float = 0.0) -> None:
        """Take the settings; nothing is known yet."""
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1. Got {patience}.")
        if mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: mode must be min or max. Got {mode!r}.")
        if min_delta < 0:
            raise ValueError(f"EarlyStopping: min_delta must be at least 0. Got {min_delta}.")
        self.best: float | None = None
        self.best_step: int | None = None
        self._patience = patience
        self._sign = 1 if mode == "max" else -1
        self._min_delta = min_delta
        self._calls = 0
        self._waited = 0
        self._state: dict[str, Tensor] | None = None

    def step(self, value: float | Tensor, module: nn.Module) -> bool:
        """Take the value of one validation, and the module as it is now.

        The first value that is a number is the best one so far; each later one is compared with the best. A better one
        becomes the best, and all parameters *and buffers* of the module are copied. NaN is never better: it counts as
        one call without anything better.

        Args:
            value: a number, or a tensor of shape ().
            module: anything with a `state_dict`; it does not change.

        Returns:
            True to stop: this call and the patience − 1 before it brought nothing better. The first calls count too,
            where they are NaN. If you go on all the same, the rule goes on with you.
        """
        value = float(value)
        if self.best is None:
            better = not math.isnan(value)
        else:
            better = self._sign * (value - self.best) > self._min_delta  # False for NaN, as every comparison
        self._calls += 1
        self._waited += 1
        if better:
            self.best, self.best_step, self._waited = value, self._calls - 1, 0
            # Clones: the state_dict holds the live weights, which the next step of training changes.
            self._state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        return self._waited >= self._patience

    def restore(self, module: nn.Module) -> None:
        """Copy the best parameters and buffers back into the module, in place, whether or not stopping fired.

        It may be called again later, with more training in between. Before there is a best value it does nothing.

        Args:
            module: the one that `step` saw, or another of the same make.
        """
        if self._state is not None:
            module.load_state_dict(self._state)


def bootstrap_loss(logits: Tensor, targets: Tensor, beta: float, mode: str) -> Tensor:
    """Return the cross entropy against labels that are corrected by what the model itself believes.

    With q the softmax of a row's logits and t its one-hot label:

        soft   row loss = −Σ_c (beta · t_c + (1 − beta) · q_c) · log q_c
        hard   row loss = −Σ_c (beta · t_c + (1 − beta) · z_c) · log q_c          z = one-hot of the largest q
        loss   = mean of the row losses

    In `soft` mode the gradient flows through *both* q: that lowers the entropy of the prediction. With the first q held
    fixed, the second part would have no gradient at all, since Σ_c q_c · ∂ log q_c = ∂ Σ_c q_c = 0. In `hard` mode z is
    a constant; the first of several largest q counts.

    Args:
        logits: (b, k), b ≥ 1, any floating dtype; they may be as large as ±10,000.
        targets: (b,) class numbers, some of them perhaps wrong.
        beta: trust in the given label, in [0, 1]; 1 is the ordinary cross entropy.
        mode: "soft" or "hard".

    Returns:
        The loss in nats, shape ().

    Raises:
        ValueError: beta lies outside [0, 1], or mode is neither.

    Source: Reed et al. 2015, soft and hard bootstrapping; they use beta 0.95 (soft) and 0.8 (hard).
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"bootstrap_loss: beta must lie in [0, 1]. Got {beta}.")
    if mode not in ("soft", "hard"):
        raise ValueError(f"bootstrap_loss: mode must be soft or hard. Got {mode!r}.")
    own = logits.softmax(dim=1) if mode == "soft" else logits.argmax(dim=1)  # probabilities, or class numbers
    return beta * F.cross_entropy(logits, targets) + (1 - beta) * F.cross_entropy(logits, own)
