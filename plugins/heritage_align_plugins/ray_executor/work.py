"""What workers are given, and what they make of it: a configuration's text, never an object of a plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from heritage_align import Pipeline, __version__, load_config
from heritage_align.plugin import Dataset, HeritageAlignError, StoreError, build_dataset, file_digest
from heritage_align_plugins.ray_executor.config import RayExecutorConfig
from heritage_align_plugins.ray_executor.faults import named
from heritage_align_plugins.ray_executor.session import most_of, room_of_nodes


class Work(NamedTuple):
    """What is the same for all tasks of one configuration.

    Attributes:
        config: the resolved configuration as YAML, without its executor: a worker does its share itself.
        folder: the driver's working directory, to which the configuration's relative paths are relative.
        version: of heritage-align.
        encoder, image_config: what the driver's pipeline makes (`Pipeline.identity`); a worker's must be the same.
        threads: of a worker.
    """

    config: str
    folder: str
    version: str
    encoder: str
    image_config: str
    threads: int


def work_of(pipeline: Pipeline, settings: RayExecutorConfig) -> Work:
    """Return what workers need to build a pipeline like this one."""
    document = pipeline.config.as_dict()
    del document["executor"]
    runtime = document["runtime"]
    runtime["device"] = "cuda" if gpus_of(pipeline, settings) else "cpu"
    if runtime["workers"] is None:
        runtime["workers"] = settings.cpus
    text = str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    identity = pipeline.identity()
    return Work(text, os.getcwd(), __version__, identity["encoder"], identity["image_config"], settings.cpus)


def gpus_of(pipeline: Pipeline, settings: RayExecutorConfig) -> float:
    """Return the GPUs that a worker takes."""
    if settings.gpus is not None:
        return settings.gpus
    return 1.0 if most_of("GPU") and pipeline.config.runtime.device != "cpu" else 0.0


def workers_that_fit(settings: RayExecutorConfig, gpus: float) -> int:
    """Return how many workers the cluster's nodes have room for, at least one.

    Args:
        settings: of the executor.
        gpus: of a worker.
    """
    return max(1, sum(room_of_nodes(settings.cpus, gpus)))


@contextmanager
def at_work(work: Work) -> Iterator[None]:
    """Do a share of the work as the driver would: in its folder, by the same version; errors name the node.

    Raises:
        HeritageAlignError: as the work does.
    """
    try:
        if work.version != __version__:
            raise StoreError(f"has heritage-align {__version__}, the driver {work.version}; install the same on all")
        with suppress(OSError):  # where it is missing here, absolute paths still work, and others are named
            os.chdir(work.folder)
        torch.set_num_threads(work.threads)
        yield
    except HeritageAlignError as error:
        raise named(error) from error


def mark_of(folder: Path) -> tuple[str, str]:
    """Return a file of a store that says what it is, and its digest: nodes that see another folder have another."""
    for name in ("build.json", "manifest.json"):
        if (folder / name).exists():
            return str(folder / name), file_digest(folder / name)
    raise StoreError(f"{folder}: holds neither build.json nor manifest.json")


def refuse_other_folder(mark: str, digest: str) -> None:
    """Raise StoreError where this node does not see the driver's store."""
    try:
        found = file_digest(Path(mark))
    except OSError as error:
        raise StoreError(
            f"{Path(mark).parent}: is not the driver's folder: {error.strerror or error}; every node of the cluster "
            "needs the store under the same path, on a file system that they share"
        ) from error
    if found != digest:
        raise StoreError(f"{mark}: differs from the driver's; every node needs the same folder under this path")


@lru_cache(maxsize=1)
def dataset_of(work: Work) -> tuple[Dataset, frozenset[str]]:
    """Return the data set, and the ids of its pictures; built once a process."""
    dataset = build_dataset(load_config(_document(work), label="the driver's config"))
    return dataset, frozenset(dataset.image_ids)


@lru_cache(maxsize=1)
def pipeline_of(work: Work) -> Pipeline:
    """Return the pipeline; built once a process, of the plugins that are found there.

    Raises:
        StoreError: it makes other features than the driver's.
    """
    pipeline = Pipeline(load_config(_document(work), label="the driver's config"))
    mine = pipeline.identity()
    for name, theirs in (("encoder", work.encoder), ("image_config", work.image_config)):
        if mine[name] != theirs:
            raise StoreError(f"its {name} is {mine[name]}, the driver's {theirs}; give all nodes the same files")
    return pipeline


def _document(work: Work) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load(work.config)
    return document
