"""`coursekit download`: fetch a data set that is not embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("download")(download)


def download(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist or cifar10.")],
    root: Annotated[Path | None, typer.Option(help="Where to keep it; $COURSEKIT_DATA or ./data by default.")] = None,
) -> None:
    """Download a data set; what is there already is not fetched again."""
    from coursekit import data

    place = data.download(name, root)
    print(f"{name}: {'ships with scikit-learn, nothing to download' if place is None else f'ready in {place}'}")
