"""Linux's own means of confinement, called through the C library: namespaces, mounts, capabilities, Landlock, seccomp.

Each function is one system call or one small group of them, and raises OSError with the call's name when the kernel
refuses. Nothing here decides anything: `confine.py` does. Sources: the man pages named with each function.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXECUTION, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
_DETACH = 2
_SET_PARENT_DEATH_SIGNAL, _SET_SECCOMP, _DROP_FROM_BOUNDING_SET, _SET_SUBREAPER, _NO_NEW_PRIVILEGES = 1, 22, 24, 36, 38
_LAST_CAPABILITY = 63

try:
    _libc = ctypes.CDLL(None, use_errno=True)
except (OSError, TypeError):  # not a system with a C library to be opened so
    _libc = None


def _call(what: str, *arguments: object) -> int:
    """Call a function of the C library; `syscall` calls are named by their second word."""
    if _libc is None:
        raise OSError(errno.ENOSYS, f"{what}: no such system call here")
    name = what.partition(" ")[0]
    result = getattr(_libc, name)(*arguments)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _word(number: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(number)


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


# ---------------------------------------------------------------------- processes and rights


def _process_control(option: int, *arguments: int) -> None:
    words = [_word(number) for number in (*arguments, 0, 0, 0, 0)[:4]]
    _call("prctl", option, *words)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    _process_control(_SET_PARENT_DEATH_SIGNAL, signal_number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _process_control(_SET_SUBREAPER, 1)


def renounce_new_privileges() -> None:
    """Make set-user-id programs ordinary for this process and all that come from it (PR_SET_NO_NEW_PRIVS)."""
    _process_control(_NO_NEW_PRIVILEGES, 1)


def drop_capabilities() -> None:
    """Give up every capability, those of a user namespace's first process too (capabilities(7), capset(2))."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            _process_control(_DROP_FROM_BOUNDING_SET, capability)
        except OSError as error:  # past the kernel's last one, or the right to drop it is gone already
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this process
    _call("capset", ctypes.create_string_buffer(header), ctypes.create_string_buffer(24))


# ---------------------------------------------------------------------------- namespaces


def unshare(kinds: int) -> None:
    """Move into new namespaces (unshare(2)); a new PID namespace counts for children alone."""
    _call("unshare", kinds)


def keep_ids(user: int, group: int) -> None:
    """Map one user and one group into this process's new user namespace (user_namespaces(7))."""
    for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{file}", "w") as opened:
            opened.write(text)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Mount (mount(2))."""
    arguments = (_text(source), _text(target), _text(kind), _word(flags), _text(options))
    _call(f"mount {target}", *arguments)


def enter_root(folder: str) -> None:
    """Make a mounted folder the root of this mount namespace, and let go of the old one (pivot_root(2))."""
    os.chdir(folder)
    _call("syscall pivot_root", _word(_NUMBERS[platform.machine()]["pivot_root"]), b".", b".")
    _call("umount2 .", b".", _DETACH)
    os.chdir("/")


# ------------------------------------------------------------------------------ Landlock

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # on every architecture
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15


def landlock_version() -> int:
    """Return the version of the kernel's Landlock, or 0 without it (landlock(7))."""
    try:
        return _call("syscall landlock_create_ruleset", _word(_CREATE), None, _word(0), _word(1))
    except OSError:
        return 0


