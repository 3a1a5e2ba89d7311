"""The checks of a lesson: its pytest functions that carry the `exercise` marker."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coursekit import catalog
from coursekit.catalog import Exercise, Lesson
from coursekit.errors import LessonError
from coursekit.grading.plugin import MARKERS

FILE = "test_exercises.py"


@dataclass(frozen=True)
class Check:
    """One check: a pytest function with its parameters.

    Args:
        name: as pytest shows it, with the parameters' id.
        exercise: that it belongs to.
        weight: inside its exercise.
        asks: what it asks for: the first line of its docstring.
        function: the test function.
        parameters: from `pytest.mark.parametrize`.
        skip: why it is skipped on this machine; empty when it is not.
        statistical: whether results are random numbers, and mistakes are known by how these are drawn.
    """

    name: str
    exercise: Exercise
    weight: float
    asks: str
    function: Callable[..., object] = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    skip: str = ""
    statistical: bool = False

    def run(self, learner: Any, rng: Any) -> object:
        """Call the test function."""
        wanted = inspect.signature(self.function).parameters
        given = {"learner": learner, "rng": rng, **self.parameters}
        return self.function(**{name: given[name] for name in wanted})


def check_of(item: pytest.Item, lesson: Lesson) -> Check:
    """Return the check that a collected pytest item stands for.

    Raises:
        LessonError: the item is not a check as lessons write them.
    """
    marker = item.get_closest_marker("exercise")
    if marker is None or len(marker.args) != 1 or not isinstance(item, pytest.Function):
        raise LessonError(
            item.nodeid, "a function marked exercise(id)", got=f"{marker}", fix='mark it exercise("<id>")'
        )
    asks = inspect.getdoc(item.function) or ""
    if not asks:
        raise LessonError(item.nodeid, "a docstring: what the check asks for", got="none", fix="write one line")
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    wanted = inspect.signature(item.obj).parameters
    foreign = [name for name in wanted if name not in ("learner", "rng", *parameters)]
    if foreign or "learner" not in wanted:
        got = f"the fixture {foreign[0]}" if foreign else "no learner"
        raise LessonError(item.nodeid, "learner, rng and parameters", got=got, fix="write the check with these alone")
    exercise = lesson.exercise(str(marker.args[0]))
    statistical = item.get_closest_marker("statistical") is not None
    asked = asks.splitlines()[0]
    return Check(item.name, exercise, _weight(item), asked, item.obj, parameters, _skip(item), statistical)


def collect(lesson: Lesson) -> tuple[Check, ...]:
    """Return every check of a lesson, in the order of its file, as pytest finds them.

    Raises:
        LessonError: the file is missing, cannot be imported, or a check is not well formed.
    """
    file = lesson.folder / FILE
    if not file.is_file():
        raise LessonError(f"lesson {lesson.id}", f"a file {FILE}", got="none", fix=f"add {file}")
    top = str(lesson.folder.parent.parent)
    if top not in sys.path:  # for `from lessons.<topic> import probes`
        sys.path.insert(0, top)
    collector = _Collector()
    # A pytest of its own: no settings and no plugins but those that come with it, nothing printed. The plugin
    # that looks for unraisable exceptions collects all of torch's garbage twice, a quarter of a second.
    plugins = ["--disable-plugin-autoload", *_without("terminal", "cacheprovider", "unraisableexception")]
    place = ["-c", os.devnull, "--rootdir", str(lesson.folder), "--import-mode=importlib", "--noconftest"]
    addopts = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        pytest.main(["--collect-only", "-s", *plugins, *place, str(file)], plugins=[collector])
    finally:
        if addopts is not None:
            os.environ["PYTEST_ADDOPTS"] = addopts
    if collector.problem:
        raise LessonError(str(file), "checks that pytest can collect", got=collector.problem, fix="mend it there")
    return tuple(check_of(item, lesson) for item in collector.items if item.get_closest_marker("exercise"))


def lesson_in(folder: Path) -> Lesson:
    """Return the lesson that lies in a folder.

    Raises:
        LessonError: no lesson lies there.
    """
    folder = folder.resolve()
    lesson = _known(folder)
    if lesson is None and "COURSEKIT_ROOT" not in os.environ and (folder / "lesson.toml").is_file():
        os.environ["COURSEKIT_ROOT"] = str(folder.parent.parent)  # pytest was started outside of the course
        lesson = _known(folder)
    if lesson is not None:
        return lesson
    raise LessonError(
        str(folder),
        "a lesson of the course",
        got="a folder outside of it",
        fix="set COURSEKIT_ROOT to the folder that holds `lessons`",
    )


def _known(folder: Path) -> Lesson | None:
    try:
        return next((lesson for lesson in catalog.lessons() if lesson.folder.resolve() == folder), None)
    except LessonError:  # no course is to be found from here
        return None


def _without(*plugins: str) -> list[str]:
    return [part for plugin in plugins for part in ("-p", f"no:{plugin}")]


class _Collector:
    """Listens to a pytest that only collects."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.problem = ""

    def pytest_configure(self, config: pytest.Config) -> None:
        for marker in MARKERS:
            config.addinivalue_line("markers", marker)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problem = report.longreprtext.strip().splitlines()[-1]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def _weight(item: pytest.Item) -> float:
    marker = item.get_closest_marker("points")
    weight = marker.args[0] if marker and marker.args else 1
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise LessonError(item.nodeid, "points above 0", got=repr(weight), fix="give a number, such as points(2)")
    return float(weight)


def _skip(item: pytest.Item) -> str:
    """Return the reason of a `skip` or `skipif` mark that applies."""
    for marker in item.iter_markers():
        # A condition in a text is pytest's to evaluate; lessons write it in Python.
        applies = marker.name == "skip" or (marker.name == "skipif" and any(part is True for part in marker.args))
        if applies:
            return str(marker.kwargs.get("reason") or "it cannot run on this machine")
    return ""
