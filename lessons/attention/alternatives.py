"""Other right solutions of lesson 6, which the grader must accept: written as learners write them."""

# Learners' code, as it comes.
# pyright: reportIncompatibleMethodOverride=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.grading.answers import alternative

# -------------------------------------------------------------------------------------- A1 softmax


@alternative("softmax", says="the axis moved to the end, the logarithm of the sum taken off in the exponent")
def softmax_in_the_exponent(x, dim):
    x = x.movedim(dim, -1)
    top = x.max(-1, keepdim=True).values
    top = torch.where(torch.isinf(top), torch.zeros_like(top), top)
    total = torch.exp(x - top).sum(-1, keepdim=True)
    log_total = torch.where(total == 0, torch.ones_like(total), total).log()
    return torch.exp(x - top - log_total).movedim(-1, dim)


@alternative("softmax", says="hidden slices replaced by zeros before, and wiped after")
def softmax_wiped_afterwards(x, dim):
    alive = (x > -math.inf).any(dim, keepdim=True)
    safe = torch.where(alive, x, torch.zeros_like(x))
    weights = torch.exp(safe - safe.amax(dim=dim, keepdim=True).detach())
    weights = weights / weights.sum(dim=dim, keepdim=True)
    return weights * alive


@alternative("softmax", says="row by row, the maximum taken off as a number")
def softmax_row_by_row(x, dim):
    rows = []
    for row in x.movedim(dim, -1).reshape(-1, x.shape[dim]):
        top = row.max().item()
        if top == -math.inf:
            rows.append(row.clamp(min=0) * 0)
        else:
            weights = torch.exp(row - top)
            rows.append(weights / weights.sum())
    if not rows:
        return x.clone()
    return torch.stack(rows).view(x.movedim(dim, -1).shape).movedim(-1, dim)


# ----------------------------------------------------------------------------------------- A2 sdpa


@alternative("sdpa", says="einsum, a floating mask made of the boolean one, NaN rows wiped before they can spread")
def sdpa_by_einsum(q, k, v, mask=None, scale=None):
    if scale is None:
        scale = q.size(-1) ** -0.5
    scores = torch.einsum("...ld,...sd->...ls", q, k) * scale
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask.logical_not(), float("-inf"))
        scores = scores + mask
    nothing = (scores == float("-inf")).all(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)
    return torch.einsum("...ls,...sv->...lv", weights, v)


@alternative("sdpa", says="the queries scaled first, torch.where for the mask, the result divided at the end")
def sdpa_divided_at_the_end(q, k, v, mask=None, scale=None):
    q = q / math.sqrt(k.shape[-1]) if scale is None else q * scale
    scores = torch.matmul(q, k.transpose(-2, -1))
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    elif mask is not None:
        scores = torch.where(mask, scores, torch.tensor(-torch.inf, dtype=scores.dtype, device=scores.device))
    top = scores.max(dim=-1, keepdim=True)[0].detach()
    weights = torch.exp(scores - torch.nan_to_num(top, neginf=0.0))
    total = weights.sum(dim=-1, keepdim=True)
    return torch.matmul(weights, v) / torch.where(total > 0, total, torch.ones_like(total))


@alternative("sdpa", says="baddbmm on flat batches")
def sdpa_on_flat_batches(q, k, v, mask=None, scale=None):
    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    (L, d), (S, dv) = q.shape[-2:], v.shape[-2:]
    count = math.prod(lead)
    flat = [part.expand(*lead, *part.shape[-2:]).reshape(count, *part.shape[-2:]) for part in (q, k, v)]
    added = torch.zeros(L, S, dtype=q.dtype, device=q.device)
    if mask is not None:
        added = mask if mask.is_floating_point() else torch.where(mask, added[:1, :1], -torch.inf)
    added = added.expand(*lead, L, S).reshape(count, L, S)
    scores = torch.baddbmm(added, flat[0], flat[1].transpose(1, 2), alpha=d**-0.5 if scale is None else scale)
    seen = (scores != -torch.inf).any(-1, keepdim=True)
    weights = F.softmax(torch.where(seen, scores, torch.zeros_like(scores)), -1) * seen
    return torch.bmm(weights, flat[2]).reshape(*lead, L, dv)


