"""What a Chinese-CLIP model is made of: the five published sizes, and any other as JSON.

Importing this module imports neither torch nor cn_clip, so that a plan knows a model's dimensions at once.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heritage_align.plugin import CheckpointError, read_settings, user_path

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP

FORMAT = "heritage_align.cn_clip/1"
"""The value of ``format`` in the metadata of our safetensors checkpoints."""

MOTIF_SMALL = "motif-small"
MOTIF_SMALL_FILE = Path(__file__).parent / "weights" / "motif_small.safetensors"

ACTIVATIONS = ("gelu", "relu", "swish", "gelu_new")
"""The activations that cn_clip's BERT knows."""

_LEAST_CONTEXT = 3
"""Tokens: [CLS], a word, [SEP]."""
_MOST_LAYERS = 1024
"""Of no model; more would take hours to build before its weights are read."""

# A safetensors file starts with the length of its JSON header; the format itself allows 100 MB.
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Architecture:
    """Settings of one model, under the names of cn_clip's own JSON files.

    Attributes:
        name: what fingerprints call the model.
        embed_dim: width of the joint space.
        image_resolution: side of the square input in pixels.
        vision_layers: number of ViT blocks, or the four stages of a ResNet.
        vision_width: width of the ViT, or of the ResNet's stem.
        vision_patch_size: side of a ViT patch in pixels; None for a ResNet.
        vision_head_width: width of one attention head (80 in ViT-H-14).
        text_hidden_size: width of the BERT; the other ``text_`` settings are BERT's own.
        context_length: tokens of a text with [CLS] and [SEP]; 52 in the published training.
    """

    name: str
    embed_dim: int
    image_resolution: int
    vision_layers: int | tuple[int, int, int, int]
    vision_width: int
    vision_patch_size: int | None
    vision_head_width: int = 64
    vocab_size: int = 21128
    text_hidden_size: int = 768
    text_num_hidden_layers: int = 12
    text_num_attention_heads: int = 12
    text_intermediate_size: int = 3072
    text_max_position_embeddings: int = 512
    text_type_vocab_size: int = 2
    text_hidden_act: str = "gelu"
    text_hidden_dropout_prob: float = 0.1
    text_attention_probs_dropout_prob: float = 0.1
    text_initializer_range: float = 0.02
    context_length: int = 52

    @property
    def stride(self) -> int:
        """Pixels that the input side must be a multiple of."""
        return self.vision_patch_size or 32

    @property
    def patch_grid(self) -> tuple[int, int] | None:
        """``(rows, columns)`` of a ViT's patches, None for a ResNet."""
        if self.vision_patch_size is None:
            return None
        side = self.image_resolution // self.vision_patch_size
        return side, side

    def at(self, image_size: int) -> Architecture:
        """Return the same model for another input side; raises ValueError if patches do not divide it."""
        if image_size < self.stride or image_size % self.stride:
            raise ValueError(f"image_size: {self.name} needs a multiple of {self.stride}, got {image_size}")
        return replace(self, image_resolution=image_size)

    def reading(self, context_length: int) -> Architecture:
        """Return the same model for texts of another length in tokens; raises ValueError beyond its positions."""
        if context_length > self.text_max_position_embeddings:
            raise ValueError(
                f"context_length: {self.name} has positions for {self.text_max_position_embeddings} tokens, "
                f"got {context_length}"
            )
        return replace(self, context_length=context_length)

    def asdict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; `architecture_from_dict` reads it back."""
        return asdict(self)


OFFICIAL: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture("RN50", 1024, 224, (3, 4, 6, 3), 64, None, text_num_hidden_layers=3),
        Architecture("ViT-B-16", 512, 224, 12, 768, 16),
        Architecture("ViT-L-14", 768, 224, 24, 1024, 14),
        Architecture("ViT-L-14-336", 768, 336, 24, 1024, 14),
        Architecture(
            "ViT-H-14", 1024, 224, 32, 1280, 14, vision_head_width=80, text_hidden_size=1024,
            text_num_hidden_layers=24, text_num_attention_heads=16, text_intermediate_size=4096,
        ),
    )
}  # fmt: skip


PUBLISHED = {
    "RN50": ("OFA-Sys/chinese-clip-rn50", "clip_cn_rn50.pt"),
    "ViT-B-16": ("OFA-Sys/chinese-clip-vit-base-patch16", "clip_cn_vit-b-16.pt"),
    "ViT-L-14": ("OFA-Sys/chinese-clip-vit-large-patch14", "clip_cn_vit-l-14.pt"),
    "ViT-L-14-336": ("OFA-Sys/chinese-clip-vit-large-patch14-336px", "clip_cn_vit-l-14-336.pt"),
    "ViT-H-14": ("OFA-Sys/chinese-clip-vit-huge-patch14", "clip_cn_vit-h-14.pt"),
}
"""Model -> repository of the hub and file of its weights, as `cn_clip.clip.utils` names them."""


def architecture_from_dict(settings: Mapping[str, Any], source: str) -> Architecture:
    """Check and build an architecture.

    Args:
        settings: the fields of `Architecture`; those with a default may be missing.
        source: what the error calls it.

    Raises:
        CheckpointError: a field is unknown, missing, no whole number where one is needed, or does not divide
            what it must.
    """
    known = {f.name: f for f in fields(Architecture)}
    unknown = sorted(set(settings) - set(known))
    required = ("name", "embed_dim", "image_resolution", "vision_layers", "vision_width", "vision_patch_size")
    missing = [name for name in required if name not in settings]
    if unknown or missing:
        faults = {"unknown": unknown, "missing": missing}
        listed = "; ".join(f"{sort} {', '.join(names)}" for sort, names in faults.items() if names)
        raise CheckpointError(f"{source}: not a model architecture: {listed}")
    values = dict(settings)
    if isinstance(values["vision_layers"], (list, tuple)):
        values["vision_layers"] = tuple(values["vision_layers"])
    for key, value in values.items():
        kind = str(known[key].type)
        if "int" in kind and not _whole(key, value):
            most = f" of at most {_MOST_LAYERS}" if key.endswith("_layers") else ""
            raise CheckpointError(f"{source}: {key}: expected a positive whole number{most}, got {reprlib.repr(value)}")
        if kind == "str" and not isinstance(value, str):
            raise CheckpointError(f"{source}: {key}: expected a text, got {reprlib.repr(value)}")
        if kind == "float" and not _fraction(value):
            raise CheckpointError(f"{source}: {key}: expected a number between 0 and 1, got {reprlib.repr(value)}")
    architecture = Architecture(**values)
    if architecture.vocab_size < Architecture.vocab_size:
        raise CheckpointError(
            f"{source}: vocab_size: expected {Architecture.vocab_size} or more, which cn_clip's tokenizer has, got "
            f"{architecture.vocab_size}"
        )
    if architecture.context_length < _LEAST_CONTEXT:
        raise CheckpointError(
            f"{source}: context_length: expected {_LEAST_CONTEXT} or more, for [CLS], a word and [SEP]"
        )
    if architecture.text_hidden_act not in ACTIVATIONS:
        acts, act = ", ".join(ACTIVATIONS), architecture.text_hidden_act
        raise CheckpointError(f"{source}: text_hidden_act: expected one of {acts}, got {act!r}")
    # A ResNet's attention pool is 32 times as wide as its stem.
    pooled = architecture.vision_width * (1 if architecture.vision_patch_size else 32)
    if pooled % architecture.vision_head_width:
        raise CheckpointError(f"{source}: vision_head_width does not divide vision_width")
    if architecture.text_hidden_size % architecture.text_num_attention_heads:
        raise CheckpointError(f"{source}: text_num_attention_heads does not divide text_hidden_size")
    if architecture.image_resolution % architecture.stride:
        raise CheckpointError(f"{source}: image_resolution: expected a multiple of {architecture.stride}")
    return architecture


def find_architecture(model: str) -> Architecture:
    """Return the architecture that a configuration names.

    Args:
        model: a published size, ``motif-small``, or the path of a ``.json`` file (an architecture) or of a
            ``.safetensors`` file (our checkpoints hold theirs).

    Raises:
        CheckpointError: the name is unknown, or the file is missing or not what it should be.
    """
    if model in OFFICIAL:
        return OFFICIAL[model]
    path = model_file(model)
    if path is None:
        names = ", ".join([*OFFICIAL, MOTIF_SMALL])
        raise CheckpointError(f"unknown model {model!r}; known: {names}, or a .json or .safetensors file")
    if path.suffix == ".safetensors":
        return read_embedded(path)
    return architecture_from_dict({"name": path.stem, **read_settings(path)}, str(path))


def model_file(model: str) -> Path | None:
    """Return the file that `model` names, None for a published size or a name that is no file's."""
    if model == MOTIF_SMALL:
        return MOTIF_SMALL_FILE
    return user_path(model) if model.endswith((".json", ".safetensors")) else None


