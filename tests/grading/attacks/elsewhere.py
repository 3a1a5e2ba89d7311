"""The arena as another user, or at another level: run as a program of its own, since neither can be taken back.

    python -m tests.grading.attacks.elsewhere USER LEVEL NAME...

prints one line of JSON for each attack: its name and what was not as it must be.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
from pathlib import Path

from coursekit.grading.worker import linux


def open_to_all(paths: list[str]) -> None:
    """Make paths that lie in a folder closed to others readable, in mounts of this process's own; needs root."""
    linux.unshare(linux.NEW_MOUNTS)
    linux.mount(None, "/", flags=linux.RECURSIVE | linux.PRIVATE)
    closed: dict[str, list[str]] = {}
    for path in map(os.path.realpath, paths):
        for parent in reversed(Path(path).parents):
            if not parent.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(str(parent), []).append(path)
                break
    for folder, inside in closed.items():
        opened = {path: os.open(path, os.O_PATH) for path in inside}
        linux.mount("tmpfs", folder, "tmpfs", 0, "size=1m,mode=0755")
        for path, descriptor in opened.items():
            os.makedirs(path, exist_ok=True)
            linux.mount(f"/proc/self/fd/{descriptor}", path, flags=linux.BIND | linux.RECURSIVE)
            os.close(descriptor)


def become(user: int) -> None:
    """Become another user; with 0, stay who we are, but where Python can be read by all."""
    root = str(Path(__file__).parents[3])
    if os.getuid() == 0:
        open_to_all(sorted({sys.base_prefix, sys.prefix, root}))
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        linux._process_control(4, 1)  # changing the user closes /proc/self to itself
    os.environ["HOME"] = "/nonexistent"
    os.environ.pop("PYTHONPATH", None)


def forbid_namespaces() -> None:
    """Have this process live where no namespace can be made, as on systems that leave that to root."""
    user, group = os.getuid(), os.getgid()
    linux.unshare(linux.NEW_USER)
    linux.keep_ids(user, group)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    linux.drop_capabilities()


def main() -> None:
    """Try the attacks named on the command line."""
    user, level, *names = sys.argv[1:]
    become(int(user))
    if level == "none-allowed":
        forbid_namespaces()
        level = "best"
    folder = Path(tempfile.mkdtemp(prefix="coursekit-arena-"))
    folder.chmod(0o755)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "temporary")  # PyTorch would leave a folder in /tmp
    # After the change: what is imported from here on is imported as that user.
    from coursekit.grading import warm

    from . import CATALOGUE
    from .arena import arena

    if level != "best":
        warm._candidates = lambda: [level]
    weak = level == "process-only"
    with arena(folder) as made:
        print(json.dumps({"level": made.grader.level}), flush=True)
        for attack in CATALOGUE:
            if attack.name in names or attack.family in names:
                try:
                    faults = made.faults(attack, hidden=not weak, alone=not weak)
                except BaseException as error:
                    faults = [f"the judge raised {type(error).__name__}: {error}"]
                print(json.dumps({"name": attack.name, "faults": faults}), flush=True)
                if os.environ.get("ARENA_GO_ON"):
                    made._before = made.canaries.state(made.course)
                    with contextlib.suppress(AttributeError):
                        made.canaries.reached.clear()


if __name__ == "__main__":
    main()
