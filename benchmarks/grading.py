"""Grading one submission of lesson 1: warm, against a fresh pytest for each submission. CPU seconds, in one run.

    python benchmarks/grading.py [submissions]

Both kinds are measured in turns, so that both meet the same machine; all processes are counted. The fresh pytest runs
the same checks beside the submission, without any confinement.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
LESSON = "optimization"
SUBMISSION = ROOT / "lessons" / LESSON / "solution.py"
WARM = f"""
import sys, time
from pathlib import Path
from coursekit import catalog
from coursekit.grading.grader import Grader
with Grader(catalog.lesson({LESSON!r})) as grader:
    started = time.perf_counter()
    for _ in range(int(sys.argv[1])):
        report = grader.grade(Path({str(SUBMISSION)!r}))
        assert report.score == report.max_score, report
    print(grader.level, time.perf_counter() - started)
"""


def cpu_of(command: list[str]) -> tuple[float, str]:
    """Return the CPU seconds of a command with all its children, and what it printed."""
    before = os.times()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    user, system = after.children_user - before.children_user, after.children_system - before.children_system
    return user + system, done.stdout


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    os.environ["OMP_NUM_THREADS"] = "1"
    fresh_command = [sys.executable, "-m", "pytest", f"lessons/{LESSON}", "--submission", str(SUBMISSION)]
    fresh_command += ["--in-process", "-q", "-p", "no:cacheprovider"]
    fresh, warm, walls, level = [], [], [], ""
    for _ in range(5):
        start = time.perf_counter()
        fresh.append(cpu_of(fresh_command)[0])
        fresh_wall = time.perf_counter() - start
        few, _ = cpu_of([sys.executable, "-c", WARM, "1"])
        many, printed = cpu_of([sys.executable, "-c", WARM, str(1 + count)])
        level, wall = printed.split()
        warm.append((many - few) / count)
        walls.append((float(wall) / (1 + count), fresh_wall))
    ratios = [a / b for a, b in zip(warm, fresh, strict=True)]
    print(f"isolation of the warm one: {level}; {count} submissions a round, {len(ratios)} rounds")
    print(f"fresh pytest      {statistics.median(fresh):6.2f} CPU s a submission")
    print(f"warm and confined {statistics.median(warm):6.2f} CPU s a submission")
    print(f"ratio of CPU seconds: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    wall_ratios = [a / b for a, b in walls]
    print(f"ratio of wall time:   median {statistics.median(wall_ratios):.3f}")


if __name__ == "__main__":
    main()
