"""Tiny checkpoints of both generations in the published layout, with weights that numpy draws: the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heritage_align_plugins.fg_clip.description import describe
from heritage_align_plugins.fg_clip.model import build
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
FIRST: dict[str, Any] = {
    "architectures": ["FGCLIPModel"],
    "model_type": "clip",
    "projection_dim": 24,
    "text_config": {**TOWER, "vocab_size": 514, "max_position_embeddings": 77},
    "vision_config": {**TOWER, "image_size": 32, "patch_size": 8},
}
SECOND: dict[str, Any] = {
    "architectures": ["Fgclip2Model"],
    "auto_map": {"AutoModelForCausalLM": "modeling_fgclip2.Fgclip2Model"},
    "model_type": "fgclip2",
    "text_config": {**TOWER, "model_type": "fgclip2_text_model", "vocab_size": 320, "longtext_len": 196},
    "vision_config": {**TOWER, "model_type": "fgclip2_vision_model", "num_patches": 16, "patch_size": 4},
}
# As many tokens as published: the published code of FG-CLIP looks for the number 49407.
PUBLISHED = {**FIRST, "text_config": {**TOWER, "vocab_size": 49408}}
CONFIGS = {"first": FIRST, "published": PUBLISHED, "second": SECOND}
_CLIP_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "first": _CLIP_PROCESSOR,
    "published": _CLIP_PROCESSOR,
    "second": {
        "image_processor_type": "Fgclip2ImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "patch_size": 4,
        "max_num_patches": 256,
    },
}
SIZES = ((61, 40), (30, 94))
"""Width and height of the pictures that are compared: 150 and 161 patches of 4 pixels, grids of different shapes."""
BOXES = ((0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.15, 0.25), (0.4, 0.05, 0.93, 0.71))
"""As fractions; the second is smaller than a patch."""
TEXTS = ("Two Cranes", "蓝地对鸟纹锦，a roundel of birds")
LONG = ("birds " * 60 + "鹤", "蓝地对鸟纹锦，a roundel of birds")


def weights(settings: dict[str, Any], seed: int = 3) -> dict[str, torch.Tensor]:
    """Draw weights for a model, by the names of its state in their order."""
    generator = np.random.default_rng(seed)
    state = build(describe(settings, "tiny")).state_dict()
    return {
        name: torch.from_numpy(0.25 * generator.standard_normal(tuple(state[name].shape), dtype=np.float32))
        for name in sorted(state)
    }


def pictures() -> list[Image.Image]:
    """Return noise of `SIZES`, smooth enough that resizing leaves something of it."""
    found = []
    for width, height in SIZES:
        coarse = np.random.default_rng(width).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        found.append(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
    return found


def gemma_tokenizer() -> Tokenizer:
    """A tokenizer of the kind of SigLIP 2's, which is Gemma's: bytes where the vocabulary has no character."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdeinorstw蓝鸟锦"]
    merges = [("b", "i"), ("r", "d"), ("bi", "rd")]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    return tokenizer


def clip_tokenizer(size: int = 514) -> Tokenizer:
    """A tokenizer of CLIP's kind: bytes alone, and its two marks at the end of so many pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(f"{piece}</w>" for piece in alphabet)]
    ids = {piece: i for i, piece in enumerate([*pieces, *(f"<{i}>" for i in range(len(pieces), size - 2))])}
    marks = {"<|startoftext|>": size - 2, "<|endoftext|>": size - 1}
    tokenizer = Tokenizer(models.BPE({**ids, **marks}, [], unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=list(marks.items())
    )
    tokenizer.add_special_tokens(list(marks))
    return tokenizer


_CLIP_TOKENIZER: dict[str, Any] = {
    "tokenizer_class": "CLIPTokenizer",
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "model_max_length": 77,
}
TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], dict[str, Any]]] = {
    "first": (clip_tokenizer, _CLIP_TOKENIZER),
    "published": (partial(clip_tokenizer, 49408), _CLIP_TOKENIZER),
    "second": (
        gemma_tokenizer,
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "model_input_names": ["input_ids"],
            "model_max_length": 64,
            "padding_side": "right",
        },
    ),
}


def save(generation: str, folder: Path) -> Path:
    """Write a checkpoint as the hub has it, without code."""
    folder.mkdir(parents=True, exist_ok=True)
    make, settings = TOKENIZERS[generation]
    make().save(str(folder / "tokenizer.json"))
    files = {
        "config.json": CONFIGS[generation],
        "preprocessor_config.json": PROCESSORS[generation],
        "tokenizer_config.json": settings,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    scale = {"logit_scale": torch.tensor([2.0]), "logit_bias": torch.tensor([-3.0])}
    save_file({**weights(CONFIGS[generation]), **scale}, folder / "model.safetensors", {"format": "pt"})
    return folder