def landlock(*, read: Iterable[str], write: Iterable[str], devices: Iterable[str]) -> None:
    """Confine this process and its children to these files; forbid TCP, and signals and sockets to the outside.

    Args:
        read: folders and files that may be read and executed.
        write: folders in which anything may be done.
        devices: device files that may be read and written.
    """
    version = landlock_version()
    if version < 1:
        raise OSError(errno.ENOSYS, "landlock: this kernel has none")
    files = (1 << 13) - 1  # version 1; each later one adds a right that would be free otherwise
    for since, right in ((2, 1 << 13), (3, _TRUNCATE), (5, _DEVICE_CONTROL)):
        files |= right if version >= since else 0
    words = [files]
    words += [3] if version >= 4 else []  # TCP: bind and connect
    words += [3] if version >= 6 else []  # scope: abstract sockets and signals
    rules = struct.pack(f"={len(words)}Q", *words)
    ruleset = _call(
        "syscall landlock_create_ruleset", _word(_CREATE), ctypes.create_string_buffer(rules), _word(len(rules)), 0
    )
    try:
        for paths, rights in (
            (read, _EXECUTE | _READ_FILE | _READ_FOLDER),
            (write, files),
            (devices, _READ_FILE | _WRITE_FILE | _DEVICE_CONTROL),
        ):
            for path in paths:
                _allow(ruleset, path, rights & files)
        renounce_new_privileges()
        _call("syscall landlock_restrict_self", _word(_RESTRICT), ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
        rule = struct.pack("=Qi", rights, opened)
        _call("syscall landlock_add_rule", _word(_ADD), ruleset, 1, ctypes.create_string_buffer(rule), 0)
    finally:
        os.close(opened)


# ------------------------------------------------------------------------------- seccomp

# Numbers of system calls: x86-64 has a table of its own, aarch64 the kernel's generic one. Only calls that a
# confined process must not make, and those that the filter looks into.
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "socket": 41, "clone": 56, "clone3": 435, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "process_madvise": 440, "kcmp": 312, "pidfd_getfd": 438, "pidfd_send_signal": 424, "mount": 165, "umount2": 166,
        "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "fsopen": 430, "fsmount": 432,
        "move_mount": 429, "open_tree": 428, "mount_setattr": 442, "open_by_handle_at": 304, "name_to_handle_at": 303,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "keyctl": 250, "add_key": 248,
        "request_key": 249, "kexec_load": 246, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "reboot": 169, "swapon": 167, "swapoff": 168, "quotactl": 179, "acct": 163, "settimeofday": 164,
        "clock_settime": 227, "personality": 135, "migrate_pages": 256, "move_pages": 279, "vmsplice": 278,
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
        "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "fchown": 93, "fchownat": 260, "utimensat": 280,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "utimes": 235, "futimesat": 261,
        "sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203, "sched_setattr": 314,
        "setpriority": 141, "ioprio_set": 251, "prlimit64": 302, "prctl": 157,
    },
    "aarch64": {
        "socket": 198, "clone": 220, "clone3": 435, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "process_madvise": 440, "kcmp": 272, "pidfd_getfd": 438, "pidfd_send_signal": 424, "mount": 40, "umount2": 39,
        "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "fsopen": 430, "fsmount": 432, "move_mount": 429,
        "open_tree": 428, "mount_setattr": 442, "open_by_handle_at": 265, "name_to_handle_at": 264, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425, "keyctl": 219, "add_key": 217,
        "request_key": 218, "kexec_load": 104, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "reboot": 142, "swapon": 224, "swapoff": 225, "quotactl": 60, "acct": 89, "settimeofday": 170,
        "clock_settime": 112, "personality": 92, "migrate_pages": 238, "move_pages": 239, "vmsplice": 75,
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
        "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "utimensat": 88, "setxattr": 5,
        "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
        "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122, "sched_setattr": 274,
        "setpriority": 140, "ioprio_set": 30, "prlimit64": 261, "prctl": 167,
    },
}  # fmt: skip
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOOKED_INTO = ("socket", "clone", "clone3", "prlimit64", "prctl")
# Changes of a file's rights, owner and times, which Landlock leaves free: refused where nothing else hides the file.
_RIGHTS = (
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat", "setxattr", "lsetxattr", "fsetxattr",
    "removexattr", "lremovexattr", "fremovexattr", "chmod", "chown", "lchown", "utime", "utimes", "futimesat",
)  # fmt: skip
# Changes of how other processes of the same user run, which nothing but a PID namespace puts out of reach.
_PACE = ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr", "setpriority", "ioprio_set")
_ANY_NAMESPACE = 0x7E020080
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def seccomp(*, hidden_files: bool) -> None:
    """Refuse system calls for this process and its children from now on (seccomp(2)).

    Refused are tracing, mounting, namespaces, kernel interfaces, memory that no limit counts (memfd, System V), and
    sockets: all but local ones, which need hidden files too. The signal at a parent's end stays what it is.

    Args:
        hidden_files: whether other people's files and processes are out of sight; without, changing a file's rights
            and a process's limits and pace is refused too.
    """
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"seccomp: no table of system calls for {platform.machine()}")
    free = (*_LOOKED_INTO, *_RIGHTS, *_PACE) if hidden_files else _LOOKED_INTO
    refused = [name for name in numbers if name not in free]
    program = _program(platform.machine(), [numbers[name] for name in refused], local_sockets=hidden_files)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    whole = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program), ctypes.addressof(code)))
    renounce_new_privileges()
    _process_control(_SET_SECCOMP, 2, ctypes.addressof(whole))


def _program(machine: str, refused: Sequence[int], *, local_sockets: bool) -> list[tuple[int, int, int, int]]:
    """Return the filter, in the kernel's form: (code, skip if true, skip if false, constant)."""
    numbers = _NUMBERS[machine]
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _ARCHITECTURE[machine]), (_RETURN, 0, 0, _KILL)]
    lines += [(_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":  # the x32 calls have numbers of their own
        lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    for number in refused:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | errno.EPERM)]
    # clone3 hides its flags behind a pointer: "not there" makes the C library use clone.
    lines += [(_EQUAL, 0, 1, numbers["clone3"]), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    lines += [(_EQUAL, 0, 4, numbers["clone"]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    lines += [(_ANY_BIT, 0, 1, _ANY_NAMESPACE), (_RETURN, 0, 0, _REFUSE | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    # Told that it was done: PyTorch asks for another signal in processes of its own.
    lines += [(_EQUAL, 0, 4, numbers["prctl"]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    lines += [(_EQUAL, 0, 1, _SET_PARENT_DEATH_SIGNAL), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    if not local_sockets:
        lines += [(_EQUAL, 0, 4, numbers["prlimit64"]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]  # 0 is the caller itself
        lines += [(_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    allowed = _AF_UNIX if local_sockets else 0xFFFF
    lines += [(_EQUAL, 0, 3, numbers["socket"]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    lines += [(_EQUAL, 1, 0, allowed), (_RETURN, 0, 0, _REFUSE | errno.EACCES)]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def check_numbers(machine: str) -> dict[str, int]:
    """Return the table of system calls of an architecture, for a comparison with the kernel's headers."""
    return dict(_NUMBERS[machine])
