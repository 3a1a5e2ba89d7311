"""Settings that every test shares."""

from __future__ import annotations

import os

# Tiny models spin on a second thread: one is several times cheaper. Read by OpenMP at torch's import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
