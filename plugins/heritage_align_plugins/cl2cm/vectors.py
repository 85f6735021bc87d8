"""One vector a picture, made once before training: from an encoder of pictures, or from a file of features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from heritage_align.data import CaptionPair
from heritage_align.encoding import ImageStage, encode_images
from heritage_align.plugin import (
    BuildContext,
    Config,
    ConfigError,
    DataError,
    Dataset,
    Encoder,
    FeatureReader,
    ImageError,
    Registry,
    build_component,
    dataset_sources,
    takes_features,
    write_atomically,
)
from heritage_align.training import distributed

CACHE = "image_vectors.safetensors"


@dataclass(frozen=True)
class ImageVectors:
    """Vectors of pictures.

    Attributes:
        rows: image id -> row.
        values: ``(n, image_dim)`` fp32.
    """

    rows: dict[str, int]
    values: Tensor

    def of(self, pairs: Sequence[CaptionPair], name: str) -> list[CaptionPair]:
        """Return the pairs whose picture has a vector; raises DataError that names the data set where none has."""
        kept = [pair for pair in pairs if pair.image_id in self.rows]
        if not kept:
            raise DataError(f"{name}: has no pair of captions of a picture that can be read")
        return kept


class VectorSource:
    """Makes vectors as the pipeline of a configuration would, and keeps those of an encoder in the run's folder.

    Args:
        config: its encoder encodes the pictures; where it takes features, its proposer reads them.
        context: device and precision.
        registry: where names are looked up.
        folder: of the run.
        quiet: no progress bar.

    Raises:
        ConfigError: the encoder takes features and the proposer reads none from a file.
    """

    def __init__(
        self, config: Config, context: BuildContext, registry: Registry, folder: Path, *, quiet: bool = False
    ) -> None:
        self._runtime, self._folder, self._quiet = config.runtime, folder, quiet
        self._device = torch.device(context.device)
        self.from_file = takes_features(config)
        encoder: Encoder = build_component(config.encoder, context, registry)
        self._stage = ImageStage(encoder)
        self._reader: FeatureReader | None = None
        if self.from_file:
            assert config.proposer is not None
            proposer = build_component(config.proposer, context, registry)
            if not isinstance(proposer, FeatureReader):
                fault = f"proposer.name: {config.proposer.spec.name!r} computes features; cl2cm reads them from a file"
                raise ConfigError([fault], config.source)
            self._reader = proposer

    def vectors(self, dataset: Dataset, part: str) -> ImageVectors:
        """Return the vectors of a data set; pictures that cannot be read are left out and named.

        Args:
            dataset: its pictures.
            part: ``train`` or ``validation``, for the file in the run's folder.

        Raises:
            DataError: no picture can be read, or a vector is not finite.
        """
        if self._reader is not None:
            found = self._reader.lookup(dataset.image_ids)
            whole = np.stack([np.asarray(region.global_feature, dtype=np.float32) for region in found])
            ids, values = dataset.image_ids, torch.from_numpy(whole)
        else:
            ids, values = self._kept(dataset, part)
        odd = (~values.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if odd:
            raise DataError(f"{dataset.name}: picture {ids[odd[0]]!r}: its vector is not finite")
        return ImageVectors({image_id: row for row, image_id in enumerate(ids)}, values.to(self._device))

    def _kept(self, dataset: Dataset, part: str) -> tuple[tuple[str, ...], Tensor]:
        """Read what an earlier start of this run encoded, or encode and keep it."""
        path = self._folder / f"{part}_{CACHE}"
        key = hashlib.sha256(
            json.dumps([self._stage.encoder.fingerprint(), dataset.name, dataset.image_ids]).encode()
        ).hexdigest()
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") == key:
                    return tuple(json.loads(metadata["ids"])), file.get_tensor("vectors")
        except (OSError, SafetensorError):
            pass  # none yet, or half of one: it is only a shortcut
        ids, values = self._encoded(dataset)
        if distributed.rank() == 0:
            metadata = {"key": key, "ids": json.dumps(ids)}
            write_atomically(path, lambda temporary: save_file({"vectors": values}, temporary, metadata))
        return ids, values

    def _encoded(self, dataset: Dataset) -> tuple[tuple[str, ...], Tensor]:
        ids: list[str] = []
        parts: list[Tensor] = []
        first: list[ImageError] = []
        hidden = True if self._quiet or distributed.rank() else None
        with tqdm(total=len(dataset.image_ids), desc="pictures", unit="img", leave=False, disable=hidden) as bar:

            def left_out(image_id: str, error: ImageError) -> None:
                first.append(error)
                tqdm.write(f"left out {image_id}: {error}")

            for features in encode_images(
                self._stage,
                dataset_sources(dataset),
                batch_size=self._runtime.batch_size,
                workers=self._runtime.threads(),
                on_error=left_out,
            ):
                ids.extend(features.ids)
                parts.append(features.global_features.float().cpu())
                bar.update(len(features))
        if not parts:
            raise DataError(f"{dataset.name}: none of its pictures can be read, the first: {first[0]}")
        return tuple(ids), torch.cat(parts)
