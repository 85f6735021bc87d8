"""What a store costs as it grows: building it, opening it, and a query, from 10^4 to 10^7 pictures on one machine.

    python benchmarks/pipeline/scale.py --folder /large/disk      # 10^7 x 512 fp16 with folded vectors: 21 GB at a time

Features are generated, the stores are real: every shard goes through the project's writer, and the manifest with its
checksums through `finish`. Each store is written by one process and asked by another, so that their memory is told
apart, and is deleted before the next one is written.

wholes   two vectors a picture, ``global`` and ``folded`` (LACLIP's sum, of any length): a first stage over either is a
         pass over N x D numbers. 10^4 to 10^7 pictures.
regions  36 or 196 regions a picture: a rerank by MaxSim reads the regions of K pictures, wherever they are. *warm*: the
         same K again; *cold*: other K, after the files were dropped from the system's cache. Stores of more pictures
         are not made: a rerank's time is that of K, which stores of 36 regions in two sizes show.

Times are medians; ``read`` is what a call fetched from the disk, by /proc/self/io. RssAnon is allocated memory, RssFile
pages of mapped files, which `host_memory` bounds. Other work ran on the machine: ratios and slopes are of one run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from query import pipeline_of, resident_mib
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.ops import Ragged
from heritage_align.search import Searcher
from heritage_align.store import Store
from heritage_align.store.files import write_json
from heritage_align.store.finish import finish
from heritage_align.store.layout import BUILD, Build, shard_name, sources_digest
from heritage_align.store.shard import write_shard
from heritage_align.types import ImageFeatures, TextFeatures, TextItem

RESULT = Path(__file__).parents[1] / "results" / "scale.json"
DIM, SHARD_IMAGES, PHRASES = 512, 512, 4
WHOLES = (10**4, 10**5, 10**6, 10**7)
REGIONS = {36: (10**4, 4 * 10**4), 196: (2 * 10**3,)}
CANDIDATES = (100, 1000)
HOST_MEMORY = "2GiB"
SECONDS, LEAST, MOST = 20.0, 3, 15
"""A call is repeated for so long, so often at least and so often at most."""


class Made:
    """Unit rows that differ from shard to shard without a draw of each number: drawn once, rolled and given signs."""

    def __init__(self, rows: int) -> None:
        self._draw = torch.Generator().manual_seed(0)
        self._base = normalize(torch.randn(rows, DIM, generator=self._draw), dim=1)

    def rows(self, count: int) -> Tensor:
        """Return other unit rows ``(count, DIM)``."""
        shift = int(torch.randint(DIM, (1,), generator=self._draw))
        signs = torch.randint(2, (DIM,), generator=self._draw) * 2.0 - 1
        start = int(torch.randint(len(self._base) - count + 1, (1,), generator=self._draw))
        rows = self._base[start : start + count]
        return torch.cat([rows[:, shift:], rows[:, :shift]], dim=1).mul_(signs)

    def lengths(self, count: int) -> Tensor:
        """Return lengths ``(count, 1)`` as of sums of 20 weighted crops."""
        return 4 + 4 * torch.rand(count, 1, generator=self._draw)


def build(folder: Path, count: int, dtype: str, regions: int) -> dict[str, Any]:
    """Write a store in this process and say what it took."""
    torch.set_num_threads(
        1
    )  # a shard's vectors are small work: on busy cores threads that wait for each other cost more
    before, start = resident_mib(), time.perf_counter()
    ids = [f"collection/object-{number:08}.jpg" for number in range(count)]
    identity = {"encoder": "generated", "image_config": "none", "config": "none"}
    made = Build(identity, "scale", dtype, SHARD_IMAGES, count, sources_digest(ids))
    folder.mkdir(parents=True)
    write_json(folder / BUILD, made.asdict())
    source = Made(SHARD_IMAGES * max(2, 2 * regions))
    generated = written = 0.0
    for number in range(made.shards):
        drawn = time.perf_counter()
        names = tuple(ids[number * SHARD_IMAGES : (number + 1) * SHARD_IMAGES])
        wholes = source.rows(len(names))
        features = ImageFeatures(names, wholes)
        if regions:
            features.regions = Ragged(source.rows(len(names) * regions), torch.arange(len(names) + 1) * regions)
            features.boxes = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(len(names) * regions, 4).contiguous()
        else:
            features.folded = source.rows(len(names)) * source.lengths(len(names))
        writing = time.perf_counter()
        write_shard(folder / shard_name(number), features, [], dtype)
        generated, written = generated + writing - drawn, written + time.perf_counter() - writing
    finishing = time.perf_counter()
    manifest = finish(folder, made)
    assert manifest is not None
    end = time.perf_counter()
    return {
        "generated": generated,
        "written": written,
        "finished": end - finishing,
        "seconds": end - start - generated,
        "bytes": sum(entry.bytes for entry in manifest.shards),
        "manifest_bytes": (folder / "manifest.json").stat().st_size,
        "shards": len(manifest.shards),
        "peak_adds_mib": resident_mib()["VmHWM"] - before["VmHWM"],
    }


def disk_bytes() -> int:
    """Return what this process has fetched from disks so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def timed(call: Callable[[], object], before: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Repeat a call; `before` runs ahead of each and is not timed. Returns seconds and MiB read from the disk."""
    taken: list[float] = []
    read: list[int] = []
    while len(taken) < LEAST or (sum(taken) < SECONDS and len(taken) < MOST):
        before()
        there, start = disk_bytes(), time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        read.append(disk_bytes() - there)
    cuts = statistics.quantiles(taken, n=20, method="inclusive")
    mib = statistics.median(read) / 2**20
    return {"p50": cuts[9], "p95": cuts[18], "least": min(taken), "read_mib": mib, "calls": len(taken)}


def ask(folder: Path, regions: int) -> dict[str, Any]:
    """Open a store in this process, ask it, and say what it took."""
    pipeline = pipeline_of({"name": "late_interaction" if regions else "laclip"}, "ViT-B-16", "cpu")
    item = TextItem("q", "蓝地缠枝莲纹，四角饰云纹")
    texts = pipeline.encode_texts([item])
    pipeline.encode_texts = lambda _: texts  # type: ignore[method-assign]  # a text's time is not the store's
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again: the most so far was of the model's loading
    before, start = resident_mib(), time.perf_counter()
    store = Store.open(folder, host_memory=HOST_MEMORY)
    searcher = Searcher(pipeline, store)
    opened, after = time.perf_counter() - start, resident_mib()
    times: dict[str, Any] = {}
    if regions:
        draw = torch.Generator().manual_seed(1)
        texts = TextFeatures(
            ("q",),
            texts.global_features,
            Ragged(normalize(torch.randn(PHRASES, DIM), dim=1), torch.tensor([0, PHRASES])),
        )
        for k in CANDIDATES:
            drawn: list[Tensor] = []

            def other(k: int = k, drawn: list[Tensor] = drawn) -> None:
                drawn[:] = [torch.randperm(len(store), generator=draw)[None, :k]]

            def forgotten(other: Callable[[], None] = other) -> None:
                other()
                searcher.close()
                forget(folder)

            def rerank(drawn: list[Tensor] = drawn) -> None:
                searcher.score(texts, drawn[0])

            other()
            rerank()
            times[f"rerank {k}, warm"] = timed(rerank)
            times[f"rerank {k}, cold"] = timed(rerank, forgotten)
    else:
        times["global"] = timed(lambda: pipeline.index.search(store.blocks("global"), texts.global_features, 10))
        times["folded"] = timed(lambda: searcher.search([item], top_k=10))
    end = resident_mib()
    return {
        "open": opened,
        "opening_adds_mib": {name: after[name] - before[name] for name in ("RssAnon", "RssFile")},
        "asking_adds_mib": {name: end[name] - after[name] for name in ("RssAnon", "RssFile")},
        "peak_adds_mib": end["VmHWM"] - before["RssAnon"] - before["RssFile"],
        "times": times,
    }


def forget(folder: Path) -> None:
    """Drop a store's files from the system's cache; they are not mapped now."""
    for path in folder.glob("shard-*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def apart(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run one half of a measurement in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, count: int, dtype: str, regions: int) -> dict[str, Any]:
    """Build a store, ask it, delete it."""
    store = folder / f"scale-{count}-{dtype}-{regions}"
    shutil.rmtree(store, ignore_errors=True)
    try:
        built = apart(store, "--build", str(count), dtype, str(regions))
        asked = apart(store, "--ask", str(regions))
    finally:
        shutil.rmtree(store, ignore_errors=True)
    row = {"pictures": count, "dtype": dtype, "regions": regions, "build": built, **asked}
    shown = "; ".join(f"{name} {each['p50'] * 1e3:.1f} ms" for name, each in asked["times"].items())
    print(f"{count:>9} {dtype:<5} {regions:>4} regions: built in {built['seconds']:.1f} s; {shown}", flush=True)
    return row


def measured(folder: Path, kept: Path, largest: int, largest_int8: int) -> list[dict[str, Any]]:
    """Return the rows of all stores; those of a run that was broken off are read from the file where each is kept."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["pictures"], row["dtype"], row["regions"]) for row in rows}
    bound = {"fp16": largest, "int8": largest_int8}
    wanted = [(count, regions) for regions, counts in REGIONS.items() for count in counts]
    for count, regions in [*wanted, *((count, 0) for count in WHOLES)]:
        for dtype in ("fp16", "int8"):
            if count <= bound[dtype] and (count, dtype, regions) not in done:
                rows.append(measure(folder, count, dtype, regions))
                with kept.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    return sorted(rows, key=lambda row: (row["regions"], row["pictures"], row["dtype"]))


def slopes(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, by storage, what one picture more costs, and how times grow.

    Building and opening: of the largest store against a tenth. First stage: of 10^6 against 10^5, whose files the
    system has in its cache; ``exponent`` is log10 of the growth for ten times the pictures, 1 is linear.
    """
    found: dict[str, Any] = {}
    for dtype in ("fp16", "int8"):
        wholes = {row["pictures"]: row for row in rows if row["dtype"] == dtype and not row["regions"]}
        large = wholes[max(wholes)]
        small = wholes[max(wholes) // 10]
        more = large["pictures"] - small["pictures"]
        allocated = large["opening_adds_mib"]["RssAnon"] - small["opening_adds_mib"]["RssAnon"]
        entry = {
            "largest": large["pictures"],
            "bytes": large["build"]["bytes"] / large["pictures"],
            "build_microseconds": (large["build"]["seconds"] - small["build"]["seconds"]) / more * 1e6,
            "build_exponent": math.log10(large["build"]["seconds"] / small["build"]["seconds"]),
            "open_microseconds": (large["open"] - small["open"]) / more * 1e6,
            "open_bytes": allocated * 2**20 / more,
        }
        for name in ("global", "folded"):
            ten, hundred = (wholes[count]["times"][name]["p50"] for count in (10**5, 10**6))
            entry[f"{name}_nanoseconds"] = (hundred - ten) / (10**6 - 10**5) * 1e9
            entry[f"{name}_exponent"] = math.log10(hundred / ten)
        found[dtype] = entry
    return found


def goals(rows: list[dict[str, Any]], found: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """Judge growth: building and the first stage are linear, and a rerank does not depend on the pictures."""
    times = {(row["pictures"], row["dtype"], row["regions"]): row["times"] for row in rows}
    small, large = (times[count, "fp16", 36]["rerank 1000, warm"]["p50"] for count in REGIONS[36])
    wide = REGIONS[196][0]
    int8 = times[wide, "int8", 196]["rerank 1000, warm"]["p50"] / times[wide, "fp16", 196]["rerank 1000, warm"]["p50"]
    anonymous = max(row["opening_adds_mib"]["RssAnon"] + row["asking_adds_mib"]["RssAnon"] for row in rows)
    return [
        judged_value(goal, value, accept, stretch, at_least=False, commit=state)
        for goal, value, accept, stretch in (
            ("build, the last tenfold, fp16: exponent of the time", found["fp16"]["build_exponent"], 1.1, 1.0),
            ("first stage, 10^5 to 10^6, fp16: exponent of the time", found["fp16"]["folded_exponent"], 1.1, 1.0),
            ("rerank 1000 of 36, fp16: a store of four times the pictures over the smaller", large / small, 1.5, 1.1),
            ("rerank 1000 of 196: int8 over fp16", int8, 1.5, 1.0),
            ("allocated by opening and asking, the most of all stores, MiB", anonymous, 4096.0, 1024.0),
        )
    ]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what was measured: times and memory over pictures, both axes in powers of ten."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    colours = {"fp16": "#1f5fa8", "int8": "#c2571a"}
    for dtype, colour in colours.items():
        wholes = [row for row in rows if row["dtype"] == dtype and not row["regions"]]
        pictures = [row["pictures"] for row in wholes]
        for name, style in (("global", "o-"), ("folded", "s--")):
            taken = [row["times"][name]["p50"] for row in wholes]
            left.plot(pictures, taken, style, color=colour, label=f"{name}, {dtype}", markersize=5)
        right.plot(
            pictures, [row["build"]["seconds"] for row in wholes], "o-", color=colour, label=f"build, s, {dtype}"
        )
        opened = [max(row["opening_adds_mib"]["RssAnon"], 0.1) for row in wholes]
        right.plot(pictures, opened, "^:", color=colour, label=f"opened, MiB, {dtype}")
    of = {(row["pictures"], row["dtype"], row["regions"]): row for row in rows}
    largest = {
        m: max(n for n, _, regions in of if regions == m and all((n, d, m) in of for d in colours)) for m in REGIONS
    }
    labels = []
    for place, (regions, k) in enumerate((regions, k) for regions in REGIONS for k in CANDIDATES):
        labels.append(f"{k} x {regions}")
        for shift, (dtype, colour) in enumerate(colours.items()):
            row = of[largest[regions], dtype, regions]
            for lift, (state, hatch) in enumerate((("warm", ""), ("cold", "///"))):
                value = row["times"][f"rerank {k}, {state}"]["p50"] * 1e3
                shade = {"facecolor": "white" if hatch else colour, "edgecolor": colour, "hatch": hatch}
                label = None if place else f"{dtype}, {state}"
                middle.bar(place + 0.2 * (2 * lift + shift) - 0.3, value, 0.18, label=label, **shade)
    middle.set_xticks(range(len(labels)), labels)
    middle.set(yscale="log", ylabel="ms", title="rerank, candidates x regions")
    left.set(xscale="log", yscale="log", xlabel="pictures", ylabel="seconds", title="first stage, one query")
    right.set(xscale="log", yscale="log", xlabel="pictures", title="building but for encoding; memory when open")
    for axes in (left, middle, right):
        axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(f"Cost as work grows: D = {DIM}, two cores", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure, print, write the JSON and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the stores are made, and deleted again")
    parser.add_argument(
        "--largest", type=int, default=max(WHOLES), help="pictures of the largest store of whole vectors"
    )
    parser.add_argument("--largest-int8", type=int, default=max(WHOLES), help="the same of int8")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to write; the plot goes beside it")
    parser.add_argument("--replot", action="store_true", help="draw the plot of the JSON that is there")
    parser.add_argument("--build", nargs=3, metavar=("PICTURES", "DTYPE", "REGIONS"), help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=int, metavar="REGIONS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        count, dtype, regions = arguments.build
        print(json.dumps(build(arguments.folder, int(count), dtype, int(regions))))
        return
    if arguments.ask is not None:
        print(json.dumps(ask(arguments.folder, arguments.ask)))
        return
    if arguments.replot:
        plot(json.loads(arguments.out.read_text())["rows"], arguments.out.with_suffix(".png"))
        return
    state, load = commit(), os.getloadavg()
    rows = measured(arguments.folder, arguments.out.with_suffix(".rows"), arguments.largest, arguments.largest_int8)
    found = slopes(rows)
    report = {
        "commit": state,
        "machine": machine_facts(torch.device("cpu")),
        "load_average": {"before": list(load), "after": list(os.getloadavg())},
        "settings": {
            "dim": DIM, "shard_images": SHARD_IMAGES, "phrases": PHRASES, "host_memory": HOST_MEMORY,
            "largest": {"fp16": arguments.largest, "int8": arguments.largest_int8},
        },
        "rows": rows,
        "slopes": found,
        "goals": goals(rows, found, state),
    }  # fmt: skip
    for goal in report["goals"]:
        print(f"{goal['goal']}: {goal['value']:.3g}, {goal['verdict']}")
    arguments.out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    plot(rows, arguments.out.with_suffix(".png"))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
