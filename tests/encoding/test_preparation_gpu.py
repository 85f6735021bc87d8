"""Preparation on a GPU against the CPU's: copies that overlap must not be read before they have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

# `make gpu` runs this file on machines that may have less than the package asks for.
for package in ("PIL", "torchvision", "safetensors", "packaging"):
    pytest.importorskip(package)

from PIL import Image  # noqa: E402

from heritage_align.encoding import ImageSource, ImageStage, encode_images  # noqa: E402
from heritage_align.encoding.preparation import Exact, Fast, Preparation  # noqa: E402
from heritage_align.features import concat_images  # noqa: E402
from heritage_align.protocols import EncodedImages, ImageFile, PixelRecipe  # noqa: E402
from heritage_align.store.shard import as_stored, wait_for_copies  # noqa: E402
from heritage_align.types import ImageFeatures, Regions  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

RECIPE = PixelRecipe(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Projection:
    """Fixed random projections of pixels, slow enough that copies run beside them."""

    dim = 32
    patch_grid = None

    def __init__(self, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(3 * 64 * 64, self.dim, generator=generator).to(device)

    def fingerprint(self) -> str:
        return "tests/projection"

    def prepare(self, image: Image.Image) -> Tensor:
        levels = torch.from_numpy(np.array(image.resize((64, 64), Image.Resampling.BICUBIC))).permute(2, 0, 1)
        return ((levels / 255 - 0.5) / 0.25).contiguous()

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        rows = pixels.to(self.weights.device).flatten(1)
        for _ in range(20):
            found = rows @ self.weights
        return EncodedImages(normalize(found, dim=-1), None)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError


class Boxes:
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        fractions = np.array([(0, 0, 0.5, 0.5), (0.25, 0.1, 1, 0.9), (0.5, 0.5, 0.55, 1)])
        return [Regions((fractions * (image.size * 2)).astype(np.float32)) for image in images]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("files")
    paths = [folder / f"{n}.jpg" for n in range(90)]
    for n, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (600 + 40 * (n % 3), 800, 3), dtype=np.uint8)).save(path)
    return paths


def features(files: Sequence[Path], way: str, device: str) -> ImageFeatures:
    encoder = Projection(device)
    preparation: Preparation = Exact(encoder, device) if way == "exact" else Fast(RECIPE, device)
    stage = ImageStage(encoder, Boxes(), preparation=preparation)

    def load(path: Path) -> Image.Image:
        return Image.open(path).convert("RGB")

    sources = [ImageSource(p.name, lambda p=p: load(p), lambda p=p: ImageFile(p, str(p))) for p in files]
    batches = encode_images(stage, sources, batch_size=8, workers=8, on_error=pytest.fail)
    parts = [as_stored(batch, "fp16", factors=True) for batch in batches]
    wait_for_copies()
    return concat_images(parts)


@pytest.mark.parametrize("way", ["exact", "fast"])
def test_features_of_a_gpu_are_those_of_the_cpu(way: str, files: list[Path]) -> None:
    wanted = features(files, way, "cpu")
    for _ in range(3):
        found = features(files, way, "cuda")
        assert found.ids == wanted.ids
        torch.testing.assert_close(found.global_features, wanted.global_features, atol=2e-3, rtol=0)
        assert found.regions is not None
        assert wanted.regions is not None
        torch.testing.assert_close(found.regions.values, wanted.regions.values, atol=2e-3, rtol=0)
        torch.testing.assert_close(found.factor.abs(), wanted.factor.abs(), atol=1e-2, rtol=0)


def test_what_is_alive_on_the_device_does_not_grow_with_the_collection(files: list[Path]) -> None:
    def peak(some: Sequence[Path]) -> int:
        torch.cuda.reset_peak_memory_stats()
        features(some, "fast", "cuda")
        return torch.cuda.max_memory_allocated()

    peak(files[:24])  # weights of the filters are kept
    assert peak(files) < 1.3 * peak(files[:40])
