"""Encoding: order, bad pictures, crops, and how much is in memory."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from heritage_align.encoding import ImageSource, ImageStage, encode_images, encode_texts
from heritage_align.encoding.preparation import Prepared
from heritage_align.errors import DataError, ImageError
from heritage_align.protocols import EncodedImages
from heritage_align.testing import samples
from heritage_align.testing.samples import ToyEncoder
from heritage_align.types import Regions, TextItem


def picture(i: int) -> Image.Image:
    noise = np.random.default_rng(i).integers(0, 256, (24 + i, 40 - i, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def source(i: int, load: Callable[[], Image.Image] | None = None) -> ImageSource:
    return ImageSource(f"p{i}", load or (lambda: picture(i)))


def never(image_id: str, error: ImageError) -> None:
    raise AssertionError(f"{image_id} was reported: {error}")


class Thirds:
    """Boxes with fractions of pixels: none for p2, otherwise one more than the number in the id, modulo 4."""

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        found = []
        for image, image_id in zip(images, ids):
            n = 0 if image_id == "p2" else int(image_id[1:]) % 4 + 1
            left = np.arange(n) * image.width / 12
            corners = [left, left / 2, left + image.width / 3, left / 2 + image.height / 3]
            found.append(Regions(np.stack(corners, axis=1).astype(np.float32).reshape(-1, 4)))
        return found


class OddOnes:
    """Masks every second region."""

    attention: Mapping[str, object] = {}

    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        return [replace(r, keep=np.arange(len(r)) % 2 == 0) for r in regions]


class Tokens:
    """The encoder's own patches."""

    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        rows, columns = self.grid
        cells = np.array([(x, y, x + 1, y + 1) for y in range(rows) for x in range(columns)], dtype=np.float32)
        found = []
        for image in images:
            w, h = image.width / columns, image.height / rows
            found.append(Regions(cells * np.array([w, h, w, h], dtype=np.float32), grid=self.grid))
        return found


