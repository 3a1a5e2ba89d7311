"""Grading on the processes of a dask.distributed cluster. No torch in this process.

Every worker has coursekit and the course installed; the bytes of a submission are sent to it. Its process keeps one
warm grader. A worker that is lost costs nothing: the scheduler gives its submissions to another. A record is kept by
its key, so a submission that was graded twice for that reason counts once.

A scheduler runs what it is sent: let nobody but yourself reach it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from coursekit.errors import LessonError, UserError
from coursekit.grading.classroom.desk import Desk, Job, Outcome, Setting

if TYPE_CHECKING:
    from distributed import Client, Future

_PATIENCE = 5.0  # seconds to answer a first call
_WARM_UP = 300.0  # seconds in which every worker must have its grader ready
_GLANCE = 0.5  # seconds between two looks at whether the cluster is still there
_LOST = 60.0  # seconds without a worker, or without the scheduler, after which the run ends
_TRIES = 2
_EXTRA = "pip install 'coursekit[cluster]'"


def grade(jobs: Sequence[Job], setting: Setting, *, address: str) -> Iterator[Outcome]:
    """Grade submissions on a cluster, and yield each outcome as it comes.

    Args:
        jobs: the submissions.
        setting: of the class.
        address: of the scheduler, `tcp://host:port`.

    Raises:
        UserError: the cluster is not there, was lost, or its workers are not fit for it.
    """
    with _client(address) as client:
        _check_workers(client, setting, address)
        tries = dict.fromkeys((job.key for job in jobs), 1)
        known = {job.key: job for job in jobs}
        waiting = {_submit(client, job, setting, 1): job.key for job in jobs}
        lost_since: float | None = None
        while waiting:
            done = _finished(client, waiting)
            lost_since = None if done or _there(client) else lost_since or time.monotonic()
            if lost_since and time.monotonic() - lost_since > _LOST:
                raise _gone(address, f"no worker for {_LOST:.0f} s")
            if any(future.cancelled() for future in done):  # as all are when the scheduler goes
                raise _gone(address, "a lost connection")
            for future in done:
                key = waiting.pop(future)
                answer, cause = _answer(future)
                if "refused" in answer:  # by a worker that joined later
                    where, expected, got, fix = answer["refused"]
                    raise UserError(where, expected, got=got, fix=fix)
                if "outcome" in answer:
                    yield Outcome(**answer["outcome"])
                elif tries[key] < _TRIES:
                    tries[key] += 1
                    waiting[_submit(client, known[key], setting, tries[key])] = key
                else:
                    yield Outcome.gave_up(key, cause)


def _submit(client: Client, job: Job, setting: Setting, attempt: int) -> Future:
    # Keys of our own: a scheduler that still knows an earlier run must not answer with its results.
    name = f"coursekit-{setting.lesson}-{job.key}-{attempt}-{os.urandom(6).hex()}"
    return client.submit(work, job, setting, key=name, pure=False)


def _finished(client: Client, waiting: dict[Future, str]) -> list[Future]:
    from distributed import wait

    with client.as_current(), suppress(TimeoutError, CancelledError):
        wait(list(waiting), timeout=_GLANCE, return_when="FIRST_COMPLETED")
    return [future for future in waiting if future.done()]


def _answer(future: Future) -> tuple[dict[str, Any], str]:
    """Return what a worker said of its job, or why it did not, in words."""
    from distributed import KilledWorker

    try:
        return future.result(timeout=_PATIENCE), ""
    except KilledWorker:
        return {}, "workers died of it"
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"[:300]


# -------------------------------------------------------------------------------------- the cluster


@contextmanager
def _client(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError:
        got = "no package `distributed`"
        raise UserError("--scheduler", "the extra `cluster`", got=got, fix=_EXTRA) from None
    # What it has to say of lost connections is told in our words.
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.comm", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError):
        fix = "start it with `dask scheduler`, and workers with `dask worker`, or mend the address"
        got = f"no answer from {address} within {_PATIENCE:.0f} s"
        raise UserError("--scheduler", "a dask.distributed scheduler", got=got, fix=fix) from None
    except (ValueError, TypeError) as error:
        fix = "write tcp://host:port"
        raise UserError("--scheduler", "an address", got=f"{address} ({error})", fix=fix) from None
    try:
        yield client
    finally:
        with suppress(Exception):  # a cluster that is gone cannot be taken leave of
            client.close(timeout=_PATIENCE)


def _check_workers(client: Client, setting: Setting, address: str) -> None:
    """Open the grader of every worker, and refuse those that would grade another way."""
    if not client.scheduler_info(n_workers=-1)["workers"]:
        fix = f"start some: `dask worker {address} --nthreads 1`"
        raise UserError("--scheduler", "a scheduler with workers", got="none", fix=fix)
    try:
        answers: Any = client.run(prepare, setting, on_error="return")
    except (OSError, TimeoutError):
        raise _gone(address, "no answer") from None
    for worker, answer in answers.items():
        if isinstance(answer, ImportError):
            fix = "install the same coursekit on every worker"
            raise LessonError(f"worker {worker}", "coursekit", got=str(answer), fix=fix)
        if isinstance(answer, BaseException):
            raise LessonError(f"worker {worker}", "a grader that starts", got=str(answer), fix="see that worker's log")
        if "refused" in answer:
            where, expected, got, fix = answer["refused"]
            raise UserError(f"worker {worker}: {where}", expected, got=got, fix=fix)


def _there(client: Client) -> bool:
    """Return whether the scheduler answers, and has a worker."""
    if client.status != "running":
        return False
    try:
        return bool(client.scheduler_info(n_workers=-1)["workers"])
    except Exception:
        return False


def _gone(address: str, reason: str) -> UserError:
    fix = "repeat the command when it is back: what was graded is kept"
    return UserError("--scheduler", f"a cluster at {address} that stays", got=reason, fix=fix)


# --------------------------------------------------------------------------------- in a worker's process

_LOCK = threading.Lock()
_DESKS: dict[Setting, Desk] = {}


def prepare(setting: Setting) -> dict[str, Any]:
    """Open this process's grader, unless it is open; return how it confines, or why it must not grade."""
    with _LOCK:
        return _open(setting)


def work(job: Job, setting: Setting) -> dict[str, Any]:
    """Grade one submission with this process's grader.

    Args:
        job: the submission.
        setting: of the class.
    """
    with _LOCK:
        answer = _open(setting)
        if "refused" in answer:
            return answer
        try:
            return {"outcome": asdict(_DESKS[setting].grade(job))}
        except BaseException:
            _DESKS.pop(setting).close()  # the next one has a fresh grader
            raise


def _open(setting: Setting) -> dict[str, Any]:
    if setting not in _DESKS:
        for other in list(_DESKS):  # of another run: one warm grader is enough
            _DESKS.pop(other).close()
        try:
            _DESKS[setting] = Desk(setting)
        except UserError as error:
            return {"refused": [error.where, error.expected, error.got, error.fix]}
    return {"level": _DESKS[setting].level}


@atexit.register
def _close_all() -> None:
    for desk in _DESKS.values():
        desk.close()
