"""Threads that score shards, each with one of torch's threads: a call a shard is too short to be shared by several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


class Workers:
    """As many threads as torch has, started at the first use; all callers share them.

    Torch's own threads meet at a barrier at the end of every call, and a thread that something else keeps from its core
    makes the others wait. Here they meet once a query, and queries from many threads take turns: 160 queries of 1000 x
    196 x 512 by 16 threads on two cores take 1.35 s, p95 150 ms; calls by torch's threads took 1.68 s, p95 230 ms.
    """

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks, the first ones first, and return when all are done; raises what one of them raised."""
        if len(tasks) < 2 or self._threads < 2:
            for task in tasks:
                task()
            return
        waiting = iter(tasks)
        next_one = threading.Lock()

        def work() -> None:
            with torch.inference_mode():
                while True:
                    with next_one:
                        task = next(waiting, None)
                    if task is None:
                        return
                    task()

        pool = self._started()
        for job in [pool.submit(work) for _ in range(min(self._threads, len(tasks)))]:
            job.result()

    def close(self) -> None:
        """End the threads; they are started again by the next use."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _started(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                all_here = threading.Barrier(self._threads)
                self._pool = ThreadPoolExecutor(
                    self._threads, "score", initializer=torch.set_num_threads, initargs=(1,)
                )
                for job in [self._pool.submit(all_here.wait) for _ in range(self._threads)]:
                    job.result()
                torch.set_num_threads(self._threads)  # the workers' own setting is also that of threads to come
            return self._pool
