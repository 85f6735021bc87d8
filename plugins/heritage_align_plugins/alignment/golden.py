"""Golden pairs as training data: a box of a picture with the phrases that name it."""

from __future__ import annotations

import torch
from torch import Tensor

from heritage_align.errors import DataError
from heritage_align.ops import Ragged
from heritage_align.protocols import BoxFeatures, Dataset
from heritage_align.types import ImageFeatures, TextItem
from heritage_align_plugins.alignment.collected import Collected
from heritage_align_plugins.alignment.side import Side


def collect_golden(dataset: Dataset, side: Side) -> Collected:
    """Return golden pairs as pictures of one region with a text of their phrases.

    The box is encoded as a whole image is: by the detector's second stage, or as a crop by the encoder. The features
    are never pooled from other regions.

    Raises:
        DataError: the data set has fewer than two golden pairs, or the features come from a file that cannot give
            those of a new box.
    """
    if len(dataset.golden) < 2:
        raise DataError(
            f"{dataset.name}: has {len(dataset.golden)} golden pairs; golden_epochs needs at least 2 (set it to 0)"
        )
    proposer = side.stage.proposer
    if side.raw and not isinstance(proposer, BoxFeatures):
        raise DataError(
            "golden_epochs: region features read from a file have none for golden boxes; train with the detector "
            "itself (proposer faster_rcnn, features: pooled) or with golden_epochs: 0"
        )
    vectors: list[Tensor] = []
    items: list[TextItem] = []
    image_id, image = "", None
    for number, pair in enumerate(dataset.golden):
        if image is None or pair.image_id != image_id:
            image_id, image = pair.image_id, dataset.load_image(pair.image_id)
        vectors.append(_encoded(side, image, pair.box))
        name = f"{pair.image_id}:{number}"
        items.append(TextItem(name, "; ".join(pair.phrases), (name,), pair.phrases))
    rows = torch.stack(vectors)
    ids = tuple(item.id for item in items)
    one_each = Ragged(rows, torch.arange(len(rows) + 1))
    fragments = tuple(tuple(pair.phrases) for pair in dataset.golden)
    return Collected(ImageFeatures(ids, rows, one_each), tuple(items), fragments, torch.arange(len(rows)))


def _encoded(side: Side, image: object, box: tuple[float, float, float, float]) -> Tensor:
    from PIL.Image import Image

    assert isinstance(image, Image)
    if side.raw:
        assert isinstance(side.stage.proposer, BoxFeatures)
        features = side.stage.proposer.features_of(image, [box])
        return torch.as_tensor(features)[0].float().cpu()
    left, top = int(box[0]), int(box[1])
    crop = image.crop((left, top, max(left + 1, round(box[2])), max(top + 1, round(box[3]))))
    encoder = side.stage.encoder
    with torch.inference_mode():
        return encoder.encode_pixels(encoder.prepare(crop).unsqueeze(0)).global_features[0].clone().cpu()
