"""What each exercise of lesson 6 must do: one regime in each check, the smallest inputs first.

Random numbers of the learner's are judged in A4 (dropout) and A7 (choices). Each of the 17 comparisons refuses a right
answer with probability 6e-7 (5 standard errors; the χ² tests have their threshold at the same probability): all
together once in about 100 000 gradings.
"""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.grading import close, holds, raises, same
from lessons.attention import probes

EXACT = 1e-12  # float64, a few operations


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def coins(rng: torch.Generator, *shape: int) -> Tensor:
    """Draw True or False; along the last axis at least one is True, and one False where there are two."""
    order = torch.rand(shape, generator=rng).argsort(-1)
    return order < whole(rng, 1, max(1, shape[-1] - 1))


def transposed(tensor: Tensor) -> Tensor:
    """Return an equal tensor that is not contiguous."""
    return tensor.mT.contiguous().mT


def follow_gradients(
    learner: Any,
    rng: torch.Generator,
    reference: Any,
    name: str,
    inputs: list[Any],
    wrt: list[int],
    rtol: float | None = None,
    **settings: Any,
) -> None:
    """Compare the outputs of a function and the gradients of a weighted sum of them with the reference's."""
    made = getattr(reference, name)(*inputs, **settings)
    weights = [draw(rng, *part.shape) for part in ([made] if isinstance(made, Tensor) else made)]
    given = {"name": name, "inputs": inputs, "wrt": wrt, "weights": weights, "settings": settings}
    got, expected = learner.run(probes.weighted_gradients, **given), probes.weighted_gradients(reference, **given)
    for part in ("outputs", "gradients"):
        shown = {"inputs": inputs, **settings}
        close(got[part], expected[part], where=f"the {part}", inputs=shown, rtol=rtol, scale=1.0)


def stays_elsewhere(learner: Any, name: str, shapes: list[Any], shape: list[int], **settings: Any) -> None:
    """Expect the result on the device of the inputs."""
    got = learner.run(probes.elsewhere, name=name, shapes=shapes, settings=settings)
    inputs = {"tensors on a device": "meta", **settings}
    same(got, {"device": "meta", "shape": shape}, where=f"device and shape of what {name} returns", inputs=inputs)


# -------------------------------------------------------------------------------------- A1 softmax


def plain_softmax(x: Tensor, dim: int) -> Tensor:
    """Return torch.softmax, with zeros for slices of −inf."""
    hidden = (x == -math.inf).all(dim, keepdim=True)
    return torch.softmax(x.masked_fill(hidden, 0.0), dim).masked_fill(hidden, 0.0)


def one_softmax(learner: Any, x: Tensor, dim: int, rtol: float | None = None) -> None:
    """Let the learner compute one softmax, and compare."""
    expected = plain_softmax(x.double(), dim).to(x.dtype)
    close(learner.softmax(x, dim), expected, where="softmax", inputs={"x": x, "dim": dim}, rtol=rtol)


@pytest.mark.exercise("softmax")
def test_softmax_closed_form(learner, rng):
    """Scores 0, ln 2 and ln 5 become weights 1/8, 2/8 and 5/8."""
    x = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).log()
    expected = torch.tensor([0.125, 0.25, 0.625], dtype=torch.float64)
    close(learner.softmax(x, 0), expected, where="softmax", inputs={"x": x, "dim": 0}, rtol=EXACT)


@pytest.mark.exercise("softmax")
@pytest.mark.points(2)
def test_softmax_any_axis(learner, rng):
    """Along every axis, counted from the front or from the end, the weights follow torch.softmax."""
    for dim in (0, -1, 1, 2, -2, -3):
        one_softmax(learner, draw(rng, 2, 3, 4), dim, EXACT)


@pytest.mark.exercise("softmax")
@pytest.mark.points(2)
def test_softmax_large_scores(learner, rng):
    """Scores of ±10 000 neither overflow nor vanish."""
    for dtype in (torch.float64, torch.float32):
        for shift in (1e4, -1e4):
            one_softmax(learner, shift + draw(rng, 3, dtype=dtype).round(), -1)
    far = torch.tensor([-1000.0, 0.0, 1000.0, 999.0])
    one_softmax(learner, far, -1)


@pytest.mark.exercise("softmax")
@pytest.mark.points(2)
def test_softmax_unequal_rows(learner, rng):
    """A row with scores of 500 leaves a row with scores of −500 alone."""
    x = draw(rng, 2, 3, dtype=torch.float32) + torch.tensor([[500.0], [-500.0]])
    one_softmax(learner, x, 1)
    one_softmax(learner, x.mT.contiguous(), 0)
    one_softmax(learner, 3.0 * x.double(), -1)


@pytest.mark.exercise("softmax")
def test_softmax_hidden_scores(learner, rng):
    """A score of −inf gets the weight 0, and the others share the rest."""
    x = draw(rng, 4, 5).masked_fill(~coins(rng, 4, 5), -math.inf)
    one_softmax(learner, x, -1, EXACT)


@pytest.mark.exercise("softmax")
@pytest.mark.points(2)
def test_softmax_nothing_to_choose(learner, rng):
    """A slice of nothing but −inf becomes zeros, beside slices that are as they were."""
    x = draw(rng, 3, 4)
    x[1] = -math.inf
    one_softmax(learner, x, -1, EXACT)
    one_softmax(learner, x.mT.contiguous(), 0, EXACT)
    one_softmax(learner, torch.full((2,), -math.inf), 0)


@pytest.mark.exercise("softmax")
@pytest.mark.points(2)
def test_softmax_gradient(learner, rng):
    """Gradients follow torch.softmax, and are zero in a slice of −inf."""
    reference = SimpleNamespace(softmax=plain_softmax)
    x = draw(rng, 3, 4)
    follow_gradients(learner, rng, reference, "softmax", [x, -1], [0])
    x[1], x[2, 0] = -math.inf, -math.inf
    follow_gradients(learner, rng, reference, "softmax", [x, -1], [0])


@pytest.mark.exercise("softmax")
def test_softmax_any_shape_and_dtype(learner, rng):
    """Any floating dtype goes in and comes out again; an empty batch, one entry and transposed memory work."""
    # In half precision a score near 4 is rounded by as much as its exponential is then off, relatively.
    for dtype, rtol in ((torch.float32, None), (torch.bfloat16, 0.04), (torch.float16, 0.005)):
        one_softmax(learner, draw(rng, 3, 5, dtype=dtype), -1, rtol)
    for shape in ((1,), (0, 3), (1, 1), (2, 1, 3)):
        one_softmax(learner, draw(rng, *shape), -1, EXACT)
    one_softmax(learner, transposed(draw(rng, 3, 4)), 0, EXACT)


# ----------------------------------------------------------------------------------------- A2 sdpa


def torch_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Return what PyTorch's attention returns; it takes no mask with a single axis."""
    mask = mask[None] if mask is not None and mask.dim() == 1 else mask
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def one_sdpa(
    learner: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    rtol: float | None = 1e-11,
) -> None:
    """Let the learner attend once, and compare."""
    arguments = {"mask": mask, "scale": scale}
    chosen = {name: value for name, value in arguments.items() if value is not None}
    # Added where it is float, so that the reference may work in float64 whatever the dtype.
    wide = mask.double() if mask is not None and mask.is_floating_point() else mask
    expected = torch_sdpa(q.double(), k.double(), v.double(), wide, scale).to(q.dtype)
    inputs = {"q": q, "k": k, "v": v, **chosen}
    close(learner.sdpa(q, k, v, **chosen), expected, where="attention", inputs=inputs, rtol=rtol, scale=v)


