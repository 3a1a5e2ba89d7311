"""Code that runs beside the learner's: decoders, generators of randomness and gradients, which do not cross as values.

Each probe takes the learner's names as `code` and returns plain values. The checks call some of them with other code,
PyTorch's or their own, as `code`: that gives the expected values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PIECE = 500  # rows that one call of the REINFORCE loss gets


def weighted_gradients(
    code: Any, name: str, inputs: list[Any], wrt: list[int], weights: list[Tensor], settings: dict[str, Any]
) -> dict[str, Any]:
    """Differentiate a weighted sum of what a function returns.

    Args:
        name: of the function.
        inputs: its positional arguments.
        wrt: positions of the arguments to differentiate by.
        weights: for each tensor that is returned, what to weight its elements with.
        settings: its keyword arguments.

    Returns:
        outputs: the tensors that were returned.
        gradients: by each of those arguments; None where nothing depends on it.
    """
    given = [part.clone() if isinstance(part, Tensor) else part for part in inputs]
    chosen = [given[place].requires_grad_() for place in wrt]
    outputs = getattr(code, name)(*given, **settings)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    total = torch.stack([(output * weight).sum() for output, weight in zip(outputs, weights, strict=True)]).sum()
    gradients = torch.autograd.grad(total, chosen, allow_unused=True)
    return {"outputs": [output.detach() for output in outputs], "gradients": list(gradients)}


def elsewhere(code: Any, name: str, shapes: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Call a function with tensors on another device: PyTorch's `meta`, which has shapes and no numbers.

    Args:
        name: of the function.
        shapes: for each positional argument, the shape of a tensor as a list, or a number that is handed over as it is.
        settings: keyword arguments; the text "meta" is handed over as the device.

    Returns:
        device: of the (first) tensor that was returned.
        shape: of it.
    """
    given = [torch.zeros(shape, device="meta") if isinstance(shape, list) else shape for shape in shapes]
    output = getattr(code, name)(*given, **settings)
    first = output if isinstance(output, Tensor) else output[0]
    return {"device": first.device.type, "shape": list(first.shape)}


def padding_mask_devices(code: Any, lengths: Tensor, S: int) -> list[str]:
    """Ask for a padding mask where PyTorch's default device is not that of `lengths`, in two ways.

    Returns:
        For each way "right" when the mask was on the device of `lengths`; else what came.
    """
    found = []
    for where, given in (("meta", lengths), ("cpu", lengths.to("meta"))):
        try:
            with torch.device(where):
                mask = code.padding_mask(given, S)
            found.append("right" if mask.device == given.device else f"a mask on {mask.device.type}")
        except (RuntimeError, NotImplementedError) as error:  # two devices in one operation
            found.append(f"{type(error).__name__}: {error}"[:100])
    return found


# ------------------------------------------------------------------------------------- A6 decoders


def decoded_step(
    code: Any,
    x: Tensor,
    hidden: Tensor,
    memory: Tensor,
    mask: Tensor,
    align: tuple[Tensor, Tensor, Tensor],
    weights: list[Tensor],
) -> dict[str, Any]:
    """Take one step of a decoder.

    Args:
        weights: of the cell's inputs, of its state, and of the readout; each (in, out).

    Returns:
        logits, hidden, weights: what `decoder_step` returned.
    """

    def cell(inputs: Tensor, state: Tensor) -> Tensor:
        return (inputs @ weights[0] + state @ weights[1]).tanh()

    logits, state, attended = code.decoder_step(x, hidden, memory, mask, align, cell, lambda y: y @ weights[2])
    return {"logits": logits, "hidden": state, "weights": attended}


