"""Details cut from the pictures of a data set with golden pairs, each with the phrases of what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heritage_align.data.boxes import Boxes, areas, common_areas
from heritage_align.data.kept_pictures import KeptPictures
from heritage_align.data.subset import artworks
from heritage_align.errors import DataError
from heritage_align.protocols import Dataset
from heritage_align.text.scripts import listed
from heritage_align.types import GoldenPair, TextItem

if TYPE_CHECKING:
    from PIL.Image import Image

TIGHT, WIDEST = 1.1, 3.5
"""Side of a detail over the longer side of its region, at least and (at spread 1) at most."""
GROUND = 0.9  # a region that fills this share of the extent of all regions is the picture's ground

Rows = npt.NDArray[np.intp]


class Details:
    """Square details around golden regions, for training on regions and phrases; satisfies `Dataset`.

    A detail is named by the phrases of the regions that lie in it, in random order. Phrases are told apart before
    places are, so that a motif that is repeated forty times does not crowd out one that stands alone. Details of the
    same words share their text, so that each of them is a right answer for it. A region's k-th phrase goes with the
    k-th phrases of the others, as in a data set with one phrase a language.

    Pictures are not opened before a detail is loaded, so that their sizes are not known: a detail stays within the
    extent of its picture's golden regions.

    Args:
        whole: pictures with golden pairs; pictures without any have no details.
        each: details of a picture.
        spread: 0 for tight squares with the region in the middle; 1 for squares of up to `WIDEST` times its size with
            the region anywhere in them.
        shown: share of a region that must lie in a detail to be named, 0..1.
        ground: share of the details whose text also names the ground: a region that fills the picture.
        seed: of the windows and of the order of phrases.
        kept_mib: MiB of whole pictures that are kept in memory, as many details come from one.

    Attributes:
        artwork_of: image id -> artwork id of the picture that a detail is cut from.

    Raises:
        DataError: no picture has a golden pair with a phrase.
    """

    def __init__(
        self, whole: Dataset, *, each: int = 4, spread: float = 1.0, shown: float = 0.6, ground: float = 0.0,
        seed: int = 0, kept_mib: int = 512,
    ) -> None:  # fmt: skip
        self.name = f"{whole.name}/details"
        self._pictures = KeptPictures(whole, kept_mib * 2**20)
        self._windows: dict[str, tuple[str, tuple[int, int, int, int]]] = {}
        self.artwork_of: dict[str, str] = {}
        golden: list[GoldenPair] = []
        answers: dict[str, list[str]] = {}
        artwork_of = artworks(whole)
        for place, (image_id, regions) in enumerate(_by_picture(whole).items()):
            for number in range(each):
                rng = np.random.default_rng((seed, place, number))
                window = _window(regions, spread, rng)
                detail = f"{image_id}/detail-{number}"
                self._windows[detail] = image_id, window
                self.artwork_of[detail] = artwork_of[image_id]
                rows = np.flatnonzero(common_areas(np.array([window]), regions.boxes)[0] >= shown * regions.areas)
                for text in _texts(_named(regions, rows, ground, rng)):
                    answers.setdefault(text, []).append(detail)
                golden += _inside(regions, rows, window, detail)
        if not self._windows:
            raise DataError(f"{self.name}: no picture of {whole.name} has a golden region with a phrase to cut out")
        self.image_ids = tuple(self._windows)
        self.texts = tuple(TextItem(f"detail: {text}", text, tuple(ids)) for text, ids in answers.items())
        self.golden = tuple(golden)

    def load_image(self, image_id: str) -> Image:
        """Return a detail, RGB; raises DataError for an id that is not of this data set."""
        if image_id not in self._windows:
            raise DataError(f"{self.name}: has no image {image_id!r}")
        source, window = self._windows[image_id]
        image = self._pictures.load(source)
        left, top, right, bottom = window
        clipped = (left, top, min(right, image.width), min(bottom, image.height))
        if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            raise DataError(f"{self.name}: the golden regions of {source!r} lie outside its {image.size} pixels")
        return image.crop(clipped)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.image_ids)} images, {len(self.texts)} texts)"


class _Regions:
    """Golden regions of one picture: boxes ``(n, 4)``, phrases, and which of them are motifs on the ground."""

    def __init__(self, pairs: Sequence[GoldenPair]) -> None:
        self.boxes: Boxes = np.array([pair.box for pair in pairs], dtype=np.float64)
        self.phrases = [pair.phrases for pair in pairs]
        self.extent = np.concatenate([self.boxes[:, :2].min(0), self.boxes[:, 2:].max(0)])
        self.areas = areas(self.boxes)
        self.is_ground = self.areas >= GROUND * areas(self.extent)
        if self.is_ground.all():
            self.is_ground[:] = False


def _by_picture(whole: Dataset) -> dict[str, _Regions]:
    known, found = set(whole.image_ids), dict[str, list[GoldenPair]]()
    for pair in whole.golden:
        if pair.image_id in known and pair.phrases:
            found.setdefault(pair.image_id, []).append(pair)
    return {image_id: _Regions(pairs) for image_id, pairs in found.items()}


def _window(regions: _Regions, spread: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a square around a random region, in whole pixels, moved and cut so that it stays in the extent of all."""
    motifs = np.flatnonzero(~regions.is_ground)
    names = sorted({regions.phrases[row] for row in motifs})
    name = names[rng.integers(len(names))]
    box = regions.boxes[rng.choice([row for row in motifs if regions.phrases[row] == name])]
    longer = float((box[2:] - box[:2]).max())
    side = longer * float(np.exp(rng.uniform(np.log(TIGHT), np.log(TIGHT * (WIDEST / TIGHT) ** spread))))
    extent = regions.extent[2:] - regions.extent[:2]
    size = np.minimum(side, extent)
    slack = np.clip(size - (box[2:] - box[:2]), 0, None) / 2 * spread
    corner = (box[:2] + box[2:] - size) / 2 + rng.uniform(-slack, slack)
    corner = corner.clip(regions.extent[:2], regions.extent[2:] - size)
    left, top = np.floor(corner).astype(int).tolist()
    right, bottom = np.ceil(corner + size).astype(int).tolist()
    return max(left, 0), max(top, 0), right, bottom


def _named(regions: _Regions, rows: Rows, ground: float, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return the phrases of some regions in random order, sometimes with the ground's before them."""
    found = list(dict.fromkeys(regions.phrases[row] for row in rows if not regions.is_ground[row]))
    named = [found[k] for k in rng.permutation(len(found))]
    if rng.random() < ground:
        named = [*dict.fromkeys(regions.phrases[row] for row in np.flatnonzero(regions.is_ground)), *named]
    return named


def _inside(regions: _Regions, rows: Rows, window: tuple[int, int, int, int], detail: str) -> list[GoldenPair]:
    """Return the golden pairs of some regions in the pixels of a detail."""
    left, top, right, bottom = window
    boxes = (regions.boxes[rows] - np.array([left, top] * 2)).clip(0, np.array([right - left, bottom - top] * 2))
    return [GoldenPair(detail, tuple(box), regions.phrases[row]) for row, box in zip(rows, boxes.tolist())]


def _texts(named: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lists of first phrases, of second ones and so on; a region with fewer lends its last one."""
    number = max(map(len, named), default=0)
    return list(dict.fromkeys(listed([p[min(k, len(p) - 1)] for p in named]) for k in range(number)))
