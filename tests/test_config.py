"""Configuration: what is read, what is refused and how, and five thousand hostile files and overrides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from coursekit.catalog import root
from coursekit.config import (
    MAX_BYTES,
    PROFILES,
    Settings,
    Training,
    fingerprint,
    known_keys,
    nearest,
    parse_yaml,
    read_profiles,
    resolve,
    to_yaml,
)
from coursekit.errors import ConfigError, Finding
from lessons.optimization.config import Config

KEYS = tuple(known_keys(Config))
# The longest message that a reader, a terminal and a log line still can take.
LONGEST = 8000


def steady(examples: int) -> settings:
    """Return settings under which every run, on every machine, draws the same examples."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def one(*overrides: str, model: type[Settings] = Config, quick: dict[str, Any] | None = None) -> Any:
    """Return the configuration of a profile with overrides."""
    return resolve(model, {"quick": quick or {}}, "quick", overrides)


def refusals(*overrides: str, quick: dict[str, Any] | None = None) -> list[str]:
    """Return the lines of the error that overrides lead to."""
    with pytest.raises(ConfigError) as caught:
        one(*overrides, quick=quick)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


# What is read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("+7", 7),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("cuda:0", "cuda:0"),
        ("<<", "<<"),
        ("'1e-3'", "1e-3"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("\ufeffa", "a"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    got = parse_yaml(text, "here")
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("training.epochs=5", "training", "epochs", 5),
        ("rates.sgd=1e-3", "rates", "sgd", 1e-3),
        ("rates.sgd=2", "rates", "sgd", 2.0),
        ("sweep.sgd=[1e-2, 1]", "sweep", "sgd", (0.01, 1.0)),
        ("training={epochs: 7}", "training", "epochs", 7),
        ("training.precision=32", "training", "precision", "32"),
        ("training.precision='64'", "training", "precision", "64"),
        ("training.device=cuda:1", "training", "device", "cuda:1"),
        ("training.fused=false", "training", "fused", False),
        ("initialization.depth=1000", "initialization", "depth", 1000),
    ],
)
def test_an_override_sets_its_field(override: str, section: str, field: str, value: object) -> None:
    got = getattr(getattr(one(override), section), field)
    assert (type(got), got) == (type(value), value)


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "lesson.yaml"
    file.write_text("quick: {target: 0.5, training: {epochs: 3, batch_size: 8}}\nfull:\n")
    config = resolve(Config, file, "quick", ["training.epochs=4", "training.epochs=5"])
    assert (config.target, config.training.epochs, config.training.batch_size) == (0.5, 5, 8)
    assert config.rates == Config().rates
    assert resolve(Config, file, "full") == Config()


class Other(Settings):
    """A lesson whose section has defaults of its own."""

    training: Training = Training(epochs=3, batch_size=16)
    maybe: Training | None = None
    need: int = Field(gt=0, description="a number above 0")


