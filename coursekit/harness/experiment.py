"""One run of a lesson: it trains, scores, claims and draws; at the end everything lies in one folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from matplotlib.figure import Figure

from coursekit import catalog, runtime
from coursekit.catalog import Lesson
from coursekit.config import Settings, Training, fingerprint, resolve, to_yaml
from coursekit.data import Data
from coursekit.errors import ArgumentError, OutputError, UserError
from coursekit.files import make_folder, write_atomically, write_json
from coursekit.harness.early_stopping import Stopper
from coursekit.harness.learner import LearnerCode
from coursekit.harness.module import Module
from coursekit.harness.report import write_report
from coursekit.harness.run import Run, write_history
from coursekit.harness.trainer import fit
from coursekit.metrics import Scorecard
from coursekit.plots import FigureFile, save


@dataclass(frozen=True)
class Claim:
    """What a lesson teaches, as a number and its bound.

    Attributes:
        id: a short name.
        says: the claim in one sentence.
        value: the number that was measured.
        bound: what it must satisfy, such as `>= 0.95`.
        holds: whether it does.
    """

    id: str
    says: str
    value: float
    bound: str
    holds: bool


@dataclass
class Experiment:
    """What a lesson's `main` works with.

    Attributes:
        out: the run's folder.
        identity: hash of the code that runs; a training is only continued under the same code.
        mine: the learner's own code, where the run was asked to use it.
        quiet: no progress on the terminal.
    """

    out: Path
    identity: str = ""
    mine: LearnerCode | None = None
    quiet: bool = False
    runs: list[Run] = field(default_factory=list)
    scorecards: dict[str, Scorecard] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    figures: list[FigureFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fit(
        self,
        module: Module,
        data: Data,
        training: Training,
        *,
        label: str,
        seed: int,
        if_diverged: Literal["raise", "stop"] = "raise",
        stopper: Stopper | None = None,
        monitor: str = "val_loss",
    ) -> Run:
        """Train a module as `coursekit.harness.fit` does, in a folder of its own, and remember the run."""
        if any(run.label == label and run.seed == seed for run in self.runs):
            raise ArgumentError(
                "Experiment.fit",
                "one training for each label and seed",
                got=f"{label}, seed {seed}, twice",
                fix="rename",
            )
        folder = self.out / "trainings" / f"{re.sub('[^A-Za-z0-9.]+', '-', label)}-seed{seed}"
        run = fit(
            module,
            data,
            training,
            seed=seed,
            label=f"{label}, seed {seed}",
            out=folder,
            identity=self.identity,
            if_diverged=if_diverged,
            stopper=stopper,
            monitor=monitor,
            quiet=self.quiet,
        )
        run.label = label
        self.runs.append(run)
        return run

    def score(self, scorecard: Scorecard) -> Scorecard:
        """Add a scorecard to the report."""
        self.scorecards[scorecard.variant] = scorecard
        return scorecard

    def claim(
        self, id: str, says: str, value: float, *, at_least: float | None = None, at_most: float | None = None
    ) -> Claim:
        """Record a claim with its number and its bound.

        Args:
            id: a short name.
            says: the claim in one sentence.
            value: the number that was measured.
            at_least: the bound from below, or
            at_most: the bound from above; exactly one of them.
        """
        if (at_least is None) == (at_most is None):
            raise ArgumentError(f"claim {id}", "one of at_least and at_most", got="both or none", fix="give one")
        if any(claim.id == id for claim in self.claims):
            raise ArgumentError(f"claim {id}", "a claim of its own name", got="the name twice", fix="rename one")
        value = float(value)
        if at_least is not None:
            claim = Claim(id, says, value, f">= {at_least:g}", value >= at_least)
        else:
            assert at_most is not None
            claim = Claim(id, says, value, f"<= {at_most:g}", value <= at_most)
        self.claims.append(claim)
        return claim

    def figure(self, name: str, figure: Figure, *, alt: str, caption: str = "") -> FigureFile:
        """Save a figure and add it to the report.

        Args:
            name: of the files `figures/<name>.svg` and `.png`.
            figure: from `coursekit.plots`.
            alt: what it shows, for a reader who does not see it.
            caption: what to notice.
        """
        saved = save(figure, self.out / "figures", name, alt=alt, caption=caption)
        self.figures.append(saved)
        return saved

    def note(self, text: str) -> None:
        """Add a sentence to the report's summary."""
        self.notes.append(text)


_EXERCISES = ("exercises.py", "solution.py", "alternatives.py", "wrong_answers.py", "probes.py", "test_exercises.py")
"""Modules of a lesson that its experiments do not import."""


class LessonMain(Protocol):
    """The entry of a lesson's `lesson.py`."""

    def __call__(self, config: Any, experiment: Experiment) -> None:
        """Run every experiment of the lesson."""
        ...


