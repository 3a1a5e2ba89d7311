"""Every file in configs/, in every profile, against its lesson's own configuration; none is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.config import PROFILES, Settings, known_keys, parse_yaml, read_profiles, resolve, to_yaml

FOLDER = Path(__file__).parent.parent
FILES = sorted((FOLDER / "configs").iterdir())
LESSONS = sorted(file.parent.name for file in (FOLDER / "lessons").glob("*/lesson.toml"))


def model(name: str) -> type[Settings]:
    """Return the configuration model of a lesson."""
    return catalog.load(catalog.lesson(name), "config").Config


def test_every_lesson_has_a_file_and_every_file_a_lesson() -> None:
    assert LESSONS
    assert [file.name for file in FILES] == [f"{name}.yaml" for name in LESSONS]
    assert sorted(entry.id for entry in catalog.lessons()) == LESSONS
    assert [catalog.lesson(name).config_file for name in LESSONS] == FILES


@pytest.mark.parametrize("name", LESSONS)
def test_every_file_holds_every_profile(name: str) -> None:
    assert tuple(read_profiles(catalog.lesson(name).config_file)) == PROFILES


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", LESSONS)
def test_every_profile_is_valid_and_survives_being_saved(name: str, profile: str) -> None:
    config = resolve(model(name), catalog.lesson(name).config_file, profile)
    assert resolve(model(name), {profile: parse_yaml(to_yaml(config), "saved")}, profile) == config


@pytest.mark.parametrize("name", LESSONS)
def test_every_setting_says_what_it_holds(name: str) -> None:
    described = [
        field.description
        for section in sections(model(name))
        for field in section.model_fields.values()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Settings))
    ]
    assert len(described) == len(list(known_keys(model(name)))) - len(sections(model(name))) + 1
    assert all(described)


def sections(config: type[Settings]) -> list[type[Settings]]:
    """Return a model and the models of its sections."""
    kinds = [field.annotation for field in config.model_fields.values()]
    inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]
    return [config, *(found for kind in inner for found in sections(kind))]