# ---------------------------------------------------------------------------------------- A3 masks


@alternative("causal_mask", says="two aranges compared")
def causal_by_comparing(L, S, *, device=None):
    queries = torch.arange(L, device=device).unsqueeze(1)
    keys = torch.arange(S, device=device).unsqueeze(0)
    return keys - queries <= S - L


@alternative("causal_mask", says="the opposite of the strict upper triangle")
def causal_by_the_opposite(L, S, *, device=None):
    return ~torch.triu(torch.ones((L, S), device=device), diagonal=S - L + 1).bool()


@alternative("causal_mask", says="row by row in Python")
def causal_row_by_row(L, S, device=None):
    mask = torch.zeros(L, S, dtype=torch.bool)
    for query in range(L):
        mask[query, : max(0, query + S - L + 1)] = True
    return mask.to(device) if device else mask


@alternative("padding_mask", says="row by row in Python")
def padding_row_by_row(lengths, S):
    mask = torch.zeros(len(lengths), 1, 1, S, dtype=torch.bool, device=lengths.device)
    for b, length in enumerate(lengths.tolist()):
        mask[b, :, :, :length] = True
    return mask


@alternative("padding_mask", says="positions expanded, compared, viewed")
def padding_expanded(lengths, S):
    positions = torch.arange(S).to(lengths.device).expand(lengths.size(0), S)
    return positions.lt(lengths.unsqueeze(1)).view(-1 if S else lengths.size(0), 1, 1, S)


# ------------------------------------------------------------------------------------------ A4 mha


