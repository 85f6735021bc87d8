"""The verbs: the whole contract between the core and a component, in one file.

A component is built as ``Class(config, context)``: `config` is the validated model that its spec names, `context`
says where and with what it is built. Methods take and return batches. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from heritage_align.encoding import ImageSource
    from heritage_align.errors import ImageError
    from heritage_align.ops import Ragged
    from heritage_align.pipeline import Pipeline
    from heritage_align.search import Searcher
    from heritage_align.shards import ShardJob
    from heritage_align.training.job import TrainingJob, TrainingOutcome
    from heritage_align.types import FloatArray, GoldenPair, ImageFeatures, Match, Regions, TextFeatures, TextItem

API_VERSION = 1
"""Raised when a method below changes; additions with a default do not raise it."""


@dataclass(frozen=True)
class BuildContext:
    """What a component may rely on while it is built.

    Attributes:
        device: torch device string, already resolved (never ``"auto"``).
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``, for the models.
        seed: the run's seed.
        encoder: the image encoder, for components that come after it.
        attention: settings that filters hand to the similarity, for example ``{"focal": "prob"}``.
        nested: components that this one's configuration names (`ComponentConfig.nested`), built, by their place.
    """

    device: str = "cpu"
    precision: str = "fp32"
    seed: int = 0
    encoder: Encoder | None = None
    attention: Mapping[str, Any] = field(default_factory=dict)
    nested: Mapping[str, Any] = field(default_factory=dict)


class EncodedImages(NamedTuple):
    """Result of `Encoder.encode_pixels`: ``(n, dim)`` and, on request, ``(n, n_patches, dim)``, unit rows, fp32."""

    global_features: Tensor
    patches: Tensor | None


@runtime_checkable
class Encoder(Protocol):
    """Maps images and texts into one space of `dim` dimensions; every row has unit length."""

    dim: int
    patch_grid: (
        tuple[int, int] | None
    )  # (rows, columns) of the ViT's patches, None where it has none, or see FlexibleEncoder

    def fingerprint(self) -> str:
        """Name model and weights, for example ``cn_clip/ViT-B-16/sha256:1f3a...``: a store keeps it."""

    def prepare(self, image: Image) -> Tensor:
        """Turn an upright RGB image (or a crop of one) into ``(3, height, width)``; called from several threads."""

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared images ``(n, 3, height, width)``; raises ValueError if `patches` are not to be had."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode sentences or phrases; returns ``(n, dim)`` fp32 on the encoder's device."""


class EncodedRegions(NamedTuple):
    """Result of `RegionEncoder.encode_regions`: ``(n, dim)`` and ``(total_boxes, dim)``, unit rows, fp32."""

    global_features: Tensor
    regions: Tensor


@runtime_checkable
class RegionEncoder(Encoder, Protocol):
    """What an encoder offers besides if it can describe boxes from the forward pass of the whole picture, no crop
    each."""

    pools_regions: bool  # whether its settings ask for that; its outputs then name ``boxes``

    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        """Encode prepared pictures and boxes of them, which belong together.

        Args:
            pixels: ``(n, 3, height, width)``.
            boxes: values ``(total_boxes, 4)`` xyxy as fractions of width and height, one run of rows a picture.
        """


@runtime_checkable
class FlexibleEncoder(Protocol):
    """What an encoder offers besides if its patches follow the shape of each picture; its `patch_grid` is None."""

    def grid_of(self, width: int, height: int) -> tuple[int, int]:
        """Return the rows and columns of patches of a picture of that size: the first ``rows * columns`` of
        `EncodedImages.patches`, whatever follows them."""


