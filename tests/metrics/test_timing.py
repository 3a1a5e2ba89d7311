"""Training and inference time, on a clock that only moves when told to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coursekit.errors import ArgumentError
from coursekit.metrics import InferenceTime, Stopwatch, evaluating, inference_time


class Clock:
    """Seconds that pass only by `spend`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_pauses_do_not_count(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    clock.spend(1)
    watch.start()
    clock.spend(2)
    watch.pause()
    clock.spend(4)
    watch.start()
    clock.spend(8)
    with watch.paused():
        clock.spend(16)
        assert not watch.running
    clock.spend(32)
    assert watch.running
    assert watch.seconds == 2 + 8 + 32
    watch.pause()
    clock.spend(64)
    assert watch.seconds == 2 + 8 + 32
    assert watch.warmup_seconds == 0


def test_warmup_is_kept_apart(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    watch.start()
    clock.spend(5)
    with watch.paused():
        clock.spend(100)
    watch.end_warmup()
    clock.spend(2)
    assert (watch.seconds, watch.warmup_seconds) == (2, 5)


def test_warmup_may_end_in_a_pause(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    watch.start()
    clock.spend(5)
    watch.pause()
    watch.end_warmup()
    clock.spend(100)
    assert (watch.seconds, watch.warmup_seconds) == (0, 5)


def test_a_block_that_fails_still_resumes(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    watch.start()
    with pytest.raises(RuntimeError, match="validation broke"), watch.paused():
        raise RuntimeError("validation broke")
    assert watch.running


def test_paused_leaves_a_still_watch_still(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    with watch.paused():
        pass
    assert not watch.running


def test_a_resumed_run_goes_on_counting_and_warms_up_again(clock: Clock) -> None:
    first = Stopwatch(clock=clock)
    first.start()
    clock.spend(3)
    first.end_warmup()
    clock.spend(10)
    state = first.state_dict()
    assert state == {"seconds": 10, "warmup_seconds": 3}

    second = Stopwatch(clock=clock)
    second.load_state_dict(state)
    second.start()
    clock.spend(4)
    second.end_warmup()
    clock.spend(20)
    second.pause()
    assert (second.seconds, second.warmup_seconds) == (10 + 20, 3 + 4)


def test_the_device_is_awaited_before_each_reading_that_counts(clock: Clock) -> None:
    def synchronise() -> None:  # work that was launched and is still under way
        clock.spend(1)

    watch = Stopwatch(clock=clock, synchronise=synchronise)
    watch.start()  # what was under way before does not count
    assert watch.seconds == 0
    clock.spend(10)
    watch.pause()
    assert watch.seconds == 11
    assert watch.seconds == 11  # reading never waits


def test_stopwatch_errors(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    with pytest.raises(ArgumentError, match="the watch must be running"):
        watch.pause()
    watch.start()
    with pytest.raises(ArgumentError, match="the watch must not be running"):
        watch.start()
    watch.end_warmup()
    with pytest.raises(ArgumentError, match="warm-up can end only once"):
        watch.end_warmup()


@pytest.mark.parametrize("use", ["running", "counted", "warm"])
def test_only_a_new_watch_loads_a_state(clock: Clock, use: str) -> None:
    watch = Stopwatch(clock=clock)
    if use == "warm":
        watch.end_warmup()
    else:
        watch.start()
        clock.spend(1)
        if use == "counted":
            watch.pause()
    with pytest.raises(ArgumentError, match="the watch must be new"):
        watch.load_state_dict({"seconds": 1.0, "warmup_seconds": 0.0})


def sleeper(clock: Clock, seconds: list[float]):
    """A call that takes a scripted time."""
    script = iter(seconds)

    def call(batch: torch.Tensor) -> torch.Tensor:
        clock.spend(next(script))
        return batch

    return call


def test_percentiles_per_sample_without_the_cold_calls(clock: Clock) -> None:
    cold, timed = [50.0, 20.0], [0.004, 0.001, 0.002, 0.005, 0.003]
    found = inference_time(sleeper(clock, cold + timed), torch.zeros(2, 3), repeats=5, warmup=2, clock=clock)
    # sorted 1 2 3 4 5 ms: median 3; the 95th percentile lies 0.8 of the way from the 4th to the 5th
    assert found.median_ms == pytest.approx(3.0 / 2)
    assert found.p95_ms == pytest.approx(4.8 / 2)
    assert (found.batch_size, found.repeats) == (2, 5)


def test_a_single_repeat_is_its_own_percentiles(clock: Clock) -> None:
    found = inference_time(sleeper(clock, [0.25]), torch.zeros(1, 1), repeats=1, warmup=0, clock=clock)
    assert found == InferenceTime(median_ms=250.0, p95_ms=250.0, batch_size=1, repeats=1)


def test_a_rare_slow_call_shows_in_the_tail_and_not_in_the_median(clock: Clock) -> None:
    found = inference_time(
        sleeper(clock, [0.001] * 18 + [1.0] * 2), torch.zeros(1, 1), repeats=20, warmup=0, clock=clock
    )
    assert found.median_ms == pytest.approx(1.0)
    assert found.p95_ms == pytest.approx(1000.0)


def test_the_work_is_timed_and_not_the_launch(clock: Clock) -> None:
    pending = 0.0

    def launch(batch: torch.Tensor) -> None:
        nonlocal pending
        clock.spend(0.001)
        pending += 0.1

    def synchronise() -> None:
        nonlocal pending
        clock.spend(pending)
        pending = 0.0

    found = inference_time(launch, torch.zeros(1, 1), repeats=3, clock=clock, synchronise=synchronise)
    assert found.median_ms == pytest.approx(101.0)


def test_a_batch_on_an_accelerator_is_awaited_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    batch = torch.zeros(1, 1, device="meta")  # stands in for any device that is not the CPU
    inference_time(lambda batch: batch, batch, repeats=2, warmup=1)
    assert waits == [batch.device] * 6  # before and after each of three calls
    waits.clear()
    inference_time(lambda batch: batch, torch.zeros(1, 1), repeats=2, warmup=1)
    assert waits == []


@pytest.mark.gpu
def test_on_cuda_the_kernel_is_timed() -> None:
    batch = torch.randn(4096, 4096, device="cuda")
    alone = inference_time(lambda x: x @ x, batch, repeats=20)
    tenfold = inference_time(lambda x: [x @ x for _ in range(10)], batch, repeats=20)
    assert 5 < tenfold.median_ms / alone.median_ms < 15


def test_timing_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[1].eval()  # frozen statistics
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    model.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    inference_time(model, torch.randn(8, 4), repeats=2, warmup=1)
    assert seen == [(False, False)] * 3
    assert [module.training for module in model.modules()] == [True, True, False, True]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_what_a_model_caches_while_timed_stays_usable_in_training() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.cache: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache = torch.arange(3.0) if self.cache is None else self.cache
            return x * self.scale * self.cache

    model = Cached()
    inference_time(model, torch.ones(2, 3), repeats=1)
    model(torch.ones(2, 3)).sum().backward()
    torch.testing.assert_close(model.scale.grad, torch.tensor([6.0]))


@pytest.mark.parametrize(
    ("batch", "options", "words"),
    [
        pytest.param(torch.zeros(0, 3), {}, r"at least one sample. Got \(0, 3\)", id="empty-batch"),
        pytest.param(torch.tensor(1.0), {}, "at least one sample", id="scalar"),
        pytest.param(torch.zeros(1), {"repeats": 0}, "repeats must be at least 1", id="no-repeats"),
        pytest.param(torch.zeros(1), {"warmup": -1}, "warmup must be at least 0", id="negative-warmup"),
    ],
)
def test_inference_time_errors(batch: torch.Tensor, options: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        inference_time(lambda batch: batch, batch, **options)


def test_evaluating_restores_modes_after_a_failure() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    with pytest.raises(RuntimeError, match="broke"), evaluating(model):
        raise RuntimeError("broke" if not any(module.training for module in model.modules()) else "training")
    assert [module.training for module in model.modules()] == [True, True, False, False]


def test_evaluating_lets_a_module_undo_what_it_did_for_evaluation() -> None:
    class Merging(nn.Module):
        merged = False

        def train(self, mode: bool = True) -> Merging:
            self.merged = not mode
            return super().train(mode)

    for mode in (True, False):
        model = Merging().train(mode)
        with evaluating(model):
            assert model.merged
        assert model.merged is not mode


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_evaluating_reaches_a_scripted_module() -> None:
    """TorchScript keeps the mode outside Python."""
    model, x = torch.jit.script(nn.Sequential(nn.Dropout(0.5))), torch.ones(100)
    with evaluating(model):
        assert torch.equal(model(x), x)
    assert not torch.equal(model(x), x)


def test_evaluating_takes_any_callable() -> None:
    with evaluating(len):
        pass
