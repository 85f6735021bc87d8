"""The kernels and the wheel's tag; every other fact of the package is in pyproject.toml.

``heritage_align/ops/_kernels.so`` holds the torch ops over LibTorch's stable ABI, CPU always, CUDA where nvcc is found.
ninja builds it in build/kernels, so that only what changed is compiled again. It is no Python module and calls nothing
of Python, so one wheel serves every Python and every torch from 2.10 on.

``HERITAGE_ALIGN_BUILD`` is auto (default), cpu, cuda or none. What is asked for by name and cannot be built is an
error; in auto, a compiler that is missing or fails does not stop an installation: the slow reference runs and says so,
and ``_build_info.json`` says why. A missing torch or ninja stops it: one command puts that right.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    raise SystemExit(
        "heritage_align: setuptools 77 or newer is needed: pip install --upgrade setuptools, or leave"
        " --no-build-isolation out"
    ) from None

ROOT = Path(__file__).parent.resolve()
sys.path.insert(0, str(ROOT / "build_backend"))
from installed_torch import installed_torch  # noqa: E402 (not on the path before)

SOURCES = ROOT / "csrc"
FACTS = "_build_info.json"
TARGET = "2.10"  # the oldest torch that the library runs on
TARGET_MACRO = "-DTORCH_TARGET_VERSION=0x020a000000000000"
# Machine code of sm_80 runs on every GPU of 8.x, that of sm_90a on 9.0 alone; PTX of compute_90 is for later ones.
# heritage_align/ops/architectures.py has the rules. sm_90a must stay: on 9.0 the library expects its kernels.
CUDA_TARGETS = ("sm_80", "sm_90a", "compute_90")
COMMON = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-unknown-pragmas"]
# Contraction to fused multiply-adds and no errno are what the kernels are written for. Nothing here reorders sums.
LEVEL = [
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-Wno-maybe-uninitialized",
]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
LEVEL_FLAGS = {
    "level_baseline": [],
    "level_avx2": AVX2,
    "level_avx512": AVX512,
    "level_avx512_vnni": [*AVX512, "-mavx512vnni"],
    "level_avx512_bf16": [*AVX512, "-mavx512vnni", "-mavx512bf16"],
}


class BuildFailure(Exception):
    """A library could not be built; the message says why in one line."""


def first_line(*command: str) -> str:
    """The first line that a program prints, or an empty string if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def find_nvcc() -> str | None:
    """nvcc of CUDA_HOME, else the one on the path, else the usual place."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    places = [str(Path(home) / "bin" / "nvcc") for home in homes if home]
    return next(
        (p for p in [*places, shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"] if p and Path(p).exists()),
        None,
    )


def cuda_library_folders(nvcc: str) -> list[Path]:
    """Where libcudart_static.a may be. nvcc itself says where its toolkit is; the one on the path may be a wrapper."""
    done = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True)
    tops = [line.split("=", 1)[1] for line in done.stderr.splitlines() if line.startswith("#$ TOP=")]
    root = Path(tops[0] if tops else Path(nvcc).resolve().parent.parent)
    folders = [root / "lib64", root / "lib", root / "targets" / f"{os.uname().machine}-linux" / "lib"]
    return [folder.resolve() for folder in folders if folder.exists()]


def run_ninja(folder: Path, lines: list[str], target: str) -> None:
    """Write ``build.ninja`` into ``folder`` and build ``target`` with it."""
    ninja = shutil.which("ninja") or str(Path(sysconfig.get_path("scripts")) / "ninja")
    if not Path(ninja).exists():
        raise SystemExit("heritage_align: ninja was not found: pip install ninja")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    done = subprocess.run([ninja, "-C", str(folder), target], capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        marks = ("error:", "cannot find", "undefined reference", "fatal")
        wrong = [line for line in (done.stdout + done.stderr).splitlines() if any(mark in line for mark in marks)]
        raise BuildFailure(wrong[0].strip()[:300] if wrong else "the compiler failed")


def quoted(flags: list[str]) -> str:
    """Flags on one line of a ninja file."""
    return " ".join(flag.replace("$", "$$").replace(" ", "$ ") for flag in flags)


def kernel_lines(compiler: str, nvcc: str | None, torch_root: Path, output: Path) -> list[str]:
    """The ninja file of the kernels; without ``nvcc``, CPU only."""
    include = [f"-I{torch_root}/include", f"-I{torch_root}/include/torch/csrc/api/include"]
    targets = [f"-gencode=arch=compute_{target.split('_')[1]},code={target}" for target in CUDA_TARGETS]
    nvcc_flags = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden"]
    nvcc_flags += ["-cudart=static", "--threads=0", "-diag-suppress=20012", *targets, TARGET_MACRO, *include]
    nvcc_flags += ["-Xptxas=-v"]  # registers, spills and stalls are said nowhere else; the tests read the logs
    lines = [
        "ninja_required_version = 1.5",
        "rule cxx",
        f"  command = {compiler} -MMD -MF $out.d $flags -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule nvcc",
        f"  command = {nvcc} -MD -MF $out.d {quoted(nvcc_flags)} -c $in -o $out 2> $out.log"
        " || (cat $out.log >&2; exit 1)",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} -shared $in $flags -o $out",
    ]
    objects = []

    def compile_with(rule: str, source: Path, flags: list[str]) -> None:
        objects.append(f"{source.parent.name}_{source.stem}.o")
        made = f"{objects[-1]} | {objects[-1]}.log" if rule == "nvcc" else objects[-1]
        lines.append(f"build {made}: {rule} {quoted([str(source)])}")
        lines.append(f"  flags = {quoted(flags)}")

    compile_with("cxx", SOURCES / "ops.cpp", [*COMMON, TARGET_MACRO, *include])
    x86 = os.uname().machine in ("x86_64", "AMD64")
    for source in sorted((SOURCES / "cpu").glob("*.cpp")):
        if source.stem in LEVEL_FLAGS:
            if x86 or source.stem == "level_baseline":
                compile_with("cxx", source, [*COMMON, *LEVEL, *LEVEL_FLAGS[source.stem]])
        else:
            compile_with("cxx", source, [*COMMON, TARGET_MACRO, *include])
    link = [f"-L{torch_root}/lib", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-Wl,--as-needed"]
    if nvcc is not None:
        for source in sorted((SOURCES / "cuda").glob("*.cu")):
            compile_with("nvcc", source, [])
        link += [f"-L{folder}" for folder in cuda_library_folders(nvcc)]
        link += ["-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    lines += [f"build {quoted([str(output)])}: link {' '.join(objects)}", f"  flags = {quoted(link)}"]
    return lines


class BuildKernels(build_ext):
    """Builds the library with all that works here, and records why the rest does not."""

    def run(self) -> None:
        """Build, then write the facts beside the library."""
        self.facts: dict[str, object] = {
            "requested": os.environ.get("HERITAGE_ALIGN_BUILD", "auto"),
            "target": TARGET,
        }
        if self.facts["requested"] not in ("auto", "cpu", "cuda", "none"):
            raise SystemExit(f"HERITAGE_ALIGN_BUILD must be auto, cpu, cuda or none; got {self.facts['requested']!r}")
        super().run()

    def get_ext_filename(self, fullname: str) -> str:
        """The ops library is no Python module, so its name carries no Python version."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Build the library; in auto a failure of the compiler is a message and a fact, not an error."""
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        requested = self.facts["requested"]
        try:
            if requested == "none":
                raise BuildFailure("HERITAGE_ALIGN_BUILD=none")
            compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
            if compiler is None:
                raise BuildFailure("no C++ compiler was found: install g++ 9 or newer")
            self.facts["compiler"] = first_line(compiler, "--version")
            self.build_kernels(compiler, output)
        except BuildFailure as failure:
            self.facts["reason"] = str(failure)
            output.unlink(missing_ok=True)
            if requested in ("cpu", "cuda"):
                raise SystemExit(f"heritage_align: {ext.name} was not built: {failure}") from failure
            self.announce(f"heritage_align: {ext.name} was not built ({failure}); pure Python takes its place", 3)
        output.with_name(FACTS).write_text(json.dumps(self.facts, indent=1) + "\n")

    def copy_extensions_to_source(self) -> None:
        """For --inplace and editable installs: the library if it exists, and the facts."""
        for ext in self.extensions:
            built, place = (
                Path(self.build_lib) / self.get_ext_filename(ext.name),
                ROOT / self.get_ext_filename(ext.name),
            )
            if built.exists():
                # A new file under the old name: a process that has the old one loaded keeps it.
                fresh = place.with_name(place.name + ".new")
                shutil.copy2(built, fresh)
                fresh.replace(place)
            else:
                place.unlink(missing_ok=True)
            shutil.copy2(built.with_name(FACTS), place.with_name(FACTS))

    def get_outputs(self) -> list[str]:
        """What exists: a library that was not built is not installed."""
        outputs = [Path(output) for output in super().get_outputs()]
        return [str(output) for output in outputs if output.exists()]

    def build_kernels(self, compiler: str, output: Path) -> None:
        """CPU and, where asked for and possible, CUDA; falls back to CPU alone."""
        torch = installed_torch()
        if torch is None:
            raise SystemExit(
                "heritage_align: the kernels are built against torch 2.10 or newer, which is not installed: pip install"
                " torch first, or leave --no-build-isolation out, or set HERITAGE_ALIGN_BUILD=none for no kernels"
            )
        self.facts["torch"] = torch.version
        folder = ROOT / "build" / "kernels"
        nvcc, reason = self.usable_nvcc()
        if nvcc is not None:
            self.facts["nvcc"] = first_line("sh", "-c", f"'{nvcc}' --version | grep release")
            try:
                run_ninja(folder / "cuda", kernel_lines(compiler, nvcc, torch.root, output), str(output))
                self.facts.update(cpu=True, cuda=True, cuda_targets=CUDA_TARGETS)
                return
            except BuildFailure as failure:
                if self.facts["requested"] == "cuda":
                    raise
                reason = f"compiling for CUDA failed: {failure}"
                self.announce(f"heritage_align: {reason}; building the CPU kernels alone", 3)
        self.facts["cuda_reason"] = reason
        run_ninja(folder / "cpu", kernel_lines(compiler, None, torch.root, output), str(output))
        self.facts["cpu"] = True

    def usable_nvcc(self) -> tuple[str | None, str]:
        """nvcc if CUDA is to be built, else why not."""
        if self.facts["requested"] == "cpu":
            return None, "HERITAGE_ALIGN_BUILD=cpu"
        if not list((SOURCES / "cuda").glob("*.cu")):
            return None, "csrc/cuda holds no sources"
        nvcc = find_nvcc()
        if nvcc is None and self.facts["requested"] == "cuda":
            raise BuildFailure("HERITAGE_ALIGN_BUILD=cuda, but nvcc was not found: set CUDA_HOME")
        return nvcc, "nvcc was not found (set CUDA_HOME to build for CUDA)"


class WheelOfEveryPython(bdist_wheel):
    """Tags the wheel py3-none: what is compiled in it knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """The platform only where something is compiled."""
        compiled = os.environ.get("HERITAGE_ALIGN_BUILD") != "none"
        return "py3", "none", super().get_tag()[2] if compiled else "any"


setup(
    ext_modules=[Extension("heritage_align.ops._kernels", sources=["csrc/ops.cpp"])],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": WheelOfEveryPython},
)
