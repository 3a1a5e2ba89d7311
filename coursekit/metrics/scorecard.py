"""The scorecard: ten metrics with their units, seeds and 95 % intervals. Needs no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coursekit.errors import ArgumentError, DataError

METRICS: Mapping[str, str] = {
    "accuracy": "fraction",
    "precision": "fraction",
    "recall": "fraction",
    "f1": "fraction",
    "loss": "nats",
    "training_time": "s",
    "inference_time": "ms per sample",
    "model_size": "bytes",
    "convergence_rate": "epochs",
    "robustness": "fraction",
}
"""The ten metrics, in the order of every table, and their units. `inference_time` is the median."""

COMPANIONS: Mapping[str, str] = {
    "warmup_time": "s",
    "inference_time_p95": "ms per sample",
    "parameters": "count",
    "convergence_steps": "steps",
    "convergence_area": "fraction",
}
"""What a scorecard may hold beside the ten without declaring a unit."""

_MAY_BE_UNREACHED = ("convergence_rate", "convergence_steps")


@dataclass(frozen=True)
class Metric:
    """One metric over several seeds.

    Args:
        value: mean over the seeds; None if there is none, and then `reason` says why.
        unit: unit of value, low and high.
        low, high: 95 % interval of the mean over seeds; None with fewer than two seeds.
        seeds: the seeds that were run for it; none if the metric does not apply.
        reason: why there is no value; empty if there is one.

    Raises:
        ArgumentError: a number that is not finite, a value outside its interval, half an interval, or
            both or neither of value and reason.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        numbers = [number for number in (self.low, self.value, self.high) if number is not None]
        if not all(map(math.isfinite, numbers)):
            raise ArgumentError("Metric", "numbers must be finite", got=numbers, fix="pass None and a reason")
        if (self.value is None) != bool(self.reason):
            raise ArgumentError(
                "Metric",
                "either a value or a reason was expected",
                got=f"{self.value}, {self.reason!r}",
                fix="give one",
            )
        if len(numbers) not in (0, 1, 3) or (self.value is None and numbers) or numbers != sorted(numbers):
            raise ArgumentError(
                "Metric",
                "low and high must both be given or both be None, with low <= value <= high",
                got=f"value {self.value}, low {self.low}, high {self.high}",
                fix="give the interval around the value",
            )

    def text(self) -> str:
        """Write value and interval for people, to two significant digits of the interval.

        `0.953 ± 0.012`; `0.953 [0.930, 0.961]` if the interval is not symmetric; `0.9533`, four digits,
        without an interval or with one of width 0; whole numbers in full. `not applicable`, or `no value`
        where seeds were run and gave none.
        """
        if self.value is None:
            return "no value" if self.seeds else "not applicable"
        number = float(self.value)
        finest = 0 if number.is_integer() else max(_decimals(number, 4), 0)
        if self.low is None or self.high is None or self.low == self.high:
            return _plain(number, finest)
        above, below = self.high - number, number - self.low
        decimals = _decimals(max(above, below), 2)
        if not number.is_integer():
            decimals = min(decimals, finest)
        value, low, high = (_plain(bound, decimals) for bound in (number, self.low, self.high))
        if math.isclose(above, below, rel_tol=1e-3):  # less does not show in two digits
            return f"{value} ± {_plain(above, decimals)}"
        return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Scorecard:
    """All ten metrics of one variant, then those that its lesson adds.

    Args:
        variant: what was measured, such as `adam` or `with dropout`.
        metrics: name to metric; the ten of `METRICS` must be there. They are put in their order, first
            the ten, then the others as they came.

    Raises:
        ArgumentError: one of the ten is missing.
    """

    variant: str
    metrics: Mapping[str, Metric]

    def __post_init__(self) -> None:
        missing = [name for name in METRICS if name not in self.metrics]
        if missing:
            raise ArgumentError(
                f"Scorecard {self.variant}",
                "each of the ten metrics needs values, or a reason why it does not apply",
                got=f"neither for {', '.join(missing)}",
                fix="measure them or name the reason",
            )
        ordered = {name: self.metrics[name] for name in METRICS} | dict(self.metrics)
        object.__setattr__(self, "metrics", ordered)

    @classmethod
    def from_seeds(
        cls,
        variant: str,
        values: Mapping[str, Sequence[float | None]],
        seeds: Sequence[int],
        *,
        not_applicable: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        convergence_unit: str = METRICS["convergence_rate"],
    ) -> Scorecard:
        """Build a scorecard from what each seed measured.

        The interval is that of Student's t for the mean, with n - 1 degrees of freedom; it is not cut
        at the ends of a metric's range. A mean is given only if every seed has a finite value: a mean
        over those that did well would flatter. So if one seed never reached its target, the value is
        None and the reason says how many did not and what the others took.

        Args:
            variant: what was measured.
            values: per metric one value per seed, in the order of `seeds`. None, for the convergence
                metrics and for extra ones, says that the seed never reached its target. A value that is
                not finite is told in the reason.
            seeds: the seeds, all different.
            not_applicable: per metric that does not apply, the reason.
            extra: the lesson's own metrics and their units, appended in this order. Each needs values
                or a reason. `COMPANIONS` need no unit here.
            convergence_unit: unit of `convergence_rate`, where it is not epochs.

        Raises:
            ArgumentError: a metric that is missing, unknown or given twice, or values that do not match
                the seeds.
        """
        where = f"Scorecard {variant}"
        reasons, extra = dict(not_applicable or {}), dict(extra or {})
        if not seeds or len(set(seeds)) != len(seeds):
            raise ArgumentError(where, "seeds must be different, at least one", got=list(seeds), fix="pass [0, 1, 2]")
        taken = [name for name in extra if name in METRICS or name in COMPANIONS]
        if taken:
            raise ArgumentError(where, "extra metrics need names of their own", got=", ".join(taken), fix="rename them")
        units = {**METRICS, "convergence_rate": convergence_unit, **COMPANIONS, **extra}
        unknown = [name for name in (*values, *reasons) if name not in units]
        if unknown:
            raise ArgumentError(
                where,
                "every metric needs a unit",
                got=f"none for {', '.join(unknown)}",
                fix="name it in extra",
            )
        wanted = [name for name in units if name in values or name in reasons or name in extra]
        metrics = {}
        for name in wanted:
            if (name in values) == (name in reasons):
                raise ArgumentError(
                    f"{where}, {name}",
                    "either values or a reason why it does not apply was expected",
                    got="both" if name in values else "neither",
                    fix="give one of them",
                )
            if name in reasons:
                metrics[name] = Metric(None, units[name], reason=reasons[name])
            else:
                may_be_unreached = name in _MAY_BE_UNREACHED or name in extra
                metrics[name] = _over_seeds(
                    f"{where}, {name}", values[name], units[name], tuple(seeds), may_be_unreached
                )
        return cls(variant, metrics)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values for strict JSON: per metric `value`, `unit`, `low`, `high`.

        `seeds` and `reason` are there only where there are any.
        """
        out: dict[str, dict[str, Any]] = {}
        for name, metric in self.metrics.items():
            out[name] = {"value": metric.value, "unit": metric.unit, "low": metric.low, "high": metric.high}
            if metric.seeds:
                out[name]["seeds"] = list(metric.seeds)
            if metric.reason:
                out[name]["reason"] = metric.reason
        return out

    @classmethod
    def from_dict(cls, variant: str, data: Mapping[str, Mapping[str, Any]]) -> Scorecard:
        """Rebuild a scorecard from `to_dict`.

        Raises:
            DataError: it is not what `to_dict` gives.
        """
        try:
            metrics = {
                name: Metric(**{**entry, "seeds": tuple(entry.get("seeds", ()))}) for name, entry in data.items()
            }
            return cls(variant, metrics)
        except (ArgumentError, AttributeError, TypeError) as error:
            raise DataError(
                f"Scorecard {variant}",
                "a saved scorecard was expected",
                got=error,
                fix="run the lesson again",
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per metric, in order: variant, metric, value, unit, low, high, seeds, reason."""
        return [
            {
                "variant": self.variant,
                "metric": name,
                "value": metric.value,
                "unit": metric.unit,
                "low": metric.low,
                "high": metric.high,
                "seeds": " ".join(map(str, metric.seeds)),
                "reason": metric.reason,
            }
            for name, metric in self.metrics.items()
        ]


