"""Hostile frames: what a worker of bad faith may send, made by damaging what a worker of good faith sends."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import torch

from coursekit.grading.values import Opaque
from coursekit.grading.wire import Encoder, pack

HEADER = struct.Struct("<4sIQ")
_WORDS = ("nonce", "value", "raised", "timed_out", "changed", "memory", "list", "tuple", "dict", "float", "complex")
_WORDS += ("tensor", "dtype", "device", "opaque", "float32", "cpu", "cuda:0", "meta", "nan", "")
_ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    7,
    255,
    2**31,
    2**47,
    2**63,
    -(2**63),
    2**64,
    2**70,
    10**400,
    1e308,
    1e-320,
    -0.0,
    "",
    "x",
    "float32",
    "bool",
    "int64",
    "complex128",
    "cpu",
    "cuda",
    "cuda:99",
    "mps",
    "meta",
    "\ud800",
    "\u202e\x00",
    "a" * 20_000,
    [],
    {},
    [[]],
    {"list": []},
    {"tuple": None},
    {"dict": [[{"list": []}, 1]]},
    {"dict": [["a", 1], ["a", 2]]},
    {"float": "nan"},
    {"complex": [1, 2]},
    {"complex": [{"float": "inf"}, 0.5]},
    {"dtype": "torch.float32"},
    {"device": "cuda:99"},
    {"opaque": 5},
    {"tensor": []},
    {"tensor": ["float32", [2**40], [1], 0, 0, False, "cpu"]},
    {"tensor": ["float32", [0, 2**46], [2**46, 1], 0, 0, False, "cpu"]},
    {"tensor": ["bool", [-1], [1], 0, 0, False, "cpu"]},
    {"tensor": ["float32", [1] * 65, [1] * 65, 0, 0, False, "cpu"]},
    {"tensor": ["uint8", [4], [1], 0, 0, True, "cuda:0"]},
    {"tensor": ["int8", [2**46] * 64, [1] * 64, 0, 0, False, "cpu"]},
)
_TEXTS = (
    b"",
    b"null",
    b"[]",
    b"{",
    b'{"memory":[]}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5_000,
    b"-" * 10,
    b"1e400",
    b'{"memory":[],"value":1e400}',
    b'{"memory":[],"value":NaN}',
    b'{"memory":[],"value":-Infinity}',
    b"\xff\xfe",
    b"\x00" * 40,
    b'{"memory":[],"memory":[0]}',
    b'{"memory":[' + b"0," * 50_000 + b"0]}",
    b'{"memory":[],"value":"' + b"a" * 200_000 + b'"}',
    b'{"memory":[],"value":{"list":[' + b'{"list":[]},' * 70_000 + b"1]}}",
    b'{"memory":[true]}',
    b'{"memory":[-1,1]}',
    b'{"memory":[],"value":{"opaque":"' + b"\\ud800" * 3_000 + b'"}}',
    b"\xef\xbb\xbf{}",
    '{"memory":[]}'.encode("utf-16"),
    b'{"memory":[],"value":' + b'{"tuple":[' * 40 + b"1" + b"]}" * 40 + b"}",
)


def samples() -> list[bytes]:
    """Return frames as an honest worker sends them."""
    values: list[Any] = [
        [torch.randn(3, 4), torch.arange(5)],
        {"a": torch.tensor(True), "b": [1, 2.5, None, "x", float("nan")]},
        (torch.randn(2, dtype=torch.complex64), torch.randn(3).bfloat16(), 1 + 2j),
        [torch.empty(0, 3), torch.float32, torch.device("cpu"), Opaque("a set")],
        6.0,
    ]
    return [frame(value) for value in values] + [
        frame(None, raised=[["builtins.ValueError", "builtins.Exception"], "no", "mine.py, line 1: `x`", False]),
        frame(None, changed=["argument 1", "`x`"], timed_out=True),
    ]


def frame(value: Any, **parts: Any) -> bytes:
    """Return the frame of one reply."""
    encoder = Encoder()
    reply = {"nonce": "0" * 32, "value": encoder.encode(value), "raised": None, "timed_out": False, "changed": []}
    return pack(reply | parts, encoder.memory)


def hostile(count: int, seed: int) -> Iterator[bytes]:
    """Yield so many damaged frames; some are whole by chance."""
    rng = random.Random(seed)
    good = samples()
    for _ in range(count):
        kind = rng.random()
        data = rng.choice(good)
        if kind < 0.45:
            yield _with_other_parts(data, rng)
        elif kind < 0.65:
            yield _flipped(data, rng)
        elif kind < 0.75:
            yield data[: rng.randrange(len(data) + 1)]
        elif kind < 0.85:
            other = rng.choice(good)
            yield data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
        elif kind < 0.93:
            lies = (0, 1, len(data), 2**20, 2**31, 2**32 - 1)
            yield HEADER.pack(b"CKW1", rng.choice(lies), rng.choice((*lies, 2**63, 2**64 - 1))) + data[HEADER.size :]
        elif kind < 0.97:
            yield rng.randbytes(rng.randrange(200))
        elif kind < 0.99:
            yield _whole(rng.choice(_TEXTS), rng.randbytes(rng.randrange(9)))
        else:
            yield data * rng.randrange(2, 5)


def _whole(text: bytes, blob: bytes) -> bytes:
    return HEADER.pack(b"CKW1", len(text), len(blob)) + text + blob


def _flipped(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _with_other_parts(data: bytes, rng: random.Random) -> bytes:
    """Return a frame that is one, with odd parts in its tree."""
    _, text, _ = HEADER.unpack_from(data)
    tree = json.loads(data[HEADER.size : HEADER.size + text])
    blob = data[HEADER.size + text :]
    if rng.random() < 0.3:
        blob = blob[: rng.randrange(len(blob) + 1)] + rng.randbytes(rng.randrange(5))
    if rng.random() < 0.5:  # else it is refused for its sums alone, mostly
        odd = {name: part if name == "memory" else _odd(part, rng) for name, part in tree.items()}
    else:
        odd = _odd(tree, rng)
    return _whole(json.dumps(odd).encode(), blob)


def _odd(part: Any, rng: random.Random) -> Any:
    if rng.random() < 0.08:
        return rng.choice(_ODD)
    if type(part) is list:
        made = [_odd(one, rng) for one in part]
        if rng.random() < 0.1:
            made.insert(rng.randrange(len(made) + 1), rng.choice(_ODD))
        if made and rng.random() < 0.05:
            made.pop()
        return made
    if type(part) is dict:
        return {(rng.choice(_WORDS) if rng.random() < 0.05 else name): _odd(one, rng) for name, one in part.items()}
    return part
