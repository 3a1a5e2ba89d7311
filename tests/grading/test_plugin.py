"""Whole pytest runs with the plugin, inside this one."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from .conftest import RIGHT_AVERAGE, RIGHT_DOUBLE

WRONG_DOUBLE = "def double(x):\n    print('it is', x)\n    return x * x\n"


def test_what_a_learner_reads(course, run_pytest):
    """Table, what was asked with inputs, expected and got, the named mistake, the hint; once, and no traceback."""
    file = course.submission(WRONG_DOUBLE, RIGHT_AVERAGE)
    status, text = run_pytest(course.folder, "--submission", file, "--grade-seed", 3)
    assert status == 1
    assert re.search(r"toy: .*mine\.py \(sha256 [0-9a-f]{12}\)", text)
    assert re.search(r"T1 +double +fail +0/4", text)
    assert re.search(r"T2 +average +pass +2/2", text)
    for line in (
        "asked:     One number doubles.",
        "with:      double(tensor([3]))",
        "expected:  tensor([6])",
        "got:       tensor([9])",
        "mistake:   You squared. (squares)",
        "hint:      coursekit hint toy T1",
        "score 2 of 6; seed 3 (again: --grade-seed 3)",
        "2 failed, 1 passed",
    ):
        assert text.count(line) == 1, line
    for word in ("Traceback", "FAILURES", "return 2 * x", "coursekit/grading"):
        assert word not in text


def test_what_the_code_printed_is_shown(course, run_pytest):
    file = course.submission(WRONG_DOUBLE)
    _, text = run_pytest(course.folder, "--submission", file, "--capture=sys", "-k", "test_one")
    assert "printed:   it is tensor([3.])" in text


def test_all_right_is_green(course, run_pytest):
    status, text = run_pytest(course.folder, "--submission", course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE))
    assert status == 0
    assert "3 passed" in text
    assert "score 6 of 6" in text
    assert re.search(r"seed \d+", text)


def test_the_file_beside_the_checks_is_the_default(course, run_pytest):
    course.write("exercises.py", RIGHT_DOUBLE)
    status, text = run_pytest(course.folder)
    assert status == 1
    assert "toy/exercises.py" in text
    assert re.search(r"T2 +average +fail", text)


def test_a_stub_is_not_green(course, run_pytest):
    stub = 'def {}(x):\n    raise NotImplementedError("write it")\n'
    file = course.submission(stub.format("double"), stub.format("average"))
    status, text = run_pytest(course.folder, "--submission", file)
    assert status == 1
    assert "3 not attempted" in text
    assert "next to write: T1 double; hint: coursekit hint toy T1" in text


def test_a_dialect_is_green_and_says_so(course, run_pytest):
    file = course.submission(RIGHT_DOUBLE, "def average(x):\n    return x.sum() / (len(x) - 1)")
    status, text = run_pytest(course.folder, "--submission", file, "-v")
    assert status == 0
    assert "PASSED (NOTE)" in text
    assert "Divided by n - 1: the unbiased kind." in text


def test_an_endless_loop_is_a_timeout_and_the_rest_is_graded(course, run_pytest):
    course.hurry()
    file = course.submission("def double(x):\n    while True: pass", RIGHT_AVERAGE)
    status, text = run_pytest(course.folder, "--submission", file)
    assert status == 1
    assert re.search(r"T1 +double +timeout +0/4", text)
    assert re.search(r"T2 +average +pass", text)
    assert "2 timeout" in text


def test_a_broken_check_is_called_a_grader_error(course, run_pytest):
    course.write(
        "test_exercises.py", (course.folder / "test_exercises.py").read_text().replace("2 * x, where", "x, where")
    )
    status, text = run_pytest(course.folder, "--submission", course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE))
    assert status == 1
    assert "2 grader error" in text
    assert "which is our fault and costs no points" in text
    assert "score 6 of 6" in text


def test_the_json_file(course, run_pytest, tmp_path):
    out = tmp_path / "out.json"
    file = course.submission(WRONG_DOUBLE, RIGHT_AVERAGE)
    run_pytest(course.folder, "--submission", file, "--grade-json", out)
    tree = json.loads(out.read_text())
    assert tree["submission"]["path"] == str(file)
    assert (tree["score"], tree["max_score"]) == (2, 6)
    assert tree["exercises"][0]["diagnosis"] == {"id": "squares", "says": "You squared."}


def test_a_json_file_that_cannot_be_written(course, run_pytest, tmp_path):
    file = course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE)
    status, text = run_pytest(course.folder, "--submission", file, "--grade-json", tmp_path / "no" / "out.json")
    assert status == 4
    assert "a place that can be written to. Got no such file or directory" in text
    assert "score 6 of 6" in text


def test_the_seed_repeats_the_inputs(course, run_pytest, tmp_path):
    file = course.submission("def double(x):\n    print(x)\n    return x if len(x) > 1 else 2 * x")

    def printed(seed: int) -> str:
        out = tmp_path / "out.json"
        run_pytest(course.folder, "--submission", file, "--grade-seed", seed, "--grade-json", out)
        return json.loads(out.read_text())["exercises"][0]["printed"]

    assert "tensor" in printed(1)
    assert printed(1) == printed(1) != printed(2)


def test_a_part_of_the_checks_earns_a_part_of_the_points(course, run_pytest):
    file = course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE)
    status, text = run_pytest(course.folder, "--submission", file, "-k", "test_one")
    assert status == 0
    assert "score 1 of 4" in text


@pytest.mark.parametrize(
    ("options", "status"),
    [(["-k", "absent"], 5), (["--grade-only", "absent"], 5)],
    ids=["deselected", "no-exercise"],
)
def test_nothing_run_is_not_green(course, run_pytest, options, status):
    file = course.submission(RIGHT_DOUBLE, RIGHT_AVERAGE)
    assert run_pytest(course.folder, "--submission", file, *options)[0] == status


def test_everything_skipped_is_not_green(course, run_pytest):
    course.write(
        "test_exercises.py",
        'import pytest\npytestmark = pytest.mark.skip(reason="no GPU")\n'
        '@pytest.mark.exercise("double")\ndef test_one(learner):\n    """One."""\n',
    )
    status, text = run_pytest(course.folder, "--submission", course.submission(RIGHT_DOUBLE))
    assert status == 1
    assert re.search(r"T1 +double +skipped +0/0", text)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda course: ["--submission", "/no/such/file.py"], "a readable file. Got no such file"),
        (lambda course: [], "exercises.py: a readable file"),
        (lambda course: [course.write("test_exercises.py", course.bad) and "-q"], "a docstring"),
    ],
    ids=["missing", "default-missing", "bad-check"],
)
def test_wrong_use_is_said_without_a_traceback(course, run_pytest, make, words):
    course.bad = 'import pytest\n@pytest.mark.exercise("double")\ndef test_one(learner): pass\n'
    status, text = run_pytest(course.folder, *make(course))
    assert status == 4
    assert words in text
    assert "Traceback" not in text


def test_one_file_cannot_answer_two_lessons(course, run_pytest):
    other = course.root / "lessons" / "other"
    other.mkdir()
    for name in ("__init__.py", "test_exercises.py", "solution.py"):
        (other / name).write_text((course.folder / name).read_text())
    toml = (course.folder / "lesson.toml").read_text().replace("order = 1", "order = 2")
    (other / "lesson.toml").write_text(toml)
    file = course.submission(RIGHT_DOUBLE)
    status, text = run_pytest(course.root / "lessons", "--submission", file)
    assert status == 4
    assert "--submission: one lesson. Got 2. Fix: name one lesson's folder." in text


def test_the_plugin_leaves_other_tests_alone(tmp_path, run_pytest):
    file = tmp_path / "test_other.py"
    file.write_text("def test_fine(): pass\ndef test_bad(): assert 0\ndef test_odd(learner): pass\n")
    status, text = run_pytest(file)
    assert status == 1
    assert "1 failed, 1 passed, 1 error" in text
    assert "assert 0" in text
    assert "learner: a test marked exercise(id). Got test_odd" in text


def test_tracebacks_of_other_tests_stay(course, run_pytest):
    other = course.root / "test_foreign.py"
    other.write_text("def test_bad(): assert 0 == 1\n")
    _, text = run_pytest(course.folder, other, "--submission", course.submission(WRONG_DOUBLE))
    assert "assert 0 == 1" in text
    assert "mistake:   You squared." in text


def test_only_collecting_grades_nothing(course, run_pytest):
    status, text = run_pytest(course.folder, "--collect-only", "-q")
    assert status == 0
    assert "3 tests collected" in text


def test_a_debugger_gets_the_learners_own_error(course, run_pytest, monkeypatch):
    """Under --pdb the error is raised as it was, with the learner's frame innermost."""
    seen = []
    monkeypatch.setattr("_pytest.debugging._enter_pdb", lambda node, info, report: seen.extend([info, report]))
    file = course.submission("def double(x):\n    return x / nothing")
    run_pytest(course.folder, "--submission", file, "--pdb", "-k", "test_one")
    assert isinstance(seen[0].value, NameError)
    assert seen[0].traceback[-1].path.name == "mine.py"
    assert seen[1].longrepr.startswith("asked:")


