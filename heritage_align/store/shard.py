"""One shard: features of a run of pictures as a safetensors file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from heritage_align.errors import StoreError
from heritage_align.ops import Ragged, quantise, triangular_factor
from heritage_align.store.contents import CONTENT_BYTES
from heritage_align.store.files import write_atomically
from heritage_align.store.layout import MANIFEST
from heritage_align.store.mapping import MappedTensors, UnreadableShard
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
            ``boxes``, ``keep``, ``factor``, ``global.scales``, ``folded.scales``, ``contents``; those that there are.
        skipped_contents: digests of the files of `skipped`, by image id; those that are known.
    """

    path: Path
    ids: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    folded: str
    tensors: MappedTensors
    skipped_contents: Mapping[str, bytes] = field(default_factory=dict)

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

    def contents(self) -> dict[str, bytes]:
        """Return the digests of the pictures' files, by image id; those that are known."""
        stored = self.tensors.get("contents")
        if stored is None:
            return {}
        rows = stored.numpy()
        return {i: row.tobytes() for i, row in zip(self.ids, rows) if row.any()}

    def regions(self) -> Ragged | None:
        """Return the regions as they are stored, or None; raises StoreError where the offsets are damaged."""
        if "regions.values" not in self.tensors:
            return None
        scales = self.tensors.get("regions.scales")
        try:
            return Ragged(self.tensors["regions.values"], self.tensors["regions.offsets"], scales)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from error


def as_stored(features: ImageFeatures, dtype: str, *, factors: bool) -> ImageFeatures:
    """Round regions to what a shard keeps of them, on the device where they are, and bring a batch to the CPU.

    Args:
        features: of a batch, not rounded.
        dtype: as of `write_shard`.
        factors: compute the regions' triangular factors, of the rounded rows: with a factor of the exact rows a cosine
            could exceed 1.

    Returns:
        The batch for `write_shard`. From a GPU it is copied beside later work: `wait_for_copies` before it is read.
    """
    regions, factor = features.regions, None
    if regions is not None:
        regions = _rounded(regions, dtype)
        factor = _to_cpu(triangular_factor(regions)) if factors else None
        scales = None if regions.scales is None else _to_cpu(regions.scales)
        regions = Ragged(_to_cpu(regions.values), regions.host_offsets, scales)
    whole = _to_cpu(features.global_features)
    folded = features.folded
    if folded is not None:
        folded = whole if folded is features.global_features else _to_cpu(folded)
    return ImageFeatures(
        features.ids,
        whole,
        regions,
        boxes=None if features.boxes is None else _to_cpu(features.boxes),
        keep=None if features.keep is None else _to_cpu(features.keep),
        factor=factor,
        folded=folded,
    )


def wait_for_copies() -> None:
    """Wait until what `as_stored` copied from GPUs has arrived."""
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


def _rounded(regions: Ragged, dtype: str) -> Ragged:
    """Return regions as they are stored; as they are if they are rounded already."""
    if regions.dtype == DTYPES[dtype]:
        return regions
    return quantise(regions.to(dtype=torch.float32)) if dtype == "int8" else regions.to(dtype=DTYPES[dtype])


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", non_blocking=True)


def factors_at(packed: Tensor, regions: Ragged, rows: Tensor) -> Tensor:
    """Return the packed triangular factors of the images at `rows`, one after the other."""
    starts = regions.factor_offsets
    return torch.cat([packed[int(starts[row]) : int(starts[row + 1])] for row in rows.tolist()])


def write_shard(
    path: Path,
    features: ImageFeatures | None,
    skipped: list[tuple[str, str]],
    dtype: str,
    contents: Mapping[str, bytes | None] | None = None,
) -> None:
    """Write a shard atomically.

    Args:
        path: the file.
        features: of the shard's pictures; None where none could be read. Regions that are not rounded yet are rounded
            here, and factors computed again where there are some.
        skipped: pictures that could not be read, with the reasons.
        dtype: ``fp32``, ``fp16``, ``bf16`` or ``int8`` (then with an fp32 scale a row).
        contents: digests of the pictures' files, of those skipped too, by image id.
    """
    tensors = {} if features is None else _tensors(features, dtype)
    ids = () if features is None else features.ids
    folded = "none"
    if features is not None and features.folded is not None:
        folded = "global" if features.folded is features.global_features else "stored"
    contents = contents or {}
    if any(contents.get(image_id) is not None for image_id in ids):
        known = b"".join(contents.get(image_id) or bytes(CONTENT_BYTES) for image_id in ids)
        tensors["contents"] = torch.frombuffer(bytearray(known), dtype=torch.int64).view(len(ids), -1)
    of_skipped = {image_id: found for image_id, _ in skipped if (found := contents.get(image_id)) is not None}
    write_tensors(path, tensors, ids, skipped, folded, of_skipped)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    ids: Sequence[str],
    skipped: Sequence[tuple[str, str]],
    folded: str,
    skipped_contents: Mapping[str, bytes],
) -> None:
    """Write a shard atomically from its parts (see `Shard`)."""
    # One entry: safetensors writes several in an order that changes from run to run, and shards are compared by bytes.
    header = {"ids": list(ids), "skipped": list(skipped), "folded": folded}
    if skipped_contents:
        header["skipped_contents"] = {image_id: found.hex() for image_id, found in skipped_contents.items()}
    metadata = {HEADER: json.dumps(header, ensure_ascii=False)}
    write_atomically(path, lambda temporary: save_file(dict(tensors), temporary, metadata))


