"""Code of the answers is found wherever it hides, and nothing else is taken for it, on lesson 1's own answers."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.classroom.leaks import SECRET, Answers

FOLDER = Path(__file__).resolve().parents[3] / "lessons" / "optimization"
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in SECRET}
STUB = stub_source(TEXTS["solution.py"], exercise_names(catalog.lesson("optimization")))
ANSWERS = Answers(TEXTS, STUB)


def functions(name: str) -> dict[str, str]:
    """Return the text of every top-level function and class of a file of answers."""
    text = TEXTS[name]
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def code_alone(text: str) -> str:
    """Return a function without its docstring and comments."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) and len(node.body) > 1:
            node.body = node.body[1:]
    return ast.unparse(tree)


def lines_alone(text: str) -> str:
    """Return the lines of a function as they are written, behind its docstring."""
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    first = node.body[1] if ast.get_docstring(node) else node.body[0]
    return textwrap.dedent("\n".join(text.splitlines()[first.lineno - 1 :]))


def other_names(text: str) -> str:
    tree = ast.parse(text)
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and (node.id in own or isinstance(node.ctx, ast.Store)):
            node.id = f"the_{node.id}"
        elif isinstance(node, ast.arg):
            node.arg = f"the_{node.arg}"
    return ast.unparse(tree)


def in_a_function(text: str) -> str:
    return "import torch\n\n\ndef helper():\n    x = 1\n" + textwrap.indent(text, "    ") + "\n    return x\n"


WAYS = {
    "as it is": ("lesson.py", str),
    "without words": ("probes.py", code_alone),
    "with other names": ("lesson.py", lambda text: other_names(code_alone(text))),
    "inside of a function": ("lesson.py", in_a_function),
    "as comments": ("config.py", lambda text: textwrap.indent(lines_alone(text), "# ")),
    "as quoted comments": ("config.py", lambda text: textwrap.indent(lines_alone(text), "    #> ")),
    "in a text": ("README.md", lambda text: f"Look:\n\n```python\n{lines_alone(text)}\n```\n"),
    "in a quotation": ("README.md", lambda text: textwrap.indent(lines_alone(text), "> ")),
    "in a setting": ("lesson.toml", lambda text: f"hint = '''\n{lines_alone(text)}\n'''\n"),
    "in one line of a setting": ("lesson.toml", lambda text: f'hint = "{_escaped(lines_alone(text))}"\n'),
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@pytest.mark.parametrize("source", ["solution.py", "alternatives.py"])
@pytest.mark.parametrize("way", WAYS)
def test_every_right_answer_is_found(tmp_path, way, source):
    name, hide = WAYS[way]
    file = tmp_path / name
    missed = []
    for function, text in functions(source).items():
        file.write_text(hide(text), encoding="utf-8")
        found = {leak.source for leak in ANSWERS.leaks_in([file])}
        missed += [] if any(function in leak or source in leak for leak in found) else [function]
    assert len(functions(source)) >= 9
    assert missed == []


def test_every_wrong_answer_is_found_as_code(tmp_path):
    file = tmp_path / "lesson.py"
    missed = []
    for function, text in functions("wrong_answers.py").items():
        file.write_text(text, encoding="utf-8")
        missed += [] if ANSWERS.leaks_in([file]) else [function]
    assert len(functions("wrong_answers.py")) >= 50
    # Two or three words of code each: told apart from nothing, they give nothing away.
    assert len(missed) <= 3, missed


def test_the_place_is_told(tmp_path):
    file = tmp_path / "lesson.py"
    file.write_text("x = 1\n\n\n" + functions("solution.py")["rmsprop_step"], encoding="utf-8")
    (leak,) = [leak for leak in ANSWERS.leaks_in([file]) if "solution.py" in leak.source]
    assert leak.line > 4
    assert str(leak) == f"{file}, line {leak.line}: code of rmsprop_step in solution.py"


def test_lesson_1_leaks_nothing():
    files = [FOLDER / name for name in ("lesson.py", "config.py", "probes.py", "test_exercises.py", "README.md")]
    files += [FOLDER.parent.parent / "configs" / "optimization.yaml", *(FOLDER / "figures").iterdir()]
    assert len(files) > 8
    assert [str(leak) for leak in ANSWERS.leaks_in(files)] == []


def test_the_stubs_are_no_leak(tmp_path):
    file = tmp_path / "exercises.py"
    file.write_text(STUB, encoding="utf-8")
    assert ANSWERS.leaks_in([file]) == []


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"def (", b""], ids=["binary", "not Python", "empty"])
def test_what_holds_no_code_is_passed_over(tmp_path, content):
    file = tmp_path / "x.py"
    file.write_bytes(content)
    assert ANSWERS.leaks_in([file]) == []