def test_junit_reports_carry_the_message(course, run_pytest, tmp_path):
    out = tmp_path / "junit.xml"
    run_pytest(course.folder, "--submission", course.submission(WRONG_DOUBLE, RIGHT_AVERAGE), "--junit-xml", out)
    assert 'tests="3"' in out.read_text()
    assert "asked:     One number doubles." in out.read_text()


@pytest.mark.slow  # two processes that import torch
def test_two_workers_find_the_same(course):
    """With pytest-xdist the verdicts come together in the first process, with one seed for all."""
    file = course.submission(WRONG_DOUBLE, RIGHT_AVERAGE)
    out = course.root / "out.json"
    options = ["-n", "2", "--submission", file, "--grade-seed", "3", "--grade-json", out, "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", course.folder, *options]
    done = subprocess.run(command, cwd=course.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "mistake:   You squared. (squares)" in done.stdout
    assert json.loads(out.read_text())["score"] == 2


def test_strict_refuses_before_any_of_the_file_runs(course, run_pytest, monkeypatch, tmp_path):
    monkeypatch.setattr("coursekit.grading.warm._candidates", lambda: ["process-only"])
    mark = tmp_path / "it ran"
    file = course.submission(f"open({str(mark)!r}, 'w').close()", RIGHT_DOUBLE, RIGHT_AVERAGE)
    status, text = run_pytest(course.folder, "--submission", file, "--isolation", "strict")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "--isolation strict: isolation: full. Got process-only." in text
    assert not mark.exists()
