"""How a worker is locked down: three levels, each a fixed set of layers, never one applied by halves.

    full             namespaces and a private root, an unprivileged user, limits, Landlock, seccomp
    no-landlock      the same on a kernel without Landlock
    no-namespaces    an unprivileged user where we are root, limits, Landlock, seccomp
    process-only     limits alone: for code that you trust

Which one holds is tried once with a worker that runs nothing (see `warm.py`). No torch here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coursekit.grading.isolation import Level
from coursekit.grading.worker import linux

_NOBODY = 65534
_FIRST_USER = 1_879_048_192  # ours alone as far as we know; a worker's process id is added, so that no two share one
_SYSTEM: tuple[str, ...] = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")
_WORK = "/tmp/work"
_KEPT = ("LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED")
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Args:
        memory: bytes beyond those of the warm process, for each process.
        disk: bytes of its private /tmp, and as much of /dev/shm; also of a single file.
        files: open at once, for each process.
        processes: alive at once, threads included.
        cpu: seconds of processor time, for each process.
    """

    memory: int = 2048 * _MEBIBYTE
    disk: int = 64 * _MEBIBYTE
    files: int = 256
    processes: int = 64
    cpu: int = 600


def separate(level: Level) -> bool:
    """Move this process into namespaces of its own, where the level has them; its next child is the first inside.

    Returns:
        Whether there is a PID namespace, so that ending its first process ends all.
    """
    if level not in ("full", "no-landlock"):
        linux.adopt_orphans()
        return False
    kinds = linux.NEW_MOUNTS | linux.NEW_PIDS | linux.NEW_IPC | linux.NEW_UTS | linux.NEW_NETWORK
    user, group = os.getuid(), os.getgid()
    linux.unshare(kinds if user == 0 else kinds | linux.NEW_USER)
    if user != 0:
        linux.keep_ids(user, group)
    return True


def lock_down(level: Level, limits: Limits, number: int, folder: str, hidden: Sequence[str] = ()) -> None:
    """Confine this process for good. It must have a single thread, and have closed what it does not need.

    Args:
        level: which layers.
        limits: of what it may use.
        number: that no other worker has at the same time, for a user id of its own.
        folder: an empty folder to work in, where the level brings none of its own.
        hidden: folders that must not be seen, should they lie inside of one that is shown.

    Raises:
        OSError: a layer is not to be had; then nothing of the learner's may run here.
    """
    namespaces = level in ("full", "no-landlock")
    user = os.getuid()
    inside = _unprivileged(number) if user == 0 else user
    with contextlib.suppress(OSError):  # when memory runs out for all, the learner's code goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    if namespaces:
        _private_root(limits, inside, hidden)
        folder = _WORK
        os.mkdir(folder)
    closed = "" if namespaces or user != 0 else _closed_to_others()
    if closed and level != "process-only":
        raise OSError(errno.EACCES, f"Python's folder {closed} is closed to ordinary users")
    if user == 0 and not closed:
        os.chown(folder, inside, inside)
        _become(inside)
    os.chdir(folder)
    _clean_environment(folder, "/tmp" if namespaces else folder)
    _limit(limits, counted_alone=namespaces or user == 0)
    if sys.platform == "linux":
        linux.die_with_parent(signal.SIGKILL)  # changing the user has cleared it; later, it cannot be changed
    if level == "process-only":
        linux.renounce_new_privileges()
        return
    linux.drop_capabilities()
    if level in ("full", "no-namespaces"):
        read = ["/"] if namespaces else [*_visible_without(hidden), "/proc"]
        write = ["/tmp", "/dev/shm"] if namespaces else [folder]
        linux.landlock(read=read, write=write, devices=_DEVICES)
    linux.seccomp(hidden_files=namespaces)


def visible() -> list[str]:
    """Return the folders of the system, of Python and of its packages, which learners' code needs to read."""
    paths = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
    paths += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    found = list(_SYSTEM)
    for path in sorted({os.path.realpath(path) for path in paths} | {sys.prefix}, key=len):
        if os.path.isdir(path) and not any(path == one or path.startswith(one + "/") for one in found):
            found.append(path)
    return found


def _visible_without(hidden: Sequence[str]) -> list[str]:
    """Return what must be visible, where nothing that lies inside of it can be hidden."""
    shown = visible()
    for path in map(os.path.realpath, hidden):
        place = next((one for one in shown if path == one or path.startswith(one + "/")), None)
        if place:
            raise OSError(errno.EACCES, f"{path} must be hidden, and lies in {place}, which must be shown")
    return shown


def _unprivileged(number: int) -> int:
    """Return a user id for this worker that nobody else has, so that its limit of processes counts its own alone."""
    wanted = _FIRST_USER + number
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return _NOBODY
    known = any(int(first) <= wanted < int(first) + int(count) for first, _, count in ranges)
    return wanted if known else _NOBODY


