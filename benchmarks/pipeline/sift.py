"""The SIFT filter's decisions: looked at in order of size and inferred, beside a detection in every crop.

    python benchmarks/pipeline/sift.py
    python benchmarks/pipeline/sift.py --real ../shared/data      # photographs too

Decisions of both must agree, for every region and several thresholds, before anything is timed. One detection a picture
(``mode: per_image``) is timed beside them, and where it decides otherwise is counted: it is another filter. Rounds
alternate in order, and a ratio is taken within its round; times are the processor's, of all threads. Cases:

windows       14 windows a picture, of the whole, its half and its third (recipes ``-sf``)
crops         20 random crops of 0.5 to 0.9 of each side
small crops   20 random crops of 0.1 to 0.4 of each side
cells         196 cells of a grid of 14 x 14, none of which holds what decides another

``encoding`` is the whole of it: pictures with windows through the shipped encoder without the filter, with it, with a
detection in every crop, and the mask alone, which is what a comparison makes that has the features already.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from heritage_align_plugins.sift.config import SiftConfig
from heritage_align_plugins.sift.filter import SiftFilter
from numpy.typing import NDArray
from PIL.Image import Image

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import spread
from heritage_align.data import load_image
from heritage_align.encoding import encode_images
from heritage_align.encoding.sources import dataset_sources
from heritage_align.encoding.stream import mask_images
from heritage_align.errors import ImageError
from heritage_align.front_end import FrontEnd
from heritage_align.pipeline import build_dataset
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext
from heritage_align.recipes import load_recipe
from heritage_align.types import Regions

RESULT = Path(__file__).parents[1] / "results" / "sift.json"
LARGEST = 512  # pixels of a photograph's longer side
THRESHOLDS = (1, 2, 3, 5, 10, 40)


class Counting(SiftFilter):
    """The filter as it says what it does: every crop's keypoints are counted."""

    def distinctive(self, image: Image, regions: Regions) -> NDArray[np.bool_]:
        return self.count(image, regions) >= self.config.min_keypoints


@dataclass(frozen=True)
class Case:
    """Pictures with their regions."""

    name: str
    images: Sequence[Image]
    regions: Sequence[Regions]


def processor_seconds(work: Callable[[], object]) -> float:
    """Return what a call costs on all cores, whatever else the machine does; torch with one thread does not spin."""
    start = time.process_time()
    work()
    return time.process_time() - start


def built(kind: type[SiftFilter], **settings: Any) -> SiftFilter:
    return kind(SiftConfig(**settings), BuildContext())


def random_crops(image: Image, smallest: float, largest: float, generator: np.random.Generator) -> Regions:
    share = generator.uniform(smallest, largest, (20, 2))
    size = np.array(image.size)
    corner = generator.uniform(size=(20, 2)) * (size - share * size)
    return Regions(np.concatenate([corner, corner + share * size], axis=1).astype(np.float32))


def grid(image: Image, cells: int) -> Regions:
    x, y = (np.linspace(0, length, cells + 1) for length in image.size)
    rows = [(x[i], y[j], x[i + 1], y[j + 1]) for j in range(cells) for i in range(cells)]
    return Regions(np.array(rows, dtype=np.float32))


def cases(name: str, images: Sequence[Image], windows: Callable[[Sequence[Image]], list[Regions]]) -> list[Case]:
    generator = np.random.default_rng(0)
    return [
        Case(f"{name}, windows", images, windows(images)),
        Case(f"{name}, crops", images, [random_crops(i, 0.5, 0.9, generator) for i in images]),
        Case(f"{name}, small crops", images, [random_crops(i, 0.1, 0.4, generator) for i in images]),
        Case(f"{name}, cells", images, [grid(i, 14) for i in images]),
    ]


