"""Everything in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from heritage_align import Pipeline, Searcher
from heritage_align.encoding import ImageSource
from heritage_align.plugin import BuildContext, ImageError, ImageFeatures, ShardJob, encode_shards_here
from heritage_align_plugins.local_executor.config import LocalExecutorConfig


class LocalExecutor:
    """Encodes and searches here; see `protocols.Executor`."""

    def __init__(self, config: LocalExecutorConfig, context: BuildContext) -> None:
        pass

    def encode_shards(
        self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Callable[[int], object]
    ) -> None:
        """Encode shards one after the other."""
        encode_shards_here(pipeline, jobs, dtype, advance)

    def encode_stream(
        self, pipeline: Pipeline, sources: Sequence[ImageSource], *, on_error: Callable[[str, ImageError], None]
    ) -> Iterator[ImageFeatures]:
        """Encode batch by batch."""
        return pipeline.encode_stream(sources, on_error=on_error)

    def open_searcher(
        self,
        pipeline: Pipeline,
        path: str | Path,
        *,
        resident: bool = True,
        progress: Callable[[int, int], object] | None = None,
    ) -> Searcher:
        """Open a store."""
        return Searcher.open_here(pipeline, path, resident=resident, progress=progress)
