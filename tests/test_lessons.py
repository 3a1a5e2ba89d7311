"""Every lesson on disk: complete, provable, runnable, and true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.config import resolve
from coursekit.grading.answers import answers
from coursekit.grading.authoring.stubs import drift
from coursekit.grading.checks import collect
from coursekit.grading.classroom.leaks import SECRET, Answers
from coursekit.grading.grader import Grader
from coursekit.grading.judge import Judge
from coursekit.grading.proof import publish
from coursekit.grading.proof.verify import verify

ROOT = Path(__file__).resolve().parent.parent
LESSONS = [entry.id for entry in catalog.lessons()]
PARTS = [
    "README.md",
    "alternatives.py",
    "config.py",
    "exercises.py",
    "lesson.py",
    "lesson.toml",
    "solution.py",
    "VERIFIED.md",
    "test_exercises.py",
    "wrong_answers.py",
]


def test_the_catalogue_is_what_lies_on_disk():
    folders = {path.name for path in (ROOT / "lessons").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(LESSONS) == folders
    assert LESSONS, "zero lessons are never fine"


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_all_its_parts(name):
    entry = catalog.lesson(name)
    missing = [part for part in PARTS if not (entry.folder / part).is_file()]
    assert not missing
    assert entry.config_file.is_file()


@pytest.mark.parametrize("name", LESSONS)
def test_every_picture_in_the_text_is_there(name):
    folder = catalog.lesson(name).folder
    text = (folder / "README.md").read_text(encoding="utf-8")
    named = [part.partition(")")[0] for part in text.split("](")[1:] if part.startswith("figures/")]
    assert named, "a lesson shows what it found"
    assert [picture for picture in named if not (folder / picture).is_file()] == []
    assert {f"figures/{path.name}" for path in (folder / "figures").iterdir()} == set(named)


@pytest.mark.parametrize("name", LESSONS)
def test_the_stubs_follow_the_solution(name):
    """Names, signatures and docstrings; the bodies are the learner's."""
    entry = catalog.lesson(name)
    names = [part for exercise in entry.exercises for part in exercise.names]
    stubs = (entry.folder / "exercises.py").read_text(encoding="utf-8")
    solution = (entry.folder / "solution.py").read_text(encoding="utf-8")
    assert drift(stubs, solution, names) == []


@pytest.mark.parametrize("name", LESSONS)
def test_no_code_of_an_answer_stands_elsewhere(name):
    """`coursekit release` would refuse to hand out such a lesson."""
    folder = catalog.lesson(name).folder
    texts = {part: (folder / part).read_text(encoding="utf-8") for part in SECRET}
    given = [file for file in folder.glob("*.*") if file.name not in {*SECRET, publish.FILE}]
    assert folder / "test_exercises.py" in given
    assert Answers(texts, (folder / "exercises.py").read_text(encoding="utf-8")).leaks_in(given) == []


@pytest.mark.parametrize("name", LESSONS)
def test_the_graders_prove_themselves(name):
    """Stubs, solutions, alternatives, dialects and wrong answers each get their verdict; on more seeds when slow."""
    proof = verify(catalog.lesson(name), seeds=[0], with_mutants=False)
    assert [row for row in proof.rows if not row.ok] == []
    assert proof.findings == ()
    assert {row.kind for row in proof.rows} >= {"stub", "solution", "alternative", "wrong"}


