"""Texts, dates and recall: the course's own text is whole, parts share nothing, and a bad file says what is wrong."""

from __future__ import annotations

import os
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from coursekit.config import Training
from coursekit.data import DataCard, Text, Translations, Vocabulary, dates, load_text, recall, sequence_cards, text
from coursekit.data.text import DATE_FORMS, END, PAD, START, UNKNOWN, write_date
from coursekit.errors import ArgumentError, DataError
from coursekit.harness import Classifier, fit

LINES = "".join(f"{number} is a number, and {number + 1} comes after it.\n" for number in range(200))


@pytest.fixture(scope="module")
def reference() -> Text:
    return load_text()


def whole(text: Text) -> str:
    return "".join(text.vocabulary.decode(part) for part in (text.train, text.validation, text.test))


# ---------------------------------------------------------------------------------------------- the course's text


def test_the_text_has_its_size_and_parts(reference: Text) -> None:
    assert (len(reference.train), len(reference.validation), len(reference.test)) == (297_933, 37_242, 37_242)
    assert reference.card.rows == len(whole(reference)) == 372_417
    assert reference.train.dtype == torch.int64
    assert len(reference.vocabulary) == 104


def test_the_text_comes_back_from_its_numbers(reference: Text) -> None:
    assert whole(reference).startswith('The "assert" statement\n**********************\n\nAssert statements are')


@pytest.mark.skipif(sys.version_info[:3] != (3, 11, 7), reason="made from the topics of CPython 3.11.7")
def test_the_text_is_made_as_its_licence_file_says(reference: Text) -> None:
    from pydoc_data.topics import topics

    seen: set[str] = set()
    kept = []
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = {" ".join(part.split()) for part in topics[name].split("\n\n") if len(part) > 60}
        if len(paragraphs & seen) * 50 <= len(paragraphs):
            kept.append(name)
            seen |= paragraphs
    lines = (topics[name].strip().splitlines() for name in sorted(kept))
    made = "\n\n\n".join("\n".join(line.rstrip() for line in topic) for topic in lines) + "\n"
    assert (len(kept), len(topics)) == (56, 79)
    assert made == whole(reference)


def test_no_stretch_of_the_later_parts_was_trained_on(reference: Text) -> None:
    train = reference.vocabulary.decode(reference.train)
    seen = {train[start : start + 100] for start in range(len(train) - 99)}
    for part in (reference.validation, reference.test):
        later = reference.vocabulary.decode(part)
        stretches = [later[start : start + 100] for start in range(len(later) - 99)]
        assert len(stretches) > 37_000
        assert not any(stretch in seen for stretch in stretches)


def test_a_damaged_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python_reference.txt").write_text(LINES, encoding="utf-8")
    monkeypatch.setattr(text, "files", lambda package: tmp_path)
    with pytest.raises(
        DataError, match=r"^load_text python_reference: the text whose SHA-256 begins with 46ae2e70b902\. Got "
    ) as caught:
        load_text()
    assert "Fix: install coursekit again" in str(caught.value)


def test_the_licence_travels_with_the_text() -> None:
    folder = Path(str(text.files("coursekit.data")))
    licence = (folder / "python_reference.LICENSE.txt").read_text(encoding="utf-8")
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence
    assert "Summary of the changes: 56 of its 79 topics" in licence


