"""Which code of the build a GPU runs: CUDA's rules on faked GPUs, the fall-back on one too old, and ``doctor``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from heritage_align import ops
from heritage_align.health import examine
from heritage_align.ops import BuildInfo, backend, candidates
from heritage_align.ops.architectures import GENERATIONS, Architecture, architecture
from heritage_align.plugins import Registry

SETUP = Path(__file__).parents[2] / "setup.py"
TARGETS = ("sm_80", "sm_90a", "compute_90")
TOO_OLD = "Tesla T4: compute capability 7.5 is older than 8.0, which the kernels need"


@pytest.fixture(autouse=True)
def default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERITAGE_ALIGN_CUDA_PATH", raising=False)


def forget() -> None:
    """Forget what the backends found out about the machine's own devices, or about a fake one."""
    for found in (backend._architecture, backend._kernels_for, backend._say_once):
        found.cache_clear()


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[tuple[int, int], str], None]]:
    """Pretend that there is one GPU, and that the library was built for :data:`TARGETS`."""

    def fake(capability: tuple[int, int], name: str) -> None:
        facts = BuildInfo(cpu=True, cuda=True, cuda_targets=TARGETS)
        forget()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(backend, "MISSING", {"cpu": None, "cuda": None})
        monkeypatch.setattr(backend, "build_info", lambda: facts)
        monkeypatch.setattr("heritage_align.ops.build_info", lambda: facts)

    yield fake
    forget()


@pytest.mark.parametrize(
    ("capability", "target", "kernels"),
    [
        ((8, 0), "sm_80", "sm_80"),
        ((8, 6), "sm_80", "sm_80"),
        ((8, 9), "sm_80", "sm_80"),
        ((9, 0), "sm_90a", "hopper"),
        ((10, 0), "compute_90", "sm_80"),
        ((10, 3), "compute_90", "sm_80"),
        ((12, 0), "compute_90", "sm_80"),
    ],
)
def test_what_runs_on_each_generation(capability: tuple[int, int], target: str, kernels: str) -> None:
    assert architecture(capability, TARGETS) == Architecture(target, kernels)  # type: ignore[arg-type]


def test_setup_builds_for_these_targets() -> None:
    found = re.search(r"CUDA_TARGETS = \((.*)\)", SETUP.read_text())
    assert found is not None
    assert tuple(re.findall(r'"(\w+)"', found[1])) == TARGETS


def test_a_gpu_older_than_the_kernels_runs_nothing() -> None:
    found = architecture((7, 5), (*TARGETS, "sm_75"))
    assert found == Architecture(None, None, "compute capability 7.5 is older than 8.0, which the kernels need")
    assert str(found) == found.reason


def test_code_for_one_gpu_alone_runs_on_no_other() -> None:
    assert architecture((9, 0), ("sm_90a",)).target == "sm_90a"
    assert "built for sm_90a: nothing for compute capability 10.0" in architecture((10, 0), ("sm_90a",)).reason
    assert architecture((8, 0), ("sm_86",)).target is None  # an earlier minor version
    assert architecture((8, 0), ("compute_90",)).target is None
    assert "built for nothing" in architecture((8, 0), ()).reason


def test_the_nearest_machine_code_is_preferred_to_ptx() -> None:
    targets = ("compute_80", "sm_80", "sm_89", "sm_100", "compute_90", "sm_90", "sm_90a")
    assert architecture((8, 6), targets).target == "sm_80"
    assert architecture((8, 9), targets).target == "sm_89"
    assert architecture((9, 0), targets).target == "sm_90a"
    assert architecture((10, 3), targets).target == "sm_100"
    assert architecture((12, 1), targets).target == "compute_90"


def test_what_is_no_target_is_named() -> None:
    with pytest.raises(ValueError, match="'hopper' is no target of nvcc"):
        architecture((9, 0), ("hopper",))


def test_the_environment_keeps_to_the_kernels_for_sm_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", "ampere")
    assert architecture((9, 0), TARGETS) == Architecture("sm_90a", "sm_80")


