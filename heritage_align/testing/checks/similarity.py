"""Checks of similarities."""

from __future__ import annotations

from dataclasses import replace
from unittest import SkipTest

import torch
from torch import Tensor

from heritage_align.ops import Ragged, triangular_factor
from heritage_align.planning import gives, needs, scores_in_place
from heritage_align.protocols import Similarity
from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect, expect_close
from heritage_align.types import ImageFeatures, TextFeatures


def _features(case: Case) -> tuple[ImageFeatures, TextFeatures]:
    dim = case.config.facts().dim or samples.DIM
    return samples.image_features(dim=dim), samples.text_features(dim=dim)


def _wanted(case: Case) -> set[str]:
    return {name.removesuffix("?") for name in needs(case.component)}


def _pairwise(built: Similarity, images: ImageFeatures, texts: TextFeatures) -> Tensor:
    """Return ``(n_images, n_texts)`` with every pair scored on its own."""
    rows = []
    for i in range(len(images)):
        one = samples.images_at(images, [i])
        rows.append(torch.cat([built.score(one, samples.texts_at(texts, [j])) for j in range(len(texts))], dim=1))
    return torch.cat(rows)


@check("similarity")
def check_scores(case: Case) -> None:
    """Scores are fp32 (n_images, n_texts) without NaN, and the same when asked for again."""
    images, texts = _features(case)
    built: Similarity = case.build()
    scores = built.score(images, texts)
    expect(scores.shape == (len(images), len(texts)), f"score() has shape {tuple(scores.shape)}, expected (4, 3)")
    expect(scores.dtype == torch.float32, f"score() has dtype {scores.dtype}, expected torch.float32")
    expect(bool(torch.isfinite(scores).all()), "score() gives NaN or infinity for ordinary features")
    expect_close(case.build().score(images, texts), scores, "score() of a second build", 1e-6)


@check("similarity")
def check_scores_do_not_depend_on_the_batch(case: Case) -> None:
    """A pair's score is its own: padding to the longest item of a batch has changed published scores."""
    images, texts = _features(case)
    built: Similarity = case.build()
    together = built.score(images, texts)
    expect_close(_pairwise(built, images, texts), together, "pairs scored alone, against the batch")
    backwards = built.score(samples.images_at(images, [3, 2, 1, 0]), samples.texts_at(texts, [2, 1, 0]))
    expect_close(backwards.flip(0, 1), together, "images and texts in another order")


@check("similarity")
def check_padding_never_wins(case: Case) -> None:
    """Where every cosine is negative, a padded row of zeros wins a maximum; three libraries had this bug."""
    images, texts = _features(case)
    towards = samples.unit_rows(1, dim=images.global_features.shape[1], seed=3)
    images, texts = samples.images_towards(images, -towards), samples.texts_towards(texts, towards)
    built: Similarity = case.build()
    together = built.score(images, texts)
    expect_close(_pairwise(built, images, texts), together, "all-negative pairs alone, against the batch")


@check("similarity")
def check_higher_is_better(case: Case) -> None:
    """A distance handed on as a score ranks the whole collection upside down."""
    images, texts = _features(case)
    towards = samples.unit_rows(1, dim=images.global_features.shape[1], seed=3)
    built: Similarity = case.build()
    texts = samples.texts_towards(texts, towards)
    near = built.score(samples.images_towards(images, towards), texts)
    far = built.score(samples.images_towards(images, -towards), texts)
    expect(bool((near > far).all()), f"aligned features score {near.min():.4g}, opposite ones {far.max():.4g}")


