"""One formula, several kernels: what attention computes, and what each way to compute it costs.

    softmax(q kᵀ / √d) v                                        (Vaswani et al. 2017, equation 1)

Every function here returns that, for queries (b, h, t, d), keys (b, h, s, d) and values (b, h, s, d). They differ in
what they keep: the readable formula holds all t × s scores at once, the others only a block of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from coursekit.errors import ArgumentError, DeviceError

Attend = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""Attention as `attend(q, k, v, causal)`: with `causal` a query sees its own and earlier positions only."""

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}

# What PyTorch calls when a backend runs, as the profiler names it.
_OPERATORS = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_scaled_dot_product_attention_math": "math",
    "Torch-Compiled Region": "compiled",
}


# ---------------------------------------------------------------------------------------------- the kernels


def readable_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Return attention as the paper writes it, one line for each operation; memory grows with t · s.

    Args:
        q: (..., t, d).
        k: (..., s, d).
        v: (..., s, dv).
        causal: a query sees its own and earlier positions only; then t = s.

    Returns:
        (..., t, dv), equal to `torch.nn.functional.scaled_dot_product_attention`.

    Raises:
        ArgumentError: shapes do not fit each other, or causal attention with t ≠ s.
    """
    _check("readable_attention", q, k, v, causal)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return scores.softmax(-1) @ v


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, *, block: int = 256) -> Tensor:
    """Return the same without ever holding more than `block` × `block` scores for each head: the online softmax.

    For each block of queries it walks over the blocks of keys and keeps three things: the largest score so far (m),
    the sum of exp(score - m), and the weighted sum of values. When a block brings a larger score, both sums are
    rescaled by exp(m_old - m_new), so the result is exact and not an approximation. Milakov & Gimelshein 2018 found
    the softmax in one pass; Rabe & Staats 2021 and Dao et al. 2022 (FlashAttention, algorithm 1) made attention of it.

    Args:
        q: (..., t, d).
        k: (..., s, d).
        v: (..., s, dv).
        causal: as in `readable_attention`; blocks that lie wholly in the future are never computed.
        block: queries and keys in one block.

    Raises:
        ArgumentError: as `readable_attention`, or a block below 1.
    """
    _check("blockwise_attention", q, k, v, causal)
    if block < 1:
        raise ArgumentError("blockwise_attention", "a block of at least 1", got=block, fix="use 256")
    queries, sources = q.shape[-2], k.shape[-2]
    outputs = []
    for start in range(0, queries, block):
        rows = q[..., start : start + block, :] / q.shape[-1] ** 0.5
        count = rows.shape[-2]
        largest = rows.new_full((*rows.shape[:-1], 1), -torch.inf)
        total = torch.zeros_like(largest)
        weighted = rows.new_zeros(*rows.shape[:-1], v.shape[-1])
        for first in range(0, start + count if causal else sources, block):
            scores = rows @ k[..., first : first + block, :].transpose(-2, -1)
            if causal and first + block > start:
                at = torch.arange(start, start + count, device=q.device)[:, None]
                future = torch.arange(first, first + scores.shape[-1], device=q.device) > at
                scores = scores.masked_fill(future, -torch.inf)
            # In causal attention the first block of keys holds position 0, which every query sees: `largest` is
            # finite from then on, and no row of scores meets -inf - -inf.
            grown = torch.maximum(largest, scores.amax(-1, keepdim=True))
            weights, shrink = (scores - grown).exp(), (largest - grown).exp()
            total = total * shrink + weights.sum(-1, keepdim=True)
            weighted = weighted * shrink + weights @ v[..., first : first + block, :]
            largest = grown
        outputs.append(weighted / total)
    return torch.cat(outputs, dim=-2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, *, backend: str | None = None) -> Tensor:
    """Return `F.scaled_dot_product_attention`, by the backend that PyTorch picks or by the one asked for.

    Args:
        q: (..., t, d).
        k: (..., s, d).
        v: (..., s, dv).
        causal: as in `readable_attention`.
        backend: `math`, `flash`, `efficient` or `cudnn`; None lets PyTorch choose.

    Raises:
        ArgumentError: as `readable_attention`, or an unknown backend.
        DeviceError: this backend cannot run these tensors on this device.
    """
    _check("fused_attention", q, k, v, causal)
    if backend is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ArgumentError("fused_attention", f"a backend out of {known}", got=repr(backend), fix="use flash")
    if backend not in backends(q.device.type):
        raise _no_kernel(backend, q)
    try:
        with sdpa_kernel(BACKENDS[backend]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    except RuntimeError as error:
        if "No available kernel" in str(error) or "No viable backend" in str(error):
            raise _no_kernel(backend, q) from None
        raise


def flex_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Return PyTorch's `flex_attention`, compiled: a kernel written on the spot for the mask that it is given.

    The first call for a shape compiles, which takes tens of seconds and, on the CPU, a C++ compiler. On the CPU it
    runs forward only. Without compilation PyTorch falls back to the readable formula's memory, so that is not offered.

    Args:
        q: (b, h, t, d).
        k: (b, h, s, d).
        v: (b, h, s, dv).
        causal: as in `readable_attention`; blocks that the mask rules out are skipped.

    Raises:
        ArgumentError: as `readable_attention`, not four axes, or gradients asked for on the CPU.
        DeviceError: it cannot be compiled here.
    """
    _check("flex_attention", q, k, v, causal)
    if q.dim() != 4:
        raise ArgumentError("flex_attention", "q, k and v (b, h, t, d)", got=tuple(q.shape), fix="add the missing axes")
    if q.device.type == "cpu" and torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        raise ArgumentError(
            "flex_attention", "no gradients on the CPU", got="requires_grad=True", fix="call it under torch.no_grad()"
        )
    # Without a mask the CPU's kernel takes all keys as one block, and its memory grows with their number squared.
    mask = _blocks(q.shape[-2], k.shape[-2], causal, q.device)
    try:
        # Past eight shapes PyTorch would stop compiling, with a warning, and hold all scores in plain operations.
        with torch._dynamo.config.patch(recompile_limit=256):
            return _compiled_flex()(q, k, v, block_mask=mask)
    except Exception as error:  # the compiler's errors share no base class: inductor's, dynamo's, the C++ compiler's
        if not _is_compiler_error(error):
            raise
        raise DeviceError(
            "flex_attention",
            "a kernel that torch.compile can build here: on the CPU with a C++ compiler, from three separate tensors",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}",
            fix="mend what it says (often: install g++), or leave flex_attention out",
        ) from None


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention as flex

    return torch.compile(flex, dynamic=False)


