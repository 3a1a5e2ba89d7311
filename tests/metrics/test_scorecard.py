"""Scorecards: intervals, honest gaps, strict JSON, and what people read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from coursekit.errors import ArgumentError, DataError, OutputError
from coursekit.metrics import COMPANIONS, METRICS, Metric, Scorecard, markdown_table, to_csv

TEN = [
    "accuracy",
    "precision",
    "recall",
    "f1",
    "loss",
    "training_time",
    "inference_time",
    "model_size",
    "convergence_rate",
    "robustness",
]
SEEDS = (0, 1, 2)
NAN = float("nan")


def values(**changes: list) -> dict[str, list]:
    return {name: [0.5, 0.6, 0.7] for name in TEN} | changes


def card(variant: str = "adam", **changes: list) -> Scorecard:
    return Scorecard.from_seeds(variant, values(**changes), SEEDS)


def test_the_ten_metrics_and_their_order_are_those_of_the_contract() -> None:
    assert list(METRICS) == TEN
    backwards = dict(reversed(values(parameters=[9, 9, 9]).items()))
    scorecard = Scorecard.from_seeds("adam", backwards, SEEDS)
    assert list(scorecard.metrics) == [*TEN, "parameters"]
    by_hand = Scorecard("adam", dict(reversed(list(scorecard.metrics.items()))))
    assert list(by_hand.metrics) == [*TEN, "parameters"]


def test_mean_and_interval_by_hand() -> None:
    metric = card().metrics["accuracy"]
    half = 4.302652729911275 * 0.1 / 3**0.5  # Student's t for 2 degrees of freedom, from a table
    assert (metric.low, metric.value, metric.high) == pytest.approx((0.6 - half, 0.6, 0.6 + half))
    assert metric.seeds == SEEDS


@settings(max_examples=50, deadline=None)
@given(numbers=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12).filter(lambda numbers: np.std(numbers) > 1e-3))
def test_interval_equals_scipy(numbers: list[float]) -> None:
    seeds = range(len(numbers))
    metric = Scorecard.from_seeds("x", dict.fromkeys(TEN, numbers), seeds).metrics["loss"]
    low, high = stats.t.interval(0.95, len(numbers) - 1, loc=np.mean(numbers), scale=stats.sem(numbers))
    assert (metric.low, metric.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)
    mirrored = Scorecard.from_seeds("x", {name: [-n for n in numbers] for name in TEN}, seeds).metrics["loss"]
    assert metric.low is not None
    assert (mirrored.value, mirrored.high) == (-(metric.value or 0), -metric.low)


def test_the_interval_covers_the_mean_in_95_of_100_experiments() -> None:
    draws = np.random.default_rng(0).normal(0.3, 2.0, size=(1000, 4))
    covered = 0
    for row in draws:
        metric = Scorecard.from_seeds("x", dict.fromkeys(TEN, row), range(4)).metrics["loss"]  # pyright: ignore[reportArgumentType]
        assert metric.low is not None
        assert metric.high is not None
        covered += metric.low <= 0.3 <= metric.high
    assert abs(covered / 1000 - 0.95) < 5 * (0.95 * 0.05 / 1000) ** 0.5


def test_one_seed_has_no_interval() -> None:
    metric = Scorecard.from_seeds("x", {name: [0.25] for name in TEN}, [7]).metrics["accuracy"]
    assert metric == Metric(0.25, "fraction", None, None, (7,))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 4840])
def test_seeds_that_agree_have_an_interval_of_width_zero(value: float) -> None:
    metric = card(model_size=[value] * 3).metrics["model_size"]
    assert metric.low == metric.value == metric.high == value


def test_any_kind_of_number_becomes_a_plain_one() -> None:
    metric = card(loss=[torch.tensor(1.0), np.float32(2.0), 3]).metrics["loss"]
    assert metric.value == 2.0
    assert type(metric.value) is float


@pytest.mark.parametrize(
    ("epochs", "reason"),
    [
        pytest.param([None, 9, 4], "1 of 3 seeds never reached the target; the others took 4, 9 epochs", id="one"),
        pytest.param([None, 4, None], "2 of 3 seeds never reached the target; the others took 4 epochs", id="two"),
        pytest.param([None, None, None], "3 of 3 seeds never reached the target", id="all"),
        pytest.param([None, NAN, 4.0], "1 of 3 seeds gave a value that is not finite", id="and-one-broke"),
    ],
)
def test_a_seed_that_never_converged_leaves_no_mean_of_the_lucky_ones(epochs: list, reason: str) -> None:
    metric = card(convergence_rate=epochs).metrics["convergence_rate"]
    assert metric == Metric(None, "epochs", seeds=SEEDS, reason=reason)
    assert metric.text() == "no value"


@pytest.mark.parametrize("broken", [NAN, float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_becomes_null_with_its_reason(broken: float) -> None:
    entry = card(loss=[1.0, broken, 2.0]).to_dict()["loss"]
    reason = "1 of 3 seeds gave a value that is not finite"
    assert entry == {"value": None, "unit": "nats", "low": None, "high": None, "seeds": [0, 1, 2], "reason": reason}
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_what_does_not_apply_says_so_and_extras_follow() -> None:
    needed = {name: [1.0, 2.0] for name in TEN if name != "precision"}
    scorecard = Scorecard.from_seeds(
        "dqn",
        needed | {"episode_return": [200, 500], "steps_to_475": [None, 9000], "inference_time_p95": [1, 2]},
        [3, 4],
        not_applicable={"precision": "a policy has no classes", "bits": "no text"},
        extra={"steps_to_475": "environment steps", "episode_return": "reward", "bits": "bits per character"},
        convergence_unit="environment steps",
    )
    assert list(scorecard.metrics) == [*TEN, "inference_time_p95", "steps_to_475", "episode_return", "bits"]
    assert scorecard.metrics["precision"] == Metric(None, "fraction", reason="a policy has no classes")
    assert scorecard.metrics["precision"].text() == scorecard.metrics["bits"].text() == "not applicable"
    assert scorecard.metrics["convergence_rate"].unit == "environment steps"
    assert scorecard.metrics["episode_return"].value == 350
    assert scorecard.metrics["steps_to_475"].reason.startswith("1 of 2 seeds never reached")
    assert scorecard.metrics["inference_time_p95"].unit == COMPANIONS["inference_time_p95"]
    assert scorecard.to_dict()["precision"] == {
        "value": None,
        "unit": "fraction",
        "low": None,
        "high": None,
        "reason": "a policy has no classes",
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"seeds": ()}, "seeds must be different, at least one", id="no-seeds"),
        pytest.param({"seeds": (0, 1, 1)}, "seeds must be different", id="a-seed-twice"),
        pytest.param({"seeds": (0, 1)}, "accuracy: one value per seed was expected, 2. Got 3", id="fewer-seeds"),
        pytest.param({"values": values(accuracy=[0.5, None, 0.5])}, "accuracy: every seed needs a value", id="gap"),
        pytest.param(
            {"values": values(accuray=[1, 1, 1])}, "Got none for accuray. Fix: name it in extra", id="unknown"
        ),
        pytest.param({"not_applicable": {"f2": "no"}}, "Got none for f2", id="unknown-reason"),
        pytest.param({"not_applicable": {"f1": "no"}}, "f1: either values or a reason .* Got both", id="both"),
        pytest.param({"not_applicable": {"parameters": ""}}, "either a value or a reason", id="empty-reason"),
        pytest.param({"extra": {"return": "reward"}}, "return: either values or a reason .* Got neither", id="extra"),
        pytest.param({"extra": {"loss": "bits"}}, "names of their own. Got loss", id="extra-named-as-one-of-ten"),
        pytest.param({"extra": {"parameters": "count"}}, "names of their own", id="extra-named-as-companion"),
        pytest.param(
            {"values": {name: [1, 1, 1] for name in TEN[:8]}},
            "each of the ten metrics needs values, .* Got neither for convergence_rate, robustness",
            id="missing",
        ),
    ],
)
def test_from_seeds_errors(changes: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Scorecard.from_seeds(**{"variant": "adam", "values": values(), "seeds": SEEDS, **changes})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"value": NAN}, "numbers must be finite", id="nan"),
        pytest.param({"value": 1.0, "low": 0.0, "high": float("inf")}, "numbers must be finite", id="infinite"),
        pytest.param({"value": None}, "either a value or a reason", id="neither"),
        pytest.param({"value": 1.0, "reason": "why"}, "either a value or a reason", id="both"),
        pytest.param({"value": 1.0, "low": 0.0}, "low and high must both be given", id="half-an-interval"),
        pytest.param({"value": 1.0, "low": 1.1, "high": 1.2}, "low <= value <= high", id="outside"),
        pytest.param({"value": None, "low": 0, "high": 1, "reason": "x"}, "low and high", id="interval-of-nothing"),
    ],
)
def test_metric_errors(arguments: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Metric(**{"unit": "s", **arguments})


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        pytest.param(0.95333, 0.94103, 0.96563, "0.953 ± 0.012", id="symmetric"),
        pytest.param(0.953, 0.93, 0.961, "0.953 [0.930, 0.961]", id="not-symmetric"),
        pytest.param(0.953333, None, None, "0.9533", id="no-interval"),
        pytest.param(0.953333, 0.953333, 0.953333, "0.9533", id="width-zero"),
        pytest.param(23048.0, 23048.0, 23048.0, "23048", id="whole"),
        pytest.param(23048, None, None, "23048", id="an-int"),
        pytest.param(0.0, None, None, "0", id="zero"),
        pytest.param(1.0, 0.87, 1.13, "1.00 ± 0.13", id="whole-with-an-interval"),
        pytest.param(12345.6, 11111.6, 13579.6, "12300 ± 1200", id="hundreds"),
        pytest.param(12345.6, 12345.599, 12345.601, "12346 ± 0", id="no-more-than-needed"),
        pytest.param(1.0, 0.87, 1.13 + 1e-9, "1.00 ± 0.13", id="symmetric-but-for-rounding"),
        pytest.param(0.5, 0.5 - 0.0996, 0.5 + 0.0996, "0.50 ± 0.10", id="rounded-up-to-a-power-of-ten"),
        pytest.param(2.5, -10.0, 15.0, "2 ± 12", id="wider-than-the-value"),
        pytest.param(0.00123456, None, None, "0.001235", id="small"),
        pytest.param(1.23456e-9, None, None, "1.23e-09", id="tiny"),
        pytest.param(3.4e-11, 3.3e-11, 3.5e-11, "3.4e-11 ± 1e-12", id="tiny-with-an-interval"),
        pytest.param(-0.5, -0.75, -0.25, "-0.50 ± 0.25", id="negative"),
    ],
)
def test_text(value: float, low: float | None, high: float | None, text: str) -> None:
    assert Metric(value, "s", low, high).text() == text


@given(value=st.floats(-1e9, 1e9), half=st.floats(1e-6, 1e9))
def test_text_says_the_value_to_within_a_tenth_of_the_interval(value: float, half: float) -> None:
    low, high = value - half, value + half
    if low < value < high:
        shown = Metric(value, "s", low, high).text().replace("[", "± ").split(" ± ")[0]
        assert abs(float(shown) - value) <= max(0.1 * half, 1e-3 * abs(value))


def full_card() -> Scorecard:
    return Scorecard.from_seeds(
        "a|b",
        {name: [0.5, 0.75, 1.0] for name in TEN[:-2]} | {"convergence_rate": [None, 3, 4], "lift": [1, 2, 3]},
        SEEDS,
        not_applicable={"robustness": "inputs are words,\nnot numbers"},
        extra={"lift": "%"},
    )


def test_dict_is_strict_json_and_comes_back_equal() -> None:
    scorecard = full_card()
    text = json.dumps(scorecard.to_dict(), allow_nan=False)
    assert Scorecard.from_dict("a|b", json.loads(text)) == scorecard
    more = {"robustness": ["reason"], "convergence_rate": ["seeds", "reason"]}
    for name, entry in scorecard.to_dict().items():
        assert list(entry) == ["value", "unit", "low", "high", *more.get(name, ["seeds"])]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data.pop("f1"), id="one-missing"),
        pytest.param(lambda data: data.update(f1=0.5), id="no-entry"),
        pytest.param(lambda data: data["f1"].update(value=NAN), id="nan"),
        pytest.param(lambda data: data["f1"].update(value="high"), id="a-word"),
        pytest.param(lambda data: data["f1"].pop("unit"), id="no-unit"),
        pytest.param(lambda data: data["f1"].update(colour="red"), id="unknown-key"),
        pytest.param(lambda data: data["f1"].update(seeds=3), id="seeds-no-list"),
    ],
)
def test_damaged_dict(damage) -> None:
    data = card().to_dict()
    damage(data)
    with pytest.raises(DataError, match="Scorecard adam: a saved scorecard was expected"):
        Scorecard.from_dict("adam", data)
    with pytest.raises(DataError, match="a saved scorecard was expected"):
        Scorecard.from_dict("adam", [])  # pyright: ignore[reportArgumentType]


def test_csv_reads_back(tmp_path: Path) -> None:
    cards = [full_card(), card('plain, "quoted"')]
    to_csv(cards, tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11 + 10
    assert list(rows[0]) == ["variant", "metric", "value", "unit", "low", "high", "seeds", "reason"]
    for row, expected in zip(rows, [row for one in cards for row in one.rows()], strict=True):
        for key in ("value", "low", "high"):
            assert (float(row[key]) if row[key] else None) == expected[key]
        for key in ("variant", "metric", "unit", "seeds", "reason"):
            assert row[key] == expected[key]
    assert rows[0]["seeds"] == "0 1 2"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_csv_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        to_csv([card()], tmp_path / "missing" / "scores.csv")
    with pytest.raises(ArgumentError, match="to_csv: at least one scorecard"):
        to_csv([], tmp_path / "scores.csv")


def test_markdown_table() -> None:
    table = markdown_table([full_card(), card("plain", model_size=[5000, 5000, 5000])])
    lines = table.splitlines()
    assert lines[0] == r"| metric | unit | a\|b | plain |"
    assert lines[1] == "| --- | --- | ---: | ---: |"
    assert lines[2] == "| accuracy | fraction | 0.75 ± 0.62 | 0.60 ± 0.25 |"
    assert lines[9] == "| model_size | bytes | 0.75 ± 0.62 | 5000 |"
    assert lines[10] == "| convergence_rate | epochs | no value | 0.60 ± 0.25 |"
    assert lines[11] == "| robustness | fraction | not applicable | 0.60 ± 0.25 |"
    assert lines[12] == "| lift | % | 2.0 ± 2.5 |  |"
    assert lines[13:] == [
        "",
        "- convergence_rate (a|b): no value: 1 of 3 seeds never reached the target; the others took 3, 4 epochs",
        "- robustness (a|b): not applicable: inputs are words, not numbers",
    ]
    assert table.endswith("\n")


def test_markdown_names_all_variants_that_share_a_reason() -> None:
    reason = {"precision": "no classes"}
    needed = {name: [1.0] for name in TEN if name != "precision"}
    cards = [Scorecard.from_seeds(name, needed, [0], not_applicable=reason) for name in ("a", "b")]
    assert markdown_table(cards).splitlines()[-1] == "- precision (a, b): not applicable: no classes"
    assert markdown_table([card()]).splitlines()[-1].startswith("| robustness")


@pytest.mark.parametrize(
    ("cards", "words"),
    [pytest.param([], "at least one scorecard", id="none"), pytest.param([card(), card()], "must differ", id="twice")],
)
def test_markdown_errors(cards: list[Scorecard], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        markdown_table(cards)


def test_imports_stay_small() -> None:
    code = """
import sys
import coursekit.metrics
heavy = {"torchmetrics", "sklearn", "scipy", "matplotlib", "lightning", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scorecards_need_no_torch() -> None:
    code = """
import sys, types
import coursekit
package = types.ModuleType("coursekit.metrics")  # the package without its __init__, which imports torch
package.__path__ = [coursekit.__path__[0] + "/metrics"]
sys.modules["coursekit.metrics"] = package
from coursekit.metrics.scorecard import METRICS, Scorecard
from coursekit.metrics.tables import markdown_table
print(markdown_table([Scorecard.from_seeds("x", {name: [1.0, 2.0] for name in METRICS}, [0, 1])]))
assert not {"torch", "pandas", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
