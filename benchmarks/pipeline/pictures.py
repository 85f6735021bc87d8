"""From picture files to features: what each way makes a second beside its parts alone, and what the fast way changes.

rates       Files through the pipeline, exact and fast, beside two bounds: the encoder on prepared pixels in the CPU's
            memory, and the decoding of the files alone in all cores. The way is as good as its share of the smaller.
crops       LACLIP's 20 random crops a picture through the pipeline, from the file on, beside the encoder alone on 20
            prepared crops a picture in batches of the same size.
difference  Features and pixels of the fast way beside the exact one's, on real pictures.

Contenders run in alternating order; ratios are taken within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from heritage_align_plugins.crops.config import RandomCropsConfig
from heritage_align_plugins.crops.proposer import RandomCrops
from torch import Tensor

from heritage_align.bench.goals import verdict
from heritage_align.bench.timing import seconds, spread
from heritage_align.config import RuntimeSettings
from heritage_align.data.images import load_image
from heritage_align.data.pixels import load_pixels
from heritage_align.encoding import ImageSource, ImageStage, encode_images, pixel_box
from heritage_align.encoding.preparation import Exact, Fast, Preparation, preparation_for
from heritage_align.errors import ImageError
from heritage_align.protocols import BuildContext, EncodedImages, ImageFile

CROPS = 20
GOALS = (
    # goal, where its value is, at least or at most, accept, stretch
    (
        "files on a GPU, ViT-B-16 fp16: share of the smaller of prepared pixels and decoding",
        ("rates", "share_of_smaller_bound", "fast"), "at least", 0.5, 0.8,
    ),
    ("20 crops a picture on the CPU, ViT-B-16: against the encoder alone", ("crops", "ratio"), "at most", 1.3, 1.1),
    (
        "fast beside exact, real pictures: cosine, p1",
        ("difference", "cosine", "pictures", "p1"), "at least", 0.999, 0.9999,
    ),
)  # fmt: skip
Work = Callable[[], object]


def source(path: Path) -> ImageSource:
    """Return a file as the built-in data sets give it."""
    return ImageSource(path.name, lambda: load_image(path), lambda: ImageFile(path, str(path)))


def refuse(image_id: str, error: ImageError) -> None:
    raise AssertionError(f"{image_id}: {error}")


def encoded(stage: ImageStage, paths: Sequence[Path], batch: int, workers: int) -> tuple[Tensor, Tensor | None]:
    """Return the features of pictures ``(n, dim)`` and of their regions."""
    given = map(source, paths)
    parts = list(encode_images(stage, given, batch_size=batch, workers=workers, on_error=refuse))
    regions = [part.regions.values for part in parts if part.regions is not None]
    return torch.cat([part.global_features for part in parts]), torch.cat(regions) if regions else None


def in_turn(contenders: dict[str, tuple[int, Work]], rounds: int) -> dict[str, list[float]]:
    """Return seconds an item of every contender, round by round, after one call each that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _, work in contenders.values():
        work()
    for number in range(rounds):
        for name in contenders if number % 2 else reversed(contenders):
            items, work = contenders[name]
            taken[name].append(seconds(work) / items)
    return taken


def rates(encoder: CnClipEncoder, device: str, paths: Sequence[Path], batch: int, rounds: int) -> dict[str, Any]:
    """Measure files through the pipeline beside its bounds."""
    cores = RuntimeSettings().threads()
    exact, fast = Exact(encoder, device), Fast(encoder.pixel_recipe(), device)
    pixels = torch.stack([exact.load(source(path)).pixels for path in paths[:batch]])

    def files(preparation: Preparation) -> Work:
        return lambda: encoded(ImageStage(encoder, preparation=preparation), paths, batch, cores)

    def decode() -> None:
        with ThreadPoolExecutor(cores) as pool:
            for _ in pool.map(load_pixels, paths):
                pass

    taken = in_turn(
        {
            "prepared": (len(pixels), lambda: encoder.encode_pixels(pixels)),
            "decode": (len(paths), decode),
            "exact": (len(paths), files(exact)),
            "fast": (len(paths), files(fast)),
        },
        rounds,
    )
    bounds = [max(pair) for pair in zip(taken["prepared"], taken["decode"])]
    return {
        "files": len(paths),
        "threads": cores,
        "per_second": {name: spread([1 / t for t in times]) for name, times in taken.items()},
        "share_of_smaller_bound": {
            name: spread([b / t for b, t in zip(bounds, taken[name])]) for name in ("exact", "fast")
        },
        "fast_over_exact": spread([e / f for e, f in zip(taken["exact"], taken["fast"])]),
    }


