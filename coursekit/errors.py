"""Every error that coursekit raises on purpose, as one tree.

    CourseError
    ├── UserError                 the reader can mend it: the command line prints it and exits 2
    │   ├── ArgumentError         a value given to a function (also a ValueError)
    │   ├── ConfigError           a profile file or an override; holds every finding at once
    │   ├── LessonError           a lesson, an exercise or a lesson's own file
    │   ├── DataError             data that is missing, damaged or not what it claims to be
    │   ├── DeviceError           a device or precision that this machine does not have
    │   ├── OutputError           a folder or file that cannot be written
    │   ├── CheckpointError       a checkpoint that is cut short, foreign or from another config
    │   ├── IsolationError        submissions cannot be confined as asked for
    │   ├── SubmissionError       a learner's file that cannot be graded at all
    │   └── DivergedError         training produced a loss that is not finite
    └── StoppedError              Ctrl-C or SIGTERM: work was saved, the command can be repeated

Each message reads `<where>: <what was expected>. Got <what came>. Fix: <one action>.`
"""

from __future__ import annotations

from collections.abc import Sequence


class CourseError(Exception):
    """Base of every error that coursekit raises on purpose."""


class UserError(CourseError):
    """An error that the reader can mend.

    Args:
        where: the function, file or key that complains.
        expected: what was expected, in names.
        got: what came instead; left out of the message when empty.
        fix: one action that mends it.
    """

    def __init__(self, where: str, expected: str, *, got: object = "", fix: str) -> None:
        self.where = where
        self.expected = expected
        self.got = str(got)
        self.fix = fix
        came = f" Got {self.got}." if self.got else ""
        super().__init__(f"{where}: {expected}.{came} Fix: {fix}.")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling of exceptions.
        return _rebuild, (type(self), self.where, self.expected, self.got, self.fix)


def _rebuild(kind: type[UserError], where: str, expected: str, got: str, fix: str) -> UserError:
    return kind(where, expected, got=got, fix=fix)


class ArgumentError(UserError, ValueError):
    """A value given to a function is out of its range, shape or type."""


class Finding:
    """One thing wrong with a configuration: the dotted key, what was expected, what came, the mend."""

    def __init__(self, key: str, expected: str, *, got: object = "", fix: str) -> None:
        self.key = key
        self.expected = expected
        self.got = str(got)
        self.fix = fix

    def __str__(self) -> str:
        came = f" Got {self.got}." if self.got else ""
        return f"{self.key}: {self.expected}.{came} Fix: {self.fix}."


class ConfigError(UserError):
    """A configuration is not valid; every finding is listed, not only the first (up to twenty of them)."""

    _LISTED = 20

    def __init__(self, where: str, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        lines = "\n".join(f"  - {finding}" for finding in self.findings[: self._LISTED])
        if len(self.findings) > self._LISTED:
            lines += f"\n  and {len(self.findings) - self._LISTED} more"
        count = f"{len(self.findings)} setting" + ("s" if len(self.findings) > 1 else "")
        self.where, self.expected, self.got, self.fix = where, f"{count} to mend", "", "see each line"
        CourseError.__init__(self, f"{where}: {count} to mend:\n{lines}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.where, self.findings)


class LessonError(UserError):
    """A lesson, an exercise or a lesson's own file is unknown or not well formed."""


class DataError(UserError):
    """Data is missing, damaged or not what it claims to be."""


class DeviceError(UserError):
    """A device, a precision or a kernel was asked for that this machine does not have."""


class OutputError(UserError):
    """A folder or file cannot be written; what stood there before is unharmed."""


class CheckpointError(UserError):
    """A checkpoint is cut short, foreign, or belongs to another configuration."""


class IsolationError(UserError):
    """This machine cannot confine submissions as it was asked to."""


class SubmissionError(UserError):
    """A learner's file cannot be graded at all (missing, unreadable, not Python)."""


class DivergedError(UserError):
    """Training produced a loss that is not finite; the last good checkpoint is kept."""


class StoppedError(CourseError):
    """Training was stopped by a signal after its state had been saved.

    Args:
        signal_number: the signal that stopped it (2 for Ctrl-C, 15 for SIGTERM).
    """

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(signal_number)

    def __str__(self) -> str:
        return "stopped; everything up to here is saved, and the same command continues from it"
