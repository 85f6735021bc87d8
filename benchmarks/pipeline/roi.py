"""Regions pooled out of one forward pass (``encoder.regions: roi``) beside crops: what they cost and what they find.

    python benchmarks/pipeline/roi.py

cost     One decoded picture with 36 regions through the pipeline's image half, preparation included: crops, each
         encoded as a picture, and RoIAlign of the patches, both over the whole picture alone. Random weights: the time
         does not depend on them. FG-CLIP 2 at 256 patches and the size of its base model, with a small vocabulary.
recall   The motif collection, the shipped encoder, windows of 1, 2 and 3 a side (14 regions a picture): recall of
         late interaction and SCAN with crops and with the three ways of taking patches, and of whole pictures
         (global), which no setting of regions changes. In percent, mean of both directions at 1, 5 and 10.

Contenders run in alternating order; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from heritage_align_plugins.cn_clip.config import CnClipConfig
from heritage_align_plugins.cn_clip.encoder import CnClipEncoder
from heritage_align_plugins.fg_clip.config import FgClipConfig
from heritage_align_plugins.fg_clip.description import describe
from heritage_align_plugins.fg_clip.encoder import FgClipEncoder
from heritage_align_plugins.fg_clip.model import build
from heritage_align_plugins.grids.config import PatchGridConfig
from heritage_align_plugins.grids.proposer import PatchGrid
from pictures import Work, in_turn
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from heritage_align import Pipeline, dataset_sources, load_recipe
from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import seconds, spread
from heritage_align.data import Motifs
from heritage_align.encoding import ImageStage
from heritage_align.encoding.preparation import preparation_for
from heritage_align.errors import ImageError
from heritage_align.evaluation import evaluate_scores
from heritage_align.features import concat_images
from heritage_align.protocols import BuildContext

RESULT = Path(__file__).resolve().parents[1] / "results" / "roi.json"
SIDE = 6  # windows a side: 36 regions
VOCABULARY = 1000
WAYS = {
    "crops": ["encoder.regions=crops"],
    **{
        f"roi, {way}": ["encoder.regions=roi", f"encoder.patch_features={way}"]
        for way in ("plain", "clearclip", "naclip")
    },
}
SYSTEMS = ("late-interaction", "scan")
Pooling = CnClipEncoder | FgClipEncoder
KS = (1, 5, 10)


def refuse(image_id: str, error: ImageError) -> None:
    """Raise what a picture gave."""
    raise AssertionError(f"{image_id}: {error}")


def fg_clip_base(folder: Path, context: BuildContext) -> FgClipEncoder:
    """Build FG-CLIP 2 of the base size with random weights and a tokenizer of one word."""
    settings = {"model_type": "fgclip2", "text_config": {"vocab_size": VOCABULARY}}
    state = build(describe(settings, "random")).state_dict()
    generator = torch.Generator().manual_seed(0)
    save_file(
        {name: 0.02 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()},
        folder / "model.safetensors",
    )
    Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2, "silk": 3}, "<unk>")).save(
        str(folder / "tokenizer.json")
    )
    marks = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **marks}))
    (folder / "config.json").write_text(json.dumps(settings))
    return FgClipEncoder(FgClipConfig(model=str(folder), patches=256), context)


def cost(encoder: Pooling, device: str, rounds: int) -> dict[str, Any]:
    """Measure a picture with 36 regions over the picture alone, by roi and by crops.

    Args:
        encoder: any that pools regions; it is told to make crops, too.
        device: the encoder's.
        rounds: of which ratios are taken; crops, which take 37 times as long, get two.
    """
    image = Image.effect_noise((640, 480), 60).convert("RGB")
    proposer = PatchGrid(PatchGridConfig(mode="windows", scales=(SIDE,)), BuildContext())
    stage = ImageStage(encoder, proposer, preparation=preparation_for(encoder, "exact", device))
    alone = replace(stage, proposer=None)

    def encoded(way: ImageStage, times: int, *, pools: bool) -> None:
        encoder.pools_regions = pools
        for _ in range(times):
            features = way.encode([way.prepare(image)], ["a"], pool, 64)
            (features.global_features if features.regions is None else features.regions.values).sum().item()

    with ThreadPoolExecutor(1) as pool:
        encoded(alone, 1, pools=True)
        # As often as takes a second: rounds of a few milliseconds say more of the machine than of the work.
        times = max(1, round(1 / seconds(lambda: encoded(alone, 1, pools=True))))
        whole: tuple[int, Work] = (times, lambda: encoded(alone, times, pools=True))
        pooled = in_turn({"whole": whole, "roi": (times, lambda: encoded(stage, times, pools=True))}, rounds)
        cut = in_turn({"whole": whole, "crops": (1, lambda: encoded(stage, 1, pools=False))}, 2)
    return {
        "seconds_a_picture": {name: spread(took) for name, took in {**cut, **pooled}.items()},
        "over_the_whole_picture": {
            name: spread([a / b for a, b in zip(taken[name], taken["whole"])])
            for name, taken in (("roi", pooled), ("crops", cut))
        },
    }


def recall(artworks: int) -> dict[str, Any]:
    """Evaluate the motif collection by every way of describing regions."""
    rows: dict[str, Any] = {}
    languages = {language: Motifs("test", artworks=artworks, languages=(language,)) for language in ("zh", "en")}
    for way, overrides in {"whole": [], **WAYS}.items():
        found: dict[str, Any] = {}
        encoded = None
        for system in ("global",) if way == "whole" else SYSTEMS:
            pipeline = Pipeline(load_recipe(system, [*overrides, "runtime.device=cpu"]))
            start = time.perf_counter()
            if encoded is None:
                sources = dataset_sources(languages["zh"])
                encoded = concat_images(list(pipeline.encode_stream(sources, on_error=refuse)))
                rows[way] = {"seconds_a_picture": (time.perf_counter() - start) / len(encoded), "systems": found}
            scores: dict[str, Any] = {}
            for language, texts in languages.items():
                with torch.inference_mode():
                    matrix = pipeline.score(encoded, pipeline.encode_texts(texts.texts))
                result = evaluate_scores(matrix.float().cpu(), encoded.ids, texts.texts, ks=KS)
                scores[language] = {
                    "mean_recall": round(float(result.mean_recall or 0), 2),
                    "t2i_r1": round(result.directions["t2i"].recall[1], 2),
                    "i2t_r1": round(result.directions["i2t"].recall[1], 2),
                }
            found[system] = scores
            print(way, system, scores, flush=True)
    return {"pictures": 4 * artworks, "ways": rows}


def goals_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge the times."""
    wanted = [
        (
            f"36 regions by roi over the whole picture alone, {name}",
            measured["over_the_whole_picture"]["roi"],
            1.3,
            1.1,
            False,
        )
        for name, measured in results["cost"].items()
    ]
    return [
        judged_value(text, found["p50"], accept, stretch, at_least=at_least, commit=commit(), ratio=found)
        for text, found, accept, stretch, at_least in wanted
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artworks", type=int, default=50, help="of the test split, four pictures each")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    context = BuildContext(given.device, "fp32" if given.device == "cpu" else "fp16")
    results: dict[str, Any] = {
        "commit": commit(),
        "machine": machine_facts(torch.device(given.device)),
        "precision": context.precision,
        "regions": SIDE**2,
        "cost": {},
    }
    for name, settings in {"motif-small": {}, "ViT-B-16": {"model": "ViT-B-16", "checkpoint": "random"}}.items():
        encoder = CnClipEncoder(CnClipConfig(regions="roi", **settings), context)
        results["cost"][name] = cost(encoder, given.device, given.rounds)
        print(name, results["cost"][name]["over_the_whole_picture"], flush=True)
    with TemporaryDirectory() as folder:
        fg_clip = fg_clip_base(Path(folder), context)
    name = "FG-CLIP 2 base, 256 patches"
    results["cost"][name] = cost(fg_clip, given.device, given.rounds)
    print(name, results["cost"][name]["over_the_whole_picture"], flush=True)
    if given.device == "cpu":
        results["recall"] = recall(given.artworks)
    results["goals"] = goals_of(results)
    for goal in results["goals"]:
        print(f"{goal['verdict']:<8} {goal['value']:6.2f}  {goal['goal']}")
    given.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
