"""Where attacks are tried: a lesson of four exercises, one warm grader, and canaries that tell what was touched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.grading.grader import Grader
from coursekit.grading.verdicts import LessonReport
from coursekit.grading.worker.family import descendants

from ..conftest import forget_lessons
from .attack import POINTS, RIGHT, Attack

GRACE = 15.0  # seconds by which a machine under load may be late
_FIRST_USER = 1_879_048_192  # of the workers, where the judge is root

TOML = """
title = "Vault"
order = 1
minutes = 5
goal = "Stay whole while somebody tries hard."
"""
_EXERCISE = """
[[exercises]]
id = "{id}"
code = "V{number}"
title = "Exercise {id}"
names = ["{name}"]
points = {points}
difficulty = 1
minutes = 1
seconds = {seconds}
hints = ["one", "two", "three"]
source = "arithmetic"
explanation = "What is asked for is written in the docstring."
forbids = {forbids}
"""
_NAMES = {"double": "double", "average": "average", "adamw": "adamw_step", "attend": "attend"}
_FORBIDS = {
    "adamw": [
        "torch.optim.Adam", "torch.optim.AdamW", "torch.optim.adam.adam", "torch.optim.adamw.adamw",
        "torch._fused_adamw_", "torch._fused_adam_",
    ],
    "attend": [
        "torch.nn.functional.scaled_dot_product_attention", "torch.ops.aten._scaled_dot_product_attention_math",
    ],
}  # fmt: skip
CHECKS = '''
import pytest
import torch

from coursekit.grading import close
from lessons.vault import probes


@pytest.mark.exercise("double")
def test_one(learner, rng):
    """One number doubles."""
    x = 1 + torch.rand(1, generator=rng)
    close(learner.double(x), 2 * x, where="double(x)")


@pytest.mark.exercise("double")
def test_many(learner, rng):
    """Many numbers double, in float64 too."""
    x = 1 + torch.rand(4, generator=rng, dtype=torch.float64)
    close(learner.double(x), 2 * x, where="double(x)")


@pytest.mark.exercise("average")
def test_average(learner, rng):
    """The average of some numbers, three times."""
    for _ in range(3):
        x = 1 + torch.rand(3, generator=rng)
        got = learner.run(probes.in_a_tuple, x=x)
        close(got[0], x.mean(), where="average(x)")


@pytest.mark.exercise("adamw")
def test_adamw(learner, rng):
    """One step from any state follows the rule."""
    p, g, m = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    v = torch.rand(4, generator=rng, dtype=torch.float64)
    weight = torch.nn.Parameter(p.clone())
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    optimizer.state[weight] = {"step": torch.tensor(4.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    weight.grad = g
    optimizer.step()
    state = optimizer.state[weight]
    got = learner.adamw_step(p, g, m, v, 5, 0.1)
    close(got, (weight.detach(), state["exp_avg"], state["exp_avg_sq"]), where="(p, m, v)")


@pytest.mark.exercise("attend")
def test_attend(learner, rng):
    """Attention over five steps."""
    q, k, v = torch.randn(3, 5, 4, generator=rng, dtype=torch.float64)
    close(learner.attend(q, k, v), (q @ k.mT / 2).softmax(-1) @ v, where="attend(q, k, v)")
'''
PROBES = '''
import torch


def in_a_tuple(code, x):
    """Return the average and its type."""
    got = code.average(x)
    return got, type(got).__name__
'''
ALTERNATIVES = """
from coursekit.grading.answers import alternative


@alternative("double", says="a product")
def by_doubling(x):
    return x * 2
"""
WRONG = """
from coursekit.grading.answers import wrong


@wrong("double", says="You squared.")
def squares(x):
    return x * x
