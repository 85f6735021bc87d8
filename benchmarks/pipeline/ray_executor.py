"""What a Ray cluster on this machine costs over one process: a build, and a query of a store that workers hold.

    OMP_NUM_THREADS=1 python benchmarks/pipeline/ray_executor.py

One worker of one thread stands against one process of one thread: the ratios are what Ray's processes, its object store
and its calls cost, and not what more cores would bring. A build is made of few and of many pictures; the difference is
the work of a picture, the rest is the start of Ray's workers, which a collection of any size pays once. Shards are
compared by their bytes and answers by their scores before anything counts. Each time is a median of the rounds, which
take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from made_stores import write_store

from heritage_align.bench.goals import Goal, judged
from heritage_align.bench.machine import commit, label, machine_facts
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher
from heritage_align.types import TextItem

RESULTS = Path(__file__).parents[1] / "results"
PICTURE, QUERY, BATCH = "build, a picture", "query, K = 1000", "64 queries, K = 1000"
LOCAL = ("local",)
GOALS = [
    Goal("a picture of a build on Ray against one process", PICTURE, "float16", LOCAL, 1.5, 1.15),
    Goal("a query of a store held by workers against one process", QUERY, "float16", LOCAL, 2.0, 1.3),
    Goal("64 queries at once, held by workers, against one process", BATCH, "float16", LOCAL, 1.5, 1.15),
]
FEW, IMAGES, REGIONS = 32, 4000, 49
TEXTS = [TextItem(str(n), f"蓝地缠枝莲纹，白鹤，{n} cranes above a lotus pond") for n in range(64)]


def pipeline_of(executor: dict[str, Any], artworks: int) -> Pipeline:
    """Return recipe scan's system over drawn pictures, two of each artwork."""
    return Pipeline.from_config(
        {
            "version": 1,
            "name": "ray",
            "encoder": {"name": "cn_clip", "model": "motif-small"},
            "proposer": {"name": "patch_grid", "mode": "windows"},
            "fragmenter": {"name": "punctuation"},
            "similarity": {"name": "scan"},
            "store": {"shard_images": 32},
            "search": {"candidates": 1000},
            "data": {"name": "motifs", "split": "train", "artworks": artworks, "variants": 2},
            "runtime": {"device": "cpu"},
            "executor": executor,
        }
    )


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_builds(executors: dict[str, dict[str, Any]], many: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of builds of few and of many pictures, by who encodes."""
    taken: dict[str, dict[int, list[float]]] = {name: {FEW: [], many: []} for name in executors}
    pipelines = {(name, n): pipeline_of(executor, n // 2) for name, executor in executors.items() for n in (FEW, many)}
    for _ in range(rounds):
        for pictures in (FEW, many):
            with tempfile.TemporaryDirectory() as folder:
                for name in executors:
                    pipeline, store = pipelines[name, pictures], Path(folder) / name
                    sources = dataset_sources(pipeline.dataset())
                    taken[name][pictures].append(timed(lambda p=pipeline, s=sources, f=store: build_index(p, s, f)))  # type: ignore[misc]
                shards = [[f.read_bytes() for f in sorted(Path(folder, name).glob("shard-*"))] for name in executors]
                if any(found != shards[0] for found in shards):
                    raise AssertionError("the executors wrote different shards")
    if any(statistics.median(times[FEW]) >= statistics.median(times[many]) for times in taken.values()):
        raise AssertionError(f"{many} pictures took less than {FEW}: the machine is too busy, or --pictures too few")
    return {
        name: {
            "few": statistics.median(times[FEW]),
            "many": statistics.median(times[many]),
            "first": times[FEW][0],
            "picture": (statistics.median(times[many]) - statistics.median(times[FEW])) / (many - FEW),
        }
        for name, times in taken.items()
    }


def measure_queries(executors: dict[str, dict[str, Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of one query and of 64 together, without their texts, by who holds the store."""
    pipelines = {name: pipeline_of(executor, FEW // 2) for name, executor in executors.items()}
    local = pipelines["local"]
    encoded = {n: local.encode_texts(TEXTS[:n]) for n in (1, 64)}
    taken: dict[str, dict[int, list[float]]] = {name: {1: [], 64: []} for name in executors}
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), IMAGES, local.encoder.dim, regions=REGIONS, factors=True, identity=local.identity())
        searchers = {name: Searcher.open(pipeline, folder) for name, pipeline in pipelines.items()}
        for pipeline in pipelines.values():
            pipeline.encode_texts = lambda items: encoded[len(items)]  # type: ignore[method-assign]
        runs = [searcher.search(TEXTS) for searcher in searchers.values()]  # the first one, which opens the parts
        if any(run != runs[0] for run in runs):
            raise AssertionError("the executors gave different answers")
        for _ in range(rounds):
            for count in (1, 64):
                for name, searcher in searchers.items():
                    taken[name][count].append(timed(lambda s=searcher, n=count: s.search(TEXTS[:n])))  # type: ignore[misc]
        for searcher in searchers.values():
            searcher.close()
    return {name: {str(n): statistics.median(times) for n, times in by.items()} for name, by in taken.items()}


def main() -> int:
    """Measure, write the result, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pictures", type=int, default=300, help="of the larger build: their work must show beside the start"
    )
    parser.add_argument("--rounds", type=int, default=3, help="builds of each kind; 0 for queries alone")
    parser.add_argument("--queries", type=int, default=40, help="queries of each kind")
    parser.add_argument("--output", type=Path, default=RESULTS / "ray.json")
    given = parser.parse_args()
    executors: dict[str, dict[str, Any]] = {"local": {"name": "local"}, "ray": {"name": "ray", "workers": 1}}
    builds = measure_builds(executors, given.pictures, given.rounds) if given.rounds else {}
    queries = measure_queries(executors, given.queries)
    rows = []
    for name, contender in (("local", "local"), ("ray", "ours")):
        found = {QUERY: queries[name]["1"], BATCH: queries[name]["64"]}
        if builds:
            found[PICTURE] = builds[name]["picture"]
        rows += [{"case": c, "dtype": "float16", "contender": contender, "p50": p50} for c, p50 in found.items()]
    goals = judged(rows, GOALS, commit())
    document = {
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "pictures": {"few": FEW, "many": given.pictures},
        "store": {"images": IMAGES, "regions": REGIONS},
        "start_seconds": builds["ray"]["few"] - builds["local"]["few"] if builds else None,
        "builds": builds,
        "queries": queries,
        "rows": rows,
        "goals": goals,
    }
    given.output.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(label(torch.device("cpu")))
    for goal in goals:
        print(f"{goal['goal']:<60}{goal.get('value', float('nan')):7.2f}  {goal['verdict']}")
    if builds:
        print(f"workers start in {document['start_seconds']:.1f} s, with Ray itself {builds['ray']['first']:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
