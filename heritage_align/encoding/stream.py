"""Pictures through a stage, batch by batch: decoding runs in threads while the model works on the batch before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from heritage_align.encoding.preparation import Prepared
from heritage_align.encoding.sources import ImageSource, OnError
from heritage_align.encoding.stage import ImageStage, Masks
from heritage_align.errors import ImageError
from heritage_align.types import ImageFeatures

Result = TypeVar("Result")
Job = tuple[str, "Future[Prepared | ImageError]"]


def encode_images(
    stage: ImageStage, sources: Iterable[ImageSource], *, batch_size: int, workers: int, on_error: OnError
) -> Iterator[ImageFeatures]:
    """Yield features batch by batch, in the order of the sources; bad pictures are reported and left out.

    At most two batches of pictures are in memory: one being encoded, one being decoded; on a GPU, whose work is queued,
    a third that it has not finished. Where regions and features come from a file no picture is opened.
    """
    if not stage.pictures:
        listed = iter(sources)
        while names := [source.id for source in islice(listed, batch_size)]:
            yield stage.look_up(names)
        return

    def encoded(pictures: list[Prepared], ids: list[str], pool: ThreadPoolExecutor) -> ImageFeatures:
        return stage.encode(pictures, ids, pool, batch_size)

    yield from _decoded_ahead(stage, encoded, sources, batch_size, workers, on_error)


def mask_images(
    stage: ImageStage, sources: Iterable[ImageSource], *, batch_size: int, workers: int, on_error: OnError
) -> Iterator[Masks]:
    """Yield which regions are kept batch by batch, as `encode_images` would, without encoding anything."""

    def masked(pictures: list[Prepared], ids: list[str], _: ThreadPoolExecutor) -> Masks:
        return stage.masks([picture.image for picture in pictures], ids)

    yield from _decoded_ahead(stage, masked, sources, batch_size, workers, on_error)


def _decoded_ahead(
    stage: ImageStage,
    work: Callable[[list[Prepared], list[str], ThreadPoolExecutor], Result],
    sources: Iterable[ImageSource],
    batch_size: int,
    workers: int,
    on_error: OnError,
) -> Iterator[Result]:
    """Yield what `work` makes of each batch, while threads decode the batch after it."""

    def decoded(source: ImageSource) -> Prepared | ImageError:
        try:
            return stage.load(source)
        except ImageError as error:
            return error

    def done(jobs: list[Job], pool: ThreadPoolExecutor) -> Result | None:
        ids, pictures = [], []
        for image_id, future in jobs:
            result = future.result()
            if isinstance(result, ImageError):
                on_error(image_id, result)
                continue
            ids.append(image_id)
            pictures.append(result)
        return work(pictures, ids, pool) if ids else None

    remaining = iter(sources)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        ahead: deque[list[Job]] = deque()
        while True:
            batch = list(islice(remaining, batch_size))
            if batch:
                ahead.append([(source.id, pool.submit(decoded, source)) for source in batch])
            if not ahead:
                return
            if len(ahead) < 2 and batch:
                continue
            # In a function, so that its pictures are freed before the batch after the next is submitted.
            made = done(ahead.popleft(), pool)
            if made is not None:
                yield made
