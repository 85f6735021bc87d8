"""Runs the cases: parity first, then all contenders in turn; results go to the JSON after every case."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from heritage_align import ops
from heritage_align.ops import Ragged

from . import focal, machine, report
from .case import Case, Contender, Setup, captions, equal_items
from .cases import cpu_cases, gpu_cases
from .goals import CPU_GOALS, GPU_GOALS, judged
from .timing import Timing, Work, capture, peak_memory, time_in_turn, time_on_gpu

Result = dict[str, Any]
Say = Callable[[str], object]
Timings = dict[tuple[str, str], Timing]  # by contender and mode

SECONDS = {("cpu", False): 10.0, ("cpu", True): 2.0, ("cuda", False): 1.5, ("cuda", True): 0.5}


def run_benchmark(
    device: str = "cpu",
    *,
    seconds: float | None = None,
    quick: bool = False,
    limit: float = math.inf,
    out: Path | None = None,
    cases: Sequence[Case] | None = None,
    say: Say = print,
) -> Result:
    """Measure every case on ``device`` ("cpu" or "cuda"); one that fails is named and loses only itself.

    Args:
        device: where to score.
        seconds: per case, shared by its contenders; by default 10 on the CPU, 1.5 on a GPU; with ``quick`` 2 and 0.5.
        quick: only cases that a goal is about, without torch.compile and without the curve.
        limit: seconds after which no further case begins. Cases that a goal is about come first.
        out: folder for ``kernels-<cpu or card>.json`` and, with matplotlib, ``kernels-cpu.png``; None writes nothing.
        cases: other cases than the device's own, without the curve.
        say: takes each line that is printed; the table comes last.

    Returns:
        What the JSON holds: commit, settings, machine, rates, rows, goals, failed cases, contenders left out; on
        the CPU the curve.
    """
    place = torch.device(device)
    end = time.perf_counter() + limit
    goals = CPU_GOALS if device == "cpu" else GPU_GOALS
    seconds = SECONDS[device, quick] if seconds is None else seconds
    with_curve = device == "cpu" and not quick and cases is None
    if cases is None:
        known = cpu_cases() if device == "cpu" else gpu_cases()
        asked = {(goal.case, goal.dtype) for goal in goals}
        others = [] if quick else [case for case in known if (case.name, case.dtype) not in asked]
        cases = [*(case for case in known if (case.name, case.dtype) in asked), *others]
    result: Result = {
        "commit": machine.commit(),
        "settings": {"seconds": seconds, "quick": quick},
        "machine": machine.machine_facts(place),
        "copy_bytes_per_second": machine.copy_bandwidth(place, seconds=min(seconds, 3.0)),
    }
    if device == "cuda":
        result["matrix_flops_per_second"] = machine.matrix_rate(seconds=min(seconds, 3.0))
    result |= {"rows": [], "goals": [], "failed": [], "left_out": []}
    for line in report.heading(result):
        say(line)
    for case in cases:
        try:
            if time.perf_counter() > end:
                raise TimeoutError(f"not begun: the limit of {limit:.0f} s was over")
            if device == "cuda":
                torch.cuda.empty_cache()  # here, since it fails too where the case before has broken the context
            rows = _measure(case, place, result, seconds, quick=quick)
        except Exception as error:
            result["failed"].append({"case": case.name, "dtype": case.dtype, "reason": _reason(error)})
            say(f"FAILED {case.name}, {case.dtype}: {_reason(error)}")
        else:
            result["rows"] += rows
            for line in report.progress(rows):
                say(line)
        result["goals"] = judged(result["rows"], goals, result["commit"])
        _write(result, place, out)
    if with_curve:
        result["curve"] = cost_against_images(seconds=seconds / 5)
        if out is not None:
            report.plot(result["curve"], out / "kernels-cpu.png")
    if device == "cuda":
        result["machine"]["gpu"]["nvidia_smi_after"] = machine.nvidia_smi()
    _write(result, place, out)
    for line in report.table(result):
        say(line)
    return result


def _measure(case: Case, place: torch.device, result: Result, seconds: float, *, quick: bool) -> list[Result]:
    """Rows of one case: ours, those peers that agree with the reference, and the floor."""
    setup = case.prepare()

    def left_out(contender: str, reason: str) -> None:
        result["left_out"].append({"case": case.name, "dtype": case.dtype, "contender": contender, "reason": reason})

    for name in setup.missing:
        left_out(name, "not installed")
    assert setup.ours.check is not None, "our own scores are always checked"
    error = setup.ours.check()
    contenders = {"ours": setup.ours}
    for name, peer in setup.peers.items():
        if quick and name == focal.COMPILED:
            left_out(name, "not with --quick")
            continue
        try:
            if peer.check is not None:
                peer.check()
            else:
                peer.work()
            contenders[name] = peer
        except Exception as failure:  # a library's trouble is not ours
            left_out(name, _reason(failure))
    if place.type == "cpu":
        alone = time_in_turn({name: contender.work for name, contender in contenders.items()}, seconds=seconds)
        timings: Timings = {(name, "eager"): timing for name, timing in alone.items()}
    else:
        timings = time_on_gpu(_calls(contenders, left_out), seconds=seconds)
    rows = [_row(case, setup, key, timings, result, place) for key in timings]
    rows[0] |= {
        "max_error": error,
        "top10_agreement": None if setup.agreement is None else setup.agreement(),
        "peak_memory": peak_memory(setup.ours.work, place),
    }
    if setup.floor and place.type == "cuda":
        by_bytes = setup.bytes / result["copy_bytes_per_second"]
        by_matrix = setup.flops / result["matrix_flops_per_second"]
        floor = {"case": case.name, "shape": setup.shape, "dtype": case.dtype, "contender": "floor", "mode": "floor"}
        rows.append(floor | {"p50": max(by_bytes, by_matrix), "by_bytes": by_bytes, "by_matrix": by_matrix})
    return rows


def _calls(contenders: dict[str, Contender], left_out: Callable[[str, str], None]) -> dict[tuple[str, str], Work]:
    """Every contender's eager call, and the replay of its graph where it can be captured."""
    calls: dict[tuple[str, str], Work] = {}
    for name, contender in contenders.items():
        calls[name, "eager"] = contender.work
        if contender.graph:
            try:
                calls[name, "graph"] = capture(contender.work).replay
            except Exception as failure:
                left_out(f"{name}, graph", _reason(failure))
    return calls


