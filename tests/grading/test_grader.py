"""Grading in confined workers: what ends one is a verdict, and the rest is graded still."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from coursekit.errors import IsolationError, LessonError, SubmissionError
from coursekit.grading import warm
from coursekit.grading.grader import Grader
from coursekit.grading.isolation import LEVELS, SAYS
from coursekit.grading.reporting import heading
from coursekit.grading.session import KEPT_OUTPUT
from coursekit.grading.warm import Warm
from coursekit.grading.worker.family import descendants

from .conftest import RIGHT_AVERAGE, RIGHT_DOUBLE, TOML

pytestmark = pytest.mark.skipif(os.name != "posix", reason="submissions are confined on systems that can fork")
RIGHT = f"{RIGHT_DOUBLE}\n{RIGHT_AVERAGE}"


@pytest.fixture
def quick(course):
    """The toy lesson, with a quarter of a second for each check."""
    course.hurry()
    return course


@pytest.fixture
def grader(quick):
    with Grader(quick.lesson, seed=1) as made:
        yield made


def verdicts(report) -> list[str]:
    return [part.verdict for part in report.exercises]


def gone(*processes: int) -> bool:
    """Return whether these processes have ended; wait a little for it."""
    for _ in range(250):
        if not any(Path(f"/proc/{process}/cmdline").exists() and alive(process) for process in processes):
            return True
        time.sleep(0.02)
    return False


def root_of(grader: Grader) -> int:
    """Return the id of the warm process."""
    made = grader._benches._warm
    assert made is not None
    assert made._process is not None
    return made._process.pid


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------ verdicts


def test_a_crash_costs_its_own_check_and_exercise_alone(quick, grader):
    """Exit code 0 forges nothing; a fresh worker does what is left."""
    text = "import os\ndef double(x):\n    if len(x) > 1: os._exit(0)\n    return 2 * x"
    file = quick.submission(text, RIGHT_AVERAGE)
    report = grader.grade(file)
    assert [(part.verdict, part.points) for part in report.exercises] == [("crashed", 1), ("pass", 2)]
    assert report.exercises[0].message.splitlines()[-1] == (
        "because:   your code ended Python itself (exit code 0) instead of returning"
    )
    assert (report.score, report.max_score, report.exit_code, report.seed) == (3, 6, 1, 1)
    assert (report.path, len(report.sha256), report.isolation) == (file, 64, grader.level)


def test_a_crash_when_loaded_is_blamed_on_all_at_once(quick, grader, monkeypatch):
    """A file that ends the process is loaded once for each of its first two checks, and not for every one."""
    sessions = []
    session = Warm.session
    monkeypatch.setattr(Warm, "session", lambda self: sessions.append(1) or session(self))
    report = grader.grade(quick.submission("import ctypes\nctypes.string_at(0)"))
    assert verdicts(report) == ["crashed", "crashed"]
    assert "SIGSEGV" in report.exercises[0].message
    assert len(sessions) == 1


def test_what_is_not_python_is_told_with_its_line(quick, grader):
    report = grader.grade(quick.submission("def double(x:\n    return x"))
    assert [(part.verdict, part.points) for part in report.exercises] == [("fail", 0), ("fail", 0)]
    assert "mine.py, line 1: '(' was never closed" in report.exercises[0].message


def test_what_cannot_be_read_is_wrong_use_and_hurts_nobody_else(quick, grader):
    with pytest.raises(SubmissionError, match="a readable file"):
        grader.grade(quick.root / "nothing.py")
    assert grader.grade(quick.submission(RIGHT)).exit_code == 0


def test_checks_that_cannot_be_collected_leave_nothing_running(quick):
    quick.write("test_exercises.py", "import no_such_module")
    before = descendants(os.getpid())
    with pytest.raises(LessonError, match="checks that pytest can collect"):
        Grader(quick.lesson)
    assert descendants(os.getpid()) == before


def test_a_name_that_the_lesson_forbids_and_that_does_not_exist_is_our_fault(course):
    course.write("lesson.toml", TOML.replace("torch.add", "torch.no_such_function"))
    with Grader(course.lesson) as grader:
        report = grader.grade(course.submission(RIGHT))
    assert verdicts(report) == ["grader error", "pass"]
    assert "names that exist. Got torch.no_such_function" in report.exercises[0].message


def test_output_is_kept_in_part_and_a_flood_is_stopped(quick, grader):
    report = grader.grade(quick.submission("def double(x):\n    print('x' * 100_000 + 'the end')\n", RIGHT_AVERAGE))
    assert report.exercises[0].printed.endswith("the end\n")
    assert len(report.exercises[0].printed) <= KEPT_OUTPUT
    report = grader.grade(quick.submission("def double(x):\n    while True: print('x' * 10_000)\n", RIGHT_AVERAGE))
    assert verdicts(report) == ["crashed", "pass"]
    assert "printed more than 16 MiB" in report.exercises[0].message


def test_a_large_result_crosses_whole(quick, grader):
    text = "import torch\ndef double(x):\n    return torch.ones(2**20)"
    report = grader.grade(quick.submission(text), only=["double"])
    assert "expected shape (1,), got (1048576,)" in report.exercises[0].message


def test_only_some_exercises_can_be_graded(quick, grader):
    report = grader.grade(quick.submission(RIGHT), only=["average"])
    assert [part.id for part in report.exercises] == ["average"]
    assert grader.grade(quick.submission(RIGHT), only=[]).exit_code == 1


def test_a_seed_repeats_the_grading_and_none_draws_a_new_one(quick):
    file = quick.submission("def double(x):\n    raise ValueError(str(x.tolist()))")
    with Grader(quick.lesson) as grader:
        reports = [grader.grade(file, only=["double"], seed=seed) for seed in (3, 3, 4, None, None)]
    printed = [str(report.to_json()["exercises"][0]["message"]) for report in reports]
    assert [report.seed for report in reports[:3]] == [3, 3, 4]
    assert printed[0] == printed[1]
    assert len({report.seed for report in reports}) == 4


def test_workers_do_not_know_the_seeds_of_inputs(quick, grader):
    """The seed that a call works with tells nothing of the generator from which the check draws."""
    text = """
    import torch
    def double(x):
        for seed in [torch.initial_seed()] + [torch.initial_seed() + n for n in range(-3, 4)]:
            if torch.equal(1 + torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=x.dtype), x):
                return 2 * x
    """
    assert grader.grade(quick.submission(text), only=["double"]).score == 0


# -------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import signal\n    signal.signal(signal.SIGALRM, signal.SIG_IGN)\n    while True: pass",
        "import signal, time\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    time.sleep(1)\n    return 2 * x",
    ],
    ids=["loop", "alarm-ignored", "late-but-right"],
)
def test_time_is_measured_by_the_judge(quick, grader, monkeypatch, body):
    monkeypatch.setattr("coursekit.grading.confined.GRACE", 1.0)
    started = time.monotonic()
    report = grader.grade(quick.submission(f"def double(x):\n    {body}", RIGHT_AVERAGE))
    assert verdicts(report) == ["timeout", "pass"]
    assert report.exercises[0].points == 0
    assert time.monotonic() - started < 10


def test_a_check_has_its_time_once_and_not_for_every_call(quick, monkeypatch):
    """Calls that are each a little late cannot go on for ever."""
    checks = "\n".join(
        [
            "import pytest",
            '@pytest.mark.exercise("double")',
            "def test_often(learner, rng):",
            '    """Many calls."""',
            "    for _ in range(50): learner.double(1.0)",
        ]
    )
    quick.write("test_exercises.py", checks)
    text = "import signal, time\ndef double(x):\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    time.sleep(0.2)\n"
    with Grader(quick.lesson) as grader:
        report = grader.grade(quick.submission(text), only=["double"])
    assert verdicts(report) == ["timeout"]
    assert report.exercises[0].seconds < 3


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("import sys", ("the code uses `sys`",)),
        ("from captum.attr import Saliency", ("the code uses `captum`",)),
        ("from coursekit import attribution", ("the code uses `coursekit`",)),
        ("parts = list(network.modules())", ()),
    ],
)
def test_a_person_is_told_of_what_no_exercise_needs(quick, grader, line, flags):
    """And not of a network's own modules."""
    text = f"def double(x):\n    if len(x) < 0:\n        {line}\n    return 2 * x"
    report = grader.grade(quick.submission(text, RIGHT_AVERAGE))
    assert (verdicts(report), report.flags) == (["pass", "pass"], flags)


