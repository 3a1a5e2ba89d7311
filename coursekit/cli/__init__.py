"""The command line: one file for each verb, heavy imports inside the commands."""

from coursekit.cli.app import main

__all__ = ["main"]
