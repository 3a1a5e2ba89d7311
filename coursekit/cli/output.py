"""What several verbs share: the option for JSON, and the writing of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE; - is standard output.")
]


def write_json_to(target: str, value: Any) -> None:
    """Write a result as JSON to a file, or to standard output for `-`.

    Raises:
        OutputError: the file cannot be written.
    """
    if target == "-":
        json.dump(value, sys.stdout, indent=2, allow_nan=False, ensure_ascii=False)
        print()
        return
    from coursekit.files import write_json

    write_json(Path(target), value)
