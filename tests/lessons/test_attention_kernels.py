"""The attention lesson's kernels: one formula by every way, masks, backends, and what each costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coursekit.errors import ArgumentError, DeviceError
from lessons.attention import kernels
from lessons.attention.kernels import (
    BLOCKWISE,
    FUSED,
    READABLE,
    Method,
    blockwise_attention,
    flex_attention,
    fused_attention,
    kernel_that_ran,
    measure_lengths,
    peak_memory_of,
    readable_attention,
    time_ratio,
)

ROOT = Path(__file__).parent.parent.parent
PLAIN = [readable_attention, blockwise_attention, fused_attention]


def draw(t: int, s: int, *, d: int = 8, dv: int = 8, lead: tuple[int, ...] = (2, 3), seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((*lead, t, d), (*lead, s, d), (*lead, s, dv))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


# ---------------------------------------------------------------------------------------------- one formula


@pytest.mark.parametrize("attend", PLAIN)
def test_two_keys_by_hand(attend: Callable[..., Tensor]) -> None:
    # Scores (0, 2) / sqrt(4) = (0, 1): weights 1 / (1 + e) and e / (1 + e).
    q = torch.tensor([[2.0, 0, 0, 0]])
    k = torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 0, 0]])
    v = torch.tensor([[1.0], [0.0]])
    torch.testing.assert_close(attend(q, k, v), torch.tensor([[1 / (1 + torch.e)]]))


@pytest.mark.parametrize("attend", PLAIN)
def test_the_first_causal_row_copies_its_own_value(attend: Callable[..., Tensor]) -> None:
    q, k, v = draw(5, 5)
    torch.testing.assert_close(attend(q, k, v, True)[..., 0, :], v[..., 0, :])


@given(t=st.integers(1, 40), s=st.integers(1, 40), dv=st.integers(1, 9), block=st.integers(1, 50), causal=st.booleans())
@settings(max_examples=60, deadline=None)
def test_blocks_change_nothing(t: int, s: int, dv: int, block: int, causal: bool) -> None:
    q, k, v = draw(t, t if causal else s, dv=dv)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(blockwise_attention(q, k, v, causal, block=block), expected)
    torch.testing.assert_close(readable_attention(q, k, v, causal), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_survive_large_scores_that_rise_from_block_to_block(causal: bool) -> None:
    # Without the running maximum exp(1e4) is infinite; with it every block rescales what came before.
    q, k, v = draw(16, 16)
    k = k * torch.linspace(1, 3000, 16, dtype=torch.float64)[:, None]
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert bool(expected.isfinite().all())
    torch.testing.assert_close(blockwise_attention(q, k, v, causal, block=3), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_have_the_same_gradients(causal: bool) -> None:
    q, k, v = inputs = [part.requires_grad_() for part in draw(7, 7)]
    weight = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = [
        torch.autograd.grad((attend(q, k, v, causal) * weight).sum(), inputs)
        for attend in (readable_attention, lambda q, k, v, causal: blockwise_attention(q, k, v, causal, block=3))
    ]
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("attend", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_stays(attend: Callable[..., Tensor], dtype: torch.dtype) -> None:
    q, k, v = (part.to(dtype) for part in draw(9, 9))
    assert attend(q, k, v, True).dtype == dtype


@pytest.mark.parametrize("attend", PLAIN)
def test_the_future_changes_nothing(attend: Callable[..., Tensor]) -> None:
    q, k, v = draw(300, 300, lead=(1, 2))
    before = attend(q, k, v, True)
    for part in (q, k, v):
        part[..., 150:, :] += 7
    torch.testing.assert_close(attend(q, k, v, True)[..., :150, :], before[..., :150, :], rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------- backends


@pytest.mark.parametrize("backend", [None, "math", "flash"])
def test_backends_agree(backend: str | None) -> None:
    q, k, v = (part.float() for part in draw(33, 33))
    expected = readable_attention(q, k, v, True)
    torch.testing.assert_close(fused_attention(q, k, v, True, backend=backend), expected)


@pytest.mark.parametrize(
    ("call", "kernel"),
    [
        (lambda q, k, v: fused_attention(q, k, v), "flash"),
        (lambda q, k, v: fused_attention(q, k, v, True), "flash"),
        (lambda q, k, v: fused_attention(q, k, v, backend="math"), "math"),
        (lambda q, k, v: readable_attention(q, k, v), "plain operations"),
        # Another width of values is enough for the CPU to take the slow path, without a word.
        (lambda q, k, v: fused_attention(q, k, v[..., :4]), "math"),
    ],
    ids=["default", "causal", "forced", "formula", "narrow values"],
)
def test_the_kernel_that_ran_is_named(call: Callable[..., Tensor], kernel: str) -> None:
    q, k, v = (part.float() for part in draw(16, 16))
    assert kernel_that_ran(lambda: call(q, k, v)) == kernel


@pytest.mark.parametrize("backend", ["efficient", "cudnn"])
def test_a_backend_of_other_devices_is_refused(backend: str) -> None:
    q, k, v = (part.float() for part in draw(4, 4))
    with pytest.raises(
        DeviceError, match=rf"the {backend} kernel takes\. Got cpu, float32, head size 8\. Fix: use back"
    ):
        fused_attention(q, k, v, backend=backend)


def test_a_backend_that_cannot_take_the_tensors_is_refused() -> None:
    q, k, v = (part.float() for part in draw(4, 4, dv=4))
    with pytest.raises(DeviceError, match=r"the flash kernel takes"), pytest.warns(UserWarning, match="[Ff]lash"):
        fused_attention(q, k, v, backend="flash")


def test_an_unknown_backend_is_refused() -> None:
    q, k, v = draw(4, 4)
    with pytest.raises(ArgumentError, match=r"a backend out of math, flash, efficient, cudnn\. Got 'flesh'"):
        fused_attention(q, k, v, backend="flesh")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="flex_attention on the CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("causal", [False, True])
def test_flex_attention_compiles_to_the_same(causal: bool) -> None:
    q, k, v = (part.float() for part in draw(256, 256, d=32, dv=32))
    torch.testing.assert_close(flex_attention(q, k, v, causal), readable_attention(q, k, v, causal))
    assert kernel_that_ran(lambda: flex_attention(q, k, v, causal)) == "compiled"


def test_flex_attention_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def no_compiler(*_: object, **__: object) -> Tensor:
        raise TorchDynamoException("no g++")

    monkeypatch.setattr(kernels, "_compiled_flex", lambda: no_compiler)
    q, k, v = draw(4, 4)
    with pytest.raises(
        DeviceError, match=r"flex_attention: a kernel that torch\.compile can build here.*install g\+\+"
    ):
        flex_attention(q, k, v)


def test_other_errors_of_flex_attention_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Tensor:
        raise ValueError("something else")

    monkeypatch.setattr(kernels, "_compiled_flex", lambda: broken)
    q, k, v = draw(4, 4)
    with pytest.raises(ValueError, match="something else"):
        flex_attention(q, k, v)


def test_flex_attention_keeps_compiling_past_eight_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    def spy(q: Tensor, *_: object, **__: object) -> Tensor:
        limits.append(torch._dynamo.config.recompile_limit)
        return q

    before = torch._dynamo.config.recompile_limit
    monkeypatch.setattr(kernels, "_compiled_flex", lambda: spy)
    q, k, v = draw(4, 4)
    flex_attention(q, k, v, True)
    assert limits == [256]
    assert torch._dynamo.config.recompile_limit == before < 256


def test_flex_attention_is_forward_only_on_the_cpu() -> None:
    q, k, v = (part.requires_grad_() for part in draw(4, 4))
    with pytest.raises(ArgumentError, match=r"no gradients on the CPU.*Fix: call it under torch\.no_grad\(\)"):
        flex_attention(q, k, v)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("attend", [*PLAIN, flex_attention])
@pytest.mark.parametrize(
    ("shapes", "causal", "words"),
    [
        (
            ((2, 4, 8), (2, 5, 6), (2, 5, 8)),
            False,
            "of one width d. Got query (2, 4, 8), key (2, 5, 6), value (2, 5, 8).",
        ),
        (((2, 4, 8), (2, 5, 8), (2, 6, 8)), False, "one value for each key. Got query (2, 4, 8), key (2, 5, 8)"),
        (((2, 4, 8), (2, 5, 8), (2, 5, 8)), True, "as many queries as keys in causal attention. Got query (2, 4, 8)"),
        (((8,), (2, 5, 8), (2, 5, 8)), False, "query (..., t, d) and key (..., s, d) of one width d. Got query (8,)"),
    ],
    ids=["width", "values", "causal", "axes"],
)
def test_shapes_that_do_not_fit(
    attend: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...], causal: bool, words: str
) -> None:
    q, k, v = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ArgumentError) as caught:
        attend(q, k, v, causal)
    assert words in str(caught.value)


def test_a_block_below_one() -> None:
    q, k, v = draw(4, 4)
    with pytest.raises(ArgumentError, match=r"blockwise_attention: a block of at least 1\. Got 0"):
        blockwise_attention(q, k, v, block=0)


def test_flex_attention_wants_four_axes() -> None:
    q, k, v = draw(4, 4, lead=(3,))
    with pytest.raises(ArgumentError, match=r"q, k and v \(b, h, t, d\)\. Got \(3, 4, 8\)\."):
        flex_attention(q, k, v)


# ---------------------------------------------------------------------------------------------- what they cost


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def call() -> Tensor:
        first = torch.empty(1000)  # 4000 bytes
        second = torch.empty(500)  # 2000 more: 6000
        del first
        third = torch.empty(250)  # 3000
        return torch.cat([second, third])  # 3000 more: 6000 again, not 9000

    assert peak_memory_of(call) == 6000
    assert peak_memory_of(lambda: None) == 0


def test_peak_memory_of_the_formula_is_that_of_its_score_matrices() -> None:
    q, k, v = (part.float() for part in draw(256, 256, lead=(4,), d=16, dv=16))
    scores = 4 * 256 * 256 * 4
    # At the softmax: the scaled scores and the weights. The unscaled ones are gone by then.
    assert 2 * scores <= peak_memory_of(lambda: readable_attention(q, k, v)) <= 2.1 * scores


def test_peak_memory_repeats_to_the_byte() -> None:
    q, k, v = (part.float() for part in draw(128, 128))
    peaks = {peak_memory_of(lambda: fused_attention(q, k, v, True)) for _ in range(3)}
    assert len(peaks) == 1
    assert min(peaks) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads the high-water mark from /proc")
def test_peak_memory_agrees_with_the_operating_system() -> None:
    code = """
