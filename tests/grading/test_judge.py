"""The judge's verdicts on made-up submissions, in this process."""

from __future__ import annotations

import random
import time
import warnings

import pytest
import torch

from coursekit.errors import LessonError
from coursekit.grading.judge import Judge
from coursekit.grading.values import Opaque

from .conftest import CHECKS, RIGHT_AVERAGE, RIGHT_DOUBLE, SOLUTION, TOML

FOUR_CHECKS = '''
@pytest.mark.exercise("double")
@pytest.mark.parametrize("value", [1.0, 2.0, 3.0, 4.0])
def test_value(learner, rng, value):
    """One value doubles."""
    close(learner.double(value), 2 * value, where="double(x)")
'''
STUB = 'def double(x):\n    raise NotImplementedError("T1: write double")\n'


@pytest.mark.parametrize(
    ("text", "verdict", "points", "words"),
    [
        pytest.param(RIGHT_DOUBLE, "pass", 4, "2 checks passed", id="right"),
        pytest.param(STUB, "not attempted", 0, "double: still to be written", id="stub"),
        pytest.param("x = 1", "fail", 0, "mine.py defines no `double`", id="missing-name"),
        pytest.param("def double(x):\n    return 3 * x", "fail", 0, "expected 6, got 9", id="wrong"),
        pytest.param("def double(x):\n    return None", "fail", 0, "a tensor of shape (1,), got None", id="none"),
        pytest.param("def double(x):\n    return 0 * x", "fail", 0, "expected 6, got 0", id="zeros"),
        pytest.param("def double(x):\n    return x / 0 * 0", "fail", 0, "expected 6, got nan", id="nan"),
        pytest.param("def double(x):\n    return x[:0]", "fail", 0, "expected shape (1,), got (0,)", id="empty"),
        pytest.param("def double(x):\n    return (2 * x)[None]", "fail", 0, "(1,), got (1, 1)", id="broadcastable"),
        pytest.param(
            "def double(x):\n    return (2 * x).double()", "fail", 3, "dtype float32, got float64", id="dtype"
        ),
        pytest.param("def double(x):\n    return (2 * x).tolist()", "fail", 0, "got a list of 1", id="list"),
        pytest.param("def double(x):\n    return (2 * x).numpy()", "fail", 0, "got numpy.ndarray", id="numpy"),
        pytest.param("def double(x):\n    return x / 0 if x > y else x", "fail", 0, "NameError", id="raises"),
        pytest.param("def double():\n    return 1", "fail", 0, "takes 0 positional", id="signature"),
        pytest.param("import sys\ndef double(x):\n    sys.exit(0)", "fail", 0, "asked Python to exit", id="exit"),
        pytest.param("import pytest\ndef double(x):\n    pytest.skip()", "fail", 0, "Skipped", id="skips-itself"),
        pytest.param(
            "import torch\ndef double(x):\n    return torch.add(x, x)", "fail", 0, "torch.add", id="forbidden"
        ),
        pytest.param(
            "from torch import add\ndef double(x):\n    return add(x, x)", "fail", 0, "torch.add", id="imported"
        ),
        pytest.param("def double(x):\n    return (", "fail", 0, "mine.py, line 2: '(' was never closed", id="syntax"),
        pytest.param("def double(x):\n    return x * 2 \x00", "fail", 0, "null bytes", id="null-byte"),
    ],
)
def test_verdicts(graded, text, verdict, points, words):
    """Each kind of submission gets its own verdict, its points, and a message that says why."""
    report = graded(text).report()
    assert (report.verdict, report.points, report.max_points) == (verdict, points, 4)
    assert words in report.message


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "while True: x = x * 1",
        "while True:\n        try: x = x * 1\n        except Exception: pass",
        "try:\n        while True: pass\n    except BaseException: return 2 * x",
        "while True:\n        try: x = double.__call__\n        except: pass",
    ],
    ids=["python", "torch", "catching", "swallowing", "swallowing-all"],
)
def test_an_endless_loop_is_a_timeout(course, graded, body):
    course.hurry()
    report = graded(f"def double(x):\n    {body}").report()
    assert (report.verdict, report.points) == ("timeout", 0)
    assert "your code ran for 0.25 s without an answer; does a loop never end?" in report.message


