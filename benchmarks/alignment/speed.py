"""Training and evaluating an alignment model: our step and scorer against the plain ones, side by side in one run.

    python benchmarks/alignment/speed.py

step        one training step (GRU, projections, hinge with hardest negatives, backward, Adam) at batch 128: mined
            pairs through the fused kernel, against the same step with the published scorer, one caption at a time
            against all images, and autograd through all pairs
evaluation  SCAN t2i of 1,000 images x 5,000 captions: the fused kernel against the published per-caption loop. The
            loop's captions cost the same each, so both are timed on every 20th caption, and ours once on all

Losses, gradients and scores must agree before anything is timed; contenders alternate. The result goes to
benchmarks/results/alignment.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align import ops
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.peers import scan_per_caption
from heritage_align.bench.timing import Timing, time_in_turn
from heritage_align.ops import Ragged

RESULT = Path(__file__).parents[1] / "results" / "alignment.json"
DIM, REGIONS, WORDS = 1024, 10, (4, 12)
FEATURES = 2048
SCAN = {"direction": "t2i", "temperature": 9.0, "lse_scale": 6.0}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each comparison")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = [step(options.batch, options.seconds), evaluation(1000, 5000, 20, options.seconds)]
    for row in rows:
        print(
            f"{row['case']:10} {row['ours']['p50']:.3f} s against {row['plain']['p50']:.3f} s: {row['ratio']:.1f}x "
            f"(p20 {row['ratio_p20']:.1f}, p80 {row['ratio_p80']:.1f}); largest difference {row['difference']:.1e}"
        )
    document = {
        "command": "python benchmarks/alignment/speed.py",
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "threads": options.threads,
        "measured": time.strftime("%Y-%m-%d"),
        "cases": rows,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


def step(batch: int, seconds: float) -> dict[str, Any]:
    """Compare a training step."""
    captions = [
        tuple(
            f"phrase{(i * 7 + j * 13) % 500} w{(i + j) % 90}" for j in range(WORDS[0] + i % (WORDS[1] - WORDS[0] + 1))
        )
        for i in range(batch)
    ]
    vocabulary = Vocabulary.of([" ".join(split) for split in captions])
    model = AlignmentModel(ModelSettings(dim=DIM), FEATURES, vocabulary)
    regions = torch.randn(batch * REGIONS, FEATURES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-12)  # the weights stay, so that every round does the same
    offsets = torch.arange(batch + 1) * REGIONS

    def fused(images: Tensor, texts: Ragged) -> Tensor:
        return ops.focal_attention_score(Ragged(images, offsets), texts, **SCAN)

    def published(images: Tensor, texts: Ragged) -> Tensor:
        return scan_per_caption(images.view(batch, REGIONS, DIM), texts)

    def run(score: Callable[[Tensor, Ragged], Tensor]) -> Tensor:
        optimizer.zero_grad()
        images = normalize(model.encode_images(regions), dim=1)
        _, fragments = model.encode_fragmented([" ".join(split) for split in captions], captions)
        counts = torch.tensor([0, *(len(split) for split in captions)]).cumsum(0)
        loss = ops.hardest_negative_hinge(score(images, Ragged(normalize(fragments, dim=1), counts)))
        loss.backward()
        optimizer.step()
        return loss.detach()

    def gradients(score: Callable[[Tensor, Ragged], Tensor]) -> list[Tensor]:
        loss = run(score)
        return [loss, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(gradients(fused), gradients(published)))
    assert difference < 1e-3, f"loss and gradients differ by {difference} of their largest"
    taken = time_in_turn({"ours": lambda: run(fused), "plain": lambda: run(published)}, seconds=seconds)
    shape = f"batch {batch}, {REGIONS} regions x {FEATURES}, {WORDS[0]}-{WORDS[1]} fragments, dim {DIM}"
    return _row("step", shape, taken, difference)


def evaluation(n_images: int, n_captions: int, every: int, seconds: float) -> dict[str, Any]:
    """Compare the scores of a test set."""
    images = normalize(torch.randn(n_images, REGIONS, DIM), dim=2)
    texts = Ragged.from_list([
        normalize(torch.randn(WORDS[0] + i % (WORDS[1] - WORDS[0] + 1), DIM), dim=1) for i in range(n_captions)
    ])  # fmt: skip
    regions = Ragged(images.reshape(-1, DIM), torch.arange(n_images + 1) * REGIONS)
    factor = ops.triangular_factor(regions)
    part = texts.select(range(0, n_captions, every))

    def ours(captions: Ragged) -> Tensor:
        return ops.focal_attention_score(regions, captions, image_factor=factor, **SCAN)

    with torch.inference_mode():
        difference = float((ours(part) - scan_per_caption(images, part)).abs().max())
        assert difference < 1e-4, f"scores differ by {difference}"
        taken = time_in_turn(
            {"ours": lambda: ours(part), "plain": lambda: scan_per_caption(images, part)}, seconds=seconds
        )
        begin = time.perf_counter()
        ours(texts)
        whole = time.perf_counter() - begin
    shape = f"{n_images} images x {REGIONS} regions, {len(part)} of {n_captions} captions, dim {DIM}"
    return {**_row("evaluation", shape, taken, difference), "all_captions_seconds": whole}


def _row(case: str, shape: str, taken: dict[str, Timing], difference: float) -> dict[str, Any]:
    ours, plain = taken["ours"], taken["plain"]
    return {
        "case": case,
        "shape": shape,
        "difference": difference,
        "ours": vars(ours),
        "plain": vars(plain),
        "ratio": plain.p50 / ours.p50,
        "ratio_p20": plain.p20 / ours.p20,
        "ratio_p80": plain.p80 / ours.p80,
    }


if __name__ == "__main__":
    main()
