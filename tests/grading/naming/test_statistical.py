"""Mistakes of lesson 1's `init_` that draw their numbers by other calls than the known answers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.grading.checks import collect
from coursekit.grading.judge import Judge
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import parse
from coursekit.grading.verdicts import ExerciseReport

HEAD = """
import math
import torch
from torch import nn

SCHEMES = ("he_normal", "he_uniform", "xavier_normal", "xavier_uniform")


def fans(weight):
    area = weight[0, 0].numel()
    return weight.shape[1] * area, weight.shape[0] * area


def spread(weight, scheme):
    fan_in, fan_out = fans(weight)
    return math.sqrt(2.0 / fan_in) if "he" == scheme[:2] else math.sqrt(2.0 / (fan_in + fan_out))


def drawn(weight, scheme, std):
    if "normal" in scheme:
        return torch.randn(weight.numel() + 3)[3:].reshape(weight.shape).to(weight.dtype) * std
    values = torch.rand(weight.numel() + 3, dtype=torch.float64)[3:].reshape(weight.shape)
    return ((values - 0.5) * math.sqrt(12) * std).to(weight.dtype)


def ready(module, scheme):
    if scheme not in SCHEMES:
        raise ValueError(scheme)
    return isinstance(module, (nn.Linear, nn.Conv2d))


def put(module, values):
    module.weight.data.copy_(values)
    if module.bias is not None:
        module.bias.data.fill_(0.0)
"""

# Each with other calls than the wrong answer of its name: other numbers from the same generator.
REWRITTEN = {
    "fans-are-swapped": """
def init_(module, scheme):
    if ready(module, scheme):
        out, inp = fans(module.weight)
        std = math.sqrt(2 / inp) if scheme.startswith("he") else math.sqrt(2 / (inp + out))
        put(module, drawn(module.weight, scheme, std))
""",
    "kernel-area-is-missing": """
def init_(module, scheme):
    if ready(module, scheme):
        out, inp = module.weight.shape[:2]
        std = math.sqrt(2 / inp) if scheme.startswith("he") else math.sqrt(2 / (inp + out))
        put(module, drawn(module.weight, scheme, std))
""",
    "variance-as-deviation": """
def init_(module, scheme):
    if ready(module, scheme):
        put(module, drawn(module.weight, scheme, spread(module.weight, scheme) ** 2))
""",
    "he-without-the-gain": """
def init_(module, scheme):
    if ready(module, scheme):
        factor = 0.5 if scheme.startswith("he") else 1
        put(module, drawn(module.weight, scheme, spread(module.weight, scheme) * factor ** 0.5))
""",
    "xavier-without-the-two": """
def init_(module, scheme):
    if ready(module, scheme):
        factor = 1 if scheme.startswith("he") else 0.5
        put(module, drawn(module.weight, scheme, spread(module.weight, scheme) * factor ** 0.5))
""",
    "he-uses-both-fans": """
def init_(module, scheme):
    if ready(module, scheme):
        mean = sum(fans(module.weight)) / 2
        std = (2 / mean) ** 0.5 if scheme.startswith("he") else (1 / mean) ** 0.5
        put(module, drawn(module.weight, scheme, std))
""",
    "bound-is-the-deviation": """
def init_(module, scheme):
    if ready(module, scheme):
        std = spread(module.weight, scheme)
        put(module, drawn(module.weight, scheme, std if "normal" in scheme else std / 3 ** 0.5))
""",
    "uniform-starts-at-zero": """
def init_(module, scheme):
    if ready(module, scheme):
        std = spread(module.weight, scheme)
        if "uniform" in scheme:
            put(module, torch.empty_like(module.weight).uniform_(0, 3 ** 0.5 * std).flip(0))
        else:
            put(module, drawn(module.weight, scheme, std))
""",
    "always-normal": """
def init_(module, scheme):
    if ready(module, scheme):
        put(module, drawn(module.weight, "normal", spread(module.weight, scheme)))
""",
    "bias-is-left": """
