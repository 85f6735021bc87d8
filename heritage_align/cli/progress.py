"""Progress bars on stderr, so that stdout stays for results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from heritage_align.config import Config
    from heritage_align.evaluation.comparison import Started


@contextmanager
def encoding_bar(total: int, *, show: bool = True) -> Iterator[Started]:
    """Yield a function that opens one bar a system; bars vanish when they are done, and are for terminals only."""
    with ExitStack() as stack:

        def started(config: Config) -> Callable[[int], object]:
            stack.close()
            disable = None if show else True  # None: where stderr is no terminal
            bar = stack.enter_context(tqdm(total=total, desc=config.name, unit="img", leave=False, disable=disable))
            return bar.update

        yield started


@contextmanager
def upload_bar() -> Iterator[Callable[[int, int], object]]:
    """Show how much of a store is on the GPU, on a terminal; nothing is shown where nothing is uploaded."""
    bars: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, unit="B", unit_scale=True, desc="upload", disable=None))
        bars[0].update(done)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()
