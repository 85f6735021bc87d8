"""Throughput of our Chinese-CLIP encoding against cn_clip's own feature extraction, side by side in one run.

    python benchmarks/pipeline/encode.py --model ViT-B-16 --batch 16

Part one: both sides have the same random weights, pictures, texts and batches. The other side is the loop of cn_clip's
``eval/extract_features.py``: its transform and tokeniser, ``encode_image`` and ``encode_text`` under no_grad,
texts padded to 52 tokens, pictures decoded between the batches. Features must agree before anything is timed.
Rounds alternate in order; a ratio is taken within its round. Cases:

images    prepared pictures -> features
files     JPEG files on disk -> features, where ours decodes in threads beside the model
captions  sentences of a collection's length -> features
phrases   noun phrases -> features

Part two (pictures.py): files through the exact and the fast way beside their bounds, LACLIP's crops beside the encoder
alone, and what the fast way changes on real pictures. Goals are judged from it; with ``--goals`` it runs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import torch
from cn_clip.clip import tokenize
from cn_clip.clip.model import CLIP, convert_weights
from cn_clip.clip.utils import image_transform
from heritage_align_plugins.cn_clip.architecture import OFFICIAL, build_model
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from heritage_align.bench.machine import commit
from heritage_align.bench.timing import seconds, spread
from heritage_align.data.images import load_image
from heritage_align.encoding import ImageSource, ImageStage, encode_images
from heritage_align.errors import ImageError
from heritage_align.protocols import BuildContext

# Largest difference of a coordinate of two unit vectors that still counts as the same feature.
AGREE = {"fp32": 1e-5, "fp16": 5e-3}
RESULT = Path(__file__).parents[1] / "results" / "encode.json"
REAL = Path(__file__).parents[3] / "shared" / "data"

CAPTIONS = (
    "蓝地团窠对鸟纹锦,中间是一对衔绶带的立鸟,四周环绕着联珠和卷草",
    "明代缂丝花鸟图轴,牡丹、玉兰与锦鸡,设色典雅,织造精细",
    "A roundel of two confronted phoenixes in a pearl border, woven silk, Tang dynasty",
    "敦煌壁画中的飞天手持琵琶,衣带飘举,背景为祥云与散花",
)
PHRASES = ("牡丹", "对鸟纹", "联珠团窠", "祥云", "a pair of cranes", "卍字纹地", "寿桃", "wave ground")


@dataclass(frozen=True)
class Case:
    """One comparison: both sides return the same features for the same `items`."""

    name: str
    items: int
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]


def picture_bytes(count: int, width: int, height: int) -> list[bytes]:
    """Return JPEG files of smooth random fields: they compress, and decode, as photographs do."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def own_model(name: str, precision: str, device: str) -> CLIP:
    """Return cn_clip's model as its feature extraction prepares it, with the encoder's random weights."""
    torch.manual_seed(0)
    model = build_model(OFFICIAL[name]).eval()
    if precision == "fp16":
        convert_weights(model)
    return model.to(device)


