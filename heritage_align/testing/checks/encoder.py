"""Checks of encoders."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from heritage_align.encoding.patches import grid_of
from heritage_align.encoding.resampling import Resampler
from heritage_align.errors import HeritageAlignError
from heritage_align.ops import Ragged
from heritage_align.planning import gives
from heritage_align.protocols import Encoder, FeatureEncoder, FlexibleEncoder, RecipeEncoder, RegionEncoder
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect, expect_close, expect_unit_rows

PICTURES = ("pattern", "noise", "flat")
TEXTS = tuple(item.text for item in samples.TEXTS)


def _encodes(case: Case, feature: str) -> Encoder:
    if feature not in gives(case.component):
        raise SkipTest(f"does not give {feature!r}")
    encoder: Encoder = case.build()
    return encoder


def _prepares(case: Case) -> Encoder:
    if "features" in gives(case.component):
        raise SkipTest("takes region features, not pixels")
    return _encodes(case, "global")


def _pixels(encoder: Encoder) -> Tensor:
    pictures = samples.images()
    return torch.stack([encoder.prepare(pictures[name]) for name in PICTURES])


def _inputs(case: Case, encoder: Encoder) -> Tensor:
    """Return three pictures as the encoder takes them: prepared pixels, or features of `Case.feature_dim`."""
    if "features" not in gives(case.component):
        return _pixels(encoder)
    expect(case.feature_dim is not None, "it takes region features, and the case does not name their feature_dim")
    assert case.feature_dim is not None
    # Features of a detector: never negative, far from unit length.
    return 20 * samples.unit_rows(len(PICTURES), case.feature_dim).abs()


def _vectors(case: Case, encoder: Encoder, inputs: Tensor) -> Tensor:
    if "features" not in gives(case.component):
        return encoder.encode_pixels(inputs).global_features
    assert isinstance(encoder, FeatureEncoder)
    return encoder.encode_features(inputs)


@check("encoder")
def check_image_vectors(case: Case) -> None:
    """Everything downstream takes dot products for cosines: fp32 unit rows of `dim`, and no autograd graph
    kept."""
    encoder = _encodes(case, "global")
    rows = _vectors(case, encoder, _inputs(case, encoder))
    expect(rows.shape[:1] == (len(PICTURES),), f"it gave {tuple(rows.shape)} for {len(PICTURES)} images")
    expect_unit_rows(rows, encoder.dim, "global_features")
    expect(not rows.requires_grad, "global_features require a gradient: a collection's graphs fill the memory")


@check("encoder")
def check_text_vectors(case: Case) -> None:
    """As for images: fp32 unit rows of `dim`, for Chinese, English, one character and odd signs."""
    encoder = _encodes(case, "texts")
    rows = encoder.encode_texts(TEXTS)
    expect(rows.shape[:1] == (len(TEXTS),), f"encode_texts gave {tuple(rows.shape)} for {len(TEXTS)} texts")
    expect_unit_rows(rows, encoder.dim, "encode_texts")
    expect(not rows.requires_grad, "encode_texts requires a gradient: a collection's graphs fill the memory")


@check("encoder")
def check_dim_is_planned(case: Case) -> None:
    """The plan refuses clashing dimensions before loading, so what facts() promises must be what comes."""
    dim = case.config.facts().dim
    if dim is None:
        raise SkipTest("facts() promises no dim")
    built = case.build().dim
    expect(built == dim, f"facts() promises dim {dim}, the encoder has {built}")


@check("encoder")
def check_patches(case: Case) -> None:
    """Patches are matched to the cells of patch_grid by their row-major order, one unit row each."""
    encoder: Encoder = case.build()
    if "patches" not in gives(case.component):
        if "global" not in gives(case.component):
            raise SkipTest("encodes no images")
        if "features" in gives(case.component):
            raise SkipTest("takes region features, not pixels")
        try:
            encoder.encode_pixels(_pixels(encoder), patches=True)
        except ValueError:
            return
        raise AssertionError("encode_pixels(patches=True) returned, and 'patches' is not among its outputs")
    expect(
        encoder.patch_grid is not None or isinstance(encoder, FlexibleEncoder),
        "it gives 'patches', patch_grid is None, and it has no grid_of either",
    )
    counts = [math.prod(grid_of(encoder, samples.images()[name]) or ()) for name in PICTURES]
    pixels = _pixels(encoder)
    encoded = encoder.encode_pixels(pixels, patches=True)
    expect(encoded.patches is not None, "encode_pixels(patches=True) gave no patches")
    assert encoded.patches is not None
    shape = (len(PICTURES), max(counts), encoder.dim)
    expect(encoded.patches.shape == shape, f"patches have shape {tuple(encoded.patches.shape)}, expected {shape}")
    for count, patches in zip(counts, encoded.patches):
        expect_unit_rows(patches[:count], encoder.dim, "patches")
    alone = encoder.encode_pixels(pixels).global_features
    expect_close(encoded.global_features, alone, "global_features with patches=True, against those without")


@check("encoder")
def check_pooled_boxes(case: Case) -> None:
    """Boxes of the forward pass of a whole picture: whose box is it, which corner is first, and is the batch part of
    it."""
    encoder: Encoder = case.build()
    said, pools = "boxes" in gives(case.component), isinstance(encoder, RegionEncoder) and encoder.pools_regions
    expect(said == pools, f"'boxes' among its outputs is {said}, pools_regions is {pools}")
    if not isinstance(encoder, RegionEncoder) or not pools:
        raise SkipTest("pools no boxes")
    corners = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.3, 0.5], [0.7, 0.5, 1.0, 1.0], [0.41, 0.4, 0.42, 0.41]]
    pixels, counts = _pixels(encoder), (4, 0, 3)
    boxes = [torch.tensor(corners[:count]).reshape(-1, 4) for count in counts]
    together = encoder.encode_regions(pixels, Ragged(torch.cat(boxes), torch.tensor([0, 4, 4, 7])))
    expect(together.regions.shape == (7, encoder.dim), f"7 boxes have shape {tuple(together.regions.shape)}")
    expect_unit_rows(together.regions, encoder.dim, "regions")
    alone = encoder.encode_pixels(pixels).global_features
    expect_close(together.global_features, alone, "global_features of encode_regions, against encode_pixels")
    expect(
        not torch.allclose(together.regions[1], together.regions[2], atol=1e-6),
        "boxes in two corners of a picture have the same vector",
    )
    for row, start in ((0, 0), (2, 4)):
        own = Ragged(boxes[row], torch.tensor([0, counts[row]]))
        found = encoder.encode_regions(pixels[row : row + 1], own).regions
        expect_close(
            found, together.regions[start : start + counts[row]], "boxes of a picture alone, against the batch"
        )


@check("encoder")
def check_images_do_not_depend_on_their_batch(case: Case) -> None:
    """Scores that change with batch mates were a bug of a published retrieval model; order must not matter
    either."""
    encoder = _encodes(case, "global")
    inputs = _inputs(case, encoder)
    together = _vectors(case, encoder, inputs)
    alone = torch.cat([_vectors(case, encoder, row[None]) for row in inputs])
    expect_close(alone, together, "images encoded alone, against the batch")
    expect_close(_vectors(case, encoder, inputs.flip(0)).flip(0), together, "images in another order")


@check("encoder")
def check_texts_do_not_depend_on_their_batch(case: Case) -> None:
    """Padding to the longest text of a batch must not reach the shorter ones."""
    encoder = _encodes(case, "texts")
    together = encoder.encode_texts(TEXTS)
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    expect_close(alone, together, "texts encoded alone, against the batch")
    expect_close(encoder.encode_texts(TEXTS[::-1]).flip(0), together, "texts in another order")


@check("encoder")
def check_encoder_is_deterministic(case: Case) -> None:
    """Dropout left on, or weights drawn from the global generator: a store could never be extended."""
    gained = gives(case.component)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        encoder: Encoder = case.build()
        torch.manual_seed(seed + 10)
        images = _vectors(case, encoder, _inputs(case, encoder)) if "global" in gained else torch.empty(0)
        texts = encoder.encode_texts(TEXTS) if "texts" in gained else torch.empty(0)
        results.append((images, texts, encoder.fingerprint()))
    expect_close(results[1][0], results[0][0], "images encoded by a second build", 1e-6)
    expect_close(results[1][1], results[0][1], "texts encoded by a second build", 1e-6)
    expect(results[0][2] == results[1][2], f"fingerprints differ: {results[0][2]!r} and {results[1][2]!r}")


@check("encoder")
def check_inputs_matter(case: Case) -> None:
    """An encoder that ignores its input passes every other check here; so does one whose prepare() returns
    zeros."""
    gained = gives(case.component)
    encoder: Encoder = case.build()
    if "global" in gained:
        rows = _vectors(case, encoder, _inputs(case, encoder))
        expect(not torch.allclose(rows[0], rows[1], atol=1e-6), "two different pictures have the same vector")
    if "texts" in gained:
        rows = encoder.encode_texts(TEXTS)
        expect(not torch.allclose(rows[0], rows[1], atol=1e-6), "two different texts have the same vector")


@check("encoder")
def check_fingerprint(case: Case) -> None:
    """A store keeps the fingerprint on one line of its manifest and refuses features of another encoder by
    it."""
    fingerprint = case.build().fingerprint()
    expect(
        isinstance(fingerprint, str) and fingerprint != "" and fingerprint.split() == [fingerprint],
        f"fingerprint() gave {fingerprint!r}, expected one word that names model and weights",
    )


@check("encoder")
def check_prepare_takes_any_picture(case: Case) -> None:
    """Crops are as small as one pixel and as narrow as a scroll; all must stack into one batch."""
    encoder = _prepares(case)
    prepared = {name: encoder.prepare(picture) for name, picture in samples.images().items()}
    shapes = {name: tuple(pixels.shape) for name, pixels in prepared.items()}
    expect(len(set(shapes.values())) == 1, f"prepare() gives different shapes: {shapes}")
    shape = next(iter(shapes.values()))
    expect(len(shape) == 3 and shape[0] == 3, f"prepare() gives shape {shape}, expected (3, height, width)")
    odd = [name for name, pixels in prepared.items() if not bool(torch.isfinite(pixels).all())]
    expect(not odd, f"prepare() gives NaN or infinity for {', '.join(odd)}")


@check("encoder")
def check_prepare_is_thread_safe(case: Case) -> None:
    """Pictures are prepared in several threads; a buffer kept on the encoder mixes them up."""
    encoder = _prepares(case)
    pictures = list(samples.images().values()) * 4
    wanted = [encoder.prepare(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(encoder.prepare, pictures))
    for one, other in zip(got, wanted):
        expect_close(one, other, "prepare() in a thread, against alone", 1e-6)


@check("encoder")
def check_recipe_is_what_prepare_does(case: Case) -> None:
    """On a GPU pictures are prepared by the recipe: a store that was made with the one serves the other."""
    encoder = _prepares(case)
    recipe = encoder.pixel_recipe() if isinstance(encoder, RecipeEncoder) else None
    if recipe is None:
        raise SkipTest("offers no recipe for pixels")
    by_recipe, std = Resampler(recipe, torch.device("cpu")), torch.tensor(recipe.std)[:, None, None]
    for name, picture in samples.images().items():
        pixels, prepared = by_recipe([torch.from_numpy(np.array(picture))])[0], encoder.prepare(picture)
        shapes = f"{tuple(pixels.shape)}, prepare() {tuple(prepared.shape)}"
        expect(pixels.shape == prepared.shape, f"{name}: the recipe gives {shapes}")
        levels = ((pixels - prepared).abs() * std * 255).mean().item()
        expect(levels <= 1, f"{name}: the recipe's pixels are {levels:.1f} of 255 levels off those of prepare()")


@check("encoder")
def check_empty_batches(case: Case) -> None:
    """The last batch of a collection, or a text without fragments, may be empty: (0, dim), not a
    traceback."""
    gained = gives(case.component)
    encoder: Encoder = case.build()
    if "texts" in gained:
        shape = tuple(encoder.encode_texts([]).shape)
        expect(shape == (0, encoder.dim), f"encode_texts([]) has shape {shape}, expected (0, {encoder.dim})")
    if "global" in gained:
        shape = tuple(_vectors(case, encoder, _inputs(case, encoder)[:0]).shape)
        expect(shape == (0, encoder.dim), f"no images have vectors of shape {shape}, expected (0, {encoder.dim})")


@check("encoder")
def check_long_text(case: Case) -> None:
    """A catalogue entry runs to pages: cut it, or refuse it with a ValueError; no index error of the position
    table."""
    encoder = _encodes(case, "texts")
    long = "缠枝牡丹纹，" * 800
    try:
        rows = encoder.encode_texts([long, TEXTS[0]])
    except ValueError:
        return
    expect_unit_rows(rows, encoder.dim, "encode_texts of 4800 characters")


@check("encoder")
def check_blank_text_is_refused(case: Case) -> None:
    """A blank query has a vector too, and its answers look like answers."""
    encoder = _encodes(case, "texts")
    for blank in ("", " \n\t", "　"):
        try:
            encoder.encode_texts([TEXTS[0], blank])
        except ValueError:
            continue
        raise AssertionError(f"encode_texts takes the blank text {blank!r}; raise ValueError")


@check("encoder")
def check_features_of_another_width_are_refused(case: Case) -> None:
    """Features of another detector: broadcasting, or a matrix product's own message, hides which file was
    wrong."""
    if "features" not in gives(case.component):
        raise SkipTest("takes pixels, not region features")
    encoder: Encoder = case.build()
    wrong = torch.cat([_inputs(case, encoder)] * 2, dim=1)
    try:
        _vectors(case, encoder, wrong)
    except HeritageAlignError as error:
        expect(str(wrong.shape[1]) in str(error), f"it refuses features of {wrong.shape[1]} dimensions with {error}")
    else:
        raise AssertionError(f"it takes features of {wrong.shape[1]} dimensions, twice its width")
