"""What hostile and careless files of answers come to: no point that was not earned, and nothing else disturbed.

The attacks stand in `attacks/`, one file for each family. One grader, at the best level that this machine offers, takes
them one after the other, with honest work after each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from coursekit.errors import SubmissionError
from coursekit.grading.isolation import CONFINED

from .attacks import CATALOGUE, Attack
from .attacks.arena import Arena, arena

pytestmark = pytest.mark.skipif(os.name != "posix", reason="submissions are confined on systems that can fork")
COUNTS = {
    "exit": 13,
    "in-process": 15,
    "values": 35,
    "secrets": 15,
    "denial": 33,
    "honest": 25,
    "shortcut": 25,
    "collector": 7,  # and six files that cannot be graded at all
    "unforeseen": 44,
}


@pytest.fixture(scope="module")
def ground():
    # Not pytest's folder, which is closed to others: then it would be hidden for that alone.
    folder = Path(tempfile.mkdtemp(prefix="coursekit-arena-"))
    folder.chmod(0o755)
    with arena(folder) as made:
        yield made


def _marks(attack: Attack) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if attack.slow else []


@pytest.mark.parametrize(
    "attack", [pytest.param(one, id=f"{one.family}-{one.name}", marks=_marks(one)) for one in CATALOGUE]
)
def test_nothing_is_gained_or_disturbed(ground: Arena, attack: Attack):
    """Each attack gets its verdict; files, processes, sockets, secrets and the next honest learner are as before."""
    strong = ground.grader.level in CONFINED
    if not strong and (attack.needs or attack.name == "dataloader_workers"):
        pytest.skip(f"a mere process does not hide {attack.needs}")
    assert ground.faults(attack, hidden=strong, alone=strong) == []


def test_the_catalogue_is_whole():
    """Every attack of every family is tried, and no name hides another."""
    assert Counter(one.family for one in CATALOGUE) == COUNTS
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE)
    assert sum(one.slow for one in CATALOGUE) <= 6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), "a symbolic link", id="link"),
        pytest.param(os.mkfifo, "something else", id="named-pipe"),
        pytest.param(lambda path: path.write_bytes(b"#" * 2**20), "at most 256 KiB", id="huge"),
        pytest.param(lambda path: (path.touch(), os.truncate(path, 2**30)), "at most 256 KiB", id="1-GB"),
        pytest.param(lambda path: path.write_bytes(b"\x80\xff\x00ELF"), "UTF-8 text", id="binary"),
        pytest.param(Path.mkdir, "a readable file|a regular file", id="folder"),
    ],
)
def test_what_is_no_file_of_answers_is_refused_and_the_next_one_is_graded(ground: Arena, make, words):
    path = ground.folder / "odd.py"
    make(path)
    with pytest.raises(SubmissionError, match=words):
        ground.grader.grade(path)
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert ground.honest().score == 6
    assert ground.touched() == []


def test_null_bytes_are_no_python(ground: Arena):
    attack = Attack("null", "collector", "holds a null byte", "x = 1\0\ndef double(x):\n    return 2 * x")
    report, _ = ground.attack(attack)
    assert [one.verdict for one in report.exercises] == ["fail", "fail"]
    assert "null bytes" in report.exercises[0].message


# ---------------------------------------------------------------------------- other users and levels

ORDINARY = 1000
_ROOT = os.name == "posix" and os.getuid() == 0


@pytest.mark.skipif(not _ROOT or sys.platform != "linux", reason="only root can become somebody else")
def test_strict_says_what_is_missing_where_no_namespace_can_be_made():
    code = """
from tests.grading.attacks.elsewhere import become, forbid_namespaces
become(1000)
forbid_namespaces()
from coursekit import catalog
from coursekit.grading.grader import Benches
try:
    benches = Benches(catalog.lesson("optimization"), "strict")
    print(benches.level)
except Exception as error:
    print(type(error).__name__, error)
print(benches._warm.refused)
benches.close()
"""
    environment = {name: value for name, value in os.environ.items() if name != "COURSEKIT_ROOT"}
    top = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, timeout=120)
    assert "IsolationError --isolation strict: isolation: full. Got no-namespaces. Fix: " in done.stdout, done.stderr
    assert "unshare" in done.stdout


def tried_elsewhere(user: int, level: str, *names: str) -> tuple[str, dict[str, list[str]]]:
    """Try attacks in another process, as a user and at a level; return the level, and the faults by attack."""
    command = [sys.executable, "-m", "tests.grading.attacks.elsewhere", str(user), level, *names]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return lines[0]["level"], {line["name"]: line["faults"] for line in lines[1:]}


_FRIENDLY = ("exit", "in-process", "values")
# Three of each kind, of which one touches files, one processes and one the connection.
_SAMPLE = (
    "exit_at_import", "forge_report", "import_reference", "conftest", "poison_torch", "lying_tensor",
    "reference_on_disk", "parents_memory", "tcp", "unix_sockets", "known_path", "loop_in_call", "daemon",
    "kill_parent", "kill_all", "disk", "inodes", "deleting", "gradebook", "control", "inputs_mutated",
    "forbidden_plain", "privileged_calls", "forged_reply", "deep_folders", "locked_folders", "death_signal_cleared",
    "system_v", "limits_raised", "descriptor_theft",
)  # fmt: skip


@pytest.mark.skipif(not _ROOT or sys.platform != "linux", reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("user", "level", "names"),
    [
        pytest.param(0, "no-namespaces", _SAMPLE, id="root-no-namespaces"),
        pytest.param(ORDINARY, "best", _SAMPLE, id="ordinary-full", marks=pytest.mark.slow),
        pytest.param(ORDINARY, "no-namespaces", _SAMPLE, id="ordinary-no-namespaces", marks=pytest.mark.slow),
        pytest.param(ORDINARY, "none-allowed", _SAMPLE, id="ordinary-none-allowed", marks=pytest.mark.slow),
        pytest.param(0, "no-landlock", _SAMPLE, id="root-no-landlock", marks=pytest.mark.slow),
        pytest.param(0, "process-only", _FRIENDLY, id="root-process-only", marks=pytest.mark.slow),
        pytest.param(ORDINARY, "process-only", _FRIENDLY, id="ordinary-process-only", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(900)
def test_other_users_and_levels_hold_as_well(user, level, names):
    """What a level promises holds for every user; a mere process gives nothing away, but hides no files."""
    if level == "process-only":
        names = [one.name for one in CATALOGUE if one.family in names and not one.needs]
    found, faults = tried_elsewhere(user, level, *names)
    assert found == {"best": "full", "none-allowed": "no-namespaces"}.get(level, level)
    assert set(faults) == set(names)
    assert {name: one for name, one in faults.items() if one} == {}