# ---------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(("length", "stride"), [(128, None), (100, 50), (1, 1), (37_241, None)])
def test_windows_predict_the_next_character(reference: Text, length: int, stride: int | None) -> None:
    data = reference.windows(length, stride=stride)
    step = stride or length
    for split, part, every in (
        (data.train, reference.train, step),
        (data.validation, reference.validation, length),
        (data.test, reference.test, length),
    ):
        rows = (len(part) - length - 1) // every + 1
        assert split.inputs.shape == split.targets.shape == (rows, length)
        for row in (0, rows // 2, rows - 1):
            assert torch.equal(split.inputs[row], part[row * every : row * every + length])
            assert torch.equal(split.targets[row], part[row * every + 1 : row * every + length + 1])


def test_each_character_is_predicted_once(reference: Text) -> None:
    data = reference.windows(64)
    assert torch.equal(data.train.targets.flatten(), reference.train[1 : data.train.targets.numel() + 1])
    assert len(reference.train) - 1 - data.train.targets.numel() < 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 0}, "windows: rows of 1 to 37241 characters. Got 0. Fix: choose one there."),
        ({"length": 37_242}, "windows: rows of 1 to 37241 characters. Got 37242."),
        ({"length": 8, "stride": 0}, "windows: a stride of at least 1. Got 0."),
    ],
    ids=str,
)
def test_windows_out_of_range(reference: Text, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        reference.windows(**options)
    assert words in str(caught.value)


# ---------------------------------------------------------------------------------------------- a learner's text


def test_a_learners_file_is_read_like_the_courses(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(LINES, encoding="utf-8")
    mine = load_text(path)
    assert whole(mine) == LINES
    assert (mine.card.name, mine.card.rows) == ("mine", len(LINES))
    assert "file of the reader's own" in mine.card.markdown()
    assert mine.windows(32).name == "mine"
    assert torch.equal(load_text(str(path)).train, mine.train)


@pytest.mark.parametrize(
    "content",
    [LINES.replace("\n", "\r\n").encode(), LINES.replace("\n", "\r").encode(), b"\xef\xbb\xbf" + LINES.encode()],
    ids=["windows", "old mac", "byte order mark"],
)
def test_line_ends_and_marks_do_not_matter(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    assert whole(load_text(path)) == LINES


def test_a_character_of_the_later_parts_alone_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(LINES + "ω" * 20, encoding="utf-8")
    mine = load_text(path)
    assert "ω" not in mine.vocabulary.symbols
    assert int((mine.test == mine.vocabulary.number(UNKNOWN)).sum()) == 20
    assert mine.vocabulary.decode(mine.test).endswith(UNKNOWN * 20)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a text of at least 1,000 characters. Got 0 characters."),
        (b"x" * 999, "a text of at least 1,000 characters. Got 999 characters. Fix: choose a longer one."),
        (
            b"x" * 1500 + b"\xe9t\xe9",
            "plain text in UTF-8. Got byte 0xe9 at 1500. Fix: save it as plain text in UTF-8.",
        ),
        (LINES.encode("utf-16"), "plain text in UTF-8. Got a zero byte at 3, which text does not have."),
        (b"\x7fELF" + b"\0" * 2000, "plain text in UTF-8. Got a zero byte at 4, which text does not have."),
    ],
    ids=["empty", "short", "latin-1", "utf-16", "binary"],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_text(path)
    assert str(caught.value).startswith(f"load_text {path}: {words}")


def test_a_text_of_the_shortest_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("x" * 1000, encoding="utf-8")
    assert len(load_text(path).test) == 100


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing\.txt: a file that exists\. Fix: check the path, or choose python_ref"
    ):
        load_text(tmp_path / "nothing.txt")


def test_a_slip_in_the_name_is_answered_with_the_name() -> None:
    with pytest.raises(DataError, match=r"^load_text python_referense: a file that exists\. Fix: write `python_refer"):
        load_text("python_referense")


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a file that can be read\. Got .*directory\. Fix: name a file of plain text"):
        load_text(tmp_path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        os.truncate(file.fileno(), (64 << 20) + 1)
    with pytest.raises(DataError, match=r"a file of at most 64 MiB\. Got 64 MiB\. Fix: cut a piece out of it\."):
        load_text(path)


# ---------------------------------------------------------------------------------------------- vocabulary


def test_vocabulary_is_sorted_after_its_special_symbols() -> None:
    vocabulary = Vocabulary("banana", special=(PAD, END))
    assert vocabulary.symbols == (PAD, END, "a", "b", "n")
    assert vocabulary.encode("nab").tolist() == [4, 2, 3]
    assert vocabulary.decode([0, 4, 2, 0, 3, 1, 4]) == "nab"
    assert vocabulary.encode("").shape == (0,)


def test_vocabulary_without_an_unknown_symbol_refuses() -> None:
    with pytest.raises(ArgumentError, match=r"Vocabulary: a known symbol\. Got 'x'\. Fix: use abn"):
        Vocabulary("banana").encode("x")


# ---------------------------------------------------------------------------------------------- dates


@pytest.fixture(scope="module")
def translations() -> Translations:
    return dates()


@pytest.mark.parametrize("form", range(len(DATE_FORMS)))
def test_forms_are_those_that_are_shown(form: int) -> None:
    assert write_date(date(2024, 5, 3), form) == DATE_FORMS[form]


@pytest.mark.parametrize(
    ("day", "written"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (30, "30th"),
    ],
)
def test_ordinals(day: int, written: str) -> None:
    assert write_date(date(1999, 1, day), 2) == f"{written} of January 1999"


@pytest.mark.parametrize("form", [-1, 8])
def test_a_form_that_is_not_there(form: int) -> None:
    with pytest.raises(ArgumentError, match=rf"write_date: a form from 0 to 7\. Got {form}\."):
        write_date(date(2024, 5, 3), form)


def test_every_source_means_its_target(translations: Translations) -> None:
    read = 0
    for split in (translations.data.train, translations.data.validation, translations.data.test):
        for source, target in zip(split.inputs, split.targets, strict=True):
            day = date.fromisoformat(translations.target.decode(target))
            assert translations.source.decode(source) in {write_date(day, form) for form in range(len(DATE_FORMS))}
            read += 1
    assert read == 5000


def test_no_day_is_there_twice(translations: Translations) -> None:
    data = translations.data
    days = torch.cat([split.targets for split in (data.train, data.validation, data.test)])
    assert len(days.unique(dim=0)) == 5000


def test_rows_begin_end_and_are_padded(translations: Translations) -> None:
    source, target = translations.source, translations.target
    inputs, targets = translations.data.test.inputs, translations.data.test.targets
    assert (inputs.dtype, inputs.shape[1], targets.shape[1]) == (torch.int64, 29, 12)
    assert source.number(PAD) == target.number(PAD) == 0
    assert bool((targets[:, 0] == target.number(START)).all())
    assert bool((targets[:, -1] == target.number(END)).all())
    ends = inputs == source.number(END)
    assert bool((ends.sum(1) == 1).all())
    after = ends.cumsum(1) - ends.long() > 0
    assert torch.equal(inputs == source.number(PAD), after)


def test_forms_are_drawn_evenly(translations: Translations) -> None:
    # Each form of 4000 rows: 500, deviation 20.9. Five deviations, both sides, six forms: one false alarm in 290,000.
    written = [translations.source.decode(row) for row in translations.data.train.inputs]
    days = [date.fromisoformat(translations.target.decode(row)) for row in translations.data.train.targets]
    for form in (0, 1, 2, 3, 4, 5):  # the last two forms look alike only to each other, never to these
        count = sum(text == write_date(day, form) for text, day in zip(written, days, strict=True))
        assert abs(count - 500) <= 105


def test_seed_moves_training_but_never_the_test_part(translations: Translations) -> None:
    again, other = dates(), dates(seed=1)
    for part in ("inputs", "targets"):
        assert torch.equal(getattr(again.data.train, part), getattr(translations.data.train, part))
        assert torch.equal(getattr(other.data.test, part), getattr(translations.data.test, part))
        assert not torch.equal(getattr(other.data.train, part), getattr(translations.data.train, part))


def test_every_day_can_be_written(translations: Translations) -> None:
    longest = 0
    for number in range(366 * 28):  # all pairs of weekday and date
        for form in range(len(DATE_FORMS)):
            written = write_date(date(1960, 1, 1) + timedelta(days=number), form)
            translations.source.encode(written)
            longest = max(longest, len(written))
    assert longest == translations.data.input_shape[0] - 1


def test_a_learners_question_becomes_a_row(translations: Translations) -> None:
    row = translations.encode("3 May 2024")
    assert row.shape == (1, 29)
    assert translations.source.decode(row[0]) == "3 May 2024"
    with pytest.raises(ArgumentError, match=r"encode: at most 28 characters\. Got 29 characters"):
        translations.encode("1" * 29)
    with pytest.raises(ArgumentError, match=r"Vocabulary: a known symbol\. Got 'ä'"):
        translations.encode("3 März 2024")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": 0}, "dates: at least one row in each of three parts. Got 0, 500, 500."),
        ({"train": 73_050 - 1000}, "dates: at most 73,049 rows, one for each day. Got 73050. Fix: lower train."),
        ({"seed": -1}, "dates: a seed from 0 to 4294967295. Got -1."),
        ({"seed": 2**32}, "dates: a seed from 0 to 4294967295. Got 4294967296."),
    ],
    ids=str,
)
def test_dates_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        dates(**options)
    assert words in str(caught.value)


