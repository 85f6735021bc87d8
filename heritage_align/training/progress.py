"""What a run says of its progress where there is no terminal for a bar: a line an epoch on stderr, for a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

FIRST_STEPS = 5
"""Steps from which the time of an epoch is told before the first one ends; fewer where they take long."""
LONG = 10.0
"""Seconds after which it is told with the steps that there are."""
_UNSAID = frozenset({"epoch", "learning_rate", "seconds"})


class EpochLog:
    """Lines of one process; times are of this process, so a run that goes on does not count what went before.

    Args:
        epochs: of the whole run.
        shown: False says nothing.
    """

    def __init__(self, epochs: int, *, shown: bool) -> None:
        self._epochs, self._shown = epochs, shown
        self._started = self._begun = time.perf_counter()
        self._steps = self._done = 0
        self._told = False

    def start_measured(self, metrics: Mapping[str, float]) -> None:
        """Say what the model finds before its first step."""
        self._begun = time.perf_counter()
        self._say(f"before the first epoch: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}")

    def epoch_begins(self) -> None:
        """Start the clock of an epoch's steps."""
        self._started, self._steps = time.perf_counter(), 0

    def step_done(self, epoch: int, steps: int) -> None:
        """Say once, after the first steps, how long an epoch takes.

        Args:
            epoch: epochs done.
            steps: of an epoch.
        """
        self._steps += 1
        seconds = time.perf_counter() - self._started
        early = self._steps < min(FIRST_STEPS, steps - 1) and seconds < LONG
        if self._told or early or self._steps == steps:
            return
        self._told = True
        each = seconds / self._steps * steps
        left = each * (self._epochs - epoch)
        times = f"about {_span(each)} an epoch, {_span(left)} in all; validation comes on top"
        self._say(f"epoch {epoch + 1}/{self._epochs}: {times}")

    def epoch_done(self, record: Mapping[str, float]) -> None:
        """Say an epoch's losses, recall and seconds, and how long the others will take, validation counted."""
        self._told, self._done = True, self._done + 1
        now = time.perf_counter()
        epoch = int(record["epoch"])
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name not in _UNSAID)
        left = (now - self._begun) / self._done * (self._epochs - epoch)
        end = f"about {_span(left)} left" if epoch < self._epochs else "the last"
        self._say(f"epoch {epoch}/{self._epochs}: {numbers}, {_span(now - self._started)}, {end}")

    def _say(self, line: str) -> None:
        if self._shown:
            print(line, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    """Return a time as people say it: 4.2 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