def read_shard(path: Path) -> Shard:
    """Map a shard; raises StoreError if it is missing or not whole: names the file, and the command that mends it."""
    try:
        return _read(path)
    except UnreadableShard:
        raise
    except StoreError as error:
        raise StoreError(f"{error}; {remedy(path.parent)}") from error


def find_shard(path: Path) -> Shard | None:
    """Map a shard, or return None where there is none as long as its header says; the content is for checksums.

    Raises:
        StoreError: it is there and cannot be read (rights, a disk's fault): nobody knows then that it is damaged.
    """
    try:
        return _read(path)
    except UnreadableShard:
        raise
    except StoreError:
        return None


def remedy(folder: Path) -> str:
    """Say which command makes a lost or damaged shard of a store again."""
    if (folder / MANIFEST).exists():
        return f"heritage-align index update {shlex.quote(str(folder))} encodes its pictures again"
    return "the same index build again makes it anew"


def _read(path: Path) -> Shard:
    tensors = MappedTensors(path)
    try:
        header = json.loads(tensors.metadata[HEADER])
        ids, folded = tuple(header["ids"]), header["folded"]
        skipped = tuple((i, reason) for i, reason in header["skipped"])
        if not all(isinstance(text, str) for text in (*ids, folded, *chain.from_iterable(skipped))):
            raise TypeError("ids and reasons must be texts")
        of_skipped = {i: bytes.fromhex(found) for i, found in header.get("skipped_contents", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path}: is not a whole shard: {error!r} in its metadata") from error
    _check_shapes(path, ids, tensors)
    tensors.release()
    return Shard(path, ids, skipped, folded, tensors, of_skipped)


def _tensors(features: ImageFeatures, dtype: str) -> dict[str, Tensor]:
    tensors = _stored("global", features.global_features, dtype)
    if features.folded is not None and features.folded is not features.global_features:
        tensors |= _stored("folded", features.folded, dtype)
    if features.regions is not None:
        if features.regions.dtype != DTYPES[dtype]:
            features = as_stored(features, dtype, factors=features.factor is not None)
            wait_for_copies()
        regions = features.regions
        assert regions is not None
        tensors["regions.values"], tensors["regions.offsets"] = regions.values.cpu(), regions.offsets.cpu()
        if regions.scales is not None:
            tensors["regions.scales"] = regions.scales.cpu()
        if features.factor is not None:
            tensors["factor"] = features.factor.cpu()
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


_DIMENSIONS = {"global": 2, "folded": 2, "contents": 2, "boxes": 2, "regions.values": 2, "regions.offsets": 1}
_DIMENSIONS |= {"keep": 1, "factor": 1, "regions.scales": 1, "global.scales": 1, "folded.scales": 1}


def _check_shapes(path: Path, ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim != _DIMENSIONS.get(name, tensor.ndim):
            raise StoreError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, expected {_DIMENSIONS[name]} dimensions"
            )
        if name == "regions.offsets" and tensor.dtype != torch.int64:
            raise StoreError(f"{path}: {name!r} are {tensor.dtype}, expected int64")
    if not ids:
        return
    if "global" not in tensors:
        raise StoreError(f"{path}: has no tensor 'global'")
    for name in ("global", "folded", "contents"):
        if name in tensors and len(tensors[name]) != len(ids):
            raise StoreError(f"{path}: {name!r} has {len(tensors[name])} rows for {len(ids)} ids")
    if "regions.values" in tensors:
        offsets = tensors.get("regions.offsets")
        if offsets is None or len(offsets) != len(ids) + 1 or int(offsets[-1]) != len(tensors["regions.values"]):
            raise StoreError(f"{path}: 'regions.offsets' does not fit {len(ids)} images and their regions")
        for name in ("boxes", "keep", "regions.scales"):
            if name in tensors and len(tensors[name]) != len(tensors["regions.values"]):
                raise StoreError(f"{path}: {name!r} has {len(tensors[name])} rows, the regions have another number")
