"""A worker as its code sees it: what is there, what is not, and how far each limit goes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from coursekit import catalog
from coursekit.grading.confined import Confined
from coursekit.grading.learner import Outcome, Request
from coursekit.grading.submission import Source
from coursekit.grading.warm import Warm
from coursekit.grading.worker import confine
from coursekit.grading.worker.confine import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these layers are Linux's")
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def warm_process():
    made = Warm(catalog.lesson("optimization"))
    if made.level != "full":
        made.close()
        pytest.skip(f"this machine offers {made.level}")
    yield made
    made.close()


@pytest.fixture
def inside(warm_process):
    """Have a worker execute the body of a function, and return what came of it."""
    benches = []

    def perform(body: str, seconds: float = 20) -> Outcome:
        text = "import os, errno\n" + _TRIED + "def f():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
        benches.append(Confined(warm_process.session(), Source(Path("mine.py"), "", text), (), seconds=seconds))
        return benches[-1].perform(Request("call", "f"), seed=0, seconds=seconds)

    yield perform
    for bench in benches:
        bench.close()


_TRIED = """
def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


def value(outcome: Outcome) -> Any:
    assert outcome.raised is None, str(outcome.raised)
    assert not outcome.ended, outcome.ended
    return outcome.value


# -------------------------------------------------------------------------------- what is there


def test_the_root_holds_the_system_python_and_nothing_else(inside):
    found = value(inside("return sorted(os.listdir('/')), sorted(os.listdir('/etc')), os.getcwd(), os.listdir('/tmp')"))
    tops = {Path(path).parts[1] for path in confine.visible()} | {"dev", "etc", "proc", "tmp"}
    assert set(found[0]) <= tops
    assert set(found[1]) <= {"group", "ld.so.cache", "localtime", "passwd"}
    assert found[2:] == ("/tmp/work", ["work"])


def test_the_course_and_the_homes_are_not_there(inside):
    lesson = catalog.lesson("optimization")
    places = [
        str(lesson.folder),
        str(lesson.folder / "solution.py"),
        str(Path.home() / ".bashrc"),
        "/home",
        "/var",
        "/run",
    ]
    assert value(inside(f"return [os.path.exists(place) for place in {places!r}]")) == [False] * len(places)


def test_python_and_its_packages_are_there_and_cannot_be_changed(inside):
    found = value(
        inside(
            """
            import site, torch, numpy, sys
            places = [sys.prefix, sys.base_prefix, torch.__path__[0], "/usr", "/etc", "/dev", "/"]
            return [tried(open, os.path.join(place, "new"), "w") for place in places]
            """
        )
    )
    assert set(found) <= {"EROFS", "EACCES", "EPERM"}


def test_the_worker_has_a_user_of_its_own_and_no_rights(inside):
    found = value(
        inside(
            """
            status = dict(line.rstrip("\\n").split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
            keep = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
            return os.getuid(), os.getgid(), os.getgroups(), {name: int(status[name], 16) for name in keep}
            """
        )
    )
    user, group, groups, status = found
    assert user == group != 0
    if os.getuid() == 0:
        assert user >= 65534
        assert groups == []
    # What bounds them is no matter where no program can gain any.
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == (1, 2)


def test_two_workers_have_users_of_their_own(inside):
    if os.getuid() != 0:
        pytest.skip("an ordinary user has one user alone")
    assert value(inside("return os.getuid()")) != value(inside("return os.getuid()"))


def test_the_environment_is_ours(inside):
    found = value(inside("return dict(os.environ)"))
    assert set(found) <= {
        *confine._KEPT,
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "MPLBACKEND",
        "TORCHINDUCTOR_CACHE_DIR",
    }
    assert found["HOME"] == "/tmp/work"
    first = inside("return open('/proc/self/environ').read()")  # with which the warm process was started
    assert "HOME" not in (first.value or "")


def test_it_sees_no_process_but_its_own(inside):
    found = value(inside("return os.getpid(), os.getppid(), sorted(n for n in os.listdir('/proc') if n.isdigit())"))
    assert found[:2] == (1, 0)
    assert found[2] == ["1"]


