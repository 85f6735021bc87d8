"""The worked example of csrc/README.md, built and used as a third party would."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from heritage_align import ops

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "csrc" / "example" / "soft_maximum.cpp"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None or not SOURCE.exists():
        pytest.skip("needs a C++ compiler and the sources")
    folder = Path(torch.__file__).parent
    built = tmp_path_factory.mktemp("example") / "soft_maximum.so"
    flags = ["-O2", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"]
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{folder}/include"]
    link = [f"-L{folder}/lib", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(built), *link], check=True)
    torch.ops.load_library(str(built))


def reference(regions: ops.Ragged, words: ops.Ragged, sharpness: float) -> torch.Tensor:
    """Step 5: slow, obvious, any dtype."""
    scores = torch.full((len(regions), len(words)), float("-inf"), dtype=regions.dtype)
    for i, region in enumerate(regions):
        for t, word in enumerate(words):
            if len(region) and len(word):
                scores[i, t] = (torch.logsumexp(sharpness * word @ region.T, dim=1) / sharpness).sum()
    return scores


@pytest.mark.usefixtures("library")
def test_built_score_equals_its_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    images = ops.Ragged(torch.randn(60, 37, generator=generator), torch.tensor([0, 36, 36, 37, 60]))
    texts = ops.Ragged(torch.randn(30, 37, generator=generator), torch.tensor([0, 13, 13, 30]))
    op = torch.ops.heritage_align_example.soft_maximum
    scores = op(images.values, images.offsets, texts.values, texts.offsets, 3.0)
    wide = [ops.Ragged(r.values.double(), r.offsets) for r in (images, texts)]
    torch.testing.assert_close(scores.double(), reference(*wide, 3.0), atol=1e-4, rtol=1e-6)


def test_reference_by_hand() -> None:
    one = ops.Ragged(torch.tensor([[1.0], [1.0]]).double(), torch.tensor([0, 2]))
    word = ops.Ragged(torch.tensor([[2.0]]).double(), torch.tensor([0, 1]))
    # Two regions of similarity 2: log(2 e^2) = 2 + log 2.
    assert reference(one, word, 1.0).item() == pytest.approx(2.0 + 0.6931471805599453)
