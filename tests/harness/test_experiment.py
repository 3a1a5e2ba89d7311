"""A lesson's run: everything in one folder, continued when stopped, refused when it would overwrite another."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coursekit import catalog, plots
from coursekit.config import resolve
from coursekit.errors import ArgumentError, OutputError, StoppedError, SubmissionError
from coursekit.harness import Experiment, run_lesson
from coursekit.harness.experiment import experiment_hash
from coursekit.harness.learner import LearnerCode
from coursekit.metrics import METRICS

LESSON = catalog.lesson("optimization")
TINY = [
    "seeds=[0,1]",
    "training.epochs=4",
    "training.device=cpu",
    "sweep.sgd=[0.1]",
    "sweep.adam=[0.003]",
    "batch_sizes.sizes=[64,256]",
    "clipping.epochs=1",
    "rosenbrock.steps=20",
    "initialization.width=32",
]


def settings(*more: str) -> Any:
    return resolve(catalog.load(LESSON, "config").Config, LESSON.config_file, "quick", [*TINY, *more])


def run(out: Path, *more: str, **options: Any) -> dict[str, Any]:
    return run_lesson(LESSON, settings(*more), profile="quick", out=out, quiet=True, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run on the reference solution, as if it were the learner's."""
    out = tmp_path_factory.mktemp("run")
    run(out, submission=LESSON.folder / "solution.py")
    return out


def test_the_folder_holds_what_the_contract_names(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {"result.json", "report.html", "figures", "config.yaml", "manifest.json", "metrics.csv"}
    result = json.loads((finished / "result.json").read_text())
    assert (result["lesson"], result["profile"], result["seeds"]) == ("optimization", "quick", [0, 1])
    assert result["seconds"]["wall"] > 0
    assert result["seconds"]["cpu"] > 0
    assert result["versions"]["torch"]
    assert all((finished / figure).is_file() for figure in result["figures"])
    assert len(result["figures"]) >= 10
    for claim in result["claims"]:
        assert set(claim) == {"id", "says", "value", "bound", "holds"}
    for card in result["scorecards"].values():
        assert list(card)[:10] == list(METRICS)
        assert all({"value", "unit", "low", "high"} <= set(metric) for metric in card.values())


def test_each_note_is_a_paragraph_of_the_report(tmp_path, monkeypatch):
    def main(config: Any, experiment: Experiment) -> None:
        experiment.note("The first.")
        experiment.note("The second.")

    monkeypatch.setattr(catalog.load(LESSON, "lesson"), "main", main)
    result = run(tmp_path)
    assert result["notes"] == ["The first.", "The second."]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [page.count(f"<p>{note}</p>") for note in result["notes"]] == [1, 1]


def test_the_learners_code_runs_beside_pytorchs(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["mine"]["path"] == "solution.py"
    assert "my AdamW" in result["scorecards"]
    held = {claim["id"]: claim["holds"] for claim in result["claims"]}
    assert held["my-adamw-follows-pytorch"]
    assert held["my-schedule-is-the-rule"]
    with (finished / "metrics.csv").open() as file:
        runs = {row["run"] for row in csv.DictReader(file)}
    assert {"my AdamW", "my clipping", "schedule my warm-up + cosine"} <= runs


def test_the_saved_configuration_runs_again(finished):
    from coursekit.config import parse_yaml

    config = catalog.load(LESSON, "config").Config
    tree = parse_yaml((finished / "config.yaml").read_text(), "config.yaml")
    assert resolve(config, {"quick": tree}) == settings()


def test_a_folder_with_other_settings_is_refused(finished):
    before = (finished / "result.json").read_bytes()
    with pytest.raises(OutputError, match=r"one with a run of the same settings.*Fix: name another folder with --out"):
        run(finished, "target=0.9", submission=LESSON.folder / "solution.py")
    with pytest.raises(OutputError, match="a run of the same settings"):
        run(finished)  # the same settings, but not on the learner's code
    assert (finished / "result.json").read_bytes() == before


def test_a_stopped_run_continues(tmp_path, monkeypatch):
    """Finished trainings are read back, and the result is that of a run that was never stopped."""
    fits: list[str] = []
    original = Experiment.fit

    def fit(self: Experiment, *args: Any, **kwargs: Any) -> Any:
        fits.append(kwargs["label"])
        if len(fits) == 6:
            raise StoppedError(signal.SIGINT)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Experiment, "fit", fit)
    with pytest.raises(StoppedError):
        run(tmp_path / "a")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("last.ckpt")}
    assert len(kept) == 5
    resumed = run(tmp_path / "a")
    straight = run(tmp_path / "b")
    assert [claim["value"] for claim in resumed["claims"]] == [claim["value"] for claim in straight["claims"]]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was trained was not trained again"


