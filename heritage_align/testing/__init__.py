"""Conformance kit: run it in a plugin's own tests, and it finds what went wrong in real projects.

    from heritage_align.testing import parametrize_with_checks

    @parametrize_with_checks([("proposer", "saliency_boxes", {"count": 4})])
    def test_conformance(check):
        check()

    >>> from heritage_align.testing import run_checks
    >>> [result.detail for result in run_checks(("proposer", "random_crops", {"count": 2})) if result.state == "failed"]
    []

Importing this package is cheap (pytest loads its plugin in every session of every project); the checks
themselves are imported when a test module asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "Case",
    "CheckFailed",
    "CheckResult",
    "check_component",
    "checks_for",
    "parametrize_with_checks",
    "run_checks",
]

if TYPE_CHECKING:
    from heritage_align.testing.case import Case
    from heritage_align.testing.kit import (
        CheckFailed,
        CheckResult,
        check_component,
        checks_for,
        parametrize_with_checks,
        run_checks,
    )

_PLACES = {
    "heritage_align.testing.case": ("Case",),
    "heritage_align.testing.kit": (
        "CheckFailed",
        "CheckResult",
        "check_component",
        "checks_for",
        "parametrize_with_checks",
        "run_checks",
    ),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
