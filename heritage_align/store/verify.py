"""Read a whole store again and say everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.store.files import file_digest
from heritage_align.store.kept import fault_of, kept_folders
from heritage_align.store.layout import read_manifest
from heritage_align.store.shard import Shard, read_shard, remedy

UNIT_TOLERANCE = 1e-2
"""Of a stored row's length: rounding a unit vector to bf16 (8 bits) or int8 moves it by less than half of this."""


def verify(path: str | Path) -> Iterator[str]:
    """Yield one sentence a fault; nothing for a sound store.

    Checked: every shard's size and sha256 against the manifest, its tensors' shapes, offsets that ascend, NaN and
    infinity, unit length of global vectors and regions, ids that occur twice; of indexes that are kept size and sha256.

    Raises:
        StoreError: there is no finished store to verify.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    seen: set[str] = set()
    for entry in manifest.shards:
        file = folder / entry.file
        if not file.exists():
            yield f"{file}: is missing; {remedy(folder)}"
            continue
        if file.stat().st_size != entry.bytes:
            yield f"{file}: has {file.stat().st_size} bytes, the manifest says {entry.bytes}"
        elif file_digest(file) != entry.sha256:
            changed = "its content changed (sha256 differs from the manifest)"
            yield f"{file}: {changed}; once it is removed, {remedy(folder)}"
        try:
            shard = read_shard(file)
        except StoreError as error:
            yield str(error)
            continue
        if len(shard) != entry.images:
            yield f"{file}: holds {len(shard)} images, the manifest says {entry.images}"
        yield from _faults(shard)
        for image_id in shard.ids:
            if image_id in seen:
                yield f"{file}: image id {image_id!r} occurs twice"
            seen.add(image_id)
    for kept in kept_folders(folder):
        fault = fault_of(kept, thorough=True)
        if fault is not None:
            yield f"{kept}: {fault}; once the folder is removed, the next search or index build makes it anew"


def _faults(shard: Shard) -> Iterator[str]:
    for name, tensor in shard.tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield f"{shard.path}: {name!r} holds NaN or infinity"
    offsets = shard.tensors.get("regions.offsets")
    if offsets is not None and (int(offsets[0]) != 0 or bool((offsets[1:] < offsets[:-1]).any())):
        yield f"{shard.path}: 'regions.offsets' do not ascend from 0"
        return
    if len(shard):
        yield from _lengths(shard, "global", shard.vectors("global").float())
        regions = shard.regions()
        if regions is not None:
            yield from _lengths(shard, "regions", regions.dequantised().float())


def _lengths(shard: Shard, name: str, rows: Tensor) -> Iterator[str]:
    off = ((rows.norm(dim=1) - 1).abs() > UNIT_TOLERANCE).nonzero().flatten()
    if len(off):
        yield f"{shard.path}: {len(off)} rows of {name!r} are not of unit length, the first is row {int(off[0])}"