class CountingEncoder(ToyEncoder):
    """Records how many pictures each forward pass had."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        self.batches.append(len(pixels))
        return super().encode_pixels(pixels, patches=patches)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (4, 4), (100, 3)])
def test_order_is_that_of_the_sources_whatever_the_batch(batch_size: int, workers: int) -> None:
    def slow(i: int) -> ImageSource:
        def load() -> Image.Image:
            time.sleep(0.002 * (i % 3))
            return picture(i)

        return source(i, load)

    encoder = ToyEncoder()
    stage = ImageStage(encoder)
    parts = list(encode_images(stage, map(slow, range(10)), batch_size=batch_size, workers=workers, on_error=never))
    assert [i for part in parts for i in part.ids] == [f"p{i}" for i in range(10)]
    assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    wanted = torch.cat([encoder.encode_pixels(encoder.prepare(picture(i))[None]).global_features for i in range(10)])
    torch.testing.assert_close(torch.cat([part.global_features for part in parts]), wanted)


def test_bad_pictures_are_reported_in_order_and_the_rest_is_encoded() -> None:
    def bad(name: str) -> Callable[[], Image.Image]:
        def load() -> Image.Image:
            raise ImageError(f"{name}: truncated")

        return load

    sources = [
        source(0),
        source(1, bad("one.jpg")),
        source(2),
        source(3, bad("three.jpg")),
        source(4, bad("four.jpg")),
    ]
    reported: list[tuple[str, str]] = []
    parts = list(
        encode_images(
            ImageStage(ToyEncoder()),
            sources,
            batch_size=2,
            workers=2,
            on_error=lambda image_id, error: reported.append((image_id, str(error))),
        )
    )
    assert [part.ids for part in parts] == [("p0",), ("p2",)], "a batch of bad pictures alone is left out"
    assert reported == [
        ("p1", "one.jpg: truncated"),
        ("p3", "three.jpg: truncated"),
        ("p4", "four.jpg: truncated"),
    ]


def test_other_errors_stop_the_run() -> None:
    def load() -> Image.Image:
        raise PermissionError("/secret is not readable")

    stream = encode_images(
        ImageStage(ToyEncoder()),
        [source(0), source(1), source(2, load)],
        batch_size=2,
        workers=2,
        on_error=never,
    )
    assert next(stream).ids == ("p0", "p1")
    with pytest.raises(PermissionError, match="/secret"):
        next(stream)


def test_no_sources_give_nothing() -> None:
    assert list(encode_images(ImageStage(ToyEncoder()), [], batch_size=2, workers=1, on_error=never)) == []


def test_at_most_two_batches_of_pictures_are_in_memory() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    def gone() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def counted(i: int) -> ImageSource:
        def load() -> Image.Image:
            nonlocal alive, most
            image = picture(i % 7)
            weakref.finalize(image, gone)
            with lock:
                alive += 1
                most = max(most, alive)
            return image

        return source(i, load)

    drawn = 0

    def sources() -> object:
        nonlocal drawn
        for i in range(40):
            drawn += 1
            yield counted(i)

    batch_size = 3
    stage = ImageStage(ToyEncoder(), Thirds())
    done = 0
    for part in encode_images(stage, sources(), batch_size=batch_size, workers=4, on_error=never):  # type: ignore[arg-type]
        done += len(part)
        time.sleep(0.005)  # a slow consumer, so that decoding could run away
        assert drawn - done <= batch_size, "sources are taken only when there is room"
    assert done == 40
    assert batch_size < most <= 2 * batch_size


def test_crops_of_a_batch_are_those_encoded_one_by_one() -> None:
    encoder = CountingEncoder()
    stage = ImageStage(encoder, Thirds(), (OddOnes(),), factors=True)
    (features,) = encode_images(stage, map(source, range(5)), batch_size=5, workers=2, on_error=never)
    assert encoder.batches == [5, 5, 3], "the pictures, then 1 + 2 + 0 + 4 + 1 crops in batches of five"
    assert features.regions is not None
    assert features.regions.lengths.tolist() == [1, 2, 0, 4, 1]
    row = 0
    for i in range(5):
        image = picture(i)
        for box in Thirds().propose([image], [f"p{i}"])[0].boxes.tolist():
            x0, y0, x1, y1 = box
            crop = image.crop((int(x0), int(y0), max(int(x0) + 1, round(x1)), max(int(y0) + 1, round(y1))))
            alone = encoder.encode_pixels(encoder.prepare(crop)[None]).global_features[0]
            torch.testing.assert_close(features.regions.values[row], alone)
            assert features.boxes is not None
            wanted = torch.tensor([x0 / image.width, y0 / image.height, x1 / image.width, y1 / image.height])
            torch.testing.assert_close(features.boxes[row], wanted)
            row += 1
    assert features.keep is not None
    assert features.keep.tolist() == [True, True, False, True, False, True, False, True]
    assert features.factor is not None
    assert features.factor.shape == (1 + 3 + 0 + 10 + 1,)


def test_the_mask_is_where_the_regions_are() -> None:
    """The scores refuse a mask on another device; torch's meta device stands for the GPU here."""

    class Elsewhere(ToyEncoder):
        def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
            rows, cells = super().encode_pixels(pixels, patches=patches)
            return EncodedImages(rows.to("meta"), None if cells is None else cells.to("meta"))

    for proposer, numbers in ((Thirds(), (0, 1, 2)), (Thirds(), (2,)), (Tokens((2, 2)), (0, 1, 2))):
        stage = ImageStage(Elsewhere(), proposer, (OddOnes(),))
        (features,) = encode_images(stage, map(source, numbers), batch_size=3, workers=1, on_error=never)
        assert features.regions is not None
        assert features.keep is not None
        assert features.regions.values.device.type == features.keep.device.type == "meta"


def test_pictures_without_any_region() -> None:
    stage = ImageStage(ToyEncoder(), Thirds())
    (features,) = encode_images(stage, [source(2)], batch_size=2, workers=1, on_error=never)
    assert features.regions is not None
    assert features.regions.values.shape == (0, ToyEncoder.dim)
    assert features.boxes is not None
    assert features.boxes.shape == (0, 4)
    assert features.keep is None


def test_patches_come_from_the_forward_pass_of_the_picture() -> None:
    encoder = CountingEncoder()
    stage = ImageStage(encoder, Tokens((2, 2)))
    (features,) = encode_images(stage, map(source, range(3)), batch_size=3, workers=2, on_error=never)
    assert encoder.batches == [3]
    pixels = torch.stack([encoder.prepare(picture(i)) for i in range(3)])
    patches = encoder.encode_pixels(pixels, patches=True).patches
    assert patches is not None
    assert features.regions is not None
    torch.testing.assert_close(features.regions.values, patches.reshape(12, -1))
    assert features.regions.offsets.tolist() == [0, 4, 8, 12]
    assert features.boxes is not None
    torch.testing.assert_close(features.boxes[1], torch.tensor([0.5, 0.0, 1.0, 0.5]))


