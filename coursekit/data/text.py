"""Sequences to learn from: a text by characters, dates to translate, and pairs to recall.

Each comes in three parts as a `Data` of whole numbers, so that the harness trains on it as on anything else: inputs
int64 (n, s), and targets int64 (n, t), or (n,) for recall.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coursekit.config import nearest
from coursekit.data.cards import DataCard, sequence_cards
from coursekit.data.splits import Data, Split
from coursekit.errors import ArgumentError, DataError

PAD, START, END = "<pad>", "<start>", "<end>"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

# Of the text with line feeds, in UTF-8.
_CHECKSUMS = {"python_reference": "46ae2e70b902b2146d1cb64b101a0df6621b87afb655919ec9121d192a9e6bf8"}
# As in `coursekit.data.sources`: the test part stays the same whatever the seed.
_TEST_SEED = 1797
_SHORTEST = 1000  # characters: below, the tenth for the test says nothing
_LARGEST = 64 << 20  # bytes


class Vocabulary:
    """Symbols and their numbers.

    Args:
        characters: single characters; they are sorted, so that the same set gives the same numbers.
        special: symbols that come first, such as padding.

    Attributes:
        symbols: all of them; the place is the number.
    """

    def __init__(self, characters: Iterable[str], special: Sequence[str] = ()) -> None:
        self.symbols = (*special, *sorted(set(characters) - set(special)))
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} symbols)"

    def number(self, symbol: str) -> int:
        """Return the number of one symbol; of the unknown one where there is none.

        Raises:
            ArgumentError: the symbol is not there, and neither is one for the unknown.
        """
        found = self._numbers.get(symbol, self._numbers.get(UNKNOWN))
        if found is None:
            raise ArgumentError("Vocabulary", "a known symbol", got=repr(symbol), fix=f"use {''.join(self.symbols)}")
        return found

    def encode(self, text: str) -> Tensor:
        """Return the characters of a text as numbers, int64 (t,).

        Raises:
            ArgumentError: as `number`.
        """
        return torch.tensor([self.number(character) for character in text], dtype=torch.int64)

    def decode(self, numbers: Tensor | Sequence[int]) -> str:
        """Return the text of one row of numbers (t,), up to the end symbol and without padding and start."""
        text = []
        for number in torch.as_tensor(numbers).tolist():
            symbol = self.symbols[number]
            if symbol == END:
                break
            if symbol not in (PAD, START):
                text.append(symbol)
        return "".join(text)


# ---------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True, eq=False)
class Text:
    """A text by characters, in three parts by position: the first eight tenths, the next one, the last one.

    Attributes:
        vocabulary: the characters of the training part, and one symbol for all others.
        train: int64 (n,), the part to learn from.
        validation: the part to choose by.
        test: the part to report on.
        card: source, licence and known faults.
    """

    vocabulary: Vocabulary
    train: Tensor
    validation: Tensor
    test: Tensor
    card: DataCard

    def windows(self, length: int, *, stride: int | None = None) -> Data:
        """Cut every part into rows of `length` characters; the target is the character after each.

        No row crosses from one part into the next. Where the last row would be incomplete, it is left out.

        Args:
            length: characters in a row.
            stride: characters from the start of one row to that of the next *training* row; None takes `length`,
                so that each character is predicted once in an epoch. Memory grows with length / stride.

        Returns:
            Inputs and targets (n, length), the targets one character ahead.

        Raises:
            ArgumentError: no row of this length fits the shortest part, or a stride below 1.
        """
        stride = length if stride is None else stride
        longest = min(map(len, (self.train, self.validation, self.test))) - 1
        if not 1 <= length <= longest:
            raise ArgumentError("windows", f"rows of 1 to {longest} characters", got=length, fix="choose one there")
        if stride < 1:
            raise ArgumentError("windows", "a stride of at least 1", got=stride, fix="leave it away")
        return _data(
            self.card,
            _rows(self.train, length, stride),
            _rows(self.validation, length, length),
            _rows(self.test, length, length),
            self.vocabulary.symbols,
        )


def load_text(source: str | os.PathLike[str] = "python_reference") -> Text:
    """Read a text: the course's own, or any file of plain text in UTF-8.

    Line ends become line feeds, so that a text is the same on every system. The vocabulary is that of the training
    part: a character that first appears later counts as unknown.

    Args:
        source: `python_reference`, or the path of a file.

    Raises:
        DataError: the file is missing, not to be read, not text in UTF-8, larger than 64 MiB or shorter than 1,000
            characters; or the course's own text is damaged.
    """
    if source in _CHECKSUMS:
        name = str(source)
        entry = _card(name)
        text = _read(Path(str(files("coursekit.data") / f"{name}.txt")))
        _check_whole(name, text)
    else:
        path = Path(source).expanduser()
        text = _read(path)
        entry = _own_card(path, len(text))
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    vocabulary = Vocabulary(text[:first], special=(UNKNOWN,))
    parts = (text[:first], text[first:second], text[second:])
    train, validation, test = (vocabulary.encode(part) for part in parts)
    return Text(vocabulary, train, validation, test, entry)


def _rows(part: Tensor, length: int, stride: int) -> Split:
    rows = part.unfold(0, length + 1, stride)
    return Split(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def _read(path: Path) -> str:
    where = f"load_text {path}"
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            got, fix = f"{size / 2**20:.0f} MiB", "cut a piece out of it"
            raise DataError(where, "a file of at most 64 MiB", got=got, fix=fix)
        content = path.read_bytes()
    except FileNotFoundError:
        guess = nearest(str(path), tuple(_CHECKSUMS))
        fix = f"write `{guess}`" if guess else f"check the path, or choose {', '.join(_CHECKSUMS)}"
        raise DataError(where, "a file that exists", fix=fix) from None
    except OSError as error:
        raise DataError(where, "a file that can be read", got=error.strerror, fix="name a file of plain text") from None
    if b"\0" in content:
        got = f"a zero byte at {content.index(0)}, which text does not have"
        raise DataError(where, "plain text in UTF-8", got=got, fix="save it as plain text in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte 0x{content[error.start]:02x} at {error.start}"
        raise DataError(where, "plain text in UTF-8", got=got, fix="save it as plain text in UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) < _SHORTEST:
        got = f"{len(text)} characters"
        raise DataError(where, f"a text of at least {_SHORTEST:,} characters", got=got, fix="choose a longer one")
    return text


def _check_whole(name: str, text: str) -> None:
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != _CHECKSUMS[name]:
        expected = f"the text whose SHA-256 begins with {_CHECKSUMS[name][:12]}"
        raise DataError(
            f"load_text {name}", expected, got=found[:12], fix="install coursekit again: the file was changed"
        )


def _own_card(path: Path, characters: int) -> DataCard:
    return DataCard(
        name=path.stem,
        title=path.name,
        what="A text of the reader's own.",
        source=path.as_posix(),
        licence="the reader's to know",
        rows=characters,
        shape=(),
        classes=(),
        faults=("Parts are cut by position: what repeats in the text may stand in two of them.",),
        citation="the reader's to know",
        home="a file of the reader's own",
    )


# ---------------------------------------------------------------------------------------------- dates

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIRST_DAY, _DAYS = date(1900, 1, 1), (date(2100, 1, 1) - date(1900, 1, 1)).days

DATE_FORMS = (
    "3 May 2024",
    "May 3, 2024",
    "3rd of May 2024",
    "Friday, 3 May 2024",
    "Fri 03 May 2024",
    "03.05.2024",
    "5/3/2024",
    "2024/5/3",
)
"""The forms of `write_date`, each shown by the same day. Dots put the day first, slashes the month or the year."""


def write_date(day: date, form: int) -> str:
    """Return a day in one of the `DATE_FORMS`.

    Not `strftime`: its names of months follow the language of the computer.

    Raises:
        ArgumentError: there is no such form.
    """
    if not 0 <= form < len(DATE_FORMS):
        raise ArgumentError("write_date", f"a form from 0 to {len(DATE_FORMS) - 1}", got=form, fix="choose one there")
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    suffix = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{day.day}{suffix} of {month} {day.year}",
        f"{weekday}, {day.day} {month} {day.year}",
        f"{weekday[:3]} {day.day:02} {month[:3]} {day.year}",
        f"{day.day:02}.{day.month:02}.{day.year}",
        f"{day.month}/{day.day}/{day.year}",
        f"{day.year}/{day.month}/{day.day}",
    )[form]


@dataclass(frozen=True, eq=False)
class Translations:
    """Sequences to turn into others.

    Attributes:
        data: inputs int64 (n, s), each ending in END, then PAD; targets int64 (n, t), from START to END. What a
            decoder reads is `targets[:, :-1]`, what it should say is `targets[:, 1:]`.
        source: numbers of the inputs' symbols; PAD is 0.
        target: numbers of the targets' symbols; PAD is 0.
    """

    data: Data
    source: Vocabulary
    target: Vocabulary

    def encode(self, text: str) -> Tensor:
        """Return a text as one row of inputs, int64 (1, s), for a learner's own question.

        Raises:
            ArgumentError: a character that the vocabulary lacks, or a text longer than any in the data.
        """
        width = self.data.train.inputs.shape[1]
        if len(text) >= width:
            got = f"{len(text)} characters"
            raise ArgumentError("encode", f"at most {width - 1} characters", got=got, fix="shorten the text")
        return _padded(self.source, text, width)[None]


def dates(train: int = 4000, validation: int = 500, test: int = 500, *, seed: int = 0) -> Translations:
    """Make days from 1900 to 2099, written in one of eight forms, to be turned into ISO 8601 (2024-05-03).

    No day stands in two parts or twice in one, so that every test target is a day that was never shown. The test part
    does not depend on the seed.

    Args:
        train: rows to learn from.
        validation: rows to choose by.
        test: rows to report on.
        seed: from 0 to 2**32 - 1.

    Raises:
        ArgumentError: a part without rows, more rows than days, or a seed out of range.
    """
    _check_counts("dates", train, validation, test, seed)
    if train + validation + test > _DAYS:
        got = train + validation + test
        raise ArgumentError("dates", f"at most {_DAYS:,} rows, one for each day", got=got, fix="lower train")
    source = Vocabulary("".join((*_MONTHS, *_WEEKDAYS, *DATE_FORMS, "0123456789stndth")), special=(PAD, END))
    target = Vocabulary("0123456789-", special=(PAD, START, END))
    width = len("Wednesday, 30 September 2024") + 1
    fixed = np.random.RandomState(_TEST_SEED)
    order = fixed.permutation(_DAYS)
    drawn = np.random.RandomState(seed)
    rest = drawn.permutation(order[test:])
    chosen = {
        "train": (rest[:train], drawn),
        "validation": (rest[train : train + validation], drawn),
        "test": (order[:test], fixed),
    }
    parts = {}
    for part, (numbers, stream) in chosen.items():
        days = [_FIRST_DAY + timedelta(days=int(number)) for number in numbers]
        forms = stream.randint(len(DATE_FORMS), size=len(days))
        inputs = [_padded(source, write_date(day, int(form)), width) for day, form in zip(days, forms, strict=True)]
        start, end = torch.tensor([target.number(START)]), torch.tensor([target.number(END)])
        targets = [torch.cat([start, target.encode(day.isoformat()), end]) for day in days]
        parts[part] = Split(torch.stack(inputs), torch.stack(targets))
    data = _data(_card("dates"), parts["train"], parts["validation"], parts["test"], target.symbols)
    return Translations(data, source, target)


def _padded(vocabulary: Vocabulary, text: str, width: int) -> Tensor:
    row = torch.full((width,), vocabulary.number(PAD))
    row[: len(text)] = vocabulary.encode(text)
    row[len(text)] = vocabulary.number(END)
    return row


# ---------------------------------------------------------------------------------------------- recall


def recall(
    train: int = 2000,
    validation: int = 500,
    test: int = 500,
    *,
    pairs: int = 8,
    keys: int = 16,
    values: int = 8,
    seed: int = 0,
) -> Data:
    """Make rows of key-value pairs that end in one of their keys; the target is that key's value.

    Blind guessing is right in one of `values`; guessing among the values of the row, in a little more than one of
    `pairs`. The test part does not depend on the seed.

    Args:
        train: rows to learn from.
        validation: rows to choose by.
        test: rows to report on.
        pairs: pairs in a row.
        keys: different keys; numbers 0 to keys - 1 in the inputs.
        values: different values; numbers keys to keys + values - 1 in the inputs, 0 to values - 1 as targets.
        seed: from 0 to 2**32 - 1.

    Returns:
        Inputs (n, 2 · pairs + 1), key before value, the query last; targets (n,).

    Raises:
        ArgumentError: a part without rows, sizes below 1, fewer keys than pairs, or a seed out of range.
    """
    _check_counts("recall", train, validation, test, seed)
    if not 1 <= pairs <= keys or values < 1:
        got = f"{pairs} pairs, {keys} keys, {values} values"
        raise ArgumentError(
            "recall", "at least one pair and one value, and no fewer keys than pairs", got=got, fix="raise keys"
        )
    stream, fixed = np.random.RandomState(seed), np.random.RandomState(_TEST_SEED)
    sizes = (pairs, keys, values)
    parts = (_recalled(train, *sizes, stream), _recalled(validation, *sizes, stream), _recalled(test, *sizes, fixed))
    return _data(_card("recall"), *parts, tuple(f"value {number}" for number in range(values)))


def _recalled(rows: int, pairs: int, keys: int, values: int, stream: np.random.RandomState) -> Split:
    # The places of the smallest of random numbers are a draw without replacement.
    shown = torch.from_numpy(stream.random_sample((rows, keys)).argsort(axis=1)[:, :pairs])
    answers = torch.from_numpy(stream.randint(values, size=(rows, pairs), dtype=np.int64))
    asked = torch.from_numpy(stream.randint(pairs, size=(rows, 1), dtype=np.int64))
    row = torch.stack([shown, answers + keys], dim=-1).flatten(1)
    return Split(torch.cat([row, shown.gather(1, asked)], dim=1), answers.gather(1, asked)[:, 0])


# ---------------------------------------------------------------------------------------------- what all share


def _card(name: str) -> DataCard:
    return next(entry for entry in sequence_cards() if entry.name == name)


def _data(entry: DataCard, train: Split, validation: Split, test: Split, classes: tuple[str, ...]) -> Data:
    """Return three parts as they are: numbers of symbols are not normalised."""
    rows = entry.rows or len(train) + len(validation) + len(test)
    entry = replace(entry, rows=rows)
    return Data(entry.name, train, validation, test, classes, entry, torch.zeros(1), torch.ones(1))


def _check_counts(where: str, train: int, validation: int, test: int, seed: int) -> None:
    if min(train, validation, test) < 1:
        got = f"{train}, {validation}, {test}"
        raise ArgumentError(where, "at least one row in each of three parts", got=got, fix="raise the smallest")
    if not 0 <= seed < 2**32:
        raise ArgumentError(where, "a seed from 0 to 4294967295", got=seed, fix="choose a seed there")
