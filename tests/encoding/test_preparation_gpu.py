"""Preparation on a GPU against the CPU's: copies that overlap must not be read before they have arrived."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from PIL import Image

from heritage_align.encoding import Exact, Fast, ImageSource, ImageStage, Preparation, encode_images
from heritage_align.protocols import BuildContext
from heritage_align.types import Regions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


class Boxes:
    def propose(self, images: list[Image.Image], ids: list[str]) -> list[Regions]:
        fractions = np.array([(0, 0, 0.5, 0.5), (0.25, 0.1, 1, 0.9), (0.5, 0.5, 0.55, 1)])
        return [Regions((fractions * (image.size * 2)).astype(np.float32)) for image in images]


@pytest.mark.parametrize("way", ["exact", "fast"])
def test_features_of_a_gpu_are_those_of_the_cpu(way: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (300 + 40 * (n % 3), 400, 3), dtype=np.uint8)) for n in range(60)]

    def features(device: str) -> torch.Tensor:
        encoder = CnClipEncoder(CnClipConfig(), BuildContext(device=device))
        recipe = encoder.pixel_recipe()
        preparation: Preparation = Exact(encoder, device) if way == "exact" else Fast(recipe, device)
        stage = ImageStage(encoder, Boxes(), preparation=preparation)
        sources = [ImageSource(str(n), lambda image=image: image) for n, image in enumerate(pictures)]
        found = list(encode_images(stage, sources, batch_size=8, workers=8, on_error=pytest.fail))
        return torch.cat([torch.cat([f.global_features, f.regions.values]).cpu() for f in found])

    wanted = features("cpu")
    for _ in range(3):
        cosines = (features("cuda") * wanted).sum(1)
        assert cosines.min() > 0.9999