def test_a_grid_of_another_encoder_is_refused() -> None:
    stage = ImageStage(ToyEncoder(), Tokens((1, 4)))
    stream = encode_images(stage, [source(0)], batch_size=1, workers=1, on_error=never)
    with pytest.raises(ValueError, match=r"image 'p0': the proposer gives 4 patches in a grid \(1, 4\), the encoder 4"):
        next(stream)


def test_a_run_that_is_given_up_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    stream = encode_images(ImageStage(ToyEncoder()), map(source, range(10)), batch_size=2, workers=3, on_error=never)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_crops_use_the_pool_that_they_are_given() -> None:
    names: set[str] = set()

    class Watching(ToyEncoder):
        def prepare(self, image: Image.Image) -> Tensor:
            names.add(threading.current_thread().name.split("_")[0])
            return super().prepare(image)

    stage, image = ImageStage(Watching(), Thirds()), picture(3)
    with ThreadPoolExecutor(2, thread_name_prefix="crops") as pool:
        stage.encode([Prepared(image, ToyEncoder().prepare(image))], ["p3"], pool, 2)
    assert names == {"crops"}


def test_crops_are_prepared_while_the_pictures_are_encoded_two_batches_ahead() -> None:
    begun = threading.Semaphore(0)
    prepared, encoded, most = 0, 0, 0
    lock = threading.Lock()

    class Waiting(ToyEncoder):
        def prepare(self, image: Image.Image) -> Tensor:
            nonlocal prepared, most
            with lock:
                prepared += 1
                most = max(most, prepared - encoded)
            begun.release()
            return super().prepare(image)

        def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
            nonlocal encoded, most
            if encoded == 0:
                for _ in range(4 + 2 * 3):  # the pictures, and two batches of crops
                    assert begun.acquire(timeout=60), "crops wait for the pictures"
                most = 0
            with lock:
                encoded += len(pixels)
            time.sleep(0.005)
            return super().encode_pixels(pixels, patches=patches)

    class Nine:
        def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
            return [Regions(np.array([[i, 0, i + 9, 9] for i in range(9)], dtype=np.float32)) for _ in images]

    encoder = Waiting()
    stage, pictures = ImageStage(encoder, Nine()), [picture(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        features = stage.encode([stage.prepare(image) for image in pictures], ["a", "b", "c", "d"], pool, 3)
    assert features.regions is not None
    assert features.regions.lengths.tolist() == [9] * 4
    assert encoded == prepared == 4 + 4 * 9
    assert 0 < most <= 2 * 3


class Words:
    """Splits at blanks."""

    def split(self, item: TextItem) -> tuple[str, ...]:
        return tuple(item.text.split())


class CountingTexts(ToyEncoder):
    """Records what is encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.seen.append(list(texts))
        return super().encode_texts(texts)


def test_texts_and_fragments_keep_their_order_and_equal_phrases_are_encoded_once() -> None:
    encoder = CountingTexts()
    items = [TextItem("a", "red lotus"), TextItem("b", "lotus"), TextItem("c", "blue red lotus")]
    features = encode_texts(encoder, Words(), items, batch_size=2)
    assert encoder.seen == [["red lotus", "lotus"], ["blue red lotus"], ["red", "lotus"], ["blue"]]
    assert features.ids == ("a", "b", "c")
    assert features.phrases == (("red", "lotus"), ("lotus",), ("blue", "red", "lotus"))
    assert features.fragments is not None
    assert features.fragments.offsets.tolist() == [0, 2, 3, 6]
    torch.testing.assert_close(
        features.fragments.values, encoder.encode_texts([p for s in features.phrases for p in s])
    )
    torch.testing.assert_close(features.global_features, encoder.encode_texts([i.text for i in items]))


def test_texts_without_a_fragmenter_and_no_texts() -> None:
    assert encode_texts(ToyEncoder(), None, samples.TEXTS, batch_size=3).fragments is None
    nothing = encode_texts(ToyEncoder(), Words(), [], batch_size=3)
    assert nothing.global_features.shape == (0, ToyEncoder.dim)
    assert nothing.fragments is not None
    assert nothing.fragments.values.shape == (0, ToyEncoder.dim)


@pytest.mark.parametrize("text", ["", "  \n", "　", "\u200b\ufeff", None, 3])
def test_blank_texts_are_refused_by_name(text: object) -> None:
    items = [TextItem("fine", "lotus"), TextItem("t-17", text)]  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"text 't-17' is empty or not a string"):
        encode_texts(ToyEncoder(), None, items, batch_size=3)
