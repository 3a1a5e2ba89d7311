"""The texts that `coursekit new` lays out: a tiny exercise that works, with TODO where the author's words belong.

`$lesson`, `$name`, `$code` and `$order` are filled in. Nothing here imports torch.
"""

from __future__ import annotations

# What each file of an exercise needs to know, and the text that is appended to it.
IMPORTS = {
    "solution.py": {"torch": "import torch"},
    "exercises.py": {"torch": "import torch"},
    "alternatives.py": {"torch": "import torch", "alternative": "from coursekit.grading.answers import alternative"},
    "wrong_answers.py": {"torch": "import torch", "wrong": "from coursekit.grading.answers import wrong"},
    "test_exercises.py": {
        "pytest": "import pytest",
        "torch": "import torch",
        "close": "from coursekit.grading import close",
    },
}

EXERCISE = {
    "solution.py": '''
def $name(x: torch.Tensor) -> torch.Tensor:
    """Return the root of the mean of the squares.

    TODO say what the learner writes: every shape, dtype and edge that a check asks for.

    Args:
        x: (n,), any floating dtype, n ≥ 1.

    Returns:
        The root, shape (), with the dtype of x.

    Source: TODO paper and equation, or the PyTorch function it equals.
    """
    return torch.sqrt(torch.mean(x**2))
''',
    "alternatives.py": """
@alternative("$name", says="the length of x over the root of its size")
def ${name}_by_the_norm(x):
    return torch.linalg.vector_norm(x) / x.numel() ** 0.5
""",
    "wrong_answers.py": """
@wrong("$name", says="You took no root: that is the mean of the squares.")
def ${name}_without_the_root(x):
    return torch.mean(x**2)


@wrong("$name", says="You added the squares up; divide by how many there are.")
def ${name}_of_the_sum(x):
    return torch.sqrt(torch.sum(x**2))
""",
    "test_exercises.py": '''
@pytest.mark.exercise("$name")
def test_${name}_by_hand(learner, rng):
    """Of 3 and 4 it is the root of 12.5."""
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    close(learner.$name(x), torch.tensor(12.5, dtype=torch.float64).sqrt(), where="$name(x)", inputs={"x": x})


@pytest.mark.exercise("$name")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_${name}_any_size(learner, rng, dtype):
    """Vectors of one, two and seven numbers, in float32 and float64."""
    for n in (1, 2, 7):
        x = torch.randn(n, generator=rng, dtype=dtype)
        close(learner.$name(x), x.square().mean().sqrt(), where="$name(x)", inputs={"x": x})
''',
    "lesson.toml": """
[[exercises]]
id = "$name"
code = "$code"
title = "TODO a short title"
names = ["$name"]
points = 4
difficulty = 1
minutes = 10  # TODO measure how long a learner needs
hints = [
  "TODO a question that points to the right place",
  "TODO the idea in words",
  "TODO the steps, without a line of the solution",
]
source = "TODO paper and equation, or the PyTorch function it equals"
explanation = "TODO shown after success: why it is right, and what was ruled out"
forbids = []  # TODO dotted names that would do the work, such as torch.nn.RMSNorm, or none
""",
}

# The files of a new lesson, before the exercise is appended to some of them.
LESSON = {
    "__init__.py": '"""Lesson $order: $lesson."""\n',
    "README.md": """# Lesson $order: $lesson

TODO the idea in three sentences: what is asked, what is measured, what is found.

```
coursekit run $lesson                  # TODO the data, the seeds and the seconds of the profile quick
coursekit grade $lesson                # your exercises.py
```

## 1. The idea

TODO the formulas with their sources, and the figures and numbers that you should see (seeds, device, seconds).

## What to try next

TODO experiments for the reader, and honest null results.
""",
    "config.py": '''"""The configuration of this lesson. It imports no torch: a wrong setting is told at once."""

from __future__ import annotations

from pydantic import Field

from coursekit.config import Settings, Training


class Config(Settings):
    """Everything that can be set in this lesson."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    hidden: int = Field(default=64, gt=0, description="units of the hidden layer")
    lr: float = Field(default=1e-2, gt=0, description="the learning rate of AdamW")
    target: float = Field(default=0.9, gt=0, lt=1, description="the validation accuracy that counts as converged")
    training: Training = Training(epochs=10, batch_size=64)
''',
    "lesson.py": '''"""Lesson $order, $lesson: TODO what the experiment asks, in one sentence.

Run it with `coursekit run $lesson`, or as a script: `python lessons/$lesson/lesson.py`.
"""

from __future__ import annotations

import math
from statistics import mean

import torch
from torch import nn

from coursekit import runtime
from coursekit.data import Data, load
from coursekit.harness import Classifier, Experiment, Run, classifier_scorecard
from lessons.$lesson.config import Config


def main(config: Config, experiment: Experiment) -> None:
    """Run every experiment of the lesson."""
    data = load("digits")
    runs = [train(config, experiment, data, seed) for seed in config.seeds]
    experiment.score(classifier_scorecard("network", runs, data, target=config.target))
    # TODO the claims that the lesson makes, each with its number and bound, and its figures.
    experiment.claim(
        "learns",
        "The network learns: mean validation accuracy after the last epoch",
        mean(run.curve("val_accuracy")[-1] for run in runs),
        at_least=config.target,
    )


def train(config: Config, experiment: Experiment, data: Data, seed: int) -> Run:
    """Train one network."""
    runtime.seed_everything(seed)
    inputs, classes = math.prod(data.input_shape), len(data.classes)
    first, last = nn.Linear(inputs, config.hidden), nn.Linear(config.hidden, classes)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    module = Classifier(network, optimizer=lambda p: torch.optim.AdamW(p, lr=config.lr))
    return experiment.fit(module, data, config.training, label="network", seed=seed)


if __name__ == "__main__":
    from coursekit.harness import run_script

    run_script(__file__)
''',
    "lesson.toml": """title = "TODO the title of $lesson"
order = $order
needs = []  # TODO ids of the lessons to do first
minutes = 60  # TODO measure how long a learner needs
tier = "core"
goal = "TODO what a learner can do afterwards, in one sentence"
""",
    "solution.py": '''"""Reference solutions of lesson $order.

Each exercise is graded alone, so any order will do. What a docstring states is what is checked.
"""

from __future__ import annotations

import torch
''',
    "alternatives.py": '''"""Other right answers, written in other ways: the grader must accept each of them."""

from __future__ import annotations

import torch

from coursekit.grading.answers import alternative
''',
    "wrong_answers.py": '''"""Typical wrong answers, each with the sentence its author needs, and dialects."""

from __future__ import annotations

import torch

from coursekit.grading.answers import wrong
''',
    "probes.py": '''"""Code that runs beside the learner's: loops, layers and optimizers, which are no plain values.

Each probe takes the learner's names as `code` and returns plain values; a check calls `learner.run(probe, ...)`.
"""
''',
    "test_exercises.py": '''"""What each exercise must do: one regime in each check, the smallest inputs first."""

from __future__ import annotations

import pytest
import torch

from coursekit.grading import close
''',
}

PROFILES = """# Each profile names what differs from the defaults in lessons/$lesson/config.py.

quick:
  seeds: [0, 1, 2]

full:
  seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

# One CUDA device.
gpu:
  training: {device: cuda}
"""
