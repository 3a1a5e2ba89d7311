"""What the tests run in processes of their own: one training, its history written as JSON.

    python training_script.py OUT RESULT [EPOCHS] [PACE]

Several processes (RANK and WORLD_SIZE in the environment) share each mini-batch. PACE sleeps so many seconds in each
step, so that a signal can arrive in the middle.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from coursekit import runtime
from coursekit.config import Training
from coursekit.data import load
from coursekit.errors import StoppedError
from coursekit.harness import Classifier, fit


def main(out: str | Path, result: str | Path, epochs: str = "4", pace: str = "0") -> None:
    """Train, and write the history and the final weights to `result`."""
    runtime.seed_everything(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    if pace == "exact":  # several processes draw different dropout masks than one, and round differently in float32
        network[3] = nn.Identity()

    def schedule(step: int) -> float:
        time.sleep(float(pace) if pace != "exact" else 0.0)
        return 1e-3 / (1 + step / 50)

    module = Classifier(network, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3), schedule=schedule)
    training = Training(
        epochs=int(epochs),
        batch_size=32,
        device="cpu",
        precision="64" if pace == "exact" else "32",
        checkpoint_seconds=0.05,
        threads=1,
    )
    try:
        run = fit(module, load("digits", limit=320), training, out=Path(out), quiet=True)
    except StoppedError as error:
        sys.exit(128 + error.signal_number)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
    weights = {name: part.double().flatten().tolist() for name, part in network.state_dict().items()}
    Path(result).write_text(json.dumps({"history": rows, "weights": weights}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
