"""Which code of the build a GPU runs, and which kernels take it there.

The rules are CUDA's (CUDA C++ Programming Guide, "Application Compatibility"): machine code of ``sm_XY`` runs on
compute capability X.Y and later minor versions of X; that of ``sm_XYa`` on X.Y alone; PTX of ``compute_XY`` on X.Y and
everything later, compiled by the driver when it is first used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

OLDEST = (8, 0)  # cp.async, and mma.sync of these shapes
NEVER: tuple[int, ...] = ()
Capability = tuple[int, int]

# Of each generation a GPU or two, for a list of what runs where.
GENERATIONS: dict[Capability, str] = {
    (8, 0): "A100",
    (8, 6): "RTX 30, A10",
    (8, 9): "RTX 40, L4, L40",
    (9, 0): "H100, H200",
    (10, 0): "B200",
    (12, 0): "RTX 50",
}


@dataclass(frozen=True)
class Architecture:
    """What runs on a GPU of one compute capability.

    Attributes:
        target: the target of the build whose code runs, e.g. ``"sm_80"`` or ``"compute_90"``; None where none does.
        kernels: "hopper" or "sm_80", the two sets of kernels; None without a target.
        reason: why nothing runs, or an empty string.
    """

    target: str | None
    kernels: Literal["hopper", "sm_80"] | None
    reason: str = ""

    def __str__(self) -> str:
        if self.target is None:
            return self.reason
        code = "PTX" if self.target.startswith("compute_") else "machine code"
        when = ", compiled by the driver when first used" if code == "PTX" else ""
        kernels = "the kernels for Hopper where they fit" if self.kernels == "hopper" else "the kernels for sm_80"
        return f"{code} of {self.target}{when}; {kernels}"


def architecture(capability: Capability, targets: Sequence[str]) -> Architecture:
    """Say what of a build for ``targets`` runs on a GPU of ``capability``, e.g. ``(8, 6)``.

    The driver prefers machine code of the GPU itself, then that of the nearest earlier minor version, then PTX.
    ``HERITAGE_ALIGN_CUDA_PATH=ampere`` keeps to the kernels for sm_80, as it does in the library.
    """
    name = f"{capability[0]}.{capability[1]}"
    if capability < OLDEST:
        return Architecture(None, None, f"compute capability {name} is older than 8.0, which the kernels need")
    ranks = {target: _rank(capability, target) for target in targets}
    target = max(ranks, key=ranks.__getitem__, default="")
    if ranks.get(target, NEVER) == NEVER:
        built = ", ".join(targets) or "nothing"
        return Architecture(None, None, f"the library was built for {built}: nothing for compute capability {name}")
    hopper = capability == (9, 0) and os.environ.get("HERITAGE_ALIGN_CUDA_PATH") != "ampere"
    return Architecture(target, "hopper" if hopper else "sm_80")


def _rank(capability: Capability, target: str) -> tuple[int, ...]:
    """How near the code of a target is to a GPU, for comparison; NEVER where it does not run there."""
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)(a?)", target)
    if found is None:
        raise ValueError(f"{target!r} is no target of nvcc such as sm_80, sm_90a or compute_90")
    version = int(found[2]), int(found[3])
    if found[4]:
        runs = version == capability
    elif found[1] == "sm":
        runs = version[0] == capability[0] and version[1] <= capability[1]
    else:
        runs = version <= capability
    return (found[1] == "sm", *version, bool(found[4])) if runs else NEVER