def run_lesson(
    lesson: Lesson,
    settings: Settings,
    *,
    profile: str,
    out: Path,
    submission: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a lesson's experiments and write everything about them into one folder.

    A run that was stopped is continued when the same command is given again; one that was finished is repeated.

    Args:
        lesson: from the catalogue.
        settings: its resolved configuration, with a section `training` and a tuple `seeds`.
        profile: the profile's name, for the record.
        out: the folder; it is made when missing.
        submission: the learner's file, to run the lesson on their own code; None for PyTorch's alone.
        quiet: no progress on the terminal.

    Returns:
        What `result.json` holds.

    Raises:
        OutputError: the folder cannot be written to, or holds a run with other settings.
        SubmissionError: the learner's code fails.
        UserError: as `fit`.
    """
    training: Training = settings.training  # pyright: ignore[reportAttributeAccessIssue]
    device = runtime.choose_device(training.device)
    main: LessonMain = catalog.load(lesson, "lesson").main
    mine = None if submission is None else LearnerCode(submission, lesson)
    identity = experiment_hash(lesson.folder, submission)
    make_folder(out)
    manifest = {
        "lesson": lesson.id,
        "profile": profile,
        "settings": fingerprint(settings),
        "mine": None if mine is None else {"path": mine.path.name, "sha256": mine.sha256},
        "code": identity,
        **runtime.manifest(device),
    }
    _take_over(out, manifest)
    write_json(out / "manifest.json", manifest)
    write_atomically(out / "config.yaml", to_yaml(settings))

    experiment = Experiment(out, identity, mine, quiet)
    with runtime.Usage() as usage, mine.blamed_for_its_errors() if mine else nullcontext():
        main(settings, experiment)
    result = {
        "lesson": lesson.id,
        "profile": profile,
        "seeds": list(settings.seeds),  # pyright: ignore[reportAttributeAccessIssue]
        "device": runtime.describe_device(device),
        "versions": runtime.versions(),
        "seconds": {"wall": usage.wall, "cpu": usage.cpu},
        "peak_memory": runtime.peak_memory(),
        "mine": manifest["mine"],
        "notes": experiment.notes,
        "scorecards": {name: card.to_dict() for name, card in experiment.scorecards.items()},
        "claims": [vars(claim) for claim in experiment.claims],
        "figures": [str(figure.png.relative_to(out)) for figure in experiment.figures],
    }
    write_history(out / "metrics.csv", experiment.runs)
    write_report(
        out / "report.html",
        result=result,
        title=f"{lesson.title}: {profile} run",
        summary="\n\n".join([lesson.goal, *experiment.notes]),
        figures=experiment.figures,
        config_text=to_yaml(settings),
        manifest=manifest,
    )
    write_json(out / "result.json", result)  # last: its presence says that the run is complete
    return result


def run_script(file: str) -> None:
    """Run the lesson that a file belongs to with the profile `quick`; the arguments are overrides.

    This is what `python lessons/<topic>/lesson.py training.epochs=5` does.
    """
    try:
        lesson = catalog.lesson(Path(file).resolve().parent.name)
        settings = resolve(catalog.load(lesson, "config").Config, lesson.config_file, "quick", sys.argv[1:])
        out = Path("runs") / f"{lesson.id}-quick"
        run_lesson(lesson, settings, profile="quick", out=out)
        print(f"Report: {out / 'report.html'}")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _take_over(out: Path, manifest: dict[str, Any]) -> None:
    """Decide what becomes of an earlier run in the same folder: continue it, repeat it, or refuse."""
    file = out / "manifest.json"
    if not file.exists():
        return
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        same = all(earlier[key] == manifest[key] for key in ("lesson", "profile", "settings"))
        same = same and (earlier["mine"] is None) == (manifest["mine"] is None)
        same_code = earlier["code"] == manifest["code"]
    except (OSError, ValueError, KeyError, TypeError):
        same = same_code = False
    if not same:
        raise OutputError(
            str(out),
            "a new folder, or one with a run of the same settings",
            got="a folder that holds another run",
            fix="name another folder with --out, or delete this one",
        )
    result = out / "result.json"
    if result.exists() or not same_code:
        result.unlink(missing_ok=True)
        shutil.rmtree(out / "trainings", ignore_errors=True)


def experiment_hash(folder: Path, submission: Path | None = None) -> str:
    """Return a hash of the code that decides what an experiment computes, and of the versions of its libraries.

    Args:
        folder: of the lesson. Its modules count, but for the exercises and what grades them.
        submission: the learner's file, where it takes part.
    """
    modules = sorted(file for file in folder.glob("*.py") if file.name not in _EXERCISES)
    digest = hashlib.sha256(json.dumps(runtime.versions(), sort_keys=True).encode())
    for file in [*modules, *([submission] if submission else [])]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
