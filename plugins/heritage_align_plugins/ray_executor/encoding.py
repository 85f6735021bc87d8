"""Encode pictures with Ray Data: tasks decode on CPUs, workers encode, tasks write the shards.

A row is a batch of pictures: those that one process would encode together, so that features are the same to the byte.
Rows stay in their order, and a shard's are brought together by their number, which is that of every shard but the last.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray
from PIL import Image
from ray.data import ActorPoolStrategy, DataContext, Dataset

from heritage_align import ImageSource, Pipeline
from heritage_align.plugin import (
    DataError,
    ImageError,
    ShardPart,
    contents_of,
    encode_parts,
    wait_for_copies,
    write_parts,
)
from heritage_align_plugins.ray_executor.config import RayExecutorConfig
from heritage_align_plugins.ray_executor.work import (
    Work,
    at_work,
    dataset_of,
    gpus_of,
    pipeline_of,
    refuse_other_folder,
    work_of,
    workers_that_fit,
)

HALF = 0.5
"""Of a core, which decoding takes and encoding leaves to it: a node of as many cores as a worker has does both."""
WRITING = 0.1
WINDOW = 2**14
"""Batches of one run of Ray Data, whose plan the driver keeps in memory: half a million pictures at 32 a batch."""

SCHEMA = pa.schema([("shard", pa.int64()), ("batch", pa.int64()), ("batches", pa.int64()), ("data", pa.large_binary())])


class Batch(NamedTuple):
    """Pictures that are encoded together.

    Attributes:
        ids: of the pictures.
        contents: digests of their files where they are known already, in their order.
    """

    ids: tuple[str, ...]
    contents: tuple[bytes | None, ...] | None = None


class Decoded(NamedTuple):
    """A batch with its pixels: ``(height, width, 3)`` uint8, why a picture cannot be read, or None where no pixel is
    asked for."""

    ids: tuple[str, ...]
    contents: tuple[bytes | None, ...]
    pictures: tuple[NDArray[np.uint8] | str | None, ...]


class Encoded(NamedTuple):
    """What a batch gave."""

    ids: tuple[str, ...]
    contents: tuple[bytes | None, ...]
    parts: tuple[ShardPart, ...]


class Target(NamedTuple):
    """Where shards are written.

    Attributes:
        files: of the shards, by their number.
        dtype: storage of the features.
        mark: a file of the store that every node must see.
        digest: sha256 of what it holds.
    """

    files: tuple[str, ...]
    dtype: str
    mark: str
    digest: str


def encoded_rows(
    pipeline: Pipeline, settings: RayExecutorConfig, batches: Sequence[tuple[int, int, int, Batch]], dtype: str
) -> Dataset:
    """Return the plan that decodes and encodes batches.

    Args:
        pipeline: of the driver.
        settings: of the executor.
        batches: number of the shard, number in it, how many it has, and the batch.
        dtype: storage of the features.

    Returns:
        Rows of `SCHEMA` in the order of the batches, with `Encoded` as data.
    """
    _set_up(settings)
    work, gpus = work_of(pipeline, settings), gpus_of(pipeline, settings)
    blocks = [_table([row]) for row in batches]
    workers = settings.workers or workers_that_fit(settings, gpus)
    decode: Any = _decode  # Ray's own annotation knows no further arguments
    rows = ray.data.from_arrow(blocks).map_batches(
        decode, batch_size=1, batch_format="pyarrow", fn_args=(work, pipeline.opens_pictures), num_cpus=HALF
    )
    return rows.map_batches(
        EncodeWorker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(work, dtype),
        compute=ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=settings.cpus - HALF,
        num_gpus=gpus,
    )


def written_shards(rows: Dataset, target: Target, work: Work, batches: int) -> Iterator[int]:
    """Write shards of encoded rows; yields the number of each that is written.

    Args:
        rows: of `encoded_rows`.
        target: where.
        work: of the configuration.
        batches: rows of a shard; the last one may have fewer.
    """
    write: Any = _write
    done = rows.map_batches(write, batch_size=batches, batch_format="pyarrow", fn_args=(target, work), num_cpus=WRITING)
    for row in done.iter_rows():
        yield int(row["shard"])


def read_row(row: dict[str, Any]) -> Encoded:
    """Return what a row of `encoded_rows` holds."""
    encoded: Encoded = pickle.loads(row["data"])  # of this job's own workers
    return encoded


class EncodeWorker:
    """Encodes batches; the pipeline is built at the first one: what is wrong with it is then an error of the work."""

    def __init__(self, work: Work, dtype: str) -> None:
        self._work, self._dtype = work, dtype

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encode the rows of a table."""
        with at_work(self._work):
            pipeline = pipeline_of(self._work)
            return _table([(*where, self._encoded(pipeline, decoded)) for *where, decoded in _rows(table)])

    def _encoded(self, pipeline: Pipeline, decoded: Decoded) -> Encoded:
        sources = [ImageSource(i, partial(_picture, p)) for i, p in zip(decoded.ids, decoded.pictures)]
        parts = tuple(encode_parts(pipeline, sources, self._dtype, lambda _: None))
        wait_for_copies()
        return Encoded(decoded.ids, decoded.contents, parts)


