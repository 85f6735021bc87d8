"""What a published config.json says of a model: its generation and sizes, with the defaults of the published code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heritage_align.plugin import CheckpointError
from heritage_align_plugins.transformers.config import CLIP_LIKE, SIGLIP_LIKE

_TWELVE = {"num_hidden_layers": 12, "keep_len": 20}
_CLIP = {**_TWELVE, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_SIGLIP = {
    **_TWELVE,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
}
_DEFAULTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "text": {
            **_CLIP,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "longtext_len": 248,
        },
        "vision": {
            **_CLIP,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
        },
    },
    2: {
        "text": {**_SIGLIP, "vocab_size": 32000, "max_position_embeddings": 64, "longtext_len": 196},
        "vision": {**_SIGLIP, "num_patches": 256, "patch_size": 16},
    },
}
"""Generation -> tower -> what the published code takes where config.json says nothing: only differences are in it."""
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
_MOST = 2**20
_MOST_OF = {"num_hidden_layers": 1024, "patch_size": 1024, "image_size": 2**14}
"""Sizes beyond these are of no model, and building one would take hours or all memory before its weights are read."""


@dataclass(frozen=True)
class Tower:
    """Sizes of a transformer.

    Attributes:
        width: of its tokens.
        inner: width inside an MLP.
        heads: of its attention.
        layers: blocks.
        activation: of the MLPs, by the transformers library's name.
        epsilon: of the layer norms.
    """

    width: int
    inner: int
    heads: int
    layers: int
    activation: str
    epsilon: float


@dataclass(frozen=True)
class Description:
    """A model.

    Attributes:
        generation: 1 for FG-CLIP, 2 for FG-CLIP 2.
        dim: of the common space.
        text: its tower.
        vision: its tower.
        vocabulary: tokens.
        short: positions of short texts.
        long: positions of long texts.
        kept: first positions of long texts that were not stretched when the model was trained.
        patch: side of a patch in pixels.
        side: patches along the side of a square: of the picture in FG-CLIP, of the table of positions in FG-CLIP 2.
    """

    generation: Literal[1, 2]
    dim: int
    text: Tower
    vision: Tower
    vocabulary: int
    short: int
    long: int
    kept: int
    patch: int
    side: int

    def length(self, mode: str) -> int:
        """Return the tokens of a text that are read in a mode (short, long, box)."""
        return self.long if mode == "long" else self.short


def describe(settings: Mapping[str, Any], source: str) -> Description:
    """Read a published config.json.

    Args:
        settings: its content.
        source: what errors call it.

    Raises:
        CheckpointError: it is of another family of models, or a size is missing, no whole number, or of no model.
    """
    generation = _generation(settings, source)
    defaults = _DEFAULTS[generation]
    text, vision = ({**defaults[name], **_section(settings, name, source)} for name in ("text", "vision"))
    try:
        text_tower, vision_tower = _tower_of(text), _tower_of(vision)
        patch = _size(vision, "patch_size")
        if generation == 1:
            side, left = divmod(_size(vision, "image_size"), patch)
            dim = _size({"projection_dim": 512, **settings}, "projection_dim")
        else:
            side, dim = math.isqrt(_size(vision, "num_patches")), vision_tower.width
            left = vision["num_patches"] - side**2
        if left or not side:
            raise ValueError("image_size is no multiple of patch_size, or num_patches no square")
        found = Description(
            generation,
            dim,
            text_tower,
            vision_tower,
            vocabulary=_size(text, "vocab_size"),
            short=_size(text, "max_position_embeddings"),
            long=_size(text, "longtext_len"),
            kept=_size(text, "keep_len", most=text["longtext_len"]),
            patch=patch,
            side=side,
        )
    except ValueError as error:
        raise CheckpointError(f"{source}: config.json has a size that no model has: {error}") from error
    if generation == 2 and found.text.width != dim:
        raise CheckpointError(f"{source}: texts have {found.text.width} dimensions, pictures {dim}")
    return found


def _generation(settings: Mapping[str, Any], source: str) -> Literal[1, 2]:
    kind = str(settings.get("model_type"))
    listed = settings.get("architectures")
    names = [kind, *map(str, listed if isinstance(listed, list) else ())]
    # Published as Fgclip2Model and trained as FG_CLIP2_Model; the first is a "clip" by its model_type.
    plain = [name.lower().replace("_", "").replace("-", "") for name in names]
    if any("fgclip2" in name for name in plain):
        return 2
    if any("fgclip" in name for name in plain):
        return 1
    advice = "; take encoder {name: transformers, model: ...}" if kind in (*CLIP_LIKE, *SIGLIP_LIKE) else ""
    raise CheckpointError(f"{source}: a {kind!r} model, which is neither FG-CLIP nor FG-CLIP 2{advice}")


def _section(settings: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key in (f"{name}_config", f"{name}_config_dict"):  # the second, of old CLIPs, overrides the first
        section = settings.get(key) or {}
        if not isinstance(section, Mapping):
            raise CheckpointError(f"{source}: {key} of config.json is {type(section).__name__}, expected an object")
        merged |= {k: v for k, v in section.items() if v is not None}
    return merged


def _tower_of(sizes: Mapping[str, Any]) -> Tower:
    keys = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    width, inner, heads, layers = (_size(sizes, key) for key in keys)
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    activation, epsilon = sizes["hidden_act"], sizes["layer_norm_eps"]
    if activation not in _ACTIVATIONS:
        raise ValueError(f"hidden_act is {activation!r:.50}, expected one of {', '.join(_ACTIVATIONS)}")
    if not isinstance(epsilon, (int, float)) or not 0 <= epsilon < 1:  # NaN is not
        raise ValueError(f"layer_norm_eps is {epsilon!r:.50}, expected a number from 0 to 1")
    return Tower(width, inner, heads, layers, activation, float(epsilon))


def _size(sizes: Mapping[str, Any], key: str, most: int | None = None) -> int:
    """Return a size; raises ValueError where it is no whole number from 1 to `most`, or what any model has."""
    value, most = sizes[key], most or _MOST_OF.get(key, _MOST)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{key} is {value!r:.50}, expected a whole number from 1 to {most}")
    return value
