"""A query's whole way, stage by stage, beside the kernel alone.

    python benchmarks/pipeline/query.py                       # on the CPU
    python benchmarks/pipeline/query.py --device cuda

A store of N pictures is written as a build would write it (random features, fp16) and opened by a `Searcher` of a real
pipeline (Chinese-CLIP ViT-B-16 with random weights, so that a text costs what it costs). All calls of a round follow
each other, and ratios are of medians over the rounds. What is timed of a warm query:

text          the query's features
first stage   the K images whose global vector is nearest
rerank        the full similarity of the K candidates, `Searcher.score`
candidates    rerank less kernel
kernel        the same op on the same candidates, all features in memory (on a GPU: on the device) in one piece
regions       which region answered, for the ten best
whole         `Searcher.hits`, all of it
search        `Searcher.search` with the text's features given

Scores of the store and of the features in memory must agree before anything is timed. Cold: opening the store and the
first query of a process, its files in the system's cache.
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
from rerank_peers import maxsim_peers
from torch.nn.functional import normalize

from heritage_align.bench.goals import Goal, judged
from heritage_align.bench.machine import commit, label, machine_facts
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline
from heritage_align.search import Searcher
from heritage_align.store import Store
from heritage_align.types import TextFeatures, TextItem

RESULTS = Path(__file__).parents[1] / "results"
RERANK, SEARCH, RESIDENT, STREAMED = "warm rerank", "warm search", "resident query", "streamed batch"
BATCH = 64
GOALS = [
    Goal("rerank of a mapped store against the op on features in memory", RERANK, "float16", ("kernel",), 1.5, 1.15),
    Goal("search but for the text against first stage and op", SEARCH, "float16", ("parts",), 1.3, 1.1),
    Goal("resident: vector to ids above the kernel", RESIDENT, "float16", ("kernel",), 0.25e-3, 0.1e-3, "excess"),
    Goal("store twice the budget, 64 queries, against the copy", STREAMED, "float16", ("copy",), 1.3, 1.1),
]
TEXTS = (
    "蓝地缠枝莲纹，四角饰云纹",
    "a pair of cranes above a lotus pond",
    "红地团窠对鹿锦",
    "bats and peaches on blue",
)


def pipeline_of(similarity: dict[str, Any], model: str, device: str) -> Pipeline:
    """Return a pipeline with a published architecture at random weights, or a checkpoint of ours."""
    weights = {} if model.endswith(".safetensors") else {"checkpoint": "random"}
    return Pipeline.from_config(
        {
            "version": 1,
            "name": "query",
            "encoder": {"name": "cn_clip", "model": model, **weights},
            "proposer": {"name": "random_crops"},
            "fragmenter": {"name": "punctuation"},
            "similarity": similarity,
            "runtime": {"device": device, "precision": "fp32" if device == "cpu" else "fp16"},
        }
    )


def rounds_of(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time all calls one after the other, in rounds; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in calls if number % 2 else reversed(calls):
            start = time.perf_counter()
            calls[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                taken[name].append(time.perf_counter() - start)
    return taken


def percentiles(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return p50 and p95 of each call in seconds."""
    cuts = {name: statistics.quantiles(times, n=20, method="inclusive") for name, times in taken.items()}
    return {name: {"p50": cut[9], "p95": cut[18]} for name, cut in cuts.items()}


