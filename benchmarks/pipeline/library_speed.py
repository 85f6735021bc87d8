"""Encoders and rerankers that wrap a library beside the library's own call: decoded pictures a second.

    python benchmarks/pipeline/library_speed.py

Pictures of 640 x 480 from memory, in batches of four, one thread; preparation is part of both sides, which have the
same random weights. Encoders of one pass are of their published base size (text towers of one layer: no text is read).
Models of the families of Qwen are the tests' (two layers, 32 wide), so that what the project adds shows, with 1,200
tokens a picture, as real ones have of larger pictures.

cn_clip                `prepare` and `encode_pixels` beside package cn_clip's transform and `encode_image`: ViT-B-16.
transformers, ...      the same beside the library's image processor and `get_image_features`: Chinese-CLIP with a
                       ViT-B-16, SigLIP base of 224 pixels.
fg_clip                the same beside the transformers library's SigLIP 2, which has FG-CLIP 2's vision tower: 256
                       patches.
open_clip              the same beside the library's transform and `encode_image`: ViT-B-32.
sentence_transformers  the same beside `SentenceTransformer.encode_document`.
multi_vector           the proposer's tokens with their boxes beside `MultiVectorEncoder.encode_document`.
cross_encoder          `rate` beside `CrossEncoder.predict`.
yes_no                 `rate` beside the processor's conversation and the model's forward pass.

Before the clock starts both sides must give the same: vectors whose differences from the mean have a cosine of 0.999
and more (fg_clip's library resizes with torch where the published code does with Pillow), ratings to 1e-4.

Contenders run in alternating order; ratios are taken within a round. Seconds are the processor's, of one thread, so
that who else uses the machine counts as little as it can: caches and memory are still shared.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import open_clip
import torch
from cn_clip.clip.utils import image_transform
from heritage_align_plugins.cn_clip.architecture import OFFICIAL, build_model
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
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
from heritage_align_plugins.transformers.config import TransformersConfig
from heritage_align_plugins.transformers.encoder import TransformersEncoder
from heritage_align_plugins.transformers.yes_no import YesNo
from heritage_align_plugins.transformers.yes_no_config import YesNoConfig
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from roi import fg_clip_base
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessor,
    ChineseCLIPModel,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import spread
from heritage_align.protocols import BuildContext, Encoder

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "library-speed.json"
MODELS = ROOT / "tests" / "plugins" / "sentence_transformers" / "conftest.py"
BATCH = 4
TEXT = "blue silk with cranes"
SAME = 0.999
Found = Callable[[], Any]


class Pair(NamedTuple):
    """Ours and the library's own call, of the same weights.

    Attributes:
        ours, library: calls.
        model: of which they are.
        rates: whether they give ratings, not vectors.
    """

    ours: Found
    library: Found
    model: str
    rates: bool = False


def encoded(encoder: Encoder, images: list[Image.Image]) -> Tensor:
    """Prepare and encode pictures as the pipeline does."""
    return encoder.encode_pixels(torch.stack([encoder.prepare(image) for image in images])).global_features


def one_pass(root: Path, images: list[Image.Image]) -> dict[str, Pair]:
    """Return the encoders of whole pictures at their published sizes."""
    context = BuildContext()
    own_clip = CnClipEncoder(CnClipConfig(model="ViT-B-16", checkpoint="random"), context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        package = build_model(OFFICIAL["ViT-B-16"]).eval()
    transform = image_transform(224)

    def cn_clip() -> Tensor:
        with torch.inference_mode():
            found: Tensor = package.encode_image(torch.stack([transform(image) for image in images]))
        return found

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "silk"]
    small = {"num_hidden_layers": 1, "vocab_size": len(words)}
    vision = {"patch_size": 16, "image_size": 224}
    chinese = ChineseCLIPConfig(text_config=small, vision_config=vision)
    sigmoid = SiglipConfig(text_config={**small, "max_position_embeddings": 64}, vision_config=vision)
    square = {"height": 224, "width": 224}
    saved = {
        "Chinese-CLIP": (ChineseCLIPModel(chinese), ChineseCLIPImageProcessor(size=square, do_center_crop=False)),
        "SigLIP": (SiglipModel(sigmoid), SiglipImageProcessor(size=square)),
    }
    pairs = {"cn_clip": Pair(lambda: encoded(own_clip, images), cn_clip, "Chinese-CLIP ViT-B-16")}
    for family, parts in saved.items():
        folder = root / family
        for part in (*parts, BertTokenizer(vocab={word: number for number, word in enumerate(words)})):
            part.save_pretrained(folder)
        encoder = TransformersEncoder(TransformersConfig(model=str(folder)), context)
        model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)

        def features(model: Any = model, processor: Any = processor) -> Tensor:
            with torch.inference_mode():
                found: Tensor = model.get_image_features(**processor(images, return_tensors="pt")).pooler_output
            return found

        pairs[f"transformers, {family}"] = Pair(
            lambda encoder=encoder: encoded(encoder, images),  # type: ignore[misc]
            features,
            f"{family}, ViT-B-16, 224 pixels",
        )

    (root / "fg-clip").mkdir()
    fg_clip = fg_clip_base(root / "fg-clip", context)
    tower = Siglip2VisionModel(Siglip2VisionConfig()).eval()
    names = {name.removeprefix("vision_model."): tensor for name, tensor in fg_clip._model.state_dict().items()}
    tower.load_state_dict({name: names[name.removeprefix("vision_model.")] for name in tower.state_dict()})
    flexible = Siglip2ImageProcessor(patch_size=16, max_num_patches=256)

    def siglip2() -> Tensor:
        with torch.inference_mode():
            found: Tensor = tower(**flexible(images, return_tensors="pt")).pooler_output
        return found

    pairs["fg_clip"] = Pair(lambda: encoded(fg_clip, images), siglip2, "FG-CLIP 2 base, 256 patches")

    zoo = open_clip.create_model("ViT-B-32")
    torch.save(zoo.state_dict(), root / "vit-b-32.pt")
    clip = OpenClipEncoder(OpenClipConfig(model="ViT-B-32", pretrained=str(root / "vit-b-32.pt")), context)
    prepare = image_transform_v2(PreprocessCfg(**zoo.visual.preprocess_cfg), is_train=False)
    zoo.eval()

    def encode_image() -> Tensor:
        with torch.inference_mode():
            found: Tensor = zoo.encode_image(torch.stack([prepare(i) for i in images]), normalize=True)
        return found

    pairs["open_clip"] = Pair(lambda: encoded(clip, images), encode_image, "CLIP ViT-B-32")
    return pairs


def of_many_tokens(root: Path, images: list[Image.Image]) -> dict[str, Pair]:
    """Return the components whose models read a picture as many tokens, the tests' tiny ones."""
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
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])

    def ask() -> Tensor:
        content: list[Any] = [{"type": "image"}, {"type": "text", "text": f"{TEXT}?"}]
        asked = [[{"role": "user", "content": [{**content[0], "image": image}, content[1]]}] for image in images]
        ways = {"padding": True, "return_tensors": "pt"}
        inputs = processor.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=True, processor_kwargs=ways
        )
        with torch.inference_mode():
            logits: Tensor = own_vlm(**inputs, logits_to_keep=1).logits[:, -1]
        return logits[:, [yes, no]].softmax(dim=1)[:, 0]

    ids = [str(number) for number in range(len(images))]
    return {
        "sentence_transformers": Pair(
            lambda: encoded(whole, images), lambda: own_whole.encode_document(images), "Qwen3-VL, tiny"
        ),
        "multi_vector": Pair(
            lambda: [found.features for found in tokens.propose(images, ids)],
            lambda: own_late.encode_document(images),
            "ColQwen2, tiny",
        ),
        "cross_encoder": Pair(
            lambda: cross.rate(pairs),
            lambda: own_cross.predict([(TEXT, image) for image in images], batch_size=BATCH),
            "Qwen3-VL, tiny",
            rates=True,
        ),
        "yes_no": Pair(lambda: asks.rate(pairs), ask, "Qwen3-VL, tiny", rates=True),
    }


