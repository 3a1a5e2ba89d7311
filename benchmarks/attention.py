"""What attention costs by each kernel, and what the cache saves: the attention lesson's own code, measured.

    python attention.py [--device cpu|cuda] [--flex] [--rounds 5]

Time is in ratios to the readable formula, methods taking turns in every round: CPU seconds of the process on the CPU,
the GPU's own clock there. Memory is the most that is held at one time beyond the inputs, results included: every
request to PyTorch's allocator, added up in order of time. On the CPU one thread in float32, on a GPU bf16.
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from functools import partial

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402 - after the environment that it reads

from coursekit.runtime import choose_device, seed_everything  # noqa: E402
from lessons.attention.decoder import Decoder, generation_speedup  # noqa: E402
from lessons.attention.kernels import (  # noqa: E402
    BLOCKWISE,
    FLEX,
    FUSED,
    READABLE,
    Method,
    fused_attention,
    measure_lengths,
)

MATH = Method("fused (PyTorch), backend math", partial(fused_attention, backend="math"), keeps_scores=True)


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def kernels(device: torch.device, rounds: int, flex: bool, *, causal: bool, backward: bool) -> None:
    kind = "forward and backward" if backward else "forward"
    print(f"\n4 heads of 64, {'causal' if causal else 'all to all'}, {kind}: time to the formula, peak memory")
    methods = [READABLE, MATH, BLOCKWISE, FUSED]
    if flex and (device.type == "cuda" or not backward):
        methods.append(FLEX)
    costs = measure_lengths(
        [512, 1024, 2048, 4096],
        methods,
        causal=causal,
        backward=backward,
        rounds=rounds,
        device=device,
        dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
    )
    for cost in costs:
        base = next(other for other in costs if other.length == cost.length)
        ratios = [mine / theirs for mine, theirs in zip(cost.rounds, base.rounds, strict=True)]
        memory = f"{cost.peak_bytes / 2**20:8.2f} MiB, 1/{base.peak_bytes / cost.peak_bytes:.1f}"
        print(f"{cost.length:>5}  {cost.method:<32} {spread(ratios):>22}  {memory:>22}  {cost.kernel}")


def generation(device: torch.device, rounds: int) -> None:
    print("\n256 symbols written: time without the cache to time with it")
    for width, layers in ((64, 2), (128, 2), (256, 4)):
        seed_everything(0)
        decoder = Decoder(104, width=width, layers=layers, heads=4, context=512).to(device).eval()
        for prompt in (1, 64, 256):
            symbols = torch.randint(104, (1, prompt), device=device)
            ratio = generation_speedup(decoder, symbols, 256, rounds=rounds)
            print(f"width {width:>3}, {layers} layers, prompt {prompt:>3}: {ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--flex", action="store_true", help="flex_attention too, which compiles at each length")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(arguments.device)
    for causal, backward in ((True, False), (False, False), (True, True)):
        kernels(device, arguments.rounds, arguments.flex, causal=causal, backward=backward)
    generation(device, 3)


if __name__ == "__main__":
    main()
