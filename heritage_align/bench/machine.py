"""What a measurement was made on: hardware, versions, the state of the code, and what the hardware does at best."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from heritage_align.ops import build_info

from .timing import time_in_turn, time_on_gpu

PEERS = ("pylate", "sentence-transformers", "maxsim-cpu", "late-interaction-kernels", "flash-maxsim", "triton")
SMI_FIELDS = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "temperature.gpu")


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
            "l2_bytes": properties.L2_cache_size,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "path": os.environ.get("HERITAGE_ALIGN_CUDA_PATH", "default"),
            "nvidia_smi": nvidia_smi(),
        }
    return facts


def nvidia_smi() -> dict[str, str]:
    """Driver, clocks and power limit as the driver states them now, with units; empty where nvidia-smi does not run."""
    line = _output("nvidia-smi", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader", "--id=0")
    return dict(zip(SMI_FIELDS, line.split(", "))) if line else {}


def commit() -> str:
    """The state of the code: HERITAGE_ALIGN_COMMIT, else what git says of this tree, else "unknown"."""
    here = str(Path(__file__).parent)
    said = _output("git", "-C", here, "describe", "--always", "--dirty", "--exclude=*")
    return os.environ.get("HERITAGE_ALIGN_COMMIT") or said or "unknown"


def label(device: torch.device) -> str:
    """How result files name the device: "cpu", or the card and the path that was asked for, if one was.

    For example "nvidia-h100-80gb-hbm3", or "nvidia-h100-80gb-hbm3-ampere".
    """
    if device.type == "cpu":
        return "cpu"
    name = f"{torch.cuda.get_device_name(device)} {os.environ.get('HERITAGE_ALIGN_CUDA_PATH', '')}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def copy_bandwidth(device: torch.device, *, seconds: float) -> float:
    """Bytes a second that a copy of 256 MiB (1 GiB on a GPU) reads and writes, the median of a few."""
    source = torch.zeros(1 << (30 if device.type == "cuda" else 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> torch.Tensor:
        return target.copy_(source)

    if device.type == "cuda":
        timing = time_on_gpu({("copy", "eager"): copy}, seconds=seconds)["copy", "eager"]
    else:
        timing = time_in_turn({"copy": copy}, seconds=seconds)["copy"]
    return 2 * source.numel() / timing.p50


def matrix_rate(*, seconds: float, n: int = 8192) -> float:
    """Floating-point operations a second of cuBLAS on float16 matrices ``(n, n)``."""
    square = torch.randn(n, n, device="cuda", dtype=torch.float16) / n**0.5
    timing = time_on_gpu({("product", "eager"): lambda: square @ square}, seconds=seconds)["product", "eager"]
    return 2 * n**3 / timing.p50


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


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
