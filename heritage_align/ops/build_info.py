"""What the build made and why not more: facts that setup.py wrote beside the library, for ``heritage-align doctor``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

FACTS = Path(__file__).with_name("_build_info.json")


@dataclass(frozen=True)
class BuildInfo:
    """Facts of the last build.

    Attributes:
        requested: HERITAGE_ALIGN_BUILD as it was: auto, cpu, cuda or none.
        cpu: whether the CPU kernels were built.
        cuda: whether the CUDA kernels were built.
        cuda_targets: the architectures that they were built for, e.g. ``("sm_80", "sm_90a", "compute_90")``.
        torch: the version built against; ``target`` is the oldest torch whose ABI is used.
        target: see ``torch``.
        compiler: the first line of the compiler's version.
        nvcc: the release line of nvcc, or an empty string.
        reason: why nothing was built, or an empty string.
        cuda_reason: why CUDA was not built, or an empty string.
    """

    requested: str = "auto"
    cpu: bool = False
    cuda: bool = False
    cuda_targets: tuple[str, ...] = ()
    torch: str = ""
    target: str = ""
    compiler: str = ""
    nvcc: str = ""
    reason: str = ""
    cuda_reason: str = ""


@lru_cache(maxsize=1)
def build_info() -> BuildInfo:
    """Read the facts of the last build; the defaults of :class:`BuildInfo` where nothing was built."""
    if not FACTS.exists():
        return BuildInfo(reason="the extension has not been built: run `python setup.py build_ext --inplace`")
    known = {field.name for field in fields(BuildInfo)}
    facts = {key: value for key, value in json.loads(FACTS.read_text()).items() if key in known}
    facts["cuda_targets"] = tuple(facts.get("cuda_targets", ()))
    return BuildInfo(**facts)
