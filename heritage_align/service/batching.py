"""Concurrent questions answered by one call: what waits while a call runs is the next call's batch.

There is one thread of work in a process; the searcher and torch use the cores below it. A question that comes when
nothing runs is asked at once and alone. Where the last call of its kind had several, the next waits for as many for
at most `window`: clients that were answered together ask again within a millisecond or two of each other, and without
the window the first of them would go alone and all others wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

Answers = Callable[[Sequence[Q]], Sequence[A]]
"""Answers questions of one kind together, in their order; called in the batcher's thread."""

RECENT = 0.2
"""Weight of the last call in the mean time that a question takes."""


@dataclass
class _Waiting(Generic[Q, A]):
    question: Q
    answer: Answers[Q, A]
    future: asyncio.Future[A]


class Batcher:
    """Asks questions of one kind together. To be made and used in one event loop.

    Args:
        most: questions in one call; 1 asks each alone.
        window: seconds, see above.
        observe: told of the number of questions and the seconds of every call.
    """

    def __init__(
        self, most: int = 32, window: float = 0.001, observe: Callable[[int, float], object] | None = None
    ) -> None:
        self._most, self._window, self._observe = most, window, observe
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._waiting: dict[Hashable, list[_Waiting[Any, Any]]] = {}  # in the order of each kind's first question
        self._expected: tuple[Hashable, int] = (None, 1)
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self.seconds = 0.0
        """That a question took lately."""

    async def ask(self, kind: Hashable, question: Q, answer: Answers[Q, A]) -> A:
        """Return the answer to a question; raises what `answer` raised.

        Where a call for several fails, each of them is asked alone, so that nobody pays for another's question.

        Args:
            kind: questions of one kind are asked together.
            question: handed to `answer`.
            answer: the same for all of a kind.
        """
        future: asyncio.Future[A] = self._loop.create_future()
        self._waiting.setdefault(kind, []).append(_Waiting(question, answer, future))
        if not self._running:
            self._start()
        return await future

    def close(self) -> None:
        """Let the thread end when it has done what it was given."""
        self._pool.shutdown(wait=True)

    def _start(self) -> None:
        """Begin the next call, or wait a moment for those who are likely to come."""
        self._drop_cancelled()
        if not self._waiting:
            return
        kind = next(iter(self._waiting))
        last, expected = self._expected
        missing = kind == last and len(self._waiting[kind]) < min(expected, self._most)
        if missing and self._timer is None and self._window > 0:
            self._timer = self._loop.call_later(self._window, self._begin)
        elif not missing or self._window <= 0:
            self._begin()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_cancelled()
        if not self._waiting:
            return
        kind = next(iter(self._waiting))
        taken, rest = self._waiting[kind][: self._most], self._waiting.pop(kind)[self._most :]
        if rest:  # behind the other kinds: none waits for ever
            self._waiting[kind] = rest
        self._running = True
        self._expected = (kind, len(taken))
        work = self._pool.submit(_answer_all, [each.question for each in taken], taken[0].answer)
        work.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._finish, taken, done))

    def _finish(self, taken: list[_Waiting[Any, Any]], done: ThreadFuture[tuple[list[Any], float]]) -> None:
        self._running = False
        results, seconds = done.result()
        each = seconds / len(taken)
        self.seconds = each if not self.seconds else (1 - RECENT) * self.seconds + RECENT * each
        if self._observe is not None:
            self._observe(len(taken), seconds)
        self._start()  # before the answers are written: the thread need not wait for that
        for waiting, result in zip(taken, results):
            if waiting.future.done():  # who asked has gone, or waited too long
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)

    def _drop_cancelled(self) -> None:
        for kind in list(self._waiting):
            left = [each for each in self._waiting[kind] if not each.future.done()]
            if left:
                self._waiting[kind] = left
            else:
                del self._waiting[kind]


def _answer_all(questions: Sequence[Q], answer: Answers[Q, A]) -> tuple[list[A | Exception], float]:
    start = time.perf_counter()
    try:
        found: list[A | Exception] = list(answer(questions))
    except Exception as error:
        found = [error] if len(questions) == 1 else [_answer_one(question, answer) for question in questions]
    return found, time.perf_counter() - start


def _answer_one(question: Q, answer: Answers[Q, A]) -> A | Exception:
    try:
        return answer([question])[0]
    except Exception as error:
        return error
