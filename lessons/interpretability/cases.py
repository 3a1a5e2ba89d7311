"""One case, asked about from all sides: what the explanation page says of a row of the table or of a picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from torch import Tensor, nn

from coursekit import attribution
from coursekit.data import Data
from coursekit.errors import ArgumentError
from coursekit.metrics import model_size
from lessons.interpretability.page import Check, Page, Reason

Choice = int | Literal["typical", "least sure", "wrong"]
Values = Callable[[nn.Module, Tensor], Tensor]
"""Network and row (1, ...) to what each part adds to the score of the answer (1, parts)."""

COMPARED = 3
"""How many of the strongest parts are compared between explanations."""

MEASURES = {
    "radius": "Radius of the cell nuclei",
    "texture": "Variation of grey inside the nuclei",
    "perimeter": "Length of the nuclei's outline",
    "area": "Area of the nuclei",
    "smoothness": "Unevenness of their radius",
    "compactness": "How far the nuclei are from circles",
    "concavity": "Depth of the dents in the outline",
    "concave points": "Number of dents in the outline",
    "symmetry": "How lopsided the nuclei are",
    "fractal dimension": "Roughness of the outline",
}
"""The ten measures in words."""


def choose_row(choice: Choice, probabilities: Tensor, targets: Tensor) -> int:
    """Return the number of a test row.

    Args:
        choice: the number itself; `typical`, of the rows of class 0 that were got right the one with the middle
            probability; `least sure`; or `wrong`, of the rows that were got wrong the one the network is surest of.
        probabilities: (n, classes).
        targets: (n,).

    Raises:
        ArgumentError: there is no such row.
    """
    sure, answers = probabilities.max(1)
    if isinstance(choice, int):
        if not 0 <= choice < len(targets):
            last = len(targets) - 1
            raise ArgumentError("case.row", f"a test row from 0 to {last}", got=choice, fix="choose a row there")
        return choice
    if choice == "least sure":
        return int(sure.argmin())
    if choice == "wrong":
        wrong = (answers != targets).nonzero().flatten()
        if not len(wrong):
            raise ArgumentError("case.row", "a row that the network gets wrong", got="none", fix="choose least sure")
        return int(wrong[sure[wrong].argmax()])
    right = ((answers == targets) & (targets == 0)).nonzero().flatten()
    if not len(right):
        raise ArgumentError("case.row", "a row of the first class got right", got="none", fix="choose least sure")
    return int(right[sure[right].argsort()[len(right) // 2]])


@dataclass(frozen=True, eq=False)
class Asked:
    """A network's answer about one row, and the explanation that is tested.

    Attributes:
        network: gives logits.
        others: networks trained from other seeds.
        row: (1, ...).
        answer: the class that the network gives.
        values: explains.
        second: explains in another way.
        parts: the part of each feature, for taking parts away.
        baseline: what a feature becomes that is taken away.
    """

    network: nn.Module
    others: Sequence[nn.Module]
    row: Tensor
    answer: int
    values: Values
    second: Values
    parts: Tensor
    baseline: float

    def explained(self, network: nn.Module | None = None) -> Tensor:
        """Return what each part adds (parts,)."""
        return self.values(network or self.network, self.row)[0].cpu()

    @torch.no_grad()
    def probability(self, rows: Tensor, network: nn.Module | None = None) -> Tensor:
        """Return the probability of the answer (n,)."""
        return (network or self.network)(rows).float().softmax(1)[:, self.answer].cpu()

    def until_it_turns(self, order: Tensor) -> int:
        """Return how many parts, in this order (parts,), are gone when the answer falls below one half."""
        rank = order.argsort().to(self.row.device)[self.parts.to(self.row.device)]  # when a feature's part goes
        count = torch.arange(1, len(order) + 1, device=self.row.device)
        gone = rank < count.view(-1, *[1] * (self.row.ndim - 1))
        turned = self.probability(torch.where(gone, self.baseline, self.row)) < 0.5
        return int(turned.int().argmax()) + 1 if bool(turned.any()) else len(order)


def strongest(values: Tensor, count: int = COMPARED) -> set[int]:
    """Return the parts that speak most for the answer."""
    return set(values.argsort(descending=True)[:count].tolist())


def common_checks(asked: Asked, part: str, *, noise: float, generator: torch.Generator) -> list[Check]:
    """Run the tests that need no knowledge of what the parts are.

    Args:
        asked: the case.
        part: what a part is called, such as `measure`.
        noise: standard deviation of the small errors that are added to the row.
        generator: of noise and random choices.
    """
    values = asked.explained()
    needed = asked.until_it_turns(values.argsort(descending=True))
    by_lot = mean(asked.until_it_turns(torch.randperm(len(values), generator=generator)) for _ in range(50))
    checks = [
        Check(
            f"How many {part}s must be taken away, strongest support first, until the network changes its mind?",
            f"{needed} of {len(values)}. In an order drawn by lot it takes {by_lot:.1f} on average.",
            needed <= 0.75 * by_lot,
        ),
        _second_method(asked, values, part),
    ]
    copies = [asked.row + noise * torch.randn(asked.row.shape, generator=generator).to(asked.row) for _ in range(20)]
    alike = mean(
        float(attribution.rank_correlation(values[None], asked.values(asked.network, copy).cpu())[0]) for copy in copies
    )
    checks.append(
        Check(
            "Does it survive small errors in the input?",
            f"The order of the {part}s stays nearly the same: agreement {alike:.2f} of 1 in 20 trials."
            if alike >= 0.8
            else f"The order of the {part}s changes: agreement {alike:.2f} of 1 in 20 trials.",
            alike >= 0.8,
        )
    )
    if asked.others:
        same = sum(float(asked.probability(asked.row, other)[0]) > 0.5 for other in asked.others)
        shared = mean(len(strongest(values) & strongest(asked.explained(other))) for other in asked.others)
        checks.append(
            Check(
                "Do networks that were trained in the same way, from another start, say the same for the same reasons?",
                f"{same} of {len(asked.others)} give the same answer. Of the {COMPARED} strongest supports they name "
                f"{shared:.1f} too, on average.",
                same == len(asked.others) and shared >= 2,
            )
        )
    return checks


def _second_method(asked: Asked, values: Tensor, part: str) -> Check:
    shared = len(strongest(values) & strongest(asked.second(asked.network, asked.row)[0].cpu()))
    return Check(
        f"Does another way of asking name the same {part}s?",
        f"Of the {COMPARED} strongest supports it names {shared} too.",
        shared >= 2,
    )


def verdict_on(checks: Sequence[Check]) -> str:
    """Say what follows from the tests."""
    passed = sum(check.passed for check in checks)
    if passed == len(checks):
        return (
            f"The explanation stood all {len(checks)} tests. It can be trusted as a description of what this network "
            "did here, and as nothing more."
        )
    return (
        f"The explanation stood {passed} of {len(checks)} tests. Do not rely on it where the table says no: the "
        "network may have had other reasons than those named."
    )


def percent(share: float) -> str:
    """Write a probability for people: never quite 0 or 100 %."""
    if share > 0.999:
        return "more than 99.9 %"
    if share < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.1f} %" if share > 0.99 or share < 0.01 else f"{100 * share:.0f} %"


def plain(value: Tensor) -> str:
    """Write a measured value to three digits, without powers of ten."""
    number = float(f"{float(value):.3g}")
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:g}"


def odds_in_words(push: float, answer: str) -> str:
    """Say what a contribution to the log odds does to the odds of the answer."""
    factor = float(torch.tensor(abs(push)).exp())
    if factor < 1.05:
        return "hardly matters"
    how = "multiplies" if push > 0 else "divides"
    return f"{how} the odds of {answer} by {factor:.1f}"


def track_record(asked: Asked, data: Data, title: str) -> str:
    """Say how often the network was right where it was as sure as here."""
    with torch.no_grad():
        device = asked.row.device
        sure, answers = asked.network(data.test.inputs.to(device)).float().softmax(1).max(1)
    here = float(asked.probability(asked.row)[0])
    as_sure = sure.cpu() >= min(here, float(sure.max())) - 1e-6
    right = int((answers.cpu() == data.test.targets)[as_sure].sum())
    return (
        f"The network says: {title}, with a probability of {percent(here)}. Of the {int(as_sure.sum())} test cases in "
        f"which it was at least as sure, it was right in {right}."
    )


def table_page(
    networks: Sequence[nn.Module],
    additive: nn.Module,
    data: Data,
    *,
    measures: Sequence[str],
    segments: Tensor,
    choice: Choice,
    count: int,
    noise: float,
    seed: int,
) -> tuple[Page, int]:
    """Explain the first network's answer about one test row of the breast-cancer table.

    Args:
        networks: one for each seed.
        additive: a model that shows what it adds up, for comparison.
        data: the table.
        measures: the names of the measures.
        segments: the measure of each column (columns,).
        choice: the row, see `choose_row`.
        count: measures that the page names.
        noise: of the test with small errors, in standard deviations.
        seed: of all random choices.

    Returns:
        The page, and the number of the row.
    """
    network = networks[0]
    device = next(network.parameters()).device
    inputs = data.test.inputs.to(device)
    with torch.no_grad():
        given = network(inputs).float().softmax(1).cpu()
    number = choose_row(choice, given, data.test.targets)
    answer = int(given[number].argmax())

    def odds(one: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the log odds of the answer."""
        return lambda rows: one(rows)[:, answer] - one(rows)[:, 1 - answer]

    def exact(one: nn.Module, row: Tensor) -> Tensor:
        return attribution.shapley_exact(odds(one), row, segments=segments)

    def integrated(one: nn.Module, row: Tensor) -> Tensor:
        columns = attribution.integrated_gradients(odds(one), row, steps=64)
        return columns.new_zeros(1, len(measures)).index_add(1, segments.to(columns.device), columns)

    row = inputs[number : number + 1]
    asked = Asked(network, networks[1:], row, answer, exact, integrated, segments, 0.0)
    values = asked.explained()
    name = data.classes[answer]
    original = data.denormalise(data.test.inputs[number : number + 1])[0]
    usual, train = data.mean[0], data.train.inputs
    worst = {measure: 2 * len(measures) + place for place, measure in enumerate(measures)}
    order: list[int] = values.abs().argsort(descending=True).tolist()
    reasons = []
    for place in order[:count]:
        column = worst[measures[place]]
        share = float((train[:, column] < data.test.inputs[number, column]).double().mean())
        reasons.append(
            Reason(
                MEASURES.get(measures[place], measures[place]),
                f"{measures[place]} {plain(original[column])}, on average {plain(usual[column])}; above "
                f"{100 * share:.0f} of 100 samples",
                float(values[place]),
                odds_in_words(float(values[place]), name),
            )
        )
    rest = float(values[order[count:]].sum())
    start = float(odds(network)(torch.zeros_like(row)).detach()[0])
    missing = abs(float(values.sum()) + start - float(odds(network)(row).detach()[0]))
    checks = [
        Check(
            "Do the parts add up to the answer?",
            "Yes: nothing is left over, nothing is counted twice."
            if missing < 0.01
            else f"No: {missing:.2g} is left over, in log odds.",
            missing < 0.01,
        ),
        *common_checks(asked, "measure", noise=noise, generator=torch.Generator().manual_seed(seed)),
    ]
    same = int(additive.to(device)(row).detach().argmax()) == answer
    shared = len(strongest(values) & strongest(exact(additive, row)[0].cpu()))
    checks.append(
        Check(
            "Does a simpler model, one that shows what it adds up, agree?",
            f"It gives {'the same' if same else 'another'} answer, and of the {COMPARED} strongest supports it names "
            f"{shared} too.",
            same and shared >= 2,
        )
    )
    tested, right = len(data.test), int((given.argmax(1) == data.test.targets).sum())
    ill = data.test.targets == 0
    missed = int((given.argmax(1)[ill] != 0).sum())
    page = Page(
        title=f"Why did the network call this sample {name}?",
        answer=track_record(asked, data, name),
        model=[
            (
                f"A small neural network with {model_size(network).parameters:,} adjustable numbers. It learned from "
                f"{len(data.train)} samples of breast tissue whose diagnosis was known. All it gets to see are ten "
                "measures of the cell nuclei, each as mean, spread and worst value."
            ),
            (
                f"On {tested} samples that it had never seen it was right in {right}. Of the {int(ill.sum())} "
                f"malignant ones among them it called {missed} benign."
            ),
        ],
        reasons=reasons,
        remainder=f"Numbers are the worst of the sample's nuclei. The other {len(measures) - count} measures, "
        f"taken as one: {odds_in_words(rest, name)}. Where nothing is unusual, the network "
        f"starts from odds of {name} of {float(torch.tensor(start).exp()):.2g} to 1.",
        checks=checks,
        verdict=verdict_on(checks),
        limits=[
            "It describes the network and not the illness. That a measure counted is no proof that it causes anything.",
            "It compares with the average sample. Compared with another one, other measures would stand first.",
            "Radius, perimeter and area say nearly the same. Credit may move from one to the other without meaning.",
            "What the network never saw (age, history, the picture itself) cannot be among its reasons.",
            "The samples come from one research group, before 1996. Nothing follows from them for a patient today.",
        ],
        use=[
            (
                "It lets a specialist ask whether the network's reasons make sense, and find cases where it was right "
                "by accident. It is no diagnosis, and no reason to trust or distrust one."
            ),
        ],
        made="For experts: exact Shapley values of ten players (three columns each) of the log odds, absent players "
        f"at the mean of the training part; test row {number}, seed {seed}; second method: integrated gradients, 64 "
        f"midpoints; errors of {noise:g} standard deviations.",
    )
    return page, number


