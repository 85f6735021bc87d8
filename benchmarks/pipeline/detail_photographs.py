"""Search photographs by a part of one that was taken again: does the photograph that it is of come first?

    python benchmarks/pipeline/detail_photographs.py ../shared/data/getty_mosaics/images ../shared/data/howtocook/images

A query is a square cut out of a photograph at a place drawn at random, turned by up to 8 degrees, scaled to 0.6 to 1.4
of its size, made darker or lighter by up to 30 % and saved as a JPEG of quality 60. Right is its photograph. These are
no second photographs of an object: light, view and camera are the same.

``whole pictures`` compares the cut-out with whole photographs, ``windows`` with their regions (recipe
``late-interaction``), ``then keypoints`` ranks the best 50 of the windows as ``search --image`` does by default.
``all looked at`` looks at every photograph: what the first 50 lose. ``accidents`` are the photographs that the cut-out
is not of and whose keypoints score as much all the same, per comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from details import compared, show, write_report
from PIL import Image, ImageEnhance

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.recipes import load_recipe
from heritage_align.search import Detail, Searcher
from heritage_align.search.last_look import looking_for_details
from heritage_align.types import Hit

RESULT = Path(__file__).parents[1] / "results" / "detail-photographs.json"
SIDES = (0.15, 0.3, 0.5)
WHOLE, WINDOWS, LOOKED, ALL = "whole pictures", "windows", "windows, then keypoints", "all looked at"
LEAST = (1, 2, 3)


def taken_again(image: Image.Image, side: float, draws: np.random.Generator) -> Image.Image:
    """Return a part of a picture, `side` times its shorter side, as another camera might give it."""
    length = max(int(side * min(image.size)), 16)
    x, y = (int(draws.integers(0, size - length + 1)) for size in image.size)
    part = image.crop((x, y, x + length, y + length))
    part = part.rotate(float(draws.uniform(-8, 8)), Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    scaled = max(round(length * float(draws.uniform(0.6, 1.4))), 8)
    part = part.resize((scaled, scaled), Image.Resampling.LANCZOS)
    part = ImageEnhance.Brightness(part).enhance(float(draws.uniform(0.7, 1.3)))
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


def found(hits: Sequence[Hit], wanted: str) -> float:
    return float(bool(hits) and hits[0].id == wanted)


def measured(
    searcher: Searcher, looking: Searcher, everything: Searcher, images: dict[str, Image.Image], side: float, seed: int
) -> dict[str, Any]:
    """Return R@1 of every system for one size of details, their tests, and how many accidents there are."""
    draws = np.random.default_rng(seed)
    details = {image_id: taken_again(image, side, draws) for image_id, image in images.items()}
    right: dict[str, list[float]] = {name: [] for name in (WHOLE, WINDOWS, LOOKED, ALL)}
    scores: list[float] = []
    seconds = []
    for image_id, image in details.items():
        right[WHOLE].append(found(searcher.search_images([image], ["q"], top_k=1).hits("q"), image_id))
        right[WINDOWS].append(found(searcher.search_details([Detail(image)], top_k=1), image_id))
        start = time.perf_counter()
        right[LOOKED].append(found(looking.search_details([Detail(image)], top_k=1), image_id))
        seconds.append(time.perf_counter() - start)
        hits = everything.search_details([Detail(image)], top_k=len(images))
        right[ALL].append(found(hits, image_id))
        scores += [hit.last or 0.0 for hit in hits if hit.id != image_id]
    table = {name: compared(np.array(right[WHOLE]), np.array(hits_of)) for name, hits_of in right.items()}
    rates = {str(least): float(np.mean(np.array(scores) >= least)) for least in LEAST}
    return {"systems": table, "accidents": rates, "comparisons": len(scores), "seconds": float(np.median(seconds))}


def main() -> None:
    """Build a store of the photographs, ask for parts of them, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        pictures, digest = Path(folder) / "pictures", hashlib.sha256()
        pictures.mkdir()
        for path in sorted(p for place in arguments.folders for p in place.iterdir() if p.is_file()):
            (pictures / path.name).symlink_to(path.resolve())
            digest.update(path.read_bytes())
        config = load_recipe("late-interaction", ["runtime.device=cpu", f"data={{name: folder, folder: {pictures}}}"])
        pipeline, store = Pipeline(config), Path(folder) / "store"
        data = pipeline.dataset()
        build_index(pipeline, list(dataset_sources(data)), store)
        images = {image_id: data.load_image(image_id) for image_id in data.image_ids}
        looking = looking_for_details(config)
        assert looking.last is not None
        settings = {"candidates": len(images), "kept": len(images)}
        everything = replace(
            looking, last=replace(looking.last, settings=looking.last.settings.model_copy(update=settings))
        )
        results: dict[str, Any] = {}
        with (
            Searcher.open(pipeline, store, resident=False) as searcher,
            Searcher.open(Pipeline(looking), store, resident=False) as first,
            Searcher.open(Pipeline(everything), store, resident=False) as whole,
        ):
            for side in SIDES:
                row = results[f"{side:g}"] = measured(searcher, first, whole, images, side, arguments.seed)
                print(
                    f"{side:.0%} of the shorter side, {len(images)} details, {row['seconds']:.2f} s a query", flush=True
                )
                show(row["systems"])
                print(f"  accidents of {row['comparisons']}: {json.dumps(row['accidents'])}", flush=True)
    state = commit()
    worst = max(row["accidents"]["1"] for row in results.values())
    judged = [
        judged_value(
            f"details of {side:.0%}: points of windows and keypoints above whole pictures",
            results[f"{side:g}"]["systems"][LOOKED]["difference"],
            3.0,
            10.0,
            at_least=True,
            commit=state,
        )
        for side in SIDES
    ]
    judged.append(judged_value("accidents of score 1, per comparison", worst, 0.1, 0.01, at_least=False, commit=state))
    settings = {"photographs": len(images), "sha256": digest.hexdigest(), "seed": arguments.seed}
    write_report(arguments.output, settings, results, judged, state)


if __name__ == "__main__":
    main()
