"""Training time with its pauses left out, and inference time per sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from coursekit.errors import ArgumentError
from coursekit.metrics.modes import evaluating


class Stopwatch:
    """Training time in seconds: pauses do not count, and warm-up is kept apart.

    ```
    watch = Stopwatch()
    watch.start()
    ...                        # the first steps: memory is claimed, kernels are chosen or compiled
    watch.end_warmup()
    ...
    with watch.paused():       # validation, checkpoints, figures
        ...
    watch.pause()
    watch.seconds, watch.warmup_seconds
    ```

    Args:
        clock: returns seconds and never runs backwards.
        synchronise: waits until the device has done its work (`torch.cuda.synchronize`). It runs before
            each reading in `start`, `pause` and `end_warmup`; the properties never wait, so that a
            progress bar may read them in every step.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[], object] | None = None,
    ) -> None:
        self._clock = clock
        self._synchronise = synchronise
        self._counted = 0.0  # seconds up to the last pause, warm-up included
        self._warmup = 0.0
        self._loaded = 0.0  # the part of `_counted` that an earlier process measured
        self._started: float | None = None
        self._warm = False

    @property
    def running(self) -> bool:
        """Whether time is being counted now."""
        return self._started is not None

    @property
    def seconds(self) -> float:
        """Seconds counted so far, without warm-up."""
        return self._total(self._clock()) - self._warmup

    @property
    def warmup_seconds(self) -> float:
        """Seconds of warm-up; 0 until `end_warmup` says where it ended."""
        return self._warmup

    def start(self) -> None:
        """Begin to count, or go on after a pause.

        Raises:
            ArgumentError: it is running already.
        """
        if self.running:
            raise ArgumentError("Stopwatch.start", "the watch must not be running", fix="call pause first")
        self._started = self._now()

    def pause(self) -> None:
        """Stop counting until the next `start`.

        Raises:
            ArgumentError: it is not running.
        """
        if not self.running:
            raise ArgumentError("Stopwatch.pause", "the watch must be running", fix="call start first")
        self._counted, self._started = self._total(self._now()), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside a `with` block out; a watch that stands still stays still."""
        was_running = self.running
        if was_running:
            self.pause()
        try:
            yield
        finally:
            if was_running:
                self.start()

    def end_warmup(self) -> None:
        """Book all that this process has counted so far as warm-up. Once per process.

        Raises:
            ArgumentError: warm-up has ended already.
        """
        if self._warm:
            raise ArgumentError("Stopwatch.end_warmup", "warm-up can end only once", fix="call it once per run")
        self._warm = True
        self._warmup += self._total(self._now()) - self._loaded

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps, so that a resumed run goes on counting from here."""
        return {"seconds": self.seconds, "warmup_seconds": self._warmup}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over the seconds of an earlier process; this one warms up again.

        Raises:
            ArgumentError: this watch has counted already.
        """
        if self.running or self._warm or self._counted:
            raise ArgumentError(
                "Stopwatch.load_state_dict",
                "the watch must be new",
                got=f"{self.seconds} s",
                fix="load before start",
            )
        self._warmup = state["warmup_seconds"]
        self._counted = self._loaded = state["seconds"] + state["warmup_seconds"]

    def _now(self) -> float:
        if self._synchronise is not None:
            self._synchronise()
        return self._clock()

    def _total(self, now: float) -> float:
        return self._counted + (0.0 if self._started is None else now - self._started)


@dataclass(frozen=True)
class InferenceTime:
    """What `inference_time` measured.

    Args:
        median_ms: median over the repeats, milliseconds per sample.
        p95_ms: 95th percentile over the repeats, milliseconds per sample, linear between two repeats.
        batch_size: samples per call; the time per sample falls as it grows, so it belongs to the number.
        repeats: calls that were timed.
    """

    median_ms: float
    p95_ms: float
    batch_size: int
    repeats: int


def inference_time(
    call: Callable[[Tensor], object],
    batch: Tensor,
    *,
    repeats: int = 50,
    warmup: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    synchronise: Callable[[], object] | None = None,
) -> InferenceTime:
    """Time a model on one batch: median and 95th percentile per sample, warmed up and synchronised.

    A module is timed in evaluation mode and gets its modes back. No gradients are recorded.

    Args:
        call: the model, or any function of the batch; wrap one that takes more in a lambda.
        batch: (n, ...), n at least 1, on the device to be timed.
        repeats: calls to time, at least 1; the 95th percentile means little below 20.
        warmup: calls made before and not counted: the first ones claim memory and choose kernels.
        clock: returns seconds.
        synchronise: waits until the device is done, before each reading of the clock. By default
            `torch.accelerator.synchronize` if the batch is on an accelerator; without it a launch would
            be timed, not the work.

    Raises:
        ArgumentError: an empty batch, repeats below 1 or warmup below 0.
    """
    where = "inference_time"
    if batch.ndim == 0 or len(batch) == 0:
        raise ArgumentError(where, "batch must hold at least one sample", got=tuple(batch.shape), fix="pass (n, ...)")
    if repeats < 1:
        raise ArgumentError(where, "repeats must be at least 1", got=repeats, fix="pass 50")
    if warmup < 0:
        raise ArgumentError(where, "warmup must be at least 0", got=warmup, fix="pass 5")
    if synchronise is None and batch.device.type != "cpu":
        synchronise = partial(torch.accelerator.synchronize, batch.device)
    wait = synchronise or (lambda: None)

    seconds = []
    # no_grad and not inference_mode: what the model caches in its first call must stay usable in training.
    with evaluating(call), torch.no_grad():
        for _ in range(warmup + repeats):
            wait()
            begin = clock()
            call(batch)
            wait()
            seconds.append(clock() - begin)
    per_sample = torch.tensor(seconds[warmup:], dtype=torch.float64) * 1000 / len(batch)
    median, p95 = per_sample.quantile(torch.tensor([0.5, 0.95], dtype=torch.float64)).tolist()
    return InferenceTime(median_ms=median, p95_ms=p95, batch_size=len(batch), repeats=repeats)