def test_after_two_timeouts_the_rest_of_an_exercise_is_not_run(course, graded):
    course.hurry()
    course.write("test_exercises.py", CHECKS.partition("@pytest.mark")[0] + FOUR_CHECKS)
    found = graded("def double(x):\n    while True: pass").results()
    assert [result.verdict for result in found] == ["timeout"] * 4
    assert [result.seconds > 0.2 for result in found] == [True, True, False, False]
    assert "not run: 2 checks of this exercise took too long or crashed already" in found[2].message


def test_messages_name_what_was_asked_given_expected_and_got(graded):
    message = graded("def double(x):\n    return 3 * x").report().message
    assert message.splitlines() == [
        "asked:     One number doubles.",
        "with:      double(tensor([3]))",
        "expected:  tensor([6])",
        "got:       tensor([9])",
        "because:   double(x): at [0] expected 6, got 9; the error 3 is more than 6e-05",
    ]


def test_an_error_names_file_line_and_text(graded):
    report = graded("def double(x):\n    y = 1\n    return y / 0").report()
    assert "because:   ZeroDivisionError: division by zero" in report.message
    assert "your line: mine.py, line 3: `return y / 0`" in report.message
    assert "Traceback" not in report.message


def test_partial_credit_follows_the_weights(graded):
    """The first check weighs 1, the second 3, of 4 points."""
    report = graded("def double(x):\n    return (2 * x.double()).to(x.dtype) if len(x) < 2 else 2 * x.float()").report()
    assert (report.verdict, report.points) == ("fail", 1)


def test_a_changed_argument_costs_one_check(graded):
    graded = graded("def double(x):\n    return x.mul_(2)")
    assert [result.verdict for result in graded.results()] == ["fail", "pass"]
    assert "changed the caller's tensor in place: double changed argument 1" in graded.report().message
    assert graded.report().diagnosis.id == "writes"


def test_one_exercise_does_not_hide_another(course, graded):
    """A loop, a missing name or a broken statement in one exercise leaves the other alone."""
    course.hurry()
    broken = "import no_such_module\nclass Broken(Undefined): pass\nreturn 1\ndef double(x):\n    while True: pass"
    graded = graded(broken, RIGHT_AVERAGE)
    assert graded.report("double").verdict == "timeout"
    assert graded.report("average").verdict == "pass"


def test_a_statement_that_failed_is_told(graded):
    report = graded("import no_such_module\ndef double(x):\n    return no_such_module.twice(x)").report()
    assert "NameError: name 'no_such_module' is not defined" in report.message
    assert (
        "mine.py, line 1: `import no_such_module` failed when the file was loaded: ModuleNotFoundError"
        in report.message
    )


def test_a_file_without_end_is_executed_once(course, graded):
    course.hurry()
    graded = graded(RIGHT_DOUBLE, "while True: pass")
    assert graded.report("double").verdict == "timeout"
    assert "does not come to its end" in graded.report("double").message
    started = time.monotonic()
    assert graded.report("average").verdict == "timeout"
    assert time.monotonic() - started < 0.2


def test_a_file_that_exits_when_loaded_is_graded_on(graded):
    assert graded("raise SystemExit(0)", RIGHT_DOUBLE).report().verdict == "pass"


def test_global_state_is_restored_and_not_shared(graded):
    """One exercise's globals, dtype, grad mode, seeds and threads do not reach the next, or us."""
    state = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    generators = torch.get_rng_state(), random.getstate()
    graded = graded(
        """
        import random, torch
        seen = []
        def double(x):
            seen.append(1)
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            torch.manual_seed(0)
            random.seed(0)
            return 2 * x
        def average(x, eps=0.0):
            assert not seen and torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()
            return x.mean()
        """
    )
    assert [graded.report(name).verdict for name in ("double", "average")] == ["pass", "pass"]
    assert state == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1] == random.getstate()


def test_exercises_run_on_one_thread(graded):
    """And what was set before is set again."""
    torch.set_num_threads(2)
    try:
        text = "import torch\ndef double(x):\n    return 2 * x if torch.get_num_threads() == 1 else x"
        assert graded(text).report().verdict == "pass"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_noise_and_warnings_are_no_failure(graded, capsys):
    """Nor is a syntax warning at compile time; the project turns warnings into errors."""
    graded = graded(
        r"""
        import sys, warnings
        pattern = "\d"
        def double(x):
            print("hello", file=sys.stderr)
            warnings.warn("careful", DeprecationWarning)
            return 2 * x
        """
    )
    assert graded.report().verdict == "pass"
    assert "hello" in capsys.readouterr().err
    with pytest.raises(UserWarning):
        warnings.warn("ours still counts", stacklevel=1)


