"""`coursekit doctor`: what works on this machine, and for each fault its mend."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coursekit.cli.output import JsonOption, write_json_to

if TYPE_CHECKING:
    import torch

_OLDEST = (3, 11)
_DISK = 2e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        state: `ok`, `note` (works, but could be better) or `broken`.
        says: what was found.
        fix: one action; empty when all is well.
    """

    what: str
    state: str
    says: str
    fix: str = ""


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("doctor")(doctor)


def doctor(json: JsonOption = None) -> None:
    """Look at Python, packages, device, kernels, isolation, disk, data, lessons; exit with 1 when one is broken."""
    findings: list[Finding] = []
    for what, look in _LOOKS.items():
        for finding in _guarded(what, look):
            findings.append(finding)
            if json is None:
                print(f"{finding.state:<7} {finding.what:<24} {finding.says}", flush=True)
                if finding.fix:
                    print(f"{'':<32} Fix: {finding.fix}.")
    if json is not None:
        write_json_to(json, {"findings": [asdict(finding) for finding in findings]})
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; whatever a broken installation raises on the way is a finding too."""
    try:
        yield from look()
    except Exception as error:
        yield Finding(what, "broken", f"{type(error).__name__}: {error}", "install it again with `make setup`")


def _python() -> Iterator[Finding]:
    now = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _OLDEST:
        yield Finding("python", "broken", now, "install Python 3.11 or newer")
    else:
        yield Finding("python", "ok", now)


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("coursekit") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        yield Finding("coursekit", "broken", "not installed", "run `make setup`, or `pip install -e .` in the clone")
        return
    faults = 0
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            faults += 1
            yield Finding(requirement.name, "broken", "not installed", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            faults += 1
            yield Finding(
                requirement.name, "broken", f"{found}, not {requirement.specifier}", f"pip install '{requirement}'"
            )
    if not faults:
        yield Finding("packages", "ok", f"all {len(wanted)} there, in the versions that were tried")


def _torch() -> Iterator[Finding]:
    import torch

    cores = os.cpu_count() or 1
    if not torch.cuda.is_available():
        yield Finding("device", "ok", f"cpu, {cores} cores; no CUDA device, so lessons run on the CPU")
        device = torch.device("cpu")
    else:
        device = torch.device("cuda")
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        yield Finding("device", "ok", f"{torch.cuda.device_count()} x {name}, {memory / 1e9:.0f} GB")
    yield _fused_optimizer(device)
    yield from _attention_kernels(device)
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield Finding("bf16", "note", "not in this GPU's hardware", "leave training.precision=auto")
    elif device.type == "cuda":
        yield Finding("bf16", "ok", "in hardware")
    yield Finding("compiler", *_compiler())


def _fused_optimizer(device: torch.device) -> Finding:
    import torch

    weight = torch.nn.Parameter(torch.ones(4, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        torch.optim.AdamW([weight], fused=True).step()
    except RuntimeError as error:
        return Finding("fused optimizers", "note", str(error).splitlines()[0], "set training.fused=false")
    return Finding("fused optimizers", "ok", "AdamW's fused kernel took a step")


def _attention_kernels(device: torch.device) -> Iterator[Finding]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    on_gpu = device.type == "cuda"
    query = torch.ones(1, 2, 8, 64, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    working = []
    names = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
    names |= {"cuDNN": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
    for name, backend in names.items():
        try:
            with warnings.catch_warnings(), sdpa_kernel(backend):
                warnings.simplefilter("ignore")  # a kernel that does not fit says why, at length
                scaled_dot_product_attention(query, query, query)
            working.append(name)
        except RuntimeError:
            continue
    if any(name != "math" for name in working):
        yield Finding("fused attention", "ok", f"works here: {', '.join(working)}")
    else:
        yield Finding("fused attention", "note", "only the plain kernel works", "update the GPU's driver")


def _compiler() -> tuple[str, str, str]:
    found = next((name for name in ("c++", "g++", "clang++", "cl") if shutil.which(name)), None)
    if found is None:
        return "note", "none, so torch.compile cannot build CPU kernels", "install g++, or leave training.compile=false"
    return "ok", f"{found}, for torch.compile", ""


def _isolation() -> Iterator[Finding]:
    from coursekit.grading.isolation import CONFINED, SAYS
    from coursekit.grading.warm import Warm

    warm = Warm(None)
    try:
        level = warm.level
        says = f"{level}: {SAYS[level]}"
        if not warm.refused and level in CONFINED:
            yield Finding("isolation", "ok", says)
            return
        reason = "; ".join(f"{other} is not to be had: {why}" for other, why in warm.refused.items())
        fix = "grade a class on Linux 6.12 or newer where user namespaces are allowed"
        yield Finding("isolation", "note", f"{says}. {reason}".strip(" ."), fix)
    finally:
        warm.close()


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("folder", "broken", f"{Path.cwd()} cannot be written to", "go to a folder of your own")
    if free < _DISK:
        yield Finding(
            "disk", "note", f"{free / 1e9:.1f} GB free here", "free some space, or name another disk with --out"
        )
    else:
        yield Finding("disk", "ok", f"{free / 1e9:.0f} GB free here")


def _data() -> Iterator[Finding]:
    from coursekit.data import cards, is_available

    for card in cards():
        if card.embedded:
            yield Finding(card.name, "ok", f"embedded, {card.rows:,} rows")
        elif is_available(card.name):
            yield Finding(card.name, "ok", "downloaded")
        else:
            yield Finding(card.name, "ok", f"not downloaded; optional: `coursekit download {card.name}`")


def _lessons() -> Iterator[Finding]:
    from coursekit import catalog
    from coursekit.errors import UserError

    try:
        found = catalog.lessons()
    except UserError as error:
        yield Finding("lessons", "broken", str(error), "go to your clone of the course")
        return
    exercises = sum(len(entry.exercises) for entry in found)
    yield Finding("lessons", "ok", f"{len(found)} with {exercises} exercises, in {catalog.root() / 'lessons'}")


_LOOKS = {
    "python": _python,
    "packages": _packages,
    "torch": _torch,
    "isolation": _isolation,
    "disk": _disk,
    "data": _data,
    "lessons": _lessons,
}
