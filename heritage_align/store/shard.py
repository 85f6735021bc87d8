"""One shard: features of a run of pictures as a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.ops import Ragged, quantise, triangular_factor
from heritage_align.store.files import write_atomically
from heritage_align.store.mapping import MappedTensors

if TYPE_CHECKING:
    from heritage_align.types import ImageFeatures

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
HEADER = "heritage_align"


@dataclass(frozen=True)
class Shard:
    """A shard's tensors, memory-mapped: nothing is read before it is used.

    Attributes:
        path: the file.
        ids: images in order.
        skipped: ``(image id, reason)`` of pictures that could not be read.
        folded: ``"none"``, ``"global"`` (the fold is the global vector) or ``"stored"``.
        tensors: by name: ``global``, ``folded``, ``regions.values``, ``regions.offsets``, ``regions.scales``,
            ``boxes``, ``keep``, ``factor``, ``global.scales``, ``folded.scales``; those that there are.
    """

    path: Path
    ids: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    folded: str
    tensors: MappedTensors

    def __len__(self) -> int:
        return len(self.ids)

    def vectors(self, name: str) -> Tensor:
        """Return ``global`` or ``folded`` vectors ``(n, dim)`` in their storage type, int8 as fp32."""
        values = self.tensors[name]
        scales = self.tensors.get(f"{name}.scales")
        return values if scales is None else values.float() * scales[:, None]

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """Return chosen ``global`` or ``folded`` vectors ``(n_rows, dim)`` as fp32; only these are read."""
        scales = self.tensors.get(f"{name}.scales")
        values = self.tensors[name][rows].float()
        return values if scales is None else values * scales[rows, None]

    def regions(self) -> Ragged | None:
        """Return the regions as they are stored, or None; raises StoreError where the offsets are damaged."""
        if "regions.values" not in self.tensors:
            return None
        scales = self.tensors.get("regions.scales")
        try:
            return Ragged(self.tensors["regions.values"], self.tensors["regions.offsets"], scales)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from error


def write_shard(path: Path, features: ImageFeatures | None, skipped: list[tuple[str, str]], dtype: str) -> None:
    """Write a shard atomically.

    Args:
        path: the file.
        features: of the shard's pictures; None where none could be read.
        skipped: pictures that could not be read, with the reasons.
        dtype: ``fp32``, ``fp16``, ``bf16`` or ``int8`` (then with an fp32 scale a row).
    """
    tensors = {} if features is None else _tensors(features, dtype)
    ids = [] if features is None else list(features.ids)
    folded = "none"
    if features is not None and features.folded is not None:
        folded = "global" if features.folded is features.global_features else "stored"
    # One entry: safetensors writes several in an order that changes from run to run, and shards are compared by bytes.
    header = json.dumps({"ids": ids, "skipped": skipped, "folded": folded}, ensure_ascii=False)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, {HEADER: header}))


def read_shard(path: Path) -> Shard:
    """Map a shard; raises StoreError that names the file if it is not whole."""
    tensors = MappedTensors(path)
    try:
        header = json.loads(tensors.metadata[HEADER])
        ids, folded = tuple(header["ids"]), header["folded"]
        skipped = tuple((i, reason) for i, reason in header["skipped"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: is not a whole shard: {error!r} in its metadata") from error
    _check_shapes(path, ids, tensors)
    tensors.release()
    return Shard(path, ids, skipped, folded, tensors)


def _tensors(features: ImageFeatures, dtype: str) -> dict[str, Tensor]:
    tensors = _stored("global", features.global_features, dtype)
    if features.folded is not None and features.folded is not features.global_features:
        tensors |= _stored("folded", features.folded, dtype)
    if features.regions is not None:
        stored = _stored("regions", features.regions.values, dtype)
        tensors["regions.values"] = stored.pop("regions")
        tensors |= stored
        tensors["regions.offsets"] = features.regions.offsets.cpu()
        if features.factor is not None:
            # Of the rows as they are stored: with a factor of the exact rows a cosine could exceed 1.
            rounded = Ragged(tensors["regions.values"], tensors["regions.offsets"], tensors.get("regions.scales"))
            tensors["factor"] = triangular_factor(rounded)
    if features.boxes is not None:
        tensors["boxes"] = features.boxes.cpu().float()
    if features.keep is not None:
        tensors["keep"] = features.keep.cpu()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _stored(name: str, values: Tensor, dtype: str) -> dict[str, Tensor]:
    values = values.detach().cpu()
    if dtype != "int8":
        return {name: values.to(DTYPES[dtype])}
    rows = quantise(Ragged(values.float(), torch.tensor([0, len(values)])))
    assert rows.scales is not None
    return {name: rows.values, f"{name}.scales": rows.scales}


def _check_shapes(path: Path, ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> None:
    if not ids:
        return
    if "global" not in tensors:
        raise StoreError(f"{path}: has no tensor 'global'")
    for name in ("global", "folded"):
        if name in tensors and len(tensors[name]) != len(ids):
            raise StoreError(f"{path}: {name!r} has {len(tensors[name])} rows for {len(ids)} ids")
    if "regions.values" in tensors:
        offsets = tensors.get("regions.offsets")
        if offsets is None or len(offsets) != len(ids) + 1 or int(offsets[-1]) != len(tensors["regions.values"]):
            raise StoreError(f"{path}: 'regions.offsets' does not fit {len(ids)} images and their regions")
        for name in ("boxes", "keep", "regions.scales"):
            if name in tensors and len(tensors[name]) != len(tensors["regions.values"]):
                raise StoreError(f"{path}: {name!r} has {len(tensors[name])} rows, the regions have another number")
