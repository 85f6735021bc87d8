"""Shards made of the rows of other shards, to the bit as they were stored: nothing is encoded or rounded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heritage_align.store.shard import Shard, factors_at, write_tensors

_A_REGION = ("regions.values", "regions.scales", "boxes", "keep")


def shard_name_of(parts: Sequence[Any]) -> str:
    """Return the name of a shard that is not of a build's first run: a digest of what goes into it, JSON-ready.

    So a run that was killed finds what it had written, and two that do the same write the same.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"shard-{digest[:16]}.safetensors"


def write_rows(path: Path, pieces: Sequence[tuple[Shard, Sequence[int]]], skipped: Sequence[tuple[str, str]]) -> None:
    """Write a shard of chosen rows of other shards of one store.

    Args:
        path: the file.
        pieces: shards and the rows to take from each, ascending.
        skipped: pictures that could not be read, with the reasons; their digests are taken from the shards.
    """
    taken = [_rows(shard, torch.tensor(rows, dtype=torch.int64)) for shard, rows in pieces if len(rows)]
    names = {name for part in taken for name in part}
    if not all("factor" in part for part in taken):  # of a merged store, or one that was updated for another similarity
        names.discard("factor")
    tensors = {name: _joined(name, taken) for name in sorted(names)}
    ids = [shard.ids[row] for shard, rows in pieces for row in rows]
    folded = next((shard.folded for shard, rows in pieces if len(rows)), "none")
    known = {image_id: found for shard, _ in pieces for image_id, found in shard.skipped_contents.items()}
    of_skipped = {image_id: known[image_id] for image_id, _ in skipped if image_id in known}
    write_tensors(path, tensors, ids, skipped, folded, of_skipped)


def _rows(shard: Shard, rows: Tensor) -> dict[str, Tensor]:
    """Return the tensors of chosen images."""
    regions = shard.regions()
    taken = {}
    for name, tensor in shard.tensors.items():
        if name == "regions.offsets" or (regions is None and name in _A_REGION):
            continue
        if regions is not None and name in _A_REGION:
            taken[name] = tensor[regions.rows_of(rows)]
        elif regions is not None and name == "factor":
            taken[name] = factors_at(tensor, regions, rows)
        else:
            taken[name] = tensor[rows]
    if regions is not None:
        lengths = regions.lengths[rows]
        taken["regions.offsets"] = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return taken


def _joined(name: str, parts: Sequence[Mapping[str, Tensor]]) -> Tensor:
    if name == "regions.offsets":
        lengths = torch.cat([part[name][1:] - part[name][:-1] for part in parts])
        return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    if name in ("keep", "contents"):  # which some shards lack: all is kept, no file is known
        return torch.cat([part.get(name, _absent(name, part)) for part in parts])
    return torch.cat([part[name] for part in parts])


def _absent(name: str, part: Mapping[str, Tensor]) -> Tensor:
    if name == "keep":
        return torch.ones(len(part["regions.values"]), dtype=torch.bool)
    return torch.zeros(len(part["global"]), 2, dtype=torch.int64)