@check("similarity")
def check_candidates(case: Case) -> None:
    """The rerank must give what scoring everything gives; -1 is padding and may not be taken for the last
    image."""
    images, texts = _features(case)
    built: Similarity = case.build()
    candidates = torch.tensor([[3, 0, 1, 2], [2, 2, -1, 0], [-1, -1, -1, -1]])
    everything = built.score(images, texts)
    scores = built.score(images, texts, candidates)
    wanted = torch.gather(everything.T, 1, candidates.clamp(min=0)).masked_fill(candidates < 0, float("-inf"))
    expect(
        scores.dtype == torch.float32,
        f"score() of candidates has dtype {scores.dtype}, expected torch.float32",
    )
    expect_close(scores, wanted, "score() of candidates, against the same pairs of all")
    none = built.score(images, texts, candidates[:, :0])
    expect(none.shape == (3, 0), f"score() of no candidates has shape {tuple(none.shape)}, expected (3, 0)")


@check("similarity")
def check_in_place(case: Case) -> None:
    """A similarity that scores in place is handed a whole shard or store; only what candidates ask for may count."""
    if not scores_in_place(case.component):
        raise SkipTest("does not say that it scores in place")
    images, texts = _features(case)
    built: Similarity = case.build()
    candidates = torch.tensor([[3, 0], [0, 3], [3, -1]])
    expected = built.score(images, texts, candidates)
    assert images.regions is not None
    bounds = images.regions.offsets.tolist()
    values, whole = images.regions.values.clone(), images.global_features.clone()
    values[bounds[1] : bounds[3]] = torch.nan
    whole[1:3] = torch.nan
    damaged = replace(images, global_features=whole, regions=Ragged(values, images.regions.offsets))
    scores = built.score(damaged, texts, candidates)
    expect_close(scores, expected, "scores where images that no candidate asks for hold NaN, against those without")
    if "image.global" not in _wanted(case):
        bare = replace(images, global_features=whole[:0])
        expect_close(built.score(bare, texts, candidates), expected, "scores without the global features")


@check("similarity")
def check_empty_features(case: Case) -> None:
    """No images or no texts is an empty table of scores."""
    images, texts = _features(case)
    built: Similarity = case.build()
    for i, t in ((0, 3), (4, 0), (0, 0)):
        few, some = samples.images_at(images, range(i)), samples.texts_at(texts, range(t))
        shape = tuple(built.score(few, some).shape)
        expect(shape == (i, t), f"score() of {i} images and {t} texts has shape {shape}")


@check("similarity")
def check_image_without_regions(case: Case) -> None:
    """A detector may find nothing: such an image may score -inf, never NaN, and its neighbours as without
    it."""
    if "image.regions" not in _wanted(case):
        raise SkipTest("compares no regions")
    dim = case.config.facts().dim or samples.DIM
    images, texts = samples.image_features((3, 0, 2), dim), samples.text_features(dim=dim)
    built: Similarity = case.build()
    scores = built.score(images, texts)
    expect(not bool(scores.isnan().any()), f"an image without regions gives NaN: {scores.tolist()}")
    others = built.score(samples.images_at(images, [0, 2]), texts)
    expect_close(scores[[0, 2]], others, "images beside one without regions, against those without it")


@check("similarity")
def check_stored_precision(case: Case) -> None:
    """A store keeps fp16 or bf16; sums in that precision tie a whole page of answers."""
    images, texts = _features(case)
    built: Similarity = case.build()
    for dtype in (torch.float16, torch.bfloat16):
        scores = built.score(_rounded(images, dtype, dtype), texts)
        expect(
            scores.dtype == torch.float32,
            f"{dtype} features give {scores.dtype} scores, expected torch.float32",
        )
        wanted = built.score(_rounded(images, dtype, torch.float32), texts)
        expect_close(scores, wanted, f"score() of {dtype} features, against the same numbers in fp32", 2e-4)


def _rounded(images: ImageFeatures, through: torch.dtype, to: torch.dtype) -> ImageFeatures:
    assert images.regions is not None
    values = images.regions.values.to(through).to(to)
    return replace(
        images,
        global_features=images.global_features.to(through).to(to),
        regions=Ragged(values, images.regions.offsets),
        factor=triangular_factor(Ragged(values, images.regions.offsets)),
    )