def qkv(rng: torch.Generator, lead: tuple[int, ...], L: int, S: int, d: int, dv: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw queries (*lead, L, d), keys (*lead, S, d) and values (*lead, S, dv)."""
    return draw(rng, *lead, L, d), draw(rng, *lead, S, d), draw(rng, *lead, S, dv)


@pytest.mark.exercise("scaled_dot_product")
def test_sdpa_closed_form(learner, rng):
    """Two keys with scores ln 3 and 0 share the weight 3 to 1."""
    q = torch.tensor([[2 * math.log(3), 0.0, 0.0, 0.0]], dtype=torch.float64)
    k = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    v = torch.tensor([[4.0], [0.0]], dtype=torch.float64)
    expected = torch.tensor([[3.0]], dtype=torch.float64)
    close(learner.sdpa(q, k, v), expected, where="attention", inputs={"q": q, "k": k, "v": v}, rtol=EXACT)


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_without_a_mask(learner, rng):
    """With other numbers of keys than queries and wider values, attention follows PyTorch's."""
    one_sdpa(learner, *qkv(rng, (), 2, 3, 4, 1))
    one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 7))
    one_sdpa(learner, *qkv(rng, (2,), 5, 3, 2, 4))


@pytest.mark.exercise("scaled_dot_product")
def test_sdpa_scale(learner, rng):
    """A scale that is given is used, 0 among them."""
    for scale in (0.3, 1.0, 0.0):
        one_sdpa(learner, *qkv(rng, (2,), 3, 4, 5, 2), scale=scale)


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_boolean_mask(learner, rng):
    """True means attend, False means look away; the weights that are left sum to 1."""
    one_sdpa(learner, *qkv(rng, (), 1, 3, 4, 2), mask=torch.tensor([[True, True, False]]))
    one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 2), mask=coins(rng, 4, 5))


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_mask_broadcasts(learner, rng):
    """A mask may have fewer axes than the scores, or axes of size 1."""
    for shape in ((2, 1, 4, 5), (2, 1, 1, 5), (3, 1, 5), (5,), (2, 3, 4, 5)):
        one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 2), mask=coins(rng, *shape))


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_floating_mask(learner, rng):
    """A floating mask is added to the scores."""
    one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 2), mask=draw(rng, 4, 5))
    one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 2), mask=draw(rng, 2, 1, 1, 5), scale=0.7)
    hidden = torch.zeros(4, 5, dtype=torch.float64).masked_fill(~coins(rng, 4, 5), -math.inf)
    one_sdpa(learner, *qkv(rng, (2, 3), 4, 5, 6, 2), mask=hidden)


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_nothing_to_see(learner, rng):
    """A query that may attend to nothing gets zeros, and the others what is theirs."""
    mask = coins(rng, 4, 5)
    mask[whole(rng, 0, 3)] = False
    one_sdpa(learner, *qkv(rng, (2,), 4, 5, 6, 2), mask=mask)
    added = torch.zeros(4, 5, dtype=torch.float64).masked_fill(~mask, -math.inf)
    one_sdpa(learner, *qkv(rng, (2,), 4, 5, 6, 2), mask=added)


@pytest.mark.exercise("scaled_dot_product")
@pytest.mark.points(2)
def test_sdpa_gradients(learner, rng):
    """Gradients by queries, keys and values follow PyTorch's, also where a query sees nothing."""
    reference = SimpleNamespace(sdpa=torch_sdpa)
    follow_gradients(learner, rng, reference, "sdpa", [*qkv(rng, (2,), 3, 4, 5, 2)], [0, 1, 2])
    mask = coins(rng, 3, 4)
    mask[1] = False
    added = torch.zeros(3, 4, dtype=torch.float64).masked_fill(~mask, -math.inf)
    for one in (mask, added):
        follow_gradients(learner, rng, reference, "sdpa", [*qkv(rng, (2,), 3, 4, 5, 2), one], [0, 1, 2])


@pytest.mark.exercise("scaled_dot_product")
def test_sdpa_large_scores(learner, rng):
    """Long queries and keys do not overflow."""
    q, k, v = (part.float() for part in qkv(rng, (2,), 3, 4, 4, 2))
    one_sdpa(learner, 30.0 * q.round(), 30.0 * k.round(), v, rtol=None)


@pytest.mark.exercise("scaled_dot_product")
def test_sdpa_any_shape_and_dtype(learner, rng):
    """Any leading axes, an empty batch, transposed memory, float32 and bfloat16 work."""
    for lead in ((0,), (1,), (2, 1, 2)):
        one_sdpa(learner, *qkv(rng, lead, 2, 3, 4, 2))
    one_sdpa(learner, *(transposed(part) for part in qkv(rng, (2, 3), 4, 5, 6, 2)), mask=coins(rng, 5, 4).mT)
    for dtype, rtol in ((torch.float32, None), (torch.bfloat16, 0.04)):
        q, k, v = (part.to(dtype) for part in qkv(rng, (2,), 3, 4, 5, 2))
        one_sdpa(learner, q, k, v, mask=coins(rng, 3, 4), rtol=rtol)


# ---------------------------------------------------------------------------------------- A3 masks


def past(L: int, S: int) -> Tensor:
    """Return the causal mask, aligned bottom right, pair by pair."""
    rows = [[key <= query + S - L for key in range(S)] for query in range(L)]
    return torch.tensor(rows, dtype=torch.bool).reshape(L, S)


def real_keys(lengths: list[int], S: int) -> Tensor:
    """Return the padding mask, key by key."""
    rows = [[key < length for key in range(S)] for length in lengths]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(lengths), 1, 1, S)


@pytest.mark.exercise("masks")
@pytest.mark.points(2)
def test_causal_square(learner, rng):
    """Each of three steps sees itself and the past."""
    for size in (2, 3):
        got = learner.causal_mask(size, size)
        same(got, past(size, size), where="the mask", inputs={"L": size, "S": size})


@pytest.mark.exercise("masks")
@pytest.mark.points(2)
def test_causal_more_keys(learner, rng):
    """With more keys than queries the last query stands at the last key."""
    for L, S in ((1, 3), (2, 4), (whole(rng, 3, 5), whole(rng, 6, 9))):
        same(learner.causal_mask(L, S), past(L, S), where="the mask", inputs={"L": L, "S": S})


@pytest.mark.exercise("masks")
def test_causal_more_queries(learner, rng):
    """With more queries than keys the first queries see nothing, and the last still stands at the last key."""
    for L, S in ((3, 2), (whole(rng, 6, 9), whole(rng, 3, 5))):
        same(learner.causal_mask(L, S), past(L, S), where="the mask", inputs={"L": L, "S": S})


@pytest.mark.exercise("masks")
def test_causal_small(learner, rng):
    """One step sees itself; no queries or no keys make an empty mask."""
    for L, S in ((1, 1), (0, 2), (2, 0), (0, 0)):
        same(learner.causal_mask(L, S), past(L, S), where="the mask", inputs={"L": L, "S": S})


@pytest.mark.exercise("masks")
def test_causal_device(learner, rng):
    """The mask is on the device that is asked for."""
    same(
        learner.causal_mask(2, 3, device="cpu"), past(2, 3), where="the mask", inputs={"L": 2, "S": 3, "device": "cpu"}
    )
    stays_elsewhere(learner, "causal_mask", [2, 3], [2, 3], device="meta")


@pytest.mark.exercise("masks")
@pytest.mark.points(2)
def test_padding_small(learner, rng):
    """Lengths 2, 0 and 3 leave so many of three keys to be seen, by every query."""
    lengths = torch.tensor([2, 0, 3])
    same(learner.padding_mask(lengths, 3), real_keys([2, 0, 3], 3), where="the mask", inputs={"lengths": lengths})


@pytest.mark.exercise("masks")
def test_padding_any_size(learner, rng):
    """More keys than the longest sequence has, one sequence, none, no keys, and 32-bit lengths work."""
    for count, S in ((4, whole(rng, 5, 8)), (1, 2), (0, 3), (2, 0)):
        numbers = [whole(rng, 0, S) for _ in range(count)]
        for dtype in (torch.int64, torch.int32):
            lengths = torch.tensor(numbers, dtype=dtype)
            inputs = {"lengths": lengths, "S": S}
            same(learner.padding_mask(lengths, S), real_keys(numbers, S), where="the mask", inputs=inputs)


@pytest.mark.exercise("masks")
def test_padding_device(learner, rng):
    """The mask is on the device of the lengths."""
    lengths = torch.tensor([1, 2])
    same(learner.padding_mask(lengths, 3), real_keys([1, 2], 3), where="the mask", inputs={"lengths": lengths, "S": 3})
    got = learner.run(probes.padding_mask_devices, lengths=lengths, S=3)
    inputs = {"lengths": lengths, "PyTorch's default device": "another"}
    # One of two ways is enough: a loop over the lengths needs their numbers, which the device meta does not have.
    holds("right" in got, "the mask is on the device of the lengths", got=got, inputs=inputs)


