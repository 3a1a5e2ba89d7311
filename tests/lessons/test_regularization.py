"""Lesson 2's parts: remedies that change one thing each, networks that start alike, and configurations that fit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from coursekit import runtime
from coursekit.config import resolve
from coursekit.data import load
from coursekit.data.augmentation import Chain
from coursekit.errors import ConfigError
from lessons.regularization.config import REMEDIES, Config, Strengths
from lessons.regularization.lesson import with_none, with_wrong_labels
from lessons.regularization.remedies import (
    LearnersBatchNorm,
    LearnersLayerNorm,
    Regularised,
    Remedy,
    build_network,
    hard_bootstrap,
    remedy,
)

DATA = load("digits", limit=100)
STRENGTHS = Strengths()


def changed(name: str) -> set[str]:
    found, plain = remedy(name, STRENGTHS, DATA), Remedy()
    return {part.name for part in fields(Remedy) if getattr(found, part.name) is not getattr(plain, part.name)}


def test_each_remedy_changes_one_thing():
    assert changed("none") == set()
    assert {name: len(changed(name)) for name in REMEDIES if name != "none"} == dict.fromkeys(REMEDIES[1:], 1)


def test_remedies_go_together():
    assert changed("dropout+label_smoothing+weight_decay") == {"drop", "loss", "weight_decay"}
    assert isinstance(remedy("crops+mixup", STRENGTHS, DATA).augment, Chain)
    assert changed("none+l1") == {"l1"}


@pytest.mark.parametrize("name", ["dropout", "batch_norm", "layer_norm", "mixup", "early_stopping"])
def test_one_seed_gives_every_remedy_the_same_first_weights(name):
    def first_weights(of: str) -> list[torch.Tensor]:
        runtime.seed_everything(5)
        network = build_network(Config(), DATA, remedy(of, STRENGTHS, DATA))
        return [part.weight for part in network.modules() if isinstance(part, nn.Linear)]

    for mine, plain in zip(first_weights(name), first_weights("none"), strict=True):
        torch.testing.assert_close(mine, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["none", "dropout", "batch_norm", "layer_norm"])
def test_the_wide_residual_network_takes_every_layer(name):
    config = Config(network="wide_resnet")
    network = build_network(config, DATA, remedy(name, STRENGTHS, DATA))
    logits = network(DATA.train.inputs[:4])
    assert logits.shape == (4, 10)
    logits.sum().backward()
    assert all(part.grad is not None for part in network.parameters())
    kinds = {type(part) for part in network.modules()}
    expected = {"none": nn.Identity, "dropout": nn.Dropout, "batch_norm": nn.BatchNorm2d, "layer_norm": nn.GroupNorm}
    assert expected[name] in kinds
    # 16 layers: the stem, 12 convolutions in blocks of two, and the head; shortcuts are counted apart.
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert len(convolutions) == 13


def test_wrong_labels_are_in_training_and_validation_and_never_in_the_test_part():
    given, wrong = with_wrong_labels(DATA, 0.4, 0, 50)
    assert int(wrong.sum()) == 40
    assert torch.equal(given.train.targets != DATA.train.targets, wrong)
    assert int((given.validation.targets != DATA.validation.targets[:50]).sum()) == 20
    assert given.test is DATA.test


def test_bootstrapping_trusts_and_doubts():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    wrong = torch.tensor([2])
    trusted = nn.functional.cross_entropy(logits, wrong)
    torch.testing.assert_close(hard_bootstrap(logits, wrong, 1.0), trusted)
    torch.testing.assert_close(
        hard_bootstrap(logits, wrong, 0.0), nn.functional.cross_entropy(logits, logits.argmax(1))
    )
    halfway = hard_bootstrap(logits, wrong, 0.5)
    torch.testing.assert_close(halfway, (trusted + nn.functional.cross_entropy(logits, logits.argmax(1))) / 2)


def test_weights_decay_and_biases_do_not():
    network = build_network(Config(), DATA, Remedy())
    optimizer = Regularised(network, Remedy(weight_decay=0.5), 0.1).make_optimizer(network.parameters())
    decays = {id(part): group["weight_decay"] for group in optimizer.param_groups for part in group["params"]}
    assert {part.dim(): decays[id(part)] for part in network.parameters()} == {2: 0.5, 1: 0.0}


class Pytorch:
    """Stands in for a learner who calls PyTorch's functions."""

    @staticmethod
    def batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool) -> Any:
        return nn.functional.batch_norm(x, mean, var, weight, bias, training)

    @staticmethod
    def layer_norm(x: Any, shape: Any, weight: Any, bias: Any) -> Any:
        return nn.functional.layer_norm(x, shape, weight, bias)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 5)], ids=["rows", "images"])
def test_the_learners_layers_are_pytorchs(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    batch = nn.BatchNorm1d(4) if len(shape) == 2 else nn.BatchNorm2d(4)
    layer = nn.LayerNorm(4) if len(shape) == 2 else nn.GroupNorm(1, 4)
    for mine, theirs in ((LearnersBatchNorm(Pytorch, 4), batch), (LearnersLayerNorm(Pytorch, 4), layer)):
        torch.testing.assert_close(mine(x), theirs(x))
        torch.testing.assert_close(mine.eval()(x), theirs.eval()(x))


def test_none_stands_in_front_once():
    assert with_none(["dropout", "none"]) == ["none", "dropout"]
    assert with_none(["dropout"]) == ["none", "dropout"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("exercise.compare=[none, dropuot]", "did you mean dropout"),
        ("remedies=[none, none]", "each remedy once"),
        ("remedies=[none, dropout+]", "remedies that exist"),
        ("sweep.dropout=[0.5, 0.2]", "rising order"),
        ("sweep.smoothing=[1.0]", "below 1"),
        ("noise=0", "noise"),
        ("strengths.dropout=1.0", "probability that a hidden unit is dropped"),
    ],
)
def test_wrong_settings_are_told_in_words(override, words):
    with pytest.raises(ConfigError, match=words):
        resolve(Config, {"quick": {}}, "quick", [override])
