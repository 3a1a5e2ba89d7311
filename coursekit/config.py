"""Configuration: pydantic models, YAML profiles and dotted overrides, with every error at once.

A lesson declares one model derived from `Settings`. `configs/<lesson>.yaml` holds the profiles `quick`,
`full` and `gpu`, each naming only what differs from the model's defaults. `resolve` lays the overrides
of the command line on top. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent

from coursekit.errors import ConfigError, Finding

PROFILES = ("quick", "full", "gpu")
MAX_BYTES = 1 << 16
_DEEPEST = 20
_SHOWN = 60
_LONGEST_PATH = 300


class Settings(BaseModel):
    """Base of every configuration model: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


class Training(Settings):
    """How a network is trained: the section that every lesson's configuration shares."""

    epochs: int = Field(default=20, gt=0, le=100_000, description="passes over the training part")
    batch_size: int = Field(default=64, gt=0, le=1 << 20, description="rows in one (global) mini-batch")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:<n>")
    precision: Literal["auto", "32", "bf16", "64"] = Field(
        default="auto", description="32, bf16 (mixed), 64, or auto (bf16 where the GPU has it)"
    )
    fused: bool = Field(default=True, description="true for PyTorch's fused optimizer kernels where there are any")
    channels_last: bool | None = Field(
        default=None, description="true to lay images out by pixel, false not to, null for networks with convolutions"
    )
    compile: bool = Field(default=False, description="true to compile the network (half a minute the first time)")
    loader: Literal["tensors", "workers"] = Field(
        default="tensors", description="tensors (data on the device) or workers (DataLoader)"
    )
    workers: int = Field(default=0, ge=0, le=256, description="processes that fetch data, with loader: workers")
    threads: int = Field(default=0, ge=0, le=1024, description="CPU threads; 0 chooses from the work")
    patience: int = Field(
        default=0,
        ge=0,
        description="epochs without a better validation loss until training stops at its best weights; 0 never stops",
    )
    test_curve: bool = Field(
        default=False, description="true to evaluate the test part each epoch too: for a curve, never for a choice"
    )
    checkpoint_seconds: float = Field(default=20.0, ge=0, description="seconds between checkpoints inside a training")
    tensorboard: bool = Field(default=False, description="true to write a TensorBoard log too")

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_in_words(cls, value: object) -> object:
        return str(value) if type(value) is int else value  # `precision: 32` needs no quotes


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema, without aliases, tags, repeated keys and deep nesting.

    PyYAML's own rules (YAML 1.1) read `1e-3` as a string, `no` as a boolean and `1:30` as 90.
    """

    # Rebuilt below from nothing: the parent's table belongs to YAML 1.1.
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to start a table of resolvers
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not used here", event.start_mark)
        if event.tag is not None:
            raise ComposerError(None, None, "tags (!name) are not used here", event.start_mark)
        if self.depth == _DEEPEST:
            raise ComposerError(None, None, f"more than {_DEEPEST} nested levels", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if any("\ud800" <= char <= "\udfff" for char in value):  # from an escape such as "\ud800"
            raise ConstructorError(None, None, "half of a surrogate pair is no character", node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag != "tag:yaml.org,2002:str":
                raise ConstructorError(None, None, "keys are plain words", key.start_mark)
            if name in seen:
                raise ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


class _CoreDumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or the core schema would take for something else than a string."""


_SCALARS = [
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]
for _tag, _pattern, _first in _SCALARS:
    for _kind in (_CoreLoader, _CoreDumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
# The parent's integer reader takes a leading 0 for octal and a colon for base 60.
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))


def parse_yaml(text: str, where: str) -> Any:
    """Read one YAML value.

    Args:
        text: the document.
        where: what to name in an error.

    Raises:
        ConfigError: the text is not YAML, is too large or too deep, or uses aliases, tags or repeated keys.
    """
    if len(text) > MAX_BYTES:
        raise _refused(where, f"at most {MAX_BYTES} characters", f"{len(text)}", "shorten it")
    try:
        return yaml.load(text, _CoreLoader)  # a SafeLoader: it builds plain values only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _refused(where, f"valid YAML{place}", problem, "mend the text there") from None
    except ValueError:  # Python reads whole numbers of at most 4300 digits
        raise _refused(where, "whole numbers of at most some thousand digits", "more", "shorten the number") from None


