"""The results of one submission in the shapes that others read: Gradescope, JUnit, a page, our own JSON. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coursekit.catalog import Lesson
from coursekit.files import make_folder, write_atomically, write_json
from coursekit.grading.classroom.gradebook import REPORT, Record

# What XML 1.0 allows besides tab and line ends; no escape would make the others valid.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DONE = ("pass", "pass with note")
_NOT_SCORED = "Your submission could not be graded."


def write_results(folder: Path, record: Record, lesson: Lesson, extra: Mapping[str, Any]) -> None:
    """Write a submission's four files; report.json comes last, and so says that all are there.

    Args:
        folder: of this submission's results.
        record: what became of it.
        lesson: that was graded.
        extra: the entry `class` of report.json, by which a later run knows the record again.

    Raises:
        OutputError: the folder cannot be written to.
    """
    make_folder(folder)
    write_json(folder / "results.json", gradescope(record, lesson))
    write_atomically(folder / "junit.xml", junit(record, lesson))
    write_atomically(folder / "feedback.html", feedback(record, lesson))
    write_json(folder / REPORT, {**report(record, lesson), "class": dict(extra)})


def report(record: Record, lesson: Lesson) -> dict[str, Any]:
    """Return the JSON of `coursekit grade`, with the reason under `problem` when it was not graded."""
    if record.report:
        return dict(record.report)
    empty = {"lesson": lesson.id, "submission": {"path": record.file, "sha256": ""}, "score": 0, "exercises": []}
    return {**empty, "max_score": sum(one.points for one in lesson.exercises), "problem": record.problem}


# --------------------------------------------------------------------------------------- Gradescope


def gradescope(record: Record, lesson: Lesson) -> dict[str, Any]:
    """Return results.json as Gradescope's autograders write it; what only the instructor should see is not in it.

    Source: Gradescope, "Autograder specifications", output format.
    """
    if record.status != "graded":
        return {"score": 0, "output": f"{_NOT_SCORED}\n{record.problem}", "output_format": "text", "tests": []}
    tests = []
    for part in record.exercises:
        exercise = lesson.exercise(part["id"])
        test = {
            "name": f"{exercise.code} {exercise.title}",
            "number": exercise.code,
            "score": part["points"],
            "max_score": part["max_points"],
            "output": told(part),
            "output_format": "text",
            "visibility": "visible",
        }
        if part["verdict"] not in ("skipped", "grader error"):
            test["status"] = "passed" if part["verdict"] in _DONE else "failed"
        tests.append(test)
    seconds = round(sum(part["seconds"] for part in record.exercises), 3)
    head = f"{lesson.title}\nGraded: {record.file} (sha256 {record.sha256[:12]})"
    return {
        "score": record.report["score"],
        "execution_time": seconds,
        "output": head,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def told(part: Mapping[str, Any]) -> str:
    """Return what a student is told about one exercise: verdict, message, and the mistake where it has a name."""
    lines = [part["verdict"], part["message"]]
    if part["diagnosis"] and part["verdict"] not in _DONE:
        lines.append(f"mistake:   {part['diagnosis']['says']}")
    return "\n".join(filter(None, lines))


# -------------------------------------------------------------------------------------------- JUnit


def junit(record: Record, lesson: Lesson) -> str:
    """Return junit.xml: one test suite, one test case for each exercise; valid XML whatever the messages hold."""
    suite = ElementTree.Element("testsuite", name=lesson.id)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("student", record.student), ("file", record.file), ("sha256", record.sha256)):
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    counts = {"failure": 0, "error": 0, "skipped": 0}
    parts = {part["id"]: part for part in record.exercises}
    for exercise in lesson.exercises:
        part = parts.get(exercise.id)
        seconds = f"{part['seconds'] if part else 0:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname=lesson.id, name=exercise.id, time=seconds)
        verdict = part["verdict"] if part else record.status
        if verdict in _DONE:
            continue
        kind = {"skipped": "skipped", "grader error": "error", "not graded": "error"}.get(verdict, "failure")
        counts[kind] += 1
        outcome = ElementTree.SubElement(case, kind, message=verdict)
        if kind != "skipped":
            outcome.set("type", verdict)
        outcome.text = _xml(told(part) if part else record.problem)
    seconds = sum(part["seconds"] for part in record.exercises)
    totals = {"failures": counts["failure"], "errors": counts["error"], "skipped": counts["skipped"]}
    for name, value in {"tests": len(lesson.exercises), **totals, "time": f"{seconds:.3f}"}.items():
        suite.set(name, str(value))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


# -------------------------------------------------------------------------------------------- pages


def feedback(record: Record, lesson: Lesson) -> str:
    """Return feedback.html: one page for the student, which asks nothing of any other place and runs no script."""
    parts = [
        {**part, "exercise": lesson.exercise(part["id"]), "done": part["verdict"] in _DONE} for part in record.exercises
    ]
    return page("feedback.html.jinja", record=record, lesson=lesson, parts=parts)


def page(template: str, **values: Any) -> str:
    """Return a page made from one of our templates, with every value escaped."""
    text = _environment().get_template(template).render(values)
    return _NOT_XML.sub("\ufffd", text)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
