"""Run the checks: one by one in pytest, or all at once in a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unittest import SkipTest

from heritage_align.hookspecs import Kind
from heritage_align.testing.case import Case
from heritage_align.testing.checks import ALL_CHECKS, Check

Expected = Mapping[str, str] | Callable[[Case], Mapping[str, str]]


class CheckFailed(AssertionError):
    """A component does not keep the contract; the message names the component, the check and what was
    found."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check: `detail` says why it failed or does not apply."""

    check: str
    state: Literal["passed", "failed", "skipped"]
    detail: str = ""


def checks_for(kind: Kind) -> list[Check]:
    """Return the checks of a kind of component: those of every kind first, then its own."""
    return [check for check in ALL_CHECKS if kind in check.kinds]


def run_check(check: Check, case: Case) -> None:
    """Run one check.

    Raises:
        CheckFailed: names the component; what the component raised itself is the cause.
        unittest.SkipTest: the check does not apply to this component.
    """
    try:
        check.run(case)
    except SkipTest:
        raise
    except Exception as error:  # whatever a component raises where it should not is a finding, not a crash
        found = str(error) if isinstance(error, AssertionError) else f"it raised {type(error).__name__}: {error}"
        raise CheckFailed(f"{case} fails {check.name}: {found} [{check.reason}]") from error


def run_checks(case: Case | tuple[Any, ...]) -> list[CheckResult]:
    """Run every check of a component and return what became of each."""
    case = _case(case)
    results = []
    for check in checks_for(case.kind):
        try:
            run_check(check, case)
            results.append(CheckResult(check.name, "passed"))
        except SkipTest as skip:
            results.append(CheckResult(check.name, "skipped", str(skip)))
        except CheckFailed as failure:
            results.append(CheckResult(check.name, "failed", str(failure)))
    return results


def check_component(
    case: Case | tuple[Any, ...], expected_failed_checks: Mapping[str, str] | None = None
) -> list[CheckResult]:
    """Run every check of a component, for scripts and notebooks.

    Args:
        case: a `Case`, or ``(kind, name)`` or ``(kind, name, settings)`` of a registered component.
        expected_failed_checks: check name -> reason; these must fail.

    Raises:
        CheckFailed: lists every check that failed, and every one that was expected to and did not.
        ValueError: an expected name is no check of this kind.
    """
    case = _case(case)
    expected = _known(expected_failed_checks or {}, case)
    results = run_checks(case)
    faults = [r.detail for r in results if r.state == "failed" and r.check not in expected]
    faults += [
        f"{case}: {r.check} was expected to fail and {r.state}"
        for r in results
        if r.state != "failed" and r.check in expected
    ]
    if faults:
        raise CheckFailed("\n".join(faults))
    return results


def parametrize_with_checks(
    cases: Iterable[Case | tuple[Any, ...]], *, expected_failed_checks: Expected | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a test ``def test_conformance(check): check()`` to run once for every component and check.

    Args:
        cases: as for `check_component`.
        expected_failed_checks: check name -> reason, or a function of the case that returns such a mapping;
            these become strict xfails, so a fault that has been mended does not stay on the list.

    Raises:
        ValueError: an expected name is no check of the components' kind.
    """
    import pytest

    params = []
    for case in map(_case, cases):
        wanted = expected_failed_checks(case) if callable(expected_failed_checks) else expected_failed_checks
        expected = _known(wanted or {}, case)
        for check in checks_for(case.kind):
            marks = []
            if check.name in expected:
                marks.append(pytest.mark.xfail(reason=expected[check.name], strict=True, raises=CheckFailed))
            params.append(pytest.param(partial(run_check, check, case), id=f"{case}-{check.name}", marks=marks))
    return pytest.mark.parametrize("check", params)


def _case(given: Case | tuple[Any, ...]) -> Case:
    return given if isinstance(given, Case) else Case(*given)


def _known(expected: Mapping[str, str], case: Case) -> Mapping[str, str]:
    names = {check.name for check in checks_for(case.kind)}
    unknown = sorted(set(expected) - names)
    if unknown:
        raise ValueError(f"expected_failed_checks: {', '.join(unknown)}: no such check of a {case.kind}")
    return expected
