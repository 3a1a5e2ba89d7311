"""Grading in a process of its own: what kills it is a verdict, and the rest is graded still."""

from __future__ import annotations

import sys
import time

import pytest

from coursekit.errors import SubmissionError
from coursekit.grading import process
from coursekit.grading.grade import grade
from coursekit.grading.journal import Journal, steps

from .conftest import RIGHT_AVERAGE, RIGHT_DOUBLE


def test_a_crash_costs_its_own_exercise_alone(course):
    """Exit code 0 forges nothing; the process is started again for what is left."""
    text = "import os\ndef double(x):\n    if len(x) > 1: os._exit(0)\n    return 2 * x"
    file = course.submission(text, RIGHT_AVERAGE)
    report = grade(course.lesson, file, seed=1)
    assert [(part.verdict, part.points) for part in report.exercises] == [("crashed", 1), ("pass", 2)]
    assert report.exercises[0].message == (
        "asked:     Many numbers double, in float64 too.\n"
        "because:   your code ended Python itself (exit code 0) instead of returning"
    )
    assert (report.score, report.max_score, report.exit_code, report.seed) == (3, 6, 1, 1)
    assert report.path == file
    assert len(report.sha256) == 64


def test_a_crash_when_loaded_is_blamed_on_all_at_once(course, monkeypatch):
    calls = []
    monkeypatch.setattr("coursekit.grading.grade.run", lambda *a, **k: calls.append(a) or process.run(*a, **k))
    report = grade(course.lesson, course.submission("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"))
    assert [part.verdict for part in report.exercises] == ["crashed", "crashed"]
    assert "SIGSEGV" in report.exercises[0].message
    assert len(calls) == 1


def test_what_is_not_python_needs_no_process(course, monkeypatch):
    monkeypatch.setattr("coursekit.grading.grade.run", None)
    report = grade(course.lesson, course.submission("def double(x:\n    return x"))
    assert [(part.verdict, part.points) for part in report.exercises] == [("fail", 0), ("fail", 0)]
    assert "mine.py, line 1: '(' was never closed" in report.exercises[0].message
    assert report.exit_code == 1


def test_what_cannot_be_read_is_wrong_use(course):
    with pytest.raises(SubmissionError, match="a readable file"):
        grade(course.lesson, course.root / "nothing.py")


def test_checks_that_cannot_be_started_are_our_fault(course):
    course.write("test_exercises.py", "import no_such_module")
    report = grade(course.lesson, course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE))
    assert [part.verdict for part in report.exercises] == ["grader error", "grader error"]
    assert "could not be started, which is our fault" in report.exercises[0].message
    assert (report.exit_code, report.score) == (3, 6)


# ------------------------------------------------------------------------------------- the process


def run(tmp_path, code: str, seconds: float = 0.1) -> process.End:
    journal = tmp_path / "journal"
    Journal(journal).write("start", exercise="double", check="test_one")
    command = [sys.executable, "-c", code]
    return process.run(command, folder=tmp_path, environment={}, journal=journal, seconds=seconds)


def test_a_process_that_hangs_in_the_learners_code_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.3)
    started = time.monotonic()
    end = run(tmp_path, "import signal\nfor n in (2, 14, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass")
    assert (end.cause, end.code) == ("time", -9)
    assert "did not stop when its time was over" in str(end)
    assert time.monotonic() - started < 5


def test_other_steps_have_more_patience(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.0)
    Journal(tmp_path / "journal").write("end", exercise="double", check="test_one")
    command = [sys.executable, "-c", "import time; time.sleep(0.4)"]
    end = process.run(command, folder=tmp_path, environment={}, journal=tmp_path / "journal", seconds=0.0)
    assert (end.cause, end.code) == ("itself", 0)
    monkeypatch.setattr(process, "PATIENCE", 0.2)
    end = process.run(command, folder=tmp_path, environment={}, journal=tmp_path / "none", seconds=0.0)
    assert end.cause == "time"


def test_output_is_kept_in_part_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "KEPT_OUTPUT", 10)
    end = run(tmp_path, "print('x' * 1000 + 'the end')", 60)
    assert end.output == "xxthe end\n"
    monkeypatch.setattr(process, "MOST_OUTPUT", 100_000)
    end = run(tmp_path, "while True: print('x' * 1000)", 60)
    assert end.cause == "output"
    assert "your code printed more than" in str(end)


def test_what_a_process_leaves_behind_is_ended(tmp_path):
    late = "import time; time.sleep(0.5); open('late', 'w')"
    run(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}])", 60)
    time.sleep(0.8)
    assert not (tmp_path / "late").exists()


def test_a_journal_that_was_cut_short_is_read_up_to_there(tmp_path):
    file = tmp_path / "journal"
    assert steps(file) == []
    Journal(file).write("plan", checks=[])
    with file.open("a") as stream:
        stream.write('{"step": "sta')
    assert steps(file) == [{"step": "plan", "checks": []}]
    Journal(None).write("plan")
