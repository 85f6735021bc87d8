"""One small component of every kind that keeps the whole contract."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.encoding import ImageSource, pool_boxes
from heritage_align.errors import DataError, ImageError
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import BuildContext, EncodedRegions, ImageFile, PixelRecipe
from heritage_align.search import Searcher
from heritage_align.shards import ShardJob, encode_shards_here
from heritage_align.testing.samples import ToyEncoder, images
from heritage_align.training.job import TrainingJob, TrainingOutcome
from heritage_align.types import GoldenPair, ImageFeatures, Match, Regions, TextFeatures, TextItem


class Encoder(ToyEncoder):
    """The kit's own encoder, which refuses blank texts besides and says what `prepare` does."""

    def __init__(self, config: object, context: BuildContext) -> None:
        super().__init__()

    def pixel_recipe(self) -> PixelRecipe:
        return PixelRecipe(8, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        for text in texts:
            if not text.strip():
                raise ValueError(f"text is blank: {text!r}")
        return super().encode_texts(texts)


class Pooler(Encoder):
    """Describes boxes by the patches of the whole picture."""

    pools_regions = True

    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        rows, cells = self.encode_pixels(pixels, patches=True)
        assert cells is not None
        return EncodedRegions(rows, normalize(pool_boxes(cells, [(2, 2)] * len(pixels), boxes), dim=-1))


class Projector(Encoder):
    """Takes features of five dimensions and pads them."""

    def encode_features(self, features: Tensor) -> Tensor:
        if features.shape[1] != 5:
            raise DataError(f"features have {features.shape[1]} dimensions, expected 5")
        return normalize(torch.nn.functional.pad(features, (0, self.dim - 5)), dim=-1)


class Proposer:
    """Boxes drawn from the seed and the image's id."""

    def __init__(self, config: Any, context: BuildContext) -> None:
        self.count, self.seed = config.count, context.seed

    def boxes(self, picture: Image.Image, image_id: str) -> np.ndarray:
        draw = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        w, h = picture.size
        corner = draw.uniform(0, 0.5, (self.count, 2)) * (w, h)
        size = draw.uniform(0.25, 0.5, (self.count, 2)) * (w, h)
        return np.concatenate([corner, corner + size], axis=1).astype(np.float32)

    def propose(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[Regions]:
        return [Regions(self.boxes(picture, i)) for picture, i in zip(images, ids)]


class Filter:
    """Masks regions without texture."""

    attention: Mapping[str, Any] = {}

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def mask(self, picture: Image.Image, regions: Regions) -> np.ndarray:
        crops = [np.asarray(picture.crop(tuple(int(v) for v in box))) for box in regions.boxes]
        return np.array([crop.size > 0 and crop.std() > 10 for crop in crops], dtype=np.bool_)

    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        return [self.narrowed(found, self.mask(picture, found)) for picture, found in zip(images, regions)]

    def narrowed(self, found: Regions, mask: np.ndarray) -> Regions:
        before = np.ones(len(found), dtype=np.bool_) if found.keep is None else found.keep
        keep = before & mask
        return replace(found, keep=keep if keep.any() else before.copy())


class Focal(Filter):
    """Sets how the similarity attends."""

    attention: Mapping[str, Any] = {"focal": "equal"}

    def apply(self, images: Sequence[Image.Image], regions: Sequence[Regions]) -> list[Regions]:
        return list(regions)


class Fragmenter:
    """Splits at commas."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def split(self, item: TextItem) -> tuple[str, ...]:
        parts = [part.strip() for part in item.text.replace("，", ",").split(",")]
        return tuple(part for part in parts if part) or (item.text.strip(),)


class Reranker:
    """Compares the mean level of a picture with the sum of a text's code points."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def fingerprint(self) -> str:
        return "kit/levels"

    def rate(self, pairs: Sequence[tuple[Image.Image, str]]) -> Tensor:
        if not all(text.strip() for _, text in pairs):
            raise ValueError("a text is blank")
        return torch.tensor([self.rating(picture, text) for picture, text in pairs])

    def rating(self, picture: Image.Image, text: str) -> float:
        return -abs(float(np.asarray(picture).mean()) - sum(map(ord, text)) % 256)


class Finder:
    """Compares the levels of a detail and a picture, both in 8 x 8 pixels."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def fingerprint(self) -> str:
        return "kit/small"

    def compare(self, detail: Image.Image, images: Sequence[Image.Image]) -> list[Match]:
        return [self.match(detail, image) for image in images]

    def match(self, detail: Image.Image, image: Image.Image) -> Match:
        here, there = (np.asarray(one.resize((8, 8)), dtype=np.float64) for one in (detail, image))
        return Match(255 - float(np.abs(here - there).mean()), (0.0, 0.0, float(image.width), float(image.height)))


class Cosine:
    """Whole image against whole text; folds."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        return chosen(images.global_features.float() @ texts.global_features.float().T, candidates)

    def fold(self, images: ImageFeatures) -> Tensor | None:
        return images.global_features

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        if images.regions is None:
            raise ValueError("no regions")
        return texts.global_features.float() @ images.regions.values.float().T


def chosen(scores: Tensor, candidates: Tensor | None) -> Tensor:
    """Pick candidates' scores from ``(n_images, n_texts)``."""
    if candidates is None:
        return scores
    picked = scores.T.gather(1, candidates.clamp(min=0))
    return picked.masked_fill(candidates < 0, float("-inf"))


class Late:
    """Every fragment takes its best kept region, pair by pair."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        scores = torch.full((len(images), len(texts)), float("-inf"))
        for i in range(len(images)):
            for j in range(len(texts)):
                regions, fragments = self.rows(images, i), texts.fragments[j].float()
                if len(regions) and len(fragments):
                    scores[i, j] = self.pool(fragments @ regions.T)
        return chosen(scores, candidates)

    def pool(self, cosines: Tensor) -> Tensor:
        return cosines.max(dim=1).values.mean()

    def rows(self, images: ImageFeatures, i: int) -> Tensor:
        regions = images.regions[i].float()
        if images.keep is None:
            return regions
        bounds = images.regions.offsets.tolist()
        return regions[images.keep[bounds[i] : bounds[i + 1]]]

    def fold(self, images: ImageFeatures) -> Tensor | None:
        return None

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        if images.regions is None:
            raise ValueError("no regions")
        return texts.fragments.values.float() @ images.regions.values.float().T


class Index:
    """All dot products, sorted stably."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores = queries.float() @ torch.cat(list(blocks)).float().T
        ranked = scores.sort(dim=1, descending=True, stable=True)
        return ranked.indices[:, :k], ranked.values[:, :k]


class Dataset:
    """Two drawn pictures and one broken one."""

    name = "drawn"
    image_ids: tuple[str, ...] = ("pattern", "noise", "broken")
    texts: tuple[TextItem, ...] = (
        TextItem("t1", "a pattern", ("pattern",)),
        TextItem("t2", "噪", ("noise",)),
    )
    golden: tuple[GoldenPair, ...] = (GoldenPair("pattern", (10, 8, 26, 20), ("a red patch",)),)

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def load_image(self, image_id: str) -> Image.Image:
        if image_id not in self.image_ids:
            raise DataError(f"drawn has no image {image_id!r}")
        if image_id == "broken":
            raise ImageError("broken.jpg: truncated")
        return images()[image_id]

    def image_file(self, image_id: str) -> ImageFile | None:
        if image_id != "pattern":
            return None
        buffer = io.BytesIO()
        images()[image_id].save(buffer, "PNG")
        return ImageFile(buffer.getvalue(), "pattern.png")


class Trainer:
    """Counts the texts, which changes no system."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def train(self, job: TrainingJob) -> TrainingOutcome:
        count = len(job.train.texts)
        note = job.folder / "texts.txt"
        note.write_text(str(count))
        document = {key: value for key, value in job.config.as_dict().items() if key != "train"}
        return TrainingOutcome(document, {"recall": 50.0, "texts": count, "seconds": float(id(self))}, {"note": note})


class Executor:
    """Does everything here."""

    def __init__(self, config: object, context: BuildContext) -> None:
        pass

    def encode_shards(
        self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Callable[[int], object]
    ) -> None:
        encode_shards_here(pipeline, jobs, dtype, advance)

    def encode_stream(self, pipeline: Pipeline, sources: Sequence[ImageSource], *, on_error: Any) -> Any:
        return pipeline.encode_stream(sources, on_error=on_error)

    def open_searcher(
        self, pipeline: Pipeline, path: str | Path, *, resident: bool = True, progress: Any = None
    ) -> Searcher:
        return Searcher.open_here(pipeline, path, resident=resident, progress=progress)
