"""The catalogue: what is read from lesson.toml, what is refused, and where lessons are looked for."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.errors import ConfigError, LessonError

LESSON = """
title = "Sums"
order = 1
minutes = 30
goal = "Add numbers without a fault"
"""
EXERCISE = """
[[exercises]]
id = "add"
code = "S1"
title = "Add two numbers"
names = ["add"]
points = 3
difficulty = 2
minutes = 5
hints = ["look", "think", "write"]
source = "Peano 1889"
explanation = "Addition repeats the successor."
"""

Course = Callable[..., Path]


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """Return a function that writes a course, lesson name to text, and points COURSEKIT_ROOT to it."""

    def write(**lessons: str) -> Path:
        for name, text in lessons.items():
            folder = tmp_path / "lessons" / name
            folder.mkdir(parents=True)
            (folder / "lesson.toml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
        return tmp_path

    return write


def test_a_lesson_is_read_with_its_defaults(course: Course) -> None:
    top = course(sums=LESSON + EXERCISE)
    (entry,) = catalog.lessons()
    assert (entry.id, entry.title, entry.order, entry.needs, entry.tier) == ("sums", "Sums", 1, (), "core")
    assert (entry.folder, entry.config_file) == (top / "lessons" / "sums", top / "configs" / "sums.yaml")
    (exercise,) = entry.exercises
    assert (exercise.names, exercise.hints, exercise.forbids) == (("add",), ("look", "think", "write"), ())
    assert (exercise.seconds, exercise.equivalent) == (10, ())


def test_lessons_come_in_course_order(course: Course) -> None:
    later = LESSON.replace("order = 1", "order = 2") + 'needs = ["zeta"]\n'
    course(alpha=later + EXERCISE, zeta=LESSON + EXERCISE)
    assert [entry.id for entry in catalog.lessons()] == ["zeta", "alpha"]


@pytest.mark.parametrize("name", ["add", "ADD", "S1", "s1"])
def test_an_exercise_is_found_by_id_or_code_in_any_case(course: Course, name: str) -> None:
    course(sums=LESSON + EXERCISE)
    assert catalog.lesson("Sums").exercise(name).id == "add"


def test_the_real_catalogue_holds_every_folder_with_a_lesson_toml() -> None:
    files = sorted((Path(__file__).parent.parent / "lessons").glob("*/lesson.toml"))
    assert files
    assert sorted(entry.folder / "lesson.toml" for entry in catalog.lessons()) == files
    for file in files:
        written = [exercise["id"] for exercise in tomllib.loads(file.read_text(encoding="utf-8"))["exercises"]]
        assert [exercise.id for exercise in catalog.lesson(file.parent.name).exercises] == written


@pytest.mark.parametrize(
    ("name", "fix"),
    [("sum", r"did you mean `sums`\? `coursekit list` shows all"), ("zzz", "`coursekit list` shows all")],
)
def test_an_unknown_lesson_names_the_nearest(course: Course, name: str, fix: str) -> None:
    course(sums=LESSON + EXERCISE)
    with pytest.raises(LessonError, match=rf"lesson: a lesson that exists\. Got '{name}'\. Fix: {fix}\."):
        catalog.lesson(name)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("ad", r"did you mean `add`\? `coursekit list sums` shows all"), ("S9", "`coursekit list sums` shows all")],
)
def test_an_unknown_exercise_names_the_nearest(course: Course, name: str, fix: str) -> None:
    course(sums=LESSON + EXERCISE)
    with pytest.raises(LessonError, match=rf"lesson sums: an exercise that exists\. Got '{name}'\. Fix: {fix}\."):
        catalog.lesson("sums").exercise(name)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("points = 3", "points = 0", r"exercises\.0\.points: input should be greater than 0\. Got 0\."),
        ("points = 3", "points = true", r"exercises\.0\.points: input should be a valid integer\. Got true\."),
        ("points = 3", 'points = "3"', r'exercises\.0\.points: input should be a valid integer\. Got "3"\.'),
        ("points = 3", "", r"exercises\.0\.points: field required\. Fix: give a whole number above 0\."),
        (
            "points = 3",
            "point = 3",
            r"exercises\.0\.point: a setting that exists\. .*write `exercises\.points`\.",
        ),
        ("difficulty = 2", "difficulty = 5", r"exercises\.0\.difficulty: input should be less than or equal to 4"),
        ('"S1"', '"s1"', r"exercises\.0\.code: string should match pattern .* Fix: give the short label, such as O1\."),
        ('"write"]', '"write", "more"]', r"exercises\.0\.hints: tuple should have at most 3 items"),
        (
            "points = 3",
            'points = 3\nequivalent = [{ mutant = "add: 1 -> 2" }]',
            r"equivalent\.0\.because: field required",
        ),
        (
            "points = 3",
            'points = 3\nequivalent = [{ mutant = "add: 1 -> 2", because = "so" }]',
            r"equivalent\.0\.because: string should have at least 20 characters",
        ),
        ('names = ["add"]', "names = []", r"exercises\.0\.names: tuple should have at least 1 item"),
        ("order = 1", "order = 2001-01-01", r'order: input should be a valid integer\. Got "2001-01-01"\.'),
        ("order = 1", "order = 1\ntire = 1", r"tire: a setting that exists\. Got 'tire'\. Fix: write `tier`\."),
        ("order = 1", 'order = 1\nid = "other"', r"other\.id: the folder's name\. Got sums\. Fix: leave id out\."),
        ("order = 1", 'order = 1\nneeds = ["x"]', r"sums\.needs: lessons that exist\. Got x\. Fix: mend the name\."),
        ("order = 1", "order =", r"text: readable TOML\. Got Invalid value .* Fix: mend it there\."),
    ],
)
def test_a_lesson_toml_that_is_not_well_formed_is_refused(course: Course, old: str, new: str, words: str) -> None:
    course(sums=(LESSON + EXERCISE).replace(old, new))
    with pytest.raises(ConfigError, match=words):
        catalog.lessons()


def test_all_faults_of_a_lesson_toml_at_once(course: Course) -> None:
    course(sums=(LESSON + EXERCISE).replace("order = 1", "order = 0").replace("minutes = 5", "minutes = 0"))
    with pytest.raises(ConfigError, match=r"lesson\.toml: 2 settings to mend") as caught:
        catalog.lessons()
    assert [finding.key for finding in caught.value.findings] == ["order", "exercises.0.minutes"]


def test_a_file_that_is_not_text_is_refused(course: Course) -> None:
    top = course(sums=LESSON)
    (top / "lessons" / "sums" / "lesson.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="text: readable TOML"):
        catalog.lessons()


def test_two_lessons_on_one_place_are_refused(course: Course) -> None:
    course(sums=LESSON + EXERCISE, products=LESSON + EXERCISE)
    with pytest.raises(ConfigError, match=r"\.order: an order of its own\. Got 1\. Fix: change one\."):
        catalog.lessons()


@pytest.mark.parametrize(("old", "new", "name"), [('"S1"', '"S2"', "add"), ('"add"\ncode', '"more"\ncode', "S1")])
def test_two_exercises_of_one_name_are_refused(course: Course, old: str, new: str, name: str) -> None:
    course(sums=LESSON + EXERCISE + EXERCISE.replace(old, new))
    with pytest.raises(ConfigError, match=rf"sums\.exercises: ids and codes used once\. Got {name}\. Fix: rename"):
        catalog.lessons()


# Where lessons are looked for


def test_the_root_is_the_nearest_folder_upwards(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    top = course(sums=LESSON + EXERCISE)
    monkeypatch.delenv("COURSEKIT_ROOT")
    monkeypatch.chdir(top / "lessons" / "sums")
    assert catalog.root() == top


def test_the_root_is_the_clone_where_nothing_is_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSEKIT_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert catalog.root() == Path(__file__).parent.parent


def test_a_root_without_lessons_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    words = rf"lessons: a folder `lessons` with a lesson\.toml in it\. Got none at or above {tmp_path}\. Fix: go to"
    with pytest.raises(LessonError, match=words):
        catalog.lessons()


# Importing a lesson's files


def test_a_part_is_imported() -> None:
    assert catalog.load(catalog.lesson("optimization"), "config").__name__ == "lessons.optimization.config"


def test_a_part_that_is_missing_is_refused() -> None:
    with pytest.raises(LessonError, match=r"lesson optimization: a file nothing\.py\. Got none\. Fix: add "):
        catalog.load(catalog.lesson("optimization"), "nothing")