@cache
def _blocks(queries: int, sources: int, causal: bool, device: torch.device) -> object:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(b: Tensor, h: Tensor, query: Tensor, source: Tensor) -> Tensor:
        return query >= source if causal else source >= 0

    return create_block_mask(sees, None, None, queries, sources, device=str(device))


def _is_compiler_error(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._inductor", "torch._dynamo"))


def backends(device: str) -> tuple[str, ...]:
    """Return the names of the backends that PyTorch has for a kind of device at all."""
    return tuple(BACKENDS) if device == "cuda" else ("math", "flash")


def kernel_that_ran(call: Callable[[], object]) -> str:
    """Run a call under the profiler and return which attention backend worked in it.

    `F.scaled_dot_product_attention` chooses among its backends by device, dtype, shapes and mask, and does not say
    which one it took: a mask that is not needed, or a head size that does not fit, costs the fast one silently.

    Returns:
        `flash`, `efficient`, `cudnn`, `math`, or `compiled` (a kernel of torch.compile, such as flex_attention's);
        `plain operations` where none of them ran.
    """
    names = [event.key for event in _profiled(call).key_averages()]
    for operator, backend in _OPERATORS.items():
        if any(operator in name for name in names):
            return backend
    return "plain operations"


# ---------------------------------------------------------------------------------------------- what they cost


@dataclass(frozen=True)
class Method:
    """One way to compute attention.

    Attributes:
        name: how figures and tables call it.
        attend: attention as `attend(q, k, v, causal)`.
        keeps_scores: whether it holds all t × s scores, so that long sequences do not fit.
    """

    name: str
    attend: Attend
    keeps_scores: bool = False


READABLE = Method("readable formula", readable_attention, keeps_scores=True)
BLOCKWISE = Method("blockwise, plain PyTorch", blockwise_attention)
FUSED = Method("fused (PyTorch)", fused_attention)
FLEX = Method("flex_attention, compiled", flex_attention)


@dataclass(frozen=True)
class Cost:
    """What one method took at one length.

    Attributes:
        method: the method's name.
        length: positions in the sequence, t = s.
        rounds: seconds of each round: CPU seconds of the process on the CPU (they count every thread, and not what
            other processes do meanwhile), seconds between two events on a GPU.
        peak_bytes: the most memory held at any one time beyond the inputs. Results count: the output, and with
            `backward` the three gradients.
        kernel: what ran, as `kernel_that_ran` says.
    """

    method: str
    length: int
    rounds: tuple[float, ...]
    peak_bytes: int
    kernel: str

    @property
    def seconds(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)


def time_ratio(cost: Cost, base: Cost) -> float:
    """Return how much time a method takes for each second of another: the median over rounds run in turns."""
    return median(mine / theirs for mine, theirs in zip(cost.rounds, base.rounds, strict=True))


def measure_lengths(
    lengths: Iterable[int],
    methods: Sequence[Method] = (READABLE, BLOCKWISE, FUSED),
    *,
    heads: int = 4,
    head_size: int = 64,
    batch: int = 1,
    causal: bool = True,
    backward: bool = False,
    rounds: int = 5,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    most_bytes: int = 2 << 30,
) -> list[Cost]:
    """Measure time and peak memory of each method at each length.

    All methods get the same random inputs and take turns in every round, so that a drift of the machine falls out of
    their ratios. Each is called twice beforehand: once to warm up (and to compile), once to read its memory.

    Args:
        lengths: positions in the sequence.
        methods: what to compare.
        heads: heads h.
        head_size: width d of a head.
        batch: sequences b.
        causal: whether queries see only their own and earlier positions.
        backward: whether the backward pass is measured too.
        rounds: timed calls of each method.
        device: where to run.
        dtype: of the inputs.
        seed: of the inputs.
        most_bytes: a method that keeps its scores is left out where two copies of them would take more than this.

    Returns:
        One cost for each pair of length and method that was run, lengths outermost.

    Raises:
        ArgumentError: rounds below 1, or a length below 1.
        DeviceError: a method that cannot run on this device.
    """
    device = torch.device(device)
    if rounds < 1:
        raise ArgumentError("measure_lengths", "at least one round", got=rounds, fix="use 5")
    costs = []
    for length in lengths:
        if length < 1:
            raise ArgumentError("measure_lengths", "lengths of at least 1", got=length, fix="use 256, 512, 1024, 2048")
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, heads, length, head_size)
        q, k, v = (torch.randn(shape, generator=generator).to(device, dtype).requires_grad_(backward) for _ in range(3))
        score_bytes = 2 * batch * heads * length**2 * q.element_size()
        able = [method for method in methods if not method.keeps_scores or score_bytes <= most_bytes]
        calls = {method.name: _call(method, q, k, v, causal, backward) for method in able}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        kernels = {name: kernel_that_ran(call) for name, call in calls.items()}
        peaks = {name: peak_memory_of(call, device) for name, call in calls.items()}
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name].append(_seconds(call, device))
        costs += [Cost(name, length, tuple(seconds[name]), peaks[name], kernels[name]) for name in calls]
    return costs


