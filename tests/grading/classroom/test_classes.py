"""A class: every submission once, stopped and taken up again, nothing lost. The workers are in test_crew.py."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from coursekit.cli import app
from coursekit.errors import OutputError, StoppedError, SubmissionError
from coursekit.grading.classroom import classes as classroom
from coursekit.grading.classroom.classes import Options, grade_class
from coursekit.grading.classroom.desk import Outcome
from coursekit.grading.classroom.pace import Pace

from ..conftest import RIGHT_DOUBLE
from .records import part, report


class Crew:
    """In the place of the worker processes: full marks for all but what its text asks for."""

    def __init__(self) -> None:
        self.graded: list[str] = []
        self.settings: list = []
        self.stop_after = 1000
        self.number = signal.SIGINT

    def __call__(self, jobs, setting, *, workers):
        self.settings.append(setting)
        for job in jobs:
            if len(self.graded) == self.stop_after:
                os.kill(os.getpid(), self.number)
            self.graded.append(job.key)
            yield self.outcome(job, setting)

    def outcome(self, job, setting) -> Outcome:
        if b"kills the judge" in job.raw:
            return Outcome.gave_up(job.key, "its process was ended by signal 9")
        verdict = "grader error" if b"broken check" in job.raw else "pass"
        parts = (part("double", verdict), part("average", points=2, max_points=2))
        sha256 = hashlib.sha256(job.raw).hexdigest()
        return Outcome(job.key, report(*parts, sha256=sha256, file=f"/tmp/{job.name}", seed=setting.seed))


@pytest.fixture
def crew(monkeypatch) -> Crew:
    made = Crew()
    monkeypatch.setattr("coursekit.grading.classroom.crew.grade", made)
    return made


@pytest.fixture
def school(course, tmp_path, crew):
    """A folder of three submissions, and a function that grades it."""
    folder = tmp_path / "submissions"
    (folder / "cat").mkdir(parents=True)
    for name in ("ann.py", "bob.py", "cat/exercises.py"):
        (folder / name).write_text(f"{RIGHT_DOUBLE}\n# {name}\n")

    class School:
        out = tmp_path / "out"

        def __init__(self) -> None:
            self.folder = folder

        def grade(self, **options):
            crew.graded.clear()
            return grade_class(folder, course.lesson, self.out, Options(quiet=True, **options))

        def seed(self) -> int:
            return json.loads((self.out / "run.json").read_text())["seed"]

        def rows(self) -> dict[str, dict[str, str]]:
            with (self.out / "gradebook.csv").open(encoding="utf-8-sig", newline="") as file:
                return {row["folder"]: row for row in csv.DictReader(file)}

    return School()


def test_everything_is_written(school):
    result = school.grade()
    assert result.exit_code == 0
    assert sorted(path.name for path in school.out.iterdir() if path.name != ".lock") == [
        *("ann", "bob", "cat", "gradebook.csv", "run.json", "summary.html", "summary.json")
    ]
    for key in ("ann", "bob", "cat"):
        assert sorted(path.name for path in (school.out / key).iterdir()) == [
            *("feedback.html", "junit.xml", "report.json", "results.json")
        ]
    rows = school.rows()
    assert {key: (row["file"], row["score"]) for key, row in rows.items()} == {
        "ann": ("ann.py", "6"),
        "bob": ("bob.py", "6"),
        "cat": ("cat/exercises.py", "6"),
    }
    tree = json.loads((school.out / "cat" / "report.json").read_text())
    assert tree["submission"]["path"] == "cat/exercises.py"
    assert tree["seed"] == school.seed()
    assert json.loads((school.out / "summary.json").read_text())["graded"] == 3
    assert (school.out / "run.json").stat().st_mode & 0o077 == 0


def test_the_seed_is_drawn_once_and_kept_secret(school, crew):
    school.grade()
    first = school.seed()
    (school.folder / "dan.py").write_text(RIGHT_DOUBLE)
    school.grade()
    assert (school.seed(), crew.settings[-1].seed) == (first, first)
    for name in ("gradebook.csv", "summary.json", "summary.html", "ann/results.json", "ann/feedback.html"):
        assert str(first) not in (school.out / name).read_text()


def test_a_second_run_grades_nothing_again(school, crew):
    school.grade()
    before = (school.out / "gradebook.csv").read_bytes()
    assert school.grade().exit_code == 0
    assert crew.graded == []
    assert (school.out / "gradebook.csv").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_continues_where_it_was(school, crew, number):
    crew.stop_after, crew.number = 2, number
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(StoppedError, match="the same command continues from it"):
        school.grade()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert crew.graded == ["ann", "bob"]
    seed = school.seed()
    crew.stop_after = 1000
    assert school.grade().exit_code == 0
    assert crew.graded == ["cat"]
    assert (len(school.rows()), school.seed()) == (3, seed)


def change(school, course):
    (school.folder / "bob.py").write_text(RIGHT_DOUBLE + "# better")


def rename(school, course):
    (school.folder / "bob.py").unlink()
    (school.folder / "bob").mkdir()
    (school.folder / "bob" / "exercises.py").write_text(f"{RIGHT_DOUBLE}\n# bob.py\n")


def lose_a_file(school, course):
    (school.out / "bob" / "results.json").unlink()


def cut_a_report(school, course):
    (school.out / "bob" / "report.json").write_text("{")


def forge_a_report(school, course):
    (school.out / "bob" / "report.json").write_text('{"class": [], "isolation": 1}')


def weaken(school, course):
    file = school.out / "bob" / "report.json"
    file.write_text(file.read_text().replace('"isolation": "full"', '"isolation": "process-only"'))


@pytest.mark.parametrize("spoil", [change, rename, lose_a_file, cut_a_report, forge_a_report, weaken])
def test_only_what_is_not_the_same_is_graded_again(school, crew, course, spoil):
    school.grade()
    spoil(school, course)
    assert school.grade().exit_code == 0
    assert crew.graded == ["bob"]


@pytest.mark.parametrize("options", [{"fresh": True}, {"seed": 5}, {"isolation": "strict"}], ids=str)
def test_all_are_graded_again_when_asked_for(school, crew, options):
    school.grade(seed=3)
    school.grade(**options)
    again = [] if "isolation" in options else ["ann", "bob", "cat"]  # `full` is as strict as it gets
    assert crew.graded == again
    assert (school.seed() == 3) == ("isolation" in options)


def test_all_are_graded_again_when_the_lesson_has_changed(school, crew, course):
    school.grade()
    course.write("exercises.py", "x = 1")  # the learner's own file
    school.grade()
    assert crew.graded == []
    course.write("test_exercises.py", "x = 1")
    school.grade()
    assert crew.graded == ["ann", "bob", "cat"]


def test_what_cannot_be_graded_does_not_stop_the_others(school):
    (school.folder / "dan.py").write_bytes(b"\xff")
    (school.folder / "eve.zip").touch()
    result = school.grade()
    assert result.exit_code == 1
    rows = school.rows()
    assert [rows[key]["status"] for key in ("ann", "dan", "eve")] == ["graded", "not graded", "not graded"]
    assert "UTF-8" in rows["dan"]["problem"]
    assert "archive" in (school.out / "eve" / "feedback.html").read_text()
    (school.folder / "dan.py").write_text(RIGHT_DOUBLE)
    (school.folder / "eve.zip").unlink()
    assert school.grade().exit_code == 0
    assert "eve" not in school.rows()


def test_a_fault_of_ours_is_told_and_tried_again(school, crew):
    (school.folder / "dan.py").write_text("# kills the judge")
    (school.folder / "eve.py").write_text("# broken check")
    result = school.grade()
    assert result.exit_code == 3
    rows = school.rows()
    assert (rows["dan"]["status"], rows["dan"]["score"]) == ("grader error", "")
    assert "twice: its process was ended by signal 9" in rows["dan"]["problem"]
    assert rows["eve"]["double verdict"] == "grader error"
    assert school.grade().exit_code == 3
    assert crew.graded == ["dan", "eve"]


def test_near_identical_submissions_are_flagged(school):
    (school.folder / "dan.py").write_bytes((school.folder / "ann.py").read_bytes())
    school.grade()
    rows = school.rows()
    assert (rows["ann"]["flags"], rows["dan"]["flags"]) == ("identical to dan", "identical to ann")
    assert rows["bob"]["flags"] == ""


# Where it is written


def test_results_inside_of_the_submissions_are_no_submission(school, crew):
    school.out = school.folder / "out"
    school.grade()
    assert school.grade().exit_code == 0
    assert sorted(school.rows()) == ["ann", "bob", "cat"]
    school.out = school.folder / "again"
    assert "out" in school.grade().summary["left_out"]


@pytest.mark.parametrize("place", [".", ".."])
def test_results_must_not_hold_the_submissions(school, place):
    school.out = school.folder / place
    with pytest.raises(OutputError, match="a folder for the results alone"):
        school.grade()


def test_a_gradebook_that_is_read_only_is_told_before_anything_is_graded(school, crew):
    school.out.mkdir()
    (school.out / "gradebook.csv").touch()
    (school.out / "gradebook.csv").chmod(0o444)
    with pytest.raises(OutputError, match=r"gradebook\.csv: .*Got a read-only file"):
        school.grade()
    assert crew.graded == []


def test_a_gradebook_that_becomes_read_only_is_written_beside(school, monkeypatch):
    real = classroom._graded

    def meanwhile(*args):
        records = real(*args)
        (school.out / "gradebook.csv").write_text("notes")
        (school.out / "gradebook.csv").chmod(0o444)
        return records

    monkeypatch.setattr(classroom, "_graded", meanwhile)
    result = school.grade()
    assert result.gradebook == school.out / "gradebook-2.csv"
    assert (school.out / "gradebook.csv").read_text() == "notes"


def test_another_run_in_the_same_folder_is_refused(school):
    school.out.mkdir()
    with classroom._alone(school.out), pytest.raises(OutputError, match="no other run is writing to"):
        school.grade()
    assert school.grade().exit_code == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"lesson": "toy"}', '{"lesson": "toy", "seed": "x"}'])
def test_a_foreign_run_file_is_refused(school, text):
    school.out.mkdir()
    (school.out / "run.json").write_text(text)
    with pytest.raises(OutputError, match=r"run\.json: the notes of an earlier run"):
        school.grade()


def test_results_of_another_lesson_are_refused(school):
    school.out.mkdir()
    (school.out / "run.json").write_text('{"lesson": "attention", "seed": 1}')
    with pytest.raises(OutputError, match=r"results of lesson toy\. Got those of attention"):
        school.grade()


def test_a_folder_that_is_not_there_leaves_no_trace(school, course):
    with pytest.raises(SubmissionError, match=r"a folder of submissions\. Got nothing there"):
        grade_class(school.folder / "gone", course.lesson, school.out)
    assert not school.out.exists()


# The verb


def verb(monkeypatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["coursekit", "class", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def test_the_verb_prints_the_summary(school, monkeypatch, capsys):
    (school.folder / "dan.zip").touch()
    assert verb(monkeypatch, school.folder, "--lesson", "toy", "--out", school.out) == 1
    out, err = capsys.readouterr()
    assert "T1 double" in out
    assert "dan (dan.zip): dan.zip is an archive" in out
    assert f"3 of 4 submissions graded in 0 s. Gradebook: {school.out}/gradebook.csv" in out
    assert "graded 3 of 3" in err
    assert verb(monkeypatch, school.folder, "--lesson", "toy", "--out", school.out, "--json", "-") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["graded"] == 3
    assert "3 graded before, and not again" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--isolation", "none"], "--isolation: auto or strict. Got none."),
        (["--workers", "2", "--scheduler", "tcp://x:1"], "--workers or --scheduler. Got both."),
        (["--workers", "0"], "Invalid value for '--workers'"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--lesson", "toi"], "did you mean `toy`?"),
    ],
    ids=str,
)
def test_wrong_use_is_told(school, monkeypatch, capsys, args, words):
    assert verb(monkeypatch, school.folder, "--lesson", "toy", "--out", school.out, *args) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_the_name_of_another_gradebook_is_said(school, monkeypatch, capsys):
    monkeypatch.setattr(
        "coursekit.grading.classroom.gradebook.write_gradebook", lambda path, text: path.with_name("g-2.csv")
    )
    assert verb(monkeypatch, school.folder, "--lesson", "toy", "--out", school.out) == 0
    assert "since gradebook.csv could not be replaced" in capsys.readouterr().out


# Progress


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        (0, 0.0, "graded 0 of 200 in 0:00, 0.00 a second"),
        (1, 4.0, "graded 1 of 200 in 0:04, 0.25 a second, 13:16 left"),
        (51, 14.0, "graded 51 of 200 in 0:14, 5.00 a second, 0:30 left"),
        (11, 404.0, "graded 11 of 200 in 6:44, 0.03 a second, 2:06:00 left"),
        (200, 43.8, "graded 200 of 200 in 0:44, 5.00 a second"),
    ],
)
def test_progress_tells_rate_and_time_left(done, seconds, line):
    """The first four seconds are those of the start, and foretell nothing."""
    pace = Pace(200, quiet=True)
    pace.done, pace._warm = done, 4.0
    assert pace.line(seconds) == line


class Terminal:
    """A stream that says that it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Pace(2, stream=stream) as pace:  # pyright: ignore[reportArgumentType]
        pace.step("[bold]ann")
        pace.step("bob")
    assert "2/2" in stream.text
    assert "left" in stream.text


def test_paths_that_the_verb_names_are_those_that_were_given(school, course):
    assert (
        grade_class(school.folder, course.lesson, Path(school.out), Options(quiet=True)).gradebook.parent == school.out
    )
