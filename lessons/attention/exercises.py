"""Your exercises: write each body below, then run pytest on this folder.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked. PyTorch's own version
of an exercise is blocked while that exercise is graded.

A mask says where to look: True means *attend here*. Shapes: b batch, h heads, L queries, S keys, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax(x: Tensor, dim: int) -> Tensor:
    """Turn scores into weights that are at least 0 and sum to 1 along one axis.

        y = exp(x − max x) / Σ exp(x − max x)            maximum and sum along `dim`, one for each slice

    Taking the maximum off changes nothing in exact arithmetic, and keeps exp from overflowing: scores of 10 000 work,
    and so do scores of 500 beside a slice with scores of −500.

    A score of −inf gets the weight 0. A slice of nothing but −inf, where there is nothing to choose from, becomes all
    zeros, and so do its gradients (`torch.softmax` has NaN there).

    Args:
        x: scores, any shape and any floating dtype, with at least one entry along `dim`. No +inf, no NaN.
        dim: axis along which the weights sum to 1; a negative one counts from the end.

    Returns:
        The weights, with x's shape, dtype and device; gradients flow through them, and x keeps its values.

    Source: `torch.softmax`, but for slices of −inf.
    """
    raise NotImplementedError("A1: write softmax")


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Attend: each query takes the mean of the values, weighted by how well their keys match it.

        scores  = scale · q kᵀ                            (..., L, S)
        weights = softmax(scores) over the keys           S weights for each query
        out     = weights v                               (..., L, dv)

    Args:
        q: queries (..., L, d).
        k: keys (..., S, d); its leading axes are those of q.
        v: values (..., S, dv).
        mask: anything that broadcasts to (..., L, S). Boolean: True lets the query attend to the key, False hides it.
            Floating: is added to the scores. None hides nothing: it does *not* mean causal.
        scale: factor of the scores; None takes 1 / √d.

    Returns:
        (..., L, dv), with q's dtype. A query that may attend to nothing gets zeros, and so do its gradients. With
        masks or without, the arguments keep their values.

    You may call `torch.softmax` here, or your own.

    Source: Vaswani et al. 2017, equation 1; equals `F.scaled_dot_product_attention`.
    """
    raise NotImplementedError("A2: write sdpa")


