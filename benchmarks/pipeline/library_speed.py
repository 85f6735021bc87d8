"""Encoders and rerankers that wrap a library beside the library's own call: decoded pictures a second.

    python benchmarks/pipeline/library_speed.py

Pictures of 640 x 480 from memory, in batches of four, one thread; preparation is part of both sides. Models are small
and have random weights, so that what the project adds shows: the tests' for the families of Qwen (two layers, 32 wide)
with 1,200 tokens a picture, as real ones have of larger pictures; and a ViT-B-32 for open_clip.

sentence_transformers  `prepare` and `encode_pixels` beside `SentenceTransformer.encode_document`.
multi_vector           the proposer's tokens with their boxes beside `MultiVectorEncoder.encode_document`.
cross_encoder          `rate` beside `CrossEncoder.predict`.
yes_no                 `rate` beside the processor's conversation and the model's forward pass.
open_clip              `prepare` and `encode_pixels` beside the library's transform and `encode_image`.

Contenders run in alternating order; ratios are taken within a round. Seconds are the processor's, of one thread, so
that who else uses the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from heritage_align_plugins.open_clip.config import OpenClipConfig
from heritage_align_plugins.open_clip.encoder import OpenClipEncoder
from heritage_align_plugins.sentence_transformers.config import (
    CrossEncoderConfig,
    MultiVectorConfig,
    PictureTokensConfig,
    WholeConfig,
)
from heritage_align_plugins.sentence_transformers.cross_encoder import CrossEncoderReranker
from heritage_align_plugins.sentence_transformers.multi_vector import MultiVector
from heritage_align_plugins.sentence_transformers.tokens import PictureTokens
from heritage_align_plugins.sentence_transformers.whole import SentenceTransformersEncoder
from heritage_align_plugins.transformers.yes_no import YesNo
from heritage_align_plugins.transformers.yes_no_config import YesNoConfig
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from transformers import AutoModelForImageTextToText, AutoProcessor

from heritage_align.bench.goals import verdict
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import spread
from heritage_align.protocols import BuildContext, Encoder

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "library-speed.json"
MODELS = ROOT / "tests" / "plugins" / "sentence_transformers" / "conftest.py"
BATCH = 4
TEXT = "blue silk with cranes"
Pair = tuple[Callable[[], object], Callable[[], object]]


def encoded(encoder: Encoder, images: list[Image.Image]) -> torch.Tensor:
    """Prepare and encode pictures as the pipeline does."""
    return encoder.encode_pixels(torch.stack([encoder.prepare(image) for image in images])).global_features


def contenders(root: Path, images: list[Image.Image]) -> dict[str, Pair]:
    """Return by component ours and the library's own call, of the same weights."""
    context = BuildContext()
    whole = SentenceTransformersEncoder(WholeConfig(model=str(root / "embedding")), context)
    own_whole = SentenceTransformer(str(root / "embedding"), device="cpu", local_files_only=True)
    late = MultiVector(MultiVectorConfig(model=str(root / "colqwen")), context)
    tokens = PictureTokens(PictureTokensConfig(batch_size=BATCH), BuildContext(encoder=late))
    own_late = MultiVectorEncoder(str(root / "colqwen"), device="cpu", local_files_only=True)
    cross = CrossEncoderReranker(CrossEncoderConfig(model=str(root / "reranker"), batch_size=BATCH), context)
    own_cross = CrossEncoder(str(root / "reranker"), device="cpu", local_files_only=True)
    pairs = [(image, TEXT) for image in images]
    asks = YesNo(YesNoConfig(model=str(root / "qwen3"), batch_size=BATCH, question="{text}?"), context)
    own_vlm = AutoModelForImageTextToText.from_pretrained(root / "qwen3").eval()
    processor = AutoProcessor.from_pretrained(root / "qwen3")
    processor.tokenizer.padding_side = "left"
    zoo = open_clip.create_model("ViT-B-32")
    torch.save(zoo.state_dict(), root / "vit-b-32.pt")
    clip = OpenClipEncoder(OpenClipConfig(model="ViT-B-32", pretrained=str(root / "vit-b-32.pt")), context)
    transform = image_transform_v2(PreprocessCfg(**zoo.visual.preprocess_cfg), is_train=False)
    zoo.eval()

    def ask() -> torch.Tensor:
        content: list[Any] = [{"type": "image"}, {"type": "text", "text": f"{TEXT}?"}]
        asked = [[{"role": "user", "content": [{**content[0], "image": image}, content[1]]}] for image in images]
        ways = {"padding": True, "return_tensors": "pt"}
        inputs = processor.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=True, processor_kwargs=ways
        )
        with torch.inference_mode():
            logits: torch.Tensor = own_vlm(**inputs, logits_to_keep=1).logits
        return logits

    def encode_image() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = zoo.encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        return found

    ids = [str(number) for number in range(len(images))]
    return {
        "sentence_transformers": (lambda: encoded(whole, images), lambda: own_whole.encode_document(images)),
        "multi_vector": (lambda: tokens.propose(images, ids), lambda: own_late.encode_document(images)),
        "cross_encoder": (
            lambda: cross.rate(pairs),
            lambda: own_cross.predict([(TEXT, image) for image in images], batch_size=BATCH),
        ),
        "yes_no": (lambda: asks.rate(pairs), ask),
        "open_clip": (lambda: encoded(clip, images), encode_image),
    }


def processor_seconds(work: Callable[[], object]) -> float:
    """Return what work takes of this process's time on the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(ours: Callable[[], object], library: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Measure pictures a second of both, and ours over the library's."""
    contenders = {"ours": ours, "library": library}
    for work in contenders.values():
        work()
    times = max(1, round(0.5 / processor_seconds(library)))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in contenders if number % 2 else reversed(contenders):
            taken[name].append(sum(processor_seconds(contenders[name]) for _ in range(times)) / times)
    return {
        "pictures_a_second": {name: spread([BATCH / second for second in found]) for name, found in taken.items()},
        "ratio": spread([theirs / own for own, theirs in zip(taken["ours"], taken["library"])]),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = [Image.effect_noise((640, 480), 40 + number).convert("RGB") for number in range(BATCH)]
    results: dict[str, Any] = {
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "batch": BATCH,
        "components": {},
        "goals": [],
    }
    with TemporaryDirectory() as folder:
        runpy.run_path(str(MODELS))["save_models"](Path(folder))
        for file in Path(folder).glob("*/processor_config.json"):
            settings = json.loads(file.read_text(encoding="utf-8"))
            settings["image_processor"]["size"]["longest_edge"] = 320 * 240
            file.write_text(json.dumps(settings), encoding="utf-8")
        for name, (ours, library) in contenders(Path(folder), images).items():
            found = results["components"][name] = measure(ours, library, given.rounds)
            value = found["ratio"]["p50"]
            goal = {
                "goal": f"{name}: pictures a second over those of the library's own call",
                "kind": "at least",
                "accept": 1.0,
                "stretch": 1.2,
                "commit": commit(),
                "value": value,
                "ratio": found["ratio"],
                "verdict": verdict(value, 1.0, 1.2, at_least=True),
            }
            results["goals"].append(goal)
            print(f"{goal['verdict']:<8} {value:6.3f}  {goal['goal']}", flush=True)
    given.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