def sequence_losses(code: Any, table: Tensor, readout: Tensor, state: Tensor, tokens: Tensor, pad: int) -> Any:
    """Compute the loss of a small recurrent decoder, and its gradient.

    Args:
        table: (classes, m), one row for each token that is fed.
        readout: (m, classes).
        state: (b, m), before the first step.

    Returns:
        loss: what `sequence_loss` returned.
        gradient: of the loss by the table.
        fed: the tokens that were fed, step by step.
    """
    table = table.clone().requires_grad_()
    fed: list[Tensor] = []

    def step(token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        fed.append(token.clone())
        state = (0.5 * state + table[token]).tanh()
        return state @ readout, state

    loss = code.sequence_loss(step, state, tokens, pad)
    (gradient,) = torch.autograd.grad(loss, table)
    return {"loss": loss.detach(), "gradient": gradient, "fed": fed}


# --------------------------------------------------------------------------------- A7 hard choices


def chosen(code: Any, scores: Tensor, tau: float, mode: str, seed: int, calls: int = 1) -> list[Any]:
    """Choose several times with one generator.

    Args:
        seed: of the generator; the global one is left alone.
        calls: how often to choose.

    Returns:
        For each call: choice, log_prob, and whether each of them carries a gradient.
    """
    g = torch.Generator().manual_seed(seed)
    scores = scores.clone().requires_grad_()
    history = []
    for _ in range(calls):
        choice, log_prob = code.hard_attention(scores, tau, mode, g)
        traced = [choice.requires_grad, log_prob.requires_grad]
        history.append({"choice": choice.detach(), "log_prob": log_prob.detach(), "traced": traced})
    return history


def choice_gradients(code: Any, scores: Tensor, tau: float, mode: str, seed: int) -> dict[str, Any]:
    """Choose once, and differentiate.

    Args:
        scores: (..., n).

    Returns:
        choice: (..., n).
        jacobian: (..., n, n), of each entry of the choice by each score of its row; None where it has no gradient.
        log_prob: (..., n), gradient of the log-probability by the scores of its row.
    """
    g = torch.Generator().manual_seed(seed)
    scores = scores.clone().requires_grad_()
    choice, log_prob = code.hard_attention(scores, tau, mode, g)

    def by_scores(output: Tensor) -> Tensor:
        return torch.autograd.grad(output.sum(), scores, retain_graph=True)[0]

    rows = [by_scores(part) for part in choice.unbind(-1)] if choice.requires_grad else []
    return {
        "choice": choice.detach(),
        "jacobian": torch.stack(rows, -2) if rows else None,
        "log_prob": by_scores(log_prob),
    }


def reinforced(code: Any, scores: Tensor, rewards: Tensor, baseline: float, seed: int) -> Tensor:
    """Return the gradient of the REINFORCE loss by the scores of each row.

    Args:
        scores: (b, n).
        rewards: (n,), what each place earns.

    Returns:
        (b, n); each row's part of the mean over its piece of `PIECE` rows.
    """
    g = torch.Generator().manual_seed(seed)
    scores = scores.clone().requires_grad_()
    choice, log_prob = code.hard_attention(scores, 1.0, "reinforce", g)
    earned = choice.detach() @ rewards
    # In pieces: code that pairs every row with every other should fail, and not fill the memory first.
    pieces = zip(log_prob.split(PIECE), earned.split(PIECE), strict=True)
    torch.stack([code.reinforce_loss(*piece, baseline) for piece in pieces]).sum().backward()
    return torch.zeros_like(scores) if scores.grad is None else scores.grad


def reinforce_gradients(code: Any, log_prob: Tensor, reward: Tensor, baseline: Tensor) -> dict[str, Any]:
    """Differentiate the REINFORCE loss by all that goes in; None where nothing flows."""
    given = [part.clone().requires_grad_() for part in (log_prob, reward, baseline)]
    loss = code.reinforce_loss(*given)
    gradients = torch.autograd.grad(loss, given, allow_unused=True)
    flows = [part is not None and bool((part != 0).any()) for part in gradients]
    return {"loss": loss.detach(), "log_prob": gradients[0], "flows into reward and baseline": flows[1:]}


# ----------------------------------------------------------------------------------- A8 generation


def in_pieces(code: Any, q: Tensor, k: Tensor, v: Tensor, pieces: list[int]) -> dict[str, Any]:
    """Attend piece by piece, with a cache.

    Args:
        pieces: steps in each piece; together all of them.

    Returns:
        out: of all pieces, joined.
        cache: as it was returned last.
    """
    cache, outputs = None, []
    for part in zip(*(tensor.split(pieces, -2) for tensor in (q, k, v)), strict=True):
        out, cache = code.cached_attention(*part, cache)
        outputs.append(out)
    return {"out": torch.cat(outputs, -2), "cache": cache}


def two_continuations(code: Any, q: Tensor, k: Tensor, v: Tensor, first: int) -> dict[str, Any]:
    """Attend to the first steps, then continue twice from the same cache: once with the others, once with only one.

    Returns:
        outs: of the two continuations.
        cache: the one that both started from, as it was afterwards.
    """
    _, cache = code.cached_attention(q[..., :first, :], k[..., :first, :], v[..., :first, :])
    outs = []
    for last in (q.shape[-2], first + 1):
        rest = slice(first, last)
        outs.append(code.cached_attention(q[..., rest, :], k[..., rest, :], v[..., rest, :], cache)[0])
    return {"outs": outs, "cache": cache}


class Ledger:
    """A decoder without attention: it adds up what it has read, at each position in a way of its own.

    Its cache is the sum so far, so it shows whether tokens, positions and cache arrive as they should. It notes how
    it was called.

    Args:
        table: (classes, m), one row for each token.
        places: (longest, m), factors of the positions.
        readout: (m, classes).
    """

    def __init__(self, table: Tensor, places: Tensor, readout: Tensor) -> None:
        self.table, self.places, self.readout = table.clone().requires_grad_(), places, readout
        self.calls: list[dict[str, Any]] = []

    def __call__(self, idx: Tensor, cache: Tensor | None = None, start: int = 0) -> tuple[Tensor, Tensor]:
        """Return (logits (b, t, classes), cache (b, m)) of tokens (b, t), the first of which stands at `start`."""
        call = {"fed": idx.shape[1], "start": start, "cached": cache is not None, "gradients": torch.is_grad_enabled()}
        self.calls.append(call)
        if start + idx.shape[1] > len(self.places):
            raise ValueError(f"the model has {len(self.places)} positions. Got {start + idx.shape[1]}.")
        sums = (self.table[idx] * self.places[start : start + idx.shape[1]]).cumsum(1)
        sums = sums if cache is None else sums + cache[:, None]
        return sums.tanh() @ self.readout, sums[:, -1]


def generated(
    code: Any,
    weights: list[Tensor],
    prompts: list[Tensor],
    n: int,
    settings: dict[str, Any],
    seed: int | None = None,
    notes: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Continue several prompts, one after the other, with one model.

    Args:
        weights: of the `Ledger`.
        prompts: each (b, t).
        n: tokens to add.
        settings: further arguments of `generate`.
        seed: of the generator that is handed over; None hands over none.
        notes: what to tell of each call of the model: how many tokens were `fed`, at which `start`, whether it was
            `cached`, and whether `gradients` were on. What no check asks for would only hide which mistake it is.

    Returns:
        For each prompt: tokens, the calls of the model, and the prompt as it was afterwards.
    """
    model, history = Ledger(*weights), []
    for prompt in prompts:
        idx = prompt.clone()
        model.calls = []
        chosen = settings if seed is None else {**settings, "g": torch.Generator().manual_seed(seed)}
        tokens = code.generate(model, idx, n, **chosen)
        calls = [tuple(call[note] for note in notes) for call in model.calls]
        history.append({"tokens": tokens, "calls": calls, "prompt": idx})
    return history


class Decoder:
    """One layer of causal attention over embedded tokens; the attention is the learner's.

    Args:
        attend: `cached_attention`.
        table: (classes, m).
        places: (longest, m).
        projections: Wq, Wk, Wv, each (m, m).
        readout: (m, classes).
    """

    def __init__(
        self, attend: Callable[..., Any], table: Tensor, places: Tensor, projections: list[Tensor], readout: Tensor
    ) -> None:
        self.attend, self.table, self.places = attend, table, places
        self.projections, self.readout = projections, readout
        self.last: list[Tensor] = []

    def __call__(self, idx: Tensor, cache: Any = None, start: int = 0) -> tuple[Tensor, Any]:
        """Return (logits (b, t, classes), cache) of tokens (b, t), the first of which stands at `start`."""
        x = self.table[idx] + self.places[start : start + idx.shape[1]]
        q, k, v = (x @ weight for weight in self.projections)
        out, cache = self.attend(q, k, v, cache)
        logits = (x + out) @ self.readout
        self.last.append(logits[:, -1])
        return logits, cache


def decoded(
    code: Any, weights: list[Tensor], projections: list[Tensor], prompt: Tensor, n: int, cache: bool
) -> dict[str, Any]:
    """Continue a prompt greedily with an attention decoder.

    Args:
        weights: table, places and readout of the `Decoder`.

    Returns:
        tokens: (b, t + n).
        logits: (n, b, classes), of the last position, call by call.
    """
    table, places, readout = weights
    model = Decoder(code.cached_attention, table, places, projections, readout)
    tokens = code.generate(model, prompt, n, cache)
    return {"tokens": tokens, "logits": torch.stack(model.last)}


class _Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that is made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for part in output if isinstance(output, list | tuple) else [output]:
            if isinstance(part, Tensor):
                self.elements = max(self.elements, part.numel())
        return output


def largest_on_the_way(code: Any, q: Tensor, k: Tensor, v: Tensor, block: int, causal: bool) -> dict[str, Any]:
    """Attend in blocks.

    Returns:
        out: what `online_attention` returned.
        elements: of the largest tensor on the way.
    """
    with _Largest() as largest:
        out = code.online_attention(q, k, v, block, causal=causal)
    return {"out": out, "elements": largest.elements}
