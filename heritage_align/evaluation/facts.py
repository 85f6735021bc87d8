"""Versions and hardware of a run, for result files and reports."""

from __future__ import annotations

import os
import platform

import torch

from heritage_align import __version__


def run_facts(seed: int) -> dict[str, str]:
    """Return versions and hardware, for reports and result files."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "heritage-align": __version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "processor": f"{processor_name()}, {os.cpu_count()} cores",
        "GPU": device,
        "seed": str(seed),
    }


def processor_name() -> str:
    """Return the processor's model name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