"""


class Canaries:
    """Files, variables and sockets that nobody may touch or tell of."""

    def __init__(self, folder: Path) -> None:
        self.tokens = {kind: f"token-{kind}-{secrets.token_hex(8)}" for kind in ("env", "file", "reference", "student")}
        self.folder, self.home, self.students = folder, folder / "home", folder / "students"
        self._stack = contextlib.ExitStack()
        for made in (self.home, self.students, self.home / ".ssh", folder / "temporary"):
            made.mkdir()
        self.tmp, self.shm = (self._temporary(place) for place in ("/tmp", "/dev/shm"))
        (self.home / "canary").write_text(self.tokens["file"])
        (self.home / ".netrc").write_text(f"password {self.tokens['file']}")
        (self.home / ".ssh" / "id_ed25519").write_text(self.tokens["file"])
        alice = f"# {self.tokens['student']}\n{RIGHT['double']}\n{RIGHT['average']}"
        (self.students / "alice.py").write_text(alice)
        (self.students / "gradebook.csv").write_text(f"alice,6,{self.tokens['student']}\n")
        self.reached: list[str] = []
        self.path = folder / "listening"
        self.abstract = f"coursekit-{secrets.token_hex(8)}"
        self.tcp = self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.udp = self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(self.path))
        if sys.platform == "linux":
            self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}")

    def close(self) -> None:
        self._stack.close()

    def state(self, *folders: Path) -> dict[str, tuple[object, ...]]:
        """Return content, rights and time of every file that may not change."""
        found: dict[str, tuple[object, ...]] = {str(self.folder): tuple(sorted(os.listdir(self.folder)))}
        for top in (self.home, self.students, *folders):
            for place, _, names in os.walk(top):
                if "__pycache__" not in place:
                    found.update((name, _look(Path(name))) for name in [place, *(f"{place}/{name}" for name in names)])
        found.update((str(name), _look(name)) for name in (self.tmp, self.shm) if name is not None)
        return found

    def _temporary(self, place: str) -> Path | None:
        if not os.access(place, os.W_OK):
            return None
        descriptor, name = tempfile.mkstemp(dir=place, prefix="coursekit-canary-")
        os.write(descriptor, self.tokens["file"].encode())
        os.close(descriptor)
        os.chmod(name, 0o644)
        self._stack.callback(lambda: Path(name).unlink(missing_ok=True))
        return Path(name)

    def _listen(self, family: int, kind: int, address: object) -> int:
        made = self._stack.enter_context(socket.socket(family, kind))
        made.bind(address)  # pyright: ignore[reportArgumentType]
        made.settimeout(0.5)
        if kind == socket.SOCK_STREAM:
            made.listen()

        def wait() -> None:
            while made.fileno() >= 0:
                try:
                    came = made.accept()[0].close() if kind == socket.SOCK_STREAM else made.recvfrom(100)[0]
                    self.reached.append(f"{made.family.name} {made.type.name}: {came}")
                except TimeoutError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        name = made.getsockname()
        return name[1] if isinstance(name, tuple) else 0


def _look(name: Path) -> tuple[object, ...]:
    try:
        seen = name.lstat()
    except OSError:
        return ("gone",)
    content = hashlib.sha256(name.read_bytes()).hexdigest() if stat.S_ISREG(seen.st_mode) else ""
    return content, stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_mtime_ns


class Arena:
    """One course, one grader, and the canaries around them.

    Args:
        folder: an empty one, which other users may read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canaries = Canaries(folder)
        self.course = folder / "course"
        self.lesson_folder = self.course / "lessons" / "vault"
        self.lesson_folder.mkdir(parents=True)
        solution = "import torch\n" + "\n\n".join(RIGHT.values()) + f"\n# {self.canaries.tokens['reference']}\n"
        files = {"probes": PROBES, "solution": solution, "test_exercises": CHECKS}
        files |= {"alternatives": ALTERNATIVES, "wrong_answers": WRONG, "__init__": "", "../__init__": ""}
        for name, text in files.items():
            (self.lesson_folder / f"{name}.py").write_text(text)
        parts = [
            _EXERCISE.format(
                id=one,
                number=number,
                name=_NAMES[one],
                points=POINTS[one],
                seconds=1 if one == "double" else 3,
                forbids=json.dumps(_FORBIDS.get(one, [])),
            )
            for number, one in enumerate(POINTS, start=1)
        ]
        (self.lesson_folder / "lesson.toml").write_text(TOML + "".join(parts))
        self.mark = f"coursekit-mark-{secrets.token_hex(6)}"
        # Places that attacks write to lie inside of the folder, lest they do harm where little is refused.
        self.places = {
            "folder": str(folder),
            "course": str(self.course),
            "home": str(self.canaries.home),
            "students": str(self.canaries.students),
            "tmp": str(self.canaries.tmp),
            "shm": str(self.canaries.shm),
            "tcp": str(self.canaries.tcp),
            "udp": str(self.canaries.udp),
            "unix": str(self.canaries.path),
            "abstract": self.canaries.abstract,
            "judge": str(os.getpid()),
            "mark": self.mark,
        }
        self.submission = folder / "mallory.py"
        for made in (folder, *folder.rglob("*")):
            made.chmod(0o755 if made.is_dir() else 0o644)
        self.lesson = catalog.lesson("vault")
        self.grader = Grader(self.lesson)
        # Reading the checks leaves compiled files; from here on, nothing may change.
        self._grade(RIGHT["double"] + "\n" + RIGHT["average"], {"double", "average"})
        self._before = self.canaries.state(self.course)

    def close(self) -> None:
        self.grader.close()
        self.canaries.close()

    def attack(self, attack: Attack) -> tuple[LessonReport, float]:
        """Grade an attack's file; return the report, and the seconds that it took."""
        started = time.monotonic()
        report = self._grade(attack.text(self.places), {attack.victim, attack.others})
        return report, time.monotonic() - started

    def faults(self, attack: Attack, *, hidden: bool = True, alone: bool = True) -> list[str]:
        """Grade an attack, then honest work; return all that is not as it must be, in words.

        Args:
            attack: from the catalogue.
            hidden: whether files are out of the workers' sight.
            alone: whether other processes are out of their reach.
        """
        report, seconds = self.attack(attack)
        found = {one.id: one for one in report.exercises}
        victim, neighbour = found[attack.victim], found[attack.others]
        faults = []
        if victim.verdict not in attack.verdicts:
            faults.append(f"verdict {victim.verdict}: {victim.message}")
        if victim.points != attack.points:
            faults.append(f"{victim.points:g} points instead of {attack.points:g}")
        if neighbour.verdict not in attack.neighbour:
            faults.append(f"the exercise beside it: {neighbour.verdict}: {neighbour.message}")
        if seconds > attack.seconds + GRACE:
            faults.append(f"it took {seconds:.1f} s")
        if attack.flagged and not any(attack.flagged in flag for flag in report.flags):
            faults.append(f"nobody is told of {attack.flagged}")
        faults += [f"left behind: {one}" for one in self.left()] if alone else []
        faults += [f"touched: {one}" for one in self.touched()] if hidden else []
        faults += [f"told: {one}" for one in self.told(report)] if hidden else []
        faults += [f"unclean: {one}" for one in unclean(report)]
        after = self.honest()
        if after.score != POINTS["double"] + POINTS["average"]:
            faults.append(f"honest work afterwards: {[(one.verdict, one.message) for one in after.exercises]}")
        return faults

    def honest(self) -> LessonReport:
        """Grade right work."""
        return self._grade(RIGHT["double"] + "\n" + RIGHT["average"], {"double", "average"})

    def left(self) -> list[str]:
        """Return what is still there of workers that have ended; wait a little for it to go."""
        end = time.monotonic() + 15
        while (found := list(self._processes())) and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def touched(self) -> list[str]:
        """Return the canaries that are not as they were."""
        now = self.canaries.state(self.course)
        changed = [name for name in {**self._before, **now} if self._before.get(name) != now.get(name)]
        return changed + self.canaries.reached

    def told(self, report: LessonReport) -> list[str]:
        """Return the secrets that stand in a report."""
        text = json.dumps(report.to_json()) + str(report.flags)
        return [kind for kind, token in self.canaries.tokens.items() if token in text]

    def _grade(self, text: str, only: set[str]) -> LessonReport:
        self.submission.write_bytes(text.encode())
        return self.grader.grade(self.submission, only=only)

    def _processes(self) -> Iterator[str]:
        warm = self.grader._benches._warm
        process = warm._process if warm else None
        if warm is None or process is None:
            return
        spare = {process.pid, *descendants(process.pid)}
        # A spare worker and its supervisor.
        if len(spare) > 3:
            yield f"{len(spare) - 3} processes below the warm one"
        warm._clear(wait=0.0)
        folders = [place.name for place in (self.folder / "temporary").glob("coursekit-*")]
        if len(folders) > 1:  # that of the spare worker, where it has no /tmp of its own
            yield f"folders {folders}"
        for folder in Path("/proc").glob("[0-9]*"):
            number = int(folder.name)
            if number in spare or number == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = str(self.folder) in words and re.search(r"worker|probes", words)
                if self.mark in words or ours:
                    yield f"{number}: {words[:200]}"


def unclean(report: LessonReport) -> list[str]:
    """Return the control and direction characters that stand in what a terminal will show."""
    shown = [line for one in report.exercises for line in (one.message, *report.flags)]
    return [repr(char) for text in shown for char in text if not (char.isprintable() or char == "\n")]


@contextlib.contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """Build an arena, with the environment that it needs, and take it down."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lessons"}
    path = list(sys.path)
    forget_lessons()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSEKIT_ROOT", str(folder / "course"))
        patch.setenv("HOME", str(folder / "home"))
        patch.setattr(tempfile, "tempdir", str(folder / "temporary"))
        sys.path.insert(0, str(folder / "course"))
        made = None
        try:
            made = Arena(folder)
            patch.setenv("SECRET_TOKEN", made.canaries.tokens["env"])
            yield made
        finally:
            if made is not None:
                made.close()
            shutil.rmtree(folder, ignore_errors=True)
            forget_lessons()
            sys.modules.update(kept)
            sys.path[:] = path