@dataclass(frozen=True)
class PixelRecipe:
    """What `Encoder.prepare` does to an upright RGB picture, where it is no more than this.

    The picture is resized with Pillow's filter of that name and rounded to 8 bits; then every value v becomes
    ``(v / 255 - mean) / std``.

    Attributes:
        side: of the square that comes out, in pixels.
        resampling: Pillow's filter.
        mean: of the three channels.
        std: of the three channels.
        shortest: the shorter side is resized to this many pixels, the other in proportion (rounded down), and the
            square is cut out of the middle, of an odd rest the larger half to the right and below; None squeezes the
            whole picture to the square.
    """

    side: int
    resampling: Literal["bilinear", "bicubic", "lanczos"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shortest: int | None = None


@runtime_checkable
class RecipeEncoder(Protocol):
    """What an encoder offers besides if pictures can be prepared in batches on its device, without `prepare`."""

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does; None where it does something else."""


@runtime_checkable
class FeatureEncoder(Protocol):
    """What an encoder offers besides if it takes region features instead of pixels (its spec gives ``features``)."""

    def encode_features(self, features: Tensor) -> Tensor:
        """Map region or whole-image features ``(n, feature_dim)`` to ``(n, dim)``, unit rows, fp32."""


@runtime_checkable
class WholeEncoder(Protocol):
    """What a `FeatureEncoder` offers besides if a picture's vector is made of its regions' features too."""

    def encode_wholes(self, features: Tensor, regions: Ragged, boxes: Tensor) -> Tensor:
        """Map pictures to ``(n, dim)``, unit rows, fp32.

        Args:
            features: ``(n, feature_dim)`` of whole images.
            regions: values ``(total_regions, feature_dim)``, one run of rows a picture.
            boxes: ``(total_regions, 4)`` xyxy as fractions of width and height.
        """


@runtime_checkable
class SurroundedEncoder(Protocol):
    """What a `FeatureEncoder` offers besides if a region's vector is made of its picture's features too.

    `encode_features` is then asked for features without a picture: a golden box, a detail.
    """

    def encode_surrounded(self, features: Tensor, regions: Ragged, boxes: Tensor) -> Tensor:
        """Map the regions of pictures to ``(total_regions, dim)``, unit rows, fp32; arguments as of `WholeEncoder`."""


@runtime_checkable
class ProjectingEncoder(Protocol):
    """What an encoder offers besides if its vectors were trained to be compared by inner product, lengths and all."""

    def unnormalised(self) -> Encoder:
        """Return the same encoder without the normalisation to unit rows."""


class FragmentedTexts(NamedTuple):
    """Result of `FragmentEncoder.encode_fragmented`: ``(n, dim)`` and ``(total_fragments, dim)``, unit rows, fp32."""

    global_features: Tensor
    fragments: Tensor


@runtime_checkable
class FragmentEncoder(Protocol):
    """What a text encoder offers besides if a text's vector depends on its fragments, or theirs on the text."""

    def encode_fragmented(self, texts: Sequence[str], fragments: Sequence[Sequence[str]]) -> FragmentedTexts:
        """Encode texts with their fragments, at least one a text."""


class TextRead(NamedTuple):
    """What an encoder reads of a text.

    Attributes:
        tokens: of the whole text, with those that mark its beginning and end; of one many times longer than is read
            at least more than are read.
        known: tokens that are read and that the vocabulary has, the marks not counted.
    """

    tokens: int
    known: int


@runtime_checkable
class ReadingEncoder(Protocol):
    """What an encoder offers besides if it says how much it reads of a text: what it cuts off is then told."""

    context_length: int  # tokens of a text that are read
    longest_context: int  # what the encoder's setting context_length may be raised to; no more than it is: no setting

    def read_texts(self, texts: Sequence[str]) -> list[TextRead]:
        """Return what is read of each text, without encoding it."""


@runtime_checkable
class Proposer(Protocol):
    """Finds regions of images."""

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return regions for every image; deterministic in the seed and the image's id, whatever the batch."""


@runtime_checkable
class FeatureReader(Protocol):
    """What a proposer offers besides if it reads regions and their features from a file: no picture is opened."""

    def lookup(self, ids: Sequence[str]) -> list[Regions]:
        """Return regions with `features`, boxes as fractions of width and height; raises DataError that names the
        first ids without features."""

    def fingerprint(self) -> str:
        """Name what is read, so that another file under the same name is told apart: a store keeps it."""


@runtime_checkable
class BoxFeatures(Protocol):
    """What a proposer of features offers besides if it can describe any box, not only those that it finds."""

    def features_of(self, image: Image, boxes: Sequence[Sequence[float]]) -> FloatArray:
        """Return ``(n_boxes, feature_dim)`` of boxes in pixels, each through the stage that describes a whole image."""


@runtime_checkable
class Filter(Protocol):
    """Masks regions, or sets how the similarity attends to them."""

    attention: Mapping[str, Any]  # handed to the similarity; {} for a filter that only masks regions

    def apply(self, images: Sequence[Image], regions: Sequence[Regions]) -> list[Regions]:
        """Return regions with `keep` narrowed; a filter that would remove all regions of an image keeps all."""


@runtime_checkable
class Fragmenter(Protocol):
    """Splits a text into fragments (noun phrases, words)."""

    def split(self, item: TextItem) -> tuple[str, ...]:
        """Return at least one fragment for a text that is not blank."""


@runtime_checkable
class FragmentGrouper(Protocol):
    """What a fragmenter offers besides if some fragments of a text may share one vector, the mean of theirs."""

    def groups(self, phrases: Sequence[str]) -> list[tuple[int, ...]]:
        """Return places in what `split` gave for one text, each in exactly one group."""


@runtime_checkable
class Similarity(Protocol):
    """Scores images against texts."""

    def score(self, images: ImageFeatures, texts: TextFeatures, candidates: Tensor | None = None) -> Tensor:
        """Return fp32 ``(n_images, n_texts)``; with `candidates` ``(n_texts, k)`` int64 rows of `images`, -1 for
        none, return ``(n_texts, k)`` and -inf for none."""

    def fold(self, images: ImageFeatures) -> Tensor | None:
        """Return ``(n_images, dim)`` such that a dot product with a text's global vector is exactly the score, or
        None where the score depends on the text in another way."""

    def respond(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """For one image and one text return ``(n_fragments, n_regions)``: how much each region answers each
        fragment (1 row, the whole text, for a similarity without fragments). Raises ValueError without regions.
        Reports and searches ask only a similarity whose inputs name ``image.regions``."""


@runtime_checkable
class SummedSimilarity(Protocol):
    """What a similarity offers besides if it is a weighted sum of others: a trainer gives each term a loss."""

    terms: Sequence[tuple[float, Similarity]]


@runtime_checkable
class Index(Protocol):
    """First-stage search over one vector an image."""

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Search `blocks`, row-wise parts ``(n_i, dim)`` of one matrix, with ``(n_queries, dim)``; returns int64
        rows and fp32 scores, both ``(n_queries, min(k, n))``, best first, equal scores by ascending row."""


@runtime_checkable
class KeptSearch(Protocol):
    """An index that was built over one matrix and is open; safe in threads."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Search with ``(n_queries, dim)``; returns int64 rows and fp32 inner products on the CPU, both
        ``(n_queries, min(k, n))``, best first, every row once: one that finds fewer looks further."""

    def close(self) -> None:
        """Give memory, files and connections back."""


@runtime_checkable
class KeptIndex(Protocol):
    """What an index offers besides if it is built once and kept beside the store: an approximate one, a database.

    Its answers are candidates: the searcher scores them again by the stored features, also where the similarity folds.
    """

    def fingerprint(self) -> str:
        """Name all that shapes what `build` makes, and nothing that only shapes a search: one of another name is built
        anew."""

    def build(self, blocks: Sequence[Tensor], folder: Path) -> None:
        """Build over row-wise parts ``(n_i, dim)`` of one matrix, of any floating type and rows of any length, and
        write what `open` needs into the empty `folder`. Each block is asked for once, or twice, in order."""

    def open(self, folder: Path) -> KeptSearch:
        """Open what was built; raises StoreError that says why where it is not to be had any more."""

    def drop(self, folder: Path) -> None:
        """Let go of what `build` made outside of `folder`, which is about to be deleted."""


@runtime_checkable
class Reranker(Protocol):
    """Looks at a picture and a text together: too slow for a collection, for the best answers of a search alone."""

    def fingerprint(self) -> str:
        """Name model and weights, as an encoder does."""

    def rate(self, pairs: Sequence[tuple[Image, str]]) -> Tensor:
        """Return fp32 ``(n,)``, how well each text describes its picture: higher is better, comparable among the
        pictures of one text. Pictures are upright RGB. Raises ValueError that names the place of a blank text."""


@runtime_checkable
class DetailReranker(Protocol):
    """Looks for a detail in a picture; a component of kind ``reranker`` is this, a `Reranker`, or both.

    Its spec's outputs say which: ``"details"``, ``"texts"``.
    """

    def fingerprint(self) -> str:
        """Name what compares, and whatever its scores depend on, as an encoder does."""

    def compare(self, detail: Image, images: Sequence[Image]) -> list[Match]:
        """Return one match a picture, whatever the others are: how much of the detail it shows, and where. Pictures and
        detail are upright RGB of any size from a pixel on, and are left as they are."""


@runtime_checkable
class Dataset(Protocol):
    """Images, texts and which belongs to which."""

    name: str
    image_ids: tuple[str, ...]
    texts: tuple[TextItem, ...]
    golden: tuple[GoldenPair, ...]

    def load_image(self, image_id: str) -> Image:
        """Return an upright RGB image; raises ImageError that names the file."""


@runtime_checkable
class ArtworkDataset(Protocol):
    """What a data set offers besides if several pictures show one artwork: a split keeps these together."""

    artwork_of: Mapping[str, str]  # image id -> artwork id


@runtime_checkable
class SplitSettings(Protocol):
    """What a data set's configuration offers besides if it picks one of several splits: predictions are named by it."""

    split: str | None


@runtime_checkable
class UnitedDataset(Protocol):
    """What a data set offers besides if it is made of several: negatives may be kept to pictures of one."""

    source_of: Mapping[str, int]  # image id -> number of the part


class ImageFile(NamedTuple):
    """A picture as it is kept.

    Attributes:
        source: a file or its bytes.
        name: what messages call it.
        max_pixels: width x height beyond which it is decoded at a reduced size or refused; None for the default.
        may_reduce: False where boxes in pixels of the whole picture are known.
    """

    source: Path | bytes
    name: str
    max_pixels: int | None = None
    may_reduce: bool = True


@runtime_checkable
class PictureSettings(Protocol):
    """What a data set's configuration offers besides if its pictures are files: pictures of the command line are
    decoded alike."""

    max_pixels: int


@runtime_checkable
class ImageFiles(Protocol):
    """What a data set offers besides if its pictures are files in the formats of `heritage_align.data.images`."""

    def image_file(self, image_id: str) -> ImageFile | None:
        """Return what `load_image` decodes, None for a picture that is no file; raises as `load_image` does."""


@runtime_checkable
class CanvasDataset(Protocol):
    """What a data set offers besides if its images are canvases of IIIF, whose addresses are their ids."""

    canvas_sizes: Mapping[str, tuple[int, int]]  # image id -> width and height of the canvas's coordinates


@runtime_checkable
class Trainer(Protocol):
    """Fits a model to a data set; ``heritage-align train`` runs it."""

    def train(self, job: TrainingJob) -> TrainingOutcome:
        """Train, or go on where a killed run stopped, and return the configuration that uses the result."""


@runtime_checkable
class Executor(Protocol):
    """Where a collection is encoded and a store is searched: in this process, or by others on any number of machines.

    What comes out is the same: shards to the byte and scores to the bit on machines of one kind.
    """

    def encode_shards(
        self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Callable[[int], object]
    ) -> None:
        """Encode shards and write each under its name when it is whole; `shards.encode_shards_here` is what is meant.

        `advance` is called with the number of pictures done since the last call. A job's sources are of the data set
        that the pipeline's configuration names. Raises StoreError for a file that cannot be written; whatever ends it,
        the shards that are there are whole.
        """

    def encode_stream(
        self, pipeline: Pipeline, sources: Sequence[ImageSource], *, on_error: Callable[[str, ImageError], None]
    ) -> Iterator[ImageFeatures]:
        """Yield features batch by batch in the order of the sources, as `Pipeline.encode_stream`."""

    def open_searcher(
        self,
        pipeline: Pipeline,
        path: str | Path,
        *,
        resident: bool = True,
        progress: Callable[[int, int], object] | None = None,
    ) -> Searcher:
        """Open a store for queries; see `Searcher.open`."""


@runtime_checkable
class VersionedPlugin(Protocol):
    """What a plugin's module offers besides if it was written for one version of these contracts alone."""

    HERITAGE_ALIGN_API: int  # quarantined where it differs from `API_VERSION`
