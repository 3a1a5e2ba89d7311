"""The judge's grip on workers: what it does when they, or the processes between, are not as they should be."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import torch

from coursekit import catalog
from coursekit.errors import IsolationError, LessonError
from coursekit.grading import warm
from coursekit.grading.confined import Confined, outcome_of
from coursekit.grading.isolation import CONFINED, LEVELS, SAYS, line
from coursekit.grading.learner import Request
from coursekit.grading.session import Session, ending
from coursekit.grading.submission import Source
from coursekit.grading.warm import Warm, confined
from coursekit.grading.wire import Decoder, WireError
from coursekit.grading.worker.family import descendants

pytestmark = pytest.mark.skipif(os.name != "posix", reason="submissions are confined on systems that can fork")


@pytest.fixture(scope="module")
def lesson():
    return catalog.lesson("optimization")


@pytest.fixture(scope="module")
def warm_process(lesson):
    made = Warm(lesson)
    yield made
    made.close()


@pytest.fixture
def bench(warm_process):
    """Make a bench for a text."""
    made = []

    def make(text: str, seconds: float = 5.0, forbids: tuple[str, ...] = ()) -> Confined:
        made.append(Confined(warm_process.session(), Source(Path("mine.py"), "", text), forbids, seconds=seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


def call(bench: Confined, name: str, *args: object, seconds: float = 5.0):
    return bench.perform(Request("call", name, args), seed=0, seconds=seconds)


# --------------------------------------------------------------------------------- what comes


def test_facts_about_the_text_come_before_a_line_of_it_has_run(bench):
    text = "import os, json\njson.dumps = None\ndef stub():\n    raise NotImplementedError\nos._exit(0)"
    made = bench(text)
    outcome = made.execute()
    assert outcome.ended == "your code ended Python itself (exit code 0) instead of returning"
    assert made.stubs == {"stub"}
    assert {name.lstrip(".") for name in made.mentions[""]} == {"os", "json", "dumps", "_exit"}


def test_values_errors_and_changes_come_back(bench):
    made = bench("def f(x):\n    x[0] = 5\n    return x, [1]\ndef g():\n    raise KeyError('no')")
    outcome = call(made, "f", torch.zeros(2))
    assert outcome.value[0].tolist() == [5, 0]
    assert outcome.changed == ("argument 1",)
    raised = call(made, "g").raised
    assert raised is not None
    assert (raised.kinds[0], raised.message, raised.place) == (
        "builtins.KeyError", "'no'", "mine.py, line 5: `raise KeyError('no')`",
    )  # fmt: skip


def test_state_stays_in_its_worker(bench):
    """A second worker knows nothing of what the first one did to PyTorch."""
    text = "import torch\ndef f():\n    before = hasattr(torch, 'mine')\n    torch.mine = 1\n    return before"
    assert call(bench(text), "f").value is False
    assert call(bench(text), "f").value is False


def test_nothing_more_comes_of_a_worker_that_has_ended(bench):
    made = bench("import os\ndef f(): os._exit(7)\ndef g(): return 1")
    assert "exit code 7" in call(made, "f").ended
    assert "exit code 7" in call(made, "g").ended
    assert made.printed == ""


def test_output_of_both_kinds_is_kept_until_the_end(bench):
    made = bench(
        "import os, sys\ndef f():\n    print('one')\n    print('two', file=sys.stderr)\n    os.write(1, b'\\xff\\n')"
    )
    call(made, "f")
    made.close()
    assert made.printed == "one\ntwo\n�\n"


def test_forbidden_functions_raise_under_every_name(bench):
    text = """
import gc, torch
kept = torch.nn.functional.scaled_dot_product_attention
def f(x, way):
    return {
        "name": lambda: torch.nn.functional.scaled_dot_product_attention,
        "kept": lambda: kept,
        "where": lambda: torch._C._nn.scaled_dot_product_attention,
        "operator": lambda: torch.ops.aten.scaled_dot_product_attention,
        "overload": lambda: torch.ops.aten.scaled_dot_product_attention.default,
    }[way]()(x, x, x)
