"""Whole pipelines of the built-in regions, filters and scores, on a small encoder without weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor

from heritage_align.component import ComponentConfig, Facts
from heritage_align.config import Config, load_config
from heritage_align.errors import ConfigError, DataError, ImageError, Note
from heritage_align.hookspecs import ComponentSpec, hookimpl
from heritage_align.pipeline import ImageSource, Pipeline, dataset_sources, resolve_device
from heritage_align.plugins import PluginInfo, Registry, default_registry
from heritage_align.protocols import BuildContext
from heritage_align.testing import samples
from heritage_align.testing.samples import ToyEncoder
from heritage_align.types import GoldenPair, ImageFeatures, TextItem

built: list[tuple[str, BuildContext]] = []
observed: list[tuple[str, int]] = []


class ToyConfig(ComponentConfig):
    """A width that the settings do not promise, a recipe that shapes the vectors, and a file of weights."""

    width: int = Field(8, description="dimensions")
    recipe: str = Field("plain", description="how patches are made")
    weights: Path | None = Field(None, description="file, which the fingerprint stands for")

    def facts(self) -> Facts:
        return Facts(files={} if self.weights is None else {"weights": self.weights})


class Toy(ToyEncoder):
    """The kit's encoder as a component; another width makes vectors that fit no other."""

    def __init__(self, config: ToyConfig, context: BuildContext) -> None:
        super().__init__()
        self.dim = config.width
        built.append(("toy", context))


