"""Worker processes: each is warm, one that dies is replaced, and no submission is lost or graded twice."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from coursekit.errors import LessonError, UserError
from coursekit.grading.classroom import crew
from coursekit.grading.classroom.crew import CrewError
from coursekit.grading.classroom.desk import Job, Outcome, Setting, checks_digest

from ..conftest import RIGHT_AVERAGE, RIGHT_DOUBLE
from . import stand_ins

RIGHT = f"{RIGHT_DOUBLE}\n{RIGHT_AVERAGE}".encode()


@pytest.fixture
def setting(course) -> Setting:
    return Setting("toy", checks_digest(course.lesson), seed=3, trusted=True)


def jobs(count: int, raw: bytes = RIGHT) -> list[Job]:
    return [Job(f"s{n}", "exercises.py", raw) for n in range(count)]


def workers() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children() if child.name == "coursekit-class"]


def test_submissions_are_graded_though_a_worker_is_killed(setting):
    """Six submissions, two workers; one is killed after the first grade, and the other never stands still."""
    done: list[Outcome] = []
    before: list[int] = []
    grading = crew.grade([*jobs(5), Job("wrong", "mine.py", b"def double(x):\n    return x * x\n")], setting, workers=2)
    for outcome in grading:
        done.append(outcome)
        if len(done) == 1:
            before = workers()
            os.kill(before[0], signal.SIGKILL)
    assert len(before) == 2
    assert Counter(outcome.key for outcome in done) == Counter(["s0", "s1", "s2", "s3", "s4", "wrong"])
    assert [(outcome.problem, outcome.ours) for outcome in done] == [("", False)] * 6
    scores = {outcome.key: outcome.report["score"] for outcome in done}
    assert scores.pop("wrong") == 0
    assert set(scores.values()) == {6}
    assert {outcome.report["seed"] for outcome in done} == {3}
    assert workers() == []


def test_a_lesson_that_is_not_the_same_is_refused(setting, course):
    course.write("probes.py", "x = 1\n")
    with pytest.raises(UserError, match="the same lesson and the same coursekit on every machine"):
        list(crew.grade(jobs(1), setting, workers=1))
    assert workers() == []


# Without a grader: what becomes of processes that die


def test_processes_that_never_start_end_the_run(setting, monkeypatch):
    monkeypatch.setattr(crew, "work", stand_ins.die)
    with pytest.raises(CrewError, match=r"no worker process can be started \(its process ended with 5\)"):
        list(crew.grade(jobs(3), setting, workers=1))
    assert workers() == []


@pytest.mark.parametrize(
    ("work", "cause"),
    [(stand_ins.falter, "its process was ended by signal 9"), (stand_ins.complain, "ZeroDivisionError: by nought")],
    ids=["killed", "a fault"],
)
def test_a_submission_that_the_grader_dies_of_is_tried_twice(setting, monkeypatch, work, cause):
    monkeypatch.setattr(crew, "work", work)
    outcomes = {outcome.key: outcome for outcome in crew.grade(jobs(2)[::-1], setting, workers=1)}
    assert set(outcomes) == {"s0", "s1"}
    assert outcomes["s1"].ours
    assert f"twice: {cause}" in outcomes["s1"].problem
    if work is stand_ins.falter:
        assert outcomes["s0"].report == {"score": 1}
    assert workers() == []


def test_a_process_that_hangs_is_ended(setting, monkeypatch):
    monkeypatch.setattr(crew, "work", stand_ins.hang)
    monkeypatch.setattr(crew, "_SLACK", 0.5)
    monkeypatch.setattr(crew, "_CHECKS_EACH", 0)
    (outcome,) = crew.grade(jobs(1), setting, workers=1)
    assert "it did not end within" in outcome.problem
    assert workers() == []


def test_a_caller_who_stops_leaves_no_process(setting, monkeypatch):
    monkeypatch.setattr(crew, "work", stand_ins.falter)
    grading = crew.grade(jobs(1) + jobs(1), setting, workers=2)
    assert next(grading).key == "s0"
    assert len(workers()) == 2
    grading.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert workers() == []


@pytest.mark.parametrize(
    ("isolation", "trusted", "refused"),
    [
        ("auto", False, ["process-only", "in-process"]),
        ("auto", True, []),
        ("strict", False, ["no-landlock", "no-namespaces", "process-only", "in-process"]),
        ("strict", True, ["no-landlock", "no-namespaces", "process-only", "in-process"]),
    ],
)
def test_too_weak_an_isolation_is_refused(isolation, trusted, refused):
    setting = Setting("toy", "", 0, isolation, trusted)
    levels = ("full", "no-landlock", "no-namespaces", "process-only", "in-process")
    assert [level for level in levels if level not in setting.levels] == refused
    for level in levels:
        expectation = pytest.raises(UserError, match=rf"Got {level} on host\. .*--trust-submissions")
        with expectation if level in refused else contextlib.nullcontext():
            setting.accept(level, "host")


def test_the_digest_is_of_what_grades(course):
    first = checks_digest(course.lesson)
    course.write("exercises.py", "x = 1")
    course.write("notes.md", "x")
    assert checks_digest(course.lesson) == first
    seen = {first}
    for name in ("solution.py", "probes.py", "wrong_answers.py", "test_exercises.py", "more.py"):
        course.write(name, "x = 1")
        seen.add(checks_digest(course.lesson))
    assert len(seen) == 6


def test_a_desk_refuses_another_lesson(course):
    from coursekit.grading.classroom.desk import Desk

    with pytest.raises(LessonError, match=r"the same lesson .* Got others in .* Fix: bring both to one version"):
        Desk(Setting("toy", "0" * 64, 0))


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(course, tmp_path):
    """Whoever is killed leaves whole files, and the second run grades only what the first had not."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n in range(12):
        (folder / f"s{n:02}.py").write_bytes(RIGHT + f"# {n}".encode())
    command = [sys.executable, "-m", "coursekit", "class", str(folder), "--lesson", "toy", "--out", str(out)]
    command += ["--trust-submissions", "--workers", "2"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(out.glob("*/report.json")):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/report.json")}
    assert 0 < len(done) < 12
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert f"{len(done)} graded before, and not again" in second.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len((out / "gradebook.csv").read_text().splitlines()) == 13