def causal_mask(L: int, S: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the mask that lets each query see itself and the past, and hides the future.

    The *last* query stands at the last key (the mask is aligned bottom right), as it must when the first S − L keys
    were computed earlier:

        query i may attend to key j        where j ≤ i + S − L

        L = 3, S = 3        L = 2, S = 4        L = 3, S = 2
        1 0 0               1 1 1 0             0 0
        1 1 0               1 1 1 1             1 0
        1 1 1                                   1 1

    Args:
        L: number of queries, at least 0.
        S: number of keys, at least 0.
        device: of the result; None takes PyTorch's default.

    Returns:
        (L, S), bool; True means attend.

    Source: Vaswani et al. 2017, section 3.2.3. `F.scaled_dot_product_attention(is_causal=True)` aligns *top left*: it
    differs where L ≠ S.
    """
    raise NotImplementedError("A3: write causal_mask")


def padding_mask(lengths: Tensor, S: int) -> Tensor:
    """Return the mask that hides the padding behind sequences of different lengths.

        query i of sequence b may attend to key j        where j < lengths[b]

    It hides *keys*. What a padded query computes is thrown away later, so its row is like the others. The result joins
    a causal mask by `causal & padding`.

    Args:
        lengths: (b,), whole numbers from 0 to S.
        S: number of keys, padding included.

    Returns:
        (b, 1, 1, S), bool, on the device of `lengths`: it broadcasts over heads and queries; True means attend.

    Source: the opposite of `key_padding_mask` in `nn.MultiheadAttention`, where True means hide.
    """
    raise NotImplementedError("A3: write padding_mask")


def mha(
    x: Tensor,
    ctx: Tensor,
    Wq: Tensor,
    Wk: Tensor,
    Wv: Tensor,
    Wo: Tensor,
    h: int,
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    training: bool = False,
) -> Tensor:
    """Attend with several heads: x asks, ctx answers. Self-attention is `mha(x, x, ...)`.

        q = x Wqᵀ,   k = ctx Wkᵀ,   v = ctx Wvᵀ
        head i takes the features i · d/h to (i + 1) · d/h − 1 of q, k and v
        out_i  = dropout(softmax(q_i k_iᵀ / √(d/h))) v_i
        result = (out_0, out_1, ..., side by side) Woᵀ

    Args:
        x: (b, L, dx), where the queries come from.
        ctx: (b, S, dc), where keys and values come from; S may differ from L, and dc from dx.
        Wq: (d, dx), laid out like `nn.Linear.weight`: (out, in).
        Wk: (d, dc).
        Wv: (d, dc).
        Wo: (do, d).
        h: number of heads.
        mask: bool, broadcasts to (b, h, L, S); True means attend; None hides nothing.
        dropout: probability with which a weight is *dropped* in training; the others are divided by 1 − dropout.
        training: whether dropout acts. Without it the result is the same each time.

    Returns:
        (b, L, do). A query that may attend to nothing gets zeros.

    Raises:
        ValueError: d is no multiple of h.

    You may call `torch.softmax` and `F.dropout`, and your own functions. Build new tensors, where you need any, with
    the device and dtype of x.

    Source: Vaswani et al. 2017, section 3.2.2; equals `F.multi_head_attention_forward` without biases.
    """
    raise NotImplementedError("A4: write mha")


def sinusoidal(L: int, d: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the sinusoidal code of the positions 0 to L − 1.

        PE[p, 2i]     = sin(p / 10000^(2i / d))
        PE[p, 2i + 1] = cos(p / 10000^(2i / d))          i = 0, 1, ..., d/2 − 1

    Each pair of features (2i, 2i + 1) shares one frequency, so PE[p + k] is a rotation of PE[p] by an angle that
    depends on k alone.

    Args:
        L: number of positions.
        d: features, an even number.
        device: of the result; None takes PyTorch's default.

    Returns:
        (L, d), in PyTorch's default dtype.

    Raises:
        ValueError: d is odd.

    Source: Vaswani et al. 2017, section 3.5.
    """
    raise NotImplementedError("A5: write sinusoidal")


def rope(x: Tensor, pos: Tensor, base: float = 10000.0) -> Tensor:
    """Rotate queries or keys by their positions (rotary position embedding).

        θ_i = base^(−2i / d)                              i = 0, 1, ..., d/2 − 1
        y[2i]     = x[2i] · cos(p θ_i) − x[2i + 1] · sin(p θ_i)
        y[2i + 1] = x[2i] · sin(p θ_i) + x[2i + 1] · cos(p θ_i)

    at position p. A pair is two *neighbours*, 2i and 2i + 1, as in the paper. The product of a rotated query and a
    rotated key then depends on their positions through the difference alone.

    Args:
        x: (..., t, d), d even.
        pos: (t,), position of each step; whole numbers or not, in any order: they need not begin at 0.
        base: the slowest frequency is nearly 1 / base.

    Returns:
        Shaped like x, with its dtype and its device; each vector keeps its length. The angles must be as exact as
        float32 has them, also where x is bfloat16.

    Raises:
        ValueError: d is odd.

    Source: Su et al. 2021 (RoFormer), section 3.2.2.
    """
    raise NotImplementedError("A5: write rope")


def rotary_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos_q: Tensor,
    pos_k: Tensor,
    *,
    base: float = 10000.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Attend with rotary positions: queries and keys are rotated, each by its own positions, and values are not.

    Args:
        q: queries (..., L, d), d even.
        k: keys (..., S, d).
        v: values (..., S, dv); dv may be odd.
        pos_q: (L,), positions of the queries.
        pos_k: (S,), positions of the keys.
        base: as in `rope`.
        mask: as in `sdpa`.

    Returns:
        (..., L, dv). Moving all positions by one number changes nothing.

    You may call `F.scaled_dot_product_attention` here, or your own.

    Source: Su et al. 2021, section 3.
    """
    raise NotImplementedError("A5: write rotary_attention")


def additive_attention(
    query: Tensor, keys: Tensor, values: Tensor, Wq: Tensor, Wk: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend as the first translators did: a small network, and not a product, says how well a key matches.

        score_j = v · tanh(Wq query + Wk key_j)
        weights = softmax(score) over the keys
        context = Σ weights_j · value_j

    Args:
        query: (b, dq), one for each sequence: the decoder's state.
        keys: (b, S, dk).
        values: (b, S, dv).
        Wq: (a, dq), laid out like `nn.Linear.weight`: (out, in).
        Wk: (a, dk).
        v: (a,).
        mask: (b, S), bool; True means attend; None hides nothing.

    Returns:
        (context (b, dv), weights (b, S)), in that order; zeros where a query may attend to nothing.

    Source: Bahdanau, Cho & Bengio 2015, section 3.1 and appendix A.1.2.
    """
    raise NotImplementedError("A6: write additive_attention")


def decoder_step(
    x: Tensor,
    hidden: Tensor,
    memory: Tensor,
    mask: Tensor,
    align: tuple[Tensor, Tensor, Tensor],
    cell: Callable[[Tensor, Tensor], Tensor],
    readout: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of a decoder that looks at the source.

        context, weights = additive_attention(hidden, memory, memory, *align, mask)
        hidden'          = cell((x, context), hidden)
        logits           = readout((hidden', context))

    where ( , ) puts the features side by side, in that order. The *old* state asks: the new one needs the answer.

    Args:
        x: (b, dx), the embedded token that came before.
        hidden: (b, dh), the state before the step.
        memory: (b, S, dm), the encoder's outputs: keys and values in one.
        mask: (b, S), bool; True where memory is no padding.
        align: (Wq, Wk, v) of `additive_attention`.
        cell: `cell(inputs (b, dx + dm), hidden) -> hidden'`, such as a `nn.GRUCell`.
        readout: `readout(features (b, dh + dm)) -> logits`.

    Returns:
        (logits, hidden', weights (b, S)), in that order.

    Source: Bahdanau, Cho & Bengio 2015, section 3.1, with a simpler readout.
    """
    raise NotImplementedError("A6: write decoder_step")


def sequence_loss(step: Callable[[Tensor, Any], tuple[Tensor, Any]], state: Any, tokens: Tensor, pad: int) -> Tensor:
    """Return the loss of a decoder under teacher forcing: it is fed each true token, and asked for the next.

        tokens   begin  A  B  end  pad
        fed      begin  A  B  end
        asked          A  B  end  pad        where `pad` is asked, nothing counts

    Args:
        step: `step(token (b,), state) -> (logits (b, classes), state)`, the decoder; call it once for each step.
        state: before the first step.
        tokens: (b, t + 1), class numbers, t ≥ 1; each row begins with the begin token and may end in padding.
        pad: the class number of the padding; at least one token that is asked for is none.

    Returns:
        Shape (): the mean cross entropy (nats) over all tokens asked for that are no padding, of all rows together.

    You may call `F.cross_entropy`.

    Source: Williams & Zipser 1989 (teacher forcing); the mean equals `F.cross_entropy(ignore_index=pad)`.
    """
    raise NotImplementedError("A6: write sequence_loss")


def hard_attention(scores: Tensor, tau: float, mode: str, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose one place instead of taking a mean of all: hard attention, with two ways to a gradient.

    In both modes place i is chosen with probability softmax(scores)_i, whatever tau is, by noise of its own in each
    row:

        noise_i = −log(−log u_i),   u_i uniform in (0, 1)          Gumbel noise
        chosen  = argmax(scores + noise)                           has just that probability

    mode "gumbel"     choice is one-hot, and its gradient is that of softmax((scores + noise) / tau) with the same
                      noise (straight through)
    mode "reinforce"  choice is one-hot and carries no gradient; learn through `log_prob` (see `reinforce_loss`)

    Args:
        scores: (..., n), of the places; −inf is never chosen; at least one place is not −inf.
        tau: temperature above 0; small ones bring the soft weights close to the choice.
        mode: one of the two above.
        g: source of all randomness: equal generators give equal choices.

    Returns:
        (choice, log_prob), in that order: choice (..., n) with scores' dtype, 1 at the chosen place and 0 elsewhere, up
        to rounding; log_prob (...), log softmax(scores) at that place, with its gradient in both modes.

    Raises:
        ValueError: the mode is none of the two.

    You may call `torch.log_softmax`.

    Source: Jang, Gu & Poole 2017 and Maddison, Mnih & Teh 2017 (Gumbel); Xu et al. 2015, section 4.1 (REINFORCE).
    """
    raise NotImplementedError("A7: write hard_attention")


def reinforce_loss(log_prob: Tensor, reward: Tensor, baseline: Tensor | float) -> Tensor:
    """Return the loss whose gradient is, on average, that of the expected reward, with the sign turned.

        loss = −mean((reward − baseline) · log_prob)

    The baseline lowers the variance and changes nothing on average, as long as it does not depend on the choice.
    Neither reward nor baseline gets a gradient from this loss.

    Args:
        log_prob: (b,), of the choices that were made.
        reward: (b,), what each choice earned.
        baseline: what was expected to be earned: a number, () or (b,).

    Returns:
        Shape ().

    Source: Williams 1992; Xu et al. 2015, section 4.1.
    """
    raise NotImplementedError("A7: write reinforce_loss")


def cached_attention(
    q: Tensor, k: Tensor, v: Tensor, cache: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Attend causally from some new steps, to all steps before them and to themselves.

    Keys and values never change once they are computed, so they are kept: with P steps in the cache, new step i
    attends to all P old keys and to the new keys 0 to i. However a sequence is cut into pieces, the outputs are those
    of one causal pass over all of it.

    Args:
        q: (..., L, d), of the L new steps.
        k: (..., L, d), of the L new steps.
        v: (..., L, dv), of the L new steps.
        cache: (keys (..., P, d), values (..., P, dv)) of the steps before, as the call before returned it; None: there
            are none.

    Returns:
        (out (..., L, dv), cache), the latter with P + L steps. The cache that was handed in keeps its values: two
        continuations may start from it.

    You may use your own `sdpa` and `causal_mask`.

    Source: Vaswani et al. 2017, equation 1, masked as in section 3.2.3.
    """
    raise NotImplementedError("A8: write cached_attention")


def generate(
    model: Callable[..., tuple[Tensor, Any]],
    idx: Tensor,
    n: int,
    cache: bool = True,
    *,
    temperature: float = 0.0,
    g: torch.Generator | None = None,
) -> Tensor:
    """Continue sequences by n tokens, one at a time.

    Each token comes from the model's logits at the *last* position:

        temperature 0        the most likely token
        temperature above 0  `torch.multinomial(softmax(logits / temperature), 1, generator=g)`, one call for the batch

    Args:
        model: `model(idx (b, t), cache=None, start=0) -> (logits (b, t, classes), cache)`. It is fed some tokens, of
            which the first stands at position `start`; `cache` is what it returned for all tokens before them, None
            where there are none. It may be any function of this shape, and what its cache is, is its own affair.
        idx: (b, t), the prompts, t ≥ 1, int64.
        n: number of tokens to add, at least 0.
        cache: True feeds the prompt once, and then each new token alone, with the cache and its true position.
            False feeds the whole sequence again for each token, from position 0 and without a cache. Both give the same
            tokens, and call the model n times: the last token is not fed.
        temperature: of the sampling.
        g: source of randomness; None takes PyTorch's own. Unused at temperature 0.

    Returns:
        (b, t + n): the prompts with their continuations; idx keeps its values. No gradients are recorded, and nothing
        is remembered from one call of `generate` to the next.

    Source: the ordinary decoding loop; Vaswani et al. 2017, section 3.1 (auto-regressive).
    """
    raise NotImplementedError("A8: write generate")


def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int, *, causal: bool = False) -> Tensor:
    """Attend exactly, but read keys and values in blocks, so that the scores of all pairs never exist at once.

    Three things are kept for each query while the blocks go by: the highest score m so far, the sum l of the
    exponentials, and the sum o of values, both relative to m. A block with scores s = q kᵀ / √d and values v does:

        m' = max(m, max s)
        l' = exp(m − m') · l + Σ exp(s − m')
        o' = exp(m − m') · o + exp(s − m') v

    and the result is o / l at the end. Before the first block m = −inf, l = 0 and o = 0.

    Args:
        q: queries (..., L, d).
        k: keys (..., S, d), S ≥ 1.
        v: values (..., S, dv).
        block: number of keys in a block, at least 1; the last block may be shorter, and the only one may be all.
        causal: whether query i attends to the keys j ≤ i + S − L alone, as in `causal_mask`. Such a query may find
            nothing in some blocks, or in all: then its result is zeros.

    Returns:
        (..., L, dv), equal to attention in one piece up to rounding, with gradients. No tensor on the way has L · S
        elements or more, a mask neither (where that is more than q, k, v and the result have).

    Source: Milakov & Gimelshein 2018 (the running maximum); Dao et al. 2022, algorithm 1 (FlashAttention).
    """
    raise NotImplementedError("A8: write online_attention")
