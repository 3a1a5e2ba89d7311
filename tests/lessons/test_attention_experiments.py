"""What lesson 6 measures with: canvases, shuffled weights, gradient estimates and maps, each against a known answer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from coursekit.data import load
from coursekit.errors import ArgumentError
from lessons.attention.canvases import make_canvases
from lessons.attention.config import Config, Cost, Recall, Text, Vision
from lessons.attention.lesson import entropy, estimate_gradients, falling, hide, importance, repeated_rows, shuffled
from lessons.attention.models import (
    AttentionReader,
    ConvolutionBody,
    HardReader,
    MeanReader,
    PlaceClassifier,
    RowReader,
    TransformerBody,
    Translator,
    bigram_logits,
    sampled,
    sinusoidal_positions,
    straight_through,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_digit_stands_whole_where_the_corner_says() -> None:
    digits = load("digits")
    canvases = make_canvases(digits, 16, 3)
    originals = digits.denormalise(digits.test.inputs)[:, 0]
    for image, original, (row, column) in zip(canvases.data.test.inputs, originals, canvases.corners, strict=True):
        torch.testing.assert_close(image[0, row : row + 8, column : column + 8], original)


def test_without_clutter_a_canvas_holds_the_digit_and_nothing_else() -> None:
    digits = load("digits")
    canvases = make_canvases(digits, 16, 0)
    ink = digits.denormalise(digits.train.inputs).sum((1, 2, 3))
    torch.testing.assert_close(canvases.data.train.inputs.sum((1, 2, 3)), ink)


def test_the_digit_covers_as_many_places_as_it_should() -> None:
    covered = make_canvases(load("digits"), 16, 0).covered(64)  # 8 x 8 places of 2 x 2 pixels
    assert covered.shape == (360, 64)
    assert covered.sum(1).unique().tolist() == [16]


def test_canvases_repeat_and_differ_by_seed() -> None:
    digits = load("digits")
    first, again, other = (make_canvases(digits, 16, 2, seed=seed).data.test.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_canvas_smaller_than_the_digit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 8 pixels"):
        make_canvases(load("digits"), 4, 0)


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_repeated_rows_hold_the_key_as_often_as_asked(repeats: int) -> None:
    rows, there = repeated_rows(Config(), repeats, 100, seed=0)
    keys, values, asked = rows[:, :-1:2], rows[:, 1::2], rows[:, -1:]
    assert torch.equal(keys == asked, there)
    assert there.sum(1).tolist() == [repeats] * 100
    assert all(len(row.unique()) == rows.shape[1] // 2 for row in values), "each pair has a value of its own"


def test_entropy_of_even_weights_is_the_logarithm() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    torch.testing.assert_close(entropy(weights), torch.tensor([math.log(4), math.log(2), 0.0]))


def test_shuffled_weights_are_the_same_weights(generator: torch.Generator) -> None:
    weights = torch.rand(50, 8, generator=generator)
    mixed = shuffled(weights, generator)
    torch.testing.assert_close(mixed.sort(1).values, weights.sort(1).values)
    assert (mixed != weights).any(1).sum() >= 45


def test_estimates_average_to_the_exact_gradient() -> None:
    """5 standard errors for each of 2 methods: false alarm below 1e-5. The exact one equals autograd's."""
    torch.manual_seed(0)
    reader = AttentionReader(16, 8, 16)
    rows = torch.randint(16, (6, 9))
    targets = torch.randint(8, (6,))
    exact, estimates = estimate_gradients(reader, rows, targets, draws=4000, tau=1.0)

    with torch.no_grad():
        pairs, query = reader.embed(rows)
        scores, values = reader.scores(pairs, query), reader.value(pairs)
        losses = torch.stack(
            [F.cross_entropy(reader.answer(values[:, j], query), targets, reduction="none") for j in range(4)], 1
        )
    scores.requires_grad_()
    (scores.softmax(-1) * losses).sum(1).mean().backward()
    assert scores.grad is not None
    torch.testing.assert_close(exact, scores.grad.flatten())
    for name in ("REINFORCE, no baseline", "REINFORCE, with baseline"):
        along = estimates[name] @ exact / exact.square().sum()
        assert abs(along.mean() - 1) <= 5 * along.std() / math.sqrt(len(along)), name


@pytest.mark.parametrize("choose", [lambda scores: straight_through(scores, 1.0), sampled], ids=["gumbel", "sampled"])
def test_a_choice_is_one_hot_with_its_own_probability(choose) -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 5)
    choice, log_prob = choose(scores.expand(20_000, 5))
    assert torch.equal(choice.detach().round().sum(-1), torch.ones(20_000))
    torch.testing.assert_close(log_prob, scores.log_softmax(-1)[0][choice.argmax(-1)])
    p, shares = scores.softmax(-1)[0], choice.detach().mean(0)
    # 5 sigma for each of 5 places: false alarm below 1e-5.
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_a_hard_reader_takes_the_likeliest_pair_when_it_is_asked() -> None:
    torch.manual_seed(0)
    reader = HardReader(8, 4, 16, sampled).eval()
    rows = torch.randint(8, (10, 9))
    pairs, query = reader.embed(rows)
    best = reader.scores(pairs, query).argmax(-1)
    read = reader.value(pairs)[torch.arange(10), best]
    torch.testing.assert_close(reader(rows), reader.answer(read, query))


