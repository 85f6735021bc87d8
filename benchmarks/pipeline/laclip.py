"""LACLIP: cost of an index entry, of a query, and recall, each beside what it is an alternative to, in one run.

    OMP_NUM_THREADS=1 python benchmarks/pipeline/laclip.py

indexing  One vector an image from k crops. Ours draws, crops, prepares in threads and encodes in batches. Beside it,
          with the same weights and crops, cn_clip's own functions as one would write it: ``separate`` is k + 1 calls
          of ``encode_image``, ``stacked`` one call on the k + 1 views of an image. Pictures are in memory.
patches   The form without crops, over the patches of one forward pass, beside k crops and the whole image alone.
search    The folded vectors beside scoring crop by crop: every crop's cosine, weighted and summed, then the best 10.
          ``torch`` is that in one matrix product, ``kernel`` our pass over the ragged crops.
recall    The recipes on the motif collection's test split over several seeds, and what an image of it costs.

Vectors and scores must agree before anything is timed. Sides run in alternating order, ratios are within a round.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cn_clip.clip.utils import image_transform
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.loading import load_configured
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align import ops
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import seconds, spread
from heritage_align.config import Config, load_config
from heritage_align.data.motifs import Motifs
from heritage_align.document import parse_yaml
from heritage_align.encoding import pixel_box
from heritage_align.evaluation.repeats import repeat_systems, repeats_record
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.recipes import recipe_text

RESULT = Path(__file__).parents[1] / "results" / "laclip.json"
AGREE = 2e-5
"""Largest difference of a coordinate of a folded vector, a sum of up to 20 unit vectors, and of a score."""
MODELS: tuple[tuple[str, str | None, int, tuple[int, ...]], ...] = (
    ("motif-small", None, 16, (5, 10, 20)),
    ("ViT-B-16", "random", 2, (5,)),
)
"""Model, weights, pictures, numbers of crops."""
TOP = 10


def recipe(name: str, *overrides: str) -> Config:
    """Return a recipe's configuration on one device, decoding in two threads."""
    return load_config(parse_yaml(recipe_text(name), name), ["runtime.device=cpu", *overrides], label=name)


def pipeline_of(name: str, model: str, checkpoint: str | None, *overrides: str) -> Pipeline:
    return Pipeline(
        recipe(
            name, f"encoder.model={model}", *([f"encoder.checkpoint={checkpoint}"] if checkpoint else []), *overrides
        )
    )


def compare(sides: Mapping[str, Callable[[], object]], rounds: int, per: int) -> dict[str, Any]:
    """Time sides in alternating order; ratios are of each side over the first, within a round.

    Args:
        sides: name -> what is timed; the first is ours.
        rounds: timed rounds, after one that warms up.
        per: items of one call; times are given for one.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            times[name].append(seconds(sides[name]) / per)
    times = {name: taken[1:] for name, taken in times.items()}
    first, *others = times
    ratios = {f"{name}_over_{first}": spread([b / a for a, b in zip(times[first], times[name])]) for name in others}
    return {"seconds": {name: spread(taken) for name, taken in times.items()}, "ratio": ratios}


def agree(what: str, ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; raises AssertionError where it is more than `AGREE`."""
    difference = (ours - theirs).abs().max().item()
    if difference > AGREE:
        raise AssertionError(f"{what}: differ by {difference:.1e}, more than {AGREE:.0e}")
    return difference


def indexing(model: str, checkpoint: str | None, images: Sequence[Image], k: int, rounds: int) -> dict[str, Any]:
    """Measure one vector an image from k crops."""
    pipeline = pipeline_of("laclip", model, checkpoint, f"proposer.count={k}")
    ids = [str(number) for number in range(len(images))]
    loaded = load_configured(CnClipConfig(model=model, checkpoint=checkpoint), pipeline.config.runtime.seed)
    transform = image_transform(loaded.architecture.image_resolution)
    assert pipeline.proposer is not None
    regions = pipeline.proposer.propose(images, ids)  # drawn once: their side is not charged for it

    def ours() -> Tensor:
        folded = pipeline.encode_images(images, ids).folded
        assert folded is not None
        return folded

    def theirs(encode: Callable[[list[Tensor]], Tensor]) -> Tensor:
        folded = []
        for image, found in zip(images, regions):
            views = [image, *(image.crop(pixel_box(box)) for box in found.boxes.tolist())]
            with torch.no_grad():
                features = normalize(encode([transform(view) for view in views]).float(), dim=1)
            folded.append((features[1:] @ features[0]) @ features[1:])
        return torch.stack(folded)

    def separate() -> Tensor:
        return theirs(lambda views: torch.cat([loaded.model.encode_image(view[None]) for view in views]))

    def stacked() -> Tensor:
        return theirs(lambda views: loaded.model.encode_image(torch.stack(views)))

    difference = max(agree(f"{model}, {k} crops", ours(), other()) for other in (separate, stacked))
    result = compare({"ours": ours, "separate": separate, "stacked": stacked}, rounds, len(images))
    return {"images": len(images), "crops": k, "largest_difference": difference, **result}