# ---------------------------------------------------------------------------------------------- recall


@pytest.mark.parametrize(("pairs", "keys", "values"), [(8, 16, 8), (1, 1, 1), (5, 5, 3)])
def test_the_target_is_the_value_of_the_key_that_is_asked_for(pairs: int, keys: int, values: int) -> None:
    data = recall(200, 50, 50, pairs=pairs, keys=keys, values=values)
    assert len(data.classes) == values
    for split in (data.train, data.validation, data.test):
        assert (split.inputs.dtype, split.targets.dtype) == (torch.int64, torch.int64)
        for row, target in zip(split.inputs.tolist(), split.targets.tolist(), strict=True):
            shown, answers, asked = row[:-1:2], row[1::2], row[-1]
            assert len(set(shown)) == pairs
            assert max(shown) < keys <= min(answers)
            assert max(answers) < keys + values
            assert dict(zip(shown, answers, strict=True))[asked] == target + keys


def test_recall_draws_evenly() -> None:
    data = recall(20_000)
    query, target = data.train.inputs[:, -1], data.train.targets
    at = (data.train.inputs[:, :-1:2] == query[:, None]).long().argmax(1)
    # Five deviations of a count, both sides, 32 counts: one false alarm in 50,000.
    for drawn, kinds in ((query, 16), (target, 8), (at, 8)):
        deviation = (20_000 / kinds * (1 - 1 / kinds)) ** 0.5
        assert (drawn.bincount(minlength=kinds) - 20_000 / kinds).abs().max() <= 5 * deviation