def test_even_weights_in_an_attention_reader_are_a_mean() -> None:
    torch.manual_seed(0)
    reader, rows = AttentionReader(8, 4, 16), torch.randint(8, (10, 9))
    pairs, query = reader.embed(rows)
    even = reader.answer_with(rows, torch.full((10, 4), 0.25))
    torch.testing.assert_close(even, reader.answer(reader.value(pairs).mean(1), query))
    own = reader.answer_with(rows, reader.look(rows)[1])
    torch.testing.assert_close(own, reader(rows))
    assert MeanReader(8, 4, 16)(rows).shape == (10, 4)


@pytest.mark.parametrize("attends", [True, False])
def test_padding_does_not_reach_a_translation(attends: bool) -> None:
    torch.manual_seed(0)
    network = Translator(10, 6, 8, attends=attends, start=1)
    source = torch.randint(1, 10, (3, 7))
    padded = F.pad(source, (0, 4))
    given = torch.randint(6, (3, 5))
    torch.testing.assert_close(network(source, given), network(padded, given))
    weights = network.look(padded, given, 5)[1]
    assert not weights[..., 7:].any()
    if attends:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5))


def test_a_translator_that_feeds_itself_reads_what_it_wrote() -> None:
    torch.manual_seed(0)
    network, source = Translator(10, 6, 8, attends=True, start=1), torch.randint(1, 10, (3, 7))
    free, _ = network.look(source, None, 5)
    written = torch.cat([torch.ones(3, 1, dtype=torch.int64), free.argmax(-1)[:, :-1]], 1)
    torch.testing.assert_close(network(source, written), free)


def test_a_foreign_formula_takes_the_place_of_additive_attention() -> None:
    torch.manual_seed(0)

    def align(query, keys, values, Wq, Wk, v, mask):
        scores = ((query @ Wq.T)[:, None] + keys @ Wk.T).tanh() @ v
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return torch.einsum("bs,bsd->bd", weights, values), weights

    own, theirs = (Translator(10, 6, 8, attends=True, start=1, align=one) for one in (None, align))
    theirs.load_state_dict(own.state_dict())
    source, given = torch.randint(1, 10, (3, 7)), torch.randint(6, (3, 5))
    torch.testing.assert_close(own(source, given), theirs(source, given))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_evidence_is_a_distribution_over_places(pooling: str) -> None:
    torch.manual_seed(0)
    network = PlaceClassifier(ConvolutionBody(4), 8, 10, pooling)
    evidence = network.evidence(torch.rand(5, 1, 16, 16))
    assert evidence.shape == (5, 64)
    assert evidence.min() >= 0
    torch.testing.assert_close(evidence.sum(1), torch.ones(5))


def test_hide_blackens_the_most_important_places() -> None:
    images = torch.ones(1, 1, 4, 4)
    evidence = torch.tensor([[0.1, 0.6, 0.1, 0.2]])  # 2 x 2 places of 2 x 2 pixels
    expected = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    torch.testing.assert_close(hide(images, evidence, covered=0.25)[0, 0], expected)


def test_importance_finds_the_row_that_matters() -> None:
    torch.manual_seed(0)
    reader = RowReader(8, 10, 8, attends=False)
    importances = importance(reader, torch.rand(3, 1, 8, 8))
    assert importances.shape == (3, 8)
    assert (importances > 0).all()
    pairs = AttentionReader(8, 4, 16)
    with torch.no_grad():
        pairs.query.weight.copy_(1000 * torch.eye(16))
        pairs.key.weight.copy_(torch.eye(16))
    rows = torch.tensor([[0, 8, 1, 9, 2, 10, 1]])
    assert importance(pairs, rows).argmax(1).tolist() == pairs.look(rows)[1].argmax(1).tolist()


def test_bigrams_are_counted() -> None:
    logits = bigram_logits(torch.tensor([0, 1, 0, 1, 0, 2]), 3, count=1e-9)
    torch.testing.assert_close(logits[0].exp(), torch.tensor([0, 2 / 3, 1 / 3]), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits[1].exp(), torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_positions_are_those_of_the_paper() -> None:
    table = sinusoidal_positions(6, 4)
    for position in range(6):
        angles = [position, position / 100]
        expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        torch.testing.assert_close(table[position], torch.tensor(expected))


@pytest.mark.parametrize("positions", [False, True])
def test_only_positions_tell_the_order(positions: bool, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    body = TransformerBody(16, positions=sinusoidal_positions(9, 16) if positions else None)
    patches, order = torch.randn(2, 9, 16, generator=generator), torch.randperm(9, generator=generator)
    with torch.no_grad():
        gap = float((body.encode(patches)[:, order] - body.encode(patches[:, order])).abs().max())
    assert gap > 0.01 if positions else gap < 1e-5


def test_a_falling_rate_rises_first() -> None:
    rate = falling(1.0, 100, warmup=10)
    assert [round(rate(step), 3) for step in (0, 4, 9, 100)] == [0.1, 0.482, 0.919, 0.1]


@pytest.mark.parametrize(
    ("section", "settings", "words"),
    [
        (Recall, {"pairs": 9, "keys": 32}, "at least 36"),
        (Vision, {"pooling": ("mean", "mean")}, "each kind once"),
        (Text, {"width": 50}, "8 divides"),
        (Cost, {"lengths": (512, 256)}, "rise"),
        (Config, {"training": {"epochs": 5}}, "own section"),
    ],
    ids=["pairs", "pooling", "width", "lengths", "epochs"],
)
def test_settings_that_cannot_work_are_refused(section, settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        section(**settings)
    assert Recall(pairs=8, keys=32).keys == 32  # the boundary itself is fine