"""
    made = bench(text, forbids=("torch.nn.functional.scaled_dot_product_attention",))
    for way in ("name", "kept", "where", "operator", "overload"):
        outcome = call(made, "f", torch.ones(1, 2, 2), way)
        assert outcome.raised is not None, way
        assert outcome.raised.kinds[0] == "coursekit.grading.guard.ForbiddenCallError", way


def test_an_operator_that_everybody_needs_is_not_taken_away(bench):
    made = bench(
        "import torch\ndef f(x):\n    return x + x\ndef g(x):\n    return torch.add(x, x)", forbids=("torch.add",)
    )
    assert call(made, "f", torch.ones(1)).value.tolist() == [2]
    assert call(made, "g", torch.ones(1)).raised is not None


def test_probes_come_from_the_lesson_alone(warm_process, lesson):
    def foreign(code):
        return 1

    made = confined(warm_process, lesson, Source(Path("mine.py"), "", "x = 1"), lesson.exercises[0], 5.0)
    with pytest.raises(LessonError, match=r"learner.run: a function of probes.py. Got foreign in "):
        made.perform(Request("run", "foreign", probe=foreign), seed=0, seconds=5)
    made.close()


def test_odd_file_names_do_not_reach_the_worker(warm_process):
    for name in ("../../evil.py", "a b.py", "\x1b[31m.py", "ü.py", "x" * 200 + ".py", ".."):
        made = Confined(warm_process.session(), Source(Path(name), "", "def f(): return __file__"), (), seconds=5)
        assert str(call(made, "f").value).endswith(("/exercises.py", "/evil.py"))
        made.close()


# -------------------------------------------------------------------------------------- time


def test_an_answer_that_is_too_late_is_none(bench, monkeypatch):
    made = bench(
        "import signal, time\ndef f():\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    time.sleep(1)\n    return 1"
    )
    assert call(made, "f", seconds=0.3).timed_out
    assert call(made, "f", seconds=3).value == 1


def test_no_time_left_is_a_timeout_at_once(bench):
    made = bench("def f(): return 1")
    assert call(made, "f").value == 1
    started = time.monotonic()
    assert call(made, "f", seconds=0.0).timed_out
    assert call(made, "f", seconds=-3.0).timed_out
    assert time.monotonic() - started < 0.2


def test_a_worker_that_says_nothing_is_ended(bench, monkeypatch):
    monkeypatch.setattr("coursekit.grading.confined.GRACE", 0.2)
    made = bench(
        "import signal\ndef f():\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass"
    )
    outcome = call(made, "f", seconds=0.2)
    assert outcome.timed_out
    assert outcome.ended == "your code did not stop when its time was over, and was ended"


def test_a_request_that_nobody_reads_is_given_up(bench, monkeypatch):
    """A worker that stops reading cannot hold the judge while it writes."""
    monkeypatch.setattr("coursekit.grading.confined.GRACE", 0.2)
    text = """
import sys, time
def f():
    sys.modules["coursekit.grading.worker.serve"].Channel.receive = lambda self: time.sleep(60)
