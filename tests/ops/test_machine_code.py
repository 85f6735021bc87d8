"""What became of the CUDA sources: registers, spills and warnings that ptxas told, and the instructions themselves.

No GPU is needed, and nothing is compiled that the build has not: it keeps what ptxas said beside its objects. What each
kernel may use, and what it must hold, is in machine_code/budgets.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
budgets, checks, ptxas, sass = (
    SimpleNamespace(**run_path(str(HERE / "machine_code" / f"{name}.py")))
    for name in ("budgets", "checks", "ptxas", "sass")
)


@pytest.fixture(scope="module")
def logs(cuda_build: Path) -> dict[str, str]:  # noqa: ARG001  it brings the logs up to date
    """What nvcc printed for each source."""
    found = {path.name: path.read_text() for path in sorted((ROOT / "build" / "kernels" / "cuda").glob("cuda_*.o.log"))}
    sources = [path.stem for path in (ROOT / "csrc" / "cuda").glob("*.cu")]
    # What belongs to sources that are gone stays in the folder.
    return {f"{name}.cu": found[f"cuda_{name}.o.log"] for name in sources}


@pytest.fixture(scope="module")
def known_compiler(cuda_build: Path) -> None:
    """Skips where the numbers of budgets.py are not those of this compiler."""
    nvcc = json.loads((cuda_build / "_build_info.json").read_text())["nvcc"]
    if budgets.COMPILER not in nvcc:
        pytest.skip(f"budgets.py is for nvcc of {budgets.COMPILER}, this is {nvcc!r}")


def find_cuobjdump() -> str | None:
    """Of the toolkit, or the one that comes with triton, hence with torch for CUDA."""
    places = [shutil.which("cuobjdump"), "/usr/local/cuda/bin/cuobjdump"]
    if (triton := find_spec("triton")) is not None and triton.origin is not None:
        places.append(str(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"))
    return next((place for place in places if place is not None and Path(place).exists()), None)


@pytest.mark.cuda_build
@pytest.mark.usefixtures("known_compiler")
def test_every_kernel_keeps_to_its_budget(logs: dict[str, str]) -> None:
    resources = [entry for log in logs.values() for entry in ptxas.resources_of(log)]
    assert len(resources) > 100
    assert {"sm_80", "sm_90a"} <= {entry.architecture for entry in resources}
    assert checks.over_budget(resources, budgets.BUDGETS, ptxas.short_names) == []


def test_a_spill_has_a_reason() -> None:
    spilling = [line for line in budgets.BUDGETS if max(line.sm_80.stores, line.sm_90a.stores) > 0]
    assert all(line.why for line in spilling)


@pytest.mark.cuda_build
def test_ptxas_found_nothing_to_put_in_series(logs: dict[str, str]) -> None:
    assert [f"{name}: {line}" for name, log in logs.items() for line in ptxas.stalls_in(log)] == []


@pytest.mark.cuda_build
@pytest.mark.usefixtures("known_compiler")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_machine_code_of_the_tensor_cores(architecture: str, cuda_build: Path) -> None:
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        pytest.skip("needs cuobjdump, of the CUDA toolkit or of triton")
    command = [cuobjdump, "-sass", "-arch", architecture, str(cuda_build / "_kernels.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kernels = list(sass.kernels_of(done.stdout))
    assert len(kernels) > 50
    names = ptxas.short_names([kernel.name for kernel in kernels])
    assert checks.wrong_code(zip(names, kernels), architecture, budgets.CODE) == []


LOG = """\
ptxas info    : 28 bytes gmem
ptxas info    : Compiling entry function '_ZN2ha12pairs_kernelILi2EEEvNS_10ParametersE' for 'sm_90a'
ptxas info    : Function properties for _ZN2ha12pairs_kernelILi2EEEvNS_10ParametersE
    8 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compile time = 22.869 ms
