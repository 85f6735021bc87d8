"""Region features out of a store of this library: vectors in the encoder's space instead of a detector's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.safetensors_file import whole_boxes
from heritage_align.errors import DataError


def read_store(folder: Path) -> RegionFeatures:
    """Read a finished store into memory: fp16 stays so, everything else becomes fp32.

    Raises:
        StoreError: there is no store, or it is half built or damaged.
        DataError: it was built without regions.
    """
    import torch

    from heritage_align.store import Store

    store = Store.open(folder)
    found = store.gather(torch.arange(len(store)))
    if found.regions is None:
        raise DataError(f"{folder}: is a store without regions")
    values = found.regions.dequantised()
    values = values if values.dtype == torch.float16 else values.float()
    return RegionFeatures(
        str(folder),
        found.ids,
        found.regions.offsets.numpy(),
        values.numpy(),
        whole_boxes(len(values)) if found.boxes is None else found.boxes.numpy(),
        global_features=found.global_features.float().numpy(),
        keep=None if found.keep is None else found.keep.numpy().astype(np.bool_),
    )


def store_dim(folder: Path) -> int:
    """Return the width of a store's vectors, from its manifest; raises StoreError."""
    from heritage_align.store.layout import read_manifest

    return read_manifest(folder).dim
