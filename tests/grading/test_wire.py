"""What crosses between judge and worker: values come back as they were, and hostile frames come to nothing."""

from __future__ import annotations

import base64
import json
import math
import os
import random
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import catalog
from coursekit.grading.confined import MOST_RESULT, Confined, outcome_of
from coursekit.grading.learner import Request
from coursekit.grading.submission import Source
from coursekit.grading.values import Opaque
from coursekit.grading.warm import Warm
from coursekit.grading.wire import _DTYPES, MAX_JSON, Decoder, Encoder, Inbox, WireError, pack

from .frames import HEADER, frame, hostile, samples

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.sampled_from([torch.float64, torch.bool, torch.float8_e4m3fn]),
    st.sampled_from([torch.device("cpu"), torch.device("cuda:1")]),
    st.builds(Opaque, st.text(max_size=10)),
)
_KEYS = st.one_of(st.text(max_size=5), st.integers(-5, 5), st.booleans(), st.none(), st.floats(allow_nan=False))
_VALUES = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, max_size=4), st.lists(parts, max_size=4).map(tuple), st.dictionaries(_KEYS, parts, max_size=4)
    ),
    max_leaves=20,
)


def crossed(value: Any, *, trusted: bool = False) -> Any:
    """Return a value after its way over the wire."""
    encoder = Encoder()
    inbox = Inbox()
    inbox.add(pack({"value": encoder.encode(value)}, encoder.memory))
    found = inbox.frame()
    assert found is not None
    assert len(inbox) == 0
    return Decoder(found[1], trusted=trusted).decode(found[0]["value"])


