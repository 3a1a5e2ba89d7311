"""Linux's own means of confinement: each is shown to refuse what it is for, in a process that ends with the test."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from coursekit.grading.worker import linux

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's system calls")
ROOT = Path(__file__).parents[2]
HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}


def run(text: str, **places: object) -> dict:
    """Run Python in a process of its own; return the `found` that it leaves."""
    body = textwrap.dedent(text)
    for name, place in places.items():
        body = body.replace(f"<<{name}>>", str(place))
    code = f"{_TRY}\n{body}\nprint(json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_TRY = """
import ctypes, errno, json, os, socket, sys
from coursekit.grading.worker import linux
found = {}
def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_of_system_calls_are_the_kernels(machine):
    header = next((file for file in HEADERS[machine] if file.is_file()), None)
    if header is None:
        pytest.skip("the kernel's headers are not here")
    known = {
        name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text())
    }
    ours = linux.check_numbers(machine)
    checked = {name for name in ours if name in known}
    assert {name: ours[name] for name in checked} == {name: known[name] for name in checked}
    # Headers that are older than a call do not know it.
    assert set(ours) - checked <= {"fchmodat2", "memfd_secret", "mount_setattr"}


def test_both_tables_know_the_same_calls():
    old = {"chmod", "chown", "lchown", "utime", "utimes", "futimesat"}  # which newer machines never had
    assert set(linux.check_numbers("x86_64")) - set(linux.check_numbers("aarch64")) == old
    assert set(linux.check_numbers("aarch64")) <= set(linux.check_numbers("x86_64"))


needs_landlock = pytest.mark.skipif(
    sys.platform != "linux" or linux.landlock_version() < 1, reason="this kernel has no Landlock"
)


