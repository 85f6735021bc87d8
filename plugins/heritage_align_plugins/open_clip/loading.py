"""Find a model's weights on this machine and load them; nothing is fetched."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import huggingface_hub
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer

from heritage_align.plugin import CheckpointError, refuse_foreign, refuse_not_finite
from heritage_align_plugins.open_clip import zoo
from heritage_align_plugins.open_clip.config import OpenClipConfig, settings_of
from heritage_align_plugins.open_clip.files import SETTINGS_FILE, WEIGHTS
from heritage_align_plugins.transformers.files import TOKENIZER
from heritage_align_plugins.transformers.loading import files_of, need_tokenizer, need_words, reason_of


class Loaded(NamedTuple):
    """A model in fp32 and evaluation mode, its tokenizer, and the name under which the library knows it."""

    model: Any
    tokenizer: Any
    name: str


def load(config: OpenClipConfig) -> Loaded:
    """Load a model.

    Raises:
        CheckpointError: there is no such model, its weights are not there (says how to get them), or damaged.
        ValueError: weights are named beside a model that has its own.
    """
    config.refuse_two_weights()
    options: dict[str, Any] = {"force_preprocess_cfg": {"resize_mode": "squash"} if config.squeeze else {}}
    named, repository = config.folder() is None and config.repository() is None, config.repository()
    if named:
        source, weights = config.model, _found(config)
        tag = zoo.tag(config.model, config.pretrained or "")
        # The library takes these of a tag, and not of the file that the tag is in. Of weights that were trained with
        # QuickGELU it only warns.
        ways = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if tag.get(key) is not None}
        options["force_preprocess_cfg"] = {**ways, **options["force_preprocess_cfg"]}
        options["force_quick_gelu"] = bool(tag.get("quick_gelu"))
        options["pretrained"] = str(weights)
        files = [weights]
    else:
        folder = files_of(repository or config.model, config.folder(), config.revision)
        settings_of(folder / SETTINGS_FILE)
        source, files = f"local-dir:{folder}", [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not files:
            raise CheckpointError(f"{folder}: there is neither {' nor '.join(WEIGHTS)}")
    for file in files:
        refuse_foreign(file)
    for part in config.models():
        here = part.here()
        if here is None:
            raise CheckpointError(
                f"{config.model}: needs files of {part.name}, which is not in the cache of the Hugging Face hub; fetch "
                f"them once: hf download {part.name}"
            )
        if TOKENIZER in part.parts:
            need_tokenizer(here, part.name)
    try:
        with _offline(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of QuickGELU, which is seen to
            model = open_clip.create_model(source, require_pretrained=True, **options)
            tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:  # settings of other types than it expects make the library raise whatever there is
        raise CheckpointError(f"{config.model}: open_clip cannot load it: {reason_of(error)}") from error
    if isinstance(tokenizer, HFTokenizer):
        need_words(tokenizer.tokenizer, config.model)
    refuse_not_finite(model.state_dict(), config.model)
    return Loaded(model.eval(), tokenizer, config.model if named else "local")


def _found(config: OpenClipConfig) -> Path:
    """Return the file with the weights of a model of the zoo; raises CheckpointError that says how to get it."""
    weights = zoo.sources(config.model, config.pretrained, config.revision)[0]
    folder, part = weights.here(), weights.parts[0]
    names = None if folder is None else part.found(folder)
    if folder is not None and names is not None:
        return folder / names[0]
    told = f"{config.model}: weights {config.pretrained} are not"
    if weights.url is not None:
        assert weights.folder is not None
        raise CheckpointError(f"{told} here; fetch {weights.url} once, as {weights.folder / part.any_of[0][0]}")
    at = f" --revision {config.revision}" if config.revision else ""
    raise CheckpointError(
        f"{told} in the cache of the Hugging Face hub; fetch them once: "
        f"hf download {weights.repository} {part.get[0]}{at}"
    )


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the libraries below from asking the hub: the configuration of a tokenizer, or of a text tower, say."""
    with patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
        yield


def patch_features(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a tower's vectors of whole pictures ``(n, dim)`` and of their patches ``(n, n_patches, dim)``.

    A ViT of the library projects patches as its class token. One of timm pools by a head, which is shown every patch
    alone (see `siglip_patches`, which does the same for SigLIP of the transformers library).
    """
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        found = visual.forward_intermediates(pixels, indices=1, normalize_intermediates=True, output_fmt="NLC")
        patches = found["image_intermediates"][-1]
        return found["image_features"], patches if visual.proj is None else patches @ visual.proj
    trunk = visual.trunk
    tokens = trunk.forward_features(pixels)
    patches = tokens[:, trunk.num_prefix_tokens :]
    n, count, width = patches.shape
    alone = patches.reshape(n * count, 1, width)
    # Not `forward_head`: it takes the first of these for the class token, or a register, where there is one.
    pooled = alone[:, 0] if trunk.attn_pool is None else trunk.attn_pool(alone)
    each = visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(pooled))))
    return visual.head(trunk.forward_head(tokens)), each.view(n, count, -1)


def patch_grid(visual: Any) -> tuple[int, int] | None:
    """Return rows and columns of a tower's patches, None where it has none that share the space of the whole."""
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        plain = visual.attn_pool is None and visual.pool_type in ("tok", "avg")
        return tuple(visual.grid_size) if plain else None
    trunk = getattr(visual, "trunk", None)
    grid = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    is_vit = all(hasattr(trunk, part) for part in ("num_prefix_tokens", "attn_pool", "fc_norm", "head_drop", "head"))
    return (int(grid[0]), int(grid[1])) if is_vit and grid is not None else None
