"""Read and write weights: cn_clip's own files, those of its training, bare state dicts, and our safetensors.

Nothing is unpickled but tensors and plain values, see `heritage_align.checkpoints`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from heritage_align.plugin import CheckpointError, fitted, read_tensors, refuse_not_finite
from heritage_align_plugins.cn_clip.architecture import (
    FORMAT,
    Architecture,
    build_model,
    read_embedded,
)

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP

_SHOWN = 3  # mismatches that an error lists of each sort: enough to see a wrong size from a wrong file
_POSITIONS = ("visual.positional_embedding", "visual.attnpool.positional_embedding")


@dataclass(frozen=True)
class Weights:
    """Tensors of one file under cn_clip's names, and the sha256 of the file's bytes."""

    state: dict[str, Tensor]
    sha256: str


def read_weights(path: Path) -> Weights:
    """Read a checkpoint of any of the forms that this module names.

    Raises:
        CheckpointError: the file is missing, damaged, holds code, or has no state dict in it.
    """
    state = read_tensors(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return Weights(_split_flash_attention(state), digest.hexdigest())


def load_model(architecture: Architecture, weights: Weights, source: str, image_size: int | None = None) -> CLIP:
    """Build a model and put weights into it.

    Args:
        architecture: what the weights are of.
        weights: tensors; fp16 ones become fp32.
        source: what errors call them.
        image_size: side of the input in pixels if another than the architecture's: the position embeddings
            are interpolated as cn_clip does it (bicubic, corners aligned).

    Returns:
        The model, fp32, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit, which names the first mismatches, or are NaN or infinite.
    """
    expected = build_model(architecture, "meta").state_dict()
    state = fitted(weights.state, expected, source)
    state = {k: v for k, v in state.items() if not k.startswith("bert.pooler.")}
    _check_fit(architecture, state, source)
    refuse_not_finite(state, source)
    # Copies, because the tensors may be views of a mapped file that someone overwrites later.
    state = {k: v.to(_real(v, torch.float32), copy=True) for k, v in state.items()}
    if image_size is not None and image_size != architecture.image_resolution:
        architecture = architecture.at(image_size)
        for key in _POSITIONS:
            if key in state:
                state[key] = resize_positions(state[key], image_size // architecture.stride)
    model = build_model(architecture, "meta")
    model.load_state_dict(state, assign=True)
    return model.eval()


def load_checkpoint(path: str | Path, architecture: Architecture | None = None) -> tuple[CLIP, Architecture]:
    """Load a model from a file; without `architecture` it must be one of our safetensors, which hold theirs.

    Raises:
        CheckpointError: see `read_weights` and `load_model`.
    """
    path = Path(path)
    if architecture is None:
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path}: only our .safetensors files say what model they are of; name it")
        architecture = read_embedded(path)
    return load_model(architecture, read_weights(path), str(path)), architecture


def save_checkpoint(
    model: torch.nn.Module, architecture: Architecture, path: str | Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write a model with its architecture as safetensors.

    Args:
        model: a cn_clip model of this architecture.
        architecture: goes into the file's metadata.
        path: the ``.safetensors`` file.
        dtype: of the stored floating-point tensors; fp16 halves the file and is what cn_clip publishes.

    Raises:
        CheckpointError: the model is not of this architecture, or a tensor is not finite in `dtype`.
    """
    state = {k: v.detach().to("cpu", _real(v, dtype)).contiguous() for k, v in model.state_dict().items()}
    _check_fit(architecture, state, str(path))
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path}: {broken[0]} has values that are not finite in {dtype}")
    save_file(state, path, {"format": FORMAT, "architecture": json.dumps(architecture.asdict())})
    _order_metadata(Path(path))


def resize_positions(positions: Tensor, side: int) -> Tensor:
    """Interpolate the position embeddings of a square grid, the class token's row left as it is.

    Args:
        positions: ``(1 + rows * rows, width)``.
        side: the new number of rows.

    Returns:
        ``(1 + side * side, width)``, bicubic with corners aligned (cn_clip's ``resize_pos_embed``).
    """
    rows = round((len(positions) - 1) ** 0.5)
    grid = positions[1:].reshape(1, rows, rows, -1).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(side, side), mode="bicubic", align_corners=True)
    return torch.cat([positions[:1], grid.permute(0, 2, 3, 1).reshape(side * side, -1)])


def _order_metadata(path: Path) -> None:
    """Sort the metadata's keys: safetensors writes them in a random order, and equal weights would get two digests."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) <= length:  # the rest of a header is blanks
            file.seek(8)
            file.write(ordered.ljust(length))


def _real(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype


def _split_flash_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the renaming of cn_clip's --use-flash-attention (one Wqkv for q, k and v)."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".attn.Wqkv." in key:
            plain[key.replace(".attn.Wqkv.", ".attn.in_proj_")] = value
        elif ".attention.self.Wqkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3)):
                plain[key.replace(".Wqkv.", f".{name}.")] = part
        elif ".attention.self.out_proj." in key:
            plain[key.replace(".self.out_proj.", ".output.dense.")] = value
        else:
            plain[key] = value
    return plain


def _check_fit(architecture: Architecture, state: Mapping[str, Tensor], source: str) -> None:
    expected = build_model(architecture, "meta").state_dict()
    missing = [k for k in expected if k not in state]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, not {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state and state[k].shape != v.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
    if any(found.values()):
        parts = [
            f"{len(names)} {sort} ({'; '.join(names[:_SHOWN])}{'; ...' if len(names) > _SHOWN else ''})"
            for sort, names in found.items()
            if names
        ]
        raise CheckpointError(
            f"{source}: the weights are not of {architecture.name}: {', '.join(parts)}{_whose(state)}"
        )


def _whose(state: Mapping[str, Tensor]) -> str:
    """Say which encoder takes the weights of another library, known by its names; '' where they are not known."""
    names = list(state)

    def has(*parts: str) -> bool:
        return all(any(part in name for name in names) for part in parts)

    if has("lora_A") or has("lora_down"):
        return ". They are a LoRA adapter: merge it into its model first"
    if has("text_model.embeddings.position_embedding_res."):
        return ". Their names are those of FG-CLIP: take encoder {name: fg_clip, model: FOLDER}, the whole folder"
    if has("text_model.", "vision_model."):
        return (
            ". Their names are those of Hugging Face's transformers: take encoder {name: transformers, model: FOLDER}, "
            "the folder with their config.json"
        )
    if has("visual.transformer.", "token_embedding.weight") or has("visual.trunk."):
        return (
            ". Their names are those of OpenAI's CLIP or open_clip, which are no Chinese-CLIP: take encoder "
            "{name: transformers, model: FOLDER} with the same model in Hugging Face's form"
        )
    if has("encoder.layer.0.attention.self.") and not has("visual."):
        return ". They are a BERT alone: take text_encoder {name: bert, model: FOLDER}"
    return ""