def tensor(found: Any) -> Tensor:
    """Return what a call gives as one tensor."""
    return torch.cat([torch.as_tensor(part) for part in found]) if isinstance(found, list) else torch.as_tensor(found)


def parity(name: str, pair: Pair) -> dict[str, float]:
    """Compare what both calls give; raises AssertionError where it is not the same."""
    ours, theirs = tensor(pair.ours()).float(), tensor(pair.library()).float()
    assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)} and the library's {tuple(theirs.shape)}"
    if pair.rates:
        difference = (ours - theirs).abs().max().item()
        assert difference < 1e-4, f"{name}: ratings differ by {difference}"
        return {"largest_difference": difference}
    # Vectors of random weights are much alike: what they have in common says nothing.
    ours, theirs = normalize(ours, dim=-1), normalize(theirs, dim=-1)
    ours, theirs = ours - theirs.mean(0), theirs - theirs.mean(0)
    cosine = (normalize(ours, dim=-1) * normalize(theirs, dim=-1)).sum(-1).min().item()
    assert cosine >= SAME, f"{name}: vectors differ, smallest cosine {cosine:.6f}"
    return {"smallest_cosine": cosine}


def processor_seconds(work: Found) -> float:
    """Return what work takes of this process's time on the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(pair: Pair, rounds: int) -> dict[str, Any]:
    """Measure pictures a second of both, and ours over the library's."""
    contenders = {"ours": pair.ours, "library": pair.library}
    times = max(1, round(0.5 / processor_seconds(pair.library)))
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
        "seconds": "of the processor (time.process_time), one thread",
        "components": {},
        "goals": [],
    }
    with TemporaryDirectory() as folder:
        runpy.run_path(str(MODELS))["save_models"](Path(folder))
        for file in Path(folder).glob("*/processor_config.json"):
            settings = json.loads(file.read_text(encoding="utf-8"))
            settings["image_processor"]["size"]["longest_edge"] = 320 * 240
            file.write_text(json.dumps(settings), encoding="utf-8")
        pairs = {**one_pass(Path(folder), images), **of_many_tokens(Path(folder), images)}
        same = {name: parity(name, pair) for name, pair in pairs.items()}
        for name, pair in pairs.items():
            found = {"model": pair.model, "parity": same[name], **measure(pair, given.rounds)}
            results["components"][name] = found
            value = found["ratio"]["p50"]
            text = f"{name}: pictures a second over those of the library's own call"
            goal = judged_value(text, value, 1.0, 1.2, at_least=True, commit=commit(), ratio=found["ratio"])
            results["goals"].append(goal)
            print(f"{goal['verdict']:<8} {value:6.3f}  {goal['goal']}", flush=True)
    given.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