def patches(model: str, checkpoint: str | None, images: Sequence[Image], k: int, rounds: int) -> dict[str, Any]:
    """Measure one vector an image from the patches of one forward pass."""
    ids = [str(number) for number in range(len(images))]
    crops = pipeline_of("laclip", model, checkpoint, f"proposer.count={k}")
    sides = {
        "patches": pipeline_of("laclip-patches", model, checkpoint),
        "global": pipeline_of("global", model, checkpoint),
        f"crops_{k}": crops,
    }
    calls = {name: lambda p=p: p.encode_images(images, ids) for name, p in sides.items()}  # type: ignore[misc]
    return {"images": len(images), "crops": k, **compare(calls, rounds, len(images))}


def search(images: int, k: int, dim: int, queries: int, rounds: int) -> dict[str, Any]:
    """Measure a query over folded vectors beside one over crops."""
    generator = torch.Generator().manual_seed(0)
    whole = normalize(torch.randn(images, dim, generator=generator), dim=1)
    # Crops resemble their picture, so that the weights are not noise around 0.
    crops = normalize(whole.repeat_interleave(k, 0) + 0.05 * torch.randn(images * k, dim, generator=generator), dim=1)
    text = normalize(torch.randn(queries, dim, generator=generator), dim=1)
    ragged = ops.Ragged(crops, torch.arange(0, images * k + 1, k))
    weights = torch.linalg.vecdot(crops, whole.repeat_interleave(k, 0))
    folded = ops.fold_patches(whole, ragged)

    def by_fold() -> Tensor:
        return text @ folded.T

    def by_crop() -> Tensor:
        return ((text @ crops.T).view(queries, images, k) * weights.view(images, k)).sum(2)

    def by_kernel() -> Tensor:
        return ops.patch_weighted_score(text, ragged, pooling="weights", weights=weights).T

    difference = max(agree("scores", by_fold(), other()) for other in (by_crop, by_kernel))
    sides = {"folded": by_fold, "torch": by_crop, "kernel": by_kernel}
    calls = {name: lambda score=score: score().topk(TOP, dim=1) for name, score in sides.items()}  # type: ignore[misc]
    result = compare(calls, rounds, queries)
    megabytes = {"folded": folded.nbytes / 2**20, "crops": crops.nbytes / 2**20}
    return {"images": images, "crops": k, "dim": dim, "queries": queries, "largest_difference": difference,
            "mebibytes": megabytes, **result}  # fmt: skip


def recall(artworks: int, seeds: int) -> dict[str, Any]:
    """Evaluate the recipes, and LACLIP's with other weights and with a global term, over several seeds."""
    on = f"data.artworks={artworks}"
    systems = {name: recipe(name, on) for name in ("global", "laclip", "wca", "laclip-text", "laclip-patches")}
    for name, changes in (
        ("laclip-uniform", ["similarity.weights=uniform"]),
        ("laclip-renormalised", ["similarity.renormalise=true"]),
        ("laclip-with-global", ["similarity.renormalise=true", "similarity.global_mix=0.5"]),
    ):
        systems[name] = recipe("laclip", on, f"name={name}", *changes)
    order = ["global", "laclip", "laclip-uniform", "laclip-renormalised", "laclip-with-global", "wca"]
    configs = [systems[name] for name in [*order, "laclip-text", "laclip-patches"]]
    dataset = build_dataset(configs[0])
    return repeats_record(repeat_systems(configs, dataset, seeds, ks=(1, 5, 10, 20)), dataset)


def main() -> None:
    """Run every case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--artworks", type=int, default=20, help="of the test split; 4 pictures each")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--search-images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    settings = {key: value for key, value in vars(arguments).items() if key != "out"}
    report: dict[str, Any] = {"commit": commit(), "machine": machine_facts(torch.device("cpu")), "settings": settings}
    motifs = Motifs("test", artworks=4)
    images = [motifs.load_image(image_id) for image_id in motifs.image_ids]
    report["indexing"], report["patches"] = {}, {}
    for model, checkpoint, count, numbers in MODELS:
        for k in numbers:
            _show(
                report["indexing"],
                f"{model}, {k} crops",
                indexing(model, checkpoint, images[:count], k, arguments.rounds),
            )
        k = numbers[-1]
        _show(report["patches"], f"{model}, {k} crops", patches(model, checkpoint, images[:count], k, arguments.rounds))
    report["search"] = {}
    for queries in (1, 64):
        case = search(arguments.search_images, 20, 512, queries, arguments.rounds)
        _show(report["search"], f"{queries} queries", case)
    report["recall"] = recall(arguments.artworks, arguments.seeds)
    report["load_average_after"] = os.getloadavg()
    for row in report["recall"]["systems"]:
        encode = "shared" if row["encode_seconds"] is None else f"{row['encode_seconds']:.1f} s"
        print(f"{row['system']:<20} MR {row['MR']['mean']:.1f} ± {row['MR']['std']:.1f}, encode {encode}")
    arguments.out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def _show(results: dict[str, Any], name: str, case: dict[str, Any]) -> None:
    results[name] = case
    times = ", ".join(f"{side} {1000 * taken['p50']:.1f} ms" for side, taken in case["seconds"].items())
    ratios = ", ".join(f"{key} {r['p50']:.2f} ({r['p20']:.2f} to {r['p80']:.2f})" for key, r in case["ratio"].items())
    print(f"{name}: {times}; {ratios}", flush=True)


if __name__ == "__main__":
    main()