def decided(step: SiftFilter, case: Case) -> NDArray[np.bool_]:
    return np.concatenate([step.distinctive(image, found) for image, found in zip(case.images, case.regions)])


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Compare decisions, then time the ways in alternating order.

    Raises:
        AssertionError: a region is decided otherwise than its keypoints say.
    """
    counts = np.concatenate([built(SiftFilter).count(i, found) for i, found in zip(case.images, case.regions)])
    for z in THRESHOLDS:
        wrong = int((decided(built(SiftFilter, min_keypoints=z), case) != (counts >= z)).sum())
        if wrong:
            raise AssertionError(f"{case.name}, z = {z}: {wrong} of {len(counts)} regions are decided otherwise")
    ways = {
        "ours": built(SiftFilter),
        "every crop": built(Counting),
        "one detection a picture": built(SiftFilter, mode="per_image"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 else reversed(ways):
            times[name].append(processor_seconds(partial(decided, ways[name], case)))
    keep = decided(ways["ours"], case)
    return {
        "pictures": len(case.images),
        "regions": len(counts),
        "decisions_compared": len(counts) * len(THRESHOLDS),
        "masked": float((~keep).mean()),
        "one_detection_differs": float((decided(ways["one detection a picture"], case) != keep).mean()),
        "milliseconds_a_picture": {
            n: spread([1e3 * t / len(case.images) for t in taken]) for n, taken in times.items()
        },
        "speedup": spread([b / a for a, b in zip(times["ours"], times["every crop"])]),
        "speedup_over_one_detection": spread([b / a for a, b in zip(times["ours"], times["one detection a picture"])]),
    }


def encoding(artworks: int, rounds: int) -> dict[str, Any]:
    """Time the built-in collection through the shipped encoder: without the filter, with it, counting every crop."""
    config = load_recipe("scan-sf", [f"data.artworks={artworks}", "runtime.device=cpu"])
    dataset = build_dataset(config)
    sources = dataset_sources(dataset)
    stage = FrontEnd(config, BuildContext(), default_registry()).stage

    def run(work: Callable[..., Iterable[Any]], filters: Sequence[SiftFilter]) -> list[Any]:
        def refuse(image_id: str, error: ImageError) -> None:
            raise AssertionError(f"{image_id}: {error}")

        size, workers = config.runtime.batch_size, config.runtime.threads()
        filtered = replace(stage, filters=filters)
        return list(work(filtered, sources, batch_size=size, workers=workers, on_error=refuse))

    ways: dict[str, Callable[[], list[Any]]] = {
        "without": partial(run, encode_images, []),
        "ours": partial(run, encode_images, [built(SiftFilter)]),
        "every crop": partial(run, encode_images, [built(Counting)]),
        "mask alone": partial(run, mask_images, [built(SiftFilter)]),
    }
    kept = [torch.cat([part.keep for part in ways[name]()]) for name in ways if name != "without"]
    if not all(kept[0].equal(other) for other in kept[1:]):
        raise AssertionError("encoding: the masks differ")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 else reversed(ways):
            times[name].append(processor_seconds(ways[name]))
    return {
        "pictures": len(sources),
        "processor_seconds": {name: spread(taken) for name, taken in times.items()},
        **{
            f"{name} over without": spread([a / b for a, b in zip(times[name], times["without"])])
            for name in ways
            if name != "without"
        },
    }


def goals(results: dict[str, Any], commit: str) -> list[dict[str, Any]]:
    """Judge the cost of the filter in encoding, and the windows of the recipes against a detection in every crop."""
    return [
        judged_value(goal, ratio["p50"], accept, stretch, at_least=kind == "at least", commit=commit, ratio=ratio)
        for goal, ratio, kind, accept, stretch in (
            ("encoding with the filter over without", results["encoding"]["ours over without"], "at most", 1.5, 1.2),
            (
                "windows: a detection in every crop over ours",
                results["motifs, windows"]["speedup"],
                "at least",
                1.8,
                3.0,
            ),
        )
    ]


def main() -> None:
    """Run every case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artworks", type=int, default=8, help="of the built-in collection, four pictures each")
    parser.add_argument("--real", type=Path, help="a folder of photographs besides")
    parser.add_argument("--every", type=int, default=1, help="take each n-th of them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    config = load_recipe("scan-sf", [f"data.artworks={arguments.artworks}"])
    front = FrontEnd(replace(config, filters=()), BuildContext(), default_registry())
    assert front.stage.proposer is not None

    def windows(images: Sequence[Image]) -> list[Regions]:
        assert front.stage.proposer is not None
        return front.stage.proposer.propose(images, [str(number) for number in range(len(images))])

    dataset = build_dataset(config)
    every = cases("motifs", [dataset.load_image(i) for i in dataset.image_ids], windows)
    if arguments.real:
        photographs = [load_image(path) for path in sorted(arguments.real.glob("**/*.jpg"))[:: arguments.every]]
        for photograph in photographs:
            photograph.thumbnail((LARGEST, LARGEST))
        every += cases("photographs", photographs, windows)
    results: dict[str, Any] = {}
    for case in every:
        row = results[case.name] = measure(case, arguments.rounds)
        took = row["milliseconds_a_picture"]
        print(
            f"{case.name:<26}{took['ours']['p50']:>8.1f} ms; every crop {row['speedup']['p50']:.2f} times that, "
            f"one detection {row['speedup_over_one_detection']['p50']:.2f}; masked {row['masked']:.2%}, "
            f"one detection differs in {row['one_detection_differs']:.2%}",
            flush=True,
        )
    results["encoding"] = encoding(arguments.artworks, arguments.rounds)
    state = commit()
    report = {
        "commit": state,
        "machine": {
            **machine_facts(torch.device("cpu")),
            "opencv": cv2.__version__,
            "opencv_threads": cv2.getNumThreads(),
        },
        "load_average_after": list(os.getloadavg()),
        "settings": {"artworks": arguments.artworks, "every": arguments.every, "rounds": arguments.rounds},
        "results": results,
        "goals": goals(results, state),
    }
    for name in ("ours", "every crop", "mask alone"):
        print(
            f"encoding, {name}: {results['encoding'][f'{name} over without']['p50']:.2f} times that without the filter"
        )
    for goal in report["goals"]:
        print(f"{goal['goal']}: {goal['value']:.2f}, {goal['verdict']}")
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
