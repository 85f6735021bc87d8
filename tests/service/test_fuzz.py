"""Requests that a machine invents from OpenAPI: never a fault of ours, and never an answer that is not described.

HERITAGE_ALIGN_FUZZ_CASES says how many in all; ten thousand are a matter of six minutes.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

CASES = int(os.environ.get("HERITAGE_ALIGN_FUZZ_CASES", "300"))
ASKED = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]


def test_no_request_is_too_odd(service: Any) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 12
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    asked = 0
    for operation in operations:
        for mode in modes:
            asked += ask(operation, mode, CASES // (len(operations) * len(modes)))
    assert asked > CASES // 2
    assert not [line for line in service.lines if "traceback" in line]


def ask(operation: Any, mode: GenerationMode, cases: int) -> int:
    """Ask a page with requests that fit its description, or that do not; return how many there were."""
    asked = 0
    if mode == GenerationMode.NEGATIVE and not operation.body and not list(operation.iter_parameters()):
        return 0  # there is nothing to get wrong

    @settings(max_examples=cases, deadline=None, derandomize=CASES == 300, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        if mode == GenerationMode.POSITIVE and asked % 2:
            make_answerable(case)
        case.call_and_validate(checks=ASKED, timeout=30)

    each()
    return asked


def make_answerable(case: schemathesis.Case) -> None:
    """Name what is there: invented ids and recipes are all unknown, and a request would get no further."""
    if "image_id" in case.path_parameters:
        case.path_parameters["image_id"] = "test-00000-0"
    case.query.pop("recipe", None)
    if isinstance(case.body, dict):
        named = {"id": "test-00000-0", "documents": ["test-00000-0", {"id": "test-00001-2"}], "pictures": []}
        case.body.update({name: value for name, value in named.items() if name in case.body})
        for name in ("recipe", "model", "min_relevance", "whole"):
            case.body.pop(name, None)
