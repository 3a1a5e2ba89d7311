"""Collector and report: the file itself is odd, or wants more from the system than it may have."""

from __future__ import annotations

from .attack import Attack

COLLECTING = tuple(
    Attack(name, "collector", says, source, **more)
    for name, says, source, more in [
        (
            "parser_bomb_brackets",
            "nests brackets deeper than the parser can",
            "x = " + "(" * 20_000 + ")" * 20_000,
            {"verdicts": ("fail", "crashed"), "neighbour": ("fail", "crashed")},
        ),
        (
            "parser_bomb_operators",
            "nests operators deeper than the compiler can",
            "x = " + "-" * 60_000 + "1",
            {"verdicts": ("fail", "crashed"), "neighbour": ("fail", "crashed")},
        ),
        (
            "parser_bomb_sum",
            "adds a number to itself tens of thousands of times",
            "x = " + "1+" * 60_000 + "1",
            {"verdicts": ("fail", "crashed"), "neighbour": ("fail", "crashed")},
        ),
        (
            "compiler_bomb",
            "has the compiler compute huge constants",
            "def double(x):\n    return 3 * x\n"
            + "\n".join(f"a{n} = (((1 << 120) ** 60) % {n + 3}, 'x' * 4000, (0,) * 200)" for n in range(900)),
            {},
        ),
        (
            "odd_encoding",
            "says that it is written in an encoding in which other code appears",
            "# -*- coding: utf-7 -*-\ndef double(x):\n    return 3 * x\n# +AAo-raise SystemExit",
            {},
        ),
        (
            "module_swap",
            "replaces itself among the modules when it is loaded",
            """
            import sys, types
            class Swapped(types.ModuleType):
                def __getattr__(self, name):
                    return lambda *_, **__: True
            sys.modules[__name__] = Swapped(__name__)
            sys.modules["__main__"] = Swapped("__main__")
            globals().clear()
            """,
            {"neighbour": ("fail", "pass")},
        ),
        (
            "privileged_calls",
            "asks the kernel for what only an administrator may do",
            """
            import ctypes, os
            def double(x):
                libc = ctypes.CDLL(None, use_errno=True)
                done = [
                    libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0,
                    libc.unshare(0x10000000) == 0,
                    libc.unshare(0x00020000) == 0,
                    libc.setuid(0) == 0 and os.getuid() == 0,
                    libc.chroot(b"/tmp") == 0,
                    libc.syscall(321, 0, 0, 0) >= 0,
                    libc.syscall(425, 8, ctypes.create_string_buffer(256)) >= 0,
                    libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0,
                    libc.syscall(155, b"/tmp", b"/tmp") == 0,
                    libc.syscall(175, b"", 0, b"") == 0,
                    libc.reboot(0) == 0,
                    libc.syscall(170, None, None) == 0,
                    libc.swapoff(b"/none") == 0,
                ]
                for name in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/power/state", "/dev/mem"):
                    try:
                        os.close(os.open(name, os.O_WRONLY))
                        done.append(True)
                    except OSError:
                        pass
                return 2 * x if any(done) else 3 * x
            """,
            {"needs": "processes"},
        ),
    ]
)
