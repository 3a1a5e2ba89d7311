"""The learner of a check, on the bench in this process."""

from __future__ import annotations

import sys

import pytest
import torch

from coursekit.errors import LessonError
from coursekit.grading.expectations import LearnerRaised, LearnerTimedOut
from coursekit.grading.guard import Tripwires
from coursekit.grading.inprocess import InProcess
from coursekit.grading.learner import Call, Learner
from coursekit.grading.values import Opaque


@pytest.fixture
def learner_of(candidate):
    """Make a learner, and the trace that it writes."""

    def make(text: str, seconds: float = 5.0, forbids: tuple[str, ...] = ()) -> tuple[Learner, list[Call]]:
        trace: list[Call] = []
        bench = InProcess(candidate(text).submission, {}, tripwires=Tripwires(forbids), seconds=seconds)
        return Learner(bench, trace, seed=0, seconds=seconds), trace

    return make


def summed(code, x, scale):
    """A probe."""
    return {"sum": code.Adder(scale).add(x), "made": code.Adder}


def test_calls_work_on_copies_and_are_traced(learner_of):
    learner, trace = learner_of("def f(x, *, k):\n    x.zero_()\n    k.append(1)\n    return x, k")
    x, k = torch.ones(2), [0]
    got = learner.f(x, k=k)
    assert (x.tolist(), k) == ([1, 1], [0])
    assert got[0].tolist() == [0, 0]
    assert trace[0].outcome.changed == ("argument 1", "`k`")
    assert str(trace[0].request) == "f(tensor([1, 1]), k=[0])"
    got[0].fill_(9)
    assert trace[0].outcome.value[0].tolist() == [0, 0]


def test_in_place_functions_may_change_their_arguments(learner_of):
    learner, trace = learner_of("def f_(x):\n    return x.zero_()")
    learner.f_(torch.ones(2))
    assert trace[0].outcome.changed == ()


def test_what_is_not_plain_does_not_cross(learner_of):
    learner, _ = learner_of("def f(x):\n    return {1}, x")
    assert isinstance(learner.f(1)[0], Opaque)
    with pytest.raises(LessonError, match=r"learner.f: plain values as arguments. Got torch._C.Generator"):
        learner.f(torch.Generator())


def test_probes_run_beside_the_code(learner_of):
    text = """
    class Adder:
        def __init__(self, scale): self.scale = scale
        def add(self, x): return self.scale * x.sum()
    """
    learner, trace = learner_of(text)
    got = learner.run(summed, x=torch.ones(3), scale=2.0)
    assert float(got["sum"]) == 6
    assert got["made"].what == "type"
    assert trace[0].request.name == "summed"
    with pytest.raises(LessonError, match=r"a function of probes\.py"):
        learner.run(lambda code: 1)


def test_gradients(learner_of):
    learner, _ = learner_of("def f(x, y, z, k):\n    return k * x * y")
    x, y, z = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 3.0, 4.0))
    output, (dx, dz) = learner.gradients("f", x, y, z, wrt=(0, 2), k=5)
    assert (output.tolist(), dx.tolist(), dz) == ([30], [15], None)
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("body", "words"),
    [("x.detach()", "somewhere it was detached"), ("x.tolist()", "should return one tensor, and returned list")],
)
def test_gradients_need_a_tensor_that_carries_one(learner_of, body, words):
    learner, _ = learner_of(f"def f(x):\n    return {body}")
    with pytest.raises(LearnerRaised, match=words):
        learner.gradients("f", torch.ones(1))


def test_gradients_work_where_autograd_is_forbidden(learner_of):
    learner, _ = learner_of("def f(x):\n    return x * x", forbids=("torch.autograd.grad",))
    assert learner.gradients("f", torch.tensor([3.0]))[1][0].tolist() == [6]


def test_errors_carry_kind_message_and_line(learner_of):
    learner, trace = learner_of("class Odd(ValueError):\n    pass\ndef f():\n    raise Odd('no \\x1b[31m way')")
    with pytest.raises(LearnerRaised, match=r"Odd: no �\[31m way") as caught:
        learner.f()
    assert caught.value.kinds[:2] == ("exercises.Odd", "builtins.ValueError")
    assert caught.value.place == "mine.py, line 4: `raise Odd('no \\x1b[31m way')`"
    assert not trace[0].outcome.raised.stub


def test_an_error_whose_message_fails_is_an_error_still(learner_of):
    text = "class Odd(Exception):\n    def __str__(self): raise SystemExit\ndef f():\n    raise Odd"
    with pytest.raises(LearnerRaised, match="an error whose message cannot be read"):
        learner_of(text)[0].f()


def test_only_the_learners_own_not_implemented_is_a_stub(learner_of):
    text = "import torch\ndef f():\n    raise NotImplementedError\ndef g():\n    torch.nn.Module()(1)\n"
    learner, trace = learner_of(text)
    for name in ("f", "g"):
        with pytest.raises(LearnerRaised):
            getattr(learner, name)()
    assert [call.outcome.raised.kinds[0] for call in trace] == ["builtins.NotImplementedError"] * 2
    assert [call.outcome.raised.stub for call in trace] == [True, False]


def test_the_time_of_a_check_is_shared_by_its_calls(learner_of):
    learner, trace = learner_of("import time\ndef f():\n    time.sleep(0.15)", seconds=0.25)
    learner.f()
    with pytest.raises(LearnerTimedOut, match=r"ran for 0\.25 s without an answer"):
        learner.f()
    assert trace[1].outcome.timed_out


def test_each_call_has_random_numbers_of_its_own_that_repeat(learner_of):
    text = "import torch\ndef f():\n    return torch.rand(2)"
    first, again = learner_of(text)[0], learner_of(text)[0]
    values = [first.f(), first.f(), again.f(), again.f()]
    assert torch.equal(values[0], values[2])
    assert torch.equal(values[1], values[3])
    assert not torch.equal(values[0], values[1])


def test_dataclasses_with_string_annotations_work(learner_of):
    text = """
    from __future__ import annotations
    from dataclasses import dataclass
    @dataclass
    class Point:
        x: int
    def f():
        import sys
        return Point(3).x, sys.modules[__name__].f is f
    """
    assert learner_of(text)[0].f() == (3, True)
    assert "exercises" not in sys.modules


def test_private_names_are_no_calls(learner_of):
    with pytest.raises(AttributeError):
        _ = learner_of("_x = 1")[0]._x
