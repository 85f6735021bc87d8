"""Conformance kit: run it in a plugin's own tests, and it finds what went wrong in real projects.

    from heritage_align.testing import parametrize_with_checks

    @parametrize_with_checks([("proposer", "saliency_boxes", {"count": 4})])
    def test_conformance(check):
        check()

Importing this package is cheap (pytest loads its plugin in every session of every project); the checks
themselves are imported when a test module asks for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_LAZY = {
    "Case": "heritage_align.testing.case",
    "CheckFailed": "heritage_align.testing.kit",
    "CheckResult": "heritage_align.testing.kit",
    "check_component": "heritage_align.testing.kit",
    "checks_for": "heritage_align.testing.kit",
    "parametrize_with_checks": "heritage_align.testing.kit",
    "run_checks": "heritage_align.testing.kit",
}

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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
