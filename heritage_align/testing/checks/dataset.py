"""Checks of data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from unittest import SkipTest

from PIL.Image import Image

from heritage_align.data.images import load_file
from heritage_align.errors import HeritageAlignError, ImageError
from heritage_align.protocols import Dataset, ImageFiles
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect

FEW = 8
"""Pictures that are decoded; a real collection has too many to look at all."""


def _twice(ids: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(ids).items() if count > 1]


def _good(case: Case, built: Dataset) -> list[str]:
    return [i for i in built.image_ids if i not in case.bad_images][:FEW]


@check("dataset")
def check_ids(case: Case) -> None:
    """Ids key the store, the runs and the right answers: one that comes twice overwrites the other."""
    built: Dataset = case.build()
    expect(isinstance(built.name, str) and built.name != "", f"name is {built.name!r}")
    expect(len(built.image_ids) > 0, "it has no images")
    for label, ids in (("image", built.image_ids), ("text", tuple(item.id for item in built.texts))):
        odd = [i for i in ids if not isinstance(i, str) or not i.strip()]
        expect(not odd, f"{label} ids are blank or not strings: {odd[:3]!r}")
        expect(not _twice(ids), f"{label} ids come more than once: {_twice(ids)[:3]!r}")


@check("dataset")
def check_references(case: Case) -> None:
    """A right answer that is not in the collection lowers recall without a word."""
    built: Dataset = case.build()
    known = set(built.image_ids)
    lost = [(item.id, i) for item in built.texts for i in item.image_ids if i not in known]
    expect(not lost, f"texts belong to images that are not there: {lost[:3]!r}")
    lost_golden = [pair.image_id for pair in built.golden if pair.image_id not in known]
    expect(not lost_golden, f"golden pairs are of images that are not there: {lost_golden[:3]!r}")
    blank = [item.id for item in built.texts if not isinstance(item.text, str) or not item.text.strip()]
    expect(not blank, f"texts are blank: {blank[:3]!r}")


@check("dataset")
def check_images_load(case: Case) -> None:
    """Encoders take upright RGB; palettes, CMYK and alpha are converted by whoever knows the file."""
    built: Dataset = case.build()
    for image_id in _good(case, built):
        picture = built.load_image(image_id)
        expect(isinstance(picture, Image), f"load_image({image_id!r}) gave {type(picture).__name__}")
        expect(picture.mode == "RGB", f"load_image({image_id!r}) gave mode {picture.mode}, expected RGB")
        expect(
            picture.getexif().get(0x0112, 1) == 1,
            f"load_image({image_id!r}) gave a picture still to be rotated",
        )


@check("dataset")
def check_loading_is_deterministic_and_thread_safe(case: Case) -> None:
    """Pictures are loaded in several threads: an open archive or a generator shared by them mixes pictures
    up."""
    built: Dataset = case.build()
    ids = _good(case, built)
    wanted = {i: built.load_image(i).tobytes() for i in ids}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: built.load_image(i).tobytes(), ids * 3))
    for image_id, pixels in zip(ids * 3, together):
        expect(pixels == wanted[image_id], f"load_image({image_id!r}) gives another picture in a thread")
    again: Dataset = case.build()
    expect(again.image_ids == built.image_ids, "a second build has other image ids, or in another order")
    for image_id in ids:
        same = again.load_image(image_id).tobytes() == wanted[image_id]
        expect(same, f"load_image({image_id!r}) gives another picture in a second build")


@check("dataset")
def check_image_files(case: Case) -> None:
    """Where a data set tells its files they are decoded without `load_image`, and must be the same pictures."""
    built: Dataset = case.build()
    if not isinstance(built, ImageFiles):
        raise SkipTest("does not tell the pictures' files")
    for image_id in _good(case, built):
        file = built.image_file(image_id)
        if file is not None:
            same = load_file(file).tobytes() == built.load_image(image_id).tobytes()
            expect(same, f"image_file({image_id!r}) decodes to another picture than load_image gives")


@check("dataset")
def check_golden_boxes(case: Case) -> None:
    """Annotated boxes are pixels of the upright picture; those of a resized copy lie outside it."""
    built: Dataset = case.build()
    if not built.golden:
        raise SkipTest("has no annotated regions")
    for pair in built.golden[:FEW]:
        expect(len(pair.phrases) > 0 and all(p.strip() for p in pair.phrases), f"{pair!r} has no phrase")
        if pair.image_id in case.bad_images:
            continue
        w, h = built.load_image(pair.image_id).size
        x0, y0, x1, y1 = pair.box
        expect(0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h, f"{pair!r} is not inside its picture of {w} x {h}")


@check("dataset")
def check_unknown_image_is_named(case: Case) -> None:
    """A bare KeyError deep in a thread does not say which collection was asked for what."""
    built: Dataset = case.build()
    try:
        built.load_image("no such image")
    except HeritageAlignError as error:
        expect("no such image" in str(error), f"load_image('no such image') says {error!s} and not which image")
    else:
        raise AssertionError("load_image('no such image') returned")


@check("dataset")
def check_bad_pictures_are_named(case: Case) -> None:
    """One truncated file must cost one picture, not the collection: ImageError, by name; anything else stops
    all."""
    if not case.bad_images:
        raise SkipTest("the case names no bad_images")
    built: Dataset = case.build()
    for image_id, name in case.bad_images.items():
        try:
            built.load_image(image_id)
        except ImageError as error:
            expect(name in str(error), f"load_image({image_id!r}) says {str(error)!r} and does not name {name!r}")
        else:
            raise AssertionError(f"load_image({image_id!r}) returned, and the case says that it does not decode")