def peak_memory_of(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes that a call holds at one time beyond those that were held before it.

    On the CPU every request to PyTorch's allocator is added up in order of time, as the profiler recorded it: the
    figure is exact for tensors and kernels' buffers, repeats to the byte, and owes nothing to the operating system's
    pages. What a matrix library allocates by itself is not seen. On CUDA it is the allocator's own peak.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    held = peak = 0
    for size in _allocations(call):
        held += size
        peak = max(peak, held)
    return peak


def _call(method: Method, q: Tensor, k: Tensor, v: Tensor, causal: bool, backward: bool) -> Callable[[], object]:
    def forward() -> Tensor:
        with torch.no_grad():
            return method.attend(q, k, v, causal)

    def both() -> tuple[Tensor, ...]:
        output = method.attend(q, k, v, causal)
        return output, *torch.autograd.grad(output, (q, k, v), torch.ones_like(output))

    return both if backward else forward


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.process_time()
        call()
        return time.process_time() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _allocations(call: Callable[[], object]) -> Iterator[int]:
    """Yield the bytes of each allocation (positive) and release (negative) of a call, in order of time."""
    results = _profiled(call).profiler
    events = results.kineto_results.events() if results is not None and results.kineto_results is not None else ()
    requests: list[Any] = [event for event in events if event.name() == "[memory]"]
    yield from (event.nbytes() for event in sorted(requests, key=lambda event: event.start_ns()))


def _profiled(call: Callable[[], object]) -> profile:
    # Builds of PyTorch for CUDA print an error line here on a machine that has no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # The CPU's side alone: it names every operator, whichever device does the work.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        result = call()
    del result  # only now: the record must not show the output as given back
    return record


# ---------------------------------------------------------------------------------------------- bad input


def _check(where: str, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    shapes = f"query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}"
    if min(q.dim(), k.dim(), v.dim()) < 2 or q.shape[-1] != k.shape[-1]:
        expected = "query (..., t, d) and key (..., s, d) of one width d"
        raise ArgumentError(where, expected, got=shapes, fix="project both to one width first")
    if k.shape[-2] != v.shape[-2]:
        raise ArgumentError(where, "one value for each key", got=shapes, fix="take both from the same sequence")
    if causal and q.shape[-2] != k.shape[-2]:
        # PyTorch aligns the triangle top-left here; a decoder with a cache needs it bottom-right.
        expected = "as many queries as keys in causal attention"
        raise ArgumentError(where, expected, got=shapes, fix="pass a mask to F.scaled_dot_product_attention instead")


def _no_kernel(backend: str, q: Tensor) -> DeviceError:
    return DeviceError(
        "fused_attention",
        f"a device and tensors that the {backend} kernel takes",
        got=f"{q.device.type}, {str(q.dtype).removeprefix('torch.')}, head size {q.shape[-1]}",
        fix="use backend=math, or leave the choice to PyTorch with backend=None",
    )
