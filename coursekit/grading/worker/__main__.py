"""The warm process: `python -I -c "...main()" SOCKET [--probes FILE] [--import MODULE]...`, as `warm.py` starts it.

It imports what every worker needs, once, and then forks a locked-down worker for each request. It never holds a
secret, and never runs a line of the learner's code itself. It ends when the judge hangs up.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from coursekit.grading.worker import linux
from coursekit.grading.worker.confine import Limits, lock_down, separate
from coursekit.grading.worker.family import descendants

_LINUX = sys.platform == "linux"
_CHANNEL = 3  # the worker's descriptor of the judge


def main() -> None:
    """Serve the judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=int)
    parser.add_argument("--probes")
    parser.add_argument("--late", action="store_true", help="import PyTorch in each worker, not here")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    parser.add_argument("--forbids", type=json.loads, default=[], help="for each exercise, what its code must not call")
    parser.add_argument("--bare", action="store_true", help="no PyTorch at all: to try the layers alone")
    options = parser.parse_args()
    judge = socket.socket(fileno=options.socket)
    kit = Kit(options.probes, options.imports, options.forbids, bare=options.bare)
    if not options.late:
        kit.load()
        gc.collect()
        gc.freeze()  # a child's collection would copy every page otherwise
    judge.send(b'{"ready": true}')
    _serve(judge, kit)


def _bury() -> None:
    """Take note of supervisors that have ended; ignoring their signal would lose the processor time they took."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Kit:
    """What every worker needs imported.

    Args:
        probes: file of the lesson's probes.
        imports: modules that take long to import, and that the lesson needs.
        forbids: for each exercise, dotted names that take long to be found everywhere.
        bare: none of it.
    """

    def __init__(
        self, probes: str | None, imports: Sequence[str], forbids: Sequence[Sequence[str]], *, bare: bool
    ) -> None:
        self.bare = bare
        self.probes: ModuleType | None = None
        self._file = probes
        self._imports = imports
        self._forbids = forbids
        self._loaded = bare

    def load(self) -> None:
        """Import all of it, once."""
        if self._loaded:
            return
        self._loaded = True
        import torch

        # A process that has once used two threads leaves children in which two threads hang for ever.
        torch.set_num_threads(1)
        for module in ("coursekit.grading.worker.serve", *self._imports):
            importlib.import_module(module)
        work = torch.ones(8, 8, requires_grad=True)
        (work @ work).sum().backward()  # what is set up at the first use is set up here
        if self._file:
            self.probes = _module(Path(self._file))
        from coursekit.errors import LessonError
        from coursekit.grading.guard import Tripwires

        for names in self._forbids:
            with contextlib.suppress(LessonError):  # the judge meets it too, and tells
                Tripwires(tuple(names))  # found once, and remembered


def _module(file: Path) -> ModuleType:
    name = f"lessons.{file.parent.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file}: no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _serve(judge: socket.socket, kit: Kit) -> None:
    # A byte in a pipe for each child that ends: a handler alone would wait for the next request where the signal
    # comes just before the call that waits.
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([judge, ended], [], [])
        if ended in ready:
            os.read(ended, 512)
            _bury()
        if judge not in ready:
            continue
        message, ancillary, *_ = judge.recvmsg(1 << 16, socket.CMSG_SPACE(3 * 4))
        if not message:
            os._exit(0)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if os.fork() == 0:
            judge.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(ended)
            os.close(end)
            channel, output, status = descriptors
            _supervise(json.loads(message), channel, output, status, kit)
        for descriptor in descriptors:
            os.close(descriptor)


# ----------------------------------------------------------------------------------- supervisor


def _supervise(order: dict[str, Any], channel: int, output: int, status: int, kit: Kit) -> NoReturn:
    """Fork the worker, hand the judge a grip on it, and clear up behind it."""
    told = socket.socket(fileno=status)
    parent = os.getppid()
    namespaces = False
    number = os.getpid()
    try:
        if _LINUX:
            linux.die_with_parent(signal.SIGKILL)
            namespaces = separate(order["level"])
        worker = os.fork()
    except OSError as error:
        told.send(json.dumps({"failed": str(error)}).encode() + b"\n")
        os._exit(1)
    if worker == 0:
        told.close()
        _work(order, channel, output, kit, namespaces, number)
    os.close(channel)
    os.close(output)
    if _LINUX and not namespaces:  # the kernel would end this process alone, and not what the worker has made
        signal.signal(signal.SIGTERM, lambda *_: _give_up())
        linux.die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel was asked to tell us
        os.kill(worker, signal.SIGKILL)
    _hand_over(told, worker)
    _, code = os.waitpid(worker, 0)
    if not namespaces:
        _end_descendants()
    with contextlib.suppress(OSError):  # nobody listens any more
        told.send(json.dumps({"exit": os.waitstatus_to_exitcode(code)}).encode() + b"\n")
    os._exit(0)


def _hand_over(told: socket.socket, worker: int) -> None:
    """Send the worker's id, and a descriptor of it where there is one: an id may belong to another one day."""
    message = json.dumps({"worker": worker, "supervisor": os.getpid()}).encode() + b"\n"
    with contextlib.suppress(OSError):
        if not hasattr(os, "pidfd_open"):
            told.send(message)
            return
        grip = os.pidfd_open(worker)
        told.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [grip]))])
        os.close(grip)


def _give_up() -> NoReturn:
    """End everything: the warm process is gone, and the judge with it."""
    _end_descendants()
    os._exit(1)


def _end_descendants() -> None:
    """End all that the worker has left behind: as their new parent we see every orphan."""
    for _ in range(500):
        found = descendants(os.getpid())
        if not found:
            return
        for sign in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks meanwhile
            for process in found:
                with contextlib.suppress(OSError):
                    os.kill(process, sign)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


# -------------------------------------------------------------------------------------- worker


def _work(order: dict[str, Any], channel: int, output: int, kit: Kit, namespaces: bool, number: int) -> NoReturn:
    """Lock this process down, and serve. It ends here, whatever happens."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not namespaces:
            os.setsid()
        if _LINUX:
            linux.die_with_parent(signal.SIGKILL)
        _keep_only(channel, output)
        connection = socket.socket(fileno=_CHANNEL)
        problem = ""
        try:
            lock_down(order["level"], Limits(**order["limits"]), number, order["folder"], order["hidden"])
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if kit.bare or problem:
            connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
            os._exit(0)
        kit.load()
        from coursekit.grading.worker.serve import Channel, serve

        connection.sendall(json.dumps({"problem": ""}).encode() + b"\n")
        serve(Channel(connection), kit.probes)
    except BaseException as error:
        # Of the learner's code nothing comes here: this is ours, or the connection that was cut.
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(70)


def _keep_only(channel: int, output: int) -> None:
    """Make /dev/null the input, the output of both kinds what the judge reads, and close all else but the channel."""
    nothing = os.open(os.devnull, os.O_RDWR)
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 64) for one in (nothing, output, output, channel)]
    for target, descriptor in enumerate(high):
        os.dup2(descriptor, target, inheritable=target < _CHANNEL)
    os.closerange(_CHANNEL + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 4096)


if __name__ == "__main__":
    main()
