"""Typical wrong answers, each with the one sentence its author needs, and dialects, which pass with a note.

They prove the checks (each must fail, and be recognised as itself) and name the mistake for the learner. They are
written as learners write them: short, plausible, and wrong in one thing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from coursekit.grading.answers import dialect, wrong

# -------------------------------------------------------------------------------------- A1 softmax


@wrong("softmax", says="You did not subtract the maximum: exp overflows at scores of a few hundred.")
def without_the_maximum(x, dim):
    weights = x.exp()
    return weights / weights.sum(dim, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


@wrong("softmax", says="You subtracted one maximum of the whole tensor: rows far below it underflow to zeros or NaN.")
def one_maximum_for_all(x, dim):
    top = x.max() if x.numel() else x.new_zeros(())
    weights = (x - torch.where(top == -math.inf, 0, top)).exp()
    total = weights.sum(dim, keepdim=True)
    return weights / torch.where(total == 0, 1, total)


@wrong("softmax", says="You ignored `dim`: the weights sum to 1 along the last axis, whatever was asked.")
def always_the_last_axis(x, dim):
    top = x.amax(-1, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)


@wrong("softmax", says="Your weights sum to 1 over the whole tensor; they should along `dim`, in each slice.")
def sums_over_everything(x, dim):
    top = x.amax(dim, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / weights.sum().clamp(min=1)


@wrong("softmax", says="div_ in place overwrote what exp had kept for its gradient, so backward fails; use /.")
def divides_in_place(x, dim):
    top = x.amax(dim, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    total = weights.sum(dim, keepdim=True).clamp(min=1)
    return weights.div_(total)


@wrong("softmax", says="You subtracted the maximum from the caller's x in place; make a new tensor.")
def changes_the_scores(x, dim):
    if x.requires_grad:
        x = x.clone()
    top = x.amax(dim, keepdim=True)
    x -= top.masked_fill(top == -math.inf, 0)
    weights = x.exp()
    return weights / weights.sum(dim, keepdim=True).clamp(min=1)


@wrong("softmax", says="You computed in float32 and left the result so: the result should have the dtype of x.")
def softmax_in_float32(x, dim):
    x = x.float()
    top = x.amax(dim, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / weights.sum(dim, keepdim=True).clamp(min=1)


@wrong("softmax", says="A slice of nothing but −inf became NaN; the docstring asks for zeros there.")
def nan_where_nothing_is_left(x, dim):
    weights = (x - x.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)


@wrong("softmax", says="A slice of nothing but −inf became uniform; the docstring asks for zeros there.")
def uniform_where_nothing_is_left(x, dim):
    x = x.clamp(min=-0.5 * torch.finfo(x.dtype).max)
    weights = (x - x.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)


@wrong("softmax", says="nan_to_num mends the values of a hidden slice; its gradients are still NaN. Avoid the NaN.")
def gradient_is_nan_where_nothing_is_left(x, dim):
    weights = (x - x.amax(dim, keepdim=True)).exp()
    return torch.nan_to_num(weights / weights.sum(dim, keepdim=True))


@wrong("softmax", says="The small number in your denominator makes every weight too small; a maximum is safe without.")
def epsilon_in_the_denominator(x, dim):
    top = x.amax(dim, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / (weights.sum(dim, keepdim=True) + 1e-6)


@wrong("softmax", says="You returned the logarithm of the weights.")
def returns_the_logarithm(x, dim):
    top = x.amax(dim, keepdim=True)
    shifted = x - top.masked_fill(top == -math.inf, 0)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


@wrong("softmax", says="The sum lost its axis; keepdim=True keeps it, so that it divides the right slices.")
def sum_without_keepdim(x, dim):
    top = x.amax(dim, keepdim=True)
    weights = (x - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / weights.sum(dim).clamp(min=1)


# ----------------------------------------------------------------------------------------- A2 sdpa


def _weights(scores):
    """Return softmax over the last axis, with zeros where all is −inf."""
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top.masked_fill(top == -math.inf, 0)).exp()
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)


def _masked(scores, mask):
    """Return scores with −inf where a mask hides them; a floating mask is added."""
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def _default(scale, q):
    return q.shape[-1] ** -0.5 if scale is None else scale


@wrong("sdpa", says="Your mask is inverted: True means attend here, unlike in nn.MultiheadAttention's own masks.")
def mask_is_inverted(q, k, v, mask=None, scale=None):
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask
    return _weights(_masked(q @ k.mT * _default(scale, q), mask)) @ v


@wrong("sdpa", says="You did not divide the scores by √d.")
def without_the_scale(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * (1.0 if scale is None else scale), mask)) @ v


@wrong("sdpa", says="You divided the scores by d; it is √d.")
def divides_by_the_width(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * (1 / q.shape[-1] if scale is None else scale), mask)) @ v


@wrong("sdpa", says="You divided by the root of the number of keys; √d is that of the features of a key.")
def divides_by_the_length(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * (k.shape[-2] ** -0.5 if scale is None else scale), mask)) @ v


@wrong("sdpa", says="You divided by the root of the *value's* width; √d belongs to queries and keys.")
def divides_by_the_width_of_the_values(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * (v.shape[-1] ** -0.5 if scale is None else scale), mask)) @ v


@wrong("sdpa", says="`scale` is ignored: None takes 1 / √d, and any other number is to be used.")
def scale_is_ignored(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * q.shape[-1] ** -0.5, mask)) @ v


@wrong("sdpa", says="`scale or default` takes the default for 0 too; ask whether scale is None.")
def scale_of_zero_is_ignored(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * (scale or q.shape[-1] ** -0.5), mask)) @ v


@wrong("sdpa", says="A scale that is given replaces 1 / √d; you multiplied both.")
def scaled_twice(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * q.shape[-1] ** -0.5 * (1.0 if scale is None else scale), mask)) @ v


@wrong("sdpa", says="Your softmax runs over the queries; each query's weights over the *keys* must sum to 1.")
def softmax_over_the_queries(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.mT * _default(scale, q), mask).mT).mT @ v


@wrong("sdpa", says="You masked after the softmax, so the weights that are left do not sum to 1; mask the scores.")
def masks_after_the_softmax(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    if mask is not None and mask.is_floating_point():
        return _weights(scores + mask) @ v
    weights = _weights(scores)
    return (weights if mask is None else weights * mask) @ v


@wrong("sdpa", says="You multiplied the scores by the mask: a hidden score became 0, and exp(0) is not nothing.")
def hidden_scores_are_zero(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    if mask is not None and mask.dtype == torch.bool:
        return _weights(scores * mask) @ v
    return _weights(_masked(scores, mask)) @ v


@wrong("sdpa", says="A query that sees nothing became NaN; the docstring asks for zeros.")
def nan_where_nothing_is_seen(q, k, v, mask=None, scale=None):
    return torch.softmax(_masked(q @ k.mT * _default(scale, q), mask), -1) @ v


@wrong("sdpa", says="With −1e9 for −inf a query that sees nothing takes the mean of all values; it should get zeros.")
def mean_where_nothing_is_seen(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9) if mask.dtype == torch.bool else (scores + mask).clamp(min=-1e9)
    return torch.softmax(scores, -1) @ v


@wrong("sdpa", says="nan_to_num at the end mends the values and not the gradients, which stay NaN.")
def gradient_is_nan_where_nothing_is_seen(q, k, v, mask=None, scale=None):
    return torch.nan_to_num(torch.softmax(_masked(q @ k.mT * _default(scale, q), mask), -1)) @ v


@wrong("sdpa", says="mask=None hides nothing; yours silently became causal.")
def causal_without_a_mask(q, k, v, mask=None, scale=None):
    if mask is None:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return _weights(_masked(q @ k.mT * _default(scale, q), mask)) @ v


@wrong("sdpa", says="mask=None must work, and hide nothing.")
def needs_a_mask(q, k, v, mask=None, scale=None):
    return _weights((q @ k.mT * _default(scale, q)).masked_fill(mask == False, -math.inf)) @ v  # noqa: E712


@wrong("sdpa", says="Indexing with the mask needs one of full shape; masked_fill and torch.where broadcast.")
def mask_must_have_the_full_shape(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.clone()
        scores[..., ~mask] = -math.inf
        mask = None
    return _weights(_masked(scores, mask)) @ v


@wrong("sdpa", says="A floating mask is added to the scores; you took every number that is not 0 for True.")
def floating_mask_is_a_condition(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    return _weights(scores if mask is None else scores.masked_fill(mask == 0, -math.inf)) @ v


@wrong("sdpa", says="A boolean mask was added to the scores, as 0 and 1; what is hidden must become −inf.")
def boolean_mask_is_added(q, k, v, mask=None, scale=None):
    scores = q @ k.mT * _default(scale, q)
    return _weights(scores if mask is None else scores + mask) @ v


@wrong("sdpa", says="The mask lies on other scores: it was transposed.")
def mask_is_transposed(q, k, v, mask=None, scale=None):
    if mask is not None and mask.dim() > 1 and mask.shape[-1] > 1 and mask.shape[-2] > 1:
        mask = mask.mT.reshape(mask.shape)
    return _weights(_masked(q @ k.mT * _default(scale, q), mask)) @ v


@wrong("sdpa", says="k.T turns all axes around; with a batch only the last two are to be swapped, as in k.mT.")
def turns_all_axes_around(q, k, v, mask=None, scale=None):
    return _weights(_masked(q @ k.permute(*reversed(range(k.dim()))) * _default(scale, q), mask)) @ v


@wrong("sdpa", says="exp of the bare scores overflows; subtract each row's maximum, or let torch.softmax do it.")
def attends_without_the_maximum(q, k, v, mask=None, scale=None):
    weights = _masked(q @ k.mT * _default(scale, q), mask).exp()
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30) @ v


@wrong("sdpa", says="You computed in float32, so float64 inputs lose precision.")
def attends_in_float32(q, k, v, mask=None, scale=None):
    scores = q.float() @ k.float().mT * _default(scale, q)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    return (_weights(_masked(scores, mask)) @ v.float()).to(q.dtype)


# ---------------------------------------------------------------------------------------- A3 masks


@wrong("causal_mask", says="A token must see itself: the diagonal is missing.")
def cannot_see_itself(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).tril(S - L - 1)


@wrong("causal_mask", says="You kept the future and hid the past: that is the other triangle.")
def keeps_the_future(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).triu(S - L)


@wrong("causal_mask", says="True means attend; yours marks what is hidden.")
def marks_what_is_hidden(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).triu(S - L + 1)


@wrong(
    "causal_mask", says="Where L and S differ the mask is aligned bottom right: the last query stands at the last key."
)
def aligned_top_left(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).tril()


@wrong("causal_mask", says="The diagonal moved the wrong way: it is S − L.")
def moved_the_wrong_way(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).tril(L - S)


@wrong("causal_mask", says="Each query sees one key too many: the one after itself.")
def sees_one_step_ahead(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).tril(S - L + 1)


@wrong("causal_mask", says="Rows are queries and columns keys: yours is transposed.")
def rows_are_keys(L, S, *, device=None):
    return torch.ones(S, L, dtype=torch.bool, device=device).triu(L - S)


@wrong("causal_mask", says="The mask should be boolean; yours holds numbers.")
def mask_of_numbers(L, S, *, device=None):
    return torch.ones(L, S, device=device).tril(S - L)


@wrong("causal_mask", says="That is a mask to be added, with 0 and −inf; True where to attend is asked for.")
def mask_to_be_added(L, S, *, device=None):
    hidden = torch.ones(L, S, dtype=torch.bool, device=device).triu(S - L + 1)
    return torch.zeros(L, S, device=device).masked_fill(hidden, -math.inf)


@wrong("causal_mask", says="The mask stayed on the CPU: hand `device` on to the tensor that you build.")
def causal_on_the_cpu(L, S, *, device=None):
    return torch.ones(L, S, dtype=torch.bool).tril(S - L)


@wrong("padding_mask", says="Padding hides keys: yours hides queries, and the real ones still see the padding.")
def padding_hides_queries(lengths, S):
    return (torch.arange(S, device=lengths.device) < lengths[:, None])[:, None, :, None]


@wrong("padding_mask", says="True means attend; yours is True at the padding.")
def marks_the_padding(lengths, S):
    return (torch.arange(S, device=lengths.device) >= lengths[:, None])[:, None, None]


@wrong("padding_mask", says="One key too many: the first padding is key number `length`, and should be hidden.")
def sees_the_first_padding(lengths, S):
    return (torch.arange(S, device=lengths.device) <= lengths[:, None])[:, None, None]


@wrong("padding_mask", says="The mask needs axes of size 1 for heads and queries: its shape should be (b, 1, 1, S).")
def padding_without_its_axes(lengths, S):
    return torch.arange(S, device=lengths.device) < lengths[:, None]


@wrong("padding_mask", says="One axis is missing: its shape should be (b, 1, 1, S), for heads and queries.")
def padding_with_one_axis(lengths, S):
    return (torch.arange(S, device=lengths.device) < lengths[:, None])[:, None]


@wrong("padding_mask", says="You took the longest length for the number of keys; S may be larger.")
def as_long_as_the_longest(lengths, S):
    longest = int(lengths.max()) if len(lengths) else 0
    return (torch.arange(longest, device=lengths.device) < lengths[:, None])[:, None, None]


@wrong("padding_mask", says="The mask is built on PyTorch's default device; use that of `lengths`.")
def padding_on_the_default_device(lengths, S):
    return (torch.arange(S) < torch.tensor(lengths.tolist(), dtype=lengths.dtype)[:, None])[:, None, None]


# ------------------------------------------------------------------------------------------ A4 mha


def _split(y, h):
    return y.unflatten(-1, (h, -1)).transpose(-3, -2)


def _merge(y):
    return y.transpose(-3, -2).flatten(-2)


def _check(Wq, h):
    if Wq.shape[0] % h:
        raise ValueError(f"{Wq.shape[0]} is no multiple of {h}")


def _attend(q, k, v, mask, scale=None):
    return _weights(_masked(q @ k.mT * _default(scale, q), mask)) @ v


def _dropped_attend(q, k, v, mask, dropout, training):
    return F.dropout(_weights(_masked(q @ k.mT * _default(None, q), mask)), dropout, training) @ v


@wrong("mha", says="Your split into (b, h, L, d/h) mixes steps with features: view (b, L, h, d/h), then transpose.")
def heads_by_view_alone(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = (y.reshape(y.shape[0], h, y.shape[1], y.shape[2] // h) for y in (x @ Wq.mT, ctx @ Wk.mT, ctx @ Wv.mT))
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The heads were merged without moving their axis back behind the steps; transpose first.")
def merged_without_transposing(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    out = _dropped_attend(q, k, v, mask, dropout, training)
    return out.reshape(x.shape[0], x.shape[1], Wq.shape[0]) @ Wo.mT


@wrong("mha", says="A head takes d/h *neighbouring* features; yours takes every h-th.")
def heads_are_interleaved(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = (y.unflatten(-1, (-1, h)).movedim(-1, 1) for y in (x @ Wq.mT, ctx @ Wk.mT, ctx @ Wv.mT))
    out = _dropped_attend(q, k, v, mask, dropout, training)
    return out.movedim(1, -1).flatten(-2) @ Wo.mT


@wrong("mha", says="The result must have the length of x: you reshaped it to the length of ctx.")
def as_long_as_the_context(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    out = _dropped_attend(q, k, v, mask, dropout, training).transpose(1, 2)
    return out.reshape(ctx.shape[0], ctx.shape[1], Wq.shape[0]) @ Wo.mT


@wrong("mha", says="Keys and values come from ctx; you computed them from x.")
def ignores_the_context(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(x @ Wk.mT, h), _split(x @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="x asks and ctx answers; you swapped them.")
def context_asks(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(ctx @ Wq.mT, h), _split(x @ Wk.mT, h), _split(x @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The values were made with the keys' weights; they have their own, Wv.")
def values_are_the_keys(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h)
    return _merge(_dropped_attend(q, k, k, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="Dropout acts although `training` is False.")
def dropout_in_evaluation(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, True)) @ Wo.mT


@wrong("mha", says="`dropout` never acts: in training each weight is dropped with this probability.")
def dropout_never_acts(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_attend(q, k, v, mask)) @ Wo.mT


@wrong("mha", says="`dropout` is the probability of *dropping* a weight; you keep with it.")
def dropout_keeps(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, 1 - dropout, training)) @ Wo.mT


@wrong("mha", says="Dropout belongs on the weights, before they meet the values; you dropped features of the result.")
def dropout_on_the_result(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    keep = F.dropout(torch.ones_like(x[:, :, :1]), dropout, training)
    return keep * (_merge(_attend(q, k, v, mask)) @ Wo.mT)


@wrong("mha", says="Divide by the root of the width of a *head*, d/h; you took that of the model.")
def scaled_by_the_model(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    q = q * (q.shape[-1] / Wq.shape[0]) ** 0.5
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The scores were not scaled: divide them by the root of the width of a head.")
def heads_without_the_scale(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q * q.shape[-1] ** 0.5, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The weights are (out, in), as in nn.Linear: the features meet them transposed.")
def weights_are_not_transposed(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq, h), _split(ctx @ Wk, h), _split(ctx @ Wv, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo


@wrong("mha", says="The last projection, Wo, is missing.")
def without_the_last_projection(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training))


@wrong("mha", says="A tensor that you built stayed on the CPU, so this fails on a GPU; give it x's device and dtype.")
def a_constant_on_the_cpu(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    if mask is None:
        mask = torch.ones(x.shape[1], ctx.shape[1], dtype=torch.bool)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The mask's heads are in the wrong order: folded into the batch, head i of sequence b is b · h + i.")
def mask_repeats_in_the_wrong_order(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = (_split(y, h).flatten(0, 1) for y in (x @ Wq.mT, ctx @ Wk.mT, ctx @ Wv.mT))
    if mask is not None:
        full = mask.expand(x.shape[0], h, x.shape[1], ctx.shape[1])
        mask = full.transpose(0, 1).reshape(-1, x.shape[1], ctx.shape[1])
    out = _dropped_attend(q, k, v, mask, dropout, training)
    return _merge(out.unflatten(0, (x.shape[0], h))) @ Wo.mT


@wrong("mha", says="Your mask is inverted: True means attend here.")
def heads_with_an_inverted_mask(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, None if mask is None else ~mask, dropout, training)) @ Wo.mT


@wrong("mha", says="The mask never reached the scores.")
def heads_without_the_mask(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, None, dropout, training)) @ Wo.mT


@wrong("mha", says="A query that sees nothing became NaN; it should get zeros.")
def heads_with_nan_where_nothing_is_seen(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    _check(Wq, h)
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    weights = torch.softmax(_masked(q @ k.mT * _default(None, q), mask), -1)
    return _merge(F.dropout(weights, dropout, training) @ v) @ Wo.mT


@wrong("mha", says="A number of heads that does not divide d must raise a ValueError, and not another error.")
def odd_heads_are_not_refused(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    q, k, v = _split(x @ Wq.mT, h), _split(ctx @ Wk.mT, h), _split(ctx @ Wv.mT, h)
    return _merge(_dropped_attend(q, k, v, mask, dropout, training)) @ Wo.mT


# ------------------------------------------------------------------------------------ A5 positions


def _table(L, d, device, exponent):
    """Return angles (L, d), of each position and feature."""
    if d % 2:
        raise ValueError("d must be even")
    rate = 10000.0 ** (-exponent(torch.arange(d, device=device)) / d)
    return torch.arange(L, device=device)[:, None] * rate


def _alternate(angle):
    even = torch.arange(angle.shape[-1], device=angle.device) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos())


@wrong(
    "sinusoidal", says="The exponent belongs to the pair: features 2i and 2i + 1 share 2i/d; yours runs on with j/d."
)
def one_frequency_for_each_feature(L, d, *, device=None):
    return _alternate(_table(L, d, device, lambda j: j))


@wrong("sinusoidal", says="The exponent of pair i is 2i/d; you left out the 2.")
def half_the_exponent(L, d, *, device=None):
    return _alternate(_table(L, d, device, lambda j: j // 2))


@wrong("sinusoidal", says="Whole-number division truncated the exponents to 0, so all frequencies are 1.")
def integer_frequencies(L, d, *, device=None):
    if d % 2:
        raise ValueError("d must be even")
    exponent = torch.arange(0, d, 2, device=device) // d
    angle = torch.arange(L, device=device)[:, None] * 10000.0**-exponent
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


@wrong("sinusoidal", says="Sine belongs to the even features and cosine to the odd ones; you swapped them.")
def sine_and_cosine_swapped(L, d, *, device=None):
    angle = _table(L, d, device, lambda j: j // 2 * 2)
    return torch.where(torch.arange(d, device=device) % 2 == 1, angle.sin(), angle.cos())


@wrong("sinusoidal", says="Positions begin at 0; yours begin at 1.")
def positions_from_one(L, d, *, device=None):
    return _alternate(_table(L + 1, d, device, lambda j: j // 2 * 2))[1:]


@wrong("sinusoidal", says="Frequencies fall from feature to feature: the exponent is negative.")
def frequencies_grow(L, d, *, device=None):
    return _alternate(_table(L, d, device, lambda j: -(j // 2 * 2)))


@wrong("sinusoidal", says="An odd d must raise a ValueError.")
def odd_widths_are_cut(L, d, *, device=None):
    return _alternate(_table(L, d + d % 2, device, lambda j: j // 2 * 2))[:, :d]


@wrong("sinusoidal", says="The code stayed on the CPU: hand `device` on to every arange.")
def code_on_the_cpu(L, d, *, device=None):
    return _alternate(_table(L, d, None, lambda j: j // 2 * 2))


@dialect(
    "sinusoidal",
    says="Your sines fill the first half and your cosines the second; the paper's formula has them side by side. "
    "Both are in use, and a model that learns its own weights does as well with either.",
)
def sines_then_cosines(L, d, *, device=None):
    angle = _table(L, d, device, lambda j: j // 2 * 2)
    return torch.cat([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 1)


def _angles(x, pos, base, wide=torch.float32):
    """Return (cos, sin) of the angles (t, d/2) of all pairs."""
    d = x.shape[-1]
    if d % 2:
        raise ValueError("d must be even")
    angle = pos.to(wide)[:, None] * base ** (-torch.arange(0, d, 2, device=x.device).to(wide) / d)
    return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def _turn(x, cos, sin):
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


@wrong("rope", says="The angles were laid out for halves, and the pairs turned as neighbours: choose one layout.")
def layouts_are_mixed(x, pos, base=10000.0):
    cos, sin = (torch.cat([part, part], -1) for part in _angles(x, pos, base))
    swapped = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
    return x * cos + swapped * sin


@wrong("rope", says="The new pairs were put one half behind the other; they must interleave again.")
def halves_are_not_interleaved(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat([even * cos - odd * sin, even * sin + odd * cos], -1)


@wrong("rope", says="`pos` is ignored: you counted 0, 1, 2, ... instead of taking the positions you were given.")
def positions_are_ignored(x, pos, base=10000.0):
    return _turn(x, *_angles(x, torch.arange(x.shape[-2], device=x.device), base))


@wrong("rope", says="`base` is ignored.")
def base_is_ignored(x, pos, base=10000.0):
    return _turn(x, *_angles(x, pos, 10000.0))


@wrong("rope", says="You turned the other way: at position 1 the pair (1, 0) becomes (cos 1, + sin 1).")
def turns_the_other_way(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    return _turn(x, cos, -sin)


@wrong("rope", says="Whole-number division truncated the exponents to 0, so all pairs turn alike.")
def all_pairs_turn_alike(x, pos, base=10000.0):
    _angles(x, pos, base)
    angle = pos.to(x.dtype)[:, None].expand(-1, x.shape[-1] // 2)
    return _turn(x, angle.cos(), angle.sin())


@wrong("rope", says="The exponent of pair i is 2i/d; yours is i/d.")
def turns_with_half_the_exponent(x, pos, base=10000.0):
    return _turn(x, *_angles(x, pos, base**0.5))


@wrong("rope", says="A rotation takes a minus sign in one place: x[2i] · cos − x[2i + 1] · sin.")
def no_rotation_at_all(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos + odd * sin, even * sin + odd * cos], -1).flatten(-2)


@wrong("rope", says="The second of each pair was computed from the first's *new* value; keep the old one.")
def uses_the_new_value(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    even = x[..., 0::2] * cos - x[..., 1::2] * sin
    return torch.stack([even, even * sin + x[..., 1::2] * cos], -1).flatten(-2)


@wrong("rope", says="You overwrote the caller's x; make a new tensor.")
def rotates_in_place(x, pos, base=10000.0):
    turned = _turn(x, *_angles(x, pos, base))
    if x.requires_grad:
        return turned
    return x.copy_(turned)


@wrong(
    "rope", says="The angles were computed in x's dtype: bfloat16 cannot hold the position 257. Use float32 at least."
)
def angles_in_the_dtype_of_x(x, pos, base=10000.0):
    return _turn(x, *_angles(x, pos, base, x.dtype))


@wrong("rope", says="view_as_complex wants neighbouring memory; call .contiguous() before it.")
def needs_contiguous_memory(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    turn = torch.complex(cos.float(), sin.float()).to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)
    if x.dtype == torch.float64:
        turn = torch.complex(cos, sin)
    pairs = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return torch.view_as_real(torch.view_as_complex(pairs.unflatten(-1, (-1, 2))) * turn).flatten(-2).to(x.dtype)


@wrong("rope", says="An odd width must raise a ValueError.")
def odd_widths_are_not_refused(x, pos, base=10000.0):
    cos, sin = _angles(x[..., : x.shape[-1] // 2 * 2], pos, base)
    return torch.cat([_turn(x[..., : x.shape[-1] // 2 * 2], cos, sin), x[..., x.shape[-1] // 2 * 2 :]], -1)


@wrong("rope", says="Your frequencies stayed on the CPU; build them on x's device.")
def frequencies_on_the_cpu(x, pos, base=10000.0):
    _angles(x, pos, base)
    wide = torch.promote_types(x.dtype, torch.float32)
    angle = pos.to(wide)[:, None] * base ** (-torch.arange(0, x.shape[-1], 2).to(wide) / x.shape[-1])
    return _turn(x, angle.cos().to(x.dtype), angle.sin().to(x.dtype))


@dialect(
    "rope",
    says="You pair feature i with feature i + d/2, as many language models do; the paper pairs neighbours. The scores "
    "have the same law, but trained weights do not carry over.",
)
def pairs_are_halves(x, pos, base=10000.0):
    cos, sin = _angles(x, pos, base)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def _rotated(x, pos, base):
    return _turn(x, *_angles(x, pos, base))


@wrong("rotary_attention", says="Values must not be rotated: positions belong in the scores alone.")
def values_are_rotated(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    if v.shape[-1] % 2 == 0:
        v = _rotated(v, pos_k, base)
    return _attend(_rotated(q, pos_q, base), _rotated(k, pos_k, base), v, mask)


@wrong("rotary_attention", says="q and k rotate in opposite senses, so scores depend on the *sum* of the positions.")
def opposite_senses(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    return _attend(_rotated(q, pos_q, base), _rotated(k, -pos_k, base), v, mask)


@wrong("rotary_attention", says="Only the queries were rotated; the keys have positions too.")
def keys_stay_where_they_are(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    return _attend(_rotated(q, pos_q, base), k, v, mask)


@wrong("rotary_attention", says="No position entered: neither queries nor keys were rotated.")
def no_positions_at_all(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    return _attend(q, k, v, mask)


@wrong("rotary_attention", says="Queries and keys swapped their positions.")
def positions_are_swapped(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    if len(pos_q) != len(pos_k):
        pos_q, pos_k = pos_k[:1] + torch.arange(len(pos_q)), pos_q[:1] + torch.arange(len(pos_k))
    else:
        pos_q, pos_k = pos_k, pos_q
    return _attend(_rotated(q, pos_q, base), _rotated(k, pos_k, base), v, mask)


@wrong("rotary_attention", says="`base` was not passed on.")
def base_is_not_passed_on(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    return _attend(_rotated(q, pos_q, 10000.0), _rotated(k, pos_k, 10000.0), v, mask)


@wrong("rotary_attention", says="`mask` was not passed on.")
def mask_is_not_passed_on(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    return _attend(_rotated(q, pos_q, base), _rotated(k, pos_k, base), v, None)


# ------------------------------------------------------------------------------------ A6 alignment


def _additive(query, keys, Wq, Wk, v, mask):
    scores = torch.tanh((query @ Wq.mT)[:, None] + keys @ Wk.mT) @ v
    return _weights(_masked(scores, mask))


def _sum(weights, values):
    return (weights[:, None] @ values)[:, 0]


@wrong(
    "additive_attention",
    says="The score lacks tanh: without it the query's part is the same for all keys, and cancels.",
)
def without_tanh(query, keys, values, Wq, Wk, v, mask=None):
    weights = _weights(_masked(((query @ Wq.mT)[:, None] + keys @ Wk.mT) @ v, mask))
    return _sum(weights, values), weights


@wrong("additive_attention", says="tanh belongs on the sum of both projections; you took it of each alone.")
def tanh_of_each_part(query, keys, values, Wq, Wk, v, mask=None):
    scores = ((query @ Wq.mT).tanh()[:, None] + (keys @ Wk.mT).tanh()) @ v
    weights = _weights(_masked(scores, mask))
    return _sum(weights, values), weights


@wrong("additive_attention", says="tanh belongs inside, before the product with v; you took it of the score.")
def tanh_of_the_score(query, keys, values, Wq, Wk, v, mask=None):
    scores = (((query @ Wq.mT)[:, None] + keys @ Wk.mT) @ v).tanh()
    weights = _weights(_masked(scores, mask))
    return _sum(weights, values), weights


@wrong("additive_attention", says="Mask before the softmax, or the weights that are left do not sum to 1.")
def alignment_masked_afterwards(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, None)
    weights = weights if mask is None else weights * mask
    return _sum(weights, values), weights


@wrong("additive_attention", says="Your mask is inverted: True means attend here.")
def alignment_mask_is_inverted(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, None if mask is None else ~mask)
    return _sum(weights, values), weights


@wrong("additive_attention", says="The mask never reached the scores.")
def alignment_without_the_mask(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, None)
    return _sum(weights, values), weights


@wrong("additive_attention", says="A row whose keys are all hidden became NaN; it should be zeros.")
def alignment_is_nan_where_all_is_hidden(query, keys, values, Wq, Wk, v, mask=None):
    scores = torch.tanh((query @ Wq.mT)[:, None] + keys @ Wk.mT) @ v
    weights = torch.softmax(_masked(scores, mask), -1)
    return _sum(weights, values), weights


@wrong("additive_attention", says="The context sums the *values*; you summed the keys.")
def sums_the_keys(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, mask)
    return _sum(weights, keys), weights


@wrong("additive_attention", says="The context is a sum with weights; you took the plain mean of the values.")
def takes_the_plain_mean(query, keys, values, Wq, Wk, v, mask=None):
    return values.mean(1), _additive(query, keys, Wq, Wk, v, mask)


@wrong("additive_attention", says="Softmax ran over the batch; it must run over the keys of each sequence.")
def softmax_over_the_batch(query, keys, values, Wq, Wk, v, mask=None):
    scores = torch.tanh((query @ Wq.mT)[:, None] + keys @ Wk.mT) @ v
    weights = torch.softmax(_masked(scores, mask), 0) if len(scores) else scores
    return _sum(weights, values), weights


@wrong("additive_attention", says="You returned (weights, context); the order is (context, weights).")
def alignment_swaps_its_results(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, mask)
    return weights, _sum(weights, values)


@wrong("additive_attention", says="squeeze() without an axis also removes a batch or a width of one; name the axis.")
def squeezes_every_axis(query, keys, values, Wq, Wk, v, mask=None):
    weights = _additive(query, keys, Wq, Wk, v, mask)
    return (weights[:, None] @ values).squeeze(), weights


def _step(x, hidden, memory, mask, align, cell, readout):
    weights = _additive(hidden, memory, *align, mask=mask)
    context = _sum(weights, memory)
    new = cell(torch.cat([x, context], -1), hidden)
    return new, context, weights


@wrong("decoder_step", says="The step ignores the mask: padding in the memory gets attention.")
def step_without_the_mask(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, None, align, cell, readout)
    return readout(torch.cat([new, context], -1)), new, weights


@wrong("decoder_step", says="The readout takes the new state; you gave it the old one.")
def reads_out_the_old_state(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, mask, align, cell, readout)
    return readout(torch.cat([hidden, context], -1)), new, weights


@wrong("decoder_step", says="You returned the old state, so the decoder never moves on.")
def state_never_moves(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, mask, align, cell, readout)
    return readout(torch.cat([new, context], -1)), hidden, weights


@wrong("decoder_step", says="The cell takes (token, context) in this order; you put the context first.")
def context_comes_first(x, hidden, memory, mask, align, cell, readout):
    weights = _additive(hidden, memory, *align, mask=mask)
    context = _sum(weights, memory)
    new = cell(torch.cat([context, x], -1), hidden)
    return readout(torch.cat([new, context], -1)), new, weights


@wrong("decoder_step", says="The readout takes (state, context) in this order; you put the context first.")
def readout_takes_the_context_first(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, mask, align, cell, readout)
    return readout(torch.cat([context, new], -1)), new, weights


@wrong("decoder_step", says="You looked at the memory a second time with the new state; the old state asks, once.")
def the_new_state_asks(x, hidden, memory, mask, align, cell, readout):
    new, _, _ = _step(x, hidden, memory, mask, align, cell, readout)
    weights = _additive(new, memory, *align, mask=mask)
    return readout(torch.cat([new, _sum(weights, memory)], -1)), new, weights


@wrong("decoder_step", says="The readout takes state *and* context; a context of zeros went in.")
def readout_without_the_context(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, mask, align, cell, readout)
    return readout(torch.cat([new, torch.zeros_like(context)], -1)), new, weights


@wrong("decoder_step", says="The order of the results is (logits, hidden', weights).")
def step_swaps_its_results(x, hidden, memory, mask, align, cell, readout):
    new, context, weights = _step(x, hidden, memory, mask, align, cell, readout)
    return new, readout(torch.cat([new, context], -1)), weights


def _steps(step, state, fed, asked):
    """Return the cross entropies (b, t) of tokens (b, t) that are fed and asked for."""
    losses = []
    for one, other in zip(fed.unbind(1), asked.unbind(1), strict=True):
        logits, state = step(one, state)
        losses.append(F.cross_entropy(logits, other, reduction="none"))
    return torch.stack(losses, 1)


@wrong("sequence_loss", says="The decoder is fed the very token that it is asked for: shift by one step.")
def shows_what_it_asks(step, state, tokens, pad):
    asked = tokens[:, 1:]
    return _steps(step, state, asked, asked)[asked != pad].mean()


@wrong(
    "sequence_loss", says="The token that is asked for is the one *after* the one that is fed; you asked for the same."
)
def asks_for_what_was_fed(step, state, tokens, pad):
    fed = tokens[:, :-1]
    return _steps(step, state, fed, fed)[fed != pad].mean()


@wrong("sequence_loss", says="Padding counts in your loss: leave out the places where padding is asked for.")
def padding_counts(step, state, tokens, pad):
    return _steps(step, state, tokens[:, :-1], tokens[:, 1:]).mean()


@wrong(
    "sequence_loss", says="Padding adds nothing to the sum but is still counted; divide by the number of real tokens."
)
def divides_by_all_tokens(step, state, tokens, pad):
    asked = tokens[:, 1:]
    return (_steps(step, state, tokens[:, :-1], asked) * (asked != pad)).mean()


@wrong(
    "sequence_loss",
    says="You took the mean of each row's mean: short rows count too much. All real tokens count alike.",
)
def mean_of_the_means(step, state, tokens, pad):
    asked = tokens[:, 1:]
    losses, real = _steps(step, state, tokens[:, :-1], asked), asked != pad
    rows = (losses * real).sum(1) / real.sum(1).clamp(min=1)
    return rows[real.any(1)].mean()


@wrong("sequence_loss", says="You took the mean of each step's mean: late steps, with few rows, count too much.")
def mean_over_the_steps(step, state, tokens, pad):
    asked = tokens[:, 1:]
    losses, real = _steps(step, state, tokens[:, :-1], asked), asked != pad
    steps = (losses * real).sum(0) / real.sum(0).clamp(min=1)
    return steps[real.any(0)].mean()


@wrong("sequence_loss", says="You left out the steps where padding is *fed*; what counts is the token asked for.")
def looks_at_what_is_fed(step, state, tokens, pad):
    return _steps(step, state, tokens[:, :-1], tokens[:, 1:])[tokens[:, :-1] != pad].mean()


@wrong("sequence_loss", says="You summed the losses; the mean over the real tokens is asked for.")
def sums_the_losses(step, state, tokens, pad):
    asked = tokens[:, 1:]
    return _steps(step, state, tokens[:, :-1], asked)[asked != pad].sum()


@wrong("sequence_loss", says="The state is not carried from step to step: every step begins with the first one.")
def forgets_the_state(step, state, tokens, pad):
    asked = tokens[:, 1:]
    losses = []
    for place in range(asked.shape[1]):
        logits, _ = step(tokens[:, place], state)
        losses.append(F.cross_entropy(logits, asked[:, place], reduction="none"))
    return torch.stack(losses, 1)[asked != pad].mean()


@wrong("sequence_loss", says="The decoder was fed its own guesses; teacher forcing feeds the true tokens.")
def feeds_its_own_guesses(step, state, tokens, pad):
    asked, token, losses = tokens[:, 1:], tokens[:, 0], []
    for place in range(asked.shape[1]):
        logits, state = step(token, state)
        token = logits.argmax(-1)
        losses.append(F.cross_entropy(logits, asked[:, place], reduction="none"))
    return torch.stack(losses, 1)[asked != pad].mean()


# ---------------------------------------------------------------------------------- A7 hard choices


def _gumbel(scores, g):
    return -torch.empty_like(scores).exponential_(generator=g).log()


def _one_hot(noisy):
    return torch.zeros_like(noisy).scatter(-1, noisy.argmax(-1, keepdim=True), 1.0)


def _log_prob(scores, choice):
    return scores.log_softmax(-1).gather(-1, choice.argmax(-1, keepdim=True))[..., 0]


def _refuse(mode):
    if mode not in ("gumbel", "reinforce"):
        raise ValueError(mode)


def _choose(scores, noisy, tau, mode, straight=None):
    """Return (choice, log_prob) of noisy scores, with the gradient of `straight`, or of the soft weights."""
    _refuse(mode)
    choice = _one_hot(noisy.detach())
    log_prob = _log_prob(scores, choice)
    if mode == "gumbel":
        soft = torch.softmax(noisy / tau, -1) if straight is None else straight
        choice = soft + (choice - soft).detach()
    return choice, log_prob


@wrong("hard_attention", says="argmax has no gradient: in mode gumbel, add the soft weights less their detached copy.")
def argmax_without_a_gradient(scores, tau, mode, g):
    _refuse(mode)
    choice = _one_hot(scores.detach() + _gumbel(scores, g))
    return choice, _log_prob(scores, choice)


@wrong("hard_attention", says="Gumbel noise is −log(−log u): you took one logarithm only.")
def one_logarithm(scores, tau, mode, g):
    noise = torch.empty_like(scores).exponential_(generator=g)
    return _choose(scores, scores + noise, tau, mode)


@wrong("hard_attention", says="The sign of the Gumbel noise is turned: it is −log(−log u).")
def noise_has_the_wrong_sign(scores, tau, mode, g):
    return _choose(scores, scores - _gumbel(scores, g), tau, mode)


@wrong("hard_attention", says="Normal noise does not draw from the softmax; Gumbel noise does.")
def normal_noise(scores, tau, mode, g):
    noise = torch.randn(scores.shape, generator=g, dtype=scores.dtype)
    return _choose(scores, scores + noise, tau, mode)


@wrong("hard_attention", says="There is no noise: the same place is chosen each time.")
def no_noise(scores, tau, mode, g):
    return _choose(scores, scores, tau, mode)


@wrong("hard_attention", says="Divide by tau: you multiplied.")
def multiplies_by_tau(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores, g), 1 / tau, mode)


@wrong("hard_attention", says="tau is ignored: the soft weights are softmax((scores + noise) / tau).")
def tau_is_ignored(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores, g), 1.0, mode)


@wrong("hard_attention", says="tau belongs around scores *and* noise; dividing the scores alone changes what is drawn.")
def tau_on_the_scores_alone(scores, tau, mode, g):
    noisy = scores / tau + _gumbel(scores, g)
    return _choose(scores, noisy, tau, mode, torch.softmax(noisy, -1))


@wrong("hard_attention", says="The forward value must be one-hot; yours is the soft weights.")
def soft_choice(scores, tau, mode, g):
    _refuse(mode)
    noisy = scores + _gumbel(scores, g)
    soft = torch.softmax(noisy / tau, -1)
    return (soft if mode == "gumbel" else _one_hot(noisy.detach())), _log_prob(scores, noisy)


@wrong(
    "hard_attention", says="The gradient is that of weights without the noise; they must have the choice's own noise."
)
def gradient_without_the_noise(scores, tau, mode, g):
    noisy = scores + _gumbel(scores, g)
    return _choose(scores, noisy, tau, mode, torch.softmax(scores / tau, -1))


@wrong("hard_attention", says="Choice and gradient have different noise: draw it once.")
def noise_is_drawn_twice(scores, tau, mode, g):
    noisy = scores + _gumbel(scores, g)
    return _choose(scores, noisy, tau, mode, torch.softmax((scores + _gumbel(scores, g)) / tau, -1))


@wrong("hard_attention", says="The gradient passes straight to the scores; it should be that of the softmax at tau.")
def gradient_skips_the_softmax(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores, g), tau, mode, scores)


@wrong("hard_attention", says="All rows share one draw of noise; each row needs its own.")
def one_noise_for_all_rows(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores.reshape(-1, scores.shape[-1])[0], g), tau, mode)


@wrong("hard_attention", says="The generator is ignored: hand generator=g to whatever draws.")
def ignores_the_generator(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores, None), tau, mode)


@wrong("hard_attention", says="In mode reinforce the choice must carry no gradient; it learns through log_prob.")
def reinforce_with_a_gradient(scores, tau, mode, g):
    _refuse(mode)
    return _choose(scores, scores + _gumbel(scores, g), tau, "gumbel")


@wrong("hard_attention", says="log_prob is taken of the noisy scores; the probability of a choice has no noise in it.")
def log_prob_with_noise(scores, tau, mode, g):
    noisy = scores + _gumbel(scores, g)
    choice, _ = _choose(scores, noisy, tau, mode)
    return choice, _log_prob(noisy, choice)


@wrong("hard_attention", says="log_prob is taken at temperature tau; the choice is drawn from softmax(scores).")
def log_prob_with_tau(scores, tau, mode, g):
    choice, _ = _choose(scores, scores + _gumbel(scores, g), tau, mode)
    return choice, _log_prob(scores / tau, choice)


@wrong("hard_attention", says="You returned the probability; its logarithm is asked for.")
def returns_the_probability(scores, tau, mode, g):
    choice, log_prob = _choose(scores, scores + _gumbel(scores, g), tau, mode)
    return choice, log_prob.exp()


@wrong("hard_attention", says="log_prob was detached: REINFORCE learns through its gradient.")
def log_prob_is_detached(scores, tau, mode, g):
    choice, log_prob = _choose(scores, scores + _gumbel(scores, g), tau, mode)
    return choice, log_prob.detach().requires_grad_() * 1.0 + 0.0 * scores.detach().nan_to_num(neginf=0.0).sum(-1)


@wrong("hard_attention", says="An unknown mode must raise a ValueError; yours falls through to one of the two.")
def any_mode_will_do(scores, tau, mode, g):
    return _choose(scores, scores + _gumbel(scores, g), tau, "reinforce" if mode == "reinforce" else "gumbel")


@wrong("reinforce_loss", says="The sign is turned: a loss is minimised, so the reward goes in with a minus.")
def minimises_the_reward(log_prob, reward, baseline):
    return (
        ((reward - baseline) * log_prob).mean()
        if not torch.is_tensor(baseline)
        else ((reward - baseline).detach() * log_prob).mean()
    )


@wrong("reinforce_loss", says="The baseline carries a gradient: detach it, it is no part of the choice.")
def baseline_carries_a_gradient(log_prob, reward, baseline):
    return -((reward.detach() - baseline) * log_prob).mean()


@wrong("reinforce_loss", says="The reward carries a gradient: only log_prob should.")
def reward_carries_a_gradient(log_prob, reward, baseline):
    return -((reward - (baseline.detach() if torch.is_tensor(baseline) else baseline)) * log_prob).mean()


@wrong("reinforce_loss", says="Nothing learns: log_prob was detached too.")
def nothing_learns(log_prob, reward, baseline):
    return -((reward - baseline) * log_prob.detach()).detach().mean() + 0.0 * log_prob.sum()


@wrong("reinforce_loss", says="The baseline is ignored.")
def baseline_is_ignored(log_prob, reward, baseline):
    return -(reward.detach() * log_prob).mean()


@wrong("reinforce_loss", says="The baseline is to be taken off the reward; you added it.")
def baseline_is_added(log_prob, reward, baseline):
    return -((reward + baseline).detach() * log_prob).mean()


@wrong("reinforce_loss", says="You summed over the batch; the mean is asked for.")
def sums_over_the_batch(log_prob, reward, baseline):
    return -((reward - baseline).detach() * log_prob).sum()


@wrong("reinforce_loss", says="The mean is still to be taken: the loss should have the shape ().")
def loss_for_each_row(log_prob, reward, baseline):
    return -(reward - baseline).detach() * log_prob


@wrong("reinforce_loss", says="(b,) against (b, 1) broadcast to (b, b): every reward met every log-probability.")
def every_pair_of_rows(log_prob, reward, baseline):
    return -((reward - baseline).detach() * log_prob[:, None]).mean()


# ----------------------------------------------------------------------------------- A8 generation


def _joined(k, v, cache):
    return (k, v) if cache is None else (torch.cat([cache[0], k], -2), torch.cat([cache[1], v], -2))


def _past(L, S, device, diagonal=None):
    return torch.ones(L, S, dtype=torch.bool, device=device).tril(S - L if diagonal is None else diagonal)


@wrong(
    "cached_attention", says="The mask is aligned top left: with a cache a single new query sees the first key only."
)
def one_row_mask_hides_the_past(q, k, v, cache=None):
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], q.device, 0)), (k, v)


@wrong("cached_attention", says="Without a mask the new steps see each other's future; only a single step needs none.")
def no_mask_at_all(q, k, v, cache=None):
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, None), (k, v)


@wrong("cached_attention", says="With a cache you left out the mask: a piece of several steps still needs one.")
def no_mask_after_the_first_piece(q, k, v, cache=None):
    mask = _past(q.shape[-2], q.shape[-2], q.device) if cache is None else None
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, mask), (k, v)


@wrong("cached_attention", says="The cache is ignored: new steps see each other only.")
def cache_is_ignored(q, k, v, cache=None):
    return _attend(q, k, v, _past(q.shape[-2], q.shape[-2], q.device)), _joined(k, v, cache)


@wrong("cached_attention", says="You returned the new keys and values alone; the cache holds all steps.")
def cache_holds_the_last_piece(q, k, v, cache=None):
    all_k, all_v = _joined(k, v, cache)
    return _attend(q, all_k, all_v, _past(q.shape[-2], all_k.shape[-2], q.device)), (k, v)


@wrong("cached_attention", says="The new keys were put before the old ones.")
def new_keys_come_first(q, k, v, cache=None):
    if cache is not None:
        k, v = torch.cat([k, cache[0]], -2), torch.cat([v, cache[1]], -2)
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], q.device)), (k, v)


@wrong("cached_attention", says="Keys and values swapped places in the cache.")
def cache_swaps_its_parts(q, k, v, cache=None):
    if cache is not None and cache[0].shape[-1] == v.shape[-1] and cache[1].shape[-1] == k.shape[-1]:
        cache = (cache[1], cache[0])
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], q.device)), (v, k)


@wrong("cached_attention", says="You changed the tensors of the cache that was handed in; torch.cat makes new ones.")
def cache_grows_in_place(q, k, v, cache=None):
    joined = _joined(k.clone(), v.clone(), cache)
    if cache is not None:
        cache[0].set_(joined[0].clone())
        cache[1].set_(joined[1].clone())
    k, v = joined
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], q.device)), (k, v)


@wrong("cached_attention", says="A new step cannot see itself: the diagonal is missing.")
def new_steps_cannot_see_themselves(q, k, v, cache=None):
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], q.device, k.shape[-2] - q.shape[-2] - 1)), (k, v)


@wrong("cached_attention", says="The mask was built on the CPU; build it on q's device.")
def cache_mask_on_the_cpu(q, k, v, cache=None):
    k, v = _joined(k, v, cache)
    return _attend(q, k, v, _past(q.shape[-2], k.shape[-2], None)), (k, v)


def _pick(last, temperature, g):
    if temperature > 0:
        return torch.multinomial(torch.softmax(last / temperature, -1), 1, generator=g)
    return last.argmax(-1, keepdim=True)


def _loop(
    model, idx, n, cache, temperature, g, pick=_pick, at=lambda logits: logits[:, -1], begins=lambda start: start
):
    """Continue prompts; `pick`, `at` and `begins` are the pieces that the answers below get wrong."""
    kept, start = None, 0
    for _ in range(n):
        logits, kept = model(idx[:, start:], cache=kept, start=begins(start))
        token = pick(at(logits), temperature, g)
        start, kept = (idx.shape[1], kept) if cache else (0, None)
        idx = torch.cat([idx, token], 1)
    return idx


@wrong("generate", says="Cached steps restart at position 0: hand over `start`, the number of tokens fed before.")
@torch.no_grad()
def restarts_at_position_zero(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g, begins=lambda start: 0)


@wrong("generate", says="The position of a cached step is one too far.")
@torch.no_grad()
def one_position_too_far(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g, begins=lambda start: start + (start > 0))


@wrong("generate", says="With the cache you still feed the whole sequence, so its tokens are counted twice.")
@torch.no_grad()
def feeds_everything_to_the_cache(model, idx, n, cache=True, *, temperature=0.0, g=None):
    kept = None
    for _ in range(n):
        logits, made = model(idx, cache=kept, start=0)
        kept = made if cache else None
        idx = torch.cat([idx, _pick(logits[:, -1], temperature, g)], 1)
    return idx


@wrong(
    "generate", says="Only the last token is fed, and the cache is not handed over: the model has forgotten the rest."
)
@torch.no_grad()
def cache_is_not_handed_over(model, idx, n, cache=True, *, temperature=0.0, g=None):
    start = 0
    for _ in range(n):
        logits, _ = model(idx[:, start:], cache=None, start=start)
        start = idx.shape[1] if cache else 0
        idx = torch.cat([idx, _pick(logits[:, -1], temperature, g)], 1)
    return idx


_memory = {}


@wrong("generate", says="The cache leaks into the next call: begin each call of `generate` with none.")
@torch.no_grad()
def cache_outlives_the_call(model, idx, n, cache=True, *, temperature=0.0, g=None):
    if _memory.get("model") is not model:
        _memory.update(model=model, kept=None)
    start = 0
    for _ in range(n):
        kept = _memory["kept"] if cache else None
        if kept is not None and kept.shape[0] != idx.shape[0]:
            kept = None
        logits, made = model(idx[:, start:], cache=kept, start=start)
        _memory["kept"] = made
        start = idx.shape[1] if cache else 0
        idx = torch.cat([idx, _pick(logits[:, -1], temperature, g)], 1)
    return idx


@wrong("generate", says="`cache` is ignored: with False the whole sequence is to be fed each time.")
@torch.no_grad()
def always_with_the_cache(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, True, temperature, g)


@wrong("generate", says="`cache` is ignored: with True only what is new is to be fed.")
@torch.no_grad()
def never_with_the_cache(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, False, temperature, g)


@wrong("generate", says="Sample from the last position only; you took the mean over all positions.")
@torch.no_grad()
def mean_over_the_positions(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g, at=lambda logits: logits.mean(1))


@wrong("generate", says="Sample from the last position; you took the first.")
@torch.no_grad()
def samples_from_the_first_position(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g, at=lambda logits: logits[:, 0])


@wrong("generate", says="Multiply by temperature and hot becomes cold: the logits are divided by it.")
@torch.no_grad()
def multiplies_by_the_temperature(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, 1 / temperature if temperature else 0.0, g)


@wrong("generate", says="The temperature is ignored: you always took the most likely token.")
@torch.no_grad()
def always_the_most_likely(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, 0.0, g)


@wrong("generate", says="The temperature only switches sampling on; divide the logits by it.")
@torch.no_grad()
def samples_without_the_temperature(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, 1.0 if temperature else 0.0, g)


@wrong(
    "generate", says="multinomial wants probabilities; exp of the logits is drawn from alike, but after the softmax."
)
@torch.no_grad()
def samples_from_the_logits(model, idx, n, cache=True, *, temperature=0.0, g=None):
    def pick(last, temperature, g):
        if temperature > 0:
            return torch.multinomial((last / temperature).clamp(min=0) + 1e-9, 1, generator=g)
        return last.argmax(-1, keepdim=True)

    return _loop(model, idx, n, cache, temperature, g, pick=pick)


@wrong("generate", says="The generator is ignored: hand generator=g to multinomial.")
@torch.no_grad()
def samples_without_the_generator(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, None)


@wrong("generate", says="One token too few: n are to be added.")
@torch.no_grad()
def one_token_too_few(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n - 1, cache, temperature, g)


@wrong("generate", says="Only the new tokens came back; the prompts belong before them.")
@torch.no_grad()
def without_the_prompt(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g)[:, idx.shape[1] :]


@wrong("generate", says="Gradients are recorded, and the graph grows with every token: use torch.no_grad().")
def records_gradients(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n, cache, temperature, g)


@wrong("generate", says="The last token was fed too, which is one call for nothing.")
@torch.no_grad()
def one_call_too_many(model, idx, n, cache=True, *, temperature=0.0, g=None):
    return _loop(model, idx, n + 1, cache, temperature, None if g is None else g.clone_state())[:, : idx.shape[1] + n]


def _blocks(q, k, v, block, causal, update, finish=lambda out, total: out / total.clamp(min=1), past=None):
    """Attend in blocks; `update`, `finish` and `past` are the pieces that the answers below get wrong."""
    L, S = q.shape[-2], k.shape[-2]
    m = q.new_full((*q.shape[:-1], 1), -math.inf)
    total, out = torch.zeros_like(m), q.new_zeros((*q.shape[:-1], v.shape[-1]))
    for first in range(0, S, block):
        scores = q @ k[..., first : first + block, :].mT * q.shape[-1] ** -0.5
        if causal:
            keys = torch.arange(first, first + scores.shape[-1], device=q.device)
            last = torch.arange(L, device=q.device)[:, None] + (S - L if past is None else past(S - L, first))
            scores = scores.masked_fill(keys > last, -math.inf)
        m, total, out = update(m, total, out, scores, v[..., first : first + block, :])
    return finish(out, total)


def _finite(top):
    return top.masked_fill(top == -math.inf, 0)


def _right(m, total, out, scores, v):
    top = torch.maximum(m, scores.amax(-1, keepdim=True))
    weights, shrink = (scores - _finite(top)).exp(), (m - _finite(top)).exp()
    return top, shrink * total + weights.sum(-1, keepdim=True), shrink * out + weights @ v


@wrong(
    "online_attention",
    says="Rescale the accumulator when the maximum grows: the old values are too large by exp(m' − m).",
)
def accumulator_is_not_rescaled(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top, new_total, _ = _right(m, total, out, scores, v)
        return top, new_total, out + (scores - _finite(top)).exp() @ v

    return _blocks(q, k, v, block, causal, update)


@wrong("online_attention", says="Rescale the denominator too when the maximum grows.")
def denominator_is_not_rescaled(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top, _, new_out = _right(m, total, out, scores, v)
        return top, total + (scores - _finite(top)).exp().sum(-1, keepdim=True), new_out

    return _blocks(q, k, v, block, causal, update)


@wrong("online_attention", says="The denominator was rescaled twice: once for each block is enough.")
def denominator_is_rescaled_twice(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top, _, new_out = _right(m, total, out, scores, v)
        shrink = (m - _finite(top)).exp()
        return top, shrink * (shrink * total) + (scores - _finite(top)).exp().sum(-1, keepdim=True), new_out

    return _blocks(q, k, v, block, causal, update)


@wrong("online_attention", says="You divided by the denominator after every block and again at the end; divide once.")
def divides_after_every_block(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top, total, out = _right(m, total, out, scores, v)
        return top, total, out / total.clamp(min=1)

    return _blocks(q, k, v, block, causal, update, finish=lambda out, total: out)


@wrong("online_attention", says="The result is still to be divided by the sum of the exponentials.")
def never_divides(q, k, v, block, *, causal=False):
    return _blocks(q, k, v, block, causal, _right, finish=lambda out, total: out)


@wrong("online_attention", says="Each block's own maximum replaced the running one: keep the larger of the two.")
def maximum_of_the_block_alone(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top = scores.amax(-1, keepdim=True)
        weights = (scores - _finite(top)).exp()
        return top, total + weights.sum(-1, keepdim=True), out + weights @ v

    return _blocks(q, k, v, block, causal, update)


@wrong("online_attention", says="There is no running maximum: exp overflows as soon as a score is large.")
def blocks_without_a_maximum(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        return m, total + scores.exp().sum(-1, keepdim=True), out + scores.exp() @ v

    return _blocks(q, k, v, block, causal, update, finish=lambda out, total: out / torch.where(total == 0, 1, total))


@wrong("online_attention", says="The factor is upside down: what was summed before shrinks by exp(m − m').")
def factor_is_upside_down(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top = torch.maximum(m, scores.amax(-1, keepdim=True))
        weights, grow = (scores - _finite(top)).exp(), (_finite(top) - _finite(m)).exp()
        return top, grow * total + weights.sum(-1, keepdim=True), grow * out + weights @ v

    return _blocks(q, k, v, block, causal, update)


@wrong(
    "online_attention",
    says="Each block's softmax was computed alone, and their results averaged: blocks count unequally.",
)
def averages_the_blocks(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        weights = _weights(scores)
        return m, total + weights.sum(-1, keepdim=True), out + weights @ v

    return _blocks(q, k, v, block, causal, update)


@wrong("online_attention", says="The last, shorter block was left out.")
def last_block_is_left_out(q, k, v, block, *, causal=False):
    whole = k.shape[-2] // block * block
    if whole == 0:
        return _blocks(q, k, v, block, causal, _right)
    gone = k.shape[-2] - whole
    return _blocks(q, k[..., :whole, :], v[..., :whole, :], block, causal, _right, past=lambda d, first: d + gone)


@wrong("online_attention", says="The scores were not scaled: divide them by √d.")
def blocks_without_the_scale(q, k, v, block, *, causal=False):
    return _blocks(q * q.shape[-1] ** 0.5, k, v, block, causal, _right)


@wrong("online_attention", says="`causal` is ignored.")
def blocks_look_ahead(q, k, v, block, *, causal=False):
    return _blocks(q, k, v, block, False, _right)


@wrong("online_attention", says="The causal mask counts keys from the start of each block; count from the first key.")
def mask_counts_inside_the_block(q, k, v, block, *, causal=False):
    return _blocks(q, k, v, block, causal, _right, past=lambda d, first: d + first)


@wrong("online_attention", says="The causal mask is aligned top left; the last query stands at the last key.")
def blocks_aligned_top_left(q, k, v, block, *, causal=False):
    return _blocks(q, k, v, block, causal, _right, past=lambda d, first: 0)


@wrong(
    "online_attention",
    says="A query that sees no key became NaN: guard −inf − (−inf) in the blocks, and 0 / 0 at the end.",
)
def nan_where_no_key_was_seen(q, k, v, block, *, causal=False):
    def update(m, total, out, scores, v):
        top = torch.maximum(m, scores.amax(-1, keepdim=True))
        weights, shrink = (scores - top).exp(), (m - top).exp()
        return top, shrink * total + weights.sum(-1, keepdim=True), shrink * out + weights @ v

    return _blocks(q, k, v, block, causal, update, finish=lambda out, total: out / total)


@wrong("online_attention", says="All scores were computed at once: only one block of them may exist at a time.")
def all_scores_at_once(q, k, v, block, *, causal=False):
    mask = _past(q.shape[-2], k.shape[-2], q.device) if causal else None
    return _attend(q, k, v, mask)


@wrong(
    "online_attention", says="The whole causal mask has as many entries as all scores: build one block of it at a time."
)
def whole_mask_at_once(q, k, v, block, *, causal=False):
    L, S = q.shape[-2], k.shape[-2]
    if not causal:
        return _blocks(q, k, v, block, False, _right)
    mask = _past(L, S, q.device)
    m, total, out = q.new_full((*q.shape[:-1], 1), -math.inf), q.new_zeros((*q.shape[:-1], 1)), None
    out = q.new_zeros((*q.shape[:-1], v.shape[-1]))
    for first in range(0, S, block):
        scores = q @ k[..., first : first + block, :].mT * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask[:, first : first + block], -math.inf)
        m, total, out = _right(m, total, out, scores, v[..., first : first + block, :])
    return out / total.clamp(min=1)
