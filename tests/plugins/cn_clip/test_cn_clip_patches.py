"""Patch recipes against a slow rendering of their definitions on cn_clip's own modules."""

from __future__ import annotations

import math

import pytest
import torch
from heritage_align_plugins.cn_clip.patches import neighbourhood
from torch.nn.functional import normalize


def slow_patches(visual: torch.nn.Module, pixels: torch.Tensor, recipe: str, sigma: float) -> torch.Tensor:
    """One image, one head, one query at a time, by cn_clip's layers; returns (n, n_patches, dim)."""
    blocks = visual.transformer.resblocks
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = blocks[:-1](visual.ln_pre(x).transpose(0, 1))
    last = blocks[-1]
    if recipe == "plain":
        tokens = last(x).transpose(0, 1)
    else:
        y = last.ln_1(x).transpose(0, 1)
        q, k, v = (y @ last.attn.in_proj_weight.T + last.attn.in_proj_bias).chunk(3, dim=-1)
        by = q if recipe == "clearclip" else k
        n, count, width = y.shape
        head = width // last.attn.num_heads
        side = math.isqrt(count - 1)
        mixed = torch.zeros_like(y)
        for image in range(n):
            for start in range(0, width, head):
                part = slice(start, start + head)
                for a in range(count):
                    logits = by[image, :, part] @ by[image, a, part] / math.sqrt(head)
                    for b in range(1, count) if recipe == "naclip" and a else []:
                        rows, columns = (a - 1) // side - (b - 1) // side, (a - 1) % side - (b - 1) % side
                        logits[b] += math.exp(-(rows**2 + columns**2) / (2 * sigma**2))
                    mixed[image, a, part] = logits.softmax(0) @ v[image, :, part]
        tokens = last.attn.out_proj(mixed)
    return normalize(visual.ln_post(tokens[:, 1:]) @ visual.proj, dim=-1)


@pytest.mark.parametrize("recipe", ["plain", "clearclip", "naclip"])
def test_patches_follow_their_definition(build, vit_file, vit_model, pixels, recipe):
    encoder = build(vit_file, patch_features=recipe, naclip_sigma=2.0)
    encoded = encoder.encode_pixels(pixels[:2], patches=True)
    with torch.no_grad():
        expected = slow_patches(vit_model.visual, pixels[:2], recipe, 2.0)
        whole = normalize(vit_model.encode_image(pixels[:2]), dim=-1)
    assert encoder.patch_grid == (4, 4)
    torch.testing.assert_close(encoded.patches, expected, atol=5e-6, rtol=0)
    torch.testing.assert_close(encoded.global_features, whole, atol=2e-6, rtol=0)


def test_recipes_differ(build, vit_file, pixels):
    plain, clear, near = (
        build(vit_file, patch_features=recipe).encode_pixels(pixels, patches=True).patches
        for recipe in ("plain", "clearclip", "naclip")
    )
    assert (plain - clear).abs().max() > 0.05
    assert (clear - near).abs().max() > 0.05


def test_the_neighbourhood_by_hand():
    near = neighbourhood((2, 3), 5.0)
    assert near.shape == (7, 7)
    assert near[0].abs().sum() == near[:, 0].abs().sum() == 0
    assert near[1, 1] == 1.0
    # Patch 1 is at row 0, column 0; patch 6 at row 1, column 2: distance^2 = 1 + 4, exp(-5 / 50).
    assert near[1, 6].item() == pytest.approx(math.exp(-0.1))
    assert torch.equal(near, near.T)


def test_patches_keep_unit_length_in_half_precision(build, vit_file, pixels):
    exact = build(vit_file, patch_features="naclip").encode_pixels(pixels, patches=True).patches
    half = build(vit_file, "bf16", patch_features="naclip").encode_pixels(pixels, patches=True).patches
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.norm(dim=-1), torch.ones(half.shape[:2]))
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0)
