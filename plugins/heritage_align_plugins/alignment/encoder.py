"""Encoders of the alignment system: a trained model, and region features as they are."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.ops import Ragged
from heritage_align.plugin import (
    BuildContext,
    DataError,
    EncodedImages,
    EncodedRegions,
    Encoder,
    FragmentedTexts,
    PixelRecipe,
    RecipeEncoder,
    RegionEncoder,
)
from heritage_align_plugins.alignment.checkpoint import check_base, load_model
from heritage_align_plugins.alignment.config import AlignmentConfig, RegionFeatureEncoderConfig

_NO_PIXELS = "takes region features, not pixels: encode pictures through a proposer that gives features"


class AlignmentEncoder:
    """Images and texts in the space of a trained alignment model.

    Trained on a proposer's features it takes those (`encode_features`); trained on an encoder's vectors it takes
    pixels, which `base` encodes first.
    """

    def __init__(self, config: AlignmentConfig, context: BuildContext) -> None:
        """Load the model.

        Raises:
            CheckpointError: the file is not an alignment model, or does not fit the encoders named with it.
        """
        self.base: Encoder | None = context.nested.get("base")
        self._text_base: Encoder | None = context.nested.get("text_base")
        check_base(config.checkpoint, self.base)
        model, self._sha256 = load_model(config.checkpoint, self._text_base)
        self.model = model.to(context.device)
        self.device = torch.device(context.device)
        self.dim = model.settings.width
        self.patch_grid = self.base.patch_grid if self.base is not None else None
        self._unit = True

    def unnormalised(self) -> AlignmentEncoder:
        """Return the same encoder with vectors of the lengths that the projections give them.

        Golden fragments are compared with phrases by inner product in the common space (Sheng et al. 2021, 4.6). A
        memory of pairs has no part in them.
        """
        raw = copy.copy(self)
        raw._unit = False
        raw.dim = self.model.settings.projected
        return raw

    def fingerprint(self) -> str:
        """Name the model and, with its weights, those of the encoders below it."""
        below = [encoder.fingerprint() for encoder in (self.base, self._text_base) if encoder is not None]
        return "+".join([f"alignment/sha256:{self._sha256}", *below])

    def prepare(self, image: Image) -> Tensor:
        """Prepare a picture for `base`; raises DataError where the model takes region features."""
        if self.base is None:
            raise DataError(f"encoder 'alignment' {_NO_PIXELS}")
        return self.base.prepare(image)

    def pixel_recipe(self) -> PixelRecipe | None:
        """Return what `prepare` does, None where `base` says nothing of it."""
        return self.base.pixel_recipe() if isinstance(self.base, RecipeEncoder) else None

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures by `base`, then project."""
        if self.base is None:
            raise DataError(f"encoder 'alignment' {_NO_PIXELS}")
        encoded = self.base.encode_pixels(pixels, patches=patches)
        # Crops come this way as pictures do, so patches and crops are finished like whole pictures. With phrases, whose
        # vectors have zeros for the correction of hubs, only a constant factor comes of it.
        projected = None if encoded.patches is None else self._project(encoded.patches, whole=True)
        return EncodedImages(self._project(encoded.global_features, whole=True), projected)

    @property
    def pools_regions(self) -> bool:
        """Whether `base` describes boxes from the forward pass of the whole picture."""
        return isinstance(self.base, RegionEncoder) and self.base.pools_regions

    @torch.inference_mode()
    def encode_regions(self, pixels: Tensor, boxes: Ragged) -> EncodedRegions:
        """Encode prepared pictures and boxes of them by `base`, then project both as `encode_pixels` does."""
        if not isinstance(self.base, RegionEncoder):
            raise DataError("encoder 'alignment': its base encodes no boxes of whole pictures")
        encoded = self.base.encode_regions(pixels, boxes)
        return EncodedRegions(
            self._project(encoded.global_features, whole=True), self._project(encoded.regions, whole=True)
        )

    @torch.inference_mode()
    def encode_features(self, features: Tensor) -> Tensor:
        """Map region or whole-image features ``(n, feature_dim)`` to ``(n, dim)``, unit rows.

        Where the model sees regions in their picture, each is a picture of one region.

        Raises:
            DataError: the features have another width than those that the model was trained on.
        """
        return self._project(features, whole=False)

    @torch.inference_mode()
    def encode_wholes(self, features: Tensor, regions: Ragged, boxes: Tensor) -> Tensor:
        """Map whole pictures to ``(n, dim)``, unit rows, where their regions' features take part.

        Args:
            features: ``(n, feature_dim)``.
            regions: values ``(total_regions, feature_dim)``.
            boxes: ``(total_regions, 4)`` xyxy.
        """
        self._check_width(features)
        regions = Ragged(regions.values.float().to(self.device), regions.offsets.to(self.device))
        wholes = self.model.encode_wholes(features.float().to(self.device), regions, boxes)
        return self._finished(wholes, texts=False, whole=True)

    @torch.inference_mode()
    def encode_surrounded(self, features: Tensor, regions: Ragged, boxes: Tensor) -> Tensor:
        """Map regions to ``(total_regions, dim)``, unit rows, where their picture's feature takes part.

        Args:
            features: ``(n, feature_dim)`` of whole pictures.
            regions: values ``(total_regions, feature_dim)``.
            boxes: ``(total_regions, 4)`` xyxy.
        """
        self._check_width(regions.values)
        regions = Ragged(regions.values.float().to(self.device), regions.offsets.to(self.device))
        projected = self.model.encode_regions(features.float().to(self.device), regions, boxes)
        return self._finished(projected, texts=False, whole=False)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode phrases or sentences, each as one fragment; returns ``(n, dim)``, unit rows."""
        _refuse_blank(texts)
        if not texts:
            return torch.empty(0, self.dim, device=self.device)
        return self._finished(self.model.encode_texts(texts), texts=True, whole=True)

    @torch.inference_mode()
    def encode_fragmented(self, texts: Sequence[str], fragments: Sequence[Sequence[str]]) -> FragmentedTexts:
        """Encode texts with their fragments (Sheng et al. 2021, eqs 3 and 4); unit rows."""
        _refuse_blank([*texts, *(phrase for split in fragments for phrase in split)])
        if not texts:
            return FragmentedTexts(*(torch.empty(0, self.dim, device=self.device) for _ in range(2)))
        whole, parts = self.model.encode_fragmented(texts, fragments)
        return FragmentedTexts(
            self._finished(whole, texts=True, whole=True), self._finished(parts, texts=True, whole=False)
        )

    def _project(self, features: Tensor, *, whole: bool) -> Tensor:
        self._check_width(features)
        projected = self.model.encode_images(features.float().to(self.device))
        return self._finished(projected, texts=False, whole=whole)

    def _check_width(self, features: Tensor) -> None:
        if features.shape[-1] != self.model.feature_dim:
            raise DataError(
                f"region features have {features.shape[-1]} dimensions, the model was trained on "
                f"{self.model.feature_dim}"
            )

    def _finished(self, vectors: Tensor, *, texts: bool, whole: bool) -> Tensor:
        return self.model.finished(vectors, texts=texts, whole=whole) if self._unit else vectors.float()


class RegionFeatureEncoder:
    """Region features as they are, for training on them; knows no texts."""

    def __init__(self, config: RegionFeatureEncoderConfig, context: BuildContext) -> None:
        self.dim = config.dim
        self.patch_grid = None
        self.device = torch.device(context.device)

    def fingerprint(self) -> str:
        """Name the features by their width: their file is the proposer's."""
        return f"region_features/{self.dim}"

    def prepare(self, image: Image) -> Tensor:
        """Raise DataError: no pixel is encoded."""
        raise DataError(f"encoder 'region_features' {_NO_PIXELS}")

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Raise DataError: no pixel is encoded."""
        raise DataError(f"encoder 'region_features' {_NO_PIXELS}")

    def encode_features(self, features: Tensor) -> Tensor:
        """Return ``(n, dim)`` with rows of unit length; raises DataError for another width."""
        if features.shape[-1] != self.dim:
            raise DataError(f"region features have {features.shape[-1]} dimensions, encoder.dim says {self.dim}")
        return normalize(features.float().to(self.device), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Raise DataError: region features alone know no words."""
        raise DataError("encoder 'region_features' knows no texts: train a system on these features first")


def _refuse_blank(texts: Sequence[str]) -> None:
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"expected a text, got {text!r}")