class Range(Settings):
    """Two settings that must fit each other."""

    low: int = 0
    high: int = 1
    name: str = "range"

    @model_validator(mode="after")
    def _rises(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low below high")
        if self.name == "none":
            raise ValueError("another word")
        return self


class Ranges(Settings):
    """A lesson with such a section."""

    range: Range = Range()


def test_settings_that_do_not_fit_each_other_are_shown_alone() -> None:
    with pytest.raises(ConfigError) as refused:
        one("range.low=3", model=Ranges)
    told = 'range: low below high. Got {"low": 3, "high": 1}. Fix: change the value.'
    assert [str(finding) for finding in refused.value.findings] == [told]
    with pytest.raises(ConfigError) as refused:
        one("range.name=none", model=Ranges)
    assert refused.value.findings[0].got == "", "where the message names no setting, none stands out"


def test_a_section_given_in_part_keeps_the_lessons_own_defaults() -> None:
    config = one("training.device=cpu", "need=1", model=Other)
    assert config.training == Training(epochs=3, batch_size=16, device="cpu")
    assert one("need=1", model=Other, quick={"training": {"epochs": 9}}).training.batch_size == 16


def test_an_optional_section_can_be_given_and_left_out() -> None:
    assert one("need=1", model=Other).maybe is None
    assert one("need=1", "maybe.epochs=2", model=Other).maybe == Training(epochs=2)


def test_resolving_leaves_the_profiles_alone() -> None:
    profiles = {"quick": {"training": {"epochs": 3}}}
    resolve(Config, profiles, "quick", ["training.epochs=4", "rates.sgd=1"])
    assert profiles == {"quick": {"training": {"epochs": 3}}}


def test_a_configuration_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        one().target = 0.5


# What is refused, and with which words


@pytest.mark.parametrize(
    ("key", "mend"),
    [
        ("training.epoch", "write `training.epochs`"),
        ("trainin.epochs", "write `training.epochs`"),
        ("epochs", "write `training.epochs`"),
        ("epoch", "write `training.epochs`"),
        ("optimizer.lr", "write `clipping.lr`"),
        ("training.lr", "write `clipping.lr`"),
        ("weight-decay", "write `weight_decay`"),
        ("Target", "write `target`"),
        ("rates.zzz", "use one of rates.sgd, rates.adagrad, rates.adam"),
        ("zzz.zzz", f"use one of {', '.join(Config.model_fields)}"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, mend: str) -> None:
    assert refusals(f"{key}=1") == [f"{key}: a setting that exists. Got {key!r}. Fix: {mend}."]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs=0", "input should be greater than 0. Got 0. Fix: give passes over the training part."),
        ("training.epochs=100001", "input should be less than or equal to 100000. Got 100001. Fix: give passes over"),
        (
            "training.epochs=1e-3",
            "input should be a valid integer. Got 0.001. Fix: give passes over the training",
        ),
        ("training.epochs=true", "input should be a valid integer. Got true."),
        ("training.epochs=2001-01-01", 'input should be a valid integer. Got "2001-01-01".'),
        ("rates.sgd=true", "input should be a valid number. Got true."),
        ("rates.sgd='0.1'", 'input should be a valid number. Got "0.1".'),
        ("rates.sgd=.nan", "input should be a finite number. Got NaN."),
        ("rates.sgd=1e999", "input should be a finite number. Got Infinity."),
        ("training.fused=1", "input should be a valid boolean. Got 1."),
        ("training.precision=16", "input should be 'auto', '32', 'bf16' or '64'. Got \"16\"."),
        ("training=5", "input should be an object. Got 5. Fix: change the value."),
        ("target", "an override of the form key=value. Fix: write as in `training.epochs=5`."),
        ("seeds=[1, 2", "valid YAML (line 1, column 6). Got expected ',' or ']'"),
        ("seeds=&a [*a]", "valid YAML (line 1, column 5). Got aliases (*name) are not used here."),
        ("target=!!bool x", "valid YAML (line 1, column 1). Got tags (!name) are not used here."),
        ("training={epochs: 1, epochs: 2}", "valid YAML (line 1, column 13). Got the key 'epochs' stands twice."),
        ("training={1: 2}", "valid YAML (line 1, column 2). Got keys are plain words."),
        ('training.device="\\ud800"', "valid YAML (line 1, column 1). Got half of a surrogate pair is no character."),
        ("training.epochs=" + "9" * 4301, "whole numbers of at most some thousand digits. Got more. Fix: shorten"),
        ("training.epochs=" + "9" * 4300, "input should be less than or equal to 100000. Got 999"),
    ],
)
def test_a_wrong_value_names_key_expected_got_and_fix(override: str, words: str) -> None:
    (line,) = refusals(override)
    assert line.startswith(f"{override.partition('=')[0]}: {words}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("=1", "=1: an override of the form key=value."),
        ("a..b=1", "a..b=1: an override of the form key=value."),
        ("target\x07=1", "target�=1: an override of the form key=value."),
        ("target\ud800=1", "target�=1: an override of the form key=value."),
        (
            ".".join(["training"] * 21) + "=1",
            "training.training.training.training.training.training.train…: an",
        ),
        ("training.epochs.x=5", 'training.epochs: input should be a valid integer. Got {"x": 5}.'),
        (
            "seeds=[0, true]",
            "seeds.1: input should be a valid integer. Got true. Fix: give seeds, for example",
        ),
        ("training={lr: 1}", "training.lr: a setting that exists. Got 'training.lr'. Fix: write `clipping.lr`."),
    ],
)
def test_a_refusal_names_the_place(override: str, words: str) -> None:
    (line,) = refusals(override)
    assert line.startswith(words)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"need: field required\. Fix: give a number above 0\."):
        one(model=Other)