def test_recall_follows_its_seed_but_not_in_the_test_part() -> None:
    first, again, other = recall(100), recall(100), recall(100, seed=1)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert torch.equal(first.test.inputs, other.test.inputs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": 0}, "no fewer keys than pairs. Got 0 pairs, 16 keys, 8 values. Fix: raise keys."),
        ({"pairs": 17}, "Got 17 pairs, 16 keys, 8 values."),
        ({"values": 0}, "Got 8 pairs, 16 keys, 0 values."),
        ({"test": 0}, "recall: at least one row in each of three parts. Got 2000, 500, 0."),
        ({"seed": -1}, "recall: a seed from 0 to 4294967295."),
    ],
    ids=str,
)
def test_recall_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        recall(**options)
    assert words in str(caught.value)


# ---------------------------------------------------------------------------------------------- cards and harness


@pytest.mark.parametrize("entry", sequence_cards(), ids=lambda entry: entry.name)
def test_cards_say_every_fact(entry: DataCard) -> None:
    shown = entry.markdown()
    assert entry.embedded
    for fact in (entry.title, entry.what, entry.source, entry.licence, entry.citation, entry.size, entry.home):
        assert len(fact) > 0
        assert fact in shown
    assert entry.faults
    assert all(fault in shown for fault in entry.faults)


def test_cards_say_how_much_there_is() -> None:
    sizes = {entry.name: entry.size for entry in sequence_cards()}
    asked = "as many rows as asked for"
    assert sizes == {"python_reference": "372,417 characters", "dates": asked, "recall": asked}
    assert recall(100, 20, 30).card.rows == 150


def test_the_harness_trains_on_sequences() -> None:
    network = torch.nn.Sequential(torch.nn.Embedding(24, 8), torch.nn.Flatten(), torch.nn.Linear(8 * 17, 8))
    module = Classifier(network, optimizer=lambda parts: torch.optim.Adam(parts, lr=0.01))
    run = fit(module, recall(256, 64, 64), Training(epochs=2, batch_size=32, device="cpu"), quiet=True)
    assert len(run.history) == 2
    assert run.curve("loss")[1] < run.curve("loss")[0]
