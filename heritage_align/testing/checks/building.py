"""Checks of building any component: the protocol, and what it does to the process around it."""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image

from heritage_align import protocols
from heritage_align.hookspecs import KINDS
from heritage_align.planning import looks_for
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect

PROTOCOLS: dict[str, type] = {kind: getattr(protocols, kind.capitalize()) for kind in KINDS}


@check(*KINDS)
def check_protocol(case: Case) -> None:
    """A method that is missing shows up after hours of encoding, unless it is asked for here."""
    built = case.build()
    for protocol in _protocols(case):
        missing = [name for name in protocol.__annotations__ if not hasattr(built, name)]
        methods = [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]
        missing += [name for name in methods if not callable(getattr(built, name, None))]
        expect(not missing, f"{type(built).__name__} lacks {', '.join(missing)} of protocols.{protocol.__name__}")


def _protocols(case: Case) -> list[type]:
    """Return what the component says that it keeps: its kind's protocol, of a reranker those of its outputs."""
    if case.kind != "reranker":
        return [PROTOCOLS[case.kind]]
    asked = {"texts": protocols.Reranker, "details": protocols.DetailReranker}
    return [asked[output] for output in sorted(looks_for(case.component)) if output in asked]


@check(*KINDS)
def check_global_seeds_are_untouched(case: Case) -> None:
    """A component that seeds the process's generators makes everything after it repeat, in training
    silently."""
    after = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        case.build()
        after.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    for label, first, second in zip(("random", "numpy.random", "torch"), *after):
        expect(first != second, f"building it seeds {label}'s global generator; use one of its own")


@check(*KINDS)
def check_process_settings_are_untouched(case: Case) -> None:
    """Libraries have switched cuDNN's modes, gradients or the pixel limit for everybody at import or
    construction."""
    before = _process_settings()
    case.build()
    after = _process_settings()
    changed = [f"{key} from {before[key]} to {after[key]}" for key in before if before[key] != after[key]]
    expect(not changed, f"building it changes {', '.join(changed)}")


def _process_settings() -> dict[str, object]:
    return {
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.are_deterministic_algorithms_enabled()": torch.are_deterministic_algorithms_enabled(),
        "torch.backends.cudnn.deterministic": torch.backends.cudnn.deterministic,
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "PIL.Image.MAX_IMAGE_PIXELS": Image.MAX_IMAGE_PIXELS,
    }
