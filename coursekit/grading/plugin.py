"""The pytest plugin that grades a lesson.

Every pytest run on the machine loads it, so it imports nothing heavy, and it does nothing unless a collected
test carries the `exercise` marker. `Scribe` hears of results wherever they come from: from this process, or
from the workers of pytest-xdist.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from coursekit.catalog import Lesson
    from coursekit.grading.items import Grading
    from coursekit.grading.verdicts import LessonReport

_GRADING: pytest.StashKey[Grading] = pytest.StashKey()
_RECORD: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
MARKERS = (
    "exercise(id): the exercise of lesson.toml that this check belongs to",
    "points(n): the weight of this check inside its exercise (default 1)",
    "statistical: this check draws random numbers; results that are drawn alike count as the same mistake",
)
_LETTERS = {
    "pass with note": ("passed", ".", "PASSED (NOTE)"),
    "not attempted": ("not attempted", "n", "NOT ATTEMPTED"),
    "timeout": ("timeout", "t", "TIMEOUT"),
    "grader error": ("grader error", "g", "GRADER ERROR"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of grading."""
    group = parser.getgroup("coursekit", "grading a lesson of coursekit")
    group.addoption("--submission", metavar="FILE", help="the file to grade (default: exercises.py beside the checks)")
    group.addoption("--grade-seed", type=int, metavar="N", help="the seed of all inputs (default: a new one each time)")
    group.addoption("--grade-json", metavar="FILE", help="write the verdicts as JSON")
    group.addoption("--grade-only", metavar="IDS", help="grade these exercises alone (ids with commas)")
    group.addoption(
        "--isolation",
        choices=("auto", "strict"),
        default="auto",
        help="strict: refuse to grade where this machine cannot confine a submission in full",
    )
    group.addoption("--in-process", action="store_true", help="run the file here, beside the checks (so does --pdb)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, choose a seed, and listen for results."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.option.grade_seed is None:
        config.option.grade_seed = secrets.randbits(32)  # here, so that all workers of xdist get the same
    if config.option.submission:
        _read_early(config)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Scribe(config), "coursekit-scribe")


def _read_early(config: pytest.Config) -> None:
    """Refuse a file that cannot be graded before anything is collected, and before xdist starts its workers."""
    from coursekit.errors import SubmissionError
    from coursekit.grading.submission import read

    path = config.option.submission = str(config.invocation_params.dir / config.option.submission)
    try:
        read(Path(path))
    except SubmissionError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture
def learner(request: pytest.FixtureRequest) -> None:
    """The learner's code, for checks marked `exercise`. The plugin calls the check itself, with a fresh learner."""
    _refuse_outside(request)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> None:
    """A torch.Generator with the check's own seed, for checks marked `exercise`."""
    _refuse_outside(request)


def _refuse_outside(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("exercise") is None:
        name = request.fixturename
        raise pytest.UsageError(f"{name}: a test marked exercise(id). Got {request.node.name}. Fix: mark it.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Prepare the grading, before any selection, so that every check of an exercise is known."""
    marked = [item for item in items if item.get_closest_marker("exercise")]
    if not marked or config.option.collectonly:
        return
    from coursekit.grading.items import grading_of

    grading = config.stash[_GRADING] = grading_of(marked, config)
    if config.option.grade_only is not None:
        wanted = config.option.grade_only.split(",")
        kept = [item for item in marked if grading.exercise_of(item) in wanted]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Grade a check in place of calling it."""
    record = _grade(pyfuncitem)
    if record is None:
        return None
    verdict, message = record["result"]["verdict"], record["result"]["message"]
    if verdict == "skipped":
        pytest.skip(message)
    if verdict not in ("pass", "pass with note"):
        error = pyfuncitem.config.stash[_GRADING].error(pyfuncitem) if pyfuncitem.config.option.usepdb else None
        raise error or pytest.fail.Exception(message, pytrace=False)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the learner's message in the place of a traceback of ours, and send the record along."""
    report = yield
    if report.when == "setup" and report.skipped:  # by a mark, before the check was called
        vars(report)["coursekit"] = _grade(item)
    elif report.when == "call" and _RECORD in item.stash:
        vars(report)["coursekit"] = item.stash[_RECORD]
        if report.failed:
            report.longrepr = item.stash[_RECORD]["result"]["message"]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the processes that ran the learner's code."""
    if _GRADING in session.config.stash:
        session.config.stash[_GRADING].close()


def _grade(item: pytest.Item) -> dict[str, Any] | None:
    if _GRADING not in item.config.stash or item.get_closest_marker("exercise") is None:
        return None
    record = item.stash[_RECORD] = item.config.stash[_GRADING].grade(item)
    return record


class Scribe:
    """Gathers the records of checks, prints the verdicts, and writes them down.

    Args:
        config: of the session.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._records: list[dict[str, Any]] = []
        self._reports: list[tuple[Lesson, LessonReport]] = []
        self._problem = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of one check, and what the learner's code printed meanwhile."""
        record = getattr(report, "coursekit", None)
        if record:
            # In this process the learner's code prints as pytest's own tests do.
            printed = record["printed"] or report.capstdout
            self._records.append({**record, "printed": printed if report.failed else ""})

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Return the word of a verdict, where pytest has none."""
        record = getattr(report, "coursekit", None)
        return _LETTERS.get(record["result"]["verdict"]) if record and report.when == "call" else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Put the verdicts together, write the JSON, and see to the exit status: nothing graded is never green."""
        if not self._records:
            return
        from coursekit.errors import OutputError
        from coursekit.files import write_json
        from coursekit.grading.reporting import reports

        self._reports = reports(self._records, self._config.option.grade_seed)
        try:
            if self._config.option.grade_json:
                write_json(Path(self._config.option.grade_json), self._reports[0][1].to_json())
        except OutputError as error:
            self._problem = str(error)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if session.exitstatus == pytest.ExitCode.OK and any(report.exit_code for _, report in self._reports):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._shorten(self._config.pluginmanager.get_plugin("terminalreporter"))

    def _shorten(self, terminal: Any) -> None:
        """Leave out what pytest says of failed tests, when all of them are ours: the verdicts say it once."""
        if terminal and all(hasattr(report, "coursekit") for report in terminal.stats.get("failed", [])):
            if self._config.option.tbstyle == "auto":
                self._config.option.tbstyle = "no"
            if self._config.option.reportchars == "fE":  # the default
                terminal.reportchars = "E"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the verdicts of each lesson."""
        if not self._reports:
            return
        from coursekit.grading.reporting import closing, details, heading, table

        for lesson, report in self._reports:
            terminalreporter.write_sep("=", heading(report))
            for line, colour in table(lesson, report):
                terminalreporter.write_line(line, **{colour: True})
            for line in details(lesson, report):
                terminalreporter.write_line(line, bold=line.startswith("\n"))
            terminalreporter.write_line(f"\n{closing(report)}")
        if self._problem:
            terminalreporter.write_line(self._problem, red=True)
