"""`coursekit watch`: a verdict soon after every save, whatever an editor does, and a clean end."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coursekit import progress

ROOT = Path(__file__).parent.parent.parent
LESSON = ROOT / "lessons" / "optimization"
PROGRAM = "from coursekit.cli import main; main()"
RIGHT = "return p - lr * g / (v.sqrt() + eps), v"
DONE = r"Save to grade again"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and processes as POSIX has them")


class Watching:
    """A `coursekit watch` in a process of its own, and the file that it watches."""

    def __init__(self, root: Path, *args: str) -> None:
        self.file = root / "lessons" / "optimization" / "exercises.py"
        self.solution = (LESSON / "solution.py").read_text(encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "watch", "optimization", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"COURSEKIT_ROOT": str(root), "OMP_NUM_THREADS": "1"},
        )
        self.text = ""

    def until(self, pattern: str, seconds: float = 60.0) -> str:
        """Return what was printed up to the line that matches; fail when it does not come in time."""
        assert self.process.stdout is not None
        limit = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (found := re.search(f"(?s).*?{pattern}[^\n]*\n", self.text)):
                assert time.monotonic() < limit, self.text
                if selector.select(0.1):
                    more = os.read(self.process.stdout.fileno(), 65536)
                    assert more, self.text
                    self.text += more.decode()
        self.text = self.text[found.end() :]
        return found.group()

    def save(self, new: str, *, by_rename: bool = False) -> None:
        """Save the solution with another last line of O2."""
        text = self.solution.replace(RIGHT, new)
        if by_rename:
            other = self.file.with_suffix(".new")
            other.write_text(text)
            other.replace(self.file)
        else:
            self.file.write_text(text)

    def family(self) -> list[int]:
        """Return the ids of all processes that descend from it."""
        found = [self.process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            found += map(int, children.read_text().split()) if children.exists() else []
        return found[1:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A course of its own, with stubs to fill in."""
    shutil.copytree(
        LESSON, tmp_path / "lessons" / "optimization", ignore=shutil.ignore_patterns("__pycache__", "figures")
    )
    (tmp_path / "lessons" / "__init__.py").touch()
    return tmp_path


@contextmanager
def watching(root: Path, *args: str) -> Iterator[Watching]:
    """Watch, and end it whatever happens."""
    made = Watching(root, *args)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def gone(pids: list[int]) -> bool:
    """Return whether these processes are gone, soon."""
    for _ in range(50):
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not left:
            return True
        time.sleep(0.1)
    return False


def test_a_session(root: Path) -> None:
    """From the stubs to a pass, with mistakes, odd saves and a file that goes away; then Ctrl-C."""
    with watching(root) as session:
        _session(session, root)


def _session(session: Watching, root: Path) -> None:
    first = session.until(DONE)
    assert "O1   sgd_momentum     not attempted" in first
    assert "next to write: O1 sgd_momentum" in first
    assert "since the last save: first look" in first
    assert "\x1b" not in first  # no terminal: nothing is cleared, nothing coloured

    session.save("return p - lr * g / (v.sqrt() + eps) * 1.5, v")
    said = session.until(DONE)
    assert "O2   rmsprop          fail " in said
    assert "O2 rmsprop: not attempted -> fail (+" in said
    assert "asked:     The first step, from v = 0" in said
    assert "hint:      coursekit hint optimization O2" in said

    seed = re.findall(r"seed (\d+)", said)
    started = time.perf_counter()
    session.save(RIGHT, by_rename=True)
    session.until(r"O2 rmsprop: pass, 6/6 \(")  # what was changed comes first
    assert time.perf_counter() - started < 2.0
    said = session.until(DONE)
    assert re.findall(r"seed (\d+)", said) == seed
    assert "since the last save: O2 rmsprop: fail -> pass (+" in said
    assert "score 100 of 100" in said
    assert progress.standings(root)["optimization/rmsprop"].points == 6

    session.file.write_text(session.solution + "\n(")
    assert "'(' was never closed" in session.until(DONE)
    session.file.write_bytes(b"\xff\xfe")
    session.until(r"UTF-8 text\. Got invalid start byte at byte 0\.")
    session.file.unlink()
    session.until(r"exercises\.py is gone; waiting until it is back")
    session.save("return p - lr * g / v.sqrt(), v")
    said = session.until(DONE)
    assert "mistake:   Without eps a zero gradient divides 0 by 0" in said

    family = session.family()
    assert family
    session.process.send_signal(signal.SIGINT)
    session.until("stopped watching; your progress is kept", seconds=10)
    assert session.process.wait(10) == 0
    assert gone(family)
    assert progress.read(root)["optimization/rmsprop"] == "fail"


def test_an_end_from_outside_leaves_no_process(root: Path) -> None:
    shutil.copy(LESSON / "solution.py", root / "lessons" / "optimization" / "exercises.py")
    with watching(root, "--exercise", "O6") as session:
        said = session.until(DONE)
        assert "warmup_cosine" in said
        assert "rmsprop" not in said
        family = session.family()
        session.process.terminate()
        assert session.process.wait(10) == 128 + signal.SIGTERM
        assert gone(family)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--exercise", "O99"], "an exercise that exists. Got 'O99'."),
        (["--submission", "nowhere.py"], "nowhere.py: a readable file. Got no such file or directory."),
        (["--isolation", "none"], "Invalid value for '--isolation'"),
    ],
    ids=["exercise", "file", "isolation"],
)
def test_what_cannot_be_watched_is_told(root: Path, args: list[str], words: str) -> None:
    with watching(root, *args) as session:
        out, _ = session.process.communicate(timeout=60)
    assert session.process.returncode == 2
    assert words in " ".join(out.decode().split())
    assert "Traceback" not in out.decode()
