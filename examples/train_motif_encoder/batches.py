"""Training batches of the motif collection: pictures, details cut from them, and the words for both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from heritage_align.data.motifs import Motifs
from heritage_align.data.motifs.captions import caption, ground_phrase, phrase
from heritage_align.data.motifs.design import Design
from heritage_align.data.motifs.draw import box
from heritage_align.data.motifs.vocabulary import LANGUAGES, Language

INSIDE = 0.6  # share of a motif that a detail must show to be named in its text
COVERED = 0.3  # share of a patch that a motif's box must cover to lend the patch its phrase
WHOLE_MOTIF = 0.6  # ... or share of the box that lies in the patch, for motifs smaller than a patch
TIGHT, WIDEST = 1.1, 3.5  # side of a detail over that of its motif
GROUND_NAMED = 0.3  # share of the details whose text names the ground as well
BACKGROUND = 0.02  # a patch covered less than this shows the ground


@dataclass
class Views:
    """Square views: first whole pictures, then details of pictures; and what they show.

    Attributes:
        pixels: ``(n_pictures + n_details, side, side, 3)`` uint8.
        texts: one a view: captions, then the phrases of what a detail shows.
        view_phrases: ``(n_details,)`` int64 rows of `phrases`, the one motif that a detail shows; -1 for
            several.
        patch_phrases: ``(n_pictures + n_details, rows * columns)`` int64 rows of `phrases`, -1 where a patch
            shows too little of anything to learn from.
        phrases: distinct noun phrases of the batch.
    """

    pixels: np.ndarray
    texts: list[str]
    view_phrases: np.ndarray
    patch_phrases: np.ndarray
    phrases: list[str]


class Pictures:
    """The training pictures, drawn once into a memory-mapped file.

    Args:
        artworks: number of artworks.
        variants: pictures of each.
        size: side in pixels.
        seed: of the collection.
        folder: where the file lies; a file of the same settings is used again.
    """

    def __init__(self, artworks: int, variants: int, size: int, seed: int, folder: Path) -> None:
        data = Motifs("train", artworks=artworks, variants=variants, size=size, seed=seed)
        self.designs: list[Design] = list(data.designs.values())
        self.size = size
        self.variants = variants
        path = folder / f"train-{seed}-{artworks}x{variants}-{size}.npy"
        if not path.exists():
            draft = path.with_suffix(".draft.npy")
            shape = (len(self.designs), size, size, 3)
            pixels = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
            for row, image_id in enumerate(data.image_ids):
                pixels[row] = np.asarray(data.load_image(image_id))
            pixels.flush()
            draft.rename(path)
        self.pixels = np.load(path, mmap_mode="r")
        self.boxes = [self._boxes(design) for design in self.designs]

    def _boxes(self, design: Design) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes ``(n, 4)`` as fractions of the side, and their elements' rows ``(n,)``."""
        found, rows = [], []
        for row, element in enumerate(design.elements):
            for number in range(len(element.instances)):
                found.append(box(design, row, number, self.size))
                rows.append(row)
        return np.array(found, dtype=np.float32) / self.size, np.array(rows)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def overlap(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Return the common area of every window ``(m, 4)`` with every box ``(n, 4)``, as ``(m, n)``."""
    low = np.maximum(windows[:, None, :2], boxes[None, :, :2])
    high = np.minimum(windows[:, None, 2:], boxes[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def _detail_window(boxes: np.ndarray, elements: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return a square around a random motif.

    Elements are drawn first, then one of their places: small motifs stand at many places, and would else crowd
    out the large ones.

    Args:
        boxes: ``(n, 4)`` of one picture.
        elements: ``(n,)`` rows of elements.
        spread: 0 for a tight square with the motif in its middle, 1 for a square of up to `WIDEST` times its size
            with the motif anywhere in it.
        rng: source of chance.
    """
    target = boxes[rng.choice(np.flatnonzero(elements == rng.choice(np.unique(elements))))]
    extent = float(max(target[2] - target[0], target[3] - target[1]))
    widest = TIGHT * (WIDEST / TIGHT) ** spread
    side = min(0.75, extent * float(np.exp(rng.uniform(np.log(TIGHT), np.log(widest)))))
    middle = (target[:2] + target[2:]) / 2
    slack = np.clip(side - (target[2:] - target[:2]), 0.0, None) / 2 * spread
    corner = (middle - side / 2 + rng.uniform(-slack, slack)).clip(0.0, 1.0 - side)
    return np.array([*corner, *(corner + side)], dtype=np.float32)


class Batches:
    """Draws batches; batch `step` depends on the seed and on nothing else, so that training resumes exactly.

    Args:
        pictures: what to draw from.
        count: pictures a batch.
        details: details a batch.
        side: pixels of a view, the encoder's input.
        grid: patches a row of the encoder.
        seed: of the order, the words and the details.
    """

    def __init__(self, pictures: Pictures, count: int, details: int, side: int, grid: int, seed: int) -> None:
        self._pictures = pictures
        self._count = count
        self._details = details
        self._side = side
        ticks = np.arange(grid, dtype=np.float32) / grid
        x, y = np.meshgrid(ticks, ticks)
        self._patches = np.stack([x, y, x + 1 / grid, y + 1 / grid], -1).reshape(-1, 4)
        self._seed = seed

    def batch(self, step: int, spread: float = 1.0) -> Views:
        """Return pictures, all variants of some artworks, and details of any pictures, in one language.

        Args:
            step: the batch's number.
            spread: how loosely details are cut, 0..1.
        """
        rng = np.random.default_rng((self._seed, step))
        source = self._pictures
        artworks = rng.choice(len(source.designs) // source.variants, self._count // source.variants, replace=False)
        rows = (artworks[:, None] * source.variants + np.arange(source.variants)).ravel()
        language = LANGUAGES[step % 2]
        whole = np.array([0, 0, 1, 1], dtype=np.float32)
        phrases: dict[str, int] = {}
        pixels, texts, labels, named = [], [], [], []
        for row in rows.tolist():
            pixels.append(self._cut(row, whole))
            labels.append(self._labels(row, whole, language, phrases))
            texts.append(caption(source.designs[row], language, "general", rng).text)
        for row in rng.integers(len(source.designs), size=self._details).tolist():
            window = _detail_window(*source.boxes[row], spread, rng)
            pixels.append(self._cut(row, window))
            labels.append(self._labels(row, window, language, phrases))
            names = self._shown(row, window, language)
            named.append(phrases[names[0]] if len(names) == 1 else -1)
            texts.append(_detail_text(names, ground_phrase(source.designs[row], language), language, rng))
        return Views(np.stack(pixels), texts, np.array(named), np.stack(labels), list(phrases))

    def _cut(self, row: int, window: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(self._pictures.pixels[row])
        corners = tuple(round(float(v) * self._pictures.size) for v in window)
        return np.asarray(picture.crop(corners).resize((self._side, self._side), Image.Resampling.BICUBIC))

    def _shown(self, row: int, window: np.ndarray, language: Language) -> list[str]:
        """Return the phrases of the elements of which a window shows a motif, largest first."""
        boxes, elements = self._pictures.boxes[row]
        shown = overlap(boxes, window[None])[0] / _areas(boxes) >= INSIDE
        design = self._pictures.designs[row]
        return [phrase(design.elements[k], language) for k in np.unique(elements[shown])]

    def _labels(self, row: int, window: np.ndarray, language: Language, phrases: dict[str, int]) -> np.ndarray:
        """Return the phrase of every patch of a window, and add new phrases to `phrases`."""
        design, (boxes, elements) = self._pictures.designs[row], self._pictures.boxes[row]
        side = window[2] - window[0]
        patches = self._patches * side + np.tile(window[:2], 2)
        common = overlap(boxes, patches)
        covered = common / (side / np.sqrt(len(patches))) ** 2
        shown = common / _areas(boxes)
        best = covered.argmax(1)
        at = np.arange(len(patches))
        clear = (covered[at, best] >= COVERED) | (shown[at, best] >= WHOLE_MOTIF)
        names = [phrase(element, language) for element in design.elements]
        motif_rows = np.array([phrases.setdefault(name, len(phrases)) for name in names])
        ground = phrases.setdefault(ground_phrase(design, language), len(phrases))
        empty = np.where(covered.sum(1) < BACKGROUND, ground, -1)
        return np.where(clear, motif_rows[elements[best]], empty)


def _detail_text(names: list[str], ground: str, language: Language, rng: np.random.Generator) -> str:
    words = [names[k] for k in rng.permutation(len(names))]
    if rng.random() < GROUND_NAMED:
        words.insert(0, ground)
    return ("、" if language == "zh" else ", ").join(words)
