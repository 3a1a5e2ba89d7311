"""Attacks that no list had: they know how this grader is built, and go for its joints."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

# Finds the request that is being answered, in the frames of the worker.
_FRAMES = """
import os, struct, sys, json, time
def request():
    frame = sys._getframe()
    while frame := frame.f_back:
        found = frame.f_locals.get("message") or frame.f_locals.get("request")
        if isinstance(found, dict) and "nonce" in found:
            return found
def pack(tree, blob=b""):
    text = json.dumps(tree).encode()
    return struct.pack("<4sIQ", b"CKW1", len(text), len(blob)) + text + blob
def reply(nonce, value, blob=b""):
    return pack({"nonce": nonce, "value": value, "raised": None, "timed_out": False, "changed": [],
                 "memory": [len(blob)] if blob else []}, blob)
"""

UNFORESEEN = tuple(
    Attack(name, "unforeseen", says, source, **more)
    for name, says, source, more in [
        (
            "forged_reply",
            "reads the nonce from the worker's frames, and sends a reply of its own before the real one",
            _FRAMES + "def double(x):\n    os.write(3, reply(request()['nonce'], 6.0))\n    return 3 * x",
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "two_replies",
            "answers twice at once",
            _FRAMES
            + "def double(x):\n    os.write(3, reply(request()['nonce'], 6.0) * 2)\n    time.sleep(0.2)\n    return 2 * x",
            {"verdicts": ("crashed",)},
        ),
        (
            "reply_before_question",
            "answers the next question before it is asked",
            _FRAMES
            + """
import threading
def double(x):
    nonce = request()["nonce"]
    def later():
        time.sleep(0.05)
        for _ in range(200):
            os.write(3, reply(nonce, 6.0))
            time.sleep(0.002)
    threading.Thread(target=later, daemon=True).start()
    return 3 * x
""",
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "forged_facts",
            "says that an error of the grader's own came",
            _FRAMES
            + """
def double(x):
    tree = {"nonce": request()["nonce"], "value": None, "timed_out": False, "changed": [], "memory": [],
            "raised": [["coursekit.errors.LessonError", "coursekit.errors.UserError", "builtins.Exception"],
                       "the lesson is broken", "", False]}
    os.write(3, pack(tree))
    os._exit(0)
""",
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "forged_skip",
            "says that the check was skipped, or that pytest failed it",
            """
            class Skipped(Exception):
                pass
            Skipped.__module__, Skipped.__qualname__ = "_pytest.outcomes", "Skipped"
            Skipped.__name__ = "Skipped"
            def double(x):
                raise Skipped("no GPU here")
            """,
            {},
        ),
        (
            "forged_huge_blob",
            "announces a frame of 2^63 bytes",
            "import os, struct\ndef double(x):\n    os.write(3, struct.pack('<4sIQ', b'CKW1', 10, 2**63))\n    return 3 * x",
            {"verdicts": ("crashed",)},
        ),
        (
            "forged_json_bomb",
            "sends 4 MB of brackets",
            _FRAMES + "def double(x):\n    bomb = b'[' * (4 * 2**20 - 10)\n"
            "    data = struct.pack('<4sIQ', b'CKW1', len(bomb), 0) + bomb\n"
            "    while data:\n        data = data[os.write(3, data):]\n    time.sleep(3)",
            {"verdicts": ("crashed",)},
        ),
        (
            "forged_json_wide",
            "sends 4 MB of empty objects",
            _FRAMES
            + """
def double(x):
    text = b'{"nonce":"' + request()["nonce"].encode() + b'","raised":null,"timed_out":false,"changed":[],"memory":[],'
    text += b'"value":[' + b"{}," * 1_300_000 + b"{}]}"
    data = struct.pack("<4sIQ", b"CKW1", len(text), 0) + text
    while data:
        data = data[os.write(3, data):]
    time.sleep(3)
