"""Regions described by an encoder: the crops' vectors, the same as where the encoder itself encodes the pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heritage_align_plugins.encoded.config import EncodedConfig
from heritage_align_plugins.encoded.proposer import Encoded

from heritage_align.config import load_config
from heritage_align.data import Motifs
from heritage_align.errors import ConfigError
from heritage_align.evaluation import encode_golden
from heritage_align.pipeline import Pipeline
from heritage_align.planning import plan
from heritage_align.protocols import BoxFeatures, BuildContext, Proposer
from heritage_align.testing import Case, parametrize_with_checks, samples
from heritage_align.types import Regions

ENCODER = {"name": "cn_clip", "model": "motif-small"}
WINDOWS = {"name": "patch_grid", "mode": "windows"}
SETTINGS = {"encoder": ENCODER, "proposer": WINDOWS}
ENCODED = {"name": "encoded", **SETTINGS}


class Quarters:
    def __init__(self, grid: tuple[int, int] | None = None) -> None:
        self.grid = grid

    def propose(self, images: Any, ids: Any) -> list[Regions]:
        found = [samples.regions_of(image) for image in images]
        for regions in found:
            regions.grid = self.grid
        return found


def build(inner: Any, **settings: Any) -> Encoded:
    config = EncodedConfig(proposer={"name": "quarters"}, encoder={"name": "toy"}, **settings)
    built = Encoded(config, BuildContext(nested={"proposer": inner, "encoder": samples.ToyEncoder()}))
    assert isinstance(built, Proposer)
    assert isinstance(built, BoxFeatures)
    return built


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_features_are_those_of_crops_whatever_the_batch(batch_size: int) -> None:
    encoder, pictures = samples.ToyEncoder(), samples.images()
    found = build(Quarters(), batch_size=batch_size).propose(list(pictures.values()), list(pictures))
    for picture, regions in zip(pictures.values(), found, strict=True):
        expected = samples.regions_of(picture)
        np.testing.assert_array_equal(regions.boxes, expected.boxes)
        np.testing.assert_array_equal(regions.scores, expected.scores)
        whole = encoder.encode_pixels(encoder.prepare(picture)[None]).global_features[0].numpy()
        np.testing.assert_allclose(regions.global_feature, whole, atol=1e-6)
        np.testing.assert_allclose(regions.features[0], whole, atol=1e-6)  # the first region is the whole picture
        right = picture.crop((picture.width // 2, 0, picture.width, round(picture.height / 2)))
        if picture.width % 2 == 0 and picture.height % 2 == 0:
            row = encoder.encode_pixels(encoder.prepare(right)[None]).global_features[0].numpy()
            np.testing.assert_allclose(regions.features[2], row, atol=1e-6)


def test_no_regions_and_no_boxes() -> None:
    class Nothing:
        def propose(self, images: Any, ids: Any) -> list[Regions]:
            return [Regions(np.empty((0, 4), dtype=np.float32)) for _ in images]

    built = build(Nothing())
    (found,) = built.propose([samples.images()["noise"]], ["a"])
    assert found.features.shape == (0, samples.DIM)
    assert found.global_feature.shape == (samples.DIM,)
    assert built.features_of(samples.images()["noise"], []).shape == (0, samples.DIM)


def test_patches_are_no_boxes_to_cut_out() -> None:
    with pytest.raises(ConfigError, match="'quarters' gives patches, not boxes to cut out; take mode: windows"):
        build(Quarters((2, 3))).propose([samples.images()["noise"]], ["a"])


def test_a_pipeline_of_features_scores_as_the_encoder_itself() -> None:
    data = {"name": "motifs", "artworks": 2, "variants": 1, "size": 64}
    common = {
        "version": 1, "name": "x", "data": data, "fragmenter": {"name": "annotated"}, "runtime": {"device": "cpu"},
        "similarity": {"name": "scan"},
    }  # fmt: skip
    direct = Pipeline(load_config({**common, "encoder": ENCODER, "proposer": WINDOWS}))
    features = {"encoder": {"name": "region_features", "dim": 128}, "text_encoder": ENCODER, "proposer": ENCODED}
    by_features = Pipeline(load_config({**common, **features}))
    dataset = Motifs("test", artworks=2, variants=1, size=64)
    ids = list(dataset.image_ids)
    images = [dataset.load_image(image_id) for image_id in ids]
    texts = direct.encode_texts(dataset.texts)
    one, other = (p.score(p.encode_images(images, ids), texts) for p in (direct, by_features))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    boxes = [encode_golden(p, dataset).regions for p in (direct, by_features)]
    torch.testing.assert_close(*boxes, rtol=1e-4, atol=1e-5)


def test_copies_of_regions_without_a_detector() -> None:
    dataset = Motifs("test", artworks=1, variants=1, size=64)
    (image_id,) = dataset.image_ids
    image = dataset.load_image(image_id)
    (plain,) = Case("proposer", "encoded", SETTINGS).build().propose([image], [image_id])
    (copied,) = Case("proposer", "augmented", {"proposer": ENCODED}).build().propose([image], [image_id])
    assert plain.features is not None
    assert copied.features is not None
    np.testing.assert_allclose(copied.features[::2], plain.features, atol=1e-5)
    assert (np.abs(copied.features[1::2] - plain.features).max(axis=1) > 1e-3).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    encoder = {"name": "cn_clip", "model": "ViT-B-16", "checkpoint": str(tmp_path / "none.pt")}
    document = {
        "version": 1, "name": "x", "encoder": {"name": "region_features", "dim": 512}, "text_encoder": ENCODER,
        "proposer": {**ENCODED, "encoder": encoder}, "similarity": {"name": "laclip"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"proposer\.encoder\.checkpoint: there is no file"):
        Pipeline(load_config(document))


def test_another_width_is_told_before_a_model_loads() -> None:
    document = {
        "version": 1, "name": "x", "encoder": {"name": "region_features", "dim": 64}, "text_encoder": ENCODER,
        "proposer": ENCODED, "similarity": {"name": "laclip"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"encoder\.dim: says 64, the features of proposer 'encoded' have 128"):
        plan(load_config(document))
    document["proposer"] = {**ENCODED, "encoder": {"name": "cn_clop"}}
    with pytest.raises(ConfigError, match=r"proposer\.encoder\.name: unknown encoder 'cn_clop'"):
        load_config(document)


def test_boxes_are_pooled_from_one_pass_as_the_encoder_itself_pools_them() -> None:
    pooling = {**ENCODER, "regions": "roi"}
    document = {
        "version": 1,
        "name": "x",
        "similarity": {"name": "late_interaction"},
        "fragmenter": {"name": "annotated"},
    }
    own = Pipeline(load_config({**document, "encoder": pooling, "proposer": WINDOWS}))
    settings = EncodedConfig(encoder=pooling, proposer=WINDOWS)
    assert own.proposer is not None
    encoded = Encoded(settings, BuildContext(nested={"proposer": own.proposer, "encoder": own.encoder}))
    data = Motifs("test", artworks=1, variants=1)
    picture = data.load_image(data.image_ids[0])
    [found], expected = encoded.propose([picture], ["a"]), own.encode_images([picture], ["a"])
    assert expected.regions is not None
    np.testing.assert_allclose(found.features, expected.regions.values.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.global_feature, expected.global_features[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded.features_of(picture, found.boxes[3:5].tolist()), found.features[3:5], atol=1e-5)
    assert encoded.features_of(picture, []).shape == (0, encoded.dim)


@parametrize_with_checks([Case("proposer", "encoded", SETTINGS)])
def test_conformance(check: Callable[[], None]) -> None:
    check()