ptxas info    : Compiling entry function '_ZN2ha12pairs_kernelILi2EEEvNS_10ParametersE' for 'sm_80'
ptxas info    : Function properties for _ZN2ha12pairs_kernelILi2EEEvNS_10ParametersE
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 424 bytes cmem[0]
ptxas info    : Compile time = 19.186 ms
"""
STALL = (
    "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to a call\n"
)


def test_resources_in_a_log() -> None:
    mangled = "_ZN2ha12pairs_kernelILi2EEEvNS_10ParametersE"
    assert ptxas.resources_of(LOG) == [(mangled, "sm_90a", 64, 8, 4, 8, 512), (mangled, "sm_80", 48, 0, 0, 0, 0)]
    assert ptxas.resources_of("") == []
    with pytest.raises(ValueError, match="no resources follow"):
        ptxas.resources_of(LOG.replace("Used 48", "Used many"))


def test_names() -> None:
    assert (
        ptxas.shortened("ha::(anonymous namespace)::scan_kernel(ha::(anonymous namespace)::Parameters)")
        == "scan_kernel"
    )
    long = "void ha::hopper::k<(ha::Storage)1, (ha::hopper::Pooler)0, ha::Shape<2, true> >(ha::hopper::Parameters)"
    assert ptxas.shortened(long) == "k<f16, max, Shape<2, true>>"


def budget_complaints(log: str, **changes: object) -> list[str]:
    line = budgets.Budget("pairs_kernel<*>", budgets.Use(48), budgets.Use(64, 8, 4, 8))
    lines = [line._replace(**changes)]
    return checks.over_budget(ptxas.resources_of(log), lines, ptxas.short_names)  # type: ignore[no-any-return]


def test_what_exceeds_a_budget_is_named() -> None:
    log = LOG.replace(", 512 bytes smem", "")
    assert budget_complaints(log) == []
    assert budget_complaints(LOG) == ["pairs_kernel<2>, sm_90a: 512 bytes of static shared memory, 0 in budgets.py"]
    for found, planted, complaint in [
        ("Used 64", "Used 65", "pairs_kernel<2>, sm_90a: 65 registers, 64 in budgets.py"),
        ("8 bytes spill stores", "12 bytes spill stores", "12 bytes of spill stores, 8 in budgets.py"),
        ("4 bytes spill loads", "12 bytes spill loads", "12 bytes of spill loads, 4 in budgets.py"),
        ("8 bytes stack frame", "16 bytes stack frame", "16 bytes of stack, 8 in budgets.py"),
        ("0 bytes spill stores", "4 bytes spill stores", "sm_80: 4 bytes of spill stores, 0 in budgets.py"),
    ]:
        assert found in log
        complaints = budget_complaints(log.replace(found, planted))
        assert len(complaints) == 1
        assert complaints[0].endswith(complaint)
    unknown = budget_complaints(log, kernel="pears_kernel<*>")
    assert unknown == ["pairs_kernel<2> has no line in budgets.py"] * 2 + ["budgets.py: pears_kernel<*> is no kernel"]


def test_stalls_in_a_log() -> None:
    assert ptxas.stalls_in(LOG) == []
    assert ptxas.stalls_in(LOG + STALL) == [STALL.strip()]


# A kernel that multiplies a chunk in a loop, whose wait for the barrier tries again behind its end.
CODE = """\
	code for sm_90a
		Function : _ZN2ha7productEv
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                                /* 0x00000a00ff017b82 */
                                                                                         /* 0x000fe20000000800 */
        /*0010*/                   LDL R7, [R1+0x8] ;                                    /* 0x0000000801077983 */
        /*0020*/                   UTMALDG.2D [UR8], [UR4] ;                             /* 0x00000008040075b4 */
        /*0030*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5], R4 ;        /* 0x00000004ff0075a7 */
        /*0040*/              @!P0 BRA 0x110 ;                                           /* 0x0000000000308947 */
        /*0050*/                   WARPGROUP.ARRIVE ;                                    /* 0x00000000000079f8 */
        /*0060*/                   HGMMA.64x184x16.F32 R24, gdesc[UR4], R24, UP0 ;       /* 0x02c00000041879f0 */
        /*0070*/                   IMAD.MOV.U32 R2, RZ, RZ, R3 ;                         /* 0x000000ffff027224 */
        /*0080*/                   HGMMA.64x184x16.F32 R24, gdesc[UR8], R24, gsb0 ;      /* 0x02c00000081879f0 */
        /*0090*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;                       /* 0x00000000000079f8 */
        /*00a0*/                   BSSY.RECONVERGENT B1, 0xd0 ;                          /* 0x0000000000017945 */
        /*00b0*/               @P1 BRA 0xc0 ;                                            /* 0x0000000000001947 */
        /*00c0*/                   BSYNC.RECONVERGENT B1 ;                               /* 0x0000000000017941 */
        /*00d0*/               @P2 BRA 0x30 ;                                            /* 0xfffffffc00d02947 */
        /*00e0*/                   STL [R1+0x8], R7 ;                                    /* 0x0000080701007387 */
        /*00f0*/                   EXIT ;                                                /* 0x000000000000794d */
        /*0100*/                   BRA 0x100;                                            /* 0xfffffffc00fc7947 */
        /*0110*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5], R4 ;        /* 0x00000004ff0075a7 */
        /*0120*/              @!P0 BRA 0x110 ;                                           /* 0xfffffffc00f88947 */
        /*0130*/                   BRA 0x50 ;                                            /* 0xfffffffc00c87947 */
