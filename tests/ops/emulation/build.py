"""Compile the CUDA sources with g++ against the emulation beside this file."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "csrc"
INCLUDE = Path(torch.__file__).parent / "include"
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE"]
FLAGS += ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-Dheritage_align=heritage_align_emulated"]
FLAGS += ["-include", str(HERE / "cuda_emulation.h")]
FLAGS += [f"-I{INCLUDE}", f"-I{INCLUDE}/torch/csrc/api/include", f"-I{HERE}"]


def ninja_lines(compiler: str, library: str) -> list[str]:
    """The ninja file: a translation unit a source, as nvcc has it, so that only what changed is compiled again."""
    ours = [HERE / "emulated_ops.cpp", HERE / "cuda_emulation.cpp"]
    kernels = [path for path in sorted((SOURCES / "cuda").glob("*.cu")) if path.name != "register.cu"]
    lines = [
        "rule compile",
        f"  command = {compiler} {' '.join(FLAGS)} -MMD -MF $out.d -x c++ -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} -shared $in -o $out -L{INCLUDE.parent}/lib -ltorch_cpu",
    ]
    lines += [f"build {path.stem}.o: compile {path}" for path in [*ours, *kernels]]
    lines += [f"build {library}: link {' '.join(f'{path.stem}.o' for path in [*ours, *kernels])}"]
    return lines


def compile_emulation(folder: Path) -> Path | None:
    """Return the shared library, made or brought up to date in ``folder``; None without g++ or ninja."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
    if compiler is None or ninja is None:
        return None
    library = folder / "emulated.so"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be compiling
        (folder / "build.ninja").write_text("\n".join(ninja_lines(compiler, library.name)) + "\n")
        done = subprocess.run([ninja, "-C", str(folder), library.name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the emulation does not compile:\n{(done.stdout + done.stderr)[:4000]}")
    return library


def load_emulation(library: Path) -> ctypes.CDLL:
    """Register ``torch.ops.heritage_align_emulated``; the handle has the C functions of emulated_ops.cpp."""
    torch.ops.load_library(str(library))
    return ctypes.CDLL(str(library))
