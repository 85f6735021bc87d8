"""Errors of workers, told as this process would have told them."""

from __future__ import annotations

from collections.abc import Iterator

from ray.exceptions import RayError, RayTaskError, UserCodeException
from ray.util import get_node_ip_address

from heritage_align.plugin import ConfigError, DataError, HeritageAlignError, MissingDependency, StoreError


def said_by(error: BaseException) -> HeritageAlignError | None:
    """Return the project's own error that a failed task carries; None for another."""
    found = (each for each in _causes(error) if isinstance(each, HeritageAlignError))
    # What Ray raises is both: an error of the task's own class, with a traceback for its text.
    return next((each for each in found if not isinstance(each, RayTaskError)), None)


def is_lost(error: BaseException) -> bool:
    """Return whether a worker, a node or an object was lost: another try may do. A bug of the work itself is none."""
    if "creation task" in str(error):  # a worker that cannot start starts no more the next time
        return False
    return any(isinstance(e, RayError) and not isinstance(e, RayTaskError | UserCodeException) for e in _causes(error))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: of a traceback, what was raised."""
    return str(error).strip().splitlines()[-1].strip()


def named(error: HeritageAlignError) -> HeritageAlignError:
    """Return an error that says on which node it happened."""
    node = get_node_ip_address()
    if isinstance(error, ConfigError):
        return ConfigError(error.problems, f"{error.source} on node {node}")
    if isinstance(error, StoreError | DataError | MissingDependency):
        return type(error)(f"node {node}: {error}")
    return error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        inner = getattr(error, "cause", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__