def in_batches(items: Sequence[object], size: int) -> list[Sequence[object]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def written(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of 800 x 600, at most 64 different ones."""
    contents = picture_bytes(min(count, 64), 800, 600)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % len(contents)])
    return paths


def cases(arguments: argparse.Namespace, encoder: CnClipEncoder, paths: Sequence[Path]) -> list[Case]:
    """Build the other side and everything both are fed."""
    batch, device = arguments.batch, arguments.device
    model = own_model(arguments.model, arguments.precision, device)
    transform = image_transform(OFFICIAL[arguments.model].image_resolution)

    pixels = torch.stack([transform(Image.open(path)) for path in paths[:batch]])

    def their_images(prepared: Tensor) -> Tensor:
        with torch.no_grad():
            return normalize(model.encode_image(prepared.to(device)).float(), dim=-1)

    def their_files() -> Tensor:
        parts = []
        for some in in_batches(paths, batch):
            parts.append(their_images(torch.stack([transform(Image.open(path)) for path in some])))
        return torch.cat(parts)

    def our_files() -> Tensor:
        def refuse(image_id: str, error: ImageError) -> None:
            raise AssertionError(f"{image_id}: {error}")

        sources = (ImageSource(path.stem, lambda path=path: load_image(path)) for path in paths)
        stage = ImageStage(encoder)
        workers = arguments.workers
        stream = encode_images(stage, sources, batch_size=batch, workers=workers, on_error=refuse)
        return torch.cat([features.global_features for features in stream])

    def their_texts(texts: Sequence[str]) -> Tensor:
        parts = []
        for some in in_batches(texts, batch):
            plain = [text.lower().replace("“", '"').replace("”", '"') for text in some]
            with torch.no_grad():
                parts.append(model.encode_text(tokenize(plain, context_length=52).to(device)).float())
        return normalize(torch.cat(parts), dim=-1)

    def our_texts(texts: Sequence[str]) -> Tensor:
        return torch.cat([encoder.encode_texts(some) for some in in_batches(texts, batch)])

    captions = [CAPTIONS[i % len(CAPTIONS)] for i in range(2 * batch)]
    phrases = [PHRASES[i % len(PHRASES)] for i in range(4 * batch)]
    return [
        Case(
            "images",
            batch,
            lambda: encoder.encode_pixels(pixels).global_features,
            lambda: their_images(pixels),
        ),
        Case("files", len(paths), our_files, their_files),
        Case("captions", len(captions), lambda: our_texts(captions), lambda: their_texts(captions)),
        Case("phrases", len(phrases), lambda: our_texts(phrases), lambda: their_texts(phrases)),
    ]


def measure(case: Case, rounds: int, tolerance: float) -> dict[str, Any]:
    """Check that both sides agree, then time them in alternating order.

    Raises:
        AssertionError: the features differ by more than `tolerance`.
    """
    difference = (case.ours() - case.theirs()).abs().max().item()
    if difference > tolerance:
        raise AssertionError(f"{case.name}: features differ by {difference:.2e}, more than {tolerance:.0e}")
    ours, theirs = [], []
    for number in range(rounds):
        order = [(ours, case.ours), (theirs, case.theirs)]
        for times, run in order if number % 2 else reversed(order):
            times.append(seconds(run))
    return {
        "items": case.items,
        "largest_difference": difference,
        "ours_per_second": spread([case.items / t for t in ours]),
        "cn_clip_per_second": spread([case.items / t for t in theirs]),
        "ratio": spread([b / a for a, b in zip(ours, theirs)]),
    }


def part_two(arguments: argparse.Namespace, encoder: CnClipEncoder, paths: Sequence[Path]) -> dict[str, Any]:
    """Measure rates, crops and the difference (pictures.py), the last with the trained weights that are shipped too."""
    device, batch, rounds = arguments.device, arguments.batch, arguments.rounds
    found: dict[str, Any] = {"rates": pictures.rates(encoder, device, paths, batch, rounds)}
    found["crops"] = pictures.crops(encoder, device, paths[: arguments.pictures], batch, rounds)
    real = sorted(arguments.real.glob("**/*.jpg"))
    if real:
        found["difference"] = pictures.difference(encoder, device, real[:: arguments.every], batch)
        shipped = CnClipEncoder(CnClipConfig(), BuildContext(device=device, precision=arguments.precision))
        found["difference, motif-small"] = pictures.difference(shipped, device, real, batch)
    return found


def machine(device: str) -> dict[str, object]:
    """Say what the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "cn_clip", "pillow", "numpy")},
    }


def main() -> None:
    """Run every case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(OFFICIAL), default="ViT-B-16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=list(AGREE), default="fp32")
    parser.add_argument("--threads", type=int, help="of torch on the CPU; all cores by default")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode on our side")
    parser.add_argument("--files", type=int, help="of part two; by default two batches, 16 on a GPU")
    parser.add_argument("--pictures", type=int, default=4, help="of which crops are taken")
    parser.add_argument("--real", type=Path, default=REAL, help="folder of real pictures")
    parser.add_argument("--every", type=int, default=1, help="take each n-th of the real pictures")
    parser.add_argument("--goals", action="store_true", help="part two alone")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = {k: v for k, v in vars(arguments).items() if k not in ("output", "real")}
    report: dict[str, Any] = {"commit": commit(), "machine": machine(arguments.device), "settings": settings}
    config = CnClipConfig(model=arguments.model, checkpoint="random")
    encoder = CnClipEncoder(config, BuildContext(device=arguments.device, precision=arguments.precision))
    files = arguments.files or arguments.batch * (16 if arguments.device.startswith("cuda") else 2)
    results: dict[str, dict[str, Any]] = {}
    print(f"{'case':<10}{'ours/s':>10}{'cn_clip/s':>11}{'ratio p20':>11}{'p50':>7}{'p80':>7}{'difference':>12}")
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), max(files, 2 * arguments.batch))
        compared = [] if arguments.goals else cases(arguments, encoder, paths[: 2 * arguments.batch])
        for case in compared:
            row = results[case.name] = measure(case, arguments.rounds, AGREE[arguments.precision])
            ours, theirs, ratio = row["ours_per_second"], row["cn_clip_per_second"], row["ratio"]
            print(
                f"{case.name:<10}{ours['p50']:>10.2f}{theirs['p50']:>11.2f}{ratio['p20']:>11.2f}"
                f"{ratio['p50']:>7.2f}{ratio['p80']:>7.2f}{row['largest_difference']:>12.1e}",
                flush=True,
            )
        report["results"] = results | part_two(arguments, encoder, paths[:files])
    report["goals"] = pictures.judged(report["results"], arguments.device, report["commit"])
    for name, rate in report["results"]["rates"]["per_second"].items():
        print(f"{name:<10}{rate['p50']:>10.2f} a second")
    for goal in report["goals"]:
        print(f"{goal['goal']}: {goal.get('value', float('nan')):.4f}, {goal['verdict']}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
