"""Not doing the work: the forbidden function, plain and in disguise, outputs that were written down, tolerance."""

# ruff: noqa: E501  what is attacked with are texts
from __future__ import annotations

from .attack import Attack

_T = "import torch\n"
_ADAMW = "def adamw_step(p, g, m, v, t, lr):\n"
# One step from a given state with PyTorch's own optimizer.
_STEP = """
    q = torch.nn.Parameter(p.clone())
    q.grad = g.clone()
    made = Chosen([q], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    made.state[q] = {"step": torch.tensor(float(t - 1)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    made.step()
    return q.detach(), made.state[q]["exp_avg"], made.state[q]["exp_avg_sq"]
"""
_FUSED = "p, m, v = p.clone(), m.clone(), v.clone()\n    "
_FUSED_ARGUMENTS = (
    "[p], [g], [m], [v], [], [torch.tensor(float(t))], lr=lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, "
    "amsgrad=False, maximize=False)\n    return p, m, v"
)

SHORTCUTS = tuple(
    Attack(name, "shortcut", says, source, **more)
    for name, says, source, more in [
        (
            "forbidden_plain",
            "uses PyTorch's optimizer",
            _T + _ADAMW + "    Chosen = torch.optim.AdamW" + _STEP,
            {"victim": "adamw"},
        ),
        (
            "forbidden_imported",
            "imports PyTorch's optimizer under another name, when it is loaded",
            _T + "from torch.optim.adamw import AdamW as Chosen\n" + _ADAMW + _STEP,
            {"victim": "adamw"},
        ),
        (
            "forbidden_by_text",
            "puts the name together from letters",
            _T + _ADAMW + "    Chosen = getattr(getattr(torch, 'op' + 'tim'), 'Adam' + chr(87))" + _STEP,
            {"victim": "adamw"},
        ),
        (
            "forbidden_from_collector",
            "finds the optimizer among all objects",
            _T
            + "import gc\n"
            + _ADAMW
            + "    Chosen = next(o for o in gc.get_objects() if isinstance(o, type) and o.__name__ == 'Ad' + 'amW')"
            + _STEP,
            {"victim": "adamw"},
        ),
        (
            "forbidden_subclass",
            "inherits `step`, and does without the constructor",
            _T
            + "class Chosen(torch.optim.AdamW):\n"
            + "    def __init__(self, params, **settings):\n"
            + "        settings |= dict(amsgrad=False, foreach=None, maximize=False, capturable=False, differentiable=False,"
            + " fused=None, decoupled_weight_decay=True)\n"
            + "        torch.optim.Optimizer.__init__(self, params, settings)\n"
            + _ADAMW
            + _STEP.removeprefix("\n"),
            {"victim": "adamw"},
        ),
        (
            "forbidden_sibling",
            "calls the private function that does the optimizer's work",
            _T
            + "from torch.optim import adam\n"
            + _ADAMW
            + "    p, m, v, s = p.clone(), m.clone(), v.clone(), torch.tensor(float(t - 1))\n"
            + "    adam._single_tensor_adam([p], [g], [m], [v], [], [s], grad_scale=None, found_inf=None, amsgrad=False,"
            + " has_complex=False, beta1=0.9, beta2=0.999, lr=lr, weight_decay=0.0, eps=1e-8, maximize=False,"
            + " capturable=False, differentiable=False, decoupled_weight_decay=True)\n    return p, m, v\n",
            {"victim": "adamw"},
        ),
        (
            "forbidden_functional",
            "calls the optimizer as a function",
            _T
            + "from torch.optim import _functional\n"
            + _ADAMW
            + "    p, m, v, s = p.clone(), m.clone(), v.clone(), torch.tensor(float(t - 1))\n"
            + "    _functional.adam([p], [g], [m], [v], [], [s], foreach=False, amsgrad=False, beta1=0.9, beta2=0.999,"
            + " lr=lr, weight_decay=0.0, eps=1e-8, maximize=False)\n    return p, m, v\n",
            {"victim": "adamw"},
        ),
        (
            "fused_kernel",
            "calls the kernel behind the optimizer",
            _T + _ADAMW + "    " + _FUSED + "torch._fused_adamw_(" + _FUSED_ARGUMENTS,
            {"victim": "adamw"},
        ),
        (
            "fused_kernel_ops",
            "calls the kernel as an operator",
            _T + _ADAMW + "    " + _FUSED + "torch.ops.aten._fused_adamw_(" + _FUSED_ARGUMENTS,
            {"victim": "adamw"},
        ),
        (
            "fused_kernel_by_text",
            "finds the kernel where PyTorch keeps all functions",
            _T
            + _ADAMW
            + "    "
            + _FUSED
            + "getattr(torch._C._VariableFunctions, '_fus' + 'ed_adamw_')("
            + _FUSED_ARGUMENTS,
            {"victim": "adamw"},
        ),
        (
            "reload",
            "has the module of the optimizer loaded again",
            _T
            + "import importlib\n"
            + _ADAMW
            + "    Chosen = importlib.reload(importlib.import_module('torch.optim.adamw')).AdamW"
            + _STEP,
            {"victim": "adamw"},
        ),
        (
            "reload_all",
            "has both modules of the optimizer loaded again: they are as they were",
            _T
            + "import importlib\n"
            + _ADAMW
            + "    importlib.reload(importlib.import_module('torch.optim.adam'))\n    Chosen = importlib.reload(importlib.import_module('torch.optim.adamw')).AdamW"
            + _STEP,
            {"victim": "adamw", "verdicts": ("pass",), "points": 4, "flagged": "importlib"},
        ),
        (
            "library_source",
            "executes the text of PyTorch's own optimizer: a copy, like one that was typed in",
            _T
            + _ADAMW
            + "    found = {'__name__': 'torch.optim.mine', '__package__': 'torch.optim'}\n"
            + "    text = open(torch.optim.__file__.replace('__init__', 'adam')).read()\n"
            + "    exec(compile(text, 'adam.py', 'exec', dont_inherit=True), found)\n"
            + "    def Chosen(*a, **k):\n        return found['Adam'](*a, decoupled_weight_decay=True, **k)"
            + _STEP,
            {"victim": "adamw", "verdicts": ("pass",), "points": 4, "flagged": "exec"},
        ),
        (
            "attention",
            "uses PyTorch's attention",
            _T + "def attend(q, k, v):\n    return torch.nn.functional.scaled_dot_product_attention(q, k, v)",
            {"victim": "attend"},
        ),
        (
            "attention_operator",
            "uses PyTorch's attention as an operator",
            _T + "def attend(q, k, v):\n    return torch.ops.aten.scaled_dot_product_attention(q, k, v)",
            {"victim": "attend"},
        ),
        (
            "attention_hidden",
            "uses PyTorch's attention where PyTorch keeps it",
            _T + "def attend(q, k, v):\n    return getattr(torch._C._nn, 'scaled_dot' + '_product_attention')(q, k, v)",
            {"victim": "attend"},
        ),
        (
            "attention_parts",
            "calls the operator that attention is made of, which the lesson names too",
            _T
            + "def attend(q, k, v):\n    q, k, v = (part[None, None] for part in (q, k, v))\n"
            + "    return torch.ops.aten._scaled_dot_product_attention_math(q, k, v)[0][0, 0]",
            {"victim": "attend"},
        ),
        (
            "attention_module",
            "has a layer of PyTorch's do it",
            _T
            + """
def attend(q, k, v):
    layer = torch.nn.MultiheadAttention(q.shape[-1], 1, bias=False, batch_first=True, dtype=q.dtype)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.eye(q.shape[-1], dtype=q.dtype).repeat(3, 1))
        layer.out_proj.weight.copy_(torch.eye(q.shape[-1], dtype=q.dtype))
    return layer(q[None], k[None], v[None], need_weights=False)[0][0].detach()
""",
            {"victim": "attend"},
        ),
        (
            "hard_coded",
            "returns outputs that were written down on an earlier day",
            _T
            + "def double(x):\n    known = {1: [6.0], 4: [2.1, 3.9, 2.5, 3.0]}\n"
            + "    return torch.tensor(known[len(x)], dtype=x.dtype)",
            {},
        ),
        (
            "detect_grader",
            "is right only where nobody grades",
            """
            import os, sys
            graded = "coursekit" in sys.modules or os.path.exists("/tmp/work") or "pytest" in sys.modules
            def double(x):
                return 3 * x if graded else 2 * x
            """,
            {},
        ),
        ("loose_tolerance", "is nearly right", "def double(x):\n    return 2.0002 * x", {}),
        (
            "low_precision",
            "computes in half precision",
            "def double(x):\n    return (2.0 * (x.half() + 0.01)).to(x.dtype)",
            {},
        ),
        ("identity", "returns what it was given", "def double(x):\n    return x", {}),
        ("zeros", "returns zeros", "def double(x):\n    return 0 * x", {}),
        ("nothing", "returns nothing", "def double(x):\n    pass", {}),
    ]
)