@needs_landlock
def test_landlock_leaves_what_was_named_and_nothing_else(tmp_path):
    for name in ("shown", "own", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    found = run(
        """
        top = "<<top>>"
        linux.landlock(read=["/usr", f"{top}/shown", "/no/such/place"], write=[f"{top}/own"], devices=["/dev/null"])
        for name in ("shown", "own", "hidden"):
            found[f"read {name}"] = tried(open, f"{top}/{name}/file")
            found[f"list {name}"] = tried(os.listdir, f"{top}/{name}")
            found[f"write {name}"] = tried(open, f"{top}/{name}/file", "a")
            found[f"truncate {name}"] = tried(os.truncate, f"{top}/{name}/file", 0)
            found[f"create {name}"] = tried(open, f"{top}/{name}/new", "w")
            found[f"remove {name}"] = tried(os.remove, f"{top}/{name}/file")
            found[f"folder {name}"] = tried(os.mkdir, f"{top}/{name}/folder")
            found[f"link {name}"] = tried(os.symlink, "/", f"{top}/{name}/link")
        found["move out"] = tried(os.rename, f"{top}/own/new", f"{top}/hidden/new")
        found["null"] = tried(open, "/dev/null", "w")
        found["zero"] = tried(open, "/dev/zero")
        """,
        top=tmp_path,
    )
    allowed = {name for name, result in found.items() if result == "done"}
    version = linux.landlock_version()
    assert allowed >= {"read shown", "list shown", "read own", "write own", "create own", "remove own", "null"}
    assert not [name for name in allowed if "hidden" in name]
    assert not [
        name
        for name in allowed
        if name.split()[0] in ("write", "create", "remove", "folder", "link") and "shown" in name
    ]
    assert version < 3 or "truncate shown" not in allowed
    assert "move out" not in allowed
    assert "zero" not in allowed
    assert (tmp_path / "hidden" / "file").read_text() == "x"


@pytest.mark.skipif(
    sys.platform != "linux" or linux.landlock_version() < 6, reason="this kernel's Landlock has no scopes"
)
def test_landlock_keeps_from_other_processes_and_their_sockets():
    """TCP, abstract sockets, signals to the outside; what it starts itself stays in its hands."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        found = run(
            r"""
            name = f"\0coursekit-test-{os.getpid()}"
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(name)
            listening.listen()
            tcp = socket.socket()
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            linux.landlock(read=["/"], write=[], devices=[])
            found["abstract"] = tried(socket.socket(socket.AF_UNIX).connect, name)
            found["tcp"] = tried(socket.socket().connect, tcp.getsockname())
            found["bind"] = tried(socket.socket().bind, ("127.0.0.1", 0))
            found["signal"] = tried(os.kill, <<other>>, 15)
            found["parent"] = tried(os.kill, os.getppid(), 0)
            child = os.fork()
            if child == 0:
                import time; time.sleep(30)
            found["child"] = tried(os.kill, child, 9)
            """,
            other=other.pid,
        )
        assert other.poll() is None
        other.communicate(b"\n")
    assert found == {
        "abstract": "EPERM",
        "tcp": "EACCES",
        "bind": "EACCES",
        "signal": "EPERM",
        "parent": "EPERM",
        "child": "done",
    }


@pytest.mark.parametrize("hidden", [True, False], ids=["files-hidden", "files-in-sight"])
def test_seccomp_refuses_every_call_of_its_table(hidden):
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("no table for this machine")
    found = run(
        """
        import platform
        libc = ctypes.CDLL(None, use_errno=True)
        linux.seccomp(hidden_files=<<hidden>>)
        for name, number in linux.check_numbers(platform.machine()).items():
            if name in ("socket", "clone", "prctl", "prlimit64"):
                continue
            result = libc.syscall(number, -1, 0, 0, 0, 0, 0)
            found[name] = errno.errorcode.get(ctypes.get_errno(), "?") if result == -1 else "done"
        """,
        hidden=hidden,
    )
    assert found.pop("clone3") == "ENOSYS"  # so that the C library uses clone
    free = {*linux._RIGHTS, *linux._PACE} if hidden else set()
    assert {name for name, result in found.items() if result != "EPERM"} <= free
    assert len(found) > 60


@pytest.mark.parametrize("hidden", [True, False], ids=["files-hidden", "files-in-sight"])
def test_seccomp_looks_into_sockets_namespaces_limits_and_the_parents_end(hidden):
    found = run(
        """
        import resource
        libc = ctypes.CDLL(None, use_errno=True)
        other = os.fork()
        if other == 0:
            import time; time.sleep(30)
        linux.die_with_parent(9)
        linux.seccomp(hidden_files=<<hidden>>)
        for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG"):
            found[family] = tried(socket.socket, getattr(socket, family))
        found["pair"] = tried(socket.socketpair)
        found["user namespace"] = tried(linux.unshare, linux.NEW_USER)
        flags = ctypes.c_long(linux.NEW_USER | 17)
        number = linux.check_numbers(os.uname().machine)["clone"]
        made = libc.syscall(number, flags, 0, 0, 0, 0)
        found["clone"] = "done" if made != -1 else errno.errorcode[ctypes.get_errno()]
        found["own limit"] = tried(resource.prlimit, 0, resource.RLIMIT_CORE, (0, 0))
        found["other's limit"] = tried(resource.prlimit, other, resource.RLIMIT_CORE)
        found["affinity"] = tried(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        signal = ctypes.c_int()
        libc.prctl(1, 0, 0, 0, 0)
        libc.prctl(2, ctypes.byref(signal), 0, 0, 0)
        found["parent's end"] = signal.value
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        os.kill(other, 9)
        """,
        hidden=hidden,
    )
    families = {name for name in found if name.startswith("AF_")}
    assert {name for name in families if found[name] == "done"} == ({"AF_UNIX"} if hidden else set())
    assert {found[name] for name in families} <= {"done", "EACCES"}
    assert (found["pair"], found["own limit"], found["parent's end"]) == ("done", "done", 9)
    assert (found["user namespace"], found["clone"]) == ("EPERM", "EPERM")
    assert (found["other's limit"], found["affinity"]) == (("done", "done") if hidden else ("EPERM", "EPERM"))


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root has rights to give up")
def test_capabilities_are_given_up_for_good():
    found = run(
        """
        linux.drop_capabilities()
        found["status"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
        found["mount"] = tried(linux.mount, "tmpfs", "/tmp", "tmpfs")
        """
    )
    inherited, permitted, effective, bounding, ambient = (int(word, 16) for word in found["status"])
    assert (inherited, permitted, effective, bounding, ambient) == (0, 0, 0, 0, 0)
    assert found["mount"] == "EPERM"


def test_a_call_that_is_refused_says_which_it_was():
    with pytest.raises(OSError, match="mount /no/such/place: "):
        linux.mount("tmpfs", "/no/such/place", "tmpfs")


def test_a_machine_without_a_table_has_no_seccomp(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="no table of system calls for riscv64"):
        linux.seccomp(hidden_files=True)


def test_a_kernel_without_landlock_says_so(monkeypatch):
    monkeypatch.setattr(linux, "landlock_version", lambda: 0)
    with pytest.raises(OSError, match="this kernel has none"):
        linux.landlock(read=[], write=[], devices=[])