@pytest.mark.parametrize("name", LESSONS)
def test_the_published_proof_counts_what_is_there(name):
    """Answers, mutants and the reasons of those that survive; running them all is for the slow test below."""
    entry = catalog.lesson(name)
    known = answers(catalog.load(entry, part) for part in ("alternatives", "wrong_answers"))
    text = (entry.folder / publish.FILE).read_text(encoding="utf-8")
    solution = (entry.folder / "solution.py").read_text(encoding="utf-8")
    assert publish.stale(entry, known, solution, text) == [], f"repeat `coursekit verify {name} --publish`"


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_the_published_proof_is_what_comes_out(name):
    entry = catalog.lesson(name)
    proof = verify(entry)
    assert proof.ok
    killed = sum(died for died, _ in proof.operators.values())
    assert killed >= 0.98 * sum(made for _, made in proof.operators.values())
    assert publish.page(entry, proof) == (entry.folder / publish.FILE).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_the_graders_prove_themselves_on_many_seeds(name):
    proof = verify(catalog.lesson(name), seeds=range(1, 21), with_mutants=False)
    assert [row for row in proof.rows if not row.ok] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_right_answers_pass_on_a_hundred_seeds(name):
    entry = catalog.lesson(name)
    checks, graded = collect(entry), 0
    for seed in range(100, 200):
        judge = Judge(entry, checks, seed)
        right = [(one.replaces, judge.replacing(one)) for one in judge.answers if one.kind == "alternative"]
        for exercise in entry.exercises:
            for candidate in [judge.reference, *[one for replaces, one in right if replaces in exercise.names]]:
                report = judge.report(candidate, exercise)
                assert report.verdict == "pass", f"{candidate.id} with seed {seed}: {report.message}"
                graded += 1
    assert graded >= 100 * (1 + 2) * len(entry.exercises)


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("seeds", [[0, 1, 2], [3, 4, 5], [6, 7, 8]], ids=str)
def test_every_claim_holds(name, seeds, tmp_path):
    """The quick profile on three times three seeds: what holds for one choice of seeds alone teaches nothing."""
    chosen = f"seeds={json.dumps(seeds)}"
    command = [sys.executable, "-m", "coursekit", "run", name, "--quick", "--out", str(tmp_path), "--quiet", chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["claims"]
    assert [claim for claim in result["claims"] if not claim["holds"]] == []


@pytest.mark.parametrize("name", LESSONS)
def test_the_configuration_reads_well(name):
    entry = catalog.lesson(name)
    config = resolve(catalog.load(entry, "config").Config, entry.config_file, "quick")
    assert config.training  # pyright: ignore[reportAttributeAccessIssue]
    assert len(config.seeds) >= 3, "a claim over seeds needs seeds"  # pyright: ignore[reportAttributeAccessIssue]


MARKS = "def marked(*_, **__):\n    return lambda code: code\n\n\nalternative = dialect = wrong = marked\n"


def as_a_file(solution: str, answers_file: str, name: str, replaces: str) -> str:
    """Return the text of a submission that answers one exercise as a known answer does, and the rest rightly."""
    unmarked = [
        line for line in answers_file.splitlines() if not line.startswith(("from __future__", "from coursekit"))
    ]
    return "\n\n".join([solution, MARKS, "\n".join(unmarked), f"{replaces} = {name}\n"])


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_worker_gives_every_known_answer_the_verdict_that_it_has_in_process(name, tmp_path):
    """`verify` runs known answers in its own process; a learner's file runs in a worker, and must fare the same."""
    entry = catalog.lesson(name)
    solution = (entry.folder / "solution.py").read_text(encoding="utf-8")
    expected = {"alternative": "pass", "dialect": "pass with note", "wrong": "fail"}
    count, wrong = 0, []
    with Grader(entry) as grader:
        for part in ("alternatives", "wrong_answers"):
            text = (entry.folder / f"{part}.py").read_text(encoding="utf-8")
            for answer in answers([catalog.load(entry, part)]):
                exercise = next(one for one in entry.exercises if answer.replaces in one.names)
                file = tmp_path / f"{answer.id}.py"
                file.write_text(as_a_file(solution, text, answer.code.__name__, answer.replaces), encoding="utf-8")
                (report,) = grader.grade(file, only=[exercise.id]).exercises
                named = report.diagnosis.id if report.diagnosis else None
                if report.verdict != expected[answer.kind] or (answer.kind != "alternative" and named != answer.id):
                    wrong.append((answer.id, report.verdict, named))
                count += 1
    assert wrong == []
    assert count >= 7 * len(entry.exercises)
