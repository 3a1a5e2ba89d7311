"""State and honest faults: what is careless but right keeps its marks, and what is wrong is told so."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

RIGHT = {"verdicts": ("pass",), "points": 4}
_T = "import torch\n"

HONEST = tuple(
    Attack(name, "honest", says, source, **more)
    for name, says, source, more in [
        ("control", "is right", "def double(x):\n    return 2 * x", RIGHT),
        ("control_wrong", "is wrong", "def double(x):\n    return 3 * x", {}),
        (
            "control_stub",
            "is still to be written",
            "def double(x):\n    raise NotImplementedError",
            {"verdicts": ("not attempted",)},
        ),
        (
            "default_dtype",
            "leaves another default dtype behind",
            _T + "def double(x):\n    torch.set_default_dtype(torch.float64)\n    return 2 * x",
            RIGHT,
        ),
        (
            "default_device",
            "leaves another default device behind",
            _T + "def double(x):\n    torch.set_default_device('meta')\n    return 2 * x",
            RIGHT,
        ),
        (
            "grad_mode",
            "switches gradients off for good, when it is loaded",
            _T + "torch.set_grad_enabled(False)\ndef double(x):\n    return 2 * x",
            RIGHT,
        ),
        (
            "global_flags",
            "changes flags of PyTorch and of the environment",
            _T
            + """
import os, sys
def double(x):
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.set_num_threads(2)
    os.environ.clear()
    sys.path.clear()
    sys.setrecursionlimit(200)
    return 2 * x
""",
            RIGHT,
        ),
        (
            "seeds",
            "seeds every generator",
            "import random, torch, numpy\nrandom.seed(0); torch.manual_seed(0); numpy.random.seed(0)\ndef double(x):\n    torch.manual_seed(1)\n    return 2 * x",
            RIGHT,
        ),
        (
            "warnings_and_chdir",
            "warns, writes to both streams and goes to another folder",
            """
            import os, sys, tempfile, warnings
            def double(x):
                warnings.warn("careful")
                print("x is", x, file=sys.stderr)
                os.chdir(tempfile.mkdtemp())
                open("notes.txt", "w").write("mine")
                warnings.simplefilter("error")
                return 2 * x
            """,
            RIGHT,
        ),
        (
            "time_patched",
            "has the clock stand still",
            "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0\ndef double(x):\n    return 2 * x",
            RIGHT,
        ),
        (
            "inputs_mutated",
            "is right, and writes over its argument: one check pays for it",
            "def double(x):\n    return x.mul_(2).clone()",
            {"points": 2},
        ),
        (
            "other_container",
            "returns a list in the place of a tensor",
            "def double(x):\n    return [2 * part for part in x]",
            {},
        ),
        (
            "other_container_accepted",
            "returns a Parameter, a tensor's own subclass",
            _T + "def double(x):\n    return torch.nn.Parameter(2 * x)",
            RIGHT,
        ),
        (
            "conjugate_view",
            "returns a view that is negated when it is read",
            _T + "def double(x):\n    return torch.complex(x, -2 * x).conj().imag",
            RIGHT,
        ),
        (
            "strided",
            "returns a view with strides",
            _T + "def double(x):\n    return torch.stack([2 * x, x], -1)[..., 0]",
            RIGHT,
        ),
        (
            "syntax_error",
            "is not Python",
            "def double(x:\n    return",
            {"neighbour": ("fail",)},
        ),
        ("missing_name", "has another name", "def doubled(x):\n    return 2 * x", {}),
        ("wrong_signature", "takes no argument", "def double():\n    return 2", {}),
        ("cuda_only", "needs a GPU", "def double(x):\n    return 2 * x.cuda()", {}),
        (
            "multiprocessing_at_import",
            "starts processes when it is loaded",
            """
            import multiprocessing
            if __name__ == "exercises":
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    squares = pool.map(abs, [-1, 2])
            def double(x):
                return 2 * x
            """,
            {**RIGHT, "seconds": 20},
        ),
        (
            "dataloader_workers",
            "reads its batches with two worker processes",
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            def average(x, eps=0.0):
                loader = DataLoader(TensorDataset(x), batch_size=2, num_workers=2)
                return torch.cat([batch for batch, in loader]).mean()
            """,
            {"victim": "average", "verdicts": ("pass",), "points": 2, "seconds": 30},
        ),
        (
            "subprocess_and_tempfile",
            "asks another program, through a file of its own",
            """
            import subprocess, sys, tempfile
            def average(x):
                with tempfile.NamedTemporaryFile("w+") as file:
                    code = "import sys; print(sum(map(float, sys.argv[1:])))"
                    subprocess.run([sys.executable, "-S", "-c", code, *map(str, x.tolist())], stdout=file, check=True)
                    file.seek(0)
                    return x.sum() * 0 + float(file.read()) / len(x)
            """,
            {"victim": "average", "verdicts": ("pass",), "points": 2, "seconds": 20},
        ),
        (
            "threads_in_torch",
            "computes with two threads",
            _T + "def double(x):\n    torch.set_num_threads(2)\n    big = torch.ones(600, 600) @ torch.ones(600, 600)\n"
            "    return 2 * x + 0 * big[0, 0].to(x.dtype)",
            {**RIGHT, "seconds": 20},
        ),
        (
            "dataclass_and_pickle",
            "pickles an object of a class of its own",
            """
            from __future__ import annotations
            import pickle
            from dataclasses import dataclass
            @dataclass
            class Pair:
                factor: int
            def double(x):
                return pickle.loads(pickle.dumps(Pair(2))).factor * x
            """,
            RIGHT,
        ),
        (
            "main_guard_and_star_args",
            "has a main guard, and takes more than is asked for",
            "def double(*args, **kwargs):\n    return 2 * args[0]\nif __name__ == '__main__':\n    raise SystemExit(1)",
            RIGHT,
        ),
    ]
)
