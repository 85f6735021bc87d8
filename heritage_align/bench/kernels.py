"""Runs the cases, prints one table, writes one JSON and one plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from heritage_align import ops

from . import cases
from .goals import CPU_GOALS, GPU_GOALS, judged
from .machine import machine_facts
from .timing import peak_memory, time_in_turn


def run_benchmark(
    device: str = "cpu",
    *,
    seconds: float = 10.0,
    out: Path | None = None,
    curve: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Measure every case on ``device`` ("cpu" or "cuda"), each for about ``seconds``.

    Args:
        device: where to score.
        seconds: per case, shared by its contenders.
        out: folder for ``kernels-<device>.json`` and, with matplotlib, ``kernels-<device>.png``; None writes nothing.
        curve: also measure SCAN t2i against the number of images.
        say: takes each line of the table.

    Returns:
        What the JSON holds: machine, rows, goals, curve.

    Raises:
        AssertionError: if a kernel's scores are wrong; nothing wrong is timed.
    """
    place = torch.device(device)
    rows: list[dict[str, Any]] = []
    copy = copy_bandwidth(place, seconds=min(seconds, 3.0))
    say(f"copy bandwidth {copy / 1e9:.1f} GB/s (bytes read and written)")
    say(f"{'case':28} {'dtype':9} {'contender':24}    p20 ms    p50 ms    p80 ms  x bare    GB/s TFLOP/s")
    for case in _all_cases(place):
        error = case.check()
        timings = time_in_turn({"ours": case.ours, **case.peers}, place, seconds=seconds)
        bare = timings["bare"].p50
        agreement = case.agreement() if case.agreement is not None else None
        for contender, timing in timings.items():
            row: dict[str, Any] = {
                "case": case.name,
                "shape": case.shape,
                "dtype": case.dtype,
                "contender": contender,
                "p20": timing.p20,
                "p50": timing.p50,
                "p80": timing.p80,
                "runs": timing.runs,
                "ratio_to_bare": timing.p50 / bare,
                "bytes_per_second": case.bytes / timing.p50,
                "share_of_copy": 2 * case.bytes / timing.p50 / copy,
                "flops_per_second": case.flops / timing.p50,
            }
            if contender == "ours":
                row |= {"max_error": error, "top10_agreement": agreement, "peak_memory": peak_memory(case.ours, place)}
            rows.append(row)
            say(
                f"{case.name:28} {case.dtype:9} {contender:24} {timing.p20 * 1e3:9.3f} {timing.p50 * 1e3:9.3f} "
                f"{timing.p80 * 1e3:9.3f}    {row['ratio_to_bare']:7.2f} {row['bytes_per_second'] / 1e9:7.1f} "
                f"{row['flops_per_second'] / 1e12:8.3f}"
            )
        say(f"{'':28} {case.shape}; max error {error:.1e}" + (f"; top-10 {agreement:.1%}" if agreement else ""))
    goals = judged(rows, CPU_GOALS if place.type == "cpu" else GPU_GOALS)
    for goal in goals:
        bounds = f"(accept {goal['accept']:.3f}, stretch {goal['stretch']:.3f})"
        say(f"{goal['verdict']:8} {goal['goal']}: {goal['ratio']:.3f} {bounds}")
    result: dict[str, Any] = {
        "machine": machine_facts(place),
        "copy_bytes_per_second": copy,
        "rows": rows,
        "goals": goals,
    }
    if curve:
        result["curve"] = cost_against_images(place, seconds=seconds / 5)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"kernels-{device}.json").write_text(json.dumps(result, indent=1) + "\n")
        if curve:
            _plot(result["curve"], out / f"kernels-{device}.png", device)
    return result


def _all_cases(device: torch.device) -> Iterator[cases.Case]:
    on_gpu = device.type == "cuda"
    sizes = cases.GPU_SIZES if on_gpu else cases.CPU_SIZES
    return chain(
        cases.focal_cases(
            sizes, device, ["float16", "bfloat16", "int8"] if on_gpu else ["float32", "bfloat16", "int8"]
        ),
        cases.rerank_cases(sizes, device, ["float16", "int8"]),
        cases.maxsim_cases(sizes, device),
        cases.training_case(sizes, device),
    )


def copy_bandwidth(device: torch.device, *, seconds: float) -> float:
    """Bytes a second that a copy of 256 MB reads and writes, the median of a few."""
    source = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = time_in_turn({"copy": lambda: target.copy_(source)}, device, seconds=seconds)["copy"]
    return 2 * source.numel() / timing.p50


def cost_against_images(device: torch.device, *, seconds: float) -> list[dict[str, float]]:
    """SCAN t2i and the bare product for growing numbers of images: seconds (p50) by ``images``."""
    scale = 1 if device.type == "cpu" else 16
    sizes = cases.Sizes(256 * scale, 64 * scale, 0, 0, 0)
    collection = cases.Collection(sizes, device)
    images, texts = collection.stored("float32" if device.type == "cpu" else "float16")
    points = []
    for n in (16, 32, 64, 128, 256):
        some = images.select(range(n * scale))
        factor = ops.triangular_factor(some)
        timings = time_in_turn(
            {
                "ours": partial(ops.focal_attention_score, some, texts, image_factor=factor),
                "bare": partial(torch.mm, texts.values, some.values.T),
            },
            device,
            seconds=seconds,
        )
        points.append({"images": float(len(some)), **{name: timing.p50 for name, timing in timings.items()}})
    return points


def _plot(points: list[dict[str, float]], path: Path, device: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("ours", "SCAN t2i, fused"), ("bare", "bare product")):
        axes.plot([p["images"] for p in points], [p[name] * 1e3 for p in points], marker="o", label=label)
    axes.set(
        xlabel="images", ylabel="milliseconds", xscale="log", yscale="log", title=f"Cost against images ({device})"
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