def test_an_old_gpu_takes_the_reference_and_says_so_once(fake_gpu: Callable[[tuple[int, int], str], None]) -> None:
    fake_gpu((7, 5), "Tesla T4")
    device = torch.device("cuda", 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [backend.pick("auto", device, (torch.float16,)) for _ in range(3)] == ["reference"] * 3
    assert [str(warning.message) for warning in caught] == [
        f"heritage_align.ops: no compiled cuda kernels, the slow reference runs instead: {TOO_OLD}"
    ]
    with pytest.raises(ValueError, match=re.escape(f"backend 'cuda' is not available: {TOO_OLD}")):
        backend.pick("cuda", device, (torch.float16,))


@pytest.mark.parametrize("capability", GENERATIONS)
def test_other_gpus_take_the_kernels(
    capability: tuple[int, int], fake_gpu: Callable[[tuple[int, int], str], None]
) -> None:
    fake_gpu(capability, "GPU")
    assert backend.pick("auto", torch.device("cuda", 0), (torch.float16,)) == "cuda"


def test_doctor_says_what_runs_on_the_gpu(fake_gpu: Callable[[tuple[int, int], str], None]) -> None:
    def on_gpu() -> tuple[str, str]:
        found = next(finding for finding in examine(Registry()) if finding.name == "kernels on GPU 0")
        return found.state, found.detail

    fake_gpu((8, 6), "RTX 3090")
    assert on_gpu() == ("ok", "RTX 3090: machine code of sm_80; the kernels for sm_80")
    fake_gpu((9, 0), "H100")
    assert on_gpu() == ("ok", "H100: machine code of sm_90a; the kernels for Hopper where they fit")
    fake_gpu((12, 0), "RTX 5090")
    compiled = "compiled by the driver when first used"
    assert on_gpu() == ("ok", f"RTX 5090: PTX of compute_90, {compiled}; the kernels for sm_80")
    fake_gpu((7, 5), "Tesla T4")
    assert on_gpu() == ("missing", f"{TOO_OLD}; the reference runs instead")


@pytest.mark.parametrize(
    ("capability", "path", "kernels"),
    [((9, 0), None, "hopper"), ((9, 0), "ampere", "sm_80"), ((8, 0), None, "sm_80"), ((7, 5), None, None)],
)
def test_lists_take_the_kernel_for_all_pairs_from_where_it_is_sooner(
    capability: tuple[int, int],
    path: str | None,
    kernels: str | None,
    fake_gpu: Callable[[tuple[int, int], str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_gpu(capability, "GPU")
    device = torch.device("cuda", 0)
    assert backend.kernels_on(device) == ("hopper" if capability == (9, 0) else kernels)
    if path is not None:  # what was found before, for the same GPU, does not stay
        monkeypatch.setenv("HERITAGE_ALIGN_CUDA_PATH", path)
    assert backend.kernels_on(device) == kernels
    monkeypatch.setattr(candidates, "kernels_on", lambda _: backend.kernels_on(device))

    def most(n_texts: int, k: int, dtype: torch.dtype = torch.float16) -> bool:
        texts, images = (ops.Ragged(torch.zeros(n, 4, dtype=dtype), torch.arange(n + 1)) for n in (n_texts, 20))
        ids = torch.zeros(n_texts, k, dtype=torch.int64)
        return candidates.ask_for_most(ids, texts, images)

    tenth = kernels == "hopper"
    assert [most(16, k) for k in (1, 2, 9, 10, 20)] == [False, tenth, tenth, True, True]
    assert [most(16, k, torch.float32) for k in (1, 2, 9, 10)] == [False, False, False, True]
    assert not most(15, 20), "too few texts to fill a tile"


def test_doctor_lists_the_generations_where_there_is_no_gpu(
    fake_gpu: Callable[[tuple[int, int], str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpu((8, 0), "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = {finding.name: finding.detail for finding in examine(Registry())}
    assert found["kernels on a GPU of 8.9"] == "RTX 40, L4, L40: machine code of sm_80; the kernels for sm_80"
    assert found["kernels on a GPU of 9.0"].startswith("H100, H200: machine code of sm_90a")
    assert sum(name.startswith("kernels on a GPU of") for name in found) == len(GENERATIONS)
