"""Classification scores against scikit-learn, by hand, and by their laws."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from coursekit.errors import ArgumentError
from coursekit.metrics import classification_scores, cross_entropy_nats

AVERAGES = ["macro", "micro", "weighted"]
CLASSES = 4

pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)


def tensors(drawn: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    predictions, targets = zip(*drawn, strict=True)
    return torch.tensor(predictions), torch.tensor(targets)


def close(ours: float, expected: float) -> None:
    assert ours == pytest.approx(expected, abs=1e-6)


def test_hand_counted_example() -> None:
    # class 0: 2 right, 1 missed; class 1: 1 right, 1 too many; class 2: 1 right, 0 wrong; class 3 is absent
    scores = classification_scores(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 2]), classes=4)
    close(scores["accuracy"], 4 / 5)
    close(scores["precision"], (1 + 1 / 2 + 1) / 3)
    close(scores["recall"], (2 / 3 + 1 + 1) / 3)
    close(scores["f1"], (4 / 5 + 2 / 3 + 1) / 3)


def test_macro_f1_is_the_mean_of_f1_and_not_the_f1_of_means() -> None:
    scores = classification_scores(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1]), classes=2)
    of_means = 2 * scores["precision"] * scores["recall"] / (scores["precision"] + scores["recall"])
    close(scores["f1"], (1 / 2 + 1 / 2) / 2)
    assert abs(of_means - scores["f1"]) > 0.1


def test_accuracy_is_exact_so_that_a_target_met_exactly_is_met() -> None:
    predictions = torch.zeros(400, dtype=torch.long)
    predictions[380:] = 1
    assert classification_scores(predictions, torch.zeros(400, dtype=torch.long), classes=2)["accuracy"] == 0.95


def test_a_class_never_predicted_counts_as_zero_precision() -> None:
    scores = classification_scores(torch.tensor([0, 0]), torch.tensor([0, 1]), classes=2)
    close(scores["precision"], (1 / 2 + 0) / 2)


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=40, deadline=None)
@given(drawn=pairs)
def test_equals_scikit_learn(average: str, drawn: list[tuple[int, int]]) -> None:
    predictions, targets = tensors(drawn)
    scores = classification_scores(predictions, targets, classes=CLASSES, average=average)  # pyright: ignore[reportArgumentType]
    precision, recall, f1, _ = precision_recall_fscore_support(
        targets.numpy(),
        predictions.numpy(),
        average=average,
        zero_division=0.0,  # pyright: ignore[reportArgumentType]
    )
    close(scores["precision"], float(precision))
    close(scores["recall"], float(recall))
    close(scores["f1"], float(f1))
    assert scores["accuracy"] == accuracy_score(targets.numpy(), predictions.numpy())


@settings(max_examples=40, deadline=None)
@given(drawn=pairs, seed=st.integers(0, 1000))
def test_laws(drawn: list[tuple[int, int]], seed: int) -> None:
    predictions, targets = tensors(drawn)
    generator = torch.Generator().manual_seed(seed)
    macro = classification_scores(predictions, targets, classes=CLASSES)
    assert all(0 <= score <= 1 for score in macro.values())

    order = torch.randperm(len(targets), generator=generator)
    assert classification_scores(predictions[order], targets[order], classes=CLASSES) == macro

    names = torch.randperm(CLASSES, generator=generator)  # macro gives every class one vote: names do not matter
    renamed = classification_scores(names[predictions], names[targets], classes=CLASSES)
    assert renamed == pytest.approx(macro, abs=1e-6)

    swapped = classification_scores(targets, predictions, classes=CLASSES)
    close(swapped["precision"], macro["recall"])

    micro = classification_scores(predictions, targets, classes=CLASSES, average="micro")
    for name in ("precision", "recall", "f1"):
        close(micro[name], micro["accuracy"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_logits_are_their_largest_entry(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]], dtype=dtype)
    targets = torch.tensor([1, 0, 0])
    assert classification_scores(logits, targets, classes=3)["accuracy"] == 1.0


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool], ids=str)
def test_any_integer_type_will_do(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 1, 1])
    expected = classification_scores(labels, labels.flip(0), classes=2)
    assert classification_scores(labels.to(dtype), labels.flip(0).to(dtype), classes=2) == expected


ONE = torch.tensor([0])


@pytest.mark.parametrize(
    ("predictions", "targets", "options", "words"),
    [
        pytest.param(ONE, ONE, {"classes": 1}, "classes must be at least 2", id="one-class"),
        pytest.param(ONE, ONE, {"average": "none"}, "average must be one of macro, micro, weighted", id="average"),
        pytest.param(ONE[:0], ONE[:0], {}, "at least one sample", id="no-predictions"),
        pytest.param(torch.zeros(0, 2), ONE[:0], {}, "at least one sample", id="no-logits"),
        pytest.param(torch.tensor([0.9]), ONE, {}, "predictions must be class indices", id="probabilities"),
        pytest.param(torch.tensor([0j]), ONE, {}, "predictions must be class indices", id="complex"),
        pytest.param(torch.tensor([2]), ONE, {}, r"predictions must lie in \[0, 2\)", id="prediction-out-of-range"),
        pytest.param(ONE, torch.tensor([2]), {}, r"targets must lie in \[0, 2\)", id="target-out-of-range"),
        pytest.param(ONE, torch.tensor([-1]), {}, r"Got values from -1 to -1", id="negative-target"),
        pytest.param(ONE, torch.tensor([0, 1]), {}, r"integers of shape \(1,\)", id="more-targets"),
        pytest.param(ONE, ONE[:, None], {}, r"targets must be class indices", id="column-of-targets"),
        pytest.param(ONE, torch.tensor([0.0]), {}, r"of torch.float32", id="float-targets"),
        pytest.param(torch.zeros(1, 3), ONE, {}, r"logits must be floating of shape \(n, 2\)", id="width"),
        pytest.param(torch.zeros(1, 2).long(), ONE, {}, "logits must be floating", id="integer-logits"),
        pytest.param(torch.tensor([[0.0, torch.nan]]), ONE, {}, "Got 1 of 1 rows with NaN", id="nan"),
        pytest.param(torch.zeros(1, 2, 1), ONE, {}, "predictions must be class indices", id="three-axes"),
    ],
)
def test_errors(predictions: torch.Tensor, targets: torch.Tensor, options: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        classification_scores(predictions, targets, **{"classes": 2, **options})


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes() -> None:
    assert cross_entropy_nats(torch.zeros(5, 8), torch.arange(5)) == pytest.approx(math.log(8), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50))
def test_cross_entropy_equals_torch_and_ignores_a_shift(seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64) * 10
    targets = torch.randint(5, (7,), generator=generator)
    loss = cross_entropy_nats(logits, targets)
    assert loss == F.cross_entropy(logits, targets).item()
    assert cross_entropy_nats(logits + shift, targets) == pytest.approx(loss, abs=1e-10)


def test_cross_entropy_of_half_precision_is_summed_in_float32() -> None:
    logits, targets = (
        torch.randn(1000, 10, generator=torch.Generator().manual_seed(0)).bfloat16(),
        torch.arange(1000) % 10,
    )
    assert cross_entropy_nats(logits, targets) == F.cross_entropy(logits.float(), targets).item()
    assert cross_entropy_nats(logits, targets) != F.cross_entropy(logits, targets).item()


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        pytest.param(torch.zeros(0, 3), ONE[:0], "at least one sample", id="empty"),
        pytest.param(torch.zeros(1, 1), ONE, r"at least 2", id="one-class"),
        pytest.param(torch.zeros(1, 3), torch.tensor([3]), r"\[0, 3\)", id="out-of-range"),
        pytest.param(torch.zeros(1, 3), torch.tensor([-100]), r"\[0, 3\)", id="ignore-index"),
        pytest.param(torch.full((2, 3), torch.nan), torch.tensor([0, 0]), "2 of 2 rows with NaN", id="nan"),
        pytest.param(torch.zeros(2, 3), ONE, r"shape \(2,\)", id="fewer-targets"),
        pytest.param([0.0, 1.0], ONE, "Got a list", id="not-a-tensor"),
    ],
)
def test_cross_entropy_errors(logits: torch.Tensor, targets: torch.Tensor, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        cross_entropy_nats(logits, targets)