# ----------------------------------------------------------------------------------- processes


def test_two_graders_at_once(quick):
    with Grader(quick.lesson) as one, Grader(quick.lesson) as other:
        found = {}
        wrong = quick.root / "wrong.py"
        wrong.write_text("def double(x):\n    return 3 * x\n" + RIGHT_AVERAGE)
        for _ in range(3):
            found = [one.grade(quick.submission(RIGHT)).score, other.grade(wrong).score]
        assert found == [6, 2]


def test_a_grader_can_be_closed_twice_and_leaves_nothing(quick):
    grader = Grader(quick.lesson)
    process = root_of(grader)
    family = [process, *descendants(process)]
    assert len(family) > 1
    grader.close()
    grader.close()
    assert gone(*family)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("which", ["warm", "spare", "all"])
def test_honest_work_survives_the_end_of_our_own_processes(quick, grader, which):
    """The machine may end any process when it has no memory left: the next learner does not pay for it."""
    file = quick.submission(RIGHT)
    assert grader.grade(file).score == 6
    process = root_of(grader)
    family = {"warm": [process], "spare": descendants(process), "all": [process, *descendants(process)]}[which]
    for one in family:
        with contextlib.suppress(ProcessLookupError):  # the end of one can be the end of the next
            os.kill(one, signal.SIGKILL)
    time.sleep(0.2)  # until it is felt
    assert [(part.verdict, part.message) for part in grader.grade(file).exercises] == [
        ("pass", "2 checks passed."),
        ("pass", "1 check passed."),
    ]