def _closed_to_others() -> str:
    """Return a folder that only root may enter, and in which Python needs to read; empty when there is none."""
    for path in visible():
        for folder in (Path(path), *Path(path).parents):
            if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
                return str(folder)
    return ""


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


# -------------------------------------------------------------------------------- the private root


def _private_root(limits: Limits, user: int, hidden: Sequence[str]) -> None:
    """Build a file system of what is needed and nothing else, read-only but for /tmp and /dev/shm, and enter it."""
    root = "/tmp"
    shown = [path for path in visible() if os.path.lexists(path)]
    # Opened first: the new root hides what lies below the old /tmp.
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown if not os.path.islink(path)}
    links = {path: os.readlink(path) for path in shown if os.path.islink(path)}
    devices = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _DEVICES if os.path.exists(path)}
    linux.mount(None, "/", flags=linux.RECURSIVE | linux.PRIVATE)
    plain = linux.NO_SETUID | linux.NO_DEVICES
    linux.mount("tmpfs", root, "tmpfs", linux.NO_SETUID, "size=1m,mode=0755,nr_inodes=4096")
    for path, target in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    for path, size in (("/tmp", limits.disk), ("/dev/shm", limits.disk)):
        os.makedirs(root + path, exist_ok=True)
        linux.mount("tmpfs", root + path, "tmpfs", plain, f"size={size},nr_inodes=4096,mode=1777")
    for path, descriptor in opened.items():
        _bind(descriptor, root + path, linux.READ_ONLY | plain)
    for path, descriptor in devices.items():
        _bind(descriptor, root + path, 0)
    for path in map(os.path.realpath, hidden):
        if any(path.startswith(one + "/") for one in opened) and os.path.isdir(root + path):
            linux.mount("tmpfs", root + path, "tmpfs", linux.READ_ONLY | plain, "size=4k")
    _write_accounts(root, user)
    os.makedirs(root + "/proc", exist_ok=True)
    # Refused inside a container whose own /proc is covered in part; PyTorch does without.
    with contextlib.suppress(OSError):
        linux.mount("proc", root + "/proc", "proc", plain | linux.NO_EXECUTION)
    linux.enter_root(root)
    linux.mount(None, "/", flags=linux.BIND | linux.REMOUNT | linux.READ_ONLY | linux.NO_SETUID)


def _bind(descriptor: int, target: str, flags: int) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    linux.mount(f"/proc/self/fd/{descriptor}", target, flags=linux.BIND | linux.RECURSIVE)
    if flags:
        linux.mount(None, target, flags=linux.BIND | linux.REMOUNT | flags)
    os.close(descriptor)


def _write_accounts(root: str, user: int) -> None:
    # PyTorch asks for the user's name when it looks for its cache.
    os.makedirs(root + "/etc", exist_ok=True)
    Path(root, "etc", "passwd").write_text(f"learner:x:{user}:{user}::{_WORK}:/bin/false\n")
    Path(root, "etc", "group").write_text(f"learner:x:{user}:\n")


# -------------------------------------------------------------------------- environment and limits


def _clean_environment(home: str, temporary: str) -> None:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    added = {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "USER": "learner",
        "LOGNAME": "learner",
        "TMPDIR": temporary,
        "MPLBACKEND": "Agg",
    }
    os.environ.clear()
    os.environ.update(kept | added | {"TORCHINDUCTOR_CACHE_DIR": f"{temporary}/inductor"})
    os.umask(0o077)
    tempfile.tempdir = None  # found once, and remembered


def _limit(limits: Limits, *, counted_alone: bool) -> None:
    sizes = _sizes()
    processes = limits.processes if counted_alone else limits.processes + _processes_of(os.getuid())
    values = {
        "AS": sizes.get("VmSize", 0) + limits.memory,
        "DATA": sizes.get("VmData", 0) + limits.memory,
        "FSIZE": limits.disk,
        "NOFILE": limits.files,
        "NPROC": processes,
        "CPU": limits.cpu,
        "CORE": 0,
        "MSGQUEUE": 0,
        "MEMLOCK": 65536,
    }
    for name, value in values.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        # Address space is counted only where we know how much is in use already.
        if kind is None or (name in ("AS", "DATA") and not sizes):
            continue
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def _sizes() -> Mapping[str, int]:
    """Return this process's sizes in bytes, by the names of /proc/self/status; empty where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    found = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return {name: int(words[0]) * 1024 for name, words in found.items() if words[1:] == ["kB"]}


def _processes_of(user: int) -> int:
    """Return how many processes and threads a user has: without a namespace, all of them count."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*") if Path("/proc").is_dir() else ():
        try:
            if folder.stat().st_uid == user:
                count += len(os.listdir(folder / "task"))
        except OSError:
            continue
    return count
