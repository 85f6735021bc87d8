"""Run the published code on the tiny checkpoints and keep what it gives in golden.json.

    git clone https://github.com/360CVGroup/FG-CLIP second              # main: FG-CLIP 2
    git clone -b v1.0 https://github.com/360CVGroup/FG-CLIP first       # FG-CLIP
    pip install --target old --no-deps transformers==4.57.1 tokenizers==0.22.1 huggingface_hub==0.36.0 einops
    PYTHONPATH=old:first:second:. python tests/plugins/fg_clip/make_golden.py

The published code is imported beside the project and none of it is kept. It needs the transformers of its time. The
golden file was made of commits b1af1cd (main) and v1.0 with torch 2.14.1 on a CPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fgclip.model.clip_strc.configuration_clip import CLIPConfig
from fgclip.model.clip_strc.fgclip import FGCLIPModel
from fgclip2.model.strcs.configuration_fgclip2 import Fgclip2Config
from fgclip2.model.strcs.image_processing_fgclip2 import Fgclip2ImageProcessor
from fgclip2.model.strcs.modeling_fgclip2 import Fgclip2Model
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPImageProcessor

sys.path.insert(0, str(Path(__file__).parent))
import tiny

PLACES = (0, 5, -1)
"""Patches whose dense features are kept."""


def unit(rows: torch.Tensor) -> list[Any]:
    """Normalise and round to seven digits."""
    return np.round(normalize(rows.float(), dim=-1).numpy().astype(float), 7).tolist()


def tokens(tokenizer: Any, texts: tuple[str, ...], length: int, lower: bool) -> Any:
    """Tokenise as the published examples do."""
    texts = tuple(text.lower() for text in texts) if lower else texts
    return tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def loaded(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Load a checkpoint into a published model; its names must be the model's, all of them."""
    state = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("logit_")}
    result = model.load_state_dict(state, strict=False)
    assert all(k.startswith("logit_") for k in result.missing_keys), result.missing_keys
    assert not result.unexpected_keys, result.unexpected_keys
    return model.eval()


def first(folder: Path) -> dict[str, Any]:
    """Return what FG-CLIP gives."""
    settings = {k: v for k, v in tiny.PUBLISHED.items() if k not in ("architectures", "model_type")}
    model: Any = loaded(FGCLIPModel(CLIPConfig(**settings)), folder)
    side = tiny.PUBLISHED["vision_config"]["image_size"]
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    golden: dict[str, Any] = {"whole": [], "dense": [], "regions": [], "grids": []}
    cells = side // tiny.PUBLISHED["vision_config"]["patch_size"]
    for image in tiny.pictures():
        pixels = processor.preprocess(image.resize((side, side)), return_tensors="pt")["pixel_values"]
        boxes = torch.tensor([[0.0, *(value * cells for value in box)] for box in tiny.BOXES])
        golden["grids"].append([cells, cells])
        golden["whole"] += unit(model.get_image_features(pixels))
        golden["dense"].append(unit(model.get_image_dense_features(pixels)[0][list(PLACES)]))
        golden["regions"].append(unit(model.get_image_box_roi_features(pixels, box_info=boxes)))
    for mode, texts, length in (("short", tiny.TEXTS, 77), ("long", tiny.LONG, 248), ("box", tiny.TEXTS, 77)):
        ids = tokens(tokenizer, texts, length, False)["input_ids"]
        golden[mode] = unit(model.get_text_features(ids, walk_short_pos=mode != "long"))
        golden[f"{mode} tokens"] = [int(row.sum()) for row in ids]
    return golden


def second(folder: Path) -> dict[str, Any]:
    """Return what FG-CLIP 2 gives."""
    config = Fgclip2Config(text_config=tiny.SECOND["text_config"], vision_config=tiny.SECOND["vision_config"])
    model: Any = loaded(Fgclip2Model(config), folder)
    processor = Fgclip2ImageProcessor(patch_size=tiny.SECOND["vision_config"]["patch_size"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    golden: dict[str, Any] = {"whole": [], "dense": [], "regions": [], "grids": []}
    for image in tiny.pictures():
        inputs = processor(images=image, return_tensors="pt")
        rows, columns = inputs["spatial_shapes"][0].tolist()
        size = (image.height, image.width)
        boxes = [[x0 * size[1], y0 * size[0], x1 * size[1], y1 * size[0]] for x0, y0, x1, y1 in tiny.BOXES]
        golden["grids"].append([rows, columns])
        golden["whole"] += unit(model.get_image_features(**inputs))
        dense = model.get_image_dense_feature(**inputs)[0, : rows * columns]
        golden["dense"].append(unit(dense[list(PLACES)]))
        regions = model.get_image_region_features(**inputs, image_sizes=[size], region_infos=[boxes])[0]
        golden["regions"].append(unit(regions))
    for mode, texts, length in (("short", tiny.TEXTS, 64), ("long", tiny.LONG, 196), ("box", tiny.TEXTS, 64)):
        inputs = tokens(tokenizer, texts, length, True)
        golden[mode] = unit(model.get_text_features(**inputs, walk_type=mode))
        golden[f"{mode} tokens"] = [int(row.sum()) for row in inputs["input_ids"]]
    return golden


def main() -> None:
    """Write golden.json beside this script."""
    with tempfile.TemporaryDirectory() as root, torch.no_grad():
        golden = {
            "first": first(tiny.save("published", Path(root) / "first")),
            "second": second(tiny.save("second", Path(root) / "second")),
        }
    target = Path(__file__).with_name("golden.json")
    target.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
