"""Questions of one kind are asked together, nobody waits for nothing, and nobody pays for another's question."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from heritage_align.service.batching import Batcher


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(work())  # type: ignore[arg-type]


class Answering:
    """Doubles numbers; the first call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, questions: Sequence[int]) -> list[int]:
        first = not self.calls
        self.calls.append(list(questions))
        if first:
            assert self.go.wait(10)
        if 13 in questions:
            raise ValueError("thirteen")
        return [2 * question for question in questions]


async def asked_while_busy(batcher: Batcher, answering: Answering, *questions: int) -> list[Any]:
    """Ask 0, and the rest while that is being answered."""
    first = asyncio.create_task(batcher.ask("a", 0, answering))
    while not answering.calls:
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(batcher.ask("a", question, answering)) for question in questions]
    await asyncio.sleep(0)
    answering.go.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_what_waits_is_asked_together_in_order_and_not_more_than_the_most() -> None:
    async def work() -> None:
        answering, seen = Answering(), list[int]()
        batcher = Batcher(most=3, observe=lambda questions, _: seen.append(questions))
        assert await asked_while_busy(batcher, answering, 1, 2, 3, 4) == [0, 2, 4, 6, 8]
        assert answering.calls == [[0], [1, 2, 3], [4]]
        assert seen == [1, 3, 1]
        batcher.close()

    run(work)


def test_a_question_that_fails_fails_alone() -> None:
    async def work() -> None:
        answering = Answering()
        batcher = Batcher()
        found = await asked_while_busy(batcher, answering, 1, 13, 2)
        assert [found[0], found[1], found[3]] == [0, 2, 4]
        assert isinstance(found[2], ValueError)
        assert answering.calls == [[0], [1, 13, 2], [1], [13], [2]]
        batcher.close()

    run(work)


def test_who_has_gone_is_not_asked_for() -> None:
    async def work() -> None:
        answering, batcher = Answering(), Batcher()
        first = asyncio.create_task(batcher.ask("a", 0, answering))
        while not answering.calls:
            await asyncio.sleep(0.001)
        gone = asyncio.create_task(batcher.ask("a", 1, answering))
        stays = asyncio.create_task(batcher.ask("a", 2, answering))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        answering.go.set()
        assert (await first, await stays) == (0, 4)
        assert answering.calls == [[0], [2]]
        batcher.close()

    run(work)


def test_kinds_are_apart_and_take_turns() -> None:
    async def work() -> None:
        answering, batcher = Answering(), Batcher(most=2)
        first = asyncio.create_task(batcher.ask("a", 0, answering))
        while not answering.calls:
            await asyncio.sleep(0.001)
        tasks = [asyncio.create_task(batcher.ask(kind, n, answering)) for n, kind in enumerate("aaabbb", 1)]
        await asyncio.sleep(0)
        answering.go.set()
        await asyncio.gather(first, *tasks)
        assert answering.calls == [[0], [1, 2], [4, 5], [3], [6]]
        batcher.close()

    run(work)


def test_who_asks_alone_does_not_wait_for_the_window() -> None:
    async def work() -> None:
        answering, batcher = Answering(), Batcher(window=600)
        answering.go.set()
        for question in range(5):
            assert await asyncio.wait_for(batcher.ask("a", question, answering), 60) == 2 * question
        batcher.close()

    run(work)


def test_after_a_batch_as_many_are_waited_for_within_the_window() -> None:
    async def work() -> None:
        answering, batcher = Answering(), Batcher(window=0.2)
        await asked_while_busy(batcher, answering, 1, 2)
        again = [asyncio.create_task(batcher.ask("a", 3, answering))]
        await asyncio.sleep(0.05)
        assert len(answering.calls) == 2  # 3 waits for a second
        again.append(asyncio.create_task(batcher.ask("a", 4, answering)))
        assert await asyncio.gather(*again) == [6, 8]
        assert answering.calls[2:] == [[3, 4]]
        # Nobody else comes: the window is all it waits.
        assert await asyncio.wait_for(batcher.ask("a", 5, answering), 60) == 10
        batcher.close()

    run(work)


def test_of_many_questions_of_many_tasks_each_gets_its_own_answer() -> None:
    async def work() -> None:
        answering, batcher = Answering(), Batcher(most=7, window=0.001)
        answering.go.set()

        async def client(number: int) -> None:
            for turn in range(20):
                question = 1000 * number + turn
                assert await batcher.ask(number % 3, question, answering) == 2 * question

        await asyncio.gather(*(client(number) for number in range(1, 13)))
        assert sum(map(len, answering.calls)) == 240
        assert max(map(len, answering.calls)) > 1
        batcher.close()

    run(work)


def test_the_time_of_a_question_is_known() -> None:
    async def work() -> None:
        batcher = Batcher()
        assert batcher.seconds == 0
        await batcher.ask("a", 1, lambda questions: (time.sleep(0.02), questions)[1])
        assert batcher.seconds == pytest.approx(0.02, abs=0.015)
        batcher.close()

    run(work)