@check("similarity")
def check_mask_is_used(case: Case) -> None:
    """A region that a filter masked must not reach the score, whatever its features are."""
    if "keep" not in _wanted(case):
        raise SkipTest("uses no mask")
    images, texts = _features(case)
    towards = samples.unit_rows(1, dim=images.global_features.shape[1], seed=3)
    texts = samples.texts_towards(texts, towards)
    built: Similarity = case.build()
    plain = built.score(images, texts)
    assert images.regions is not None
    values, offsets = images.regions.values, images.regions.offsets
    everything = built.score(replace(images, keep=torch.ones(len(values), dtype=torch.bool)), texts)
    expect_close(everything, plain, "score() with every region kept, against no mask")
    keep = torch.ones(len(values), dtype=torch.bool)
    keep[[0, 5]] = False  # of the first image and of the third, which have others
    masked = built.score(replace(images, keep=keep), texts)
    expect_close(masked[[1, 3]], plain[[1, 3]], "images whose regions are all kept, beside masked ones")
    loud = values.clone()
    loud[~keep] = towards  # what the texts say, and the best answer to them
    answers = Ragged(loud, offsets)
    heard = built.score(replace(images, regions=answers, factor=triangular_factor(answers), keep=keep), texts)
    expect_close(heard, masked, "score() with other features in the masked regions, against the first")


@check("similarity")
def check_fold(case: Case) -> None:
    """A fold replaces the score in the first stage: it must be that score, not something near it."""
    images, texts = _features(case)
    built: Similarity = case.build()
    folded = built.fold(images)
    declared = "folds" in gives(case.component)
    if folded is None:
        expect(not declared, "its outputs say 'folds' and fold() gives None")
        return
    expect(declared or bool(case.component.nested), "fold() gives vectors and its outputs do not say 'folds'")
    shape = tuple(images.global_features.shape)
    expect(tuple(folded.shape) == shape, f"fold() has shape {tuple(folded.shape)}, expected {shape}")
    expect_close(
        folded.float() @ texts.global_features.T,
        built.score(images, texts),
        "fold() @ texts, against score()",
    )
    alone = built.fold(samples.images_at(images, [2]))
    assert alone is not None
    expect_close(alone, folded[2:3], "fold() of one image alone, against the batch")


@check("similarity")
def check_inputs_are_left_alone(case: Case) -> None:
    """Features are views of a memory-mapped store, and are scored again by the next similarity."""
    images, texts = _features(case)
    assert images.regions is not None
    assert texts.fragments is not None
    given = (images.global_features, images.regions.values, texts.global_features, texts.fragments.values)
    before = [tensor.clone() for tensor in given]
    built: Similarity = case.build()
    built.score(images, texts)
    built.fold(images)
    same = all(torch.equal(now, then) for now, then in zip(given, before))
    expect(same, "score() or fold() changes the features it is given in place")


@check("similarity")
def check_responses(case: Case) -> None:
    """`explain` paints these numbers on the picture: one row a fragment, one column a region, in their
    order."""
    images, texts = _features(case)
    built: Similarity = case.build()
    try:
        built.respond(replace(samples.images_at(images, [0]), regions=None), samples.texts_at(texts, [0]))
    except ValueError:
        pass
    else:
        raise AssertionError("respond() of an image without regions returned; raise ValueError")
    if "image.regions" not in _wanted(case):
        return
    for i, j in ((0, 0), (2, 2)):
        one, text = samples.images_at(images, [i]), samples.texts_at(texts, [j])
        assert one.regions is not None
        assert text.fragments is not None
        responses = built.respond(one, text)
        rows = len(text.fragments.values) if "text.fragments" in _wanted(case) else 1
        shape = (rows, len(one.regions.values))
        expect(tuple(responses.shape) == shape, f"respond() has shape {tuple(responses.shape)}, expected {shape}")
        expect(bool(torch.isfinite(responses).all()), "respond() gives NaN or infinity")