def test_a_subclass_that_lies_is_read_as_what_it_is(graded):
    report = graded(
        """
        import torch
        class Liar(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                return True
            def __eq__(self, other): return True
        def double(x):
            return (0 * x).as_subclass(Liar)
        """
    ).report()
    assert report.verdict == "fail"
    assert "expected 6, got 0" in report.message


def test_an_object_equal_to_everything_fails(graded):
    text = "class Yes:\n    def __eq__(self, other): return True\ndef double(x):\n    return Yes()"
    assert "got exercises.Yes" in graded(text).report().message


def test_a_dialect_passes_with_its_note(graded):
    report = graded("def average(x, eps=0.0):\n    return x.sum() / (len(x) - 1)").report("average")
    assert (report.verdict, report.points) == ("pass with note", 2)
    assert report.message == "Divided by n - 1: the unbiased kind."
    assert report.to_json()["diagnosis"] == {"id": "unbiased", "says": "Divided by n - 1: the unbiased kind."}


def test_a_mistake_is_named_in_other_words(graded):
    report = graded("def double(x):\n    return x ** 2").report()
    assert (report.verdict, report.diagnosis.id) == ("fail", "squares")


def test_an_unknown_mistake_has_no_name_but_its_regime(graded):
    report = graded("def double(x):\n    return 5 * x").report()
    assert report.diagnosis is None
    assert "asked:     One number doubles." in report.message


def test_an_odd_result_is_the_learners_fault(course, graded):
    """A check that trips over the learner's result is no broken check: the reference passes it."""
    course.write(
        "test_exercises.py",
        '''
        import pytest, torch
        from coursekit.grading import close

        @pytest.mark.exercise("average")
        def test_average(learner, rng):
            """The average, doubled."""
            close(learner.average(torch.ones(3)) * 2.0, torch.tensor(2.0), where="2 average(x)")
        ''',
    )
    report = graded("def average(x, eps=0.0):\n    return None").report("average")
    assert report.verdict == "fail"
    assert "average: expected a tensor of shape (), got None" in report.message


@pytest.mark.parametrize(
    "body",
    ["close(learner.double(x), 3 * x, where='x')", "learner.double(x)[7]", "learner.double(x) and undefined", "1 / 0"],
    ids=["refuses-the-reference", "index", "name", "before-any-call"],
)
def test_a_broken_check_is_our_fault_and_costs_nothing(course, graded, body):
    course.write(
        "test_exercises.py",
        f'''
        import pytest, torch
        from coursekit.grading import close

        @pytest.mark.exercise("double")
        def test_one(learner, rng):
            """One number doubles."""
            x = torch.tensor([3.0])
            close(learner.double(x), 2 * x, where="double(x)")

        @pytest.mark.exercise("double")
        def test_broken(learner, rng):
            """Something."""
            x = torch.ones(2)
            {body}
        ''',
    )
    right = graded(RIGHT_DOUBLE).report()
    assert (right.verdict, right.points) == ("grader error", 4)
    assert "test_broken is broken, which is our fault" in right.message
    wrong = graded("def double(x):\n    return 3 * x.abs() + 1").report()
    assert wrong.verdict == "fail"
    assert graded(STUB).report().points == 0


def test_a_forbidden_name_that_does_not_exist_is_our_fault(course, graded):
    course.write("lesson.toml", TOML.replace("torch.add", "torch.nothing"))
    report = graded(RIGHT_DOUBLE).report()
    assert (report.verdict, report.points) == ("grader error", 4)
    assert "forbids: names that exist. Got torch.nothing" in report.message


def test_wrong_answers_that_cannot_be_imported_are_named(course):
    course.write("wrong_answers.py", "1 / 0")
    with pytest.raises(LessonError, match=r"wrong_answers.py: a file that can be imported. Got ZeroDivisionError"):
        Judge(course.lesson, (), 0)


