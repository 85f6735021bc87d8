"""What ``ptxas -v`` prints while nvcc compiles: the resources of each kernel, and its warnings."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")
REMARK = re.compile(r"\(?\bC(\d{4})\)?")
STALLS = range(7500, 7600)  # wgmma in series, setmaxnreg without effect: "Potential Performance Loss"
ENUMERATORS = {"Storage": ("f32", "f16", "bf16", "i8"), "Pooler": ("max", "softmax", "sum")}


class Resources(NamedTuple):
    """Of one kernel on one architecture; all but the registers in bytes."""

    kernel: str
    architecture: str
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    static_shared: int


def resources_of(log: str) -> list[Resources]:
    """One entry a kernel and architecture; ValueError if a kernel is announced whose numbers do not follow."""
    found = []
    for part in re.split(r"(?=ptxas info\s*: Compiling entry function)", log)[1:]:
        kernel, stack, used = KERNEL.search(part), STACK.search(part), USED.search(part)
        if kernel is None or stack is None or used is None:
            raise ValueError(f"no resources follow in {part.splitlines()[0]!r}")
        found.append(
            Resources(
                kernel[1], kernel[2], int(used[1]), int(stack[2]), int(stack[3]), int(stack[1]), int(used[2] or 0)
            )
        )
    return found


def stalls_in(log: str) -> list[str]:
    """The lines that say that products run one after the other, or that a request for registers is void."""
    return [line for line in log.splitlines() if any(int(number) in STALLS for number in REMARK.findall(line))]


def short_names(mangled: list[str]) -> list[str]:
    """``focal_kernel<f16>`` for each mangled name: no namespaces, no parameters, enumerators by their names."""
    done = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
    return [shortened(name) for name in done.stdout.splitlines()]


def shortened(demangled: str) -> str:
    """See :func:`short_names`."""
    name = demangled.replace("(anonymous namespace)::", "").removeprefix("void ")
    name = re.sub(r"\b\w+::(?=\w)", "", name)
    name = re.sub(r"\((\w+)\)(\d+)", lambda m: ENUMERATORS[m[1]][int(m[2])], name)
    return name.rpartition("(")[0].replace(" >", ">")
