"""Denial: time, memory, processes, disk and output are used up, or others are disturbed."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

_OS = "import os, signal, time\n"
TIMEOUT = {"verdicts": ("timeout",)}
ENDED = {"verdicts": ("crashed", "fail", "timeout")}

DENIAL = tuple(
    Attack(name, "denial", says, source, **more)
    for name, says, source, more in [
        ("loop_in_call", "never returns", "def double(x):\n    while True: pass", TIMEOUT),
        (
            "loop_at_import",
            "never comes to its end when it is loaded",
            "while True: pass",
            {"verdicts": ("timeout",), "neighbour": ("timeout",)},
        ),
        ("sleep", "sleeps for an hour", "import time\ndef double(x):\n    time.sleep(3600)", TIMEOUT),
        (
            "slow_in_c",
            "computes inside of one call of PyTorch that no signal interrupts",
            "import torch\ndef double(x):\n    return torch.linalg.svd(torch.rand(3000, 3000)).S",
            {"verdicts": ("timeout", "fail"), "slow": True},
        ),
        (
            "fork_bomb",
            "forks as often as it can",
            _OS
            + "def double(x):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass",
            {"verdicts": ("timeout", "crashed")},
        ),
        (
            "memory",
            "asks for 3 GiB and writes to them",
            "def double(x):\n    held = [bytearray(2**28) for _ in range(12)]\n    return 2 * x + len(held)",
            ENDED,
        ),
        (
            "memory_in_children",
            "has four processes hold more than one may",
            _OS
            + """
def double(x):
    for _ in range(4):
        if os.fork() == 0:
            try:
                held = bytearray(b"x") * (1200 * 2**20)
            finally:
                time.sleep(60)
    time.sleep(60)
""",
            {"verdicts": ("crashed", "timeout")},
        ),
        (
            "shared_memory",
            "fills memory that is counted for nobody, in /dev/shm and in shared maps",
            """
            import mmap, os
            def double(x):
                maps = []
                try:
                    with open("/dev/shm/big", "wb") as file:
                        for _ in range(300):
                            file.write(b"x" * 2**20)
                except OSError:
                    pass
                for _ in range(30):
                    made = mmap.mmap(-1, 2**28)
                    made.write(b"x" * 2**28)
                    maps.append(made)
                return 2 * x + len(maps)
            """,
            {**ENDED, "needs": "files"},
        ),
        (
            "disk",
            "fills the disk with one file and with many",
            """
            import os
            def double(x):
                for number in range(40):
                    try:
                        with open(f"big{number}", "wb") as file:
                            for _ in range(20):
                                file.write(bytes(2**20))
                    except OSError:
                        pass
                return 3 * x
            """,
            ENDED,
        ),
        (
            "inodes",
            "makes empty files until the time is over",
            """
            import os
            def double(x):
                number = 0
                while True:
                    number += 1
                    try:
                        os.close(os.open(f"empty{number}", os.O_CREAT | os.O_WRONLY))
                    except OSError:
                        pass
            """,
            {"verdicts": ("timeout", "crashed")},
        ),
        (
            "output",
            "prints 500 MB",
            "def double(x):\n    for _ in range(500):\n        print('x' * 10**6)\n    return 3 * x",
            {"verdicts": ("crashed", "timeout")},
        ),
        (
            "huge_exception",
            "raises an error with a message of 50 MB",
            "def double(x):\n    raise ValueError('x' * 50_000_000)",
            {},
        ),
        (
            "signals_ignored",
            "ignores every signal, and never returns",
            _OS
            + """
