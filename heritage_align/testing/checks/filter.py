"""Checks of filters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from heritage_align.planning import gives
from heritage_align.protocols import Filter
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect
from heritage_align.types import Regions


def _regions() -> dict[str, Regions]:
    return {name: samples.regions_of(picture) for name, picture in samples.images().items()}


def _applied(built: Filter, regions: Mapping[str, Regions]) -> dict[str, Regions]:
    pictures = samples.images()
    found = built.apply([pictures[name] for name in regions], list(regions.values()))
    expect(len(found) == len(regions), f"apply() gave {len(found)} Regions for {len(regions)} images")
    return dict(zip(regions, found))


def _kept(regions: Regions) -> list[bool]:
    return [True] * len(regions) if regions.keep is None else [bool(k) for k in regions.keep]


@check("filter")
def check_only_narrows(case: Case) -> None:
    """A filter masks; it neither moves nor drops a box, nor brings back what a filter before it has
    masked."""
    before = _regions()
    for number, regions in enumerate(before.values()):
        regions.keep = np.arange(len(regions)) % 2 == number % 2
    for name, after in _applied(case.build(), before).items():
        expect(
            len(after) == len(before[name]) and bool(np.array_equal(after.boxes, before[name].boxes)),
            f"{name}: {len(before[name])} boxes became {len(after)} or moved; set keep and leave the boxes",
        )
        kept = _kept(after)
        expect(
            after.keep is None or (after.keep.dtype == np.bool_ and after.keep.shape == (len(after),)),
            f"{name}: keep is not bool (n_regions,)",
        )
        revived = [i for i, (was, now) in enumerate(zip(_kept(before[name]), kept)) if now and not was]
        expect(not revived, f"{name}: regions {revived} were masked before and are kept now")


@check("filter")
def check_something_is_kept(case: Case) -> None:
    """A flat picture has no keypoints; masking all of it makes every score of it -inf or NaN, so all are
    kept."""
    built = case.build()
    for name, after in _applied(built, _regions()).items():
        expect(any(_kept(after)), f"{name}: every region is masked; keep all of them instead")
    one = {name: replace(r, keep=np.arange(len(r)) == len(r) - 1) for name, r in _regions().items()}
    for name, after in _applied(built, one).items():
        expect(any(_kept(after)), f"{name}: the last kept region is masked; keep it instead")


@check("filter")
def check_no_regions(case: Case) -> None:
    """A proposer may find nothing; statistics over no regions are a division by zero."""
    empty = {name: Regions(np.zeros((0, 4), dtype=np.float32)) for name in samples.images()}
    for name, after in _applied(case.build(), empty).items():
        expect(len(after) == 0, f"{name}: no regions became {len(after)}")


@check("filter")
def check_filter_leaves_its_input_alone(case: Case) -> None:
    """The caller's Regions go to other filters and to the report; masking them in place changes what those
    see."""
    regions = {name: replace(r, keep=np.ones(len(r), dtype=np.bool_)) for name, r in _regions().items()}
    pictures = samples.images()
    before = {name: (r.boxes.copy(), r.keep) for name, r in regions.items()}
    pixels = {name: picture.tobytes() for name, picture in pictures.items()}
    case.build().apply(list(pictures.values()), list(regions.values()))
    for name, given in regions.items():
        boxes, keep = before[name]
        same = given.keep is keep and bool(np.asarray(keep).all()) and bool(np.array_equal(given.boxes, boxes))
        expect(same, f"{name}: apply() changes the Regions it is given; return new ones")
        expect(pictures[name].tobytes() == pixels[name], f"{name}: apply() changes the picture in place")


@check("filter")
def check_filter_is_deterministic_and_batch_free(case: Case) -> None:
    """A mask belongs to the image: not to its batch mates, their order, or how often it was asked for."""
    built = case.build()
    regions = _regions()
    together = _applied(built, regions)
    for name, given in regions.items():
        (alone,) = built.apply([samples.images()[name]], [given])
        expect(_kept(alone) == _kept(together[name]), f"{name} alone is masked otherwise than in the batch")
    backwards = _applied(case.build(), dict(reversed(regions.items())))
    for name in regions:
        same = _kept(backwards[name]) == _kept(together[name])
        expect(same, f"{name} is masked otherwise by a second build in another order")


@check("filter")
def check_filter_takes_no_images(case: Case) -> None:
    """A batch whose pictures were all unreadable is empty."""
    found = case.build().apply([], [])
    expect(found == [], f"apply([], []) gave {found!r}, expected []")


@check("filter")
def check_attention(case: Case) -> None:
    """Attention settings are keyword arguments of the score: declared in outputs, plain data, or {} for
    none."""
    attention = case.build().attention
    expect(
        isinstance(attention, Mapping),
        f"attention is {type(attention).__name__}, expected a mapping ({{}} for none)",
    )
    declared = "attention" in gives(case.component)
    expect(
        declared == bool(attention),
        f"attention is {dict(attention)!r}, and outputs are {gives(case.component)}",
    )
    json.dumps(dict(attention))
