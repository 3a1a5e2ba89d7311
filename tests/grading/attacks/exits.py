"""Exit and forge: the process ends itself, or what looks like a report is written."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

BOTH_CRASH = {"verdicts": ("crashed",), "neighbour": ("crashed",)}

EXITS = tuple(
    Attack(name, "exit", says, source, **more)
    for name, says, source, more in [
        ("exit_at_import", "ends Python with code 0 when it is loaded", "import os\nos._exit(0)", BOTH_CRASH),
        (
            "system_exit_at_import",
            "asks for an exit when it is loaded; what stands below is executed still",
            "raise SystemExit(0)",
            {},
        ),
        (
            "exit_in_call",
            "ends Python in a call",
            "import os\ndef double(x):\n    os._exit(0)",
            {"verdicts": ("crashed",)},
        ),
        ("system_exit_in_call", "asks for an exit in a call", "def double(x):\n    raise SystemExit(0)", {}),
        (
            "forge_report",
            "writes reports of full marks where graders look for them, and ends",
            """
            import os
            def double(x):
                full = '{"score": 6, "exercises": [{"id": "double", "verdict": "pass", "points": 4}]}'
                for folder in (".", "<<course>>", "<<home>>", "<<students>>", "<<folder>>"):
                    for name in ("results.json", "report.json", "junit.xml", "gradebook.csv", "summary.json"):
                        try:
                            open(os.path.join(folder, name), "w").write(full)
                        except OSError:
                            pass
                os._exit(0)
            """,
            {"verdicts": ("crashed",)},
        ),
        (
            "fake_stdout",
            "prints what a report looks like, on both streams",
            """
            import sys
            def double(x):
                for stream in (sys.stdout, sys.stderr):
                    print('{"score": 6, "max_score": 6}\\n2 passed in 0.01s\\nT1 double pass 4/4', file=stream, flush=True)
                return 3 * x
            """,
            {},
        ),
        (
            "spray_descriptors",
            "writes a report into every descriptor that there is",
            """
            import os
            def double(x):
                for descriptor in range(256):
                    try:
                        os.write(descriptor, b'{"value": null, "done": true, "verdict": "pass"}\\n')
                    except OSError:
                        pass
                return 3 * x
            """,
            {"verdicts": ("crashed",)},
        ),
        (
            "execv",
            "becomes another program that ends with code 0",
            "import os, sys\ndef double(x):\n    os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
            {"verdicts": ("crashed",)},
        ),
        (
            "execv_keeps_channel",
            "becomes another program that answers on the connection",
            """
            import os, sys
            def double(x):
                os.set_inheritable(3, True)
                code = "import os, time; os.write(3, b'CKW1' + bytes(12)); time.sleep(9)"
                os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code])
            """,
            {"verdicts": ("crashed",)},
        ),
        (
            "atexit",
            "leaves code that runs when Python ends",
            "import atexit, os\natexit.register(os._exit, 0)\natexit.register(print, 'all passed')\ndef double(x):\n    return 3 * x",
            {},
        ),
        (
            "swallow_errors",
            "makes every error vanish on its way to the grader",
            """
            import sys, traceback, contextlib
            sys.excepthook = lambda *_: None
            contextlib.ExitStack.__exit__ = lambda *_: True
            contextlib.suppress.__exit__ = lambda *_: True
            traceback.print_exc = traceback.format_exc = lambda *_, **__: ""
            def double(x):
                raise ValueError("I do not know")
            """,
            {},
        ),
        (
            "exit_in_thread",
            "ends Python from a thread, a little later",
            """
            import os, threading, time
            def double(x):
                threading.Thread(target=lambda: (time.sleep(0.02), os._exit(0)), daemon=True).start()
                time.sleep(0.3)
                return 3 * x
            """,
            {"verdicts": ("crashed",)},
        ),
        (
            "exit_in_destructor",
            "returns an object that ends Python when it is let go",
            "import os\nclass Bomb:\n    def __del__(self): os._exit(0)\ndef double(x):\n    return Bomb()",
            {"verdicts": ("crashed", "fail")},
        ),
    ]
)
