"""Features equal those of the published code on the same weights, to 1e-5.

golden.json was made by make_golden.py from github.com/360CVGroup/FG-CLIP (main at b1af1cd for FG-CLIP 2, branch v1.0
for FG-CLIP), which ran beside the project on the checkpoints of tiny.py; none of its code is kept here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from heritage_align.ops import Ragged

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
CHECKPOINTS = {"first": "published", "second": "second"}
GENERATIONS = list(CHECKPOINTS)
SAME = {"atol": 1e-5, "rtol": 0.0}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("together", [False, True])
def test_pictures_patches_and_boxes(build, generation, together):
    encoder, golden = build(CHECKPOINTS[generation]), GOLDEN[generation]
    pictures = tiny.pictures()
    assert [list(encoder.grid_of(*picture.size)) for picture in pictures] == golden["grids"]
    batches = [[0, 1]] if together else [[0], [1]]
    for batch in batches:
        pixels = torch.stack([encoder.prepare(pictures[i]) for i in batch])
        encoded = encoder.encode_pixels(pixels, patches=True)
        torch.testing.assert_close(encoded.global_features, torch.tensor([golden["whole"][i] for i in batch]), **SAME)
        for row, i in enumerate(batch):
            rows, columns = golden["grids"][i]
            dense = encoded.patches[row, : rows * columns][[0, 5, -1]]
            torch.testing.assert_close(dense, torch.tensor(golden["dense"][i]), **SAME)
        count = len(tiny.BOXES)
        boxes = Ragged(torch.tensor(tiny.BOXES * len(batch)), torch.arange(len(batch) + 1) * count)
        regions = encoder.encode_regions(pixels, boxes)
        torch.testing.assert_close(regions.global_features, encoded.global_features, **SAME)
        expected = torch.tensor([row for i in batch for row in golden["regions"][i]])
        torch.testing.assert_close(regions.regions, expected, **SAME)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("mode", ["short", "long", "box"])
def test_texts(build, generation, mode):
    encoder, golden = build(CHECKPOINTS[generation], texts=mode, characters="as_written"), GOLDEN[generation]
    texts = tiny.LONG if mode == "long" else tiny.TEXTS
    ids = encoder._tokens[mode](texts)["input_ids"]
    assert ids.sum(1).tolist() == golden[f"{mode} tokens"]
    torch.testing.assert_close(encoder.encode_texts(texts), torch.tensor(golden[mode]), **SAME)


def test_the_modes_differ():
    """So that a mode that is read as another would be seen above."""
    for generation in GENERATIONS:
        golden = GOLDEN[generation]
        short, box, long = (torch.tensor(golden[mode])[1] for mode in ("short", "box", "long"))
        assert (short @ long) < 0.99
        # FG-CLIP has no head of its own for phrases of regions.
        assert (short @ box > 0.9999) == (generation == "first")