def test_it_holds_no_descriptor_but_its_own(inside):
    body = """
    names = os.listdir("/proc/self/fd")
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in names if os.path.lexists(f"/proc/self/fd/{name}")}
    """
    found = value(inside(body))
    kinds = {name: place.partition(":")[0] for name, place in found.items() if not place.startswith("/proc")}
    # The root that its input was opened under is out of sight.
    assert kinds | {"0": kinds["0"].removeprefix("/dev")} == {"0": "/null", "1": "pipe", "2": "pipe", "3": "socket"}


def test_it_has_no_network(inside):
    found = value(
        inside(
            """
            import socket
            names = open("/proc/net/dev").read().count(":")
            kinds = [tried(socket.socket, kind) for kind in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)]
            return names, kinds, tried(socket.getaddrinfo, "localhost", 80) if False else "", socket.gethostname() != ""
            """
        )
    )
    assert found[0] <= 10  # a loopback that is down, and tunnels that a kernel makes in every namespace
    assert found[1] == ["EACCES"] * 3


def test_it_can_write_to_its_folder_and_shared_memory_alone(inside):
    found = value(
        inside(
            """
            places = ["/tmp/x", "/dev/shm/x", "x", "/dev/null", "/dev/zero", "/x", "/etc/passwd"]
            places += ["/proc/self/oom_score_adj", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]
            return {place: tried(open, place, "w") for place in places}
            """
        )
    )
    written = {place for place, result in found.items() if result == "done"}
    assert written <= {"/tmp/x", "/dev/shm/x", "x", "/dev/null", "/dev/zero"}
    assert found["x"] == found["/dev/shm/x"] == "done"


# -------------------------------------------------------------------------------------- limits


def test_memory_is_bounded_for_a_process(inside):
    outcome = inside("held = bytearray(3 * 2**30)\nreturn len(held)")
    assert outcome.raised is not None
    assert outcome.raised.kinds[0] == "builtins.MemoryError"
    outcome = inside("import torch\nreturn torch.empty(3 * 2**30, dtype=torch.uint8).numel()")
    assert outcome.raised is not None
    assert "can't allocate memory" in outcome.raised.message


def test_honest_work_has_memory_enough(inside):
    assert value(inside("import torch\nreturn float(torch.ones(2**28).sum())")) == 2**28


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_disk_is_bounded(inside, place):
    """Neither one large file, nor many, nor many empty ones."""
    found = value(
        inside(
            f"""
            written = empty = 0
            how = []
            try:
                for number in range(200):
                    with open(f"{place}/large{{number}}", "wb", buffering=0) as file:
                        for _ in range(200):
                            written += file.write(bytes(2**20))
            except OSError as error:
                how.append(errno.errorcode[error.errno])
            for number in range(200):
                if os.path.exists(f"{place}/large{{number}}"):
                    os.remove(f"{place}/large{{number}}")
            try:
                for empty in range(10_000):
                    open(f"{place}/empty{{empty}}", "w").close()
            except OSError as error:
                how.append(errno.errorcode[error.errno])
            return written, empty, how
            """
        )
    )
    limits = Limits()
    assert limits.disk * 0.9 < found[0] <= limits.disk
    assert 3000 < found[1] < 4096
    assert set(found[2]) <= {"ENOSPC", "EFBIG", "EDQUOT"}
    assert len(found[2]) == 2


def test_a_single_file_is_bounded(inside):
    assert value(inside("return tried(os.truncate, os.open('x', os.O_CREAT | os.O_WRONLY), 2**40)")) == "EFBIG"


def test_descriptors_are_bounded(inside):
    body = """
    held = []
    try:
        while len(held) < 10_000:
            held.append(os.open("/dev/null", 0))
    except OSError as error:
        return len(held), errno.errorcode[error.errno]
    """
    count, name = value(inside(body))
    assert count <= Limits().files
    assert count > 200
    assert name == "EMFILE"


def test_processes_and_threads_are_bounded_together(inside):
    body = """
    import threading, time
    count = 0
    try:
        for _ in range(200):
            if count % 2:
                threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
            elif os.fork() == 0:
                time.sleep(5)
                os._exit(0)
            count += 1
    except (OSError, RuntimeError):
        pass
    return count
    """
    assert 40 < value(inside(body)) <= Limits().processes


