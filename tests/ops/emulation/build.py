"""Compile the CUDA sources with g++ against the emulation beside this file."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "csrc"
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"
INCLUDE = Path(torch.__file__).parent / "include"
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE", TARGET]
FLAGS += ["-Dheritage_align=heritage_align_emulated", "-include", str(HERE / "cuda_emulation.h")]


def compile_emulation(folder: Path) -> Path | None:
    """Return the shared library, made in ``folder`` unless it is there from the same sources; None without g++."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        return None
    parts = [HERE, SOURCES, SOURCES / "cuda", SOURCES / "epilogue"]
    texts = [path.read_bytes() for part in parts for path in sorted(part.iterdir()) if path.is_file()]
    digest = hashlib.sha256(b"".join([*texts, torch.__version__.encode(), *map(str.encode, FLAGS)])).hexdigest()
    library = folder / f"emulated-{digest[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        hopper = [str(SOURCES / "cuda" / f"hopper_{name}.cu") for name in ("focal", "focal_pairs", "pooled")]
        sources = [str(HERE / "emulated_ops.cpp"), str(HERE / "cuda_emulation.cpp"), "-x", "c++", *hopper, "-x", "none"]
        include = [f"-I{INCLUDE}", f"-I{INCLUDE}/torch/csrc/api/include", f"-I{HERE}"]
        link = [f"-L{INCLUDE.parent}/lib", "-ltorch_cpu"]
        subprocess.run([compiler, *FLAGS, *include, *sources, "-o", str(partial), *link], check=True)
        partial.replace(library)
    return library


def load_emulation(library: Path) -> ctypes.CDLL:
    """Register ``torch.ops.heritage_align_emulated``; the handle has the C functions of emulated_ops.cpp."""
    torch.ops.load_library(str(library))
    return ctypes.CDLL(str(library))