""",
            {"verdicts": ("crashed",)},
        ),
        (
            "alarm_handler",
            "takes the handler of the alarm over, and waits for ever",
            "import signal\ndef double(x):\n    signal.signal(signal.SIGALRM, lambda *_: None)\n    while True: pass",
            {"verdicts": ("timeout",)},
        ),
        (
            "alarm_blocked",
            "blocks the alarm in its thread",
            "import signal\ndef double(x):\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass",
            {"verdicts": ("timeout",), "slow": True},
        ),
        (
            "every_call_late",
            "takes a little longer than it may in every call, so that all together take long",
            """
            import signal, time
            def average(x):
                signal.setitimer(signal.ITIMER_REAL, 0)
                time.sleep(1.2)
                return x.mean()
            """,
            {"victim": "average", "verdicts": ("timeout",), "seconds": 8},
        ),
        (
            "channel_closed",
            "closes its connection and stays",
            "import os, time\ndef double(x):\n    os.close(3)\n    time.sleep(60)",
            {"verdicts": ("crashed", "timeout")},
        ),
        (
            "channel_shut",
            "shuts one direction of its connection",
            "import socket\ndef double(x):\n    socket.socket(fileno=3).shutdown(socket.SHUT_RD)\n    return 3 * x",
            {"verdicts": ("fail", "timeout", "crashed")},
        ),
        (
            "channel_as_output",
            "has its output go where its answers go",
            "import os\nos.dup2(3, 1)\nos.dup2(3, 2)\ndef double(x):\n    print('x' * 100, flush=True)\n    return 3 * x",
            {"verdicts": ("crashed",)},
        ),
        (
            "output_as_channel",
            "has its answers go where its output goes",
            "import os\ndef double(x):\n    os.dup2(1, 3)\n    return 2 * x",
            {"verdicts": ("crashed", "timeout")},
        ),
        (
            "child_answers",
            "forks; the parent ends, and the child answers",
            "import os\ndef double(x):\n    if os.fork():\n        os._exit(0)\n    return 3 * x",
            {"verdicts": ("crashed", "fail")},
        ),
        (
            "both_answer",
            "forks when it is loaded, so that two answer every question",
            "import os\nos.fork()\ndef double(x):\n    return 3 * x",
            {"verdicts": ("crashed", "fail", "timeout"), "neighbour": ("crashed", "fail", "timeout", "pass")},
        ),
        (
            "tensor_methods",
            "overrides the methods of tensors that the worker uses to send them",
            """
            import torch
            kept = torch.Tensor.detach
            for name in ("detach", "clone", "untyped_storage", "numpy", "cpu", "contiguous", "resolve_conj", "is_conj"):
                setattr(torch.Tensor, name, lambda self, *_, **__: torch.full((1,), 6.0))
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("crashed", "fail"), "neighbour": ("crashed", "fail", "pass")},
        ),
        (
            "wire_patched",
            "patches the encoding of values in the worker",
            """
            import sys
            wire = sys.modules["coursekit.grading.wire"]
            serve = sys.modules["coursekit.grading.worker.serve"]
            wire.Encoder.encode = lambda self, value: {"opaque": "pass"}
            serve.pack = wire.pack = lambda *_, **__: b"CKW1" + bytes(12)
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("crashed",), "neighbour": ("crashed",)},
        ),
        (
            "outcome_patched",
            "has the worker's outcomes hold neither an error nor a change",
            """
            import sys
            learner = sys.modules["coursekit.grading.learner"]
            serve = sys.modules["coursekit.grading.worker.serve"]
            class Good(learner.Outcome):
                raised, changed, timed_out = None, (), False
            sys.modules["coursekit.grading.inprocess"].Outcome = Good
            def double(x):
                raise ValueError
            """,
            {"verdicts": ("crashed", "fail")},
        ),
        (
            "traced",
            "watches every line of the grader that runs beside it, and changes local variables",
            """
            import sys
            def trace(frame, event, argument):
                if "expected" in frame.f_locals:
                    frame.f_locals["expected"] = 0
                return trace
            sys.settrace(trace)
            sys.setprofile(lambda *_: None)
            def double(x):
                sys.settrace(trace)
                return 3 * x
            """,
            {"verdicts": ("fail", "timeout", "crashed"), "neighbour": ("pass", "timeout")},
        ),
        (
            "import_hook",
            "answers every import with a module of its own",
            """
            import importlib.abc, importlib.machinery, sys, types
            class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
                def find_spec(self, name, path, target=None):
                    return importlib.machinery.ModuleSpec(name, self)
                def exec_module(self, module):
                    module.__getattr__ = lambda name: lambda *_, **__: True
            sys.meta_path.insert(0, Finder())
            def double(x):
                return 3 * x
            """,
            {},
        ),
        (
            "memory_by_ctypes",
            "writes over the numbers that the interpreter keeps for all",
            """
            import ctypes
            for number in range(2, 200):
                ctypes.c_long.from_address(id(number) + 24).value = 0
            def double(x):
                return 3 * x
            """,
            {"verdicts": ("crashed", "fail", "timeout"), "neighbour": ("crashed", "fail", "timeout")},
        ),
        (
            "own_memory_file",
            "writes its own code through /proc/self/mem",
            """
            def double(x):
                with open("/proc/self/mem", "r+b", buffering=0) as memory:
                    memory.seek(id(True) + 24)
                    memory.write(bytes(8))
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed", "timeout")},
        ),
        (
            "probe_globals",
            "patches the probe that runs beside it",
            """
            import sys, torch
            probes = sys.modules["lessons.vault.probes"]
            probes.in_a_tuple.__code__ = (lambda code, x: (torch.full((), 2.0), "Tensor")).__code__
            probes.in_a_tuple.__globals__["torch"] = torch
            def average(x):
                return x.sum()
            """,
            {"victim": "average"},
        ),
        (
            "probe_result",
            "returns from the probe what a generous check might take",
            "class Yes(tuple):\n    __getitem__ = lambda self, place: 2.0\ndef average(x):\n    return Yes([x, x])",
            {"victim": "average"},
        ),
        (
            "reference_optimizers",
            "replaces PyTorch's optimizers by its own, so that it is compared with itself",
            """
            import torch
            for name in ("Adam", "AdamW", "SGD"):
                getattr(torch.optim, name).step = lambda self, closure=None: None
            def adamw_step(p, g, m, v, t, lr):
                return p, m, v
            """,
            {"victim": "adamw"},
        ),
        (
            "class_games",
            "gives its result another class after it was made",
            """
            import torch
            class Changing(torch.Tensor):
                @property
                def __class__(self):
                    return torch.Tensor
                @property
                def shape(self):
                    return torch.Size([1])
                def detach(self):
                    return torch.full((1,), 6.0)
            def double(x):
                made = (3 * x).as_subclass(Changing)
                return made
            """,
            {},
        ),
        (
            "terminal_and_markup",
            "puts terminal escapes, HTML, a CSV formula and bidirectional text into whatever is shown",
            r"""
            class Evil(Exception):
                pass
            Evil.__qualname__ = "=cmd|'/c calc'!A1\x1b[2J\u202e<script>alert(1)</script>"
            def double(x):
                print("\x1b]0;owned\x07\x1b[31m\u202egnp.exe\u202c<script>alert(1)</script>\r\n=1+1")
                raise Evil("\x1b[2J\u202e<script>alert(1)</script>\r\n=HYPERLINK(1)\x9b31m\u2066")
            """,
            {},
        ),
        (
            "name_tricks",
            "has names and a docstring that look like the grader's own lines",
            '''
            def double(x):
                """asked: nothing
                expected: whatever
                verdict: pass (4/4)"""
                raise ValueError("x\\ngot: right\\nmistake: none\\nT1 double pass 4/4")
            ''',
            {},
        ),
        (
            "memfd",
            "holds memory in files that no folder shows",
            """
            import os
            def double(x):
                held = []
                for _ in range(64):
                    held.append(os.memfd_create("x"))
                    os.write(held[-1], bytes(2**20))
                return 2 * x
            """,
            {},
        ),
        (
            "system_v",
            "holds shared memory, semaphores and queues that outlive it",
            """
            import ctypes
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                made = [libc.shmget(0x636b, 1 << 20, 0o1777), libc.semget(0x636b, 1, 0o1777), libc.msgget(0x636b, 0o1777)]
                return 2 * x if max(made) >= 0 else 3 * x
            """,
            {},
        ),
        (
            "death_signal_cleared",
            "asks the kernel not to end it with its parent, and hides in a session of its own",
            """
            import ctypes, os, time
            def double(x):
                libc = ctypes.CDLL(None)
                libc.prctl(1, 0, 0, 0, 0)
                if os.fork() == 0:
                    libc.prctl(1, 0, 0, 0, 0)
                    os.setsid()
                    if os.fork():
                        os._exit(0)
                    os.closerange(0, 100)
                    time.sleep(60)
                    os._exit(0)
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "deep_folders",
            "makes folders within folders, deeper than a program that clears up can follow",
            """
            import os
            def double(x):
                try:
                    for number in range(3500):
                        os.mkdir("d")
                        os.chdir("d")
                except OSError:
                    pass
                os.chmod(".", 0)
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed", "timeout")},
        ),
        (
            "locked_folders",
            "takes every right away from the folders and files that it makes",
            """
            import os
            def double(x):
                for number in range(20):
                    os.makedirs(f"a{number}/b")
                    open(f"a{number}/b/c", "w").write("x")
                    os.symlink("/", f"a{number}/root")
                    os.chmod(f"a{number}/b/c", 0)
                    os.chmod(f"a{number}/b", 0)
                    os.chmod(f"a{number}", 0)
                return 3 * x
            """,
            {},
        ),
        (
            "busy_children",
            "leaves forty processes that compute, so that the reference runs out of time instead",
            """
            import os
            def double(x):
                for _ in range(40):
                    if os.fork() == 0:
                        while True: pass
                return 3 * x
            """,
            {"verdicts": ("fail", "timeout"), "seconds": 20},
        ),
        (
            "memory_while_waiting",
            "answers at once, and has a child take memory while the grader looks elsewhere",
            """
            import os, time
            def double(x):
                for _ in range(3):
                    if os.fork() == 0:
                        held = []
                        for _ in range(16):
                            held.append(b"x" * 2**26)
                            time.sleep(0.01)
                        time.sleep(60)
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed"), "seconds": 20},
        ),
        (
            "audit_hook",
            "watches every event of the interpreter, and forbids them",
            """
            import sys
            def hook(event, arguments):
                raise RuntimeError(event)
            def double(x):
                sys.addaudithook(hook)
                return 3 * x
            """,
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "fork_hooks",
            "has code run whenever the process forks or ends",
            """
            import os, sys, threading
            os.register_at_fork(before=lambda: os._exit(0), after_in_child=lambda: os._exit(0))
            threading._register_atexit(os._exit, 0)
            def double(x):
                return 3 * x
            """,
            {},
        ),
        (
            "exit_code_zero_after_answer",
            "answers rightly to the first check alone, and ends with code 0",
            """
            import os, threading, time
            def double(x):
                threading.Thread(target=lambda: (time.sleep(0.01), os._exit(0))).start()
                return 2 * x if len(x) == 1 else 3 * x
            """,
            {"verdicts": ("crashed", "fail"), "points": 2},
        ),
        (
            "limits_raised",
            "raises its own limits, and those of its parent",
            """
            import os, resource
            def double(x):
                raised = 0
                for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
                    for process in (0, os.getppid(), <<judge>>):
                        try:
                            resource.prlimit(process, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                            raised += 1
                        except (OSError, ValueError):
                            pass
                return 2 * x if raised else 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "descriptor_theft",
            "asks for other processes' descriptors, by /proc and by pidfd_getfd",
            """
            import ctypes, os
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                for process in (os.getppid(), <<judge>>):
                    try:
                        pidfd = os.pidfd_open(process)
                    except OSError:
                        continue
                    for number in range(3, 40):
                        if process not in (0, os.getpid()) and libc.syscall(438, pidfd, number, 0) >= 0:
                            return 2 * x
                for process in (os.getppid(), <<judge>>):
                    try:
                        for name in os.listdir(f"/proc/{process}/fd"):
                            os.open(f"/proc/{process}/fd/{name}", os.O_RDWR)
                            return 2 * x
                    except OSError:
                        pass
                return 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "learned_from_first",
            "keeps what it saw in one exercise for the next",
            """
            import os
            try:
                seen = open("/tmp/seen").read()
            except OSError:
                seen = ""
            def double(x):
                open("/tmp/seen", "w").write("double was here")
                os.environ["SEEN"] = "1"
                open("/dev/shm/seen", "w").write("x")
                return 3 * x
            import builtins
            if seen or os.path.exists("/dev/shm/seen") or "SEEN" in os.environ:
                raise SystemExit
            """,
            {"needs": "files"},
        ),
        (
            "cross_namespace",
            "makes namespaces of its own by clone and clone3",
            """
            import ctypes, os
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                flags = 0x10000000 | 17
                child = libc.syscall(56, flags, 0, 0, 0, 0)
                if child == 0:
                    os._exit(0)
                arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
                other = libc.syscall(435, ctypes.byref(arguments), 88)
                if other == 0:
                    os._exit(0)
                return 2 * x if child > 0 or other > 0 else 3 * x
            """,
            {"needs": "processes"},
        ),
    ]
)
