"""Values that are not what they seem: what comes back is read without running a line of theirs."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

_T = "import torch\n"

VALUES = tuple(
    Attack(name, "values", says, source, **more)
    for name, says, source, more in [
        (
            "equal_to_everything",
            "returns an object that equals whatever it is compared with",
            """
            class Yes:
                __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda self, other: True
                __ne__ = lambda self, other: False
                __sub__ = __rsub__ = __abs__ = __getattr__ = __call__ = lambda self, *_, **__: self
                __bool__ = lambda self: True
                __float__ = lambda self: 0.0
                __hash__ = lambda self: 0
                __array__ = lambda self, *_, **__: __import__("numpy").zeros(1)
            def double(x):
                return Yes()
            """,
            {},
        ),
        (
            "lying_tensor",
            "returns a tensor whose class answers every question with yes",
            _T
            + """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.equal, torch.allclose):
            return True
        return torch.zeros(())
    __eq__ = lambda self, other: torch.ones(1, dtype=torch.bool)
def double(x):
    return (3 * x).as_subclass(Liar)
""",
            {},
        ),
        (
            "lying_dispatch",
            "returns a tensor without memory, which makes its values up when it is asked",
            _T
            + """
class Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, like):
        return torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype)
    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(())
def double(x):
    return Wrapper(x)
""",
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "nan",
            "returns NaN, which differs from nothing by more than a tolerance",
            "def double(x):\n    return x * float('nan')",
            {},
        ),
        ("inf", "returns infinity", "def double(x):\n    return x * float('inf')", {}),
        (
            "broadcastable",
            "returns a shape that broadcasts to the right one",
            "def double(x):\n    return (2 * x)[None]",
            {},
        ),
        ("one_for_all", "returns one number for all", "def double(x):\n    return 2 * x.mean()", {}),
        ("empty_list", "returns an empty list", "def double(x):\n    return []", {}),
        ("empty_tensor", "returns no elements at all", "def double(x):\n    return x[:0]", {}),
        (
            "huge_view",
            "returns a view of 2^40 elements over one number",
            _T + "def double(x):\n    return torch.zeros(1).expand(2**40)",
            {},
        ),
        (
            "pickle_bomb",
            "returns an object whose pickle runs a command",
            "import os\nclass Bomb:\n    def __reduce__(self):\n        return os.system, ('touch <<home>>/pickled',)\ndef double(x):\n    return Bomb()",
            {},
        ),
        ("meta", "returns a tensor without data", "def double(x):\n    return x.to('meta')", {}),
        ("sparse", "returns a sparse tensor", "def double(x):\n    return (2 * x).to_sparse()", {}),
        (
            "complex",
            "returns complex numbers",
            "def double(x):\n    return (2 * x).to(dtype=__import__('torch').complex64)",
            {},
        ),
        (
            "quantised",
            "returns a quantised tensor",
            _T + "def double(x):\n    return torch.quantize_per_tensor((2 * x).float(), 0.1, 0, torch.qint8)",
            {},
        ),
        ("fp8", "returns numbers of 8 bits", _T + "def double(x):\n    return (2 * x).to(torch.float8_e4m3fn)", {}),
        (
            "nested",
            "returns a nested tensor",
            _T + "def double(x):\n    return torch.nested.nested_tensor([2 * x])",
            {},
        ),
        (
            "lying_class",
            "returns an object that says it is a tensor",
            _T
            + "class Fake:\n    __class__ = property(lambda self: torch.Tensor)\n    shape, dtype = (1,), torch.float32\n"
            "    def __getattr__(self, name): return lambda *_, **__: self\ndef double(x):\n    return Fake()",
            {},
        ),
        (
            "lying_metaclass",
            "returns an object whose class says it is a subclass of everything",
            """
            class Meta(type):
                __instancecheck__ = __subclasscheck__ = lambda cls, other: True
                mro = lambda cls: [cls, object]
                __eq__ = lambda cls, other: True
                __hash__ = lambda cls: 0
            class Fake(metaclass=Meta):
                pass
            def double(x):
                return Fake()
            """,
            {},
        ),
        (
            "late_hook",
            "returns zeros with a hook that fills in something later",
            _T
            + """
