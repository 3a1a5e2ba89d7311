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
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent

from coursekit.errors import ConfigError, Finding

PROFILES = ("quick", "full", "gpu")
MAX_BYTES = 1 << 20
_SHOWN = 60


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
    channels_last: bool = Field(default=False, description="true to lay images out by pixel, for convolutions")
    compile: bool = Field(default=False, description="true to compile the network (half a minute the first time)")
    loader: Literal["tensors", "workers"] = Field(
        default="tensors", description="tensors (data on the device) or workers (DataLoader)"
    )
    workers: int = Field(default=0, ge=0, le=256, description="processes that fetch data, with loader: workers")
    threads: int = Field(default=0, ge=0, le=1024, description="CPU threads; 0 chooses from the work")
    checkpoint_seconds: float = Field(default=20.0, ge=0, description="seconds between checkpoints inside a training")
    tensorboard: bool = Field(default=False, description="true to write a TensorBoard log too")


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema, without aliases and without repeated keys.

    PyYAML's own rules (YAML 1.1) read `1e-3` as a string, `no` as a boolean and `1:30` as 90.
    """

    # Rebuilt below from nothing: the parent's table belongs to YAML 1.1.
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to start a table of resolvers

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(AliasEvent):
            event = self.peek_event()
            raise ComposerError(None, None, "aliases (*name) are not used here", event.start_mark)
        return super().compose_node(parent, index)

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
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
# The parent's integer reader takes a leading 0 for octal and a colon for base 60.
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))


def parse_yaml(text: str, where: str) -> Any:
    """Read one YAML value.

    Args:
        text: the document.
        where: what to name in an error.

    Raises:
        ConfigError: the text is not YAML, is too large, or uses aliases or repeated keys.
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
    except RecursionError:
        raise _refused(where, "at most some hundred nested levels", "more", "flatten it") from None
    except (ValueError, OverflowError, AttributeError, TypeError) as error:
        raise _refused(where, "plain values: numbers, words, lists, mappings", error, "mend the value") from None


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
    where = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise _refused(where, "a readable file", error.strerror or error, "name an existing YAML file") from None
    except UnicodeDecodeError as error:
        raise _refused(where, "UTF-8 text", error.reason, "save the file as UTF-8") from None
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise _refused(where, "profiles at the top level", type(tree).__name__, "start with `quick:`")
    findings = []
    for name, settings in tree.items():
        if name not in PROFILES:
            findings.append(_unknown(name, PROFILES, "a profile"))
        elif settings is not None and not isinstance(settings, dict):
            findings.append(
                Finding(
                    name,
                    "a mapping of settings",
                    got=_short(settings),
                    fix="write `key: value` lines below it",
                )
            )
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

    Args:
        model: the lesson's model.
        profiles: the file of profiles, or its content.
        profile: `quick`, `full` or `gpu`.
        overrides: `dotted.key=value` items; the value is read as YAML, so `1e-3` is a number.

    Raises:
        ConfigError: one finding for each key that is unknown, of the wrong type or out of range.
    """
    where = str(profiles) if isinstance(profiles, Path) else "profiles"
    table = read_profiles(profiles) if isinstance(profiles, Path) else profiles
    if profile not in table:
        raise ConfigError(where, [_unknown(profile, tuple(table), "a profile")])
    tree = json.loads(_to_json(table[profile], where))
    findings: list[Finding] = []
    for override in overrides:
        finding = _lay_over(tree, override)
        if finding is not None:
            findings.append(finding)
    try:
        config = model.model_validate_json(_to_json(tree, where), strict=True)
    except ValidationError as error:
        findings.extend(_findings(error, model))
    except RecursionError:
        findings.append(Finding("settings", "at most some hundred nested levels", fix="flatten it"))
    else:
        if not findings:
            return config
    raise ConfigError(f"{where} [{profile}]", findings)


def to_yaml(config: Settings) -> str:
    """Write a configuration as YAML that `parse_yaml` reads back to the same values."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


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


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that looks most like `name`, or None when nothing is close."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None


def _to_json(tree: Any, where: str) -> str:
    try:
        return json.dumps(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(where, "plain values: numbers, words, lists, mappings", error, "mend the value") from None


def _lay_over(tree: dict[str, Any], override: str) -> Finding | None:
    """Set one `dotted.key=value` in the tree; return what is wrong with it, if anything."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(part.isidentifier() for part in parts):
        return Finding(
            _short(override), "an override of the form key=value", fix="write for example `optimizer.lr=0.01`"
        )
    try:
        value = parse_yaml(text, key)
        json.dumps(value)
    except ConfigError as error:
        first = error.findings[0]
        return Finding(_short(key), first.expected, got=first.got, fix=first.fix)
    except (ValueError, RecursionError) as error:
        return Finding(_short(key), "a plain value", got=_short(error), fix="write a number, a word or a list")
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            return Finding(_short(key), f"{part!r} to be a section", got=_short(child), fix=f"set `{part}` itself")
        node = child
    node[parts[-1]] = value
    return None


def _findings(error: ValidationError, model: type[BaseModel]) -> Iterator[Finding]:
    for item in error.errors(include_url=False, include_context=False):
        place = item["loc"]
        key = _short(".".join(str(part) for part in place) or "settings")
        if item["type"] == "extra_forbidden":
            yield _unknown(key, tuple(known_keys(model)), "a setting")
            continue
        expected = item["msg"][:1].lower() + item["msg"][1:].rstrip(".")
        got = "" if item["type"] in ("missing", "json_invalid") else _short(json.dumps(item["input"], default=str))
        yield Finding(key, _short(expected, 200), got=got, fix=_fix(model, place))


def _unknown(key: str, known: Sequence[str], kind: str) -> Finding:
    leaf = key.rpartition(".")[2]
    guess = nearest(key, known) or next((name for name in known if name.rpartition(".")[2] == leaf), None)
    fix = f"write `{guess}`" if guess else f"use one of {', '.join(known)}"
    return Finding(_short(key), f"{kind} that exists", got=f"{_short(key)!r}", fix=fix)


def _fix(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Name the field's meaning as the mend: each field's description says what it holds."""
    annotation: Any = model
    description = None
    for part in place:
        section = _section(annotation)
        if section is None or part not in section.model_fields:
            break
        field = section.model_fields[str(part)]
        annotation, description = field.annotation, field.description
    return f"give {description.rstrip('.')}" if description else "change the value"


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `Section` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _section(part))), None)
    return None


def _short(value: object, limit: int = _SHOWN) -> str:
    """Return the value's text on one printable line of at most `limit` characters."""
    text = "".join(char if char.isprintable() else "�" for char in " ".join(str(value).split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"