VERTICAL = ("top", "upper middle", "lower middle", "bottom")
HORIZONTAL = ("far left", "left of centre", "right of centre", "far right")


def picture_page(
    networks: Sequence[nn.Module],
    data: Data,
    *,
    baseline: float,
    last_layer: str,
    choice: Choice,
    count: int,
    noise: float,
    seed: int,
    draw: Callable[[Tensor, Tensor, str], Path],
) -> tuple[Page, int]:
    """Explain the first network's answer about one test picture.

    Args:
        networks: one for each seed.
        data: the pictures.
        baseline: what a pixel becomes that is taken away.
        last_layer: dotted name of the layer that gives the logits.
        choice: the picture, see `choose_row`.
        count: fields that the page names.
        noise: of the test with small errors, in standard deviations.
        seed: of all random choices.
        draw: saves picture (1, c, h, w), map (1, h, w) and a name as a PNG, and returns its path.

    Returns:
        The page, and the number of the picture.
    """
    network = networks[0]
    device = next(network.parameters()).device
    inputs = data.test.inputs.to(device)
    with torch.no_grad():
        given = torch.cat([network(part).float().softmax(1).cpu() for part in inputs.split(2048)])
    number = choose_row(choice, given, data.test.targets)
    answer = int(given[number].argmax())
    height, width = data.input_shape[1:]
    cells = attribution.grid_segments(height, width, -(-max(height, width) // len(VERTICAL)), device=device)
    fields = list(itertools.product(VERTICAL, HORIZONTAL))

    def regression(one: nn.Module, row: Tensor) -> Tensor:
        return attribution.kernel_shap(
            one,
            row,
            answer,
            segments=cells,
            baseline=baseline,
            samples=2000,
            generator=torch.Generator().manual_seed(seed),
        )

    def one_by_one(one: nn.Module, row: Tensor) -> Tensor:
        return attribution.feature_ablation(one, row, answer, segments=cells, baseline=baseline)

    row = inputs[number : number + 1]
    asked = Asked(network, networks[1:], row, answer, regression, one_by_one, cells, baseline)
    values = asked.explained()
    name = data.classes[answer]
    order: list[int] = values.abs().argsort(descending=True).tolist()
    size = float(values.abs().sum())
    reasons = [
        Reason(
            " ".join(fields[place]).capitalize(),
            f"{height // 4} × {width // 4} pixels",
            float(values[place]),
            f"{100 * abs(float(values[place])) / size:.0f} % of all that counted",
        )
        for place in order[:count]
    ]
    checks = common_checks(asked, "field", noise=noise, generator=torch.Generator().manual_seed(seed))
    random = attribution.randomize_layers(network, [last_layer], generator=torch.Generator().manual_seed(seed))
    alike = float(attribution.rank_correlation(values[None], asked.explained(random)[None], absolute=False)[0])
    checks.append(
        Check(
            "If the network forgets its last step, does the explanation change with it?",
            f"Agreement with the explanation of the damaged network: {alike:.2f} of 1.",
            alike < 0.5,
        )
    )
    right = int((given.argmax(1) == data.test.targets).sum())
    page = Page(
        title=f"Why did the network read this picture as {name}?",
        answer=track_record(asked, data, name),
        model=[
            (
                f"A small neural network with {model_size(network).parameters:,} adjustable numbers. It learned from "
                f"{len(data.train)} pictures whose content was known. On {len(data.test)} that it had never seen it "
                f"was right in {right}."
            ),
        ],
        reasons=reasons,
        remainder=f"The picture is divided into 16 fields; these {count} make up "
        f"{100 * float(values[order[:count]].abs().sum()) / size:.0f} % of all that counted.",
        checks=checks,
        verdict=verdict_on(checks),
        limits=[
            "It names places and not what the network saw there. Two readers may see two reasons in one field.",
            "A field that is taken away becomes background: the network may never have seen such a picture.",
            "It says what counted for this answer against a blank picture, not why it is no other class.",
            "The same people wrote the pictures to learn from and those to test with: other hands may be harder.",
        ],
        use=[
            (
                "It shows whether the network looks at the thing itself or at something beside it, such as a mark or a "
                "border. It does not show that the answer is right."
            ),
        ],
        made="For experts: KernelSHAP on the logit, 16 players, 2000 coalitions, absent fields at the background; "
        f"test picture {number}, seed {seed}; second method: one field at a time; errors of {noise:g} standard "
        "deviations.",
        picture=draw(row.cpu(), attribution.paint(values[None], cells.cpu()), name),
        picture_alt=f"The picture, and beside it the fields that spoke for {name} in orange, against it in purple.",
    )
    return page, number
