"""Past one machine: several worker processes on the loopback address, one killed in mid-run, and the same grades."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from coursekit.errors import LessonError, UserError
from coursekit.grading.classroom import cluster, crew
from coursekit.grading.classroom.desk import Job, Setting, checks_digest

from ..conftest import RIGHT_AVERAGE, RIGHT_DOUBLE

distributed = pytest.importorskip("distributed")

TEXTS = [
    f"{RIGHT_DOUBLE}\n{RIGHT_AVERAGE}",
    f"def double(x):\n    return x * x\n{RIGHT_AVERAGE}",
    f"import os\ndef double(x): os._exit(0)\n{RIGHT_AVERAGE}",
    "def (",
]


class Cluster:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder, workers: int) -> None:
        self.folder = folder
        self.address_file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--scheduler-file", str(self.address_file), "--port", "0")
        self.address = self._wait_for_address()
        self.workers = [self.add_worker(n) for n in range(workers)]

    def add_worker(self, number: int) -> subprocess.Popen:
        local = ["--local-directory", str(self.folder / f"worker-{number}")]
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", *local)

    def _start(self, kind: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        command += ["--host", "127.0.0.1", "--no-dashboard"]
        with (self.folder / f"{kind}.log").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _wait_for_address(self) -> str:
        for _ in range(200):
            if self.address_file.is_file():
                return json.loads(self.address_file.read_text())["address"]
            time.sleep(0.1)
        raise AssertionError((self.folder / "scheduler.log").read_text())

    def wait_for_workers(self, count: int) -> None:
        with distributed.Client(self.address, timeout=10, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=30)

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a cluster of so many workers."""
    started: list[Cluster] = []

    def run(workers: int) -> Cluster:
        folder = tmp_path / "cluster"
        folder.mkdir()
        started.append(Cluster(folder, workers))
        if workers:
            started[-1].wait_for_workers(workers)
        return started[-1]

    yield run
    for made in started:
        made.end()


@pytest.fixture
def setting(course) -> Setting:
    return Setting("toy", checks_digest(course.lesson), seed=3, trusted=True)


def plain(outcomes):
    """Return the grades by key, without what differs from run to run."""
    return {
        outcome.key: (
            [(part["id"], part["verdict"], part["points"]) for part in outcome.report.get("exercises", [])],
            outcome.report.get("submission", {}).get("sha256"),
            outcome.problem,
        )
        for outcome in outcomes
    }


def test_a_worker_is_killed_and_no_grade_is_lost_or_doubled(start, setting):
    jobs = [Job(f"s{n:02}", "exercises.py", f"{TEXTS[n % 4]}\n# {n}".encode()) for n in range(16)]
    made = start(3)
    done = []
    for outcome in cluster.grade(jobs, setting, address=made.address):
        done.append(outcome)
        if len(done) == 2:
            os.kill(made.workers[0].pid, signal.SIGKILL)
    assert made.workers[0].wait(timeout=5) == -signal.SIGKILL
    assert [worker.poll() for worker in made.workers[1:]] == [None, None]
    assert Counter(outcome.key for outcome in done) == Counter(job.key for job in jobs)
    assert plain(done) == plain(crew.grade(jobs, setting, workers=2))
    assert {len(parts) for parts, _, _ in plain(done).values()} == {2}


def test_workers_with_another_lesson_are_refused(start, setting, course):
    made = start(1)
    course.write("probes.py", "x = 1\n")
    changed = Setting("toy", checks_digest(course.lesson), seed=3, trusted=True)
    course.write("probes.py", "x = 2\n")
    words = r"worker tcp://127\.0\.0\.1:\d+: lesson toy: the same lesson and the same coursekit on every machine"
    with pytest.raises(UserError, match=words):
        list(cluster.grade([Job("a", "a.py", b"")], changed, address=made.address))


def test_a_scheduler_that_goes_ends_the_run(start, setting):
    """What was graded has been yielded; the rest is for the same command again."""
    jobs = [Job(f"s{n}", "exercises.py", f"{TEXTS[0]}\n# {n}".encode()) for n in range(30)]
    made = start(1)
    done = []

    def run() -> None:
        for outcome in cluster.grade(jobs, setting, address=made.address):
            done.append(outcome)
            if len(done) == 2:
                made.scheduler.kill()

    with pytest.raises(UserError, match=r"a cluster at .* that stays\. .* what was graded is kept"):
        run()
    assert 2 <= len(done) < 30


def test_a_scheduler_without_workers_is_refused(start, setting):
    made = start(0)
    with pytest.raises(UserError, match=r"a scheduler with workers\. Got none\. Fix: start some: `dask worker tcp://"):
        list(cluster.grade([], setting, address=made.address))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1:9", r"a dask\.distributed scheduler\. Got no answer from tcp://127\.0\.0\.1:9 within 0 s"),
        ("nonsense://x", r"an address\. Got nonsense://x \(unknown address scheme"),
        ("localhost", r"an address\. Got localhost \(missing port"),
        ("", r"an address"),
    ],
    ids=str,
)
def test_a_cluster_that_is_not_there_is_told_soon(setting, monkeypatch, address, words):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.4)
    started = time.monotonic()
    with pytest.raises(UserError, match=words):
        list(cluster.grade([], setting, address=address))
    assert time.monotonic() - started < 5


def test_without_the_extra_its_name_is_told(setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"the extra `cluster`\. .* Fix: pip install 'coursekit\[cluster\]'"):
        list(cluster.grade([], setting, address="tcp://127.0.0.1:9"))


# In a worker's process


class Desk:
    """In the place of a desk: grades nothing, and counts what is open."""

    open: int = 0

    def __init__(self, setting: Setting) -> None:
        if setting.lesson == "other":
            raise LessonError("lesson other", "a lesson", got="none", fix="add it")
        type(self).open += 1
        self.level = "full"

    def grade(self, job: Job):
        raise ZeroDivisionError("by nought")

    def close(self) -> None:
        type(self).open -= 1


def test_a_process_keeps_one_grader_and_a_fault_costs_it(monkeypatch):
    monkeypatch.setattr(cluster, "Desk", Desk)
    first, second = Setting("toy", "a", 1), Setting("toy", "b", 1)
    assert cluster.prepare(first) == cluster.prepare(first) == {"level": "full"}
    assert Desk.open == 1
    cluster.prepare(second)
    assert (Desk.open, list(cluster._DESKS)) == (1, [second])
    with pytest.raises(ZeroDivisionError):
        cluster.work(Job("a", "a.py", b""), second)
    assert (Desk.open, cluster._DESKS) == (0, {})
    refused = {"refused": ["lesson other", "a lesson", "none", "add it"]}
    assert cluster.work(Job("a", "a.py", b""), Setting("other", "", 1)) == refused