def _refused(where: str, expected: str, got: object, fix: str) -> ConfigError:
    return ConfigError(where, [Finding("text", expected, got=_short(got), fix=fix)])


def read_profiles(path: Path) -> dict[str, dict[str, Any]]:
    """Read a file of profiles.

    Args:
        path: a YAML file whose top-level keys are among `quick`, `full` and `gpu`.

    Returns:
        Profile name to its settings.

    Raises:
        ConfigError: the file cannot be read or is not made of profiles.
    """
    where = _short(path, _LONGEST_PATH)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError: the path holds a character that no path can hold
        reason = error.strerror if isinstance(error, OSError) else error
        raise _refused(where, "a readable file", reason, "name an existing YAML file") from None
    if len(raw) > MAX_BYTES:
        raise _refused(where, f"at most {MAX_BYTES} bytes", "more", "shorten it")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(where, "UTF-8 text", error.reason, "save the file as UTF-8") from None
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict) or not tree:
        raise _refused(where, "profiles at the top level", json.dumps(tree), "start with `quick:`")
    findings = []
    for name, settings in tree.items():
        if name not in PROFILES:
            findings.append(_unknown(name, PROFILES, "a profile"))
        elif settings is not None and not isinstance(settings, dict):
            fix = "write `key: value` lines below it"
            findings.append(Finding(name, "a mapping of settings", got=_short(settings), fix=fix))
    if findings:
        raise ConfigError(where, findings)
    return {name: settings or {} for name, settings in tree.items()}


def resolve(
    model: type[SettingsT],
    profiles: Path | Mapping[str, Mapping[str, Any]],
    profile: str = "quick",
    overrides: Sequence[str] = (),
) -> SettingsT:
    """Build the configuration of one run: the model's defaults, then the profile, then the overrides.

    A section that is given in part keeps the rest of the model's default for it.

    Args:
        model: the lesson's model.
        profiles: the file of profiles, or its content.
        profile: `quick`, `full` or `gpu`.
        overrides: `dotted.key=value` items; the value is read as YAML, so `1e-3` is a number.

    Raises:
        ConfigError: one finding for each key that is unknown, of the wrong type or out of range.
    """
    where = _short(profiles, _LONGEST_PATH) if isinstance(profiles, Path) else "profiles"
    table = read_profiles(profiles) if isinstance(profiles, Path) else profiles
    if profile not in table:
        raise ConfigError(where, [_unknown(profile, tuple(table), "a profile")])
    tree = json.loads(_to_json(table[profile], where))
    known = tuple(known_keys(model))
    findings: list[Finding] = []
    for override in overrides:
        finding = _lay_over(tree, override, known)
        if finding is not None:
            findings.append(finding)
    try:
        config = model.model_validate_json(_to_json(_over(_sections(model), tree), where), strict=True)
    except ValidationError as error:
        findings.extend(findings_of(error, model))
    else:
        if not findings:
            return config
    raise ConfigError(f"{where} [{profile}]", findings)


