"""A class of 200 submissions to lesson 1 by `coursekit class`, against Otter's local run of single ones. Wall time.

    python benchmarks/class_of_200.py [submissions]

The submissions are made from the lesson's known answers: three in four exercises right, the rest one of the named
mistakes. Otter runs them one after the other, as its command does, with a single short test: less than what
`coursekit` asks, so that the comparison favours Otter. Samples of Otter's are taken before and after the class.
"""

from __future__ import annotations

import ast
import copy
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coursekit import catalog
from coursekit.grading.answers import answers

ROOT = Path(__file__).parent.parent
LESSON = "optimization"
OTTER_TEST = """
from otter.test_files import test_case

OK_FORMAT = False
name = "q1"
points = 1


@test_case()
def test_first_step(env):
    import torch

    p, g = torch.randn(4), torch.randn(4)
    stepped, _ = env["sgd_momentum_step"](p, g, None, lr=0.1, momentum=0.9)
    torch.testing.assert_close(stepped, p - 0.1 * g)
"""


def submissions(count: int) -> dict[str, str]:
    """Return made-up submissions by name: a lesson's worth of code each, as a student hands it in."""
    lesson = catalog.lesson(LESSON)
    parts = [catalog.load(lesson, part) for part in ("alternatives", "wrong_answers")]
    answered = {part.__name__: ast.parse(Path(str(part.__file__)).read_text()) for part in parts}
    solution = ast.parse((lesson.folder / "solution.py").read_text())
    known, draw = answers(parts), random.Random(0)
    made = {}
    for number in range(count):
        text = ["from __future__ import annotations"]
        for exercise in lesson.exercises:
            kinds = ("wrong",) if draw.random() < 0.25 else ("alternative", "dialect")
            pick = draw.choice([one for one in known if one.replaces in exercise.names and one.kind in kinds])
            rest = [name for name in exercise.names if name != pick.replaces]
            text += [needed(solution, rest), needed(answered[pick.code.__module__], [pick.code.__name__])]
            text.append(f"{pick.replaces} = {pick.code.__name__}")
        made[f"student{number:03}"] = "\n\n".join(text) + "\n"
    return made


def needed(tree: ast.Module, names: list[str]) -> str:
    """Return the imports of a module, and what these functions and classes of its use, without marks."""
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    wanted, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name in definitions and name not in wanted:
            wanted.add(name)
            todo += [node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)]
    kept = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node = copy.copy(node)
            node.decorator_list = [one for one in node.decorator_list if not _is_mark(one)]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(("__future__", "coursekit")):
            continue
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name in wanted:
            kept.append(ast.unparse(node))
    return "\n".join(kept[1:])  # without the module's docstring


def _is_mark(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in ("alternative", "dialect", "wrong")


def otter(folder: Path, files: list[Path]) -> list[float]:
    """Return the wall time of Otter's local run of each file."""
    found = []
    program = str(Path(sys.executable).parent / "otter")
    for file in files:
        started = time.perf_counter()
        command = [program, "run", str(file), "-a", str(folder / "autograder.zip"), "-o", str(folder / "otter")]
        subprocess.run([*command, "--no-logo"], cwd=folder, check=True, capture_output=True)
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("tests", "class", "otter"):
            (folder / part).mkdir()
        (folder / "tests" / "q1.py").write_text(OTTER_TEST)
        program = Path(sys.executable).parent
        generate = [str(program / "otter"), "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"]
        subprocess.run(generate, cwd=folder, check=True, capture_output=True)
        for student, text in submissions(count).items():
            (folder / "class" / f"{student}.py").write_text(text)
        files = sorted((folder / "class").iterdir())
        theirs = otter(folder, files[:5])
        started = time.perf_counter()
        command = [sys.executable, "-m", "coursekit", "class", str(folder / "class"), "--lesson", LESSON]
        subprocess.run([*command, "--out", str(folder / "out")], cwd=ROOT, check=True, capture_output=True)
        ours = time.perf_counter() - started
        theirs += otter(folder, files[5:10])
        with (folder / "out" / "gradebook.csv").open(newline="") as file:
            graded = [row for row in csv.DictReader(file) if row["score"]]
    print(f"{len(graded)} of {count} graded on {os.cpu_count()} cores in {ours:.0f} s: {ours / count:.2f} s each")
    print(f"otter run: median {statistics.median(theirs):.2f} s each ({min(theirs):.2f} to {max(theirs):.2f}, n=10)")
    print(f"ratio: {ours / count / statistics.median(theirs):.3f}")


if __name__ == "__main__":
    main()