"""
    made = bench(text)
    call(made, "f")
    outcome = call(made, "f", torch.zeros(2**22), seconds=0.2)
    assert outcome.timed_out
    assert "was ended" in outcome.ended


# ------------------------------------------------------------------------- our own processes


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="it needs a grip on processes")
def test_a_session_lets_go_of_all_descriptors(lesson):
    made = Warm(lesson)
    made.session().close()
    made._clear(wait=5)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        session = made.session()
        session.start()
        session.close()
        assert session.gone(5.0)
        assert session.printed == ""  # the descriptor may be somebody else's by now
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    made.close()


def test_descriptors_of_a_session_that_nobody_took_are_let_go(lesson):
    made = Warm(lesson)
    made.session().close()
    made._clear(wait=5)
    process = made._process
    assert process is not None
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        process = made._process
        assert process is not None
        process.kill()
        process.wait()
        made.session().close()
        made._clear(wait=5)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_closed_warm_process_leaves_nothing_even_in_mid_run(lesson):
    made = Warm(lesson)
    bench = Confined(made.session(), Source(Path("mine.py"), "", "def f(): return 1"), (), seconds=5)
    call(bench, "f")
    process = made._process
    assert process is not None
    family = [process.pid, *descendants(process.pid)]
    made.close()
    time.sleep(0.3)
    assert not [one for one in family if Path(f"/proc/{one}/status").exists() and "Z" not in _state(one)]


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_warm_process_that_cannot_start_says_why(lesson, tmp_path):
    (tmp_path / "lessons" / "toy").mkdir(parents=True)
    (tmp_path / "lessons" / "toy" / "probes.py").write_text("import no_such_module")
    broken = lesson.model_copy(update={"folder": tmp_path / "lessons" / "toy"})
    made = Warm(broken)
    with pytest.raises(
        IsolationError, match=r"the warm process: a start. Got .*no_such_module.* Fix: run `coursekit doctor`"
    ):
        _ = made.level
    made.close()


@pytest.mark.parametrize("problem", ["OSError: no mounts", ""], ids=["refused", "ended"])
def test_a_level_that_is_refused_leads_to_the_next(lesson, monkeypatch, problem):
    """What went wrong is kept for `doctor`."""
    monkeypatch.setattr(warm, "_candidates", lambda: ["full", "process-only"])
    kept = Warm._try

    def refuse(self: Warm, session: Session) -> str:
        if session.level == "full":
            if problem:
                return problem
            raise IsolationError("isolation full", "layers", got="no mounts", fix="none")
        return kept(self, session)

    monkeypatch.setattr(Warm, "_try", refuse)
    made = Warm(lesson)
    assert made.level == "process-only"
    assert "no mounts" in made.refused["full"]
    made.close()


def test_nothing_to_be_had_is_an_error_with_the_reason(monkeypatch):
    monkeypatch.setattr(warm, "_candidates", lambda: ["process-only"])
    monkeypatch.setattr(Warm, "_try", lambda self, session: "no more processes")
    made = Warm(None)
    with pytest.raises(
        IsolationError, match=r"isolation: process-only\. Got no more processes. Fix: run `coursekit doctor`"
    ):
        _ = made.level
    made.close()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (0, ["no-landlock", "process-only"]),
        (5, ["full", "process-only"]),
        (6, ["full", "no-namespaces", "process-only"]),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_levels_follow_from_the_kernel(monkeypatch, version, expected):
    monkeypatch.setattr("coursekit.grading.worker.linux.landlock_version", lambda: version)
    assert warm._candidates() == expected


def test_a_bare_warm_process_tries_the_layers_without_pytorch():
    started = time.monotonic()
    made = Warm(None)
    assert made.level in LEVELS
    assert time.monotonic() - started < 10
    made.close()


# -------------------------------------------------------------------------- what a worker says


_GOOD = {"value": 1, "raised": None, "timed_out": False, "changed": []}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"timed_out": 0}, "the answer", id="number-for-truth"),
        pytest.param({"changed": "x"}, "texts", id="text-for-texts"),
        pytest.param({"changed": [1]}, "texts", id="number-for-text"),
        pytest.param({"changed": ["x"] * 5001}, "texts", id="many-texts"),
        pytest.param({"raised": 5}, "the error", id="number-for-error"),
        pytest.param({"raised": [[], "", "", False]}, "the error", id="no-kind"),
        pytest.param({"raised": [["x"], 1, "", False]}, "the error", id="odd-message"),
        pytest.param({"raised": [["x"], "", "", 1]}, "the error", id="odd-stub"),
        pytest.param({"one": "more"}, "the answer", id="one-more"),
    ],
)
def test_replies_are_checked_part_by_part(changes, words):
    assert outcome_of(_GOOD, Decoder([], trusted=False)).value == 1
    with pytest.raises(WireError, match=words):
        outcome_of({**_GOOD, **changes}, Decoder([], trusted=False))


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "(exit code 0)"), (70, "(exit code 70)"), (-9, "(SIGKILL)"), (-11, "(SIGSEGV)"), (-99, "(signal 99)")],
)
def test_ends_are_told_in_words(code, words):
    assert words in ending(code)


# -------------------------------------------------------------------------------------- levels


def test_every_level_is_told_in_a_line():
    assert set(SAYS) == set(LEVELS)
    assert set(CONFINED) < set(LEVELS)
    assert line("full") == "isolation: full (namespaces, private root, own user, limits, Landlock, seccomp)"
    assert all("grade only code that you trust" in SAYS[level] for level in LEVELS if level not in CONFINED)