"""


def test_kernels_instructions_and_loops() -> None:
    (kernel,) = sass.kernels_of(CODE)
    assert kernel.name == "_ZN2ha7productEv"
    assert len(kernel.instructions) == 20
    assert kernel.instructions[4] == (0x40, "!P0", "BRA", "0x110")
    assert kernel.instructions[6].opcode == "HGMMA"
    assert sass.count(kernel.instructions, "HGMMA") == sass.count(kernel.instructions, "HGMMA.64x184x16") == 2
    assert sass.count(kernel.instructions, "HGMMA.64x18") == 0
    loops = sorted(sass.loops_of(kernel), key=len)
    # The second wait, and the product with that wait; nothing leads to the branch to itself that ends a kernel.
    assert [sorted(i.address for i in loop) for loop in loops] == [
        [0x110, 0x120],
        [*range(0x30, 0xE0, 0x10), 0x110, 0x120, 0x130],
    ]
    assert sass.innermost_with(loops, "HGMMA") == [loops[1]]
    assert sass.innermost_with(loops, "SYNCS") == [loops[0]]
    assert sass.innermost_with(loops, "UTMALDG") == []
    assert list(sass.kernels_of("nothing of the kind")) == []


def code_complaints(text: str, **changes: object) -> list[str]:
    line = budgets.Code("product", ("sm_90a",), {"HGMMA.64x184x16.F32"}, run=2, loads=0, copies=("UTMALDG.2D",))
    kernels = [("product", kernel) for kernel in sass.kernels_of(text)]
    return checks.wrong_code(kernels, "sm_90a", [line._replace(**changes)])  # type: ignore[no-any-return]


BETWEEN = "IMAD.MOV.U32 R2, RZ, RZ, R3 ;"  # the two products


@pytest.mark.parametrize(
    ("found", "planted", "complaint"),
    [
        (BETWEEN, "WARPGROUP.ARRIVE ;", "1 wgmma up to WARPGROUP.ARRIVE at 0x70, not 2"),
        (BETWEEN, "WARPGROUP.DEPBAR.LE gsb0, 0x1 ;", "1 wgmma up to WARPGROUP.DEPBAR.LE at 0x70, not 2"),
        (BETWEEN, "STL [R1], R2 ;", "1 times local memory in the loop with HGMMA at 0x30, 0 in budgets.py"),
        (BETWEEN, "LDL.LU R2, [R1] ;", "1 times local memory in the loop with HGMMA at 0x30, 0 in budgets.py"),
        (BETWEEN, "LDG.E.128 R4, [R2.64] ;", "1 loads of 16 bytes in the loop with HGMMA at 0x30, not 0"),
        ("gsb0, 0x1", "gsb0, 0x0", "the loop with HGMMA at 0x30 waits for its latest products"),
        ("UTMALDG.2D [UR8]", "LDGSTS.E [R8]", "no UTMALDG.2D"),
        ("@P2 BRA 0x30", "@P2 BRA 0xe0", "no loop with HGMMA"),
        ("64x184x16", "64x192x16", "not ['HGMMA.64x184x16.F32']"),
        ("HGMMA.64x184x16.F32", "HMMA.16816.F32", "tensor instructions ['HMMA.16816.F32'], not"),
    ],
)
def test_what_is_wrong_with_machine_code_is_named(found: str, planted: str, complaint: str) -> None:
    assert code_complaints(CODE) == []
    assert found in CODE
    assert any(complaint in told for told in code_complaints(CODE.replace(found, planted)))


def test_a_kernel_on_tensor_cores_needs_a_line_and_a_line_a_kernel() -> None:
    told = code_complaints(CODE, kernel="other")
    assert told[0].startswith("product, sm_90a: tensor instructions ['HGMMA.64x184x16.F32'], and no line")
    assert told[1] == "budgets.py: other is none of sm_90a"
    without = re.sub(r"HGMMA\S*", "FFMA", CODE)
    assert code_complaints(without, kernel="other") == ["budgets.py: other is none of sm_90a"]