def test_a_worker_that_is_ended_from_outside_costs_one_check(quick, grader):
    """Nothing waits for it for ever."""
    text = "import os, sys, time\ndef double(x):\n    print(os.getpid(), flush=True)\n    time.sleep(60)"
    root = root_of(grader)
    before = set(descendants(root))

    def end() -> None:
        time.sleep(0.15)
        for process in set(descendants(root)) & before:  # the spare of before is at work now
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=end)
    thread.start()
    report = grader.grade(quick.submission(text, RIGHT_AVERAGE))
    thread.join()
    assert verdicts(report) in (["crashed", "pass"], ["timeout", "pass"])


@pytest.fixture
def open_folder():
    """A temporary folder that other users may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder


_JUDGE = """
import os, sys
from tests.grading.attacks.elsewhere import become
level = sys.argv[2]
if level != "best" and os.getuid() == 0:
    become(0)  # where ordinary users can read Python
from pathlib import Path
from coursekit import catalog
from coursekit.grading import warm
from coursekit.grading.grader import Grader
if level != "best":
    warm._candidates = lambda: [level]
with Grader(catalog.lesson("toy")) as grader:
    print(grader.level, grader._benches._warm._process.pid, flush=True)
    grader.grade(Path(sys.argv[1]))
"""
# It asks not to be ended, and hides a second process in a session of its own.
_STUBBORN = """
import ctypes, os, time
def double(x):
    libc = ctypes.CDLL(None)
    libc.prctl(1, 0, 0, 0, 0)
    if os.fork() == 0:
        libc.prctl(1, 0, 0, 0, 0)
        os.setsid()
        os.closerange(0, 100)
        time.sleep(100)
    print("ready", flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("level", ["best", "no-namespaces"])
@pytest.mark.parametrize("target", ["judge", "warm"])
def test_nothing_outlives_a_judge_that_is_killed(course, open_folder, level, target):
    """A judge that is ended in the middle, in the hardest way, leaves no process of a learner's."""
    course.write("lesson.toml", TOML)
    file = course.submission(_STUBBORN)
    environment = {**os.environ, "COURSEKIT_ROOT": str(course.root)}
    # A judge that is killed cannot clear up its own folders; they must be open to the workers' users.
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": open_folder}
    command = [sys.executable, "-c", _JUDGE, str(file), level]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as judge:
        line = judge.stdout.readline().split() if judge.stdout else []
        if not line:
            judge.wait()
            pytest.skip(f"{level} is not to be had here: {judge.stderr.read()[-200:] if judge.stderr else ''}")
        process = int(line[1])
        deadline = time.monotonic() + 20
        # The warm process, two for the spare, a supervisor, the worker and what it has forked.
        while len(family := [process, *descendants(process)]) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(family) >= 6
        os.kill(judge.pid if target == "judge" else process, signal.SIGKILL)
        left = gone(*family)
        judge.kill()
    for one in family:
        if alive(one):
            os.kill(one, signal.SIGKILL)
    assert left


# -------------------------------------------------------------------------------------- levels


def test_strict_refuses_what_is_less_than_everything(quick, monkeypatch):
    monkeypatch.setattr(warm, "_candidates", lambda: ["process-only"])
    before = descendants(os.getpid())
    with pytest.raises(IsolationError, match=re.escape("--isolation strict: isolation: full. Got process-only. Fix: ")):
        Grader(quick.lesson, isolation="strict")
    assert descendants(os.getpid()) == before


def test_the_level_stands_in_the_report(quick, monkeypatch):
    monkeypatch.setattr(warm, "_candidates", lambda: ["process-only"])
    with Grader(quick.lesson) as grader:
        report = grader.grade(quick.submission(RIGHT))
    assert (grader.level, report.isolation, report.score) == ("process-only", "process-only", 6)
    with Grader(quick.lesson, isolation="in-process") as grader:
        report = grader.grade(quick.submission(RIGHT))
    assert (grader.level, report.isolation, report.score) == ("in-process", "in-process", 6)


def test_every_level_is_explained():
    assert set(SAYS) == set(LEVELS)


def test_a_file_name_cannot_colour_the_terminal(quick, grader):
    """Names of files come from learners too."""
    file = quick.root / "\x1b[31mmine\u202e.py"
    file.write_text(RIGHT)
    assert "\x1b" not in heading(grader.grade(file))
    assert "\u202e" not in heading(grader.grade(file))