class TopK:
    """All dot products."""

    def __init__(self, config: ComponentConfig, context: BuildContext) -> None:
        built.append(("topk", context))

    def search(self, blocks: Sequence[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        ranked = (queries @ torch.cat(list(blocks)).T).sort(dim=1, descending=True, stable=True)
        return ranked.indices[:, :k], ranked.values[:, :k]


class Pictures:
    """The kit's pictures, one of them broken."""

    name = "pictures"
    golden: tuple[GoldenPair, ...] = ()
    texts = tuple(samples.TEXTS)
    image_ids = ("pattern", "torn", "noise", "flat")

    def __init__(self, config: ComponentConfig, context: BuildContext) -> None:
        built.append(("pictures", context))

    def load_image(self, image_id: str) -> Any:
        if image_id == "torn":
            raise ImageError("torn.jpg: truncated")
        return samples.images()[image_id]


class Plugin:
    """An encoder, an index and a data set beside the built-ins, and an observer."""

    @staticmethod
    @hookimpl
    def heritage_align_components() -> list[ComponentSpec]:
        here = __name__
        toy = f"{here}:ToyConfig"
        return [
            ComponentSpec("encoder", "toy", f"{here}:Toy", toy, outputs=("global", "texts", "patches")),
            ComponentSpec("index", "topk", f"{here}:TopK", toy),
            ComponentSpec("dataset", "pictures", f"{here}:Pictures", toy),
        ]

    @staticmethod
    @hookimpl
    def heritage_align_stage_finished(stage: str, items: int, seconds: float) -> None:
        assert seconds >= 0
        observed.append((stage, items))


class Clumsy:
    """An observer that raises."""

    @staticmethod
    @hookimpl
    def heritage_align_stage_finished(stage: str) -> None:
        raise OSError(f"{stage}: the tracker's disk is full")


@pytest.fixture
def registry(ha_registry: Registry) -> Registry:
    ha_registry.add(PluginInfo("pipeline-tests", __name__, "tests"), Plugin())
    built.clear()
    observed.clear()
    return ha_registry


def config(registry: Registry, **slots: Any) -> Config:
    document = {
        "version": 1,
        "name": "test",
        "encoder": {"name": "toy"},
        "similarity": {"name": "global"},
        "index": {"name": "topk"},
        "runtime": {"device": "cpu", "batch_size": 2, "workers": 2},
        **slots,
    }
    return load_config(document, registry=registry)


SYSTEMS: dict[str, dict[str, Any]] = {
    "global": {},
    "scan": {
        "proposer": {"name": "random_crops", "count": 4},
        "fragmenter": {"name": "punctuation"},
        "similarity": {"name": "scan"},
    },
    "bfan-sf": {
        "proposer": {"name": "random_crops", "count": 4},
        "filters": [{"name": "sift"}, {"name": "bfan_focal", "mode": "equal"}],
        "fragmenter": {"name": "punctuation"},
        "similarity": {"name": "scan", "direction": "ens", "aggregate": "mean"},
    },
    "laclip": {"proposer": {"name": "patch_grid"}, "similarity": {"name": "laclip"}},
    "laclip-text": {
        "proposer": {"name": "patch_grid"},
        "similarity": {"name": "laclip", "conditioning": "text"},
    },
    "sum": {
        "proposer": {"name": "random_crops", "count": 4},
        "fragmenter": {"name": "punctuation"},
        "similarity": {
            "name": "weighted_sum",
            "terms": [
                {"weight": 0.5, "similarity": {"name": "global"}},
                {"weight": 2.0, "similarity": {"name": "scan", "temperature": 4}},
            ],
        },
    },
}


def pictures() -> tuple[list[str], list[Any]]:
    named = samples.images()
    return list(named), list(named.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_runs_from_its_config(registry: Registry, system: str) -> None:
    pipeline = Pipeline(config(registry, **SYSTEMS[system]), registry)
    ids, images = pictures()
    features = pipeline.encode_images(images, ids)
    texts = pipeline.encode_texts(samples.TEXTS)
    scores = pipeline.score(features, texts)
    assert scores.shape == (len(ids), len(samples.TEXTS))
    assert scores.dtype == torch.float32
    assert bool(torch.isfinite(scores).all())
    candidates = torch.tensor([[5, 0, -1]] * len(samples.TEXTS))
    picked = pipeline.score(features, texts, candidates)
    torch.testing.assert_close(picked[:, :2], scores.T[:, [5, 0]])
    assert picked[:, 2].tolist() == [float("-inf")] * len(samples.TEXTS)
    if features.folded is not None:
        torch.testing.assert_close(features.folded @ texts.global_features.T, scores)
    assert (features.folded is not None) == (system in ("global", "laclip"))
    assert (features.factor is not None) == (system in ("scan", "bfan-sf", "sum"))


@pytest.mark.parametrize("system", ["bfan-sf", "laclip"])
def test_the_stream_gives_what_encoding_at_once_gives(registry: Registry, system: str) -> None:
    pipeline = Pipeline(config(registry, **SYSTEMS[system]), registry)
    ids, images = pictures()
    together = pipeline.encode_images(images, ids)
    sources = [ImageSource(i, lambda image=image: image) for i, image in zip(ids, images)]
    parts = list(pipeline.encode_stream(sources, on_error=lambda image_id, error: pytest.fail(f"{image_id}: {error}")))
    assert [part.ids for part in parts] == [tuple(ids[i : i + 2]) for i in (0, 2, 4)]
    assert together.regions is not None

    def joined(pick: str) -> Tensor:
        return torch.cat([getattr(part, pick) for part in parts])

    torch.testing.assert_close(joined("global_features"), together.global_features)
    torch.testing.assert_close(
        torch.cat([p.regions.values for p in parts if p.regions is not None]), together.regions.values
    )
    torch.testing.assert_close(joined("boxes"), together.boxes)
    for optional in ("keep", "factor", "folded"):
        if getattr(together, optional) is not None:
            torch.testing.assert_close(joined(optional), getattr(together, optional))


def test_a_weighted_sum_is_the_sum_of_its_terms(registry: Registry) -> None:
    ids, images = pictures()

    def scores(**slots: Any) -> Tensor:
        pipeline = Pipeline(config(registry, **{**SYSTEMS["sum"], **slots}), registry)
        return pipeline.score(pipeline.encode_images(images, ids), pipeline.encode_texts(samples.TEXTS))

    whole, regional = (
        scores(similarity={"name": "global"}),
        scores(similarity={"name": "scan", "temperature": 4}),
    )
    torch.testing.assert_close(scores(), 0.5 * whole + 2.0 * regional)


def test_attention_of_a_filter_reaches_the_similarity(registry: Registry) -> None:
    ids, images = pictures()

    def scores(filters: list[dict[str, Any]]) -> Tensor:
        pipeline = Pipeline(config(registry, **{**SYSTEMS["scan"], "filters": filters}), registry)
        return pipeline.score(pipeline.encode_images(images, ids), pipeline.encode_texts(samples.TEXTS))

    assert not torch.allclose(scores([]), scores([{"name": "bfan_focal", "mode": "equal"}]))


def test_the_plan_is_checked_before_anything_is_built(registry: Registry) -> None:
    faulty = config(registry, similarity={"name": "scan"}, data={"name": "table", "file": "no.csv"})
    with pytest.raises(ConfigError, match=r"3 problems"):
        Pipeline(faulty, registry)
    assert built == []


def test_components_are_built_with_their_place_in_the_run(registry: Registry) -> None:
    pipeline = Pipeline(config(registry, runtime={"device": "cpu", "seed": 11, "precision": "bf16"}), registry)
    (_, first), (_, later) = built
    assert (first.device, first.precision, first.seed) == ("cpu", "bf16", 11)
    assert first.encoder is None
    assert later.encoder is pipeline.encoder


def test_two_encoders_of_different_widths_are_refused_once_they_are_known(registry: Registry) -> None:
    mixed = config(registry, text_encoder={"name": "toy", "width": 16})
    with pytest.raises(ConfigError, match=r"text_encoder: has 16 dimensions, encoder has 8"):
        Pipeline(mixed, registry)


def test_the_seed_and_the_regions_shape_a_store_and_the_way_of_comparing_does_not(
    registry: Registry, tmp_path: Path
) -> None:
    def image_config(**slots: Any) -> str:
        return Pipeline(config(registry, **{**SYSTEMS["scan"], **slots}), registry).identity()["image_config"]

    base = image_config()
    assert image_config(similarity={"name": "late_interaction"}) == base
    assert image_config(filters=[{"name": "bfan_focal"}]) == base
    assert image_config(filters=[{"name": "sift"}]) != base
    assert image_config(proposer={"name": "random_crops", "count": 5}) != base
    assert image_config(runtime={"device": "cpu", "seed": 1}) != base
    assert image_config(runtime={"device": "cpu", "batch_size": 7}) == base
    assert image_config(similarity={"name": "laclip"}) != base, "folded vectors are in the store"
    assert image_config(encoder={"name": "toy", "recipe": "naclip"}) != base, "the same weights, other patches"
    copies = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for copy in copies:
        copy.touch()
    here, there = [image_config(encoder={"name": "toy", "weights": str(copy)}) for copy in copies]
    assert here == there, "the same weights in another folder"


def test_a_data_set_is_built_and_its_bad_pictures_are_named(registry: Registry) -> None:
    pipeline = Pipeline(config(registry, data={"name": "pictures"}), registry)
    bad: list[tuple[str, str]] = []
    parts = list(
        pipeline.encode_stream(
            dataset_sources(pipeline.dataset()), on_error=lambda i, error: bad.append((i, str(error)))
        )
    )
    assert [i for part in parts for i in part.ids] == ["pattern", "noise", "flat"]
    assert bad == [("torn", "torn.jpg: truncated")]
    assert observed == [("encode", 3)]
    with pytest.raises(ConfigError, match=r"data: is missing"):
        Pipeline(config(registry), registry).dataset()


def test_an_observer_that_raises_costs_a_warning_and_not_the_run(registry: Registry) -> None:
    registry.add(PluginInfo("clumsy", __name__, "tests"), Clumsy())
    pipeline = Pipeline(config(registry), registry)
    ids, images = pictures()
    sources = [ImageSource(i, lambda image=image: image) for i, image in zip(ids, images)]
    with pytest.warns(Note, match=r"observe stage 'encode'.*disk is full"):
        parts: list[ImageFeatures] = list(pipeline.encode_stream(sources, on_error=lambda *_: None))
    assert sum(len(part) for part in parts) == len(ids)


def test_what_does_not_match_is_refused(registry: Registry) -> None:
    pipeline = Pipeline(config(registry), registry)
    ids, images = pictures()
    with pytest.raises(ValueError, match=r"images and ids: expected as many of both, got 6 and 5"):
        pipeline.encode_images(images, ids[1:])
    with pytest.raises(ValueError, match=r"images: there is nothing to encode"):
        pipeline.encode_images([], [])
    with pytest.raises(DataError, match=r"text 'blank'"):
        pipeline.encode_texts([TextItem("blank", " ")])


def test_from_config_reads_overrides_and_uses_the_process_registry(registry: Registry) -> None:
    assert default_registry() is registry
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        pipeline = Pipeline.from_config(config(registry).as_dict(), ["runtime.seed=3"])
    assert pipeline.config.runtime.seed == 3


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"runtime.device: 'gpu' is not a torch device"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"finds no GPU"):
            resolve_device("cuda:1")