def test_a_section_that_was_replaced_by_a_value_is_named() -> None:
    lines = refusals("training.epochs=3", quick={"training": [1]})
    assert lines[0] == "training.epochs: a section training. Got [1]. Fix: set `training` itself."


def test_a_dotted_key_in_a_file_is_told_to_be_indented() -> None:
    (line,) = refusals(quick={"training.epochs": 5})
    assert line.endswith("Fix: write `epochs` indented below `training`.")


def test_all_errors_at_once() -> None:
    lines = refusals(
        "training.epoch=3", "rates.sgd=-1", "seeds=[", "nonsense.key=1", quick={"target": 2, "training": {"fused": 0}}
    )
    assert {line.partition(":")[0] for line in lines} == {
        "training.epoch",
        "rates.sgd",
        "seeds",
        "nonsense.key",
        "target",
        "training.fused",
    }


def test_a_wrong_override_is_refused_even_when_the_rest_is_valid() -> None:
    assert len(refusals("target=0.5", "target")) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"text: profiles at the top level\. Got null\. Fix: start with `quick:`\."),
        (b"{}", r"profiles at the top level\. Got \{\}"),
        (b"- a", r'profiles at the top level\. Got \["a"\]'),
        (b"qick: {}", r"qick: a profile that exists\. Got 'qick'\. Fix: write `quick`\."),
        (b"zzz: {}", r"zzz: a profile that exists\. Got 'zzz'\. Fix: use one of quick, full, gpu\."),
        (b"training: {}", r"training: a profile that exists"),
        (b"quick: 5", r"quick: a mapping of settings\. Got 5\. Fix: write `key: value` lines below it\."),
        (b"quick: {}\nquick: {}", r"valid YAML \(line 2, column 1\)\. Got the key 'quick' stands twice"),
        (b"quick: {\xff: 1}", r"text: UTF-8 text\. Got invalid start byte\. Fix: save the file as UTF-8\."),
        (b"quick: {a: \x1b[31m}", r"unacceptable character #x001b"),
        (b"quick: " + b"[" * 100, r"valid YAML \(line 1, column 27\)\. Got more than 20 nested levels"),
        (b"#" * (MAX_BYTES + 1), rf"text: at most {MAX_BYTES} bytes\. Got more\. Fix: shorten it\."),
        (b"#" * (MAX_BYTES - 1) + "é".encode(), rf"at most {MAX_BYTES} bytes"),
        (b"#" * MAX_BYTES, r"profiles at the top level"),
        (b"a: 1\n---\nb: 2", r"but found another document"),
    ],
)
def test_a_file_that_holds_no_profiles_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "lesson.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_profiles(file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.yaml", r"a readable file\. Got No such file or directory\. Fix: name an existing YAML file\."),
        ("", r"a readable file\. Got Is a directory"),
        ("a\x00b", r"a readable file\. Got embedded null byte"),
        ("\ud800", r"a readable file\. Got .utf-8. codec"),
        ("x" * 300, r"a readable file\. Got File name too long"),
        ("a\nb", r"/a b: 1 setting to mend"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_profiles(tmp_path / name)


def test_text_at_the_bound_is_read_and_beyond_it_refused() -> None:
    assert parse_yaml(" " * (MAX_BYTES - 1) + "1", "here") == 1
    with pytest.raises(ConfigError, match=f"at most {MAX_BYTES} characters. Got {MAX_BYTES + 1}"):
        parse_yaml(" " * MAX_BYTES + "1", "here")


def test_twenty_levels_are_read_and_one_more_refused() -> None:
    assert parse_yaml("[" * 20 + "]" * 20, "here")
    with pytest.raises(ConfigError, match="more than 20 nested levels"):
        parse_yaml("[" * 21 + "]" * 21, "here")


def test_an_unknown_profile_names_those_of_the_file() -> None:
    with pytest.raises(ConfigError, match=r"ful: a profile that exists. Got 'ful'. Fix: write `full`"):
        resolve(Config, {"quick": {}, "full": {}}, "ful")


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x"], ids=["object", "set", "bytes"])
def test_a_mapping_of_other_than_plain_values_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"text: plain values: numbers, words, lists, mappings\. Got Object of"):
        one(quick={"target": value})


