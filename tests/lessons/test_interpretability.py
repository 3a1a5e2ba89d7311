"""What lesson 5 measures with: models that explain themselves, marks, cases and pages, each against a known answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from coursekit import attribution, catalog
from coursekit.errors import ArgumentError, DataError
from coursekit.harness import Experiment
from coursekit.harness.learner import LearnerCode
from lessons.interpretability import lesson
from lessons.interpretability.cases import Asked, choose_row, common_checks, odds_in_words, percent, plain, verdict_on
from lessons.interpretability.config import METHODS, Config, Explaining, Trials
from lessons.interpretability.methods import READS_BY_ATTENTION, attention_weights, own_methods, picture_methods
from lessons.interpretability.models import AdditiveNetwork, AttentionNetwork, DigitNetwork, LogOdds, TableNetwork
from lessons.interpretability.page import Check, Page, Reason, write_page

FEW = Explaining(ig_steps=4, noise_draws=3, samples=80)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def network() -> DigitNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DigitNetwork((1, 8, 8), 10, 4).eval()


# ------------------------------------------------------------------------------------------------ models


def test_an_additive_network_is_the_sum_of_its_columns(generator):
    network = AdditiveNetwork(5, 3, 4)
    rows = torch.randn(7, 5, generator=generator)
    added = network.contributions(rows)
    assert added.shape == (7, 5, 3)
    torch.testing.assert_close(added.sum(1) + network.bias, network(rows))
    changed = rows.clone()
    changed[:, 2] += 1
    moved = (network.contributions(changed) - added).abs().sum((0, 2))
    assert moved[2] > 0
    assert moved[[0, 1, 3, 4]].sum() == 0
    assert network(torch.randn(2, 1, 5, 1)).shape == (2, 3), "pictures are read as rows"


def test_log_odds_are_those_of_the_probabilities(generator):
    network = TableNetwork(4, 2, (8,))
    rows = torch.randn(6, 4, generator=generator)
    share = network(rows).softmax(1)
    torch.testing.assert_close(LogOdds(network)(rows), (share[:, 0] / share[:, 1]).log())


def test_a_table_network_without_hidden_layers_is_linear(generator):
    network = TableNetwork(4, 2, ())
    rows = torch.randn(6, 4, generator=generator)
    torch.testing.assert_close(network(rows) + network(-rows), 2 * network(torch.zeros(6, 4)))


def test_attention_weights_are_shares_of_the_picture(generator):
    network = AttentionNetwork((1, 8, 8), 10, 8).eval()
    images = torch.randn(3, 1, 8, 8, generator=generator)
    weights = attention_weights(network, images, torch.zeros(3))
    assert weights.shape == (3, 8, 8)
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3))


def test_a_layer_state_is_the_mean_of_its_channels_after_the_relu(network, generator):
    images = torch.randn(3, 1, 8, 8, generator=generator)
    first, second, third = lesson.layer_states(network, images)
    assert [part.shape[1] for part in (first, second, third)] == [4, 8, 8]
    torch.testing.assert_close(
        first, F.conv2d(images, network[0].weight, network[0].bias, padding=1).relu().mean((2, 3))
    )


# ------------------------------------------------------------------------------------------------ methods


def test_every_method_but_attention_explains_any_network(network, generator):
    images, classes = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 3, 9, 3])
    methods = picture_methods(FEW, baseline=-0.5, layer="5", seed=1)
    assert {*methods, READS_BY_ATTENTION} == {*METHODS}
    for name, explain in methods.items():
        maps = explain(network, images, classes)
        assert maps.shape == (4, 8, 8), name
        assert maps.isfinite().all(), name
        torch.testing.assert_close(explain(network, images, classes), maps, msg=f"{name} is not seeded")


def test_half_precision_changes_little(network, generator):
    images, classes = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 3, 9, 3])
    full, half = (picture_methods(FEW, baseline=0.0, layer="5", seed=1, half=half) for half in (False, True))
    for name in ("occlusion", "lime", "kernel shap"):
        alike = attribution.rank_correlation(full[name](network, images, classes), half[name](network, images, classes))
        assert alike.min() > 0.9, name


def test_the_reference_solution_explains_as_the_library_does(network, generator):
    entry = catalog.lesson("interpretability")
    mine = LearnerCode(entry.folder / "solution.py", entry)
    images, classes = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 3, 9, 3])
    settings = {"baseline": -0.5, "layer": "5", "seed": 1}
    own, ours = own_methods(mine, FEW, **settings), picture_methods(FEW, **settings)
    assert {*own} == {*lesson.WRITTEN_BY_LEARNERS}
    for name in ("saliency", "integrated gradients", "grad-cam"):
        alike = attribution.rank_correlation(own[name](network, images, classes), ours[name](network, images, classes))
        assert alike.min() > 0.999, name


# ------------------------------------------------------------------------------------------------ marks and probes


def test_each_class_has_a_mark_of_its_own():
    images, classes = torch.zeros(10, 1, 8, 8), torch.arange(10)
    marked = lesson.stamped(images, classes, 2.0)
    assert images.sum() == 0, "the caller's pictures stay"
    assert marked.flatten(1).sum(1).tolist() == [2.0] * 10
    assert len(set(marked.flatten(1).argmax(1).tolist())) == 10
    assert marked[:, :, :, 1:7].sum() == 0, "marks lie on the left and right border"


def test_a_linear_reader_reads_what_is_linear(generator):
    inputs, others = (torch.randn(200, 3, generator=generator) for _ in range(2))
    score = lesson.read_linearly(inputs, inputs.argmax(1), others, others.argmax(1), 3)
    assert score > 0.9
    assert lesson.read_linearly(inputs, inputs.argmax(1), others, (others.argmax(1) + 1) % 3, 3) < 0.1


# ------------------------------------------------------------------------------------------------ cases


GIVEN = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
TRUTH = torch.tensor([0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("choice", "row"),
    [(3, 3), ("typical", 2), ("least sure", 4), ("wrong", 3)],
    ids=["number", "middle", "sure", "wrong"],
)
def test_a_row_is_chosen_by_what_the_network_says(choice, row):
    assert choose_row(choice, GIVEN, TRUTH) == row


@pytest.mark.parametrize(
    ("choice", "truth", "words"),
    [
        (5, TRUTH, "0 to 4"),
        (-1, TRUTH, "0 to 4"),
        ("wrong", GIVEN.argmax(1), "gets wrong"),
        ("typical", 0 * TRUTH + 1, "got right"),
    ],
    ids=["above", "below", "never wrong", "never right"],
)
def test_a_row_that_is_not_there_is_refused(choice, truth, words):
    with pytest.raises(ArgumentError, match=words):
        choose_row(choice, GIVEN, truth)


@pytest.fixture
def linear_case() -> Asked:
    """Four features that add 3, 1, -1 and 0 to the log odds of class 0, from -0.5."""
    network = TableNetwork(4, 2, ()).eval()
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.tensor([[3.0, 1.0, -1.0, 0.0], [0.0] * 4]))
        network.get_parameter("0.bias").copy_(torch.tensor([-0.5, 0.0]))

    def weights(one: nn.Module, row: torch.Tensor) -> torch.Tensor:
        return row * one.get_parameter("0.weight")[0].detach()

    return Asked(network, [network], torch.ones(1, 4), 0, weights, weights, torch.arange(4), 0.0)


def test_taking_parts_away_turns_the_answer_when_it_should(linear_case):
    assert linear_case.until_it_turns(torch.tensor([0, 1, 2, 3])) == 1
    assert linear_case.until_it_turns(torch.tensor([3, 2, 1, 0])) == 4
    assert linear_case.until_it_turns(torch.tensor([1, 0, 2, 3])) == 2
    torch.testing.assert_close(linear_case.probability(linear_case.row), torch.tensor([2.5]).sigmoid())


def test_a_true_explanation_stands_the_tests_and_a_false_one_does_not(linear_case, generator):
    checks = common_checks(linear_case, "measure", noise=0.01, generator=generator)
    assert len(checks) == 4
    assert all(check.passed for check in checks)
    assert "all 4" in verdict_on(checks)
    false = Asked(**{**vars(linear_case), "values": lambda one, row: -linear_case.second(one, row)})
    failed = common_checks(false, "measure", noise=0.01, generator=generator)
    assert not failed[0].passed
    assert "of 4 tests" in verdict_on(failed)


def test_numbers_are_written_for_people():
    assert [percent(share) for share in (0.9999, 0.0001, 0.995, 0.5)] == [
        "more than 99.9 %",
        "less than 0.1 %",
        "99.5 %",
        "50 %",
    ]
    assert odds_in_words(0.01, "benign") == "hardly matters"
    assert odds_in_words(-0.6931, "benign") == "divides the odds of benign by 2.0"
    assert [plain(torch.tensor(value)) for value in (1694.0, 0.1712, 23.44)] == ["1,690", "0.171", "23.4"]


# ------------------------------------------------------------------------------------------------ the page


def page(**changes: Any) -> Page:
    parts: dict[str, Any] = {
        "title": "Why <this>?",
        "answer": "It says so.",
        "model": ["A network."],
        "reasons": [Reason("first", "much", 2.0, "counts"), Reason("second", "little", -1.0, "counts less")],
        "remainder": "The rest.",
        "checks": [Check("Is it?", "It is.", True), Check("And that?", "No.", False)],
        "verdict": "Half of it.",
        "limits": ["No cause."],
        "use": ["Ask."],
        "made": "By hand.",
    }
    return Page(**{**parts, **changes})


def test_a_page_says_everything_and_asks_nothing_of_the_network(tmp_path):
    text = write_page(tmp_path / "page.html", page()).read_text(encoding="utf-8")
    for words in ("Why &lt;this&gt;?", "counts less", "And that?", "Half of it.", "No cause.", "By hand."):
        assert words in text
    assert text.count("<td>yes</td>") == text.count("<td>no</td>") == 1
    assert 'class="for" style="width: 50.0%"' in text
    assert 'class="against" style="width: 25.0%"' in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_holds_its_picture(tmp_path):
    picture = tmp_path / "one.png"
    picture.write_bytes(b"not really a picture")
    text = write_page(tmp_path / "page.html", page(picture=picture, picture_alt="A digit.", reasons=[])).read_text()
    assert 'alt="A digit."' in text
    assert "data:image/png;base64," in text


# ------------------------------------------------------------------------------------------------ a published network


class Published(nn.Module):
    """A network with a layer of the name that a ResNet has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4 = nn.Conv2d(3, 4, 3, padding=1)
        self.end = nn.Linear(4 * 64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.end(self.layer4(images).flatten(1))


def test_nothing_is_asked_of_a_network_that_nobody_named(tmp_path):
    experiment = Experiment(tmp_path)
    assert lesson.read_pretrained(Config(), experiment) is None
    assert "pretrained.network=resnet18" in experiment.notes[0]


def test_a_missing_weights_file_is_named(tmp_path):
    config = Config.model_validate({"pretrained": {"network": "resnet18", "folder": str(tmp_path)}})
    with pytest.raises(DataError, match=r"resnet18-.*\.pth") as caught:
        lesson.read_pretrained(config, Experiment(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_published_network_is_explained_as_any_other(tmp_path):
    published = attribution.Pretrained(
        Published().eval(),
        lambda picture: F.interpolate(picture[None] / 255, size=(8, 8), mode="bilinear")[0],
        ("one", "two", "three"),
        Path("weights.pth"),
    )
    settings = {"network": "resnet18", "patch": 4, "samples": 80}
    config = Config.model_validate(
        {"pretrained": settings, "explaining": FEW.model_dump(), "training": {"device": "cpu"}}
    )
    experiment = Experiment(tmp_path)
    lesson.explain_pretrained(config, experiment, published)
    assert [figure.png.name for figure in experiment.figures] == ["pretrained.png", "pretrained-deletion.png"]


# ------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tests": {"step_counts": [8, 8]}}, "step_counts"),
        ({"tests": {"sample_counts": [80, 40]}}, "sample_counts"),
        ({"training": {"epochs": 3}}, "own section"),
        ({"parts": ["picture"]}, "parts"),
        ({"case": {"row": "middle"}}, "case.row"),
    ],
    ids=["steps", "samples", "epochs", "part", "row"],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(settings)
    assert Trials().step_counts[-1] == 256