def test_a_check_that_never_runs_the_code_is_broken(course, graded):
    course.write(
        "test_exercises.py",
        '''
        import pytest

        @pytest.mark.exercise("double")
        def test_nothing(learner, rng):
            """Nothing."""
        ''',
    )
    assert graded(RIGHT_DOUBLE).report().verdict == "grader error"


def test_a_skipped_check_is_no_pass(course, graded):
    """What could not be checked here neither earns nor costs points."""
    course.write(
        "test_exercises.py",
        '''
        import pytest, torch
        from coursekit.grading import close

        @pytest.mark.exercise("average")
        def test_average(learner, rng):
            """On a GPU."""
            pytest.skip("it needs a CUDA device")

        @pytest.mark.exercise("double")
        @pytest.mark.skipif(True, reason="it needs a CUDA device")
        def test_on_gpu(learner, rng):
            """On a GPU."""

        @pytest.mark.exercise("double")
        def test_one(learner, rng):
            """One number doubles."""
            x = torch.tensor([3.0])
            close(learner.double(x), 2 * x, where="double(x)")
        ''',
    )
    graded = graded(RIGHT_DOUBLE, RIGHT_AVERAGE)
    assert (graded.report().verdict, graded.report().points) == ("pass", 4)
    skipped = graded.report("average")
    assert (skipped.verdict, skipped.points, skipped.max_points) == ("skipped", 0, 0)
    assert skipped.message == "it needs a CUDA device."


def test_without_a_solution_all_is_graded_and_nothing_named(course, graded):
    """A bundle for students holds neither solution nor wrong answers."""
    for name in ("solution", "wrong_answers", "alternatives"):
        (course.folder / f"{name}.py").unlink()
    assert graded(RIGHT_DOUBLE).report().verdict == "pass"
    report = graded("def double(x):\n    return x * x").report()
    assert (report.verdict, report.diagnosis) == ("fail", None)


def test_a_probe_that_swallows_the_stubs_error(course, graded):
    """A stub is known by its text too."""
    course.write(
        "probes.py",
        '''
        def in_a_tuple(code, x):
            """Return the average, or the name of the error."""
            try:
                return (code.average(x),)
            except Exception as error:
                return (type(error).__name__,)
        ''',
    )
    assert graded('def average(x, eps=0.0):\n    """Doc."""\n    raise NotImplementedError').report(
        "average"
    ).verdict == ("not attempted")


@pytest.mark.parametrize("words", ["", "# torch.optim"], ids=["without", "with"])
def test_what_optimizers_import_is_imported_before_the_time_counts(course, monkeypatch, words):
    imported = []
    monkeypatch.setattr("coursekit.grading.judge.importlib.import_module", imported.append)
    course.write("probes.py", words)
    (course.folder / "wrong_answers.py").unlink()
    (course.folder / "alternatives.py").unlink()
    Judge(course.lesson, (), 0)
    assert imported == (["torch._dynamo"] if words else [])


def test_inputs_follow_the_seed(graded):
    first, again, other = (_input(graded("def double(x):\n    return 2 * x", seed=seed), 1) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def _input(found, check: int) -> torch.Tensor:
    """Return what the learner's function was given in a check of the exercise."""
    checks = found.judge.checks(found.judge.lesson.exercise("double"))
    return found.judge.attempt(found.learner, checks[check]).trace[0].request.args[0]


def test_a_checks_own_random_numbers_follow_the_seed_too(course, graded):
    """Even those that it draws without `rng`."""
    course.write(
        "test_exercises.py",
        '''
        import pytest, torch
        from coursekit.grading import close

        @pytest.mark.exercise("double")
        def test_one(learner, rng):
            """One number doubles."""
            x = torch.rand(1)
            close(learner.double(x), 2 * x, where="double(x)")
        ''',
    )
    state = torch.get_rng_state()
    first, again, other = (_input(graded("def double(x):\n    return x", seed=seed), 0) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(state, torch.get_rng_state())


def test_opaque_values_are_never_true():
    with pytest.raises(TypeError, match="Yes is neither true nor false here"):
        bool(Opaque("Yes"))


def test_a_reference_that_takes_too_long_excuses_nobody(course, graded):
    """Else a learner whose processes keep the machine busy would be paid for what they broke."""
    course.hurry()
    course.write("solution.py", SOLUTION.replace("return 2 * x", "while True: pass"))
    report = graded("def double(x):\n    return 3 * x").report()
    assert (report.verdict, report.points) == ("fail", 0)
