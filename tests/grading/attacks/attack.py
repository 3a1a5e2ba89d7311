"""What an attack is, and how its text becomes a file of answers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

RIGHT = {
    "double": "def double(x):\n    return x + x\n",
    "average": "def average(x):\n    return x.sum() / x.numel()\n",
    "adamw": """
def adamw_step(p, g, m, v, t, lr):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return p - lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v
""",
    "attend": "def attend(q, k, v):\n    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v\n",
}
POINTS = {"double": 4, "average": 2, "adamw": 4, "attend": 4}


@dataclass(frozen=True)
class Attack:
    """A file of answers that wants what it has not earned, or that disturbs honestly.

    Args:
        name: unique.
        family: of the catalogue.
        says: what it tries, in one sentence.
        source: Python; `<<name>>` stands for a place of the arena (see `Arena.places`).
        verdicts: that the attacked exercise may get.
        neighbour: verdicts that the honest exercise of the same file may get.
        victim: the exercise that is attacked.
        points: that the attacked exercise earns: 0, unless the work was honest.
        flagged: what a person must be told of, where the points cannot be refused.
        seconds: that grading may take on a quiet machine.
        needs: `files` hidden from it, or `processes` out of its reach, which a mere process does not give.
        slow: whether `make test` leaves it out: another one does nearly the same, quicker.
    """

    name: str
    family: str
    says: str
    source: str
    verdicts: tuple[str, ...] = ("fail",)
    neighbour: tuple[str, ...] = ("pass",)
    victim: str = "double"
    points: float = 0
    flagged: str = ""
    seconds: float = 10.0
    needs: str = ""
    slow: bool = False

    @property
    def others(self) -> str:
        """The honest exercise in the same file."""
        return "double" if self.victim == "average" else "average"

    def text(self, places: Mapping[str, str]) -> str:
        """Return the file: the attack, and the honest answer beside it."""
        body = textwrap.dedent(self.source).lstrip("\n")
        for name, place in places.items():
            body = body.replace(f"<<{name}>>", place)
        return f"{body}\n\n{RIGHT[self.others]}"