def _row(
    case: Case, setup: Setup, key: tuple[str, str], timings: Timings, result: Result, place: torch.device
) -> Result:
    contender, mode = key
    timing, bare = timings[key], timings.get(("bare", mode))
    row: Result = {
        "case": case.name,
        "shape": setup.shape,
        "dtype": case.dtype,
        "contender": contender,
        "p20": timing.p20,
        "p50": timing.p50,
        "p80": timing.p80,
        "runs": timing.runs,
        "ratio_to_bare": None if bare is None else timing.p50 / bare.p50,
        "bytes_per_second": setup.bytes / timing.p50,
        "share_of_copy": setup.bytes / timing.p50 / result["copy_bytes_per_second"],
        "flops_per_second": setup.flops / timing.p50,
    }
    return row if place.type == "cpu" else row | {"mode": mode}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _write(result: Result, place: torch.device, out: Path | None) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"kernels-{machine.label(place)}.json").write_text(json.dumps(result, indent=1) + "\n")


def cost_against_images(*, seconds: float) -> list[dict[str, float]]:
    """SCAN t2i and the bare product on the CPU for growing numbers of images: seconds (p50) by ``images``."""
    cpu = torch.device("cpu")
    images, texts = equal_items(256, 36, 1024, cpu, 3), captions(64, 1024, cpu, 4)
    points = []
    for n in (16, 32, 64, 128, 256):
        some = images.select(range(n))
        contenders: dict[str, Work] = {
            "ours": partial(_score, some, texts, ops.triangular_factor(some)),
            "bare": partial(torch.mm, texts.values, some.values.T),
        }
        timings = time_in_turn(contenders, seconds=seconds)
        points.append({"images": float(n), **{name: timing.p50 for name, timing in timings.items()}})
    return points


def _score(images: Ragged, texts: Ragged, factor: torch.Tensor) -> torch.Tensor:
    return ops.focal_attention_score(images, texts, image_factor=factor)
