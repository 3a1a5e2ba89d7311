"""Early stopping: the rule, and a training that ends with it, continues through it and gets its best weights back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from coursekit.data.augmentation import Mixup
from coursekit.errors import ArgumentError, StoppedError
from coursekit.harness import EarlyStopping, fit
from coursekit.harness.pilot import Pilot

from .test_fit import settings, without_seconds

NAN = math.nan


def follow(stopper: EarlyStopping, values: list[float]) -> tuple[list[bool], float]:
    """Step through values with a module whose weight is the number of the step; return answers and the best weight."""
    module = nn.Linear(1, 1, bias=False)
    answers = []
    for number, value in enumerate(values):
        nn.init.constant_(module.weight, number)
        answers.append(stopper.step(value, module))
    nn.init.constant_(module.weight, -1)
    stopper.restore(module)
    return answers, module.weight.item()


@pytest.mark.parametrize(
    ("stopper", "values", "stops", "best"),
    [
        (EarlyStopping(2), [3, 2, 2.5, 2.4], [False, False, False, True], 1),
        (EarlyStopping(2), [3, 4, 2, 5, 1, 2, 2], [False] * 6 + [True], 4),
        (EarlyStopping(1), [1, 1], [False, True], 0),
        (EarlyStopping(2, "max"), [0.1, 0.5, 0.4, 0.5], [False, False, False, True], 1),
        (EarlyStopping(2, min_delta=0.5), [3, 2.6, 2.4, 2.0], [False, False, False, False], 2),
        (EarlyStopping(2, min_delta=0.5), [3, 2.6, 2.5], [False, False, True], 0),
        (EarlyStopping(2), [NAN, 2, NAN, NAN], [False, False, False, True], 1),
        (EarlyStopping(2), [NAN, NAN], [False, True], -1),
        (EarlyStopping(3), [3, 2, 1], [False, False, False], 2),
    ],
    ids=["plateau", "reset", "a tie", "max", "creeping gains", "exactly min_delta", "nan", "only nan", "never stops"],
)
def test_the_rule_on_scripted_values(stopper, values, stops, best):
    assert follow(stopper, values) == (stops, best)


def test_its_state_goes_on_elsewhere():
    first, second = EarlyStopping(2), EarlyStopping(2)
    follow(first, [3, 1, 2])
    second.load_state_dict(first.state_dict())
    assert follow(second, [1.5]) == ([True], 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patience": 0}, "a patience of 1 epoch or more"),
        ({"patience": 1, "mode": "best"}, "a mode among min and max"),
        ({"patience": 1, "min_delta": -0.1}, "a min_delta of 0 or more"),
        ({"patience": 1, "min_delta": NAN}, "a min_delta of 0 or more"),
    ],
    ids=["patience", "mode", "min_delta", "nan"],
)
def test_wrong_settings_are_refused(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        EarlyStopping(**arguments)


class AfterEpoch:
    """A stopper without a state, as a learner may write it: it stops after a given epoch and restores the first."""

    def __init__(self, last: int) -> None:
        self.last, self.values, self.first = last, [], {}

    def step(self, value: float, module: nn.Module) -> bool:
        self.values.append(value)
        if len(self.values) == 1:
            self.first = {name: part.clone() for name, part in module.state_dict().items()}
        return len(self.values) == self.last

    def restore(self, module: nn.Module) -> None:
        module.load_state_dict(self.first)


def state(run: Any) -> list[torch.Tensor]:
    return list(run.module.network.state_dict().values())


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(state(first), state(second), strict=True))


def test_a_training_stops_and_has_its_best_weights(digits, build, tmp_path):
    run = fit(build(), digits, settings(epochs=6), stopper=AfterEpoch(3), out=tmp_path, quiet=True)
    one = fit(build(), digits, settings(epochs=1), quiet=True)
    assert run.stopped_early
    assert len(run.history) == 3
    assert same(run, one), "the weights of the epoch that the stopper went back to"

    again = fit(build(), digits, settings(epochs=6), stopper=AfterEpoch(3), out=tmp_path, quiet=True)
    assert without_seconds(again.history) == without_seconds(run.history), "read back, not repeated"
    assert again.stopped_early
    assert same(again, run)


def test_the_best_weights_come_back_even_if_it_never_stops(digits, build):
    stopper = AfterEpoch(99)
    run = fit(build(), digits, settings(epochs=2), stopper=stopper, quiet=True)
    assert not run.stopped_early
    assert stopper.values == run.curve("val_loss")
    assert same(run, fit(build(), digits, settings(epochs=1), quiet=True))


def test_the_settings_alone_stop_a_training(digits, build):
    """`training.patience` watches the validation loss; a huge rate never improves on the first epochs for long."""
    run = fit(build(lr=0.5), digits, settings(epochs=40, patience=2), quiet=True)
    losses = run.curve("val_loss")
    best = min(range(len(losses)), key=losses.__getitem__)
    assert run.stopped_early
    assert len(losses) == best + 1 + 2
    whole = [(digits.validation.inputs, digits.validation.targets)]
    assert run.module.evaluate(whole)["loss"] == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.parametrize("resumable", [True, False], ids=["with a state", "without one"])
def test_an_interrupted_training_ends_where_the_other_did(digits, build, tmp_path, monkeypatch, resumable):
    def make() -> Any:
        return EarlyStopping(2) if resumable else AfterEpoch(5)

    training = settings(epochs=40)
    whole = fit(build(lr=0.5), digits, training, stopper=make(), quiet=True)
    assert whole.stopped_early

    original = Pilot.on_train_epoch_start

    def interrupt(self: Pilot, trainer: Any, module: Any) -> None:
        original(self, trainer, module)
        if len(self.run.history) == 2:
            self.stop.number = 15

    with monkeypatch.context() as patch:
        patch.setattr(Pilot, "on_train_epoch_start", interrupt)
        with pytest.raises(StoppedError):
            fit(build(lr=0.5), digits, training, stopper=make(), out=tmp_path, quiet=True)
    continued = fit(build(lr=0.5), digits, training, stopper=make(), out=tmp_path, quiet=True)
    assert without_seconds(continued.history) == without_seconds(whole.history)
    assert same(continued, whole)


def test_an_unknown_column_is_named(digits, build):
    with pytest.raises(ArgumentError, match=r"one of the columns epoch, step, .*val_accuracy"):
        fit(build(), digits, settings(), stopper=EarlyStopping(1), monitor="accuracy_of_tomorrow", quiet=True)


def test_a_test_curve_is_recorded_and_changes_nothing(digits, build):
    plain = fit(build(), digits, settings(), quiet=True)
    watched = fit(build(), digits, settings(test_curve=True), quiet=True)
    whole = [(digits.test.inputs, digits.test.targets)]
    assert watched.history[-1]["test_accuracy"] == pytest.approx(watched.module.evaluate(whole)["accuracy"])
    assert same(plain, watched)
    assert [{name: row[name] for name in plain.history[0] if name != "seconds"} for row in watched.history] == (
        without_seconds(plain.history)
    )


def test_a_classifier_takes_a_loss_and_an_augmentation(digits, build):
    def run(**changes: Any) -> Any:
        return fit(build(dropout=0.0, **changes), digits, settings(epochs=2), quiet=True)

    plain, halved = run(), run(loss=lambda logits, targets: 0.5 * nn.functional.cross_entropy(logits, targets))
    assert halved.history[0]["loss"] < plain.history[0]["loss"]
    mixed = run(augment=Mixup(10))
    assert mixed.history[-1]["loss"] > plain.history[-1]["loss"], "shares cannot be fitted to zero"
    assert 0 <= mixed.history[-1]["accuracy"] <= 1
