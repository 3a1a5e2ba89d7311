"""What `coursekit verify` says: one row for each submission whose verdict is known, and what is missing.

Nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from coursekit.grading.verdicts import Verdict

RowKind = Literal["stub", "solution", "alternative", "dialect", "wrong", "mutant"]


@dataclass(frozen=True)
class Row:
    """One submission whose verdict is known, and what it got.

    Args:
        lesson: its id.
        exercise: its id.
        submission: `stub`, `solution`, or the id of an answer or mutant.
        kind: of the submission.
        expected: the verdict that it must get; a mutant that must fail may also run out of time or crash.
        verdict: that it got; over several seeds, the first that was not as expected.
        diagnosis: id of the known answer that was named, if any.
        ok: whether verdict, diagnosis and points are as they must be.
    """

    lesson: str
    exercise: str
    submission: str
    kind: RowKind
    expected: Verdict
    verdict: Verdict
    diagnosis: str | None
    ok: bool


@dataclass(frozen=True)
class Survivor:
    """A mutant that passes every check, and why that is no hole.

    Args:
        exercise: its id.
        mutant: its id.
        because: the reason; empty when there is none: then it is a hole.
    """

    exercise: str
    mutant: str
    because: str


@dataclass(frozen=True)
class Verification:
    """The proof of one lesson's checks.

    Args:
        rows: one for each submission and exercise.
        findings: what is missing in the lesson, in sentences.
        seeds: of the inputs.
        operators: kinds of change in the mutants: how many died, and how many there were.
        survivors: the mutants that did not die.
    """

    rows: tuple[Row, ...]
    findings: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    operators: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    survivors: tuple[Survivor, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are rows, all are as they must be, and nothing is missing."""
        return bool(self.rows) and all(row.ok for row in self.rows) and not self.findings

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `coursekit verify`."""
        return to_json([self])


def to_json(proofs: Sequence[Verification]) -> dict[str, Any]:
    """Return the JSON of `coursekit verify` for several lessons."""
    rows = [row for proof in proofs for row in proof.rows]
    operators: dict[str, tuple[int, int]] = {}
    for proof in proofs:
        for name, (killed, total) in proof.operators.items():
            before = operators.get(name, (0, 0))
            operators[name] = (before[0] + killed, before[1] + total)
    return {
        "rows": [asdict(row) for row in rows],
        "summary": {
            "ok": bool(proofs) and all(proof.ok for proof in proofs),
            "rows": len(rows),
            "failed": sum(not row.ok for row in rows),
            "findings": [finding for proof in proofs for finding in proof.findings],
            "kinds": dict(Counter(row.kind for row in rows)),
            "mutants": {
                "killed": sum(killed for killed, _ in operators.values()),
                "total": sum(total for _, total in operators.values()),
                "operators": {
                    name: {"killed": killed, "total": total} for name, (killed, total) in sorted(operators.items())
                },
                "survivors": [asdict(survivor) for proof in proofs for survivor in proof.survivors],
            },
        },
    }
