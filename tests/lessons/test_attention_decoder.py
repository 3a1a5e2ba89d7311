"""The attention lesson's decoder: causal, exact with a cache, and open to other functions for its parts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coursekit import runtime
from coursekit.config import Training
from coursekit.data import load_text
from coursekit.errors import ArgumentError
from coursekit.harness import fit
from lessons.attention.decoder import Decoder, LanguageModel, generate, generation_speedup, rotate, stepper
from lessons.attention.kernels import kernel_that_ran

SYMBOLS = 50


def build(*, gain: float = 1.0, **sizes: Any) -> Decoder:
    """Return a decoder with random weights; `gain` enlarges them until attention is sharp and logits are large."""
    runtime.seed_everything(0)
    decoder = Decoder(SYMBOLS, **{"width": 32, "layers": 2, "heads": 2, "context": 64, **sizes}).eval()
    with torch.no_grad():
        for part in decoder.parameters():
            part.mul_(gain)
    return decoder


def draw(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(SYMBOLS, (batch, length), generator=torch.Generator().manual_seed(seed))


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


def in_pieces(decoder: Decoder, symbols: Tensor, cuts: list[int]) -> Tensor:
    cache = decoder.new_cache(len(symbols))
    ends = sorted({*cuts, symbols.shape[1]} - {0})
    with torch.no_grad():
        return torch.cat([decoder(symbols[:, a:b], cache) for a, b in zip([0, *ends[:-1]], ends, strict=True)], dim=1)


# ---------------------------------------------------------------------------------------------- rotary positions


def test_rotation_by_hand() -> None:
    # Four features, base 10,000: the first pair turns by the position, the second by a hundredth of it.
    x = torch.tensor([[1.0, 0, 0, 1]], dtype=torch.float64)
    angle = torch.tensor(3.0, dtype=torch.float64)
    slow = angle / 100
    expected = torch.stack([angle.cos(), angle.sin(), -slow.sin(), slow.cos()])[None]
    torch.testing.assert_close(rotate(x, torch.tensor([3])), expected)


@given(shift=st.integers(0, 500), base=st.floats(10, 1e5))
@settings(max_examples=50, deadline=None)
def test_scores_depend_on_the_distance_alone(shift: int, base: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(6, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    at = torch.arange(6)
    there = rotate(q, at + shift, base) @ rotate(k, at + shift, base).mT
    torch.testing.assert_close(there, rotate(q, at, base) @ rotate(k, at, base).mT, atol=1e-9, rtol=1e-9)


def test_rotation_keeps_lengths_and_dtype() -> None:
    x = torch.randn(2, 3, 40, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, torch.arange(1000, 1040))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    low = rotate(x.bfloat16(), torch.arange(1000, 1040))
    assert low.dtype == torch.bfloat16
    # Angles in bf16 would be off by whole radians here; only the rounding of the result is left.
    torch.testing.assert_close(
        low.float(), rotate(x.bfloat16().float(), torch.arange(1000, 1040)), atol=0.02, rtol=0.01
    )


def test_rotation_needs_pairs() -> None:
    with pytest.raises(ArgumentError, match=r"rotate: an even number of features\. Got 7"):
        rotate(torch.zeros(2, 7), torch.arange(2))


# ---------------------------------------------------------------------------------------------- causal


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize("attention", [None, written_out], ids=["fused", "written out"])
def test_the_future_changes_no_earlier_logit(gain: float, attention: Any) -> None:
    decoder = build(gain=gain, attention=attention)
    symbols = draw(3, 64)
    changed = symbols.clone()
    changed[:, 40:] = draw(3, 24, seed=1)
    with torch.no_grad():
        before, after = decoder(symbols), decoder(changed)
    assert (after - before)[:, :40].abs().max() <= 1e-6
    assert (after - before)[:, 40:].abs().max() > 1e-3


def test_positions_matter() -> None:
    decoder = build(gain=3.0)
    symbols = draw(1, 20)
    with torch.no_grad():
        last = decoder(symbols)[0, -1]
        swapped = decoder(symbols[:, [1, 0, *range(2, 20)]])[0, -1]
    assert (last - swapped).abs().max() > 1e-3


@pytest.mark.parametrize(("queries", "sources"), [(5, 5), (1, 5), (3, 5)])
def test_attention_is_that_of_a_mask_aligned_at_the_end(queries: int, sources: int) -> None:
    attention: Any = build().blocks[0].attention
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, length, 16, generator=generator) for length in (queries, sources, sources))
    mask = torch.arange(sources) <= torch.arange(sources - queries, sources)[:, None]
    torch.testing.assert_close(attention.attend(q, k, v), written_out(q, k, v, mask))


def test_training_and_writing_take_the_fast_kernel() -> None:
    decoder = build()
    symbols = draw(2, 32)
    assert kernel_that_ran(lambda: decoder(symbols)) == "flash"
    cache = decoder.new_cache(2)
    decoder(symbols, cache)
    assert kernel_that_ran(lambda: decoder(symbols[:, :1], cache)) == "flash"


# ---------------------------------------------------------------------------------------------- the cache


@given(cuts=st.lists(st.integers(1, 47), max_size=6))
@settings(max_examples=25, deadline=None)
def test_cached_logits_are_those_of_the_full_pass(cuts: list[int]) -> None:
    decoder = build()
    symbols = draw(2, 48)
    with torch.no_grad():
        full = decoder(symbols)
    assert (in_pieces(decoder, symbols, cuts) - full).abs().max() <= 1e-5


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_in_double_precision_only_rounding_is_left(gain: float) -> None:
    # With large weights float32 itself is off by more than 1e-5; double precision tells rounding from a mistake.
    decoder = build(gain=gain).double()
    symbols = draw(2, 48)
    with torch.no_grad():
        full = decoder(symbols)
    difference = (in_pieces(decoder, symbols, list(range(1, 48))) - full).abs().max()
    assert difference <= 1e-13 * full.abs().max().clamp(min=1)


@pytest.mark.parametrize("attention", [None, written_out], ids=["fused", "written out"])
def test_the_cache_is_exact_with_other_functions_too(attention: Any) -> None:
    decoder = build(attention=attention)
    symbols = draw(1, 30)
    with torch.no_grad():
        full = decoder(symbols)
    assert (in_pieces(decoder, symbols, [7, 8, 20]) - full).abs().max() <= 1e-5


def test_the_cache_is_reserved_once() -> None:
    decoder = build()
    cache = decoder.new_cache(1, 40)
    assert (cache.context, cache.length) == (40, 0)
    assert cache.keys.shape == cache.values.shape == (2, 1, 2, 40, 16)
    where = cache.keys.data_ptr()
    for end in range(1, 41):
        decoder(draw(1, 1), cache)
        assert cache.length == end
    assert cache.keys.data_ptr() == where


def test_two_caches_do_not_meet() -> None:
    decoder = build()
    symbols = draw(2, 20)
    caches = [decoder.new_cache(1), decoder.new_cache(1)]
    with torch.no_grad():
        full = decoder(symbols)
        for start in range(0, 20, 5):
            for row, cache in enumerate(caches):
                piece = decoder(symbols[row : row + 1, start : start + 5], cache)
                assert (piece - full[row : row + 1, start : start + 5]).abs().max() <= 1e-5


@pytest.mark.parametrize(("held", "more", "words"), [(0, 65, "at most 64 positions. Got 65."), (60, 5, "Got 65.")])
def test_a_full_context_is_named(held: int, more: int, words: str) -> None:
    decoder = build()
    cache = decoder.new_cache(1)
    if held:
        decoder(draw(1, held), cache)
    with pytest.raises(ArgumentError) as caught:
        decoder(draw(1, more), cache)
    assert words in str(caught.value)
    assert cache.length == held


# ---------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
def test_the_cache_writes_the_same_symbols(temperature: float) -> None:
    decoder = build(gain=3.0)
    written = [
        generate(
            decoder,
            draw(3, 5),
            59,
            temperature=temperature,
            generator=torch.Generator().manual_seed(7),
            cached=cached,
        )
        for cached in (True, False)
    ]
    assert written[0].shape == (3, 64)
    assert torch.equal(written[0], written[1])
    assert torch.equal(written[0][:, :5], draw(3, 5))
    assert len(written[0].unique()) > 5


def test_greedy_writing_takes_the_likeliest() -> None:
    decoder = build(gain=3.0)
    written = generate(decoder, draw(2, 4), 20, temperature=0)
    with torch.no_grad():
        likeliest = decoder(written).argmax(-1)
    assert torch.equal(written[:, 4:], likeliest[:, 3:-1])


def test_drawn_symbols_follow_their_probabilities() -> None:
    decoder = build(gain=4.0)
    prompt = draw(1, 6).expand(20_000, 6)
    written = generate(decoder, prompt, 1, temperature=0.8, generator=torch.Generator().manual_seed(0))[:, -1]
    with torch.no_grad():
        expected = (decoder(prompt[:1])[0, -1] / 0.8).softmax(-1)
    counts = written.bincount(minlength=SYMBOLS)
    deviation = (20_000 * expected * (1 - expected)).sqrt()
    # Five deviations of a count, fifty symbols: one false alarm in 35,000.
    assert ((counts - 20_000 * expected).abs() <= 5 * deviation + 1).all()


def test_writing_keeps_the_mode_and_records_no_gradients() -> None:
    decoder = build(dropout=0.5)
    decoder.train()
    first, second = (generate(decoder, draw(1, 4), 10, temperature=0) for _ in range(2))
    assert decoder.training
    assert torch.equal(first, second)  # dropout was off
    assert not first.requires_grad


def test_nothing_to_write() -> None:
    prompt = draw(2, 64)
    assert torch.equal(generate(build(), prompt, 0), prompt)


@pytest.mark.parametrize(
    ("length", "count", "temperature", "words"),
    [
        (0, 5, 1.0, "generate: a prompt of at least one symbol. Got (2, 0)."),
        (5, -1, 1.0, "generate: a count and a temperature of at least 0. Got count -1, temperature 1.0."),
        (5, 5, -0.1, "Got count 5, temperature -0.1."),
        (5, 60, 1.0, "generate: prompt and new symbols within the context of 64. Got 5 + 60. Fix: write at most 59."),
    ],
)
def test_writing_out_of_range(length: int, count: int, temperature: float, words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        generate(build(), draw(2, length), count, temperature=temperature)
    assert words in str(caught.value)


def test_a_stepper_is_called_as_exercise_a8_calls_it() -> None:
    decoder = build()
    symbols = draw(2, 20)
    step = stepper(decoder)
    with torch.no_grad():
        full = decoder(symbols)
        logits, cache = step(symbols[:, :12])
        more, cache = step(symbols[:, 12:], cache=cache, start=12)
        again, _ = step(symbols[:, :12])
    assert (torch.cat([logits, more], dim=1) - full).abs().max() <= 1e-5
    assert torch.equal(again, logits)
    with pytest.raises(ArgumentError, match=r"step: the position that follows the cache, 20\. Got 0"):
        step(symbols[:, :1], cache=cache)


# ---------------------------------------------------------------------------------------------- parts and training


def test_other_functions_take_the_place_of_ours() -> None:
    called: list[str] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        called.append("attention")
        return written_out(q, k, v, mask)

    def rotation(x: Tensor, positions: Tensor, base: float) -> Tensor:
        called.append("rotation")
        return rotate(x, positions, base)

    with torch.no_grad():
        ours = build()(draw(2, 30))
        theirs = build(attention=attention, rotation=rotation)(draw(2, 30))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert (called.count("attention"), called.count("rotation")) == (2, 4)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"width": 30, "heads": 4},
            "divides by twice the heads, for heads rotate pairs of features. Got width 30, heads 4",
        ),
        ({"width": 30, "heads": 4}, "Fix: use a width of 32."),
        ({"layers": 0}, "Decoder: sizes of at least 1. Got "),
        ({"context": 0}, "Decoder: sizes of at least 1. Got "),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        build(**sizes)
    assert words in str(caught.value)


def test_the_first_loss_is_that_of_a_blind_guess() -> None:
    symbols = draw(8, 64)
    with torch.no_grad():
        loss = F.cross_entropy(build()(symbols)[:, :-1].flatten(0, 1), symbols[:, 1:].flatten())
    assert float(loss) == pytest.approx(torch.tensor(SYMBOLS).log().item(), rel=0.02)


def test_it_learns_to_repeat() -> None:
    # 0 1 2 3 0 1 2 3 ...: every symbol is told by the one before.
    runtime.seed_everything(0)
    decoder = Decoder(4, width=16, layers=1, heads=2, context=32)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    symbols = torch.arange(33).remainder(4).expand(4, 33)
    loss = torch.tensor(torch.inf)
    for _ in range(40):
        loss = F.cross_entropy(decoder(symbols[:, :-1]).flatten(0, 1), symbols[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert generate(decoder, symbols[:1, :3], 20, temperature=0)[0].tolist() == [number % 4 for number in range(23)]


def test_the_harness_trains_it_on_text() -> None:
    runtime.seed_everything(0)
    text = load_text()
    data = text.windows(32, stride=512)
    module = LanguageModel(
        Decoder(len(text.vocabulary), width=16, layers=1, heads=2, context=32),
        optimizer=lambda parts: torch.optim.AdamW(parts, lr=0.01),
    )
    run = fit(module, data, Training(epochs=2, batch_size=32, device="cpu", threads=1), quiet=True)
    first, second = run.history
    assert second["loss"] < first["loss"] < torch.tensor(float(len(text.vocabulary))).log().item()
    assert 0 < second["val_accuracy"] < 1
    with torch.no_grad():
        logits = module.network.eval()(data.validation.inputs)
    expected = F.cross_entropy(logits.flatten(0, 1), data.validation.targets.flatten()).item()
    assert second["val_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_speedup_is_the_ratio_of_two_measured_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def takes(decoder: Decoder, symbols: Tensor, count: int, *, temperature: float, cached: bool) -> Tensor:
        nonlocal now
        now += count * (2 if cached else 7)
        return symbols

    monkeypatch.setattr("lessons.attention.decoder.generate", takes)
    monkeypatch.setattr("time.process_time", lambda: now)
    assert generation_speedup(build(), draw(1, 4), 3, rounds=2) == 3.5
    assert now == 2 * (2 + 7) + 2 * 3 * (2 + 7)  # one short warm-up, then two rounds


@pytest.mark.slow
def test_the_cache_writes_256_symbols_five_times_faster() -> None:
    decoder = build(width=128, layers=2, heads=4, context=512)
    assert generation_speedup(decoder, draw(1, 64), 256) >= 5


# ---------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
def test_gpu_cache_in_mixed_precision_writes_what_the_full_pass_writes() -> None:
    decoder = copy.deepcopy(build(gain=2.0)).cuda()
    symbols = draw(2, 48).cuda()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        full = decoder(symbols)
        cache = decoder.new_cache(2)
        assert cache.keys.dtype == torch.bfloat16
        pieces = torch.cat([decoder(symbols[:, start : start + 8], cache) for start in range(0, 48, 8)], dim=1)
    torch.testing.assert_close(pieces, full, atol=0.05, rtol=0.05)


@pytest.mark.gpu
def test_gpu_writing_equals_the_cpus() -> None:
    decoder = build(gain=3.0).double()
    here = generate(decoder, draw(2, 5), 40, temperature=0)
    there = generate(copy.deepcopy(decoder).cuda(), draw(2, 5).cuda(), 40, temperature=0)
    assert torch.equal(there.cpu(), here)
