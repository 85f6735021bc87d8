"""Exact first-stage search over a memory-mapped store against the bare matrix product and top-k, in one run.

    python benchmarks/pipeline/search.py --rows 1000000 --dim 512

The store is a real one, written shard by shard, of random unit vectors in fp16. The exact index searches it as
``heritage-align search`` does: a shard is mapped, converted to fp32 in cache-sized tiles, multiplied, and let go.
Beside it, in alternating order, run the bare products with everything in memory already:

bare fp32  ``(queries @ matrix.T).topk(k)``, the matrix converted to fp32 beforehand: twice the store's bytes in memory
bare fp16  the same on the fp16 matrix; scores are rounded to fp16, so that it is no replacement, and torch is slow
           at it for more than one query; both are reported because either may be called the bare product
loaded     the exact index over the same fp16 matrix in memory, one block: what mapping and letting go cost

Answers are compared with the bare fp32 product before anything is timed. Memory is what /proc/self/status says of a
process of its own that opens the store and searches it: RssAnon is allocated, RssFile are pages of mapped files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from heritage_align_plugins.exact_index.config import ExactIndexConfig
from heritage_align_plugins.exact_index.index import ExactIndex
from made_stores import SHARD_IMAGES, write_store
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.bench.machine import commit
from heritage_align.bench.timing import seconds, spread
from heritage_align.protocols import BuildContext
from heritage_align.store import Store

RESULT = Path(__file__).parents[1] / "results" / "search.json"
TOLERANCE = 1e-5
"""Scores of two products of the same fp16 values may differ by the order of 512 fp32 additions."""


def queries_of(count: int, dim: int) -> Tensor:
    """Return random unit queries ``(count, dim)``."""
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(1)), dim=1)


def resident() -> dict[str, float]:
    """Return this process's resident memory in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssFile", "VmHWM")}


def memory(folder: Path, count: int, k: int, block_mib: int) -> dict[str, Any]:
    """Search in this process, which did nothing else before, and return what became resident, in MiB."""
    index = ExactIndex(ExactIndexConfig(block_mib=block_mib), BuildContext())
    dim = Store.open(folder).manifest.dim
    queries = queries_of(count, dim)
    index.search([queries[:1].half()], queries, 1)  # what torch allocates once, whatever is searched
    before = resident()
    store = Store.open(folder)
    opened = resident()
    peak = dict(opened)
    blocks = store.first_stage()
    for _ in range(3):
        index.search(_Watched(blocks, peak), queries, k)
    return {
        "before": before,
        "opening_adds": {name: opened[name] - before[name] for name in ("RssAnon", "RssFile")},
        "searching_adds_at_most": {name: peak[name] - opened[name] for name in ("VmRSS", "RssAnon", "RssFile")},
    }


class _Watched(Sequence[Tensor]):
    """Blocks that look at the memory each time when the next one is asked for."""

    def __init__(self, blocks: Sequence[Tensor], peak: dict[str, float]) -> None:
        self._blocks, self._peak = blocks, peak

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        for name, value in resident().items():
            self._peak[name] = max(self._peak[name], value)
        return self._blocks[index]


def assert_same(index: ExactIndex, blocks: Sequence[Tensor], exact: Tensor, queries: Tensor, k: int) -> float:
    """Compare with the bare fp32 product; returns the largest difference of a score.

    Raises:
        AssertionError: a score differs by more than `TOLERANCE`, or a row does whose score stands alone.
    """
    rows, scores = index.search(blocks, queries, k)
    values, expected = (queries @ exact.T).topk(k, dim=1)
    difference = (scores - values).abs().max().item()
    if difference > TOLERANCE:
        raise AssertionError(f"scores differ by {difference:.1e}")
    for query in (rows != expected).any(1).nonzero().flatten().tolist():
        swapped = (rows[query] != expected[query]).nonzero().flatten()
        gaps = (values[query, :-1] - values[query, 1:])[swapped.clamp_max(k - 2)]
        if float(gaps.min()) > 2 * TOLERANCE:
            raise AssertionError(f"query {query}: rows differ where scores do not tie")
    return difference


def compare(
    blocks: Sequence[Tensor], matrix: Tensor, exact: Tensor, queries: Tensor, k: int, rounds: int, block_mib: int
) -> dict[str, Any]:
    """Check, then time all sides in alternating order; ratios are taken within a round."""
    index = ExactIndex(ExactIndexConfig(block_mib=block_mib), BuildContext())
    difference = assert_same(index, blocks, exact, queries, k)
    half = queries.half()
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: index.search(blocks, queries, k),
        "ours_loaded": lambda: index.search([matrix], queries, k),
        "bare_fp32": lambda: (queries @ exact.T).topk(k, dim=1),
        "bare_fp16": lambda: (half @ matrix.T).topk(k, dim=1),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sides if number % 2 else reversed(sides):
            times[name].append(seconds(sides[name]))
    times = {name: taken[1:] for name, taken in times.items()}  # the first round warms up
    ratios = {
        f"ours_over_{name}": spread([a / b for a, b in zip(times["ours"], times[name])])
        for name in ("bare_fp32", "bare_fp16", "ours_loaded")
    }
    return {
        "largest_difference_of_a_score": difference,
        "seconds": {name: spread(taken) for name, taken in times.items()},
        "ratio": ratios,
    }


def machine() -> dict[str, object]:
    """Say what the numbers were measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "safetensors")},
    }


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the store if it is not there, measure, and return the report."""
    report: dict[str, Any] = {"machine": machine(), "settings": vars(arguments).copy()}
    report["settings"].update(store=None, shard_images=SHARD_IMAGES, storage="fp16")
    if not (folder / "manifest.json").exists():
        write_store(folder, arguments.rows, arguments.dim, folded=True)
    report["open_seconds"] = spread([seconds(lambda: Store.open(folder)) for _ in range(3)])
    command = [sys.executable, __file__, "--store", str(folder), "--k", str(arguments.k)]
    command += ["--block-mib", str(arguments.block_mib), "--memory-of"]
    blocks = Store.open(folder).first_stage()
    matrix = torch.cat([*blocks])
    exact = matrix.float()
    report["results"] = {}
    for count in arguments.queries:
        queries = queries_of(count, matrix.shape[1])
        result = compare(blocks, matrix, exact, queries, arguments.k, arguments.rounds, arguments.block_mib)
        output = subprocess.run([*command, str(count)], capture_output=True, text=True, check=True).stdout
        result["memory_mib"] = json.loads(output)
        report["results"][f"{count} queries"] = result
        ratio, times = result["ratio"], result["seconds"]
        added = result["memory_mib"]["searching_adds_at_most"]
        print(
            f"{count:3} queries: {times['ours']['p50'] * 1000:.0f} ms; "
            f"bare fp32 {times['bare_fp32']['p50'] * 1000:.0f} ms "
            f"(ratio {ratio['ours_over_bare_fp32']['p50']:.2f}), bare fp16 {times['bare_fp16']['p50'] * 1000:.0f} ms "
            f"(ratio {ratio['ours_over_bare_fp16']['p50']:.2f}); resident memory +{added['VmRSS']:.0f} MiB"
        )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--block-mib", type=int, default=64)
    parser.add_argument("--store", type=Path, help="keep the store here, and use it if it is there already")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory(arguments.store, arguments.memory_of, arguments.k, arguments.block_mib)))
        return
    out = arguments.out
    del arguments.out, arguments.memory_of
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.store or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report = {"commit": commit(), **run(arguments, folder)}
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
