"""The published SCAN and BFAN code's own outputs, every setting, both directions."""

import json
from pathlib import Path

import pytest
import torch

from heritage_align import ops

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
NORMS = {
    "clipped_l2norm": ("leaky_relu", "l2"),
    "l2norm": ("none", "l2"),
    "softmax": ("none", "softmax"),
    "clipped": ("leaky_relu", "none"),
    "no_norm": ("none", "none"),
}
AGGREGATES = {"LogSumExp": "lse", "Mean": "mean", "Max": "max", "Sum": "sum"}


def settings_of(name: str, spec: dict[str, object]) -> dict[str, object]:
    if name.startswith("bfan"):
        return {
            "direction": "both",
            "focal": name.split("_")[1],
            "aggregate": "mean",
            "temperature": spec["lambda_softmax"],
        }
    rectifier, normalise = NORMS[str(spec["raw_feature_norm"])]
    return {
        "direction": spec["direction"],
        "rectifier": rectifier,
        "normalise": normalise,
        "aggregate": AGGREGATES[str(spec["agg_func"])],
        "temperature": spec["lambda_softmax"],
        "lse_scale": spec["lambda_lse"],
    }


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("file", ["shared_a", "shared_b", "shared_c"])
def test_scores_equal_the_published_code(file: str, backend: str) -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(GOLDEN / f"{file}.safetensors")
    specs = json.loads((GOLDEN / f"{file}.json").read_text())
    regions = tensors["regions"]
    images = ops.Ragged.from_list(list(regions))
    texts = ops.Ragged.from_padded(tensors["words"], tensors["word_lengths"])
    assert len(specs) == 60
    for name, spec in specs.items():
        scores = ops.focal_attention_score(images, texts, backend=backend, **settings_of(name, spec))
        torch.testing.assert_close(scores, tensors[name], atol=2e-6, rtol=2e-6, msg=lambda m, n=name: f"{n}: {m}")
