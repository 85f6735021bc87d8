"""A golden set through a pipeline: fragments are crops, phrases texts of one fragment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from heritage_align.component import ComponentConfig
from heritage_align.config import load_config
from heritage_align.data.collection import Collection
from heritage_align.data.pictures import FilePictures
from heritage_align.errors import ConfigError, DataError, ImageError
from heritage_align.evaluation.golden_encoding import encode_golden, evaluate_golden, phrase_features
from heritage_align.hookspecs import ComponentSpec, hookimpl
from heritage_align.pipeline import Pipeline
from heritage_align.plugins import discover
from heritage_align.protocols import BuildContext
from heritage_align.types import GoldenPair, Regions

PAIRS = (
    GoldenPair("p1", (4, 6, 30, 30), ("blue ground", "red lotus")),
    GoldenPair("p0", (0, 0, 48, 40), ("blue ground",)),
    GoldenPair("p1", (10.4, 10.4, 22, 39.6), ("crane",)),
    GoldenPair("p2", (1, 1, 9, 9), ("white clouds above waves",)),
)


@pytest.fixture(scope="module")
def collection(pictures: Path) -> Collection:
    files = {f"p{n}": pictures / f"p{n}.png" for n in range(3)}
    return Collection("golden", FilePictures(files), (), PAIRS)


def test_fragments_are_the_crops_in_the_order_of_the_set(scan: Pipeline, collection: Collection) -> None:
    encoded = encode_golden(scan, collection)
    assert encoded.golden.image_ids == ("p1", "p0", "p1", "p2")
    for row, (image_id, box) in enumerate([("p1", (4, 6, 30, 30)), ("p0", (0, 0, 48, 40)), ("p1", (10, 10, 22, 40))]):
        crop = scan.encoder.prepare(collection.load_image(image_id).crop(box))
        expected = scan.encoder.encode_pixels(crop[None]).global_features[0]
        assert torch.allclose(encoded.regions[row], expected, atol=1e-5)
    assert torch.allclose(encoded.phrases, scan.encoder.encode_texts(encoded.golden.phrases), atol=1e-5)
    evaluation = encoded.evaluate(system="scan")
    assert torch.allclose(evaluation.scores, encoded.regions @ encoded.phrases.T)
    assert evaluation.result.t2i is not None
    assert evaluation.result.t2i.ranks.query_ids == ("blue ground", "red lotus", "crane", "white clouds above waves")
    # Unit rows: the inner product is the cosine.
    assert evaluation.asdict() == encoded.evaluate("cosine", system="scan").asdict()
    assert evaluate_golden(scan, collection).asdict() == encoded.evaluate(system="tiny").asdict()


def test_a_selection_is_what_encoding_those_pictures_gives(scan: Pipeline, collection: Collection) -> None:
    part = encode_golden(scan, collection, image_ids={"p1", "p2"})
    selected = encode_golden(scan, collection).select({"p1", "p2"})
    assert part.golden.phrases == selected.golden.phrases
    assert torch.allclose(part.regions, selected.regions, atol=1e-5)
    assert torch.allclose(part.phrases, selected.phrases, atol=1e-5)


def test_raw_projections_keep_their_lengths(scan: Pipeline, collection: Collection) -> None:
    asked = {}

    def boxes(image_id: str, boxes: Sequence[tuple[float, ...]]) -> Tensor:
        asked[image_id] = list(boxes)
        return torch.tensor([[x1 - x0, float(y0)] for x0, y0, x1, _ in boxes])

    encoded = encode_golden(
        scan, collection, encode_boxes=boxes, encode_phrases=lambda words: torch.tensor([[len(w), 0.0] for w in words])
    )
    assert asked["p1"] == [PAIRS[0].box, PAIRS[2].box]
    assert torch.allclose(encoded.regions, torch.tensor([[26, 6], [48, 0], [11.6, 10.4], [8, 1]]))
    assert encoded.evaluate().scores[0].tolist() == [26 * 11, 26 * 9, 26 * 5, 26 * 24]
    with pytest.raises(DataError, match=r"p1: expected vectors \(2, dim\), got shape \(1, 2\)"):
        encode_golden(scan, collection, encode_boxes=lambda *_: torch.zeros(1, 2))
    with pytest.raises(DataError, match=r"the phrases: expected vectors \(4, dim\)"):
        encode_golden(scan, collection, encode_phrases=lambda *_: torch.zeros(4))


def test_attention_ranks_pictures(scan: Pipeline, collection: Collection) -> None:
    evaluation = evaluate_golden(scan, collection, score="attention", ks=(1, 3))
    pictures = scan.encode_images([collection.load_image(i) for i in ("p1", "p0", "p2")], ["p1", "p0", "p2"])
    phrases = ["blue ground", "red lotus", "crane", "white clouds above waves"]
    expected = scan.score(pictures, phrase_features(scan, phrases))
    assert torch.allclose(evaluation.scores, expected, atol=1e-5)
    assert evaluation.result.i2t is not None
    assert evaluation.result.i2t.ranks.query_ids == ("p1", "p0", "p2")
    # 3 pictures: two are right for "blue ground", one for each of the others.
    assert evaluation.chance["t2i"][1] == pytest.approx(100 * (2 + 1 + 1 + 1) / 12)
    assert evaluation.chance["i2t"][1] == pytest.approx(100 * (3 + 1 + 1) / 12)


def test_an_encoder_of_words_may_keep_its_fragments(scan: Pipeline) -> None:
    assert phrase_features(scan, ["red, blue"]).phrases == (("red, blue",),)
    assert phrase_features(scan, ["red, blue"], scan.fragmenter).phrases == (("red", "blue"),)


def test_what_cannot_be_encoded_is_named(scan: Pipeline, pictures: Path) -> None:
    def golden(name: str, *pairs: GoldenPair) -> Collection:
        return Collection("golden", FilePictures({name: pictures / f"{name}.png"}), (), pairs)

    with pytest.raises(DataError, match="data set 'golden' has no golden pairs"):
        encode_golden(scan, golden("p0"))
    with pytest.raises(DataError, match=r"image 'p0': golden box \(60.0, 0.0, 70.0, 9.0\) is outside .* of 48 x 40"):
        encode_golden(scan, golden("p0", GoldenPair("p0", (60, 0, 70, 9), ("x",))))
    for score in ("inner", "attention"):
        with pytest.raises(ImageError, match="p3x"):
            evaluate_golden(scan, golden("p3x", GoldenPair("p3x", (0, 0, 9, 9), ("x",))), score=score)  # type: ignore[arg-type]


def test_a_box_a_little_beyond_the_edge_is_clipped(scan: Pipeline, pictures: Path) -> None:
    files = FilePictures({"p0": pictures / "p0.png"})
    over = Collection("golden", files, (), [GoldenPair("p0", (-3, 0, 49, 40.2), ("x",))])
    whole = scan.encoder.encode_pixels(scan.encoder.prepare(Image.open(pictures / "p0.png").convert("RGB"))[None])
    assert torch.allclose(encode_golden(scan, over).regions[0], whole.global_features[0], atol=1e-5)


class Nothing(ComponentConfig):
    """No settings."""


class Found:
    """A proposer whose one region is the picture; its features are the mean colour and the size, with zeros to 16."""

    def __init__(self, config: Nothing, context: BuildContext) -> None: ...

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [
            Regions(np.array([[0, 0, *image.size]], dtype=np.float32), features=row[None], global_feature=row)
            for image in images
            for row in [described(image)]
        ]


class Anywhere(Found):
    """It also describes other boxes."""

    def features_of(self, image: Image.Image, boxes: Sequence[Sequence[float]]) -> np.ndarray:
        return np.stack([described(image.crop((round(a), round(b), round(c), round(d)))) for a, b, c, d in boxes])


def described(image: Image.Image) -> np.ndarray:
    row = np.zeros(16, dtype=np.float32)
    row[:5] = [*np.asarray(image).reshape(-1, 3).mean(axis=0), *image.size]
    return row


class Plugin:
    @staticmethod
    @hookimpl
    def heritage_align_components() -> list[ComponentSpec]:
        return [
            ComponentSpec("proposer", name, f"{__name__}:{target}", f"{__name__}:Nothing", "", outputs=("features",))
            for name, target in (("found", "Found"), ("anywhere", "Anywhere"))
        ]


@pytest.fixture
def features_pipeline(tiny_checkpoint: Path) -> Callable[[str], Pipeline]:
    def build(proposer: str) -> Pipeline:
        registry = discover([("here", Plugin())])
        document = {
            "version": 1,
            "name": "x",
            "encoder": {"name": "region_features", "dim": 16},
            "text_encoder": {"name": "cn_clip", "model": str(tiny_checkpoint)},
            "proposer": {"name": proposer},
            "similarity": {"name": "global"},
            "runtime": {"device": "cpu"},
        }
        return Pipeline(load_config(document, registry=registry), registry)

    return build


def test_region_features_of_golden_boxes_come_from_the_proposer(
    features_pipeline: Callable[[str], Pipeline], collection: Collection
) -> None:
    encoded = encode_golden(features_pipeline("anywhere"), collection)
    for row, image_id, box in [(0, "p1", (4, 6, 30, 30)), (1, "p0", (0, 0, 48, 40)), (2, "p1", (10, 10, 22, 40))]:
        wanted = torch.from_numpy(described(collection.load_image(image_id).crop(box)))
        assert torch.allclose(encoded.regions[row], wanted / wanted.norm())


def test_region_features_without_a_source_for_golden_boxes(
    features_pipeline: Callable[[str], Pipeline], collection: Collection
) -> None:
    with pytest.raises(ConfigError, match="proposer: 'found' has no features of golden boxes"):
        encode_golden(features_pipeline("found"), collection)
