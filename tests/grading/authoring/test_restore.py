"""One definition back to its stub, and every other byte as it was."""

from __future__ import annotations

import ast

import pytest

from coursekit.errors import SubmissionError
from coursekit.grading.authoring.restore import definition, restored

STUB = 'def two(x: int) -> int:\n    """Return 2."""\n    raise NotImplementedError("T2: write two")'
BEFORE = "import math\n\n\ndef one(x):\n    return 1  # mine\n\n\n"
AFTER = "\n\n# a note of mine\nclass Three:\n    pass\n\n\f\n"


def back(text: str, name: str = "two") -> str:
    return restored(text, name, STUB, "mine.py")


@pytest.mark.parametrize(
    "body",
    [
        "def two(x):\n    return 2\n",
        "def two(x): return 2\n",
        "@decorated\n@twice(\n    3\n)\ndef two(x):\n    return 2\n",
        "async def two(x):\n    return 2\n",
        "class two:\n    def f(self):\n        return '''\nnot at the margin\n'''\n",
        "def two(\n    x,\n):\n    y = '''\ndef one(x): text\n'''\n    return 2\n",
        "def two(x):\n    return 2\n    # I tried this before:\n\n    # return 3\n",
        'def two(x):\n    """Return 2."""\n    if x:\n        def two(): pass\n    return 2\n',
    ],
    ids=["plain", "one line", "decorated", "async", "class", "texts", "comments", "nested"],
)
def test_only_the_definition_changes(body):
    assert back(BEFORE + body + AFTER) == BEFORE + STUB + "\n" + AFTER


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_line_ends_stay(end):
    text = (BEFORE + "def two(x):\n    return 2\n" + AFTER).replace("\n", end)
    assert back(text) == (BEFORE + STUB + "\n" + AFTER).replace("\n", end)


def test_a_byte_order_mark_stays():
    assert back("\ufeffdef two(x):\n    return 2\n") == "\ufeff" + STUB + "\n"


def test_a_file_without_a_last_line_end():
    assert back("def two(x):\n    return 2") == STUB
    assert back("def two(x):\n    return 2\n") == STUB + "\n"


def test_of_several_definitions_the_last_counts():
    assert back("def two(x):\n    return 2\n\ndef two(x):\n    return 3\n") == f"def two(x):\n    return 2\n\n{STUB}\n"


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "x = 1", "two = lambda x: 2\n"], ids=["empty", "other", "no end", "lambda"]
)
def test_what_is_not_defined_is_added_at_the_end(text):
    found = back(text)
    assert found.startswith(text)
    assert found.endswith(f"{STUB}\n")
    names: dict[str, object] = {}
    exec(found, names)
    assert "T2" in str(names["two"].__code__.co_consts)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("before", "body", "after"),
    [
        ("def one(x):\n    return (1\n\n\n", "def two(x):\n    return 2\n", "\n\ndef three():\n    pass\n"),
        (
            "x = 1\n\n",
            "@torch.no_grad()\ndef two(x):\n    return ((2\n",
            "\n# of three\n@wraps\ndef three():\n    pass\n",
        ),
        ("", "def two(x):\n  return 2\n     return 3\n\n    y = 1\n", ""),
        ("", "def two(\n    x,\n):\n    return }\n", "\nimport math\n"),
        ("a b\n", "class two:\n    x = = 1\n", "\nY = 3\n"),
    ],
    ids=["error before", "error inside", "last", "bracket at the margin", "class"],
)
def test_a_file_that_is_not_python(before, body, after):
    with pytest.raises(SyntaxError):
        ast.parse(before + body + after)
    assert back(before + body + after) == before + STUB + "\n" + after


@pytest.mark.parametrize("text", ["def one(:\n", "def two(:\n\ndef two(x):\n    return 2\n"], ids=["none", "two"])
def test_a_definition_that_cannot_be_told_from_the_rest(text):
    with pytest.raises(
        SubmissionError, match=r"one definition of two. Got [02] lines .* Fix: reset the whole file with --all"
    ):
        back(text)


def test_the_text_of_a_definition():
    text = BEFORE + "@a\ndef two(x):\n    return 2\n" + AFTER
    assert definition(text, "two") == "@a\ndef two(x):\n    return 2"
    assert definition(text, "four") == ""
