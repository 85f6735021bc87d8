"""Every function that wraps an instruction has a twin in the emulation, and instructions are nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CUDA = HERE.parents[1] / "csrc" / "cuda"
TWINS = {
    "ptx.cuh": "ptx_emulated.h",
    "hopper_ptx.cuh": "hopper_ptx_emulated.h",
    "tensor_map.h": "tensor_map_emulated.h",
}
HOST_ONLY = {"find_encode_tiled"}  # looks up the driver's function for the header itself
FUNCTION = re.compile(
    r"^\s*(?:static )?(?:__device__ __forceinline__ |inline )?[\w:<>*]+ (\w+)\(([^;{}]*)\)(?: const)? ?\{", re.M
)
MACRO = re.compile(r"^HA_PRODUCT_128\((\w+), ", re.M)  # a function of four parameters
WORDS_OF_CONTROL = {"if", "for", "while", "switch", "return"}


def without_comments(text: str) -> str:
    text = re.sub(r"//[^\n]*|\\\n", " ", text)
    return re.sub(r"asm( volatile)?\s*\(.*?\);", ";", text, flags=re.S)


def functions_of(text: str) -> dict[str, int]:
    """Name and number of parameters of each function that is defined, methods included."""
    text = without_comments(text)
    found = dict.fromkeys(MACRO.findall(text), 4)
    for name, parameters in FUNCTION.findall(text):
        if name not in WORDS_OF_CONTROL:
            bare = re.sub(r"<[^<>]*>|\([^()]*\)|\[[^\]]*\]", "", parameters)
            found[name] = 0 if not bare.strip() else bare.count(",") + 1
    return found


def missing_twins(ours: str, theirs: str) -> list[str]:
    """What the first text defines and the second does not, with as many parameters."""
    twins = functions_of(theirs)
    return [name for name, n in functions_of(ours).items() if name not in HOST_ONLY and twins.get(name) != n]


@pytest.mark.parametrize("header", TWINS)
def test_every_instruction_has_a_twin(header: str) -> None:
    ours, theirs = (CUDA / header).read_text(), (HERE / "emulation" / TWINS[header]).read_text()
    assert len(functions_of(ours)) >= 2
    assert f'#include "{TWINS[header]}"' in ours
    assert missing_twins(ours, theirs) == []


def test_a_missing_twin_is_named() -> None:
    ours = """
    // inline void spoken_of(int a) {
    struct Barrier {
      __device__ __forceinline__ void wait(uint32_t parity) { asm volatile("if (x) {" ::"r"(parity) : "memory"); }
    };
    template <int n>
    __device__ __forceinline__ void product(float (&d)[n], uint64_t a) { if (a) return; }
    """
    assert functions_of(ours) == {"wait": 1, "product": 2}
    twins = "void wait(uint32_t parity) {\n}\ntemplate <int n>\ninline void product(float (&d)[n], uint64_t a) {\n}\n"
    assert missing_twins(ours, twins) == []
    assert missing_twins(ours, twins.replace("product", "produce")) == ["product"]
    assert missing_twins(ours, twins.replace("uint32_t parity", "")) == ["wait"]


def test_instructions_are_in_the_headers_that_have_twins() -> None:
    sources = [path for path in sorted(CUDA.iterdir()) if path.suffix in (".cu", ".cuh", ".h")]
    assert len(sources) > len(TWINS)
    assert [p.name for p in sources if re.search(r"\basm\b", re.sub(r"//[^\n]*", "", p.read_text()))] == [
        "hopper_ptx.cuh",
        "ptx.cuh",
    ]