def init_(module, scheme):
    if ready(module, scheme):
        module.weight.data = drawn(module.weight, scheme, spread(module.weight, scheme))
""",
    "crashes-without-a-bias": """
def init_(module, scheme):
    if ready(module, scheme):
        module.weight.data.copy_(drawn(module.weight, scheme, spread(module.weight, scheme)))
        module.bias.data.zero_()
""",
    "replaces-the-parameter": """
def init_(module, scheme):
    if ready(module, scheme):
        module.weight = nn.Parameter(drawn(module.weight, scheme, spread(module.weight, scheme)))
        if module.bias is not None:
            module.bias.data = torch.zeros(len(module.bias), dtype=module.bias.dtype)
""",
    "draws-under-autograd": """
def init_(module, scheme):
    if ready(module, scheme):
        module.weight.copy_(drawn(module.weight, scheme, spread(module.weight, scheme)))
""",
    "seeds-the-generator": """
def init_(module, scheme):
    torch.manual_seed(1234)
    if ready(module, scheme):
        put(module, drawn(module.weight, scheme, spread(module.weight, scheme)))
""",
    "takes-every-module-with-a-weight": """
def init_(module, scheme):
    ready(module, scheme)
    if hasattr(module, "weight"):
        if module.weight.dim() > 1:
            put(module, drawn(module.weight, scheme, spread(module.weight, scheme)))
        else:
            put(module, 0.02 * torch.randn(module.weight.numel() + 3)[3:])
""",
    "accepts-any-scheme": """
def init_(module, scheme):
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        put(module, drawn(module.weight, scheme, spread(module.weight, scheme)))
""",
}

UNKNOWN = {
    "a tenth too wide": "put(module, drawn(w, scheme, 1.1 * std))",
    "twice too wide": "put(module, drawn(w, scheme, 2 * std))",
    "cut off": "put(module, drawn(w, scheme, std).clamp(-2 * std, 2 * std))",
    "a ramp": "put(module, torch.linspace(-(3**0.5) * std, 3**0.5 * std, w.numel()).view(w.shape))",
    "shifted": "put(module, drawn(w, scheme, std) + 0.05 * std)",
    "equal rows": "put(module, drawn(w[:1], scheme, std).expand_as(w))",
    "always uniform": "put(module, drawn(w, 'uniform', std))",
}


@pytest.fixture(scope="module")
def judge() -> Judge:
    lesson = catalog.lesson("optimization")
    exercise = lesson.exercise("O7")
    return Judge(lesson, [check for check in collect(lesson) if check.exercise == exercise], 3)


def graded(judge: Judge, name: str, text: str) -> ExerciseReport:
    candidate = Candidate(f"rewritten {name}", parse(HEAD + text, Path("mine.py")))
    return judge.report(candidate, judge.lesson.exercise("O7"))


def test_every_wrong_answer_is_rewritten(judge):
    known = [answer.id for answer in judge.answers if answer.kind == "wrong" and answer.replaces == "init_"]
    assert sorted(REWRITTEN) == sorted(known)


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_mistake_is_named_whatever_its_draws(judge, name):
    report = graded(judge, name, REWRITTEN[name])
    assert (report.verdict, report.diagnosis.id if report.diagnosis else None) == ("fail", name)


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_mistake_is_not_named(judge, name):
    body = f"        w, std = module.weight, spread(module.weight, scheme)\n        {UNKNOWN[name]}"
    report = graded(judge, name, f"def init_(module, scheme):\n    if ready(module, scheme):\n{body}")
    assert (report.verdict, report.diagnosis) == ("fail", None)
    assert "fails:" in report.message or "holds:" in report.message


def test_a_right_answer_passes(judge):
    right = "put(module, drawn(module.weight, scheme, spread(module.weight, scheme)))"
    report = graded(judge, "right", f"def init_(module, scheme):\n    if ready(module, scheme):\n        {right}")
    assert (report.verdict, report.diagnosis) == ("pass", None)
