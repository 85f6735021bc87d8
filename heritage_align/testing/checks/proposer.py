"""Checks of proposers."""

from __future__ import annotations

import random

import numpy as np
import torch

from heritage_align.planning import gives
from heritage_align.protocols import Proposer
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect
from heritage_align.types import Regions


def _proposed(proposer: Proposer) -> dict[str, Regions]:
    pictures = samples.images()
    return dict(zip(pictures, proposer.propose(list(pictures.values()), list(pictures))))


def expect_same(got: Regions, wanted: Regions, what: str) -> None:
    """Expect the same boxes in the same order, to a hundredth of a pixel."""
    expect(len(got) == len(wanted), f"{what}: {len(got)} regions, expected {len(wanted)}")
    expect(
        bool(np.allclose(got.boxes, wanted.boxes, atol=0.01)),
        f"{what}: boxes {got.boxes.tolist()}, expected {wanted.boxes.tolist()}",
    )


@check("proposer")
def check_one_answer_an_image(case: Case) -> None:
    """A detector that finds nothing in a picture must still answer for it, or all later pictures are off by
    one."""
    pictures = samples.images()
    found = case.build().propose(list(pictures.values()), list(pictures))
    expect(isinstance(found, list), f"propose() returned {type(found).__name__}, expected list")
    expect(len(found) == len(pictures), f"propose() gave {len(found)} Regions for {len(pictures)} images")
    odd = [name for name, regions in zip(pictures, found) if not isinstance(regions, Regions)]
    expect(not odd, f"propose() gave something other than Regions for {', '.join(odd)}")


@check("proposer")
def check_boxes_are_inside(case: Case) -> None:
    """A box past the edge or of no area is cut to a black or zero-pixel crop; detectors give both on tiny
    pictures."""
    pictures = samples.images()
    for name, regions in _proposed(case.build()).items():
        w, h = pictures[name].size
        boxes = regions.boxes
        is_array = isinstance(boxes, np.ndarray) and boxes.ndim == 2
        fits = is_array and boxes.dtype == np.float32 and boxes.shape == (len(regions), 4)
        got = f"{getattr(boxes, 'dtype', type(boxes))} {getattr(boxes, 'shape', '')}"
        expect(fits, f"{name}: boxes are {got}, expected float32 (n_regions, 4)")
        for x0, y0, x1, y1 in boxes.tolist():
            expect(
                0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h,
                f"{name} ({w} x {h}): box {(x0, y0, x1, y1)} is not inside",
            )


@check("proposer")
def check_scores_and_masks_fit(case: Case) -> None:
    """Scores, mask and grid are parallel to the boxes; a grid says that the encoder's own patches are
    meant."""
    outputs = gives(case.component)
    for name, regions in _proposed(case.build()).items():
        if regions.scores is not None:
            fits = regions.scores.shape == (len(regions),) and regions.scores.dtype == np.float32
            expect(
                fits and bool(np.isfinite(regions.scores).all()),
                f"{name}: scores are not finite float32 (n_regions,)",
            )
        if regions.keep is not None:
            fits = regions.keep.shape == (len(regions),) and regions.keep.dtype == np.bool_
            expect(fits, f"{name}: keep is not bool (n_regions,)")
        expect(
            (regions.grid is not None) == ("patches" in outputs),
            f"{name}: grid {regions.grid}, outputs {outputs}",
        )
        if regions.grid is not None:
            rows, columns = regions.grid
            expect(rows * columns == len(regions), f"{name}: grid {regions.grid} and {len(regions)} boxes")


@check("proposer")
def check_proposer_is_deterministic(case: Case) -> None:
    """Random crops come from the run's seed: a resumed run must cut the same, whatever seeded the process."""
    results = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        proposer: Proposer = case.build(seed=5)
        results.append([_proposed(proposer), _proposed(proposer)])
    for name in results[0][0]:
        expect_same(results[0][1][name], results[0][0][name], f"{name}, asked twice")
        expect_same(results[1][0][name], results[0][0][name], f"{name}, by a second build with the same seed")


@check("proposer")
def check_regions_do_not_depend_on_the_batch(case: Case) -> None:
    """A shard is a batch like any other: regions belong to the image's id, not to its place in a run."""
    proposer: Proposer = case.build()
    pictures, together = samples.images(), _proposed(proposer)
    for name, picture in pictures.items():
        (alone,) = proposer.propose([picture], [name])
        expect_same(alone, together[name], f"{name} alone, against the batch")
    names = list(pictures)[::-1]
    for name, regions in zip(names, proposer.propose([pictures[n] for n in names], names)):
        expect_same(regions, together[name], f"{name} in another order")


@check("proposer")
def check_pictures_are_left_alone(case: Case) -> None:
    """PIL's thumbnail() and draw change a picture in place, and the encoder sees it afterwards."""
    pictures = samples.images()
    before = {name: (picture.size, picture.tobytes()) for name, picture in pictures.items()}
    case.build().propose(list(pictures.values()), list(pictures))
    changed = [name for name, picture in pictures.items() if (picture.size, picture.tobytes()) != before[name]]
    expect(not changed, f"propose() changes the pictures {', '.join(changed)} in place")


@check("proposer")
def check_no_images(case: Case) -> None:
    """A batch whose pictures were all unreadable is empty."""
    found = case.build().propose([], [])
    expect(found == [], f"propose([], []) gave {found!r}, expected []")