def _over_seeds(
    where: str, values: Sequence[float | None], unit: str, seeds: tuple[int, ...], may_be_unreached: bool
) -> Metric:
    if len(values) != len(seeds):
        raise ArgumentError(
            where, f"one value per seed was expected, {len(seeds)}", got=len(values), fix="measure every seed"
        )
    unreached = sum(value is None for value in values)
    if unreached and not may_be_unreached:
        raise ArgumentError(
            where, "every seed needs a value", got="None", fix="measure it or say that it does not apply"
        )
    numbers = [float(value) for value in values if value is not None]
    broken = sum(not math.isfinite(number) for number in numbers)
    count = f"of {len(seeds)} seed" + ("s" if len(seeds) > 1 else "")
    if broken:
        return Metric(None, unit, seeds=seeds, reason=f"{broken} {count} gave a value that is not finite")
    if unreached:
        others = ", ".join(f"{number:g}" for number in sorted(numbers))
        took = f"; the others took {others} {unit}" if numbers else ""
        return Metric(None, unit, seeds=seeds, reason=f"{unreached} {count} never reached the target{took}")
    mean = statistics.mean(numbers)  # exact, unlike fmean: seeds that agree give an interval of width 0
    if len(numbers) == 1:
        return Metric(mean, unit, seeds=seeds)
    half = _student_t(len(numbers) - 1) * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return Metric(mean, unit, mean - half, mean + half, seeds)


def _student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution, the factor of a two-sided 95 % interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _decimals(number: float, digits: int) -> int:
    """How many decimals show `digits` significant digits of a number; negative for large ones."""
    return digits - 1 - int(f"{number:.{digits - 1}e}".split("e")[1])  # after rounding: 9.96 counts as 10


def _plain(number: float, decimals: int) -> str:
    if decimals > 8:
        return f"{number:.3g}"
    return f"{round(number, decimals):.{max(decimals, 0)}f}"