class Clocked:
    """An encoder that adds up the seconds inside its forward passes (on the CPU; a GPU's are queued)."""

    def __init__(self, encoder: CnClipEncoder) -> None:
        self._encoder, self.inside = encoder, 0.0
        self.dim, self.patch_grid, self.prepare = encoder.dim, encoder.patch_grid, encoder.prepare
        self.fingerprint, self.encode_texts, self.pixel_recipe = (
            encoder.fingerprint, encoder.encode_texts, encoder.pixel_recipe,
        )  # fmt: skip

    def encode_pixels(self, pixels: Tensor, *, patches: bool = False) -> EncodedImages:
        """Encode and add the time."""
        begin = time.perf_counter()
        encoded_pixels = self._encoder.encode_pixels(pixels, patches=patches)
        self.inside += time.perf_counter() - begin
        return encoded_pixels


def crops(encoder: CnClipEncoder, device: str, paths: Sequence[Path], batch: int, rounds: int) -> dict[str, Any]:
    """Measure 20 random crops a picture through the pipeline beside the encoder on prepared crops."""
    proposer = RandomCrops(RandomCropsConfig(count=CROPS), BuildContext())
    clocked = Clocked(encoder)
    preparation = preparation_for(clocked, "auto", device)
    stage = ImageStage(clocked, proposer, preparation=preparation)
    outside: list[float] = []
    images = [load_image(path) for path in paths]
    prepared = [
        encoder.prepare(image.crop(pixel_box(box)))
        for image, found in zip(images, proposer.propose(images, [path.name for path in paths]))
        for box in found.boxes.tolist()
    ]
    batches = [torch.stack(prepared[i : i + batch]) for i in range(0, len(prepared), batch)]

    def alone() -> Tensor:
        return torch.cat([encoder.encode_pixels(pixels).global_features for pixels in batches])

    def whole() -> Tensor:
        clocked.inside, begin = 0.0, time.perf_counter()
        regions = encoded(stage, paths, batch, RuntimeSettings().threads())[1]
        outside.append((time.perf_counter() - begin) / clocked.inside - 1)
        assert regions is not None
        return regions

    cosine = (whole() * alone()).sum(1).min().item()
    if cosine < 0.999:
        raise AssertionError(f"crops: features differ, smallest cosine {cosine:.4f}")
    taken = in_turn({"pipeline": (len(paths), whole), "encoder alone": (len(paths), alone)}, rounds)
    # Of one and the same call, so that other work on the machine does not tell them apart.
    beside = {} if device.startswith("cuda") else {"outside_the_encoder_over_inside": spread(outside[-rounds:])}
    return {
        "pictures": len(paths),
        "crops": CROPS,
        "way": type(preparation).__name__.lower(),
        "smallest_cosine": cosine,
        "seconds_a_picture": {name: spread(times) for name, times in taken.items()},
        "ratio": spread([a / b for a, b in zip(taken["pipeline"], taken["encoder alone"])]),
        **beside,
    }


def difference(encoder: CnClipEncoder, device: str, paths: Sequence[Path], batch: int) -> dict[str, Any]:
    """Compare features and pixels of the fast way with the exact one's."""
    recipe = encoder.pixel_recipe()
    exact, fast = Exact(encoder, device), Fast(recipe, device)
    std = torch.tensor(recipe.std)[:, None, None]
    levels, cosines = [], []
    for path in paths:
        pictures = [way.whole([way.load(source(path))]).cpu() for way in (exact, fast)]
        levels.append(((pictures[0] - pictures[1]) * std * 255).abs().round().flatten())
    off = torch.cat(levels)
    for proposer in (None, RandomCrops(RandomCropsConfig(count=4), BuildContext())):
        both = [
            encoded(ImageStage(encoder, proposer, preparation=way), paths, batch, 2)[0 if proposer is None else 1]
            for way in (exact, fast)
        ]
        assert both[0] is not None
        assert both[1] is not None
        cosines.append(torch.cosine_similarity(both[0].double(), both[1].double()).cpu())
    return {
        "pictures": len(paths),
        "share_of_pixels_that_differ": (off > 0).double().mean().item(),
        "largest_difference_in_levels": off.max().item(),
        "cosine": {
            name: {"p1": found.quantile(0.01).item(), "min": found.min().item()}
            for name, found in zip(("pictures", "crops"), cosines)
        },
    }


def judged(results: dict[str, Any], device: str, commit: str) -> list[dict[str, Any]]:
    """Return each goal with its value, the spread of the ratio over rounds where it is one, and the verdict."""
    answers = []
    for (goal, place, kind, accept, stretch), only in zip(GOALS, ("cuda", "cpu", "")):
        answer = {"goal": goal, "kind": kind, "accept": accept, "stretch": stretch, "commit": commit}
        found: Any = results if device.startswith(only) else None
        for key in place:
            found = found.get(key) if found is not None else None
        if found is None:
            answers.append(answer | {"verdict": "not measured"})
            continue
        value = found["p50"] if isinstance(found, dict) else found
        reached = verdict(value, accept, stretch, at_least=kind == "at least")
        spreads = {"ratio": found} if isinstance(found, dict) else {}
        answers.append(answer | {"value": value, **spreads, "verdict": reached})
    return answers
