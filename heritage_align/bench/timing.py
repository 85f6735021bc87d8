"""Timing several ways of doing one thing in turn (A B A B ...), so that a busy machine slows all of them alike.

On a GPU a call is timed eagerly and replayed from a CUDA graph, and each of these

- after a read that fills the L2 with clean lines of something else ("eager", "graph"): the call finds its features in
  memory and waits for nothing else. A flush that writes leaves dirty lines, and their way back to memory costs the call
  up to 0.014 ms. The read takes about 0.03 ms, in which the host already prepares the call;
- the same, the device idle when the call begins ("..., idle"): the host's work counts in full;
- ten in a row ("..., in a row"): the L2 holds what the call before left there, the host may run ahead.

The last two are left out for calls of more than a millisecond, which they do not change.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

Work = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

LEAST_ROUNDS, MOST_ROUNDS = 3, 200
WARM_UPS = 3
IN_A_ROW = 10
SHORT = 1e-3  # seconds


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender: the 20th, 50th and 80th percentile, and how many runs they are of."""

    p20: float
    p50: float
    p80: float
    runs: int


def time_in_turn(contenders: dict[str, Work], *, seconds: float) -> dict[str, Timing]:
    """Time every contender on the CPU for about ``seconds`` in all, after one call that does not count."""
    for work in contenders.values():
        work()
    return _rounds({name: partial(_by_clock, work) for name, work in contenders.items()}, seconds)


def time_on_gpu(calls: dict[tuple[str, str], Work], *, seconds: float) -> dict[tuple[str, str], Timing]:
    """Time ``calls[contender, "eager" or "graph"]`` in all modes (see above), for about ``seconds`` in all."""
    lines = torch.zeros(2 * torch.cuda.get_device_properties().L2_cache_size // 4, device="cuda")
    samples: dict[tuple[str, str], Callable[[], float]] = {}
    for (name, mode), call in calls.items():
        for _ in range(WARM_UPS):
            call()
        samples[name, mode] = partial(_after_flush, call, lines.sum)
        if samples[name, mode]() < SHORT:
            samples[name, f"{mode}, idle"] = partial(_after_flush, call, lines.sum, idle=True)
            samples[name, f"{mode}, in a row"] = partial(_in_a_row, call)
    return _rounds(samples, seconds)


def capture(work: Work) -> torch.cuda.CUDAGraph:
    """Capture one call as a CUDA graph, after warming up on a side stream, as captures ask for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _rounds(samples: dict[Key, Callable[[], float]], seconds: float) -> dict[Key, Timing]:
    taken: dict[Key, list[float]] = {key: [] for key in samples}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or (time.perf_counter() < end and rounds < MOST_ROUNDS):
        for key, sample in samples.items():
            taken[key].append(sample())
        rounds += 1
    return {key: _summary(values) for key, values in taken.items()}


def _by_clock(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _after_flush(work: Work, flush: Work, *, idle: bool = False) -> float:
    start, stop = _events()
    flush()
    if idle:
        torch.cuda.synchronize()
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


def _in_a_row(work: Work) -> float:
    start, stop = _events()
    work()
    start.record()
    for _ in range(IN_A_ROW):
        work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3 / IN_A_ROW


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


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