@pytest.mark.parametrize(
    ("name", "expected"), [("SGD", "sgd"), ("sdg", "sgd"), ("adamw", "adam"), ("xyz", None)], ids=str
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, ["sgd", "adam"]) == expected


# The way out and back

words = st.text(max_size=30)
words |= st.sampled_from(["1e-3", "1e5", "010", "no", "~", "", "<<", "2001-01-01", "- a", "#", "\x85", "a: b", "0x1F"])
decays = st.floats(min_value=0, allow_infinity=False, allow_nan=False)


@steady(100)
@given(words, decays, st.lists(st.integers(), min_size=1, max_size=4))
def test_a_written_configuration_is_read_back_the_same(device: str, decay: float, seeds: list[int]) -> None:
    training = Training(device=device, batch_size=7)
    config = Config(training=training, weight_decay=decay, seeds=tuple(seeds))
    tree = parse_yaml(to_yaml(config), "here")
    again = resolve(Config, {"quick": tree})
    assert again == config
    assert fingerprint(again) == fingerprint(config)


@steady(50)
@given(st.permutations(list(Config().model_dump(mode="json").items())))
def test_the_fingerprint_does_not_hang_on_the_order_of_keys(items: list[tuple[str, Any]]) -> None:
    assert fingerprint(dict(items)) == fingerprint(Config())


def test_the_fingerprint_tells_configurations_apart() -> None:
    marks = [fingerprint(one(override)) for override in ("target=0.95", "target=0.96", "seeds=[0]", "rates.sgd=0.031")]
    assert len(set(marks)) == 4
    assert marks[0] == fingerprint(Config())
    assert all(len(mark) == 64 for mark in marks)


# Five thousand attacks

SPACES = [" ", "  ", "\n", "\n  ", ": ", "- ", ", ", "? ", "| ", "|\n", ">\n", "---\n", "...\n", "\t", "<<: ", "&a "]
SIGNS = r""": [ ] { } ' " # % ~ \ *a <<:*a ! !x !!python/object:os.system !!binary !!timestamp !!bool !!set %YAML%1.1"""
WORDS = r"""1 -1 0.5 1e-3 1e999 .inf .nan 0x1F 2001-01-01 1:30 true no null a.b é "\ud800" cpu digits"""
BINARY = ["\x00", "\x1b[31m", "\x85", "\u202e", "\u2028", "\ud800", "\ufeff", "\U0001f600"]
LONG = ["9" * 400, "9" * 5000, "x" * 300, "[" * 50, "{a: " * 50, "- " * 50]
TOKENS = [*SPACES, *SIGNS.split(), *WORDS.split(), *BINARY, *LONG, *PROFILES, *KEYS]