def read_embedded(path: Path) -> Architecture:
    """Return the architecture in the header of one of our safetensors checkpoints, reading nothing else.

    Raises:
        CheckpointError: the file is missing, no safetensors file, or holds no architecture.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER:
                raise ValueError("not a safetensors file")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: holds no architecture (its metadata have no format {FORMAT!r})")
        settings = json.loads(metadata.get("architecture", "{}"))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint's header: {error}") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: its architecture is no JSON object")
    return architecture_from_dict(settings, str(path))


def build_model(architecture: Architecture, device: str = "cpu") -> CLIP:
    """Build a cn_clip model with its own initialisation, fp32, in training mode.

    Args:
        architecture: the settings.
        device: ``"meta"`` allocates nothing, for weights that are assigned afterwards.
    """
    import torch
    from cn_clip.clip.model import CLIP

    settings = architecture.asdict()
    del settings["name"], settings["context_length"]
    with torch.device(device):
        return CLIP(**settings)


def _whole(key: str, value: object) -> bool:
    if key == "vision_layers" and isinstance(value, tuple):
        return len(value) == 4 and all(_whole("vision_layers", v) for v in value)
    if key == "vision_patch_size" and value is None:
        return True
    most = _MOST_LAYERS if key.endswith("_layers") else 2**31 - 1
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _fraction(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