def resident_mib() -> dict[str, float]:
    """Return this process's memory in MiB: allocated, mapped files, and the most there ever was of both."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "VmHWM")}


def measure_stages(pipeline: Pipeline, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Open the store cold, check, and time every stage of one query after another."""
    before, start = resident_mib(), time.perf_counter()
    searcher = Searcher(pipeline, Store.open(folder))
    opened, items = time.perf_counter() - start, [TextItem(str(i), text) for i, text in enumerate(TEXTS)]
    k = arguments.candidates
    pipeline.encode_texts(items)  # the model's own first call is not the store's
    start = time.perf_counter()
    searcher.hits(items[:1], candidates=k)
    cold, after = time.perf_counter() - start, resident_mib()
    texts = pipeline.encode_texts(items[:1])
    blocks = searcher._vectors.blocks("global")
    rows, _ = pipeline.index.search(blocks, texts.global_features, k)
    memory = searcher.store.gather(torch.arange(len(searcher.store)), pipeline.device)
    with torch.inference_mode():
        alone = pipeline.score(memory, texts, rows).cpu()
        if not torch.allclose(searcher.score(texts, rows), alone, atol=1e-6 if pipeline.device.type == "cpu" else 1e-4):
            raise AssertionError("scores of the store and of features in memory differ")

    def first_stage() -> None:
        pipeline.index.search(searcher._vectors.blocks("global"), texts.global_features, k)

    def kernel() -> None:
        with torch.inference_mode():
            pipeline.score(memory, texts, rows)

    encode = pipeline.encode_texts

    def search() -> None:
        pipeline.encode_texts = lambda _: texts  # type: ignore[method-assign]
        try:
            searcher.search(items[:1], candidates=k)
        finally:
            pipeline.encode_texts = encode  # type: ignore[method-assign]

    best = rows[:, :10].cpu()
    taken = rounds_of(
        {
            "text": lambda: encode(items[:1]),
            "first stage": first_stage,
            "rerank": lambda: searcher.score(texts, rows),
            "kernel": kernel,
            "regions": lambda: searcher.regions(best, texts, items[:1]),
            "whole": lambda: searcher.hits(items[:1], candidates=k),
            "search": search,
        },
        arguments.rounds,
    )
    stages = percentiles(taken)
    # What the rerank does besides the kernel: candidates to shards and back.
    extra = [a - b for a, b in zip(taken["rerank"], taken["kernel"])]
    stages["candidates"] = percentiles({"candidates": extra})["candidates"]
    parts = sum(stages[name]["p50"] for name in ("text", "first stage", "rerank", "regions"))
    return {
        "stages": stages,
        "everything_else": stages["whole"]["p50"] - parts,
        "whole_over_kernel": stages["whole"]["p50"] / stages["kernel"]["p50"],
        "cold": {"open": opened, "first_query": cold},
        "memory_mib": {name: after[name] - before[name] for name in before},
    }


def stage_rows(stages: dict[str, dict[str, float]], device: str) -> list[dict[str, Any]]:
    """Return the rows that the goals of one query are judged by."""
    search, kernel = stages["search"]["p50"], stages["kernel"]["p50"]
    if device != "cpu":  # an excess is of the eager call above the graph: here of the whole above the kernel
        return [row(RESIDENT, "ours", search), row(RESIDENT, "ours", kernel, "graph")]
    return [
        row(RERANK, "ours", stages["rerank"]["p50"]),
        row(RERANK, "kernel", kernel),
        row(SEARCH, "ours", search),
        row(SEARCH, "parts", stages["first stage"]["p50"] + kernel),
    ]


def row(case: str, contender: str, p50: float, mode: str = "eager") -> dict[str, Any]:
    """Return one row of times."""
    return {"case": case, "dtype": "float16", "contender": contender, "mode": mode, "p50": p50}


