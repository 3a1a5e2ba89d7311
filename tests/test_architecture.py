"""Who may import whom: the contracts hold, and each of them bites."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract["name"] for contract in SETTINGS["contracts"]}
# Who imports what must not be, and the contract that says so.
FORBIDDEN = [
    ("coursekit.data.x", "coursekit.harness", "floors"),
    ("coursekit.metrics.x", "coursekit.data", "floors"),
    ("coursekit.plots.x", "coursekit.metrics", "floors"),
    ("coursekit.harness.x", "coursekit.grading", "floors"),
    ("coursekit.harness.x", "coursekit.rl", "floors"),
    ("coursekit.metrics.x", "coursekit.attribution", "floors"),
    ("coursekit.attribution.x", "coursekit.rl", "floors"),
    ("coursekit.grading.x", "coursekit.cli", "floors"),
    ("coursekit.runtime", "coursekit.data", "floors"),
    ("coursekit.catalog", "coursekit.progress", "floors"),
    ("coursekit.errors", "coursekit.files", "floors"),
    ("coursekit.config", "torch", "light-floor"),
    ("coursekit.progress", "numpy", "light-floor"),
    ("coursekit.harness.x", "lessons.optimization", "lessons-above-the-library"),
    ("lessons.second.x", "lessons.optimization.config", "lessons-apart"),
    ("lessons.optimization.x", "coursekit.cli.app", "lessons-without-cli"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that import-linter reads."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("coursekit", "lessons"):
        for file in (ROOT / package).rglob("*.py"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return tmp_path


def lint(tree: Path) -> tuple[set[str], str]:
    """Return the ids of the broken contracts and what import-linter prints."""
    # Next to this interpreter, and in the copy: from anywhere else it would look at the installed package.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-logo", "--no-cache"], cwd=tree, capture_output=True, text=True, check=False)
    states = dict(re.findall(r"^(.+) (KEPT|BROKEN)$", done.stdout, re.MULTILINE))
    assert set(states) == set(CONTRACTS.values()), done.stdout + done.stderr
    broken = {id for id, name in CONTRACTS.items() if states[name] == "BROKEN"}
    assert done.returncode == bool(broken)
    return broken, done.stdout


def test_every_contract_is_kept(tree: Path) -> None:
    broken, printed = lint(tree)
    assert not broken, printed
    files = re.search(r"Analyzed (\d+) files", printed)
    assert files is not None
    # Packages from outside count too; fewer than our own would mean that some were not seen.
    assert int(files[1]) >= len(list(tree.rglob("*.py")))


@pytest.mark.parametrize(("importer", "imported", "contract"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(tree: Path, importer: str, imported: str, contract: str) -> None:
    place = tree / f"{importer.replace('.', '/')}.py"
    place.parent.mkdir(exist_ok=True)
    (place.parent / "__init__.py").touch()
    with place.open("a", encoding="utf-8") as source:
        source.write(f"\n\ndef hidden():\n    import {imported}\n")  # an import in a function counts as well
    broken, printed = lint(tree)
    assert broken == {contract}, printed
    assert f"{importer} -> {imported}" in printed


def test_every_contract_was_seen_to_bite() -> None:
    assert {contract for _, _, contract in FORBIDDEN} == set(CONTRACTS)


def test_a_new_module_without_a_floor_is_reported(tree: Path) -> None:
    (tree / "coursekit" / "attic.py").touch()
    broken, printed = lint(tree)
    assert broken == {"floors"}
    assert "coursekit.attic" in printed
