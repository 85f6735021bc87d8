"""Timing several ways of doing one thing in turn (A B A B ...), so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]
MOST_ROUNDS = 200


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender: the 20th, 50th and 80th percentile, and how many runs they are of."""

    p20: float
    p50: float
    p80: float
    runs: int


def time_in_turn(contenders: dict[str, Work], device: torch.device, *, seconds: float) -> dict[str, Timing]:
    """Time every contender, one call of each after the other, for about ``seconds`` in all (three rounds at least)."""
    for work in contenders.values():
        work()
    _wait(device)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or (time.perf_counter() < end and rounds < MOST_ROUNDS):
        for name, work in contenders.items():
            taken[name].append(_once(work, device))
        rounds += 1
    return {name: _summary(values) for name, values in taken.items()}


def _once(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _summary(values: list[float]) -> Timing:
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] for share in (0.2, 0.5, 0.8)]
    return Timing(at[0], at[1], at[2], len(ordered))


def seconds(work: Work) -> float:
    """Return the time of one call, the device's queue drained."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the 20th, 50th and 80th percentile, interpolated."""
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return {"p20": cuts[1], "p50": cuts[4], "p80": cuts[7]}


def peak_memory(work: Work, device: torch.device) -> int | None:
    """Bytes that a call has in use at its peak beyond what was there before; None where that cannot be seen (CPU)."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