def _decode(table: pa.Table, work: Work, pixels: bool) -> pa.Table:
    with at_work(work):
        return _table([(*where, _decoded(batch, work, pixels)) for *where, batch in _rows(table)])


def _decoded(batch: Batch, work: Work, pixels: bool) -> Decoded:
    dataset, known = dataset_of(work)
    unknown = [image_id for image_id in batch.ids if image_id not in known]
    if unknown:
        raise DataError(f"data set {dataset.name!r} has no picture {unknown[0]!r} there; do all nodes see its files?")
    sources = [ImageSource.of(dataset, image_id) for image_id in batch.ids]
    contents = batch.contents
    if contents is None:
        contents = tuple(contents_of(sources, work.threads))
    if not pixels:
        return Decoded(batch.ids, contents, (None,) * len(sources))
    with ThreadPoolExecutor(work.threads, thread_name_prefix="decode") as pool:
        return Decoded(batch.ids, contents, tuple(pool.map(_pixels, sources)))


def _pixels(source: ImageSource) -> NDArray[np.uint8] | str:
    try:
        return np.asarray(source.load())
    except ImageError as error:
        return str(error)


def _picture(pixels: NDArray[np.uint8] | str | None) -> Image.Image:
    assert pixels is not None  # no pixel was asked for: features are looked up by id
    if isinstance(pixels, str):
        raise ImageError(pixels)
    return Image.fromarray(pixels)


def _write(table: pa.Table, target: Target, work: Work) -> pa.Table:
    """Write the shards whose rows are all there; others are left to the driver, which misses them in the answer."""
    shards: dict[int, list[tuple[int, int, Encoded]]] = {}
    for shard, batch, batches, encoded in _rows(table):
        shards.setdefault(shard, []).append((batch, batches, encoded))
    done = []
    with at_work(work):
        refuse_other_folder(target.mark, target.digest)
        for shard, rows in shards.items():
            if [batch for batch, _, _ in rows] == list(range(rows[0][1])):
                contents = {i: c for _, _, e in rows for i, c in zip(e.ids, e.contents)}
                parts = [part for _, _, encoded in rows for part in encoded.parts]
                write_parts(Path(target.files[shard]), parts, target.dtype, contents)
                done.append(shard)
    return pa.table({"shard": pa.array(done, pa.int64())})


def _rows(table: pa.Table) -> Iterator[tuple[int, int, int, Any]]:
    for row in table.to_pylist():
        yield row["shard"], row["batch"], row["batches"], pickle.loads(row["data"])  # of this job's own tasks


def _table(rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    names = SCHEMA.names
    return pa.Table.from_pylist(
        [{**dict(zip(names, where)), "data": pickle.dumps(data, protocol=5)} for *where, data in rows], schema=SCHEMA
    )


def _set_up(settings: RayExecutorConfig) -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True  # its own wrapping loses what a worker raised on the way here
    context.execution_no_progress_timeout_s = settings.patience
    context.enable_progress_bars = False