def to_yaml(config: Settings) -> str:
    """Write a configuration as YAML that `parse_yaml` reads back to the same values."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_CoreDumper, sort_keys=False)


def fingerprint(value: Settings | Mapping[str, Any]) -> str:
    """Return the SHA-256 of a configuration's canonical JSON: equal settings, equal fingerprint."""
    tree = value.model_dump(mode="json") if isinstance(value, Settings) else value
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key that a model knows, sections before their fields."""
    for name, field in model.model_fields.items():
        yield prefix + name
        section = _section(field.annotation)
        if section is not None:
            yield from known_keys(section, f"{prefix}{name}.")


def findings_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Finding]:
    """Yield what pydantic found wrong with the settings of a model, in our words."""
    known = tuple(known_keys(model))
    for item in error.errors(include_url=False, include_context=False):
        place = item["loc"]
        key = _short(".".join(str(part) for part in place))
        if item["type"] == "extra_forbidden":
            names = ".".join(part for part in place if isinstance(part, str))
            yield Finding(key or "settings", "a setting that exists", got=repr(key), fix=_instead(names, known))
            continue
        expected = item["msg"].removeprefix("Value error, ").rstrip(".")
        expected = expected[:1].lower() + expected[1:]
        value = item["input"]
        if item["type"] == "value_error" and isinstance(value, dict):
            # A section's own rule: of its settings, only those that the rule speaks of.
            value = {name: part for name, part in value.items() if name in re.findall(r"[\w.]+", expected)}
        shown = item["type"] != "missing" and value != {}
        got = _short(json.dumps(value, default=str, ensure_ascii=False)) if shown else ""
        yield Finding(key or "settings", _short(expected, 200), got=got, fix=_fix(model, place))


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that looks most like `name`, or None when nothing is close."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None


def _to_json(tree: Any, where: str) -> str:
    try:
        return json.dumps(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(where, "plain values: numbers, words, lists, mappings", error, "mend the value") from None


def _lay_over(tree: dict[str, Any], override: str, known: Sequence[str]) -> Finding | None:
    """Set one `dotted.key=value` in the tree; return what is wrong with it, if anything."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(part and part.isprintable() for part in parts) or len(parts) > _DEEPEST:
        where = _short(override) or "override"
        return Finding(where, "an override of the form key=value", fix="write as in `training.epochs=5`")
    if parts[0] not in known:
        return _unknown(key, known, "a setting")
    try:
        value = parse_yaml(text, key)
    except ConfigError as error:
        first = error.findings[0]
        return Finding(_short(key), first.expected, got=first.got, fix=first.fix)
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            part = _short(part)
            return Finding(_short(key), f"a section {part}", got=_short(child), fix=f"set `{part}` itself")
        node = child
    node[parts[-1]] = value
    return None


def _sections(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's own defaults for its sections, which need not be those of the section's class."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    return {name: part.model_dump(mode="json") for name, part in defaults.items() if isinstance(part, BaseModel)}


def _over(base: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another, section by section."""
    merged = base | tree
    for name in base.keys() & tree.keys():
        if isinstance(base[name], dict) and isinstance(tree[name], dict):
            merged[name] = _over(base[name], tree[name])
    return merged


def _unknown(key: str, known: Sequence[str], kind: str) -> Finding:
    key = _short(key)
    return Finding(key or "override", f"{kind} that exists", got=repr(key), fix=_instead(key, known))


def _instead(key: str, known: Sequence[str]) -> str:
    """Return what to write for an unknown dotted key: the same word elsewhere, or one like it."""
    key = _short(key)
    section, _, word = key.rpartition(".")
    known = [name for name in known if not key.startswith(f"{name}.")]  # its own section is no mend
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    names = {name.rpartition(".")[2]: name for name in [*reversed(known), *siblings]}
    same = nearest(key, [name for name in known if name.endswith(f".{word}")]) or names.get(word)
    like = nearest(word, [name.rpartition(".")[2] for name in siblings]) or nearest(word, [*names])
    if key in known:  # `training.epochs: 5` in a file
        return f"write `{word}` indented below `{section}`"
    if same or like:
        return f"write `{same or names[str(like)]}`"
    return f"use one of {', '.join(siblings or [name for name in known if '.' not in name])}"


def _fix(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Name the field's meaning as the mend: each field's description says what it holds."""
    annotation: Any = model
    description = None
    for part in place:
        section = _section(annotation)
        if isinstance(part, int) or section is None or part not in section.model_fields:
            continue
        field = section.model_fields[part]
        annotation, description = field.annotation, field.description
    return f"give {description.rstrip('.')}" if description else "change the value"


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _section(part))), None)


def _short(value: object, limit: int = _SHOWN) -> str:
    """Return the value's text on one printable line of at most `limit` characters."""
    text = "".join(char if char.isprintable() else "�" for char in " ".join(str(value).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"
