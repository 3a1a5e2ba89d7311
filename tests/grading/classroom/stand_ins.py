"""In the place of `crew.work`, in processes that are started for it: what no grader should do. Light to import."""

from __future__ import annotations

import os
import signal
import time

from coursekit.grading.classroom import crew


def die(pipe, setting, root):
    """Never start."""
    os._exit(5)


def falter(pipe, setting, root):
    """Grade the submission s0, and die of any other."""
    crew._settle_in(root)
    crew._say(pipe, {"level": "full"})
    while job := crew._next(pipe):
        if job.key != "s0":
            os.kill(os.getpid(), signal.SIGKILL)
        crew._say(pipe, {"outcome": {"key": job.key, "report": {"score": 1}}})


def complain(pipe, setting, root):
    """Meet a fault of ours, and tell it."""
    crew._say(pipe, {"level": "full"})
    if crew._next(pipe):
        crew._say(pipe, {"fault": "ZeroDivisionError: by nought"})


def hang(pipe, setting, root):
    """Be busy for ever, and deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    crew._say(pipe, {"level": "full"})
    time.sleep(1000)