import re, torch
from pathlib import Path
from lessons.attention.kernels import peak_memory_of, readable_attention
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
q, k, v = torch.randn(3, 1, 4, 2048, 64).unbind()
readable_attention(q[:, :, :64], k[:, :, :64], v[:, :, :64])
before = peak()
readable_attention(q, k, v)
print(peak() - before, peak_memory_of(lambda: readable_attention(q, k, v)))
"""
    # A process of its own: the high-water mark never falls, and other tests have raised this one's. Not ru_maxrss: a
    # child inherits its parent's.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    grown, counted = map(int, done.stdout.split())
    assert grown == pytest.approx(counted, rel=0.1)


def test_costs_come_for_each_method_and_length() -> None:
    costs = measure_lengths([64, 128], rounds=3, heads=2, head_size=16)
    assert [(cost.length, cost.method) for cost in costs] == [
        (length, method.name) for length in (64, 128) for method in (READABLE, BLOCKWISE, FUSED)
    ]
    assert [cost.kernel for cost in costs[:3]] == ["plain operations", "plain operations", "flash"]
    for cost in costs:
        assert len(cost.rounds) == 3
        assert cost.seconds == sorted(cost.rounds)[1] > 0
        assert cost.peak_bytes > 0
    assert time_ratio(costs[0], costs[0]) == 1


def test_only_what_keeps_its_scores_grows_with_the_square() -> None:
    costs = measure_lengths([1024, 2048], rounds=1, heads=1, head_size=16)
    peaks = {(cost.method, cost.length): cost.peak_bytes for cost in costs}
    growth = {method.name: peaks[method.name, 2048] / peaks[method.name, 1024] for method in (READABLE, FUSED)}
    assert growth[READABLE.name] == pytest.approx(4, rel=0.02)
    assert growth[FUSED.name] <= 2


def test_what_does_not_fit_is_left_out() -> None:
    costs = measure_lengths([64, 256], rounds=1, heads=1, most_bytes=2 * 4 * 64**2)
    assert [(cost.length, cost.method) for cost in costs if cost.method == READABLE.name] == [(64, READABLE.name)]
    assert len(costs) == 5


def test_the_backward_pass_is_measured_too() -> None:
    calls: list[bool] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        calls.append(q.requires_grad and torch.is_grad_enabled())
        return readable_attention(q, k, v, causal)

    (cost,) = measure_lengths([32], [Method("mine", attend)], rounds=1, backward=True)
    assert calls == [True] * 3
    # The output and the gradients of queries, keys and values: (1, 4, 32, 64) each.
    assert cost.peak_bytes >= 4 * 4 * 32 * 64 * 4


@pytest.mark.parametrize(
    ("lengths", "options", "words"),
    [
        ([0], {}, "lengths of at least 1. Got 0."),
        ([8], {"rounds": 0}, "at least one round. Got 0. Fix: use 5."),
    ],
    ids=str,
)
def test_measurements_out_of_range(lengths: list[int], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        measure_lengths(lengths, **options)
    assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("head_size", [32, 64])
def test_at_2048_positions_fused_attention_takes_a_third_of_the_time_and_a_twentieth_of_the_memory(
    head_size: int,
) -> None:
    readable, fused = measure_lengths([2048], [READABLE, FUSED], head_size=head_size, rounds=7)
    assert fused.kernel == "flash"
    assert time_ratio(fused, readable) <= 1 / 3
    assert fused.peak_bytes <= readable.peak_bytes / 20


# ---------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["math", "flash", "efficient"])
def test_gpu_backends_agree_with_the_formula_in_double(backend: str) -> None:
    q, k, v = (part.to("cuda", torch.bfloat16) for part in draw(512, 512, d=64, dv=64))
    result = fused_attention(q, k, v, True, backend=backend)
    # bf16 keeps 8 bits: an average of values of about 1 is off by 2**-9, and by a few of them at worst.
    torch.testing.assert_close(
        result.double(), readable_attention(q.double(), k.double(), v.double(), True), atol=0.02, rtol=0.02
    )
    assert kernel_that_ran(lambda: fused_attention(q, k, v, True, backend=backend)) == backend


@pytest.mark.gpu
def test_gpu_costs_are_read_from_its_own_clock_and_allocator() -> None:
    readable, fused = measure_lengths([2048], [READABLE, FUSED], device="cuda", dtype=torch.bfloat16)
    assert fused.kernel in ("flash", "efficient", "cudnn")
    assert 0 < fused.peak_bytes <= readable.peak_bytes / 20
    assert time_ratio(fused, readable) < 1


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_gpu_flex_attention_compiles_to_the_same() -> None:
    q, k, v = (part.to("cuda", torch.float32) for part in draw(512, 512, d=64, dv=64))
    torch.testing.assert_close(flex_attention(q, k, v, True), readable_attention(q, k, v, True), atol=1e-2, rtol=1e-2)
