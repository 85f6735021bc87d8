"""Errors that a user can act on: one clear sentence that names the thing, never a traceback on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class HeritageAlignError(Exception):
    """Base of every error that is the input's or the installation's fault; commands exit with status 2 on it."""


class ConfigError(HeritageAlignError):
    """One or more faults of a configuration, all reported at once.

    Args:
        problems: sentences of the form ``filters.1.min_keypoints: ...``.
        source: the file or recipe that was read.
    """

    def __init__(self, problems: Sequence[str], source: str = "config") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...], str]]:
        return type(self), (self.problems, self.source)  # what a worker found is told by another process


class PluginError(HeritageAlignError):
    """A plugin is broken, incompatible or unknown; the original exception is the ``__cause__``."""


class MissingDependency(HeritageAlignError):
    """An optional library is not installed; the message says how to get it."""


class ImageError(HeritageAlignError):
    """A picture cannot be decoded; the message names the file and the reason."""


class DataError(HeritageAlignError, ValueError):
    """A data set, a text, a caption file or a feature file is not what it should be; names file and place."""


class CheckpointError(HeritageAlignError):
    """Weights do not fit the architecture; names the first mismatches."""


class StoreError(HeritageAlignError):
    """A feature store is missing, half written, or made by another encoder or configuration."""


class Note(UserWarning):
    """Something that stops nothing and that the user should know; commands print it as one line."""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or ``""`` where nothing is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
