"""Checks of executors: each does the work of `Case.system`, which names data, beside this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

import torch

from heritage_align.config import load_config
from heritage_align.features import concat_images
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.plugins import default_registry
from heritage_align.search import Searcher
from heritage_align.shards import ShardJob, encode_shards_here
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect
from heritage_align.types import TextItem

QUERIES = [TextItem("q1", "a crane above waves"), TextItem("q2", "蓝地缠枝莲纹")]


def _pipeline(case: Case, *, here: bool = False) -> Pipeline:
    if not case.system:
        raise SkipTest("the case names no system whose data could be encoded")
    registry = case.registry or default_registry()
    config = load_config(case.system, registry=registry, label="Case.system")
    return Pipeline(config if here else replace(config, executor=case.component), registry)


@check("executor")
def check_shards_are_those_of_one_process(case: Case) -> None:
    """Whoever encodes, a store is the same to the byte: else it would depend on who was there when it was built."""
    pipeline, told = _pipeline(case), list[int]()
    sources = dataset_sources(pipeline.dataset())
    size = max(1, len(sources) // 2)
    with TemporaryDirectory() as here, TemporaryDirectory() as there:
        runs = [sources[start : start + size] for start in range(0, len(sources), size)]
        names = [f"shard-{number}.safetensors" for number in range(len(runs))]
        dtype = pipeline.config.store.dtype
        encode_shards_here(pipeline, [ShardJob(Path(here, n), r) for n, r in zip(names, runs)], dtype, lambda _: None)
        (Path(there) / "build.json").write_text("{}", encoding="utf-8")  # which every store has before its shards
        pipeline.executor.encode_shards(
            pipeline, (ShardJob(Path(there, n), r) for n, r in zip(names, runs)), dtype, told.append
        )
        lost = [name for name in names if not Path(there, name).exists()]
        expect(not lost, f"did not write {', '.join(lost)}")
        others = [name for name in names if Path(here, name).read_bytes() != Path(there, name).read_bytes()]
        expect(not others, f"{', '.join(others)} differ from what encode_shards_here writes")
    expect(sum(told) == len(sources), f"said that {sum(told)} pictures are done, there were {len(sources)}")


@check("executor")
def check_features_come_in_order(case: Case) -> None:
    """An evaluation pairs features with texts by the order of the pictures."""
    pipeline, missed = _pipeline(case), list[str]()
    sources = dataset_sources(pipeline.dataset())
    found = list(pipeline.executor.encode_stream(pipeline, sources, on_error=lambda i, _: missed.append(i)))
    wanted = concat_images(list(pipeline.encode_stream(sources, on_error=lambda *_: None)))
    features = concat_images(found)
    expect(features.ids == wanted.ids, f"encode_stream() gave pictures {features.ids}, expected {wanted.ids}")
    same = torch.equal(features.global_features, wanted.global_features)
    expect(same, "the features of encode_stream() are not those of Pipeline.encode_stream()")
    expect(len(missed) + len(features) == len(sources), f"encode_stream() told of {len(missed)} bad pictures")


@check("executor")
def check_answers_are_those_of_one_process(case: Case) -> None:
    """Scores that depend on who held the store could not be compared from one day to the next."""
    pipeline = _pipeline(case)
    with TemporaryDirectory() as folder:
        build_index(_pipeline(case, here=True), dataset_sources(pipeline.dataset()), folder)
        with Searcher.open(pipeline, folder) as searcher, Searcher.open_here(pipeline, folder) as here:
            found, wanted = searcher.search(QUERIES, top_k=3), here.search(QUERIES, top_k=3)
    expect(found == wanted, f"a search answers {found.ids}, {found.scores}, expected {wanted.ids}, {wanted.scores}")