@pytest.mark.parametrize(("name", "begins_anew"), [("models.py", True), ("solution.py", False)])
def test_a_run_is_not_continued_by_other_code(name, begins_anew, tmp_path):
    """Every module that the experiments may import counts; the answers to the exercises do not."""
    folder = tmp_path / "lesson"
    shutil.copytree(LESSON.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = experiment_hash(folder)
    (folder / name).write_text("SIZE = 2\n")
    assert (experiment_hash(folder) != before) == begins_anew


def test_a_damaged_manifest_is_not_taken_over(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="a folder that holds another run"):
        run(tmp_path)


def test_stubs_are_noted_and_left_out():
    code = LearnerCode(LESSON.folder / "exercises.py", LESSON)
    assert not code.has("no_such_name")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", r"line 1: valid Python"),
        ("x = 1\nraise KeyError('k')\n", r"line 2: code that runs. Got KeyError: 'k'.*Fix: mend it"),
        ("import no_such_module\n", r"line 1: code that runs. Got ModuleNotFoundError"),
    ],
    ids=["syntax", "raises", "import"],
)
def test_learners_code_that_fails_is_told_by_line(tmp_path, text, words):
    (tmp_path / "exercises.py").write_text(text)
    with pytest.raises(SubmissionError, match=words):
        LearnerCode(tmp_path / "exercises.py", LESSON)


def test_learners_code_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SubmissionError, match="a readable file"):
        LearnerCode(tmp_path / "none.py", LESSON)


def test_learners_code_knows_its_stubs(tmp_path):
    file = tmp_path / "exercises.py"
    file.write_text(
        'def a():\n    """Doc."""\n    raise NotImplementedError("O1")\n'
        "def b():\n    return 1\n"
        "class C:\n    def step(self):\n        raise NotImplementedError\n"
    )
    code = LearnerCode(file, LESSON)
    assert [code.has(name) for name in "abCd"] == [False, True, False, False]
    assert code.b() == 1
    with pytest.raises(SubmissionError, match="a function or class d"):
        code.d()
    with pytest.raises(SubmissionError, match=r"line 3: code that runs"), code.blamed_for_its_errors():
        code.a()
    with pytest.raises(ZeroDivisionError), code.blamed_for_its_errors():
        _ = 1 / 0  # our own fault stays ours


def test_an_error_of_the_learner_in_the_experiment_names_the_line(tmp_path):
    file = tmp_path / "exercises.py"
    file.write_text("def warmup_cosine(step, *, base, min, warmup, total):\n    return base / (step - step)\n")
    with pytest.raises(SubmissionError, match=r"line 2: code that runs. Got ZeroDivisionError"):
        run(tmp_path / "out", submission=file)


# ------------------------------------------------------------------ the parts of an experiment


@pytest.fixture
def figure() -> Callable[[], Any]:
    return lambda: plots.bars({"a": 1.0}, x_label="x (s)", y_label="y", title="T")


def test_claims_say_their_bound(tmp_path):
    experiment = Experiment(tmp_path)
    assert experiment.claim("a", "A.", 3, at_least=3).holds
    assert not experiment.claim("b", "B.", 3, at_most=2).holds
    assert not experiment.claim("c", "C.", float("nan"), at_least=0).holds
    assert [claim.bound for claim in experiment.claims] == [">= 3", "<= 2", ">= 0"]
    with pytest.raises(ArgumentError, match="one of at_least and at_most"):
        experiment.claim("d", "D.", 3)
    with pytest.raises(ArgumentError, match="a claim of its own name"):
        experiment.claim("a", "A.", 3, at_least=3)


def test_figures_are_saved_and_remembered(tmp_path, figure):
    experiment = Experiment(tmp_path)
    saved = experiment.figure("bars", figure(), alt="One bar.")
    assert saved.png == tmp_path / "figures" / "bars.png"
    assert experiment.figures == [saved]
    with pytest.raises(ArgumentError, match="alt of figure"):
        experiment.figure("bars", figure(), alt="")