def alike(one: Any, other: Any) -> bool:
    """Return whether two values are the same, NaN and the sign of zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike(list(one.items()), list(other.items()))
    return one == other


@given(_VALUES)
@settings(max_examples=200, deadline=None)
def test_plain_values_come_back_as_they_were(value):
    assert alike(crossed(value), value)
    assert alike(crossed(value, trusted=True), value)


@pytest.mark.parametrize("trusted", [False, True], ids=["from-a-worker", "from-the-judge"])
@pytest.mark.parametrize("name", _DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_tensors_of_every_dtype_and_shape_come_back(name, shape, trusted):
    dtype = _DTYPES[name]
    value = torch.randint(0, 2, shape) if dtype is torch.bool else 100 * torch.rand(shape)
    value = value.to(dtype)
    got = crossed([value, 1], trusted=trusted)[0]
    assert (got.dtype, got.shape, got.device, got.requires_grad) == (dtype, value.shape, value.device, False)
    assert torch.equal(got, value)
    assert got.numel() == 0 or got.data_ptr() != value.data_ptr()
    got.zero_()  # its memory is its own


def test_tensors_that_are_not_finite_come_back_bit_by_bit():
    value = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 5e-324], dtype=torch.float64)
    assert torch.equal(crossed(value).view(torch.int64), value.view(torch.int64))


def test_the_judges_tensors_keep_strides_shared_memory_and_gradients():
    base = torch.arange(12.0).reshape(3, 4)
    column, transposed = crossed([base[:, 1], base.mT], trusted=True)
    assert (column.stride(), transposed.stride()) == ((4,), (1, 4))
    column.fill_(-1)
    assert transposed[1].tolist() == [-1, -1, -1]
    assert base[:, 1].tolist() == [1, 5, 9]
    got = crossed((base.clone().requires_grad_(), torch.zeros(1).expand(1000)), trusted=True)
    assert got[0].requires_grad
    assert got[1].stride() == (0,)


def test_conjugated_and_negated_views_come_back_resolved():
    value = torch.complex(torch.ones(3), torch.arange(3.0))
    got = crossed([value.conj().clone(), value.conj().imag.clone()])
    assert torch.equal(got[0], value.conj())
    assert torch.equal(got[1], -value.imag)
    assert torch.equal(crossed(value.conj(), trusted=True), value.conj().resolve_conj())


def test_truth_values_are_made_of_zero_and_one():
    """A byte of 2 would be true, and differ from true."""
    place = ["bool", [4], [1], 0, 0, False, "cpu"]
    got = Decoder([memoryview(bytearray(b"\x00\x01\x02\xff"))], trusted=False).decode({"tensor": place})
    assert got.view(torch.uint8).tolist() == [0, 1, 1, 1]


def test_what_is_not_plain_is_not_sent():
    with pytest.raises(WireError, match="set is no plain value"):
        Encoder().encode({1})
    with pytest.raises(WireError, match=r"a message of .* bytes of JSON .* is too large"):
        pack({"value": "x" * MAX_JSON})


# -------------------------------------------------------------------------------- strictness

_ONE = [memoryview(bytearray(4))]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        pytest.param({"tensor": ["float32", [1], [1], 0, 0, False, "meta"]}, "unknown device", id="meta"),
        pytest.param({"tensor": ["qint8", [4], [1], 0, 0, False, "cpu"]}, "unknown dtype", id="quantised"),
        pytest.param({"tensor": ["float32", [1], [1], 0, 0, 1, "cpu"]}, "unknown dtype", id="gradient-1"),
        pytest.param({"tensor": ["float32", [True], [1], 0, 0, False, "cpu"]}, "no shape", id="true-as-size"),
        pytest.param({"tensor": ["float32", [-1], [1], 0, 0, False, "cpu"]}, "no shape", id="negative"),
        pytest.param({"tensor": ["float32", [2], [1], 0, 0, False, "cpu"]}, "other bytes", id="too-few-bytes"),
        pytest.param({"tensor": ["float32", [1], [7], 0, 0, False, "cpu"]}, "other bytes", id="strided"),
        pytest.param({"tensor": ["int16", [1], [1], 1, 0, False, "cpu"]}, "other bytes", id="offset"),
        pytest.param({"tensor": ["float32", [1], [1], 0, 1, False, "cpu"]}, "larger than", id="no-such-memory"),
        pytest.param({"tensor": ["float32", [2**40], [1], 0, 0, False, "cpu"]}, "larger than", id="huge"),
        pytest.param({"tensor": ["float32", [1], [1], 0, 0, False]}, "no known kind", id="six-parts"),
        pytest.param({"complex": [1, 2]}, "two floats", id="complex-of-ints"),
        pytest.param({"dict": [[{"list": []}, 1]]}, "a key of another kind", id="list-as-key"),
        pytest.param({"dict": [[1]]}, "made of pairs", id="half-a-pair"),
        pytest.param({"float": "1e5"}, "no known kind", id="float-as-text"),
        pytest.param({"dtype": "torch.load"}, "no known kind", id="no-dtype"),
        pytest.param({"device": "cpu; rm"}, "no known kind", id="no-device"),
        pytest.param([1], "no known kind", id="bare-list"),
        pytest.param({"list": [], "tuple": []}, "no known kind", id="two-kinds"),
        pytest.param(2**64, "no known kind", id="65-bits"),
        pytest.param("x" * 10_001, "no known kind", id="long-text"),
        pytest.param({"list": [1] * 60_001}, "too many parts", id="wide"),
    ],
)
def test_a_worker_is_not_taken_at_its_word(tree, words):
    with pytest.raises(WireError, match=words):
        Decoder(_ONE, trusted=False).decode(tree)


def test_depth_is_bounded():
    tree: Any = 1
    for _ in range(18):
        tree = {"list": [tree]}
    with pytest.raises(WireError, match="too many parts"):
        Decoder([], trusted=False).decode(tree)
    assert Decoder([], trusted=False).decode(tree["list"][0]) is not None


def test_a_device_that_is_not_here_is_no_crash(monkeypatch):
    """A PyTorch without CUDA says so with an AssertionError."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.Tensor, "to", refuse)
    with pytest.raises(WireError, match="could not be built"):
        Decoder(_ONE, trusted=False).decode({"tensor": ["float32", [1], [1], 0, 0, False, "cuda:0"]})


def test_all_tensors_of_a_frame_are_counted_together():
    one = [memoryview(bytearray(2**20))]
    place = ["uint8", [2**20], [1], 0, 0, False, "cpu"]
    with pytest.raises(WireError, match="larger than"):
        Decoder(one, trusted=False).decode({"list": [{"tensor": place}] * 129})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "this is no frame", id="http"),
        pytest.param(b"C", None, id="one-byte"),
        pytest.param(b"X", "this is no frame", id="one-wrong-byte"),
        pytest.param(HEADER.pack(b"CKW1", MAX_JSON + 1, 0), "too large", id="long-text"),
        pytest.param(HEADER.pack(b"CKW1", 2, 2**64 - 1), "too large", id="long-memory"),
        pytest.param(HEADER.pack(b"CKW1", 2, 0) + b"[]", "does not say what its bytes are", id="no-object"),
        pytest.param(HEADER.pack(b"CKW1", 13, 1) + b'{"memory":[]}x', "other bytes than it says", id="spare-bytes"),
        pytest.param(HEADER.pack(b"CKW1", 3, 0) + b"NaN", "no JSON", id="nan"),
        pytest.param(HEADER.pack(b"CKW1", 9000, 0) + b"9" * 9000, "no JSON", id="long-number"),
        pytest.param(HEADER.pack(b"CKW1", 100_000, 0) + b"[" * 100_000, "no JSON", id="deep"),
    ],
)
def test_frames_are_refused_as_soon_as_it_shows(data, words):
    inbox = Inbox()
    if words is None:
        inbox.add(data)
        assert inbox.frame() is None
        return
    with pytest.raises(WireError, match=words):
        _first(inbox, data)


