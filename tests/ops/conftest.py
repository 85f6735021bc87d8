"""Random ragged items for the ops' tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from heritage_align import ops

MakeRagged = Callable[..., ops.Ragged]


@pytest.fixture
def make_ragged() -> MakeRagged:
    """``make_ragged(lengths, dim, seed, correlation)``: unit rows; with correlation they share a direction."""

    def make(lengths: Sequence[int], dim: int, seed: int = 0, correlation: float = 0.5) -> ops.Ragged:
        generator = torch.Generator().manual_seed(seed)
        # The shared direction has its own seed, so that images and texts lie on one side of the space.
        shared = torch.randn(dim, generator=torch.Generator().manual_seed(1234)) * correlation
        rows = torch.nn.functional.normalize(torch.randn(sum(lengths), dim, generator=generator) + shared, dim=1)
        return ops.Ragged(rows, torch.tensor([0, *lengths]).cumsum(0))

    return make


def wide(ragged: ops.Ragged) -> ops.Ragged:
    """The same rows, rounded as they are stored, in float64: what the oracle scores."""
    return ops.Ragged(ragged.dequantised().double(), ragged.offsets)


@pytest.fixture
def in_float64() -> Callable[[ops.Ragged], ops.Ragged]:
    """See :func:`wide`."""
    return wide


@pytest.fixture(scope="session")
def cuda_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build with CUDA, for which no GPU is needed. Ninja compiles what is not up to date."""
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    folder = tmp_path_factory.mktemp("cuda")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HERITAGE_ALIGN_BUILD": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "heritage_align" / "ops"
