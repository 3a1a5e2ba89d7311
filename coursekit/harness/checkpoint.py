"""Checkpoints: written whole or not at all, read as plain tensors and values, checked before use."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from coursekit.errors import CheckpointError
from coursekit.files import output_error, write_atomically

KEY = "coursekit"


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's checkpoint files, atomic on the way out and `weights_only=True` on the way in."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: the disk is full or read-only; the former checkpoint is unharmed.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; `weights_only` is always True here.

        Raises:
            CheckpointError: as `read_checkpoint`.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint file."""
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(Path(path), error) from None


def read_checkpoint(path: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """Read a checkpoint onto the CPU and check that it is one of ours.

    Args:
        path: the file.
        fingerprint: of the training that wants to continue from it; None accepts any.

    Raises:
        CheckpointError: the file is missing, cut short, holds more than tensors and plain values, or comes
            from another configuration.
    """
    where = f"checkpoint {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            where, "a readable file", got=(error.strerror or str(error)).lower(), fix="name one that exists"
        ) from None
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        first_line = str(error).partition("\n")[0][:120] or type(error).__name__
        raise CheckpointError(
            where,
            "a whole checkpoint of tensors and plain values",
            got=f"a file that cannot be read ({first_line})",
            fix="delete this file and repeat the command: training then starts from the beginning",
        ) from None
    ours = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or "fingerprint" not in ours:
        raise CheckpointError(
            where,
            "a checkpoint that coursekit wrote",
            got="another kind of file",
            fix="name another folder with --out",
        )
    if fingerprint is not None and ours["fingerprint"] != fingerprint:
        raise CheckpointError(
            where,
            "a checkpoint of this very training (same settings, data, code and starting weights)",
            got="one of another configuration",
            fix="name another folder with --out, or delete this file to start from the beginning",
        )
    return checkpoint
