"""Pictures prepared in batches on a device against those prepared one by one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heritage_align.data.pixels import DecodedPicture
from heritage_align.encoding import ImageSource, ImageStage, encode_images, preparation
from heritage_align.encoding.preparation import Exact, Fast, Preparation, preparation_for
from heritage_align.errors import ConfigError, ImageError, Note
from heritage_align.protocols import ImageFile, PixelRecipe, RecipeEncoder
from heritage_align.testing.samples import ToyEncoder
from heritage_align.types import ImageFeatures, Regions

RECIPE = PixelRecipe(8, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# One level of 255 at some of 192 values, of a unit vector.
CLOSE = {"atol": 2e-3, "rtol": 0}


class Encoder(ToyEncoder):
    def pixel_recipe(self) -> PixelRecipe:
        return RECIPE


class Boxes:
    """The same fractions of every picture; looks at nothing but sizes."""

    fractions = np.array([(0, 0, 0.5, 0.5), (0.25, 0.1, 1, 0.9), (0.5, 0.5, 0.55, 1), (0, 0, 1, 1)])

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions((self.fractions * (image.size * 2)).astype(np.float32)) for image in images]


class Tokens:
    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        cells = np.array([(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)])
        return [Regions((cells * (image.size * 2)).astype(np.float32), grid=(2, 2)) for image in images]


class DropsDark:
    """Looks at the pictures."""

    attention: Mapping[str, object] = {}

    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        return [
            replace(found, keep=np.array([np.asarray(image.crop(tuple(b))).mean() > 120 for b in found.boxes.tolist()]))
            for image, found in zip(images, regions)
        ]


def encoded(number: int, **options: object) -> bytes:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (5 + number % 3, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((90 - 10 * (number % 4), 70), 3).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def files(count: int = 7) -> list[bytes]:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    made = [encoded(number) for number in range(count)]
    made[2] = encoded(2, exif=rotated)
    return made


def sources(contents: Sequence[bytes]) -> list[ImageSource]:
    from heritage_align.data.images import load_image

    return [
        ImageSource(
            f"p{number}",
            lambda data=data, number=number: load_image(data, name=f"p{number}.jpg"),
            lambda data=data, number=number: ImageFile(data, f"p{number}.jpg"),
        )
        for number, data in enumerate(contents)
    ]


def run(
    stage: ImageStage, given: Sequence[ImageSource], batch_size: int = 3
) -> tuple[list[ImageFeatures], list[tuple[str, str]]]:
    reported: list[tuple[str, str]] = []
    features = encode_images(
        stage,
        given,
        batch_size=batch_size,
        workers=2,
        on_error=lambda image_id, error: reported.append((image_id, str(error))),
    )
    return list(features), reported


@pytest.mark.parametrize("proposer", [None, Boxes(), Tokens()])
def test_fast_features_are_the_exact_ones_but_for_rounding(proposer: Any) -> None:
    encoder = Encoder()
    exact, _ = run(ImageStage(encoder, proposer, factors=True), sources(files()))
    fast, _ = run(ImageStage(encoder, proposer, factors=True, preparation=Fast(RECIPE)), sources(files()))
    assert [part.ids for part in fast] == [part.ids for part in exact]
    for ours, wanted in zip(fast, exact):
        torch.testing.assert_close(ours.global_features, wanted.global_features, **CLOSE)
        if proposer is not None:
            assert ours.regions is not None
            assert wanted.regions is not None
            assert torch.equal(ours.regions.offsets, wanted.regions.offsets)
            torch.testing.assert_close(ours.regions.values, wanted.regions.values, **CLOSE)
            assert torch.equal(ours.boxes, wanted.boxes)


def test_bad_pictures_are_reported_alike() -> None:
    contents = files()
    contents[1], contents[3], contents[4] = contents[1][:-200], b"", b"no picture"
    exact = run(ImageStage(Encoder(), Boxes()), sources(contents))
    fast = run(ImageStage(Encoder(), Boxes(), preparation=Fast(RECIPE)), sources(contents))
    assert fast[1] == exact[1]
    assert [image_id for image_id, _ in fast[1]] == ["p1", "p3", "p4"]
    assert [part.ids for part in fast[0]] == [part.ids for part in exact[0]]


def test_pictures_without_a_file_are_loaded() -> None:
    drawn = Image.new("RGB", (9, 30), (200, 10, 60))

    def broken() -> Image.Image:
        raise ImageError("drawing failed")

    given = [ImageSource("a", lambda: drawn), ImageSource("b", lambda: drawn, lambda: None), ImageSource("c", broken)]
    (features,), reported = run(ImageStage(Encoder(), preparation=Fast(RECIPE)), given)
    assert features.ids == ("a", "b")
    assert reported == [("c", "drawing failed")]
    wanted = Encoder().encode_pixels(Encoder().prepare(drawn)[None]).global_features
    torch.testing.assert_close(features.global_features, wanted.expand(2, -1), **CLOSE)


def test_pillow_s_pictures_are_built_for_those_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[int, int]] = []
    load = DecodedPicture.load

    def counted(self: DecodedPicture) -> Any:
        built.append(self.size)
        return load(self)

    monkeypatch.setattr(DecodedPicture, "load", counted)
    stage = ImageStage(Encoder(), Boxes(), preparation=Fast(RECIPE))
    run(stage, sources(files()))
    assert not built
    (exact, *_), _ = run(replace(stage, preparation=None, filters=(DropsDark(),)), sources(files()))
    assert not built
    (fast, *_), _ = run(replace(stage, filters=(DropsDark(),)), sources(files()))
    assert built
    assert torch.equal(fast.keep, exact.keep)
    assert 0 < int(exact.keep.sum()) < len(exact.keep)


def test_crops_beyond_the_edge_are_black_in_both() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(1, 256, (20, 30, 3), dtype=np.uint8))
    boxes = np.array([(-4, -3, 9, 8), (25, 15, 40, 30), (0, 0, 30, 20), (40, 5, 44, 9), (-9, 2, -3, 8)])
    regions = [Regions(boxes.astype(np.float32))]
    with ThreadPoolExecutor(1) as pool:
        both = []
        ways: tuple[Preparation, ...] = (Exact(Encoder()), Fast(RECIPE))
        for way in ways:
            both.append(torch.cat(list(way.crops([way.prepared(image)], regions, pool, 2))))
    torch.testing.assert_close(both[1], both[0], atol=2.1 / 255, rtol=0)


def test_the_setting_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, plain = Encoder(), ToyEncoder()
    assert isinstance(encoder, RecipeEncoder)
    assert isinstance(preparation_for(encoder, "auto", "cpu"), Exact)
    assert isinstance(preparation_for(encoder, "exact", "cpu"), Exact)
    assert isinstance(preparation_for(encoder, "fast", "cpu"), Fast)
    with pytest.raises(ConfigError, match=r"runtime.preprocess: 'fast', but encoder testing/toy/1 prepares pictures"):
        preparation_for(plain, "fast", "cpu")
    assert isinstance(preparation_for(plain, "fast", "cpu", pixels=False), Exact)

    chosen: list[tuple[str, str]] = []
    for name in ("Exact", "Fast"):  # they would ask for a stream of a GPU
        monkeypatch.setattr(preparation, name, lambda _, device, name=name: chosen.append((name, device)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preparation_for(encoder, "auto", "cuda:1")
        preparation_for(encoder, "exact", "cuda:1")
    with pytest.warns(Note, match=r"testing/toy/1 prepares .* may keep the GPU waiting"):
        preparation_for(plain, "auto", "cuda:1")
    assert chosen == [("Fast", "cuda:1"), ("Exact", "cuda:1"), ("Exact", "cuda:1")]