def _first(inbox: Inbox, data: bytes) -> object:
    inbox.add(data)
    return inbox.frame()


def test_frames_arrive_in_any_pieces():
    data = b"".join(samples())
    inbox = Inbox()
    found = []
    rng = random.Random(0)
    while data:
        size = rng.randrange(1, 50)
        inbox.add(data[:size])
        data = data[size:]
        while (whole := inbox.frame()) is not None:
            found.append(whole)
    assert len(found) == len(samples())


# -------------------------------------------------------------------------------------- fuzz


def fuzz(count: int, seed: int) -> Counter[str]:
    """Have the judge take so many hostile frames; return what came of them. Anything but WireError comes through."""
    came: Counter[str] = Counter()
    slowest = 0.0
    for data in hostile(count, seed):
        started = time.process_time()
        try:
            inbox = Inbox(MOST_RESULT)
            inbox.add(data)
            whole = inbox.frame()
            if whole is None:
                came["waits for more"] += 1
            else:
                whole[0].pop("nonce", None)
                outcome_of(whole[0], Decoder(whole[1], trusted=False))
                came["taken"] += 1
        except WireError as error:
            came[str(error).partition(" (")[0]] += 1
        slowest = max(slowest, time.process_time() - started)
    assert slowest < 5
    assert sum(came.values()) == count
    return came


def test_hostile_frames_come_to_nothing():
    """20,000 of them: each is refused, waits, or holds a plain value after all; every way of refusing is met."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    came = fuzz(20_000, seed=0)
    assert len(came) >= 17
    assert came["taken"] > 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_hundred_thousand_hostile_frames_come_to_nothing(seed):
    started = time.process_time()
    fuzz(20_000, seed)
    assert time.process_time() - started < 60


# --------------------------------------------------------------------------------- live fuzz

_SPRAY = """
import base64, os, sys
frames = {frames!r}
def f(number):
    frame = sys._getframe()
    while (frame := frame.f_back) and not isinstance(frame.f_locals.get("message"), dict):
        pass
    nonce = frame.f_locals["message"]["nonce"].encode()
    os.write(3, base64.b64decode(frames[number]).replace(b"0" * 32, nonce))
    return 7
"""


@pytest.fixture(scope="module")
def warm_process():
    if os.name != "posix":
        pytest.skip("submissions are confined on systems that can fork")
    made = Warm(catalog.lesson("optimization"))
    yield made
    made.close()


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_a_worker_that_sends_hostile_frames_ends_alone(warm_process, monkeypatch, count):
    """Real workers spray damaged replies, with the right nonce: each call has an outcome, in time."""
    monkeypatch.setattr("coursekit.grading.confined.GRACE", 0.3)
    frames = [data for data in hostile(2 * count, seed=9) if len(data) < 4_000][:count]
    text = _SPRAY.format(frames=[base64.b64encode(data).decode() for data in frames])
    source = Source(Path("mine.py"), "", text)
    came: Counter[str] = Counter()
    bench = None
    started = time.monotonic()
    for number in range(len(frames)):
        bench = bench or Confined(warm_process.session(), source, (), seconds=5)
        outcome = bench.perform(Request("call", "f", (number,)), seed=0, seconds=0.3)
        kind = "ended" if outcome.ended else "timed out" if outcome.timed_out else "answered"
        came[kind] += 1
        assert (
            outcome.value is None
            or type(outcome.value) in (int, float, bool, str, list, tuple, dict, Opaque)
            or (isinstance(outcome.value, torch.Tensor))
        )
        if kind != "answered":
            bench.close()
            bench = None
    if bench is not None:
        bench.close()
    assert sum(came.values()) == count
    assert came["ended"] > count / 3
    assert time.monotonic() - started < 3 * count


def test_replies_that_are_forged_well_are_only_values(warm_process):
    """Who knows the nonce can answer in the worker's place; it gains nothing, and the next question ends it."""
    forged = json.dumps(frame(6.0).hex())
    text = f"""
import os, sys
def f():
    frame = sys._getframe()
    while (frame := frame.f_back) and not isinstance(frame.f_locals.get("message"), dict):
        pass
    nonce = frame.f_locals["message"]["nonce"].encode()
    os.write(3, bytes.fromhex({forged}).replace(b"0" * 32, nonce))
    return 7
"""
    bench = Confined(warm_process.session(), Source(Path("mine.py"), "", text), (), seconds=5)
    first = bench.perform(Request("call", "f"), seed=0, seconds=5)
    second = bench.perform(Request("call", "f"), seed=0, seconds=5)
    bench.close()
    assert first.value == 6.0 or "another question" in first.ended
    assert "your code disturbed the connection" in second.ended