@alternative("mha", says="einsum with weights that carry a head axis")
def mha_by_einsum(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    d = Wq.shape[0]
    if d % h != 0:
        raise ValueError(f"{d} features do not split into {h} heads")
    Wq, Wk, Wv = (W.reshape(h, d // h, W.shape[1]) for W in (Wq, Wk, Wv))
    q = torch.einsum("bld,hed->bhle", x, Wq)
    k = torch.einsum("bsd,hed->bhse", ctx, Wk)
    v = torch.einsum("bsd,hed->bhse", ctx, Wv)
    scores = torch.einsum("bhle,bhse->bhls", q, k) * (d // h) ** -0.5
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
        nothing = ~mask.any(-1, keepdim=True)
        weights = torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    else:
        weights = torch.softmax(scores, -1)
    if training:
        weights = torch.dropout(weights, dropout, True)
    out = torch.einsum("bhls,bhse->bhle", weights, v)
    return torch.einsum("bhle,ohe->blo", out, Wo.reshape(Wo.shape[0], h, d // h))


@alternative("mha", says="heads folded into the batch, the mask with them; nn.Dropout")
def mha_folded(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    b, L, S, d = x.shape[0], x.shape[1], ctx.shape[1], Wq.shape[0]
    if d // h * h != d:
        raise ValueError("d must be a multiple of h")

    def fold(y, steps):
        return y.reshape(b, steps, h, d // h).permute(0, 2, 1, 3).reshape(b * h, steps, d // h)

    q, k, v = fold(F.linear(x, Wq), L), fold(F.linear(ctx, Wk), S), fold(F.linear(ctx, Wv), S)
    scores = torch.bmm(q, k.transpose(1, 2)) / math.sqrt(d / h)
    if mask is not None:
        hidden = ~mask.expand(b, h, L, S).reshape(b * h, L, S)
        scores = scores.masked_fill(hidden, -math.inf)
    weights = torch.nan_to_num(scores, neginf=-1e30).softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(hidden, 0.0)
    drop = nn.Dropout(dropout).train(training)
    out = torch.bmm(drop(weights), v)
    return F.linear(out.reshape(b, h, L, d // h).permute(0, 2, 1, 3).reshape(b, L, d), Wo)


@alternative("mha", says="a loop over heads, each with its rows of the weights and its columns of Wo")
def mha_head_by_head(x, ctx, Wq, Wk, Wv, Wo, h, mask=None, *, dropout=0.0, training=False):
    width, rest = divmod(Wq.shape[0], h)
    if rest:
        raise ValueError(h)
    total = 0
    for head, (q, k, v, o) in enumerate(
        zip(Wq.split(width), Wk.split(width), Wv.split(width), Wo.split(width, 1), strict=True)
    ):
        scores = (x @ q.T) @ (ctx @ k.T).transpose(1, 2) / width**0.5
        if mask is not None:
            seen = mask.expand(len(x), h, x.shape[1], ctx.shape[1])[:, head]
            scores = torch.where(seen, scores, -torch.inf)
            alive = seen.any(-1, keepdim=True)
            weights = torch.where(alive, torch.where(alive, scores, 0.0).softmax(-1), 0.0)
        else:
            weights = scores.softmax(-1)
        total = total + F.dropout(weights, dropout, training) @ (ctx @ v.T) @ o.T
    return total


# ------------------------------------------------------------------------------------ A5 positions


@alternative("sinusoidal", says="filled in by columns, the frequencies by exp and log")
def sinusoidal_by_columns(L, d, *, device=None):
    if d % 2 == 1:
        raise ValueError("d is odd")
    table = torch.zeros(L, d, device=device)
    position = torch.arange(0, L, dtype=torch.float32, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, d, 2, device=device).float() * (-math.log(10000.0) / d))
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)
    return table


@alternative("sinusoidal", says="cosines as shifted sines")
def sinusoidal_shifted(L, d, device=None):
    if d & 1:
        raise ValueError(f"d = {d}")
    j = torch.arange(d, device=device)
    rate = torch.pow(10000.0, -2 * torch.div(j, 2, rounding_mode="floor") / d)
    return torch.sin(torch.outer(torch.arange(L, device=device).float(), rate) + j % 2 * math.pi / 2)


@alternative("rope", says="complex numbers")
def rope_by_complex_numbers(x, pos, base=10000.0):
    d = x.shape[-1]
    if d % 2 != 0:
        raise ValueError("odd width")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    rate = 1.0 / base ** (torch.arange(0, d, 2, device=x.device, dtype=wide) / d)
    angle = torch.outer(pos.to(wide), rate)
    turns = torch.polar(torch.ones_like(angle), angle)
    pairs = torch.view_as_complex(x.to(wide).contiguous().reshape(*x.shape[:-1], d // 2, 2))
    return torch.view_as_real(pairs * turns).reshape(x.shape).to(x.dtype)


@alternative("rope", says="x · cos + rotated x · sin, with repeated angles")
def rope_with_repeated_angles(x, pos, base=10000.0):
    if x.size(-1) % 2:
        raise ValueError(x.shape)
    theta = torch.exp(torch.arange(0, x.size(-1), 2, device=x.device).double() * (-math.log(base) / x.size(-1)))
    angle = (pos.double().unsqueeze(-1) * theta).repeat_interleave(2, dim=-1)
    swapped = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).reshape(x.shape)
    return x * angle.cos().to(x.dtype) + swapped * angle.sin().to(x.dtype)


@alternative("rope", says="a table of 2 × 2 matrices")
def rope_by_matrices(x, pos, base=10000.0):
    d = x.shape[-1]
    if d % 2:
        raise ValueError("rope wants pairs")
    wide = torch.promote_types(x.dtype, torch.float32)
    rate = torch.tensor([base ** (-2.0 * i / d) for i in range(d // 2)], dtype=wide, device=x.device)
    angle = pos.to(wide)[:, None] * rate
    matrix = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))
    return (matrix @ x.to(wide).unflatten(-1, (-1, 2)).unsqueeze(-1)).flatten(-3).to(x.dtype)


@alternative("rotary_attention", says="by PyTorch's attention, with a rotation of its own")
def rotary_by_pytorch(q, k, v, pos_q, pos_k, *, base=10000.0, mask=None):
    def turn(x, pos):
        rate = base ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
        angle = (pos[:, None] * rate).to(x.dtype)
        y = torch.empty_like(x)
        y[..., 0::2] = x[..., 0::2] * angle.cos() - x[..., 1::2] * angle.sin()
        y[..., 1::2] = x[..., 0::2] * angle.sin() + x[..., 1::2] * angle.cos()
        return y

    return F.scaled_dot_product_attention(turn(q, pos_q), turn(k, pos_k), v, attn_mask=mask)


@alternative("rotary_attention", says="scores by products of complex numbers")
def rotary_by_complex_scores(q, k, v, pos_q, pos_k, base=10000.0, mask=None):
    d = q.shape[-1]
    rate = torch.tensor([base ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    q, k = (torch.view_as_complex(x.unflatten(-1, (d // 2, 2)).contiguous()) for x in (q, k))
    q = q * torch.exp(1j * pos_q[:, None] * rate)
    k = k * torch.exp(1j * pos_k[:, None] * rate)
    scores = (q @ k.mH).real.to(v.dtype) / d**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, -1) @ v


# ------------------------------------------------------------------------------------ A6 alignment


@alternative("additive_attention", says="einsum, and hidden keys wiped before and after")
def additive_by_einsum(query, keys, values, Wq, Wk, v, mask=None):
    hidden = torch.einsum("aq,bq->ba", Wq, query).unsqueeze(1) + torch.einsum("ak,bsk->bsa", Wk, keys)
    scores = torch.einsum("a,bsa->bs", v, torch.tanh(hidden))
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=1) * mask
    return torch.einsum("bs,bsv->bv", weights, values), weights


@alternative("additive_attention", says="one layer on query and key side by side")
def additive_side_by_side(query, keys, values, Wq, Wk, v, mask=None):
    both = torch.cat([query.unsqueeze(1).expand(-1, keys.shape[1], -1), keys], dim=-1)
    scores = F.linear(torch.tanh(F.linear(both, torch.cat([Wq, Wk], dim=1))), v[None]).squeeze(-1)
    if mask is not None:
        scores = scores.masked_fill(mask == 0, float("-inf"))
    exps = torch.exp(scores - scores.max(dim=1, keepdim=True)[0].clamp(min=-1e30))
    weights = exps / exps.sum(dim=1, keepdim=True).clamp(min=1e-30)
    return (weights.unsqueeze(-1) * values).sum(dim=1), weights


@alternative("decoder_step", says="with the attention written out")
def decoder_step_written_out(x, hidden, memory, mask, align, cell, readout):
    Wq, Wk, v = align
    scores = torch.tanh((hidden @ Wq.T).unsqueeze(1) + memory @ Wk.T).matmul(v)
    weights = torch.softmax(torch.where(mask, scores, -torch.inf), 1)
    context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
    new = cell(torch.hstack((x, context)), hidden)
    return readout(torch.hstack((new, context))), new, weights


@alternative("decoder_step", says="by a loop over the batch")
def decoder_step_row_by_row(x, hidden, memory, mask, align, cell, readout):
    Wq, Wk, v = align
    contexts, weights = [], []
    for state, source, seen in zip(hidden, memory, mask, strict=True):
        scores = torch.tanh(source @ Wk.T + Wq @ state) @ v
        row = torch.zeros_like(scores)
        row[seen] = torch.softmax(scores[seen], 0)
        weights.append(row)
        contexts.append(row @ source)
    context = torch.stack(contexts)
    hidden = cell(torch.cat((x, context), dim=1), hidden)
    return readout(torch.cat((hidden, context), dim=1)), hidden, torch.stack(weights)


@alternative("sequence_loss", says="a running sum and a running count")
def sequence_loss_running(step, state, tokens, pad):
    total, count = 0.0, 0
    for place in range(1, tokens.shape[1]):
        logits, state = step(tokens[:, place - 1], state)
        total = total + F.cross_entropy(logits, tokens[:, place], ignore_index=pad, reduction="sum")
        count += (tokens[:, place] != pad).sum()
    return total / count


@alternative("sequence_loss", says="log-probabilities gathered and weighted")
def sequence_loss_gathered(step, state, tokens, pad):
    rows = []
    for token in tokens[:, :-1].T:
        logits, state = step(token, state)
        rows.append(torch.log_softmax(logits, -1))
    asked = tokens[:, 1:]
    log_probs = torch.stack(rows, 1).gather(2, asked.unsqueeze(2)).squeeze(2)
    real = (asked != pad).to(log_probs.dtype)
    return -(log_probs * real).sum() / real.sum()


# ---------------------------------------------------------------------------------- A7 hard choices


@alternative("hard_attention", says="two logarithms of uniform numbers; the one-hot less the soft weights, plus them")
def hard_by_two_logarithms(scores, tau, mode, g):
    if mode not in {"gumbel", "reinforce"}:
        raise ValueError(mode)
    u = torch.rand(scores.shape, generator=g, dtype=scores.dtype, device=scores.device)
    noise = -torch.log(-torch.log(u.clamp(1e-20, 1 - 1e-7)))
    index = (scores + noise).argmax(-1)
    hard = F.one_hot(index, scores.shape[-1]).to(scores.dtype)
    log_prob = torch.log_softmax(scores, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    if mode == "reinforce":
        return hard, log_prob
    soft = torch.softmax((scores + noise) / tau, -1)
    return hard - soft.detach() + soft, log_prob


@alternative("hard_attention", says="the choice by torch.multinomial where it needs no gradient; log of the chosen")
def hard_by_multinomial(scores, tau, mode, g):
    log_probs = scores - scores.logsumexp(-1, keepdim=True)
    if mode == "reinforce":
        flat = log_probs.detach().exp().reshape(-1, scores.shape[-1])
        index = torch.multinomial(flat, 1, generator=g).view(scores.shape[:-1])
        choice = F.one_hot(index, scores.shape[-1]).type_as(scores)
    elif mode == "gumbel":
        noise = -torch.empty(scores.shape, dtype=scores.dtype).exponential_(generator=g).log()
        soft = F.softmax((log_probs + noise) / tau, dim=-1)
        index = soft.argmax(dim=-1)
        choice = _straight_through.apply(soft)
    else:
        raise ValueError(f"unknown mode {mode}")
    return choice, torch.take_along_dim(log_probs, index.unsqueeze(-1), -1).squeeze(-1)


class _straight_through(torch.autograd.Function):  # noqa: N801
    @staticmethod
    def forward(ctx, soft):
        return F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


@alternative("reinforce_loss", says="a dot product by the number of rows")
def reinforce_by_dot_product(log_prob, reward, baseline):
    with torch.no_grad():
        advantage = (reward - baseline) + torch.zeros_like(log_prob)
    return -torch.dot(advantage, log_prob) / log_prob.numel()


@alternative("reinforce_loss", says="reward and baseline detached one by one")
def reinforce_detached_one_by_one(log_prob, reward, baseline):
    if torch.is_tensor(baseline):
        baseline = baseline.detach()
    return torch.mean((baseline - reward.detach()) * log_prob)


# ----------------------------------------------------------------------------------- A8 generation


@alternative("cached_attention", says="positions compared, where and softmax")
def cached_by_positions(q, k, v, cache=None):
    old = 0 if cache is None else cache[0].shape[-2]
    if cache is not None:
        k, v = (torch.cat(pair, dim=-2) for pair in zip(cache, (k, v), strict=True))
    queries = torch.arange(old, old + q.shape[-2], device=q.device)
    keys = torch.arange(k.shape[-2], device=q.device)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = torch.where(keys <= queries[:, None], scores, -torch.inf)
    return torch.softmax(scores, -1) @ v, (k, v)


@alternative("cached_attention", says="scores with the past and with the new steps apart, only the latter masked")
def cached_in_two_parts(q, k, v, cache=None):
    scale, L = q.shape[-1] ** -0.5, q.shape[-2]
    future = torch.ones(L, L, dtype=torch.bool, device=q.device).triu(1)
    scores = (q @ k.mT * scale).masked_fill(future, -math.inf)
    if cache is not None:
        scores = torch.cat([q @ cache[0].mT * scale, scores], -1)
        k, v = torch.cat([cache[0], k], -2), torch.cat([cache[1], v], -2)
    return scores.softmax(-1) @ v, (k, v)


@alternative("cached_attention", says="one query at a time")
def cached_one_query_at_a_time(q, k, v, cache=None):
    past = 0
    if cache is not None:
        past = cache[0].size(-2)
        k, v = torch.cat((cache[0], k), dim=-2), torch.cat((cache[1], v), dim=-2)
    rows = []
    for i in range(q.size(-2)):
        seen = past + i + 1
        scores = (q[..., i : i + 1, :] * k[..., :seen, :]).sum(-1) / math.sqrt(q.size(-1))
        rows.append((scores.softmax(-1).unsqueeze(-1) * v[..., :seen, :]).sum(-2))
    return torch.stack(rows, dim=-2), (k, v)


@alternative("generate", says="the prompt first, then a loop; two ways apart")
def generate_prompt_first(model, idx, n, cache=True, *, temperature=0.0, g=None):
    def pick(logits):
        if temperature == 0:
            return logits[:, -1].argmax(-1)[:, None]
        return torch.multinomial(F.softmax(logits[:, -1, :] / temperature, dim=-1), 1, generator=g)

    out = idx.clone()
    with torch.no_grad():
        if not cache:
            for _ in range(n):
                out = torch.cat((out, pick(model(out, cache=None, start=0)[0])), dim=1)
            return out
        feed, state, fed = idx, None, 0
        for _ in range(n):
            logits, state = model(feed, cache=state, start=fed)
            fed += feed.shape[1]
            feed = pick(logits)
            out = torch.cat((out, feed), dim=1)
    return out


@alternative("generate", says="memory for all tokens at once, filled in place; under inference mode")
@torch.inference_mode()
def generate_in_place(model, idx, n, cache=True, temperature=0.0, g=None):
    b, t = idx.shape
    tokens = torch.empty(b, t + n, dtype=idx.dtype, device=idx.device)
    tokens[:, :t] = idx
    state = None
    for place in range(t, t + n):
        start = 0 if place == t or not cache else place - 1
        logits, new = model(tokens[:, start:place], cache=state if cache else None, start=start)
        state = new
        final = logits[:, -1]
        if temperature:
            tokens[:, place] = torch.multinomial((final / temperature).softmax(-1), 1, generator=g)[:, 0]
        else:
            tokens[:, place] = final.max(-1).indices
    return tokens


@alternative("online_attention", says="the mask by positions, exp of NaN wiped, everything with one axis less")
def online_with_flat_statistics(q, k, v, block, *, causal=False):
    L, S = q.shape[-2], k.shape[-2]
    m = torch.full(q.shape[:-1], -torch.inf, dtype=q.dtype, device=q.device)
    norm = torch.zeros(q.shape[:-1], dtype=q.dtype, device=q.device)
    acc = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
    for start in range(0, S, block):
        end = min(start + block, S)
        s = torch.einsum("...ld,...sd->...ls", q, k[..., start:end, :]) / q.shape[-1] ** 0.5
        if causal:
            i = torch.arange(L, device=q.device).unsqueeze(1)
            j = torch.arange(start, end, device=q.device).unsqueeze(0)
            s = torch.where(j <= i + S - L, s, -torch.inf)
        new = torch.maximum(m, s.max(dim=-1).values)
        safe = torch.where(torch.isinf(new), torch.zeros_like(new), new)
        p = torch.exp(s - safe.unsqueeze(-1))
        factor = torch.exp(m - safe)
        norm = norm * factor + p.sum(dim=-1)
        acc = acc * factor.unsqueeze(-1) + torch.einsum("...ls,...sv->...lv", p, v[..., start:end, :])
        m = new
    return acc / torch.where(norm == 0, torch.ones_like(norm), norm).unsqueeze(-1)


@alternative("online_attention", says="finished blocks merged by the logarithms of their sums")
def online_by_merging(q, k, v, block, *, causal=False):
    L, S = q.shape[-2], k.shape[-2]
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype, device=q.device)
    log_sum = torch.full((*q.shape[:-1], 1), -1e30, dtype=q.dtype, device=q.device)
    for number, (keys, values) in enumerate(zip(k.split(block, -2), v.split(block, -2), strict=True)):
        scores = q @ keys.mT * q.shape[-1] ** -0.5
        if causal:
            place = torch.arange(keys.shape[-2], device=q.device) + number * block
            scores = scores.masked_fill(place > torch.arange(L, device=q.device)[:, None] + S - L, -1e30)
        part_sum = torch.logsumexp(scores, -1, keepdim=True)
        share = torch.sigmoid(part_sum - log_sum)
        out = out + share * (torch.softmax(scores, -1) @ values - out)
        log_sum = torch.logaddexp(log_sum, part_sum)
    return torch.where(log_sum < -1e20, torch.zeros_like(out), out)
