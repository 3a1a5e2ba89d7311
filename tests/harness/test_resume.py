"""A training that was stopped anywhere, even killed, continues to the very history of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coursekit.errors import StoppedError
from coursekit.harness import fit
from coursekit.harness.checkpoint import read_checkpoint

from .test_fit import settings, without_seconds
from .training_script import main

SCRIPT = Path(__file__).with_name("training_script.py")


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=240)
    return out + error


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, object]:
    """The same training, never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    main(folder / "run", folder / "run.json")
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["ctrl-c", "sigterm", "kill -9"],
)
def test_a_stopped_training_continues_bit_for_bit(tmp_path, number, code, straight):
    process = start(tmp_path / "a", tmp_path / "a.json", 4, 0.05)
    checkpoint = tmp_path / "a" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.33)  # let it get into the middle of an epoch (ten steps of 0.05 s)
    process.send_signal(number)
    output = finish(process)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert not (tmp_path / "a.json").exists()
    stopped_at = read_checkpoint(checkpoint)["coursekit"]["position"]["step"]
    assert 0 < stopped_at < 40, "the signal came while it trained"

    main(tmp_path / "a", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == straight
    assert len(straight["history"]) == 4


@pytest.mark.parametrize("step", [1, 7, 10, 19, 20, 25])
def test_it_continues_from_any_step(digits, build, tmp_path, step):
    """A signal that arrives in step `step`, at epoch ends (10, 20) too."""

    def schedule(now: int) -> float:
        if now == step - 1 and not (tmp_path / "sent").exists():
            (tmp_path / "sent").touch()
            os.kill(os.getpid(), signal.SIGINT)
        return 0.05

    with pytest.raises(StoppedError):
        fit(build(schedule=schedule), digits, settings(), out=tmp_path / "run", quiet=True)
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["coursekit"]["position"]["step"] == step
    resumed = fit(build(schedule=schedule), digits, settings(), out=tmp_path / "run", quiet=True)
    straight = fit(build(schedule=schedule), digits, settings(), quiet=True)
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    for mine, theirs in zip(resumed.module.state_dict().values(), straight.module.state_dict().values(), strict=True):
        assert mine.equal(theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_last_step_stops_after_the_training_is_saved(digits, build, tmp_path, number):
    def schedule(now: int) -> float:
        if now == 29:
            os.kill(os.getpid(), number)
        return 0.05

    with pytest.raises(StoppedError):
        fit(build(schedule=schedule), digits, settings(), out=tmp_path, quiet=True)
    assert len(fit(build(schedule=schedule), digits, settings(), out=tmp_path, quiet=True).history) == 3


def test_handlers_come_back(digits, build):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(build(), digits, settings(epochs=1), quiet=True)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
