"""Results in the shapes that others read: each is whole, valid and harmless, whatever the messages hold."""

from __future__ import annotations

import html.parser
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from coursekit.grading.classroom.exports import feedback, gradescope, junit, page, report, write_results
from coursekit.grading.classroom.gradebook import Record
from coursekit.grading.classroom.summary import summarize
from coursekit.grading.verdicts import VERDICTS

from .records import graded, part

EVIL = "<script>alert(1)</script> & \"'> ]]> {{ 7 * 7 }} \x00\x01\x08\x0b\x1b[31m\x7f\ufffe \U0001f600"
HOSTILE = graded(EVIL, part("double", "fail", 0, 4, f"asked:     {EVIL}", (EVIL, EVIL)), part("average", points=2))
UNREAD = Record("ann", "ann", "ann.zip", problem=f"An archive {EVIL}")


def test_gradescope_is_as_documented(course):
    record = graded("ann", part("double"), part("average", "fail", 0, 2, "asked: x", ("sums", "You did not divide.")))
    tree = gradescope(record, course.lesson)
    assert (tree["score"], tree["execution_time"], tree["output_format"]) == (4, 0.5, "text")
    assert tree["tests"] == [
        {
            "name": "T1 Doubling",
            "number": "T1",
            "score": 4,
            "max_score": 4,
            "output": "pass\n2 checks passed.",
            "output_format": "text",
            "visibility": "visible",
            "status": "passed",
        },
        {
            "name": "T2 Average",
            "number": "T2",
            "score": 0,
            "max_score": 2,
            "output": "fail\nasked: x\nmistake:   You did not divide.",
            "output_format": "text",
            "visibility": "visible",
            "status": "failed",
        },
    ]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_its_place(course, verdict):
    record = graded("ann", part("double", verdict, 0, 4, "so"), part("average", points=2, max_points=2))
    done, ours = verdict in ("pass", "pass with note"), verdict in ("skipped", "grader error")
    test = gradescope(record, course.lesson)["tests"][0]
    assert test.get("status") == (None if ours else "passed" if done else "failed")
    suite = ElementTree.fromstring(junit(record, course.lesson))
    (case, other) = suite.findall("testcase")
    kinds = [child.tag for child in case]
    kind = {"skipped": ["skipped"], "grader error": ["error"]}.get(verdict, [] if done else ["failure"])
    assert kinds == kind
    assert not list(other)
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
    assert counts == ["2", *(str(int(kind == [name])) for name in ("failure", "error", "skipped")), "0.500"]
    assert f">{verdict}<" in feedback(record, course.lesson)


@pytest.mark.parametrize("record", [HOSTILE, UNREAD], ids=["graded", "not graded"])
def test_junit_is_valid_xml_whatever_it_holds(course, record):
    text = junit(record, course.lesson)
    suite = ElementTree.fromstring(text.encode())
    assert [case.get("name") for case in suite.findall("testcase")] == ["double", "average"]
    assert "<script>alert(1)</script>" in (suite.findtext("testcase/*") or "")
    assert "\x00" not in text
    assert "\ufffe" not in text


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page, and everything that it would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str | None] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [f"{name}={value}" for name, value in attrs if name in ("src", "style") or name[:2] == "on"]
        self.fetched += [value for name, value in attrs if name == "href" and value and value[0] != "#"]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("record", [HOSTILE, UNREAD], ids=["graded", "not graded"])
def test_feedback_runs_nothing_and_fetches_nothing(course, record):
    text = feedback(record, course.lesson)
    read = Reader(text)
    assert not read.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert read.fetched == []
    assert "default-src 'none'" in text
    assert "<script>alert(1)</script>" in read.text  # as words
    assert "{{ 7 * 7 }}" in read.text
    assert "49" not in read.text
    assert not set(text) & set("\x00\x01\x08\x0b\x1b\ufffe")


def test_feedback_shows_what_a_student_needs_and_no_more(course):
    parts = [part("double", "fail", 0, 4, "asked: x", ("sums", "You did not divide.")), part("average", points=2)]
    text = feedback(graded("ann", *parts, flags=("near-identical to bob",)), course.lesson)
    assert "2 of 8 points" in text
    assert "You did not divide." in text
    assert "coursekit hint toy T1" in text
    assert "The average is the sum over the count." in text  # the explanation of what passed
    assert "Doubling adds a number to itself." not in text
    assert "near-identical" not in text
    assert "seed" not in text
    tree = json.dumps(gradescope(graded("ann", *parts, flags=("near-identical to bob",)), course.lesson))
    assert "near-identical" not in tree
    assert "seed" not in tree


def test_what_was_not_graded_says_why(course):
    record = Record("ann", "ann", "ann.zip", problem="It is an archive.")
    assert "It is an archive." in feedback(record, course.lesson)
    tree = gradescope(record, course.lesson)
    assert (tree["score"], tree["tests"]) == (0, [])
    assert "It is an archive." in tree["output"]
    tree = report(record, course.lesson)
    assert (tree["score"], tree["max_score"], tree["exercises"]) == (0, 6, [])
    assert tree["problem"] == "It is an archive."
    suite = ElementTree.fromstring(junit(record, course.lesson))
    assert (suite.get("errors"), suite.get("failures")) == ("2", "0")


def test_four_files_are_written_the_report_last(course, tmp_path, monkeypatch):
    folder = tmp_path / "ann"
    write_results(folder, HOSTILE, course.lesson, {"seed": 7})
    assert sorted(path.name for path in folder.iterdir()) == [
        "feedback.html",
        "junit.xml",
        "report.json",
        "results.json",
    ]
    tree = json.loads((folder / "report.json").read_text())
    assert (tree.pop("class"), tree) == ({"seed": 7}, HOSTILE.report)
    (folder / "report.json").unlink()
    monkeypatch.setattr("coursekit.grading.classroom.exports.feedback", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_results(folder, HOSTILE, course.lesson, {})
    assert not (folder / "report.json").exists()


def test_the_page_of_a_class_runs_nothing(course):
    summary = summarize([HOSTILE, UNREAD], course.lesson, [], left_out=[EVIL]) | {"seconds": 1}
    text = page("summary.html.jinja", lesson=course.lesson, summary=summary)
    read = Reader(text)
    assert not read.tags & {"script", "link", "img", "iframe"}
    assert read.fetched == []
    assert "1 of 2 submissions graded" in read.text
    assert read.text.count("<script>alert(1)</script>") >= 3


def test_exporting_imports_no_torch():
    package = "coursekit.grading.classroom"
    code = f"import sys, {package}.classes, {package}.release; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
