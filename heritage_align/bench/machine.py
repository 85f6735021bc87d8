"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from heritage_align.ops import build_info

PEERS = ("pylate", "sentence-transformers", "maxsim-cpu", "late-interaction-kernels", "flash-maxsim")


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Hardware, load and versions."""
    facts: dict[str, Any] = {
        "device": device.type,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "build": vars(build_info()),
        "peers": {name: found for name in PEERS if (found := _version(name)) is not None},
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = {
            "name": properties.name,
            "memory": properties.total_memory,
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
        }
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