# ------------------------------------------------------------------------------------------ A4 mha


def torch_mha(
    x: Tensor,
    ctx: Tensor,
    Wq: Tensor,
    Wk: Tensor,
    Wv: Tensor,
    Wo: Tensor,
    h: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Return multi-head attention by PyTorch's projections and its attention, one head at a time."""
    parts = []
    width = Wq.shape[0] // h
    for head in range(h):
        rows = slice(head * width, (head + 1) * width)
        q, k, v = F.linear(x, Wq[rows]), F.linear(ctx, Wk[rows]), F.linear(ctx, Wv[rows])
        seen = None if mask is None else mask.expand(len(x), h, x.shape[1], ctx.shape[1])[:, head]
        parts.append(torch_sdpa(q, k, v, seen))
    return F.linear(torch.cat(parts, -1), Wo)


def heads_inputs(
    rng: torch.Generator, b: int, L: int, S: int, d: int, dx: int, dc: int, do: int, h: int
) -> dict[str, Any]:
    """Draw inputs and weights for multi-head attention."""
    shapes = {"x": (b, L, dx), "ctx": (b, S, dc), "Wq": (d, dx), "Wk": (d, dc), "Wv": (d, dc), "Wo": (do, d)}
    return {**{name: draw(rng, *shape) for name, shape in shapes.items()}, "h": h}


def one_mha(learner: Any, inputs: dict[str, Any], rtol: float = 1e-11, **settings: Any) -> None:
    """Let the learner attend once with several heads, and compare."""
    wide = {name: part if name == "h" else part.double() for name, part in inputs.items()}
    expected = torch_mha(**wide, mask=settings.get("mask")).to(inputs["x"].dtype)
    got = learner.mha(*inputs.values(), **settings)
    close(got, expected, where="attention", inputs={**inputs, **settings}, rtol=rtol, scale=1.0)


@pytest.mark.exercise("multi_head")
@pytest.mark.points(2)
def test_mha_one_head(learner, rng):
    """With one head and weights that change nothing, it is attention."""
    x, one = draw(rng, 1, 2, 4), torch.eye(4, dtype=torch.float64)
    one_mha(learner, {"x": x, "ctx": x, "Wq": one, "Wk": one, "Wv": one, "Wo": one, "h": 1})


@pytest.mark.exercise("multi_head")
@pytest.mark.points(2)
def test_mha_heads(learner, rng):
    """Two heads, three heads and heads of one feature each follow PyTorch's."""
    for h, d in ((2, 4), (3, 6), (6, 6), (1, 6)):
        inputs = heads_inputs(rng, 2, 3, 3, d, d, d, d, h)
        one_mha(learner, {**inputs, "ctx": inputs["x"]})


@pytest.mark.exercise("multi_head")
@pytest.mark.points(2)
def test_mha_other_context(learner, rng):
    """Keys and values come from another sequence, longer or shorter and of another width; the result is x's length."""
    one_mha(learner, heads_inputs(rng, 2, 3, 5, 4, 4, 4, 4, 2))
    one_mha(learner, heads_inputs(rng, 2, 4, 2, 6, 3, 5, 7, 2))


@pytest.mark.exercise("multi_head")
@pytest.mark.points(3)
def test_mha_masks(learner, rng):
    """One mask for all, one for each sequence, and one for each head: True means attend."""
    for shape in ((3, 4), (2, 1, 1, 4), (2, 1, 3, 4), (2, 3, 3, 4)):
        one_mha(learner, heads_inputs(rng, 2, 3, 4, 6, 6, 6, 6, 3), mask=coins(rng, *shape))


@pytest.mark.exercise("multi_head")
def test_mha_nothing_to_see(learner, rng):
    """A query that may attend to nothing gets zeros."""
    mask = torch.ones(2, 1, 3, 4, dtype=torch.bool)
    mask[1, 0, 2] = False
    one_mha(learner, heads_inputs(rng, 2, 3, 4, 4, 4, 4, 4, 2), mask=mask)


@pytest.mark.exercise("multi_head")
def test_mha_evaluation(learner, rng):
    """Without `training` nothing is dropped, whatever `dropout` says, and in training nothing without `dropout`."""
    one_mha(learner, heads_inputs(rng, 2, 3, 4, 4, 4, 4, 4, 2), dropout=0.5)
    one_mha(learner, heads_inputs(rng, 2, 3, 4, 4, 4, 4, 4, 2), dropout=0.5, training=False)
    one_mha(learner, heads_inputs(rng, 2, 3, 4, 4, 4, 4, 4, 2), training=True)


@pytest.mark.exercise("multi_head")
@pytest.mark.statistical
def test_mha_dropout(learner, rng):
    """In training each weight is dropped with the probability `dropout`, and the others grow to make up for it."""
    steps, p = 100, 0.25
    one = torch.eye(steps, dtype=torch.float64)
    # With the context's rows and all projections the identity, the result shows the weights themselves.
    x = draw(rng, 1, steps, steps) / 10
    got = learner.mha(x, one[None], one, one, one, one, 1, dropout=p, training=True)
    kept = torch_mha(x, one[None], one, one, one, one, 1) / (1 - p)
    inputs = {"dropout": p, "training": True, "weights": steps * steps}
    same(list(got.shape), list(kept.shape), where="the shape", inputs=inputs)
    dropped = got == 0
    close(torch.where(dropped, kept, got), kept, where="the weights that are left", inputs=inputs)
    share = dropped.double().mean().item()
    allowed = 5 * math.sqrt(p * (1 - p) / dropped.numel())
    holds(abs(share - p) <= allowed, "the share of weights that are dropped is `dropout`", got=share, inputs=inputs)


@pytest.mark.exercise("multi_head")
def test_mha_refuses_odd_heads(learner, rng):
    """A width that is no multiple of the number of heads raises a ValueError."""
    inputs = heads_inputs(rng, 1, 2, 2, 6, 6, 6, 6, 3)
    one_mha(learner, inputs)
    *given, _ = inputs.values()
    raises(partial(learner.mha, *given, 4), ValueError, where="4 heads for a width of 6")


@pytest.mark.exercise("multi_head")
def test_mha_gradients(learner, rng):
    """Gradients by both inputs and all four weights follow PyTorch's."""
    inputs = heads_inputs(rng, 2, 3, 4, 4, 3, 5, 2, 2)
    reference = SimpleNamespace(mha=torch_mha)
    follow_gradients(learner, rng, reference, "mha", [*inputs.values(), coins(rng, 3, 4)], [*range(6)])


@pytest.mark.exercise("multi_head")
def test_mha_any_shape_and_dtype(learner, rng):
    """An empty batch, one sequence, transposed memory and float32 work."""
    for b in (0, 1):
        one_mha(learner, heads_inputs(rng, b, 2, 3, 4, 4, 4, 4, 2))
    inputs = heads_inputs(rng, 2, 3, 4, 4, 4, 4, 4, 2)
    one_mha(learner, {name: part if name == "h" else transposed(part) for name, part in inputs.items()})
    one_mha(learner, {name: part if name == "h" else part.float() for name, part in inputs.items()}, rtol=1e-5)


@pytest.mark.exercise("multi_head")
def test_mha_device(learner, rng):
    """On another device the result is there too."""
    one_mha(learner, heads_inputs(rng, 2, 3, 5, 4, 4, 4, 4, 2))
    shapes: list[Any] = [[2, 3, 4], [2, 5, 4], [4, 4], [4, 4], [4, 4], [4, 4], 2]
    stays_elsewhere(learner, "mha", shapes, [2, 3, 4])


# ------------------------------------------------------------------------------------ A5 positions


def waves(L: int, d: int) -> Tensor:
    """Return the sinusoidal code, entry by entry, in float64."""
    rows = []
    for p in range(L):
        angles = [p / 10000 ** (2 * (j // 2) / d) for j in range(d)]
        rows.append([math.cos(angle) if j % 2 else math.sin(angle) for j, angle in enumerate(angles)])
    return torch.tensor(rows, dtype=torch.float64).reshape(L, d)


def turned(x: Tensor, pos: Tensor, base: float = 10000.0) -> Tensor:
    """Return rotated features: each pair is a complex number, which a rotation multiplies; float64."""
    d = x.shape[-1]
    angle = pos.double()[:, None] * torch.tensor([base ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def turned_attention(
    q: Tensor, k: Tensor, v: Tensor, pos_q: Tensor, pos_k: Tensor, base: float = 10000.0, mask: Tensor | None = None
) -> Tensor:
    """Return attention with rotated queries and keys, float64."""
    return torch_sdpa(turned(q, pos_q, base), turned(k, pos_k, base), v.double(), mask)


ANGLES = 1e-4  # what float32 leaves of angles up to some hundreds


def features(rng: torch.Generator, *shape: int) -> Tensor:
    """Draw features in float32: in float64 two right ways to an angle would look like two different answers."""
    return draw(rng, *shape, dtype=torch.float32)


def one_rope(learner: Any, x: Tensor, pos: Tensor, rtol: float = ANGLES, **base: float) -> None:
    """Let the learner rotate once, and compare."""
    expected = turned(x, pos, **base).to(x.dtype)
    inputs = {"x": x, "pos": pos, **base}
    close(learner.rope(x, pos, **base), expected, where="the rotated features", inputs=inputs, rtol=rtol, scale=x)


@pytest.mark.exercise("positions")
def test_sinusoidal_small(learner, rng):
    """Position 0 is zeros and ones; position 1 has the sines and cosines of 1 and of 1/100."""
    close(learner.sinusoidal(2, 4), waves(2, 4).float(), where="the code", inputs={"L": 2, "d": 4})


@pytest.mark.exercise("positions")
@pytest.mark.points(2)
def test_sinusoidal_formula(learner, rng):
    """Every entry follows the formula, up to the rounding of float32 angles; none and one position work too."""
    for L, d in ((whole(rng, 20, 40), 6), (5, 2 * whole(rng, 4, 6)), (1, 2), (0, 4)):
        # An angle of 40 has a rounding error of 2e-6.
        close(learner.sinusoidal(L, d), waves(L, d).float(), where="the code", inputs={"L": L, "d": d}, atol=2e-5)


@pytest.mark.exercise("positions")
def test_sinusoidal_refuses_odd_widths(learner, rng):
    """An odd number of features raises a ValueError."""
    close(learner.sinusoidal(3, 2), waves(3, 2).float(), where="the code", inputs={"L": 3, "d": 2})
    for d in (3, 5):
        raises(partial(learner.sinusoidal, 3, d), ValueError, where=f"{d} features")


@pytest.mark.exercise("positions")
def test_sinusoidal_device(learner, rng):
    """The code is on the device that is asked for."""
    got = learner.sinusoidal(3, 4, device="cpu")
    close(got, waves(3, 4).float(), where="the code", inputs={"L": 3, "d": 4, "device": "cpu"})
    stays_elsewhere(learner, "sinusoidal", [3, 4], [3, 4], device="meta")


@pytest.mark.exercise("positions")
def test_rope_small(learner, rng):
    """At position 1 the pair (1, 0) becomes (cos 1, sin 1), and at position 0 it stays."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    one_rope(learner, x, torch.tensor([0, 1]))


@pytest.mark.exercise("positions")
@pytest.mark.points(2)
def test_rope_formula(learner, rng):
    """Every pair of neighbours is rotated by its own angle, for any leading axes and any base."""
    one_rope(learner, features(rng, 3, 4), torch.arange(3))
    one_rope(learner, features(rng, 2, 3, 5, 8), torch.arange(5), base=100.0)


@pytest.mark.exercise("positions")
@pytest.mark.points(2)
def test_rope_positions(learner, rng):
    """The positions that are given count: they may begin anywhere, jump, and lie between whole numbers."""
    one_rope(learner, features(rng, 2, 4, 6), torch.arange(4) + whole(rng, 5, 50))
    one_rope(learner, features(rng, 4, 6), torch.tensor([7, 0, 3, 3]))
    one_rope(learner, features(rng, 2, 4), torch.tensor([3000, 12]))  # angles 3000, which float32 holds, and 30
    one_rope(learner, features(rng, 3, 6), 10 * features(rng, 3))


@pytest.mark.exercise("positions")
def test_rope_any_shape_and_dtype(learner, rng):
    """An empty batch, transposed memory, float64 and bfloat16 work; angles stay exact where bfloat16 is not."""
    one_rope(learner, features(rng, 0, 3, 4), torch.arange(3))
    one_rope(learner, transposed(features(rng, 2, 3, 4)), torch.arange(3))
    one_rope(learner, draw(rng, 3, 2), torch.arange(3) + whole(rng, 0, 20))
    one_rope(learner, draw(rng, 3, 4, dtype=torch.bfloat16), torch.tensor([0, 257, 515]), rtol=2e-2)


@pytest.mark.exercise("positions")
def test_rope_gradient(learner, rng):
    """The gradient follows the rotation."""
    reference = SimpleNamespace(rope=lambda x, pos: turned(x, pos).to(x.dtype))
    inputs = [features(rng, 2, 3, 4), torch.arange(3) + 5]
    follow_gradients(learner, rng, reference, "rope", inputs, [0], rtol=ANGLES)


@pytest.mark.exercise("positions")
def test_rope_refuses_odd_widths(learner, rng):
    """An odd number of features raises a ValueError."""
    x = draw(rng, 2, 2)
    one_rope(learner, x, torch.arange(2))
    for d in (3, 5):
        raises(partial(learner.rope, draw(rng, 2, d), torch.arange(2)), ValueError, where=f"{d} features")


@pytest.mark.exercise("positions")
def test_rope_device(learner, rng):
    """On another device the result is there too."""
    one_rope(learner, features(rng, 2, 3, 4), torch.arange(3))
    stays_elsewhere(learner, "rope", [[2, 3, 4], [3]], [2, 3, 4])


@pytest.mark.exercise("positions")
@pytest.mark.points(2)
def test_rotary_attention(learner, rng):
    """Queries and keys are rotated, each by its own positions and in one sense, and values are not."""
    for L, S, dv in ((1, 2, 2), (3, 5, 4), (4, 2, 3)):
        q, k, v = (part.float() for part in qkv(rng, (2,), L, S, 4, dv))
        pos_q, pos_k = torch.arange(L) + whole(rng, 0, 9), torch.arange(S) + whole(rng, 0, 9)
        got = learner.rotary_attention(q, k, v, pos_q, pos_k)
        inputs = {"q": q, "k": k, "v": v, "pos_q": pos_q, "pos_k": pos_k}
        expected = turned_attention(q, k, v, pos_q, pos_k).to(q.dtype)
        close(got, expected, where="attention", inputs=inputs, rtol=ANGLES, scale=v)


@pytest.mark.exercise("positions")
def test_rotary_attention_settings(learner, rng):
    """Base and mask are passed on; positions may lie far apart."""
    choices: list[dict[str, Any]] = [{"base": 50.0}, {"mask": coins(rng, 3, 4)}]
    q, k, v = (part.float() for part in qkv(rng, (2,), 3, 4, 4, 2))
    pos_q, pos_k = torch.arange(3) + 3000, torch.arange(4)
    for settings in [*choices, {}]:
        got = learner.rotary_attention(q, k, v, pos_q, pos_k, **settings)
        expected = turned_attention(q, k, v, pos_q, pos_k, **settings).to(q.dtype)
        inputs = {"pos_q": pos_q, "pos_k": pos_k, **settings}
        close(got, expected, where="attention", inputs=inputs, rtol=ANGLES, scale=v)


# ------------------------------------------------------------------------------------ A6 alignment


def one_by_one(
    query: Tensor, keys: Tensor, values: Tensor, Wq: Tensor, Wk: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return additive attention, sequence by sequence and key by key."""
    contexts, rows = [], []
    for b in range(len(query)):
        scores = torch.stack([torch.dot(v, torch.tanh(Wq @ query[b] + Wk @ key)) for key in keys[b]])
        seen = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask[b]
        weights = plain_softmax(torch.where(seen, scores, -math.inf), 0)
        rows.append(weights)
        contexts.append(torch.stack([w * value for w, value in zip(weights, values[b], strict=True)]).sum(0))
    if not rows:
        return values.new_zeros(0, values.shape[2]), keys.new_zeros(0, keys.shape[1])
    return torch.stack(contexts), torch.stack(rows)


def one_decoder_step(
    x: Tensor, hidden: Tensor, memory: Tensor, mask: Tensor, align: Any, cell: Any, readout: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a decoder's step from the loop above."""
    context, weights = one_by_one(hidden, memory, memory, *align, mask=mask)
    state = cell(torch.cat([x, context], 1), hidden)
    return readout(torch.cat([state, context], 1)), state, weights


def whole_sequence_loss(step: Any, state: Any, tokens: Tensor, pad: int) -> Tensor:
    """Return the loss under teacher forcing, by PyTorch's cross entropy over all steps at once."""
    logits = []
    for place in range(tokens.shape[1] - 1):
        made, state = step(tokens[:, place], state)
        logits.append(made)
    return F.cross_entropy(torch.stack(logits, -1), tokens[:, 1:], ignore_index=pad)


LOOPS = SimpleNamespace(additive_attention=one_by_one, decoder_step=one_decoder_step, sequence_loss=whole_sequence_loss)


def align_inputs(rng: torch.Generator, b: int, S: int, dq: int, dk: int, dv: int, a: int) -> dict[str, Tensor]:
    """Draw a query, keys and values for each sequence, and the weights of the scoring network."""
    shapes = {"query": (b, dq), "keys": (b, S, dk), "values": (b, S, dv), "Wq": (a, dq), "Wk": (a, dk), "v": (a,)}
    return {name: draw(rng, *shape) for name, shape in shapes.items()}


def one_alignment(learner: Any, inputs: dict[str, Tensor], rtol: float = 1e-11, **mask: Tensor) -> None:
    """Let the learner align once, and compare."""
    given = [part.double() for part in inputs.values()]
    expected = tuple(part.to(inputs["v"].dtype) for part in one_by_one(*given, **mask))
    got = learner.additive_attention(*inputs.values(), **mask)
    close(
        got, expected, where="(context, weights)", inputs={**inputs, **mask}, rtol=rtol, scale=(inputs["values"], 1.0)
    )


@pytest.mark.exercise("alignment")
@pytest.mark.points(2)
def test_additive_small(learner, rng):
    """One sequence with two keys follows the formula."""
    one_alignment(learner, align_inputs(rng, 1, 2, 1, 1, 1, 1))
    one_alignment(learner, align_inputs(rng, 1, 2, 2, 2, 2, 2))


@pytest.mark.exercise("alignment")
@pytest.mark.points(2)
def test_additive_any_width(learner, rng):
    """Query, keys, values and the scoring network have widths of their own; the batch may be empty."""
    for b in (3, 1, 0):
        one_alignment(learner, align_inputs(rng, b, 4, 2, 3, 5, 6))


@pytest.mark.exercise("alignment")
@pytest.mark.points(2)
def test_additive_mask(learner, rng):
    """Hidden keys get no weight, the others share all of it; where all are hidden, zeros come out."""
    inputs = align_inputs(rng, 3, 5, 2, 3, 4, 2)
    one_alignment(learner, inputs, mask=coins(rng, 3, 5))
    mask = coins(rng, 3, 5)
    mask[1] = False
    one_alignment(learner, inputs, mask=mask)


@pytest.mark.exercise("alignment")
def test_additive_gradients(learner, rng):
    """Gradients by all six inputs follow the loop, through context and weights."""
    inputs = [*align_inputs(rng, 2, 3, 2, 3, 2, 4).values(), coins(rng, 2, 3)]
    follow_gradients(learner, rng, LOOPS, "additive_attention", inputs, [*range(6)])


@pytest.mark.exercise("alignment")
def test_additive_scores_and_dtype(learner, rng):
    """Large scores do not overflow; float32 and transposed memory work."""
    inputs = align_inputs(rng, 2, 3, 2, 3, 4, 5)
    one_alignment(learner, {**inputs, "v": 400.0 * inputs["v"].sign()}, rtol=1e-10)
    one_alignment(learner, {name: part.float() for name, part in inputs.items()}, rtol=1e-5)
    one_alignment(learner, {name: transposed(part) if part.dim() > 1 else part for name, part in inputs.items()})


@pytest.mark.exercise("alignment")
@pytest.mark.points(3)
def test_decoder_step(learner, rng):
    """The old state looks at the memory, the cell takes token and context, the readout the new state and context."""
    for b in (1, 3):
        dx, dh, dm, a, S = 2, 3, 4, 5, 4
        mask = coins(rng, b, S)
        inputs = {
            "x": draw(rng, b, dx),
            "hidden": draw(rng, b, dh),
            "memory": draw(rng, b, S, dm),
            "mask": mask,
            "align": (draw(rng, a, dh), draw(rng, a, dm), draw(rng, a)),
            "weights": [draw(rng, dx + dm, dh), draw(rng, dh, dh), draw(rng, dh + dm, 6)],
        }
        got, expected = learner.run(probes.decoded_step, **inputs), probes.decoded_step(LOOPS, **inputs)
        for part in ("weights", "hidden", "logits"):
            close(got[part], expected[part], where=f"the {part}", inputs=inputs, rtol=1e-10, scale=1.0)


def compare_losses(learner: Any, rng: torch.Generator, tokens: Tensor, pad: int) -> None:
    """Compare loss, gradient and what was fed with those of the loop over the whole sequence."""
    classes, width = 7, 3
    inputs = {
        "table": draw(rng, classes, width),
        "readout": draw(rng, width, classes),
        "state": draw(rng, len(tokens), width),
        "tokens": tokens,
        "pad": pad,
    }
    got, expected = learner.run(probes.sequence_losses, **inputs), probes.sequence_losses(LOOPS, **inputs)
    shown = {"tokens": tokens, "pad": pad}
    same(got["fed"], expected["fed"], where="the tokens that were fed, step by step", inputs=shown)
    close(got["loss"], expected["loss"], where="the loss", inputs=shown)
    close(got["gradient"], expected["gradient"], where="the gradient", inputs=shown)


@pytest.mark.exercise("alignment")
@pytest.mark.points(2)
def test_sequence_loss(learner, rng):
    """Without padding the loss is the mean over all tokens that are asked for: each but the first."""
    compare_losses(learner, rng, torch.tensor([[1, 3]]), 0)
    compare_losses(learner, rng, torch.randint(1, 7, (3, 5), generator=rng), 0)


@pytest.mark.exercise("alignment")
@pytest.mark.points(2)
def test_sequence_loss_padding(learner, rng):
    """Padding that is asked for does not count, and every other token counts the same."""
    tokens = torch.randint(1, 7, (4, 6), generator=rng)
    for row, length in enumerate((6, 2, 4, 1)):
        tokens[row, length:] = 0
    compare_losses(learner, rng, tokens, 0)
    compare_losses(learner, rng, torch.where(tokens == 0, 6, tokens - 1), 6)


@pytest.mark.exercise("alignment")
def test_sequence_loss_begins_with_padding(learner, rng):
    """Where the begin token is the padding's number, what is asked for still counts."""
    tokens = torch.randint(1, 7, (3, 4), generator=rng)
    tokens[:, 0] = 0
    tokens[1, 3] = 0
    compare_losses(learner, rng, tokens, 0)


# ---------------------------------------------------------------------------------- A7 hard choices

MODES = ["gumbel", "reinforce"]
ROWS = 20_000
# Thresholds of χ² with 2 and 3 degrees of freedom that are passed with probability 5.7e-7.
CHI_SQUARE = {2: 28.76, 3: 31.82}


def places(choice: Tensor) -> Tensor:
    """Return the chosen places of one-hot rows (b, n)."""
    return choice.argmax(-1)


def follows(counts: Tensor, probabilities: Tensor, says: str, inputs: dict[str, Any]) -> None:
    """Compare counts with probabilities by χ²; a place of probability 0 is to be empty."""
    possible = probabilities > 0
    same(counts[~possible].tolist(), [0] * int((~possible).sum()), where="choices of impossible places", inputs=inputs)
    expected = probabilities[possible] * counts.sum()
    value = ((counts[possible] - expected).square() / expected).sum().item()
    shares = (counts / counts.sum()).tolist()
    allowed = CHI_SQUARE[int(possible.sum()) - 1]
    holds(value <= allowed, says, got=shares, expected=probabilities.tolist(), inputs=inputs)


def choose(learner: Any, scores: Tensor, tau: float, mode: str, seed: int, calls: int = 1) -> tuple[list[Any], Any]:
    """Let the learner choose; return what came of each call, and the inputs to show."""
    history = learner.run(probes.chosen, scores=scores, tau=tau, mode=mode, seed=seed, calls=calls)
    return history, {"scores": scores, "tau": tau, "mode": mode, "seed of g": seed}


def one_hot(choice: Tensor, scores: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Expect one-hot rows shaped like the scores, up to rounding; return the chosen places."""
    same(list(choice.shape), list(scores.shape), where="the shape of the choice", inputs=inputs)
    exact = F.one_hot(places(choice), scores.shape[-1]).to(scores.dtype)
    close(choice, exact, where="the choice, against its largest entry as a one-hot", inputs=inputs)
    return places(choice)


@pytest.mark.exercise("hard_choice")
@pytest.mark.statistical
@pytest.mark.parametrize("mode", MODES)
def test_choice_is_one_hot(learner, rng, mode):
    """The choice is 1 at one place and 0 elsewhere, and carries a gradient in mode gumbel alone."""
    for lead in ((100,), (5, 20), (100, 1)):
        for dtype in (torch.float64, torch.float32):
            scores = draw(rng, *lead, 4, dtype=dtype)
            ((made,), inputs) = choose(learner, scores, 2.0, mode, whole(rng, 0, 2**31))
            one_hot(made["choice"], scores, inputs)
            same(list(made["log_prob"].shape), list(lead), where="the shape of log_prob", inputs=inputs)
            same(made["traced"], [mode == "gumbel", True], where="whether (choice, log_prob) carry a gradient")


@pytest.mark.exercise("hard_choice")
@pytest.mark.points(2)
@pytest.mark.statistical
@pytest.mark.parametrize("tau", [0.5, 3.0])
@pytest.mark.parametrize("mode", MODES)
def test_choice_distribution(learner, rng, mode, tau):
    """In 20 000 rows each place is chosen as often as the softmax says, whatever tau is."""
    row = draw(rng, 4).clamp(-1, 1)
    ((made,), inputs) = choose(learner, row.expand(ROWS, 4).contiguous(), tau, mode, whole(rng, 0, 2**31))
    inputs["scores"] = row
    counts = torch.bincount(places(made["choice"]), minlength=4)
    follows(counts, torch.softmax(row, 0), "the places are chosen as often as the softmax says", inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.statistical
@pytest.mark.parametrize("mode", MODES)
def test_choice_log_prob(learner, rng, mode):
    """log_prob is log softmax(scores) at the chosen place, without noise and without tau, and so is its gradient."""
    scores = draw(rng, 5, 20, 4)
    seed = whole(rng, 0, 2**31)
    ((made,), inputs) = choose(learner, scores, 0.5, mode, seed)
    at = one_hot(made["choice"], scores, inputs)[..., None]
    close(made["log_prob"], scores.log_softmax(-1).gather(-1, at)[..., 0], where="log_prob", inputs=inputs)
    got = learner.run(probes.choice_gradients, scores=scores, tau=0.5, mode=mode, seed=seed)
    expected = F.one_hot(one_hot(got["choice"], scores, inputs), 4) - scores.softmax(-1)
    close(got["log_prob"], expected, where="the gradient of log_prob by the scores", inputs=inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.points(3)
@pytest.mark.statistical
@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_choice_straight_through(learner, rng, tau):
    """In mode gumbel the gradient of the choice is that of soft weights at temperature tau, with the same noise."""
    scores = draw(rng, 5, 20, 3)
    seed = whole(rng, 0, 2**31)
    got = learner.run(probes.choice_gradients, scores=scores, tau=tau, mode="gumbel", seed=seed)
    inputs = {"scores": scores, "tau": tau, "mode": "gumbel", "seed of g": seed}
    at = one_hot(got["choice"], scores, inputs)
    jacobian = got["jacobian"]
    holds(jacobian is not None, "the choice carries a gradient", inputs=inputs)
    # A softmax y at temperature tau has the Jacobian (diag(y) − y yᵀ) / tau, and so y can be read off it.
    products = -tau * jacobian
    ab, ac, bc = products[..., 0, 1], products[..., 0, 2], products[..., 1, 2]
    soft = torch.stack([(ab * ac / bc).sqrt(), (ab * bc / ac).sqrt(), (ac * bc / ab).sqrt()], -1)
    holds(bool(soft.isfinite().all()), "the gradient is that of a softmax", got=jacobian[0, 0], inputs=inputs)
    expected = (torch.diag_embed(soft) - soft[..., :, None] * soft[..., None, :]) / tau
    close(
        soft.sum(-1), torch.ones_like(soft[..., 0]), where="the sum of the soft weights in the gradient", inputs=inputs
    )
    close(jacobian, expected, where="the gradient of the choice by the scores", inputs=inputs)
    same(soft.argmax(-1), at, where="the largest soft weight, against the choice", inputs=inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.statistical
@pytest.mark.parametrize("mode", MODES)
def test_choice_hidden_places(learner, rng, mode):
    """A place with the score −inf is never chosen, and the gradients stay finite."""
    row = draw(rng, 4).clamp(-1, 1)
    row[whole(rng, 0, 3)] = -math.inf
    ((made,), inputs) = choose(learner, row.expand(ROWS, 4).contiguous(), 1.5, mode, whole(rng, 0, 2**31))
    inputs["scores"] = row
    counts = torch.bincount(places(made["choice"]), minlength=4)
    follows(counts, torch.softmax(row, 0), "the places are chosen as often as the softmax says", inputs)
    few = row.expand(100, 4).contiguous()
    got = learner.run(probes.choice_gradients, scores=few, tau=1.5, mode=mode, seed=whole(rng, 0, 2**31))
    finite = [bool(got[name].isfinite().all()) for name in ("jacobian", "log_prob") if got[name] is not None]
    holds(all(finite), "all gradients are finite", inputs=inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.statistical
@pytest.mark.parametrize("mode", MODES)
def test_choice_randomness(learner, rng, mode):
    """Each row has noise of its own; g alone decides: one seed gives one choice, and a second call another."""
    scores, seed = torch.zeros(3, 100, 4, dtype=torch.float64), whole(rng, 0, 2**31)
    (first, second), inputs = choose(learner, scores, 1.0, mode, seed, calls=2)
    (again, _), _ = choose(learner, scores, 1.0, mode, seed, calls=2)
    ((other,), _) = choose(learner, scores, 1.0, mode, seed + 1)
    one, two, three, four = (places(made["choice"]) for made in (first, second, again, other))
    same(three, one, where="the choice under the same seed", inputs=inputs)
    for differs, says in (
        (two, "a second call with the same generator chooses anew"),
        (four, "another seed gives another choice"),
        (one.roll(1, 0), "each row has noise of its own, along every axis"),
        (one.roll(1, 1), "each row has noise of its own, along every axis"),
    ):
        holds(not torch.equal(differs, one), says, inputs=inputs)
    counts = torch.bincount(torch.cat([one, two]).flatten(), minlength=4)
    follows(counts, torch.full((4,), 0.25), "equal scores are chosen equally often", inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.statistical
def test_choice_refuses_other_modes(learner, rng):
    """A mode that is none of the two raises a ValueError."""
    scores = draw(rng, 100, 3)
    ((made,), inputs) = choose(learner, scores, 1.0, "gumbel", whole(rng, 0, 2**31))
    one_hot(made["choice"], scores, inputs)
    for mode in ("soft", "argmax"):
        unknown = partial(learner.run, probes.chosen, scores=scores, tau=1.0, mode=mode, seed=1)
        raises(unknown, ValueError, where=f"the mode {mode!r}")


@pytest.mark.exercise("hard_choice")
def test_reinforce_loss_value(learner, rng):
    """The loss is minus the mean of advantage times log-probability, of shape (), for every kind of baseline."""
    for b in (2, 5, 1):
        log_prob, reward = -draw(rng, b).abs(), draw(rng, b)
        for baseline in (0.5, draw(rng), draw(rng, b)):
            got = learner.reinforce_loss(log_prob, reward, baseline)
            expected = -((reward - baseline) * log_prob).mean()
            inputs = {"log_prob": log_prob, "reward": reward, "baseline": baseline}
            close(got, expected, where="the loss", inputs=inputs, rtol=EXACT, scale=5.0)


@pytest.mark.exercise("hard_choice")
@pytest.mark.points(2)
def test_reinforce_loss_gradient(learner, rng):
    """The gradient flows into the log-probabilities, and neither into the reward nor into the baseline."""
    log_prob, reward, baseline = -draw(rng, 4).abs(), draw(rng, 4), draw(rng, 4)
    inputs = {"log_prob": log_prob, "reward": reward, "baseline": baseline}
    got = learner.run(probes.reinforce_gradients, **inputs)
    close(got["log_prob"], -(reward - baseline) / 4, where="the gradient by log_prob", inputs=inputs, scale=1.0)
    flows = got["flows into reward and baseline"]
    same(flows, [False, False], where="whether a gradient flows into reward and baseline", inputs=inputs)


@pytest.mark.exercise("hard_choice")
@pytest.mark.points(2)
@pytest.mark.statistical
@pytest.mark.parametrize("baseline", [0.0, 2.0])
def test_reinforce_is_unbiased(learner, rng, baseline):
    """Over 20 000 choices the mean gradient is that of the expected reward, with any constant baseline."""
    row, rewards = draw(rng, 4).clamp(-1, 1), draw(rng, 4)
    scores = row.expand(ROWS, 4).contiguous()
    inputs = {"scores": row, "rewards": rewards, "baseline": baseline}
    seed = whole(rng, 0, 2**31)
    each = learner.run(probes.reinforced, scores=scores, rewards=rewards, baseline=baseline, seed=seed)
    same(list(each.shape), [ROWS, 4], where="the shape of the gradients", inputs=inputs)
    p = torch.softmax(row, 0)
    # −∇ Σ p_i r_i, by enumeration; the loss is a mean, so a row's own gradient is PIECE times what it got.
    exact = -p * (rewards - (p * rewards).sum())
    # Variance of one row's gradient −(r_i − b)(e_i − p), by enumeration too.
    possible = -(rewards - baseline)[:, None] * (torch.eye(4, dtype=torch.float64) - p)
    error = ((p[:, None] * possible.square()).sum(0) - exact.square()).clamp(min=0).sqrt() / math.sqrt(ROWS)
    mean = probes.PIECE * each.mean(0)
    near = bool(((mean - exact).abs() <= 5 * error + 1e-9).all())
    holds(near, "the mean gradient is that of the expected reward", got=mean, expected=exact, inputs=inputs)


# ----------------------------------------------------------------------------------- A8 generation


def torch_cached_attention(q: Tensor, k: Tensor, v: Tensor, cache: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return causal attention after a cache, by PyTorch's attention."""
    pieces = [(k, v)] if cache is None else [cache, (k, v)]
    keys, values = (torch.cat(parts, dim=-2) for parts in zip(*pieces, strict=True))
    output = torch_sdpa(q, keys, values, past(q.shape[-2], keys.shape[-2]))
    return output, (keys, values)


def torch_blocks(q: Tensor, k: Tensor, v: Tensor, block: int, causal: bool = False) -> Tensor:
    """Return attention in one piece."""
    return torch_sdpa(q, k, v, past(q.shape[-2], k.shape[-2]) if causal else None)


def full_passes(model: Any, idx: Tensor, n: int, cache: bool = True, temperature: float = 0.0, g: Any = None) -> Tensor:
    """Return prompts with their continuations, by a full pass for each token."""
    for _ in range(n):
        last = model(idx)[0][:, -1].detach()
        if temperature:
            token = torch.multinomial(torch.softmax(last / temperature, -1), 1, generator=g)
        else:
            token = last.argmax(-1, keepdim=True)
        idx = torch.cat([idx, token], 1)
    return idx


WHOLE = SimpleNamespace(cached_attention=torch_cached_attention, generate=full_passes, online_attention=torch_blocks)


@pytest.mark.exercise("generation")
def test_cache_first_piece(learner, rng):
    """Without a cache it is causal attention, and keys and values are handed back."""
    for lead, steps in (((), 2), ((2, 3), 5), ((1,), 1)):
        q, k, v = qkv(rng, lead, steps, steps, 4, 3)
        got = learner.cached_attention(q, k, v)
        expected = (torch_sdpa(q, k, v, past(steps, steps)), (k, v))
        close(got, expected, where="(out, (keys, values))", inputs={"q": q, "k": k, "v": v, "cache": None}, scale=v)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_cache_one_by_one(learner, rng):
    """Step by step, each new query sees all that came before it."""
    for steps in (2, 5):
        q, k, v = qkv(rng, (2,), steps, steps, 4, 3)
        got = learner.run(probes.in_pieces, q=q, k=k, v=v, pieces=[1] * steps)
        inputs = {"q": q, "k": k, "v": v, "steps in each piece": [1] * steps}
        close(got["out"], torch_sdpa(q, k, v, past(steps, steps)), where="the output", inputs=inputs, scale=v)
        close(got["cache"], (k, v), where="the cache", inputs=inputs)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_cache_any_pieces(learner, rng):
    """However a sequence is cut into pieces, the outputs are those of one causal pass."""
    for pieces in ([2, 3], [whole(rng, 1, 3), 1, whole(rng, 2, 4)], [3, 1, 1, 2]):
        q, k, v = (part.float() for part in qkv(rng, (2, 2), sum(pieces), sum(pieces), 4, 3))
        got = learner.run(probes.in_pieces, q=q, k=k, v=v, pieces=pieces)
        expected = torch_sdpa(q.double(), k.double(), v.double(), past(sum(pieces), sum(pieces))).float()
        close(got["out"], expected, where="the output", inputs={"steps in each piece": pieces}, scale=v)


@pytest.mark.exercise("generation")
def test_cache_keeps_its_values(learner, rng):
    """Two continuations may start from one cache: it stays as it was."""
    q, k, v = qkv(rng, (2,), 5, 5, 4, 3)
    got = learner.run(probes.two_continuations, q=q, k=k, v=v, first=2)
    expected = probes.two_continuations(WHOLE, q=q, k=k, v=v, first=2)
    inputs = {"steps in the cache": 2, "steps of the continuations": [3, 1]}
    close(got["outs"], expected["outs"], where="the outputs of the continuations", inputs=inputs, scale=v)
    close(got["cache"], expected["cache"], where="the cache afterwards", inputs=inputs)


@pytest.mark.exercise("generation")
def test_cache_device(learner, rng):
    """On another device the result is there too."""
    q, k, v = qkv(rng, (2,), 3, 3, 4, 5)
    expected = (torch_sdpa(q, k, v, past(3, 3)), (k, v))
    close(learner.cached_attention(q, k, v), expected, where="(out, (keys, values))", scale=v)
    stays_elsewhere(learner, "cached_attention", [[2, 3, 4], [2, 3, 4], [2, 3, 5]], [2, 3, 5])


def ledger(rng: torch.Generator, classes: int = 9, width: int = 6, longest: int = 40) -> list[Tensor]:
    """Draw the weights of a `Ledger`."""
    return [draw(rng, classes, width), draw(rng, longest, width), 2 * draw(rng, width, classes)]


def prompt(rng: torch.Generator, b: int, t: int) -> Tensor:
    """Draw prompts (b, t) of nine tokens."""
    return torch.randint(9, (b, t), generator=rng)


def compare_generated(learner: Any, inputs: dict[str, Any], n: int) -> Any:
    """Compare the tokens with those of full passes; return what the probe found."""
    got, expected = learner.run(probes.generated, **inputs), probes.generated(WHOLE, **inputs)
    for mine, theirs, idx in zip(got, expected, inputs["prompts"], strict=True):
        shown = {"idx": idx, "n": n, **inputs["settings"]}
        same(mine["tokens"], theirs["tokens"], where="the tokens", inputs=shown)
    return got


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "recomputed"])
def test_generate_greedy(learner, rng, cache):
    """Prompts of any length are continued by the tokens that full passes find most likely."""
    for b, t, n in ((1, 1, 3), (2, 4, 6), (3, 2, 1), (2, 3, 0)):
        inputs = {"weights": ledger(rng), "prompts": [prompt(rng, b, t)], "n": n, "settings": {"cache": cache}}
        compare_generated(learner, inputs, n)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_generate_feeds_only_what_is_new(learner, rng):
    """With the cache the prompt is fed once, then one token at a time, each at its position; no call is wasted."""
    n = 4
    inputs = {"weights": ledger(rng), "prompts": [prompt(rng, 2, 3)], "n": n, "settings": {}}
    (got,) = compare_generated(learner, {**inputs, "notes": ("fed", "start")}, n)
    expected = [(3, 0), (1, 3), (1, 4), (1, 5)]
    same(got["calls"], expected, where="(tokens fed, position of the first) of each call", inputs={"t": 3, "n": n})


@pytest.mark.exercise("generation")
def test_generate_without_the_cache(learner, rng):
    """Without the cache the whole sequence is fed each time, from position 0."""
    n = 3
    inputs = {"weights": ledger(rng), "prompts": [prompt(rng, 2, 2)], "n": n, "settings": {"cache": False}}
    (got,) = compare_generated(learner, {**inputs, "notes": ("fed", "start", "cached")}, n)
    expected = [(2, 0, False), (3, 0, False), (4, 0, False)]
    where = "(tokens fed, position of the first, whether with a cache) of each call"
    same(got["calls"], expected, where=where, inputs={"t": 2, "n": n, "cache": False})


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "recomputed"])
def test_generate_samples(learner, rng, cache):
    """Above temperature 0 tokens are drawn by torch.multinomial from the softmax at that temperature, with g."""
    for temperature in (0.7, 2.0):
        settings = {"cache": cache, "temperature": temperature}
        chosen = {"weights": ledger(rng), "prompts": [prompt(rng, 4, 2)], "n": 6, "settings": settings}
        compare_generated(learner, {**chosen, "seed": whole(rng, 0, 2**31)}, 6)


@pytest.mark.exercise("generation")
def test_generate_forgets(learner, rng):
    """One call knows nothing of the one before it, and the prompts keep their values."""
    prompts = [prompt(rng, 2, 3), prompt(rng, 2, 3), prompt(rng, 1, 5)]
    inputs = {"weights": ledger(rng), "prompts": prompts, "n": 4, "settings": {}}
    got = compare_generated(learner, inputs, 4)
    same([made["prompt"] for made in got], prompts, where="the prompts afterwards")


@pytest.mark.exercise("generation")
def test_generate_records_no_gradients(learner, rng):
    """The model runs without recording gradients."""
    inputs = {"weights": ledger(rng), "prompts": [prompt(rng, 1, 2)], "n": 2, "settings": {}}
    (got,) = compare_generated(learner, {**inputs, "notes": ("gradients",)}, 2)
    same(got["calls"], [(False,)] * 2, where="whether gradients are on, in each call")


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_generate_with_attention(learner, rng):
    """In a decoder with your cached attention, the logits of every step are those of the full pass."""
    table, places, readout = (part.float() for part in ledger(rng))
    inputs = {
        "weights": [table, places, readout],
        "projections": [draw(rng, 6, 6, dtype=torch.float32) for _ in range(3)],
        "prompt": prompt(rng, 2, whole(rng, 2, 4)),
        "n": 6,
    }
    expected = probes.decoded(WHOLE, **inputs, cache=False)
    for cache in (True, False):
        got = learner.run(probes.decoded, **inputs, cache=cache)
        shown = {"idx": inputs["prompt"], "n": 6, "cache": cache}
        same(got["tokens"], expected["tokens"], where="the tokens", inputs=shown)
        close(got["logits"], expected["logits"], where="the logits of the last position, call by call", inputs=shown)


def one_online(learner: Any, q: Tensor, k: Tensor, v: Tensor, block: int, rtol: float = 1e-11, **causal: bool) -> None:
    """Let the learner attend in blocks, and compare with attention in one piece."""
    expected = torch_blocks(q.double(), k.double(), v.double(), block, **causal).to(q.dtype)
    got = learner.online_attention(q, k, v, block, **causal)
    inputs = {"q": q, "k": k, "v": v, "block": block, **causal}
    close(got, expected, where="attention", inputs=inputs, rtol=rtol, scale=v)


@pytest.mark.exercise("generation")
def test_online_one_block(learner, rng):
    """One block that holds all keys gives ordinary attention."""
    for block in (3, 8):
        one_online(learner, *qkv(rng, (), 2, 3, 4, 2), block)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_online_blocks(learner, rng):
    """Blocks of any size give the same, the last one shorter than the others."""
    for S, block in ((2, 1), (4, 2), (5, 2), (7, 3)):
        one_online(learner, *qkv(rng, (2, 3), 3, S, 4, 2), block)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_online_running_maximum(learner, rng):
    """Scores that climb or fall from block to block by hundreds are corrected exactly."""
    q, k, v = qkv(rng, (), 3, 6, 4, 2)
    # Every query has a product of 2 · 10 n / √4 with the key of block n.
    steps = torch.tensor([1.0, 1.0, 4.0, 4.0, 90.0, 90.0], dtype=torch.float64)[:, None]
    q, k = q / 10 + 1, k / 10 + steps
    one_online(learner, q, k, v, 2)
    one_online(learner, q, k.flip(0), v, 2)
    one_online(learner, q, -10.0 * k, v, 2)
    one_online(learner, 10.0 * q.float(), k.float(), v.float(), 1, rtol=1e-4)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
def test_online_causal(learner, rng):
    """With `causal` no query looks ahead, and one that sees nothing in a block, or at all, gets no NaN."""
    for L, S, block in ((2, 2, 1), (5, 5, 2), (2, 6, 3), (6, 3, 2), (1, 4, 3)):
        one_online(learner, *qkv(rng, (2,), L, S, 4, 3), block, causal=True)


@pytest.mark.exercise("generation")
def test_online_gradients(learner, rng):
    """Gradients by queries, keys and values follow attention in one piece."""
    follow_gradients(learner, rng, WHOLE, "online_attention", [*qkv(rng, (2,), 3, 5, 4, 2), 2], [0, 1, 2])
    given = [*qkv(rng, (2,), 4, 3, 4, 2), 2]
    follow_gradients(learner, rng, WHOLE, "online_attention", given, [0, 1, 2], causal=True)


@pytest.mark.exercise("generation")
@pytest.mark.points(2)
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_online_memory(learner, rng, causal):
    """No tensor on the way has as many elements as there are pairs of a query and a key."""
    q, k, v = qkv(rng, (), 48, 48, 2, 2)
    got = learner.run(probes.largest_on_the_way, q=q, k=k, v=v, block=4, causal=causal)
    inputs = {"L": 48, "S": 48, "d": 2, "block": 4, "causal": causal}
    close(got["out"], torch_blocks(q, k, v, 4, causal), where="attention", inputs=inputs, scale=v)
    small = got["elements"] < 48 * 48
    holds(small, "no tensor has L · S = 2304 elements", got=f"one with {got['elements']}", inputs=inputs)


@pytest.mark.exercise("generation")
def test_online_any_shape_and_dtype(learner, rng):
    """An empty batch, transposed memory and float32 work, and another device."""
    one_online(learner, *qkv(rng, (0, 2), 3, 5, 4, 2), 2)
    one_online(learner, *(transposed(part) for part in qkv(rng, (2,), 3, 5, 4, 2)), block=2)
    one_online(learner, *(part.float() for part in qkv(rng, (2,), 3, 5, 4, 2)), block=2, rtol=1e-5)
    shapes: list[Any] = [[2, 3, 4], [2, 5, 4], [2, 5, 2], 2]
    stays_elsewhere(learner, "online_attention", shapes, [2, 3, 2], causal=True)
