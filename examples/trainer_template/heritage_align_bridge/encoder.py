"""The encoder: the one below, its image vectors moved by the trained matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.plugin import BuildContext, CheckpointError, EncodedImages, Encoder
from heritage_align_bridge.config import BridgeConfig


class BridgeEncoder:
    """An `Encoder` of pictures and texts.

    Raises:
        CheckpointError: the matrix is of another width than the encoder below.
    """

    patch_grid = None

    def __init__(self, config: BridgeConfig, context: BuildContext) -> None:
        self._base: Encoder = context.nested["base"]
        self._matrix = load_file(config.checkpoint)["matrix"].to(context.device)
        self._sha256 = hashlib.sha256(config.checkpoint.read_bytes()).hexdigest()
        self.dim = self._base.dim
        if tuple(self._matrix.shape) != (self.dim, self.dim):
            shape = " x ".join(map(str, self._matrix.shape))
            raise CheckpointError(f"{config.checkpoint}: a matrix of {shape}, the encoder has {self.dim} dimensions")

    def fingerprint(self) -> str:
        """Name the matrix and the encoder below."""
        return f"bridge/sha256:{self._sha256}+{self._base.fingerprint()}"

    def prepare(self, image: Image) -> Tensor:
        """Prepare a picture as the encoder below does."""
        return self._base.prepare(image)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode prepared pictures ``(n, 3, h, w)``; ``(n, dim)`` unit rows. Raises ValueError for patches."""
        if patches:
            raise ValueError("patches: the matrix was trained on whole pictures")
        vectors = self._base.encode_pixels(pixels).global_features
        return EncodedImages(normalize(vectors + vectors @ self._matrix.T, dim=1), None)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts as the encoder below does; ``(n, dim)`` unit rows."""
        return self._base.encode_texts(texts)