def test_memory_is_bounded_for_all_processes_together(inside):
    body = """
    import time
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(b"x") * (1200 * 2**20)
            time.sleep(60)
    time.sleep(60)
    """
    assert "more than 3 GiB of memory" in inside(body).ended


def test_limits_cannot_be_raised_again(inside):
    body = """
    import resource
    raised = []
    for name in ("AS", "DATA", "FSIZE", "NOFILE", "NPROC", "CPU", "CORE", "MSGQUEUE", "MEMLOCK"):
        kind = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(kind)
        try:
            resource.setrlimit(kind, (hard + 1, hard + 1))
            raised.append(name)
        except (OSError, ValueError):
            pass
        if hard == resource.RLIM_INFINITY:
            raised.append(f"{name} has none")
    return raised
    """
    assert value(inside(body)) == []


def test_limits_of_a_warm_process_are_the_callers(monkeypatch):
    """Fewer files and less disk can be asked for."""
    made = Warm(catalog.lesson("optimization"), limits=Limits(files=64, disk=MEBIBYTE))
    try:
        text = "import os, resource as r\ndef f():\n    seen = os.statvfs('/tmp')\n"
        text += "    return r.getrlimit(r.RLIMIT_NOFILE)[0], seen.f_blocks * seen.f_frsize"
        source = Source(Path("mine.py"), "", text)
        bench = Confined(made.session(), source, (), seconds=20)
        if made.level == "full":
            assert value(bench.perform(Request("call", "f"), seed=0, seconds=20)) == (64, MEBIBYTE)
        bench.close()
    finally:
        made.close()


# ------------------------------------------------------------------------------------- choices


def test_what_is_shown_is_named_once_and_has_no_secrets():
    shown = confine.visible()
    assert len(shown) == len(set(shown))
    assert not [one for one in shown if any(other != one and one.startswith(other + "/") for other in shown)]
    home = Path.home()
    assert not [one for one in shown if Path(one) in (home, *home.parents)]
    course = catalog.root()
    assert not [one for one in shown if Path(one) in (course, *course.parents)]


@pytest.fixture
def course_among_packages():
    """A lesson that lies inside of what learners' code must be able to read, as in an image for containers."""
    lesson = catalog.lesson("optimization")
    with tempfile.TemporaryDirectory(dir=sys.prefix) as top:
        folder = Path(top, "lessons", "optimization")
        shutil.copytree(lesson.folder, folder, ignore=shutil.ignore_patterns("__pycache__", "figures"))
        yield lesson.model_copy(update={"folder": folder})


def test_a_course_among_the_packages_is_hidden(course_among_packages):
    made = Warm(course_among_packages)
    try:
        if made.level != "full":
            pytest.skip(f"this machine offers {made.level}")
        folder = course_among_packages.folder
        text = (
            f"import os\ndef f():\n    return os.path.exists({str(folder)!r}), os.listdir({str(folder.parents[1])!r})"
        )
        bench = Confined(made.session(), Source(Path("mine.py"), "", text), (), seconds=20)
        assert value(bench.perform(Request("call", "f"), seed=0, seconds=20)) == (False, [])
        bench.close()
    finally:
        made.close()


@pytest.mark.parametrize("place", [Path(sys.prefix), Path(sys.prefix, "course")], ids=["itself", "inside"])
def test_without_namespaces_nothing_can_be_hidden_inside_of_what_is_shown(place):
    with pytest.raises(OSError, match=r"course must be hidden|must be hidden, and lies in"):
        confine._visible_without([str(place)])
    assert confine._visible_without(["/no/such/place"]) == confine.visible()


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        pytest.param("0 0 4294967295", 1_879_048_192 + 7, id="all-users"),
        pytest.param("0 0 65536", 65534, id="few-users"),
        pytest.param("0 1000 1\n1 100000 65536", 65534, id="container"),
    ],
)
def test_a_user_is_taken_that_exists_here(monkeypatch, maps, expected):
    monkeypatch.setattr(Path, "read_text", lambda self: maps)
    assert confine._unprivileged(7) == expected
