"""Golden boxes are trained on as they are evaluated: cut at the edges, refused outside, encoded as regions are."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from heritage_align_plugins.alignment.golden import golden_material
from PIL.Image import Image

from heritage_align.encoding import ImageStage
from heritage_align.errors import DataError
from heritage_align.testing import samples
from heritage_align.types import GoldenPair, TextItem


@dataclass
class Pictures:
    """Pictures with golden pairs."""

    golden: tuple[GoldenPair, ...]
    name: str = "golden"
    image_ids: tuple[str, ...] = ("pattern", "noise")
    texts: tuple[TextItem, ...] = ()
    pictures: dict[str, Image] = field(default_factory=samples.images)

    def load_image(self, image_id: str) -> Image:
        return self.pictures[image_id]


def collected(*golden: GoldenPair) -> torch.Tensor:
    found = golden_material(Pictures(golden), ImageStage(samples.ToyEncoder()), batch_size=2, workers=2)
    assert found.images.regions is not None
    assert torch.equal(found.images.regions.values, found.images.global_features)
    assert [item.phrases for item in found.items] == [pair.phrases for pair in golden]
    return found.images.global_features


def test_boxes_are_encoded_as_crops_in_the_order_of_the_pairs() -> None:
    boxes = [("pattern", (10.0, 8.0, 26.0, 20.0)), ("noise", (0.0, 0.0, 5.0, 9.0)), ("pattern", (0.0, 0.0, 48.0, 40.0))]
    rows = collected(*(GoldenPair(image_id, box, ("莲", "a lotus")) for image_id, box in boxes))
    encoder, pictures = samples.ToyEncoder(), samples.images()
    for row, (image_id, box) in zip(rows, boxes, strict=True):
        crop = pictures[image_id].crop(tuple(map(int, box)))  # type: ignore[arg-type]
        torch.testing.assert_close(row, encoder.encode_pixels(encoder.prepare(crop)[None]).global_features[0])
    rows.requires_grad_()  # not of inference mode


def test_a_box_is_cut_at_the_edges_and_refused_outside() -> None:
    inside, beyond = GoldenPair("pattern", (30, 20, 48, 40), ("云",)), GoldenPair("pattern", (30, 20, 90, 60), ("云",))
    rows = collected(inside, beyond)
    assert torch.equal(rows[0], rows[1])
    with pytest.raises(
        DataError, match=r"image 'noise': golden box \(40\.0, 60\.0, 50\.0, 70\.0\) is outside the picture"
    ):
        collected(inside, GoldenPair("noise", (40, 60, 50, 70), ("云",)))
    with pytest.raises(DataError, match="golden: has 1 golden pairs"):
        collected(inside)
