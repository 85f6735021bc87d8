"""Two processes mine their negatives among all pictures and captions of a batch: they train as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import load_model

ROOT = Path(__file__).parents[3]
LEVELS = {
    "name": "weighted_sum",
    "terms": [{"weight": 1.0, "similarity": {"name": "scan"}}, {"weight": 1.0, "similarity": {"name": "global"}}],
}
CASES: dict[str, dict[str, Any]] = {
    "hinge": {"similarity": LEVELS, "filters": [{"name": "sift", "min_keypoints": 1}]},
    "infonce": {"train": {"loss": "infonce", "learning_rate": 1e-3}},
    "deepfrag": {"train": {"loss": "deepfrag", "learning_rate": 1e-3}, "similarity": {"name": "deepfrag"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(small: Any, folder: Path, tmp_path: Path, name: str) -> None:
    # 24 captions in batches of 7: shares of four and three, and a last batch of three. Adam divides what is nearly 0 by
    # what is nearly 0, so that rounding grows: few steps.
    changes = dict(CASES[name])
    config = small.document(folder, batch_size=7, epochs=2, **changes.pop("train", {}))
    config["train"]["model"]["dropout"] = 0.0
    if changes.pop("filters", None):
        config["proposer"]["min_keypoints"] = 2  # regions with a mask
    config |= changes
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    script = Path(__file__).with_name("train_small.py")
    done = subprocess.run(
        [sys.executable, *launch, script, tmp_path / "two", json.dumps(config)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    small.train(config, tmp_path / "one")
    for record, other in zip(small.history(tmp_path / "two"), small.history(tmp_path / "one"), strict=True):
        assert record == pytest.approx(other, rel=1e-4)
    together, alone = (load_model(tmp_path / name / "model.safetensors")[0] for name in ("two", "one"))
    for (key, value), (_, expected) in zip(together.state_dict().items(), alone.state_dict().items()):
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-3, msg=key)