def measure_streaming(pipeline: Pipeline, folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Time 64 queries over a store of which a GPU may keep half.

    Beside them the copy of what they touch to the GPU from pinned memory, and its reading from the mapped files.
    """
    store = Store.open(folder)
    features = sum(entry.bytes for entry in store.manifest.shards)
    config = pipeline.config.as_dict()
    config["runtime"]["device_memory"] = f"{features // 2}B"
    halved = Pipeline.from_config(config)
    searcher = Searcher(halved, store)
    generator = torch.Generator().manual_seed(2)
    rows = torch.stack([torch.randperm(len(store), generator=generator)[: arguments.candidates] for _ in range(BATCH)])
    vectors = normalize(torch.randn(BATCH, store.manifest.dim, generator=generator), dim=1).to(pipeline.device)
    texts = TextFeatures(tuple(map(str, range(BATCH))), vectors)
    scorer: Any = searcher._scorer
    touched = rows[rows >= scorer.resident_rows].unique()
    piece = torch.empty(int(store.region_bytes(touched).sum()), dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(piece, device=pipeline.device)
    numbers = torch.searchsorted(store.starts, touched, right=True).unique() - 1
    regions = [store.shard_features(number, global_features=False).regions for number in numbers.tolist()]
    mapped = [part.values.flatten().view(torch.uint8) for part in regions if part is not None]

    def read() -> None:
        start = 0
        for values in mapped:
            end = min(len(piece), start + len(values))
            piece[start:end].copy_(values[: end - start])
            start = end

    calls = {
        "ours": lambda: searcher.score(texts, rows),
        "copy": lambda: there.copy_(piece, non_blocking=True),
        "read": read,
    }
    return percentiles(rounds_of(calls, max(3, arguments.rounds // 4)))


def measure_peers(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rerank by MaxSim: 1 query of 32 x 128, K documents of 180 x 128 in a mapped store, beside other libraries."""
    pipeline = pipeline_of({"name": "late_interaction", "aggregate": "sum"}, arguments.model, arguments.device)
    write_store(folder, arguments.rows, 128, regions=180)
    searcher = Searcher(pipeline, Store.open(folder))
    generator = torch.Generator().manual_seed(3)
    query = normalize(torch.randn(32, 128, generator=generator), dim=1).half().to(pipeline.device)
    texts = TextFeatures(("q",), query[:1].float(), Ragged(query, torch.tensor([0, 32])))
    rows = torch.randperm(arguments.rows, generator=generator)[: arguments.candidates]
    everything = searcher.store.gather(torch.arange(arguments.rows), pipeline.device).regions
    assert everything is not None
    documents = everything.values.view(arguments.rows, 180, 128)
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: searcher.score(texts, rows[None])}
    found, missing = maxsim_peers(query, documents, rows)
    calls.update(found)
    expected = calls["ours"]()[0].float().cpu()
    for name, call in calls.items():
        difference = float((torch.as_tensor(call()).reshape(-1).float().cpu() - expected).abs().max())
        if difference > 0.1:  # sums of 32 cosines that some libraries round to fp16 or bf16
            raise AssertionError(f"{name}: scores differ by {difference}")
    return {"times": percentiles(rounds_of(calls, arguments.rounds)), "not_installed": missing}


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="ViT-B-16", help="of Chinese-CLIP, or a checkpoint of ours")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--regions", type=int, default=196)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--stores", type=Path, help="keep the stores here, and use those that are there")
    parser.add_argument("--out", type=Path, help="JSON to write; benchmarks/results/query-DEVICE.json by default")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    report: dict[str, Any] = {"commit": commit(), "machine": machine_facts(device), "cases": {}}
    report["settings"] = {k: v for k, v in vars(arguments).items() if k not in ("out", "stores")}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        stores = arguments.stores or Path(scratch)
        cases = {
            "laclip by text": ({"name": "laclip", "conditioning": "text"}, arguments.regions),
            "scan": ({"name": "scan"}, 36),
        }
        for name, (similarity, regions) in cases.items():
            pipeline = pipeline_of(similarity, arguments.model, arguments.device)
            folder = stores / f"{name.replace(' ', '-')}-{arguments.rows}"
            write_store(folder, arguments.rows, pipeline.encoder.dim, regions=regions, factors=name == "scan")
            case = report["cases"][name] = measure_stages(pipeline, folder, arguments)
            show(name, case)
            if name == "laclip by text":
                rows += stage_rows(case["stages"], arguments.device)
                if device.type == "cuda":
                    case["streamed"] = measure_streaming(pipeline, folder, arguments)
                    rows += [row(STREAMED, who, times["p50"]) for who, times in case["streamed"].items()]
                    print(*(f"streamed {who} {t['p50'] * 1e3:.2f} ms;" for who, t in case["streamed"].items()))
        report["maxsim_rerank"] = peers = measure_peers(stores / f"maxsim-{arguments.rows}", arguments)
    for name, times in peers["times"].items():
        print(f"MaxSim rerank {name:<28}{times['p50'] * 1e3:9.2f} ms  p95 {times['p95'] * 1e3:9.2f}")
    report["goals"] = judged(rows, GOALS, report["commit"])
    for goal in report["goals"]:
        value = f"{goal['value']:.4g}" if "value" in goal else ""
        print(f"{goal['goal']:<66}{goal['verdict']:>13} {value}")
    out = arguments.out or RESULTS / f"query-{label(device)}.json"
    out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    print(f"wrote {out}")


def show(name: str, case: dict[str, Any]) -> None:
    """Print the stages of one case."""
    for stage, times in case["stages"].items():
        print(f"{name:<16}{stage:<14}{times['p50'] * 1e3:9.2f} ms  p95 {times['p95'] * 1e3:9.2f}")
    cold = case["cold"]
    print(
        f"{name:<16}everything else {case['everything_else'] * 1e3:.2f} ms; whole over kernel "
        f"{case['whole_over_kernel']:.2f}; opening {cold['open'] * 1e3:.0f} ms, first query "
        f"{cold['first_query'] * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
