"""`fit` trains what a plain loop trains, and says clearly when it cannot."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import runtime
from coursekit.config import Training
from coursekit.data.batches import TensorBatches
from coursekit.errors import ArgumentError, CheckpointError, DeviceError, DivergedError, OutputError
from coursekit.harness import Classifier, fit
from coursekit.harness.checkpoint import read_checkpoint
from coursekit.harness.module import Block, Blocks, fuse
from coursekit.harness.run import write_history

QUICK = Training(epochs=3, batch_size=32, device="cpu")


def settings(**changes: object) -> Training:
    return QUICK.model_copy(update=changes)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def test_it_trains_what_a_plain_loop_trains(digits, build):
    """The same weights, bit for bit, as a loop that a learner would write."""
    module = build(dropout=0.0)
    run = fit(module, digits, settings(fused=False), seed=3, quiet=True)

    other = build(dropout=0.0).network
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9)
    batches = TensorBatches(digits.train.inputs, digits.train.targets, 32, seed=3)
    losses = []
    for epoch in range(3):
        epoch_losses = []
        for inputs, targets in batches.epoch(epoch):
            loss = F.cross_entropy(other(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch_losses.append(loss.item())
        losses.append(sum(epoch_losses) / len(epoch_losses))

    for mine, theirs in zip(module.network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert run.curve("loss") == pytest.approx(losses, rel=1e-6)
    other.eval()
    with torch.no_grad():
        logits = other(digits.validation.inputs)
    assert run.history[-1]["val_loss"] == pytest.approx(
        F.cross_entropy(logits, digits.validation.targets).item(), rel=1e-6
    )
    hits = (logits.argmax(1) == digits.validation.targets).double().mean().item()
    assert run.history[-1]["val_accuracy"] == pytest.approx(hits, abs=1e-12)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert [row["step"] for row in run.history] == [10, 20, 30]


@pytest.mark.parametrize("precision", ["32", "bf16", "64"])
def test_blocks_do_not_change_the_result(digits, build, precision, monkeypatch):
    """One mini-batch a block or a whole epoch: the same history. bf16 is the trap: casts of old weights are cached."""
    whole = fit(build(), digits, settings(precision=precision), quiet=True)
    original = Blocks.__init__
    monkeypatch.setattr(Blocks, "__init__", lambda self, batches, block: original(self, batches, 1))
    single = fit(build(), digits, settings(precision=precision), quiet=True)
    assert without_seconds(whole.history) == without_seconds(single.history)


def test_bf16_is_used_and_close(digits, build):
    exact = fit(build(), digits, settings(precision="32"), quiet=True)
    mixed = fit(build(), digits, settings(precision="bf16"), quiet=True)
    assert mixed.curve("loss") != exact.curve("loss")
    assert mixed.curve("loss") == pytest.approx(exact.curve("loss"), rel=0.05)


def test_double_precision_reaches_the_weights(digits, build):
    run = fit(build(), digits, settings(precision="64"), quiet=True)
    assert {part.dtype for part in run.module.network.parameters()} == {torch.float64}


@pytest.mark.parametrize("changes", [{"loader": "workers"}, {"loader": "workers", "workers": 1}, {"threads": 2}])
def test_how_batches_arrive_does_not_change_them(digits, build, changes):
    usual = fit(build(), digits, QUICK, quiet=True)
    other = fit(build(), digits, settings(**changes), quiet=True)
    assert other.curve("val_loss") == pytest.approx(usual.curve("val_loss"), rel=1e-5)
    assert other.curve("accuracy") == pytest.approx(usual.curve("accuracy"), abs=1e-3)


def test_channels_last_is_only_a_layout(digits):
    runs = []
    for channels_last in (False, None):
        runtime.seed_everything(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10)
        )
        module = Classifier(network, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
        runs.append(fit(module, digits, settings(channels_last=channels_last), quiet=True))
        weight = network.get_parameter("1.weight")
        assert weight.is_contiguous() is (channels_last is False)
    assert runs[0].curve("loss") == pytest.approx(runs[1].curve("loss"), rel=1e-4)


def test_schedule_and_clip_are_called_for_every_step(digits, build):
    seen: list[int] = []

    def schedule(step: int) -> float:
        seen.append(step)
        return 0.1 / (step + 1)

    module = build(schedule=schedule, clip=lambda p: nn.utils.clip_grad_norm_(p, 0.5))
    run = fit(module, digits, QUICK, quiet=True)
    assert seen == list(range(30))
    assert run.history[-1]["lr"] == pytest.approx(0.1 / 30)
    assert run.history[0]["grad_norm"] > 0.5, "the norm before clipping is what is recorded"


@pytest.mark.parametrize(
    ("kind", "fused"), [(torch.optim.AdamW, True), (torch.optim.SGD, True), (torch.optim.RMSprop, None)]
)
def test_fuse_switches_only_what_has_a_kernel(kind, fused):
    optimizer = kind([nn.Parameter(torch.zeros(3))], lr=0.1)
    fuse(optimizer)
    assert optimizer.param_groups[0].get("fused") is fused


def test_fuse_leaves_a_learners_subclass_alone():
    class Own(torch.optim.SGD):
        pass

    optimizer = Own([nn.Parameter(torch.zeros(3))], lr=0.1)
    fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is None


def test_random_numbers_in_the_caller_do_not_matter(digits, build):
    first = fit(build(), digits, QUICK, seed=1, quiet=True)
    module = build()
    fit(build(5), digits, settings(epochs=1), seed=9, quiet=True)
    runtime.seed_everything(0)
    build()  # draws the numbers that `module` drew
    second = fit(module, digits, QUICK, seed=1, quiet=True)
    assert without_seconds(first.history) == without_seconds(second.history)


# ------------------------------------------------------------------ what stays on disk


def test_a_finished_training_is_read_back(digits, build, tmp_path):
    first = fit(build(), digits, QUICK, out=tmp_path, quiet=True)
    before = (tmp_path / "last.ckpt").stat().st_mtime_ns
    module = build()
    second = fit(module, digits, QUICK, out=tmp_path, quiet=True)
    assert second.history == first.history
    assert second.watch.seconds == pytest.approx(first.watch.seconds)
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == before
    for mine, theirs in zip(module.parameters(), first.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_history_csv_has_a_row_for_each_epoch(digits, build, tmp_path):
    fit(build(), digits, QUICK, out=tmp_path, label="momentum", quiet=True)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("run,seed,epoch,step,lr,accuracy,loss,val_loss,val_accuracy")
    assert len(lines) == 4
    assert lines[1].startswith("momentum,0,1,10,")


def test_tensorboard_when_asked(digits, build, tmp_path):
    fit(build(), digits, settings(tensorboard=True), out=tmp_path, quiet=True)
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("change", "seed", "identity"),
    [({"batch_size": 16}, 0, ""), ({"fused": False}, 0, ""), ({}, 1, ""), ({}, 0, "other code")],
    ids=["settings", "fused", "seed", "code"],
)
def test_a_checkpoint_of_another_training_is_refused(digits, build, tmp_path, change, seed, identity):
    fit(build(), digits, QUICK, out=tmp_path, quiet=True)
    kept = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(CheckpointError, match=r"a checkpoint of this very training.*Fix: name another folder"):
        fit(build(), digits, settings(**change), seed=seed, identity=identity, out=tmp_path, quiet=True)
    assert (tmp_path / "last.ckpt").read_bytes() == kept


def test_how_often_it_saves_is_no_other_training(digits, build, tmp_path):
    first = fit(build(), digits, QUICK, out=tmp_path, quiet=True)
    assert fit(build(), digits, settings(checkpoint_seconds=0.0), out=tmp_path, quiet=True).history == first.history


@pytest.mark.parametrize("length", [0, 1, 100, -1], ids=["empty", "one byte", "cut short", "last byte missing"])
def test_a_checkpoint_cut_short_is_told(digits, build, tmp_path, length):
    fit(build(), digits, QUICK, out=tmp_path, quiet=True)
    file = tmp_path / "last.ckpt"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"a whole checkpoint of tensors and plain values.*Fix: delete this file"):
        fit(build(), digits, QUICK, out=tmp_path, quiet=True)


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    torch.save({"coursekit": Harm()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="a whole checkpoint of tensors and plain values"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "harmed").exists()


def test_a_checkpoint_of_something_else_is_told(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="a checkpoint that coursekit wrote"):
        read_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="a readable file"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_a_full_disk_keeps_the_former_checkpoint(digits, build, tmp_path, monkeypatch):
    fit(build(), digits, settings(epochs=2), out=tmp_path / "a", quiet=True)
    count = 0
    original = os.fsync

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(28, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space left on device.*Fix: free some disk space"):
        fit(build(), digits, settings(checkpoint_seconds=0.0), out=tmp_path / "b", quiet=True)
    monkeypatch.undo()
    kept = read_checkpoint(tmp_path / "b" / "last.ckpt")
    assert kept["coursekit"]["position"]["step"] >= 1
    resumed = fit(build(), digits, settings(checkpoint_seconds=0.0), out=tmp_path / "b", quiet=True)
    straight = fit(build(), digits, QUICK, quiet=True)
    assert without_seconds(resumed.history) == without_seconds(straight.history)


def test_a_folder_that_is_a_file_is_told(digits, build, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match="a place that can be written to"):
        fit(build(), digits, QUICK, out=tmp_path / "taken" / "deeper", quiet=True)
    assert (tmp_path / "taken").read_text() == "mine"


# ------------------------------------------------------------------ what cannot be trained


def poisoned(step: int):
    """A schedule that ruins the weights at one step; the loss of the next step is not finite."""
    return lambda now: math.inf if now == step else 0.01


@pytest.mark.parametrize("step", [0, 14, 28], ids=["first", "inside", "last but one"])
def test_a_loss_that_is_not_finite_names_its_step(digits, build, tmp_path, step):
    with pytest.raises(DivergedError, match=rf"a finite loss.*at step {step + 1} \(epoch {(step + 1) // 10 + 1}\)"):
        fit(build(schedule=poisoned(step)), digits, settings(checkpoint_seconds=0.0), out=tmp_path, quiet=True)


def test_divergence_keeps_the_last_good_checkpoint(digits, build, tmp_path):
    with pytest.raises(DivergedError, match=r"the last good state is kept in .*last\.ckpt"):
        fit(build(schedule=poisoned(25)), digits, settings(checkpoint_seconds=0.0), out=tmp_path, quiet=True)
    kept = read_checkpoint(tmp_path / "last.ckpt")
    assert all(part.isfinite().all() for part in kept["state_dict"].values())
    assert len(kept["coursekit"]["history"]) == 2


def test_divergence_may_simply_end_the_training(digits, build):
    run = fit(build(schedule=poisoned(14)), digits, QUICK, if_diverged="stop", quiet=True)
    assert run.diverged_at == 15
    assert len(run.history) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(digits, build):
    with pytest.raises(DeviceError, match=r"a CUDA device that this machine has \(0 found\).*Fix: run on the CPU"):
        fit(build(), digits, settings(device="cuda"), quiet=True)


def test_a_batch_larger_than_the_data_is_told(digits, build):
    with pytest.raises(ArgumentError, match=r"a batch size from 1 to the 320 training rows. Got 321"):
        fit(build(), digits, settings(batch_size=321), quiet=True)


def test_an_unknown_column_is_told(digits, build):
    run = fit(build(), digits, settings(epochs=1), quiet=True)
    with pytest.raises(ArgumentError, match="one of the columns epoch, step"):
        run.curve("val_acc")


def test_write_history_joins_runs_with_different_columns(digits, build, tmp_path):
    plain = fit(build(), digits, settings(epochs=1), label="plain", quiet=True)
    clipped = fit(
        build(clip=lambda p: nn.utils.clip_grad_norm_(p, 1.0)), digits, settings(epochs=1), label="clipped", quiet=True
    )
    lines = write_history(tmp_path / "m.csv", [plain, clipped]).read_text().splitlines()
    assert len(lines) == 3
    assert len({line.count(",") for line in lines}) == 1


def test_blocks_come_again_empty_after_a_resume(digits):
    blocks = Blocks(TensorBatches(digits.train.inputs, digits.train.targets, 32), block=4)
    blocks.start = 5
    sizes = [len(list(block)) for block in blocks]
    assert sizes == [0, 3, 2]
    assert len(blocks) == 3
    assert len(list(Block(iter([]), 3))) == 0


def test_the_progress_bar_leaves_one_line(digits, build, capsys):
    fit(build(), digits, QUICK, label="momentum")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("momentum ")
    assert "steps/s" in error


def test_lightning_says_nothing(digits, build, capfd):
    fit(build(), digits, QUICK, quiet=True)
    out, error = capfd.readouterr()
    assert out == ""
    assert error == ""


def test_files_stay_readable_by_others(digits, build, tmp_path: Path):
    fit(build(), digits, settings(epochs=1), out=tmp_path, quiet=True)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o444 == 0o444
