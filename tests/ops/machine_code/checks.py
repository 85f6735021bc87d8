"""Compare what was compiled with ``budgets.py``. Every function returns complaints, none if all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
sass = SimpleNamespace(**run_path(str(HERE / "sass.py")))
TENSOR = ("HGMMA", "HMMA", "IMMA", "IGMMA", "QGMMA", "DMMA")
LOCAL = ("LDL", "STL")


def line_for(kernel: str, lines: Iterable[Any]) -> Any:
    """The first line of a table that fits the kernel, or None."""
    return next((line for line in lines if fnmatchcase(kernel, line.kernel)), None)


def over_budget(resources: Iterable[Any], budgets: list[Any], names: Callable[[list[str]], list[str]]) -> list[str]:
    """What ``ptxas`` says of each kernel (``ptxas.Resources``) against the lines; ``names`` shortens mangled names."""
    resources = list(resources)
    complaints, used = [], set()
    for found, name in zip(resources, names([entry.kernel for entry in resources])):
        line = line_for(name, budgets)
        if line is None:
            complaints.append(f"{name} has no line in budgets.py")
            continue
        used.add(line.kernel)
        most = line.sm_90a if found.architecture == "sm_90a" else line.sm_80
        for what, number, allowed in [
            ("registers", found.registers, most.registers),
            ("bytes of spill stores", found.spill_stores, most.stores),
            ("bytes of spill loads", found.spill_loads, most.loads),
            ("bytes of stack", found.stack, most.stack),
            ("bytes of static shared memory", found.static_shared, 0),
        ]:
            if number > allowed:
                complaints.append(f"{name}, {found.architecture}: {number} {what}, {allowed} in budgets.py")
    complaints += [f"budgets.py: {line.kernel} is no kernel" for line in budgets if line.kernel not in used]
    return complaints


def wrong_code(kernels: Iterable[tuple[str, Any]], architecture: str, lines: list[Any]) -> list[str]:
    """Kernels (short name, ``sass.Kernel``) against the lines for their architecture."""
    complaints, used = [], set()
    here = [line for line in lines if architecture in line.architectures]
    for name, kernel in kernels:
        line = line_for(name, here)
        products = {i.name for i in kernel.instructions if i.opcode in TENSOR}
        if line is None:
            found = [f"tensor instructions {sorted(products)}, and no line in budgets.py"] if products else []
        else:
            used.add(line.kernel)
            found = wrong_products(kernel, products, line) + wrong_loops(kernel, products, line)
            found += [f"no {copy}" for copy in line.copies if sass.count(kernel.instructions, copy) == 0]
        complaints += [f"{name}, {architecture}: {complaint}" for complaint in found]
    complaints += [f"budgets.py: {line.kernel} is none of {architecture}" for line in here if line.kernel not in used]
    return complaints


def wrong_products(kernel: Any, products: set[str], line: Any) -> list[str]:
    """The tensor instructions, and how many of wgmma are under way together.

    Where ptxas puts products in series, each has its own WARPGROUP.ARRIVE or is followed by its own WARPGROUP.DEPBAR.
    """
    complaints = []
    if products != line.products:
        complaints.append(f"tensor instructions {sorted(products)}, not {sorted(line.products)}")
    run = 0
    for instruction in kernel.instructions:
        if instruction.opcode == "HGMMA":
            run += 1
        elif instruction.opcode == "WARPGROUP" and run > 0:
            if run < line.run:
                complaints.append(f"{run} wgmma up to {instruction.name} at {instruction.address:#x}, not {line.run}")
            run = 0
    return complaints


def wrong_loops(kernel: Any, products: set[str], line: Any) -> list[str]:
    """What the innermost loops of products hold besides."""
    complaints = []
    loops = sass.loops_of(kernel) if products else []
    for opcode in sorted({name.partition(".")[0] for name in products}):
        innermost = sass.innermost_with(loops, opcode)
        if not innermost:
            complaints.append(f"no loop with {opcode}")
        for loop in innermost:
            where = f"the loop with {opcode} at {loop[0].address:#x}"
            local = sum(i.opcode in LOCAL for i in loop)
            loads = sum(i.opcode == "LDG" and "128" in i.name.split(".") for i in loop)
            if local > (line.local if opcode != "HGMMA" else 0):
                complaints.append(f"{local} times local memory in {where}, {line.local} in budgets.py")
            if line.loads >= 0 and loads != line.loads:
                complaints.append(f"{loads} loads of 16 bytes in {where}, not {line.loads}")
            waits = [i.operands for i in loop if i.name.startswith("WARPGROUP.DEPBAR")]
            if opcode == "HGMMA" and any(wait.endswith(" 0x0") for wait in waits):
                complaints.append(f"{where} waits for its latest products")
    return complaints