def double(x):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True: pass
""",
            {**TIMEOUT, "slow": True},
        ),
        (
            "timeout_swallowed",
            "catches the alarm, and goes on",
            "def double(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
            TIMEOUT,
        ),
        (
            "alarm_cancelled",
            "switches the alarm off and answers rightly, but much too late",
            _OS + "def double(x):\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    time.sleep(2.0)\n    return 2 * x",
            TIMEOUT,
        ),
        (
            "threads_outlive",
            "leaves threads that work on after the answer",
            """
            import threading, time
            def double(x):
                for _ in range(8):
                    threading.Thread(target=lambda: time.sleep(600), daemon=False).start()
                return 3 * x
            """,
            {},
        ),
        (
            "daemon",
            "leaves a process in a session of its own, which writes a file later",
            """
            import os, subprocess, sys
            def double(x):
                code = "import time; time.sleep(1.5); open('<<home>>/late', 'w')  # <<mark>>"
                subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
                if os.fork() == 0:
                    os.setsid()
                    if os.fork():
                        os._exit(0)
                    os.closerange(0, 256)
                    __import__("time").sleep(60)
                    os._exit(0)
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "kill_parent",
            "ends the processes above it",
            _OS
            + """
def double(x):
    for process in (os.getppid(), <<judge>>):
        try:
            if process > 1:
                os.kill(process, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.1)
    return 3 * x
""",
            {"verdicts": ("fail", "crashed"), "needs": "processes"},
        ),
        (
            "kill_all",
            "ends every process that it may",
            _OS
            + "def double(x):\n    try:\n        os.kill(-1, signal.SIGKILL)\n    except OSError:\n        pass\n    return 3 * x",
            {"verdicts": ("fail", "crashed"), "needs": "processes"},
        ),
        (
            "kill_group",
            "ends its process group and that of its parent",
            _OS
            + """
def double(x):
    for group in (os.getpgid(os.getppid()) if os.getppid() else 0, os.getpgrp()):
        try:
            if group > 1:
                os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
    return 3 * x
""",
            {"verdicts": ("fail", "crashed"), "needs": "processes"},
        ),
        (
            "segmentation_fault",
            "reads at address zero",
            "import ctypes\ndef double(x):\n    return ctypes.string_at(0)",
            {"verdicts": ("crashed",)},
        ),
        (
            "stack_overflow",
            "recurses without end, with no limit",
            "import sys\ndef double(x):\n    sys.setrecursionlimit(10**8)\n    f = lambda n: f(n + 1)\n    return eval('f(0)', {'f': f}) or repr(f)",
            {**ENDED, "slow": True},
        ),
        (
            "stack_overflow_in_c",
            "recurses without end inside of the interpreter",
            """
            import sys
            def double(x):
                sys.setrecursionlimit(10**8)
                found = []
                for _ in range(10**6):
                    found = [found]
                return found == found and repr(found)
            """,
            ENDED,
        ),
        (
            "descriptors_used",
            "uses up all descriptors",
            "import os\ndef double(x):\n    held = []\n    while True:\n        held.append(os.open('/dev/null', 0))",
            {},
        ),
        (
            "descriptors_closed",
            "closes all descriptors",
            "import os\ndef double(x):\n    os.closerange(0, 4096)\n    return 3 * x",
            {"verdicts": ("crashed",)},
        ),
        (
            "stop",
            "stops itself",
            _OS + "def double(x):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    time.sleep(5)",
            TIMEOUT,
        ),
        (
            "byte_by_byte",
            "sends a reply byte by byte, for ever",
            """
            import os, struct, time
            def double(x):
                frame = struct.pack("<4sIQ", b"CKW1", 1000, 0) + b" " * 1000
                for byte in frame:
                    os.write(3, bytes([byte]))
                    time.sleep(0.05)
            """,
            {"verdicts": ("timeout", "crashed"), "slow": True},
        ),
        ("reading_stdin", "waits for input", "def double(x):\n    return input()", {}),
        (
            "deleting",
            "deletes the course and other students' work",
            """
            import os, shutil
            def double(x):
                for folder in ("<<students>>", "<<course>>", "<<home>>"):
                    shutil.rmtree(folder, ignore_errors=True)
                for name in ("<<tmp>>", "<<shm>>"):
                    try:
                        os.remove(name)
                    except OSError:
                        pass
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "others_grades",
            "sets the grades of others to zero",
            """
            import os, pathlib
            def double(x):
                for folder in ("<<students>>", "<<course>>"):
                    for place, _, names in os.walk(folder):
                        for name in names:
                            try:
                                pathlib.Path(place, name).write_text('{"score": 0}')
                            except OSError:
                                pass
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "gradebook",
            "gives itself full marks in the gradebook, and touches its time",
            """
            import os
            def double(x):
                for name in ("<<students>>/gradebook.csv", "/proc/<<judge>>/cwd/gradebook.csv"):
                    try:
                        os.chmod(name, 0o666)
                        os.utime(name, (0, 0))
                        open(name, "a").write("mallory,6\\n")
                    except OSError:
                        pass
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "thread_storm",
            "starts threads as fast as it can",
            """
            import threading, time
            def double(x):
                while True:
                    try:
                        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                    except RuntimeError:
                        pass
            """,
            {"verdicts": ("timeout", "crashed")},
        ),
        (
            "slow_import",
            "takes half of the time when it is loaded, which is allowed, and is wrong",
            "import time\ntime.sleep(0.4)\ndef double(x):\n    return 3 * x",
            {},
        ),
    ]
)
