"""Two gloo processes that share each mini-batch train what one process trains."""

from __future__ import annotations

import json
import socket

import pytest

from .test_resume import finish, start
from .training_script import main


def test_two_processes_equal_one(tmp_path):
    """In float64, so that only the order of two additions differs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    together |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    processes = [
        start(
            tmp_path / "two",
            tmp_path / f"rank{rank}.json",
            8,
            "exact",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **together,
        )
        for rank in range(2)
    ]
    main(tmp_path / "one", tmp_path / "one.json", "8", "exact")
    for process in processes:
        output = finish(process)
        assert process.returncode == 0, output
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "rank0", "rank1"))
    assert first["weights"] == second["weights"]
    for name, values in one["weights"].items():
        assert first["weights"][name] == pytest.approx(values, rel=1e-9, abs=1e-12)
    for mine, theirs in zip(first["history"], one["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)
    assert one["history"][-1]["val_accuracy"] > 0.5, "it did train"