text = st.lists(st.sampled_from(TOKENS), max_size=30).map("".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["auto", "cpu", "digits", "mlp", "bf16", 10**400, 0, 0.5, 1, 2, 64])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*KEYS, "x", ""]), inner, max_size=4),
    max_leaves=8,
)
leaves = st.sampled_from([key.rpartition(".")[2] for key in KEYS])
sections = st.sampled_from([*Config.model_fields, "x"])
trees = st.dictionaries(sections, st.dictionaries(leaves, values, max_size=3) | values, max_size=3)
keys = st.sampled_from(KEYS) | text | st.text(st.characters(), max_size=20) | st.lists(leaves, min_size=1).map(".".join)
written = values.map(json.dumps) | text | st.text(st.characters(), max_size=20) | st.sampled_from(["1", "0.5", "cpu"])
overrides = st.lists(st.tuples(keys, st.sampled_from(["=", "=", "=", "", " = "]), written).map("".join), max_size=4)
heads = st.sampled_from([b"", b"quick:\n  ", b"quick: {", b"quick: {target: ", b"quick:\n  training: {epochs: 3, "])


def encode(text: str) -> bytes:
    """Return the bytes of a text, surrogates included."""
    return text.encode("utf-8", "surrogatepass")


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A profile of the real file with one to four accidents."""
    real = (root() / "configs" / "optimization.yaml").read_text(encoding="utf-8")
    text = draw(st.sampled_from([part.partition(":\n")[2] for part in real.split("\n\n")[1:]]))
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(text)))
        last = min(len(text), first + draw(st.integers(0, 6)))
        text = text[:first] + draw(st.sampled_from(["", text[first:last] * 2, *TOKENS])) + text[last:]
    return encode(f"quick:\n{text}\n")


@pytest.mark.parametrize(
    ("count", "attacks", "kind"),
    [
        pytest.param(600, st.tuples(heads, st.binary(max_size=200)).map(b"".join), "file", id="bytes"),
        pytest.param(1300, st.tuples(heads, text.map(encode)).map(b"".join), "file", id="yaml-ish text"),
        pytest.param(1000, mutations(), "file", id="mutated real files"),
        pytest.param(700, trees, "tree", id="trees of wrong values"),
        pytest.param(1400, overrides, "overrides", id="overrides"),
    ],
)
def test_hostile_input_ends_in_a_valid_configuration_or_in_config_error(
    tmp_path: Path, count: int, attacks: st.SearchStrategy[Any], kind: str
) -> None:
    file = tmp_path / "attack.yaml"
    outcomes: Counter[str] = Counter()

    @steady(count)
    @given(attacks)
    def attack(value: Any) -> None:
        if kind == "file":
            file.write_bytes(value)
        profiles = {"file": file, "tree": {"quick": value}, "overrides": {"quick": {}}}[kind]
        outcomes[outcome(lambda: resolve(Config, profiles, "quick", value if kind == "overrides" else ()))] += 1

    attack()
    assert outcomes.total() >= count
    assert set(outcomes) == {"valid", "refused"}


def outcome(call: Callable[[], Config]) -> str:
    """Return what came of an attack, after looking at the message."""
    try:
        config = call()
    except ConfigError as error:
        message, findings = str(error), error.findings
    else:
        assert isinstance(config, Config)
        return "valid"
    assert len(message) < LONGEST
    assert all(line.isprintable() for line in message.split("\n"))
    assert "Traceback" not in message
    assert 'File "' not in message
    assert findings
    assert all(finding.key and finding.expected and finding.fix for finding in findings)
    assert message.count(" Fix: ") >= min(len(findings), 20)
    return "refused"


@pytest.mark.parametrize("words", ["a\x1b[31m", 'File "config.py"', "x" * LONGEST], ids=["control", "trace", "long"])
def test_the_hostile_check_refuses_a_bad_message(words: str) -> None:
    def refuse() -> Config:
        raise ConfigError("here", [Finding("key", words, fix="mend it")])

    with pytest.raises(AssertionError):
        outcome(refuse)


def test_the_hostile_check_lets_other_exceptions_through() -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: Config(weight_decay=1 / 0))
