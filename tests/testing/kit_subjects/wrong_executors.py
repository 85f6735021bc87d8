"""Executors with one fault each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kit_subjects.right import Executor

from heritage_align.encoding import ImageSource
from heritage_align.pipeline import Pipeline
from heritage_align.search import Searcher
from heritage_align.shards import ShardJob, encode_shards_here

Advance = Callable[[int], object]


class LosesTheLastPicture(Executor):
    def encode_shards(self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Advance) -> None:
        short = [job._replace(sources=job.sources[:-1]) for job in jobs]
        encode_shards_here(pipeline, short, dtype, advance)


class ForgetsTheLast(Executor):
    def encode_shards(self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Advance) -> None:
        encode_shards_here(pipeline, list(jobs)[:1], dtype, advance)


class SaysNothing(Executor):
    def encode_shards(self, pipeline: Pipeline, jobs: Iterable[ShardJob], dtype: str, advance: Advance) -> None:
        encode_shards_here(pipeline, jobs, dtype, lambda _: None)


class LastFirst(Executor):
    def encode_stream(self, pipeline: Pipeline, sources: Sequence[ImageSource], *, on_error: Any) -> Any:
        return pipeline.encode_stream(sources[::-1], on_error=on_error)


class HalfTheStore(Executor):
    def open_searcher(
        self, pipeline: Pipeline, path: str | Path, *, resident: bool = True, progress: Any = None
    ) -> Searcher:
        searcher = Searcher.open_here(pipeline, path)
        searcher.search = lambda items, **_: Searcher.search(searcher, items, top_k=1)  # type: ignore[method-assign]
        return searcher
