"""Pictures through a stage, batch by batch: decoding runs in threads while the model works on the batch before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from heritage_align.encoding.preparation import Prepared
from heritage_align.encoding.sources import ImageSource, OnError
from heritage_align.encoding.stage import ImageStage
from heritage_align.errors import ImageError
from heritage_align.types import ImageFeatures

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

    def decoded(source: ImageSource) -> Prepared | ImageError:
        try:
            return stage.load(source)
        except ImageError as error:
            return error

    def encoded(jobs: list[Job], pool: ThreadPoolExecutor) -> ImageFeatures | None:
        ids, pictures = [], []
        for image_id, future in jobs:
            result = future.result()
            if isinstance(result, ImageError):
                on_error(image_id, result)
                continue
            ids.append(image_id)
            pictures.append(result)
        return stage.encode(pictures, ids, pool, batch_size) if ids else None

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
            features = encoded(ahead.popleft(), pool)
            if features is not None:
                yield features
