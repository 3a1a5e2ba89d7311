"""Settings that every test shares."""

from __future__ import annotations

import os
import signal

# Tiny models spin on a second thread: one is several times cheaper. Read by OpenMP at torch's import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# A shell starts a command in the background with Ctrl-C ignored, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
