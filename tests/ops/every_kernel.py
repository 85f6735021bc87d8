"""Every CUDA kernel, at sizes that compute-sanitizer finishes in a minute, against the reference on the CPU:

    compute-sanitizer --tool racecheck --error-exitcode 7 python tests/ops/every_kernel.py
    compute-sanitizer --tool memcheck  --error-exitcode 7 python tests/ops/every_kernel.py
    HERITAGE_ALIGN_CUDA_PATH=ampere compute-sanitizer ...                      # the kernels for any GPU

The GPU tests themselves compute most of their references on the device, which a sanitizer slows down by more than the
kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from heritage_align import ops

Call = Callable[[torch.device], torch.Tensor]


def ragged(lengths: list[int], dim: int, seed: int, dtype: torch.dtype) -> ops.Ragged:
    """Random unit rows, stored as asked."""
    values = torch.randn(sum(lengths), dim, generator=torch.Generator().manual_seed(seed))
    made = ops.Ragged(torch.nn.functional.normalize(values, dim=1), torch.tensor([0, *lengths]).cumsum(0))
    return ops.quantise(made) if dtype == torch.int8 else made.to(dtype=dtype)


def calls() -> Iterator[tuple[str, Call, float]]:
    """Name, call and tolerance; each call is made on the CPU and on the GPU."""
    images, texts = [36] * 11 + [20, 0, 30], [13, 40, 22, 7, 9, 25, 1, 12]
    generator = torch.Generator().manual_seed(9)
    lists = torch.randint(-1, len(images), (len(texts), 6), generator=generator)
    for dtype in (torch.float16, torch.int8, torch.float32):
        some, words = ragged(images, 128, 1, dtype), ragged(texts, 128, 2, torch.float16)
        words = words.to(dtype=torch.float32) if dtype == torch.float32 else words
        for direction in ("t2i", "both"):
            for focal in (None, "equal") if direction == "t2i" else (None,):

                def attend(device: torch.device, a=some, b=words, d=direction, f=focal, c=None) -> torch.Tensor:
                    c = None if c is None else c.to(device)
                    settings = {"direction": d, "focal": f, "candidates": c, "temperature": 9.0}
                    return ops.focal_attention_score(a.to(device=device), b.to(device=device), **settings)

                # A filter leaves out what lies within rounding of its threshold, or does not.
                tolerance = 1e-4 if focal is None else 1e-2
                yield f"focal attention, {direction}, {focal}, {dtype}", attend, tolerance
                yield f"the same of lists, {dtype}", lambda device, f=attend: f(device, c=lists), tolerance

        whole = torch.nn.functional.normalize(torch.randn(len(texts), 128, generator=generator), dim=1).half().float()
        for name, asked in (("all pairs", None), ("lists", lists), ("one query", lists[:1])):

            def weighted(device: torch.device, a=some, w=whole, c=asked) -> torch.Tensor:
                w = w if c is None else w[: len(c)]
                c = None if c is None else c.to(device)
                return ops.patch_weighted_score(w.to(device), a.to(device=device), candidates=c)

            def maxsim(device: torch.device, a=words, b=some, c=asked) -> torch.Tensor:
                c = None if c is None else c.to(device)
                queries = a if c is None else a[: len(c)]
                return ops.maxsim_score(queries.to(device=device), b.to(device=device), candidates=c)

            yield f"patch weighted, {name}, {dtype}", weighted, 1e-4
            yield f"MaxSim, {name}, {dtype}", maxsim, 1e-3
        yield f"factor, {dtype}", lambda device, a=some: ops.triangular_factor(a.to(device=device)).abs(), 1e-3

        def fold(device: torch.device, a=some) -> torch.Tensor:
            vectors = torch.nn.functional.normalize(torch.ones(len(images), 128) + a.offsets[1:, None] % 7, dim=1)
            return ops.fold_patches(vectors.to(device), a.to(device=device), temperature=0.1)

        yield f"fold, {dtype}", fold, 1e-4

    def gradient(device: torch.device) -> torch.Tensor:
        a, b = ragged(images, 128, 1, torch.float32), ragged(texts, 128, 2, torch.float32)
        values = a.values.to(device).requires_grad_()
        there = ops.Ragged(values, a.offsets)
        scores = ops.focal_attention_score(there, b.to(device=device), candidates=lists.to(device))
        scores[lists.to(device) >= 0].sum().backward()
        assert values.grad is not None
        return values.grad

    # Gradients of up to 0.27; the float32 kernel of the CPU is off by 3e-5 of float64 itself.
    yield "gradient of lists", gradient, 1e-3


def main() -> int:
    """Make every call; exit status 1 if a result is off."""
    worst = 0
    for name, call, tolerance in calls():
        ours, expected = call(torch.device("cuda")).cpu(), call(torch.device("cpu"))
        finite = torch.isfinite(expected)
        same = torch.equal(finite, torch.isfinite(ours))
        difference = float((ours - expected)[finite].abs().max()) if same else float("nan")
        good = difference <= tolerance
        worst |= not good
        print(f"{'ok  ' if good else 'OFF '} {name}: {difference:.1e}", flush=True)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