def double(x):
    y = torch.zeros_like(x, requires_grad=True)
    z = y * 1
    z.register_hook(lambda g: print("late"))
    return z
""",
            {},
        ),
        (
            "inputs_zeroed",
            "zeroes its input in place, so that zeros are right afterwards",
            "def double(x):\n    x.zero_()\n    return x",
            {},
        ),
        (
            "uninitialised",
            "returns memory in which the answer may still lie",
            _T + "def double(x):\n    return torch.empty_like(x)",
            {},
        ),
        (
            "iteration",
            "returns a list that changes whenever it is walked",
            """
            class Shifty(list):
                def __iter__(self):
                    __import__("os")._exit(0)
                __len__ = lambda self: 10**9
                __getitem__ = lambda self, place: 6.0
            def double(x):
                return Shifty([1, 2, 3])
            """,
            {},
        ),
        (
            "pickled_results",
            "writes pickled results, and returns one",
            """
            import pickle
            class Bomb:
                def __reduce__(self):
                    return exec, ("open('<<home>>/unpickled', 'w')",)
            def double(x):
                for name in ("results.pkl", "<<folder>>/results.pkl", "<<students>>/results.pkl"):
                    try:
                        pickle.dump(Bomb(), open(name, "wb"))
                    except OSError:
                        pass
                return pickle.dumps(Bomb())
            """,
            {},
        ),
        (
            "lying_number",
            "returns a float that equals everything",
            "class Number(float):\n    __eq__ = lambda self, other: True\n    __hash__ = float.__hash__\n    __sub__ = __rsub__ = lambda self, other: 0.0\ndef double(x):\n    return Number(1.0)",
            {},
        ),
        ("long_text", "returns 100 MB of text", "def double(x):\n    return 'x' * 10**8", {}),
        (
            "deep_list",
            "returns lists within lists, 100,000 deep",
            "def double(x):\n    found = []\n    for _ in range(100_000):\n        found = [found]\n    return found",
            {"verdicts": ("fail", "crashed")},
        ),
        (
            "endless_list",
            "returns a list that contains itself",
            "def double(x):\n    found = []\n    found.append(found)\n    return found",
            {},
        ),
        (
            "wide_list",
            "returns a million numbers one by one",
            "def double(x):\n    return [1.0] * 10**6",
            {"verdicts": ("fail", "timeout")},
        ),
        ("huge_number", "returns an integer of a million digits", "def double(x):\n    return 10 ** 10**6", {}),
        (
            "odd_keys",
            "returns a dictionary whose keys run code",
            "class Key(str):\n    __eq__ = lambda self, other: True\n    __hash__ = lambda self: 0\ndef double(x):\n    return {Key('a'): 2 * x}",
            {},
        ),
        ("generator", "returns something that computes when it is asked", "def double(x):\n    yield 2 * x", {}),
        (
            "many_small_tensors",
            "returns tens of thousands of tensors",
            _T + "def double(x):\n    return [torch.zeros(1) for _ in range(15_000)]",
            {"verdicts": ("fail", "timeout"), "seconds": 20},
        ),
        (
            "large_tensor",
            "returns 100 MB of zeros",
            _T + "def double(x):\n    return torch.zeros(25_000_000)",
            {"verdicts": ("fail", "timeout"), "seconds": 20},
        ),
        (
            "too_large_tensor",
            "returns 400 MB of zeros",
            _T + "def double(x):\n    return torch.zeros(100_000_000)",
            {"verdicts": ("fail", "timeout"), "seconds": 20, "slow": True},
        ),
    ]
)
