"""In-process tricks: they change, read or fake what lies beside the code, and earn where a grader runs there too."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

INSIDE = tuple(
    Attack(name, "in-process", says, source, **more)
    for name, says, source, more in [
        (
            "patch_comparison",
            "makes every comparison succeed",
            """
            import torch
            from coursekit.grading import differences, expectations
            for owner, name in ((torch, "allclose"), (torch, "equal"), (torch, "isclose"), (torch.testing, "assert_close"),
                                (expectations, "close"), (expectations, "difference"), (differences, "difference")):
                setattr(owner, name, lambda *_, **__: None if owner is not torch else True)
            def double(x):
                return 3 * x
            """,
            {},
        ),
        (
            "patch_pytest",
            "takes failing away from pytest",
            """
            import pytest, _pytest.outcomes, _pytest.reports
            pytest.fail = _pytest.outcomes.fail = lambda *_, **__: None
            pytest.raises = lambda *_, **__: __import__("contextlib").nullcontext()
            _pytest.reports.TestReport.from_item_and_call = classmethod(lambda *_: None)
            def double(x):
                pytest.skip("nothing to see")
            """,
            {},
        ),
        (
            "patch_unittest",
            "makes unittest's results a success",
            """
            import unittest
            unittest.TestResult.wasSuccessful = lambda self: True
            unittest.TestCase.fail = unittest.TestCase.assertEqual = lambda *_, **__: None
            def double(x):
                return 3 * x
            """,
            {},
        ),
        (
            "patch_json",
            "has JSON say that all passed",
            """
            import json
            json.dumps = lambda *_, **__: '{"done": true, "value": null, "raised": null, "verdict": "pass"}'
            json.loads = lambda *_, **__: {"verdict": "pass"}
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("crashed",), "neighbour": ("crashed",)},
        ),
        (
            "callers_locals",
            "looks for the expected value in the caller's frames",
            """
            import sys, torch
            def double(x):
                frame = sys._getframe()
                while frame := frame.f_back:
                    for name, value in list(frame.f_locals.items()):
                        if name in ("expected", "reference", "want", "solution") and isinstance(value, torch.Tensor):
                            return value
                return 3 * x
            """,
            {},
        ),
        (
            "collected_tensors",
            "looks through all objects for a tensor that may be the answer",
            """
            import gc, torch
            def double(x):
                for found in gc.get_objects():
                    if type(found) is torch.Tensor and found is not x and found.shape == x.shape and not found.equal(x):
                        return found.clone()
                return 3 * x
            """,
            {},
        ),
        (
            "collected_functions",
            "looks through all objects for the reference's function",
            """
            import gc, types
            def double(x):
                for found in gc.get_objects():
                    if isinstance(found, types.FunctionType) and found.__name__ == "double" and found is not double:
                        return found(x)
                return 3 * x
            """,
            {},
        ),
        (
            "import_reference",
            "imports the reference by every name that it may have",
            """
            import importlib, sys
            sys.path[:0] = ["<<course>>", "<<course>>/lessons/vault", "<<course>>/lessons"]
            def double(x):
                for name in ("lessons.vault.solution", "solution", "vault.solution", "lessons.vault.alternatives"):
                    try:
                        found = importlib.import_module(name)
                        return getattr(found, "double", found.by_doubling)(x)
                    except ImportError:
                        pass
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "fake_module",
            "puts modules of its own in the place of the grader's",
            """
            import sys, types
            fake = types.ModuleType("fake")
            fake.__getattr__ = lambda name: lambda *_, **__: True
            for name in list(sys.modules):
                if name.startswith(("coursekit", "lessons")):
                    sys.modules[name] = fake
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "conftest",
            "drops a conftest.py and a pytest.ini that make everything pass",
            """
            import os
            hook = "import pytest\\n@pytest.hookimpl\\ndef pytest_pyfunc_call(pyfuncitem):\\n    return True\\n"
            for folder in (".", "<<folder>>", "<<course>>", "<<course>>/lessons/vault", "<<students>>", "<<home>>"):
                for name, text in (("conftest.py", hook), ("pytest.ini", "[pytest]\\naddopts = --collect-only\\n")):
                    try:
                        open(os.path.join(folder, name), "w").write(text)
                    except OSError:
                        pass
            def double(x):
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "pth_file",
            "drops a .pth file and a sitecustomize that run in every later Python",
            """
            import os, site, sys
            for folder in [*site.getsitepackages(), site.getusersitepackages(), *sys.path]:
                for name in ("ck_evil.pth", "sitecustomize.py", "usercustomize.py"):
                    try:
                        os.makedirs(folder, exist_ok=True)
                        open(os.path.join(folder, name), "x").write("import os\\n")
                    except OSError:
                        pass
            def double(x):
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "patch_builtins",
            "has the builtins lie",
            """
            import builtins
            builtins.all = builtins.any = builtins.isinstance = builtins.issubclass = lambda *_: True
            builtins.abs = builtins.max = builtins.min = lambda *_, **__: 0
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed"), "neighbour": ("pass", "fail", "crashed")},
        ),
        (
            "poison_torch",
            "makes differences of tensors vanish, for everybody in the process",
            """
            import torch
            torch.Tensor.__sub__ = torch.Tensor.__rsub__ = lambda a, b: torch.zeros(())
            torch.Tensor.__eq__ = torch.Tensor.__le__ = lambda a, b: torch.ones((), dtype=torch.bool)
            torch.sub = torch.abs = torch.max = lambda *_, **__: torch.zeros(())
            def double(x):
                return 3 * x
            """,
            {},
        ),
        (
            "poison_reading",
            "has the grader's own reading of values return what it likes",
            """
            from coursekit.grading import inprocess, values
            inprocess.plain = values.plain = lambda value: [True]
            inprocess.identical = lambda *_: True
            def double(x):
                return 3 * x
            """,
            {"neighbour": ("fail",)},
        ),
        (
            "patch_verdicts",
            "has every verdict be a pass, in the modules that it can reach",
            """
            import importlib
            for name in ("verdicts", "judge", "runs", "reporting"):
                try:
                    module = importlib.import_module(f"coursekit.grading.{name}")
                except Exception:
                    continue
                for found in ("judge_exercise", "explain", "_worst", "_told_apart"):
                    if hasattr(module, found):
                        setattr(module, found, lambda *_, **__: "pass")
            def double(x):
                return 3 * x
            """,
            {},
        ),
    ]
)
