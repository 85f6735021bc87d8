"""The plan: every rule that is broken is reported before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from heritage_align.component import ComponentConfig, Facts
from heritage_align.config import Config, load_config
from heritage_align.errors import ConfigError
from heritage_align.hookspecs import ComponentSpec, Kind, hookimpl
from heritage_align.planning import gives, needs, plan
from heritage_align.plugins import PluginInfo, Registry


class Model(ComponentConfig):
    """Settings that change what the planner sees."""

    dim: int | None = Field(None, description="width")
    file: Path | None = Field(None, description="weights")
    without_patches: bool = Field(False, description="as a ResNet")
    roi: bool = Field(False, description="boxes are pooled")

    def facts(self) -> Facts:
        outputs = ("global", "texts") if self.without_patches else None
        return Facts(
            dim=self.dim,
            outputs=("global", "texts", "patches", "boxes") if self.roi else outputs,
            files={} if self.file is None else {"file": self.file},
        )


class Above(ComponentConfig):
    """Names an encoder below."""

    base: dict[str, Any] = Field(description="encoder")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {"base": ("encoder", self.base)}


class Sum(ComponentConfig):
    """Names other similarities."""

    terms: tuple[dict[str, Any], ...] = Field((), description="similarities")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {f"terms.{i}": ("similarity", term) for i, term in enumerate(self.terms)}


class Plugin:
    """Components that are described and never built: their targets do not exist."""

    @staticmethod
    @hookimpl
    def heritage_align_components() -> list[ComponentSpec]:
        def spec(kind: Kind, name: str, inputs: str = "", outputs: str = "", **more: Any) -> ComponentSpec:
            model = f"{__name__}:{more.pop('model', 'Model')}"
            return ComponentSpec(
                kind,
                name,
                "nowhere:Nothing",
                model,
                "",
                tuple(inputs.split()),
                tuple(outputs.split()),
                **more,
            )

        regional = "image.regions text.fragments"
        return [
            spec("encoder", "clip", outputs="global texts patches"),
            spec("encoder", "vision", outputs="global patches"),
            spec("encoder", "bert", outputs="texts"),
            spec("encoder", "above", outputs="global texts", model="Above"),
            spec("proposer", "measured", outputs="features"),
            spec("proposer", "tokens", outputs="patches"),
            spec("proposer", "crops", outputs="crops"),
            spec(
                "proposer",
                "detector",
                outputs="crops",
                requires=("detectron3", "json"),
                install="see its page",
            ),
            spec("filter", "sift", outputs="keep"),
            spec("filter", "focal", outputs="attention"),
            spec("fragmenter", "commas", outputs="fragments"),
            spec("similarity", "global", "image.global text.global", "folds"),
            spec("similarity", "scan", f"{regional} keep? attention? image.factor?"),
            spec("similarity", "late", f"{regional} keep?"),
            spec("similarity", "strict", f"{regional} keep"),
            spec("similarity", "future", "image.global image.depth"),
            spec("similarity", "sum", model="Sum"),
            spec("index", "exact", role="default"),
            spec("executor", "here", role="default"),
            spec("dataset", "table"),
        ]


@pytest.fixture(scope="module")
def registry() -> Registry:
    made = Registry()
    info = PluginInfo("here", __name__, "tests")
    made.add(info, Plugin())
    assert info.state == "ok", info.trace
    return made


def config(registry: Registry, **slots: Any) -> Config:
    named = {k: {"name": v} if isinstance(v, str) else v for k, v in slots.items()}
    if "filters" in named:
        named["filters"] = [{"name": f} for f in slots["filters"]]
    document = {
        "version": 1,
        "name": "x",
        "encoder": {"name": "clip"},
        "similarity": {"name": "global"},
        **named,
    }
    return load_config(document, registry=registry)


REGIONAL = {"proposer": "crops", "fragmenter": "commas"}


@pytest.mark.parametrize(
    "slots",
    [
        {},
        {"similarity": "scan", **REGIONAL},
        {"similarity": "scan", "filters": ["sift", "focal"], **REGIONAL},
        {"similarity": "late", "filters": ["sift"], "proposer": "tokens", "fragmenter": "commas"},
        {"similarity": "strict", "filters": ["sift"], **REGIONAL},
        {"encoder": "vision", "text_encoder": "bert"},
        {"proposer": "crops"},
        {"encoder": {"name": "clip", "dim": 8}, "similarity": {"name": "global", "dim": 8}},
        {"encoder": {"name": "clip", "dim": 8}, "text_encoder": "bert"},
        {"similarity": {"name": "sum", "terms": [{"name": "global"}, {"name": "scan"}]}, **REGIONAL},
    ],
)
def test_what_fits_together_passes(registry: Registry, slots: dict[str, Any]) -> None:
    plan(config(registry, **slots))


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        (
            {"similarity": "scan", "fragmenter": "commas"},
            "proposer: is missing; similarity 'scan' compares regions",
        ),
        (
            {"similarity": "scan", "proposer": "crops"},
            "fragmenter: is missing; similarity 'scan' compares text fragments",
        ),
        (
            {"similarity": {"name": "sum", "terms": [{"name": "late"}]}, "fragmenter": "commas"},
            "proposer: is missing; similarity 'sum' compares regions",
        ),
        (
            {"encoder": "bert", "text_encoder": "bert"},
            "encoder.name: 'bert' encodes no images; name it as text_encoder",
        ),
        ({"encoder": "vision"}, "text_encoder.name: 'vision' encodes no texts"),
        ({"text_encoder": "vision"}, "text_encoder.name: 'vision' encodes no texts"),
        (
            {"encoder": {"name": "clip", "without_patches": True}, "proposer": "tokens"},
            "proposer.name: 'tokens' needs an encoder with patch features, and 'clip' has none with these settings",
        ),
        (
            {"similarity": "late", "filters": ["focal"], **REGIONAL},
            "filters.0.name: 'focal' sets attention, which 'late' does not have",
        ),
        (
            {"filters": ["sift"], "proposer": "crops"},
            "filters.0.name: 'sift' masks regions, which 'global' does not use",
        ),
        (
            {"encoder": {"name": "clip", "dim": 8}, "similarity": {"name": "global", "dim": 16}},
            "similarity: 'global' works in 16 dimensions, encoder 'clip' in 8",
        ),
        (
            {"encoder": {"name": "clip", "dim": 8}, "text_encoder": {"name": "bert", "dim": 16}},
            "text_encoder: 'bert' works in 16 dimensions, encoder 'clip' in 8",
        ),
        (
            {"encoder": {"name": "clip", "roi": True}, "proposer": "measured"},
            "encoder.regions: roi pools boxes, and proposer 'measured' brings features of its own; leave it out, or "
            "take a proposer of boxes",
        ),
        (
            {"encoder": {"name": "above", "base": {"name": "clip", "roi": True}}, "proposer": "crops"},
            "encoder.base.regions: roi, and 'above' encodes no boxes; leave it out",
        ),
        ({"proposer": "detector"}, "proposer.name: 'detector' needs detectron3: see its page"),
        (
            {"similarity": "future"},
            "similarity.name: 'future' needs 'image.depth', which nothing in this pipeline gives",
        ),
        (
            {"similarity": "strict", **REGIONAL},
            "similarity.name: 'strict' needs 'keep', which nothing in this pipeline gives",
        ),
        ({"encoder": {"name": "clip", "file": "no.pt"}}, "encoder.file: there is no file 'no.pt'"),
        ({"data": {"name": "table", "file": "no.csv"}}, "data.file: there is no file 'no.csv'"),
        (
            {"similarity": {"name": "sum", "terms": [{"name": "global", "file": "no.pt"}]}},
            "similarity.terms.0.file: there is no file 'no.pt'",
        ),
    ],
)
def test_each_rule(registry: Registry, slots: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(config(registry, **slots))
    assert caught.value.problems == (problem,)


def test_a_filter_of_regions_needs_a_proposer_too(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(config(registry, filters=["sift"]))
    assert "filters.0.name: 'sift' filters regions, and there is no proposer" in caught.value.problems


def test_everything_is_reported_at_once(registry: Registry) -> None:
    faulty = config(
        registry,
        similarity="scan",
        encoder={"name": "vision", "file": "no.pt"},
        data={"name": "table", "file": "no"},
    )
    with pytest.raises(ConfigError) as caught:
        plan(faulty)
    places = {problem.split(":")[0] for problem in caught.value.problems}
    assert places == {"encoder.file", "data.file", "text_encoder.name", "proposer", "fragmenter"}


def test_an_existing_file_is_found(registry: Registry, tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.touch()
    plan(config(registry, encoder={"name": "clip", "file": str(weights)}))


def test_needs_are_those_of_nested_components_too(registry: Registry) -> None:
    component = config(registry, similarity={"name": "sum", "terms": [{"name": "global"}, {"name": "late"}]}).similarity
    assert needs(component) == {"image.global", "text.global", "image.regions", "text.fragments", "keep?"}
    encoder = config(registry, encoder={"name": "clip", "without_patches": True}).encoder
    assert gives(encoder) == {"global", "texts"}


def test_settings_that_cannot_be_read_are_a_problem_with_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "encoder.safetensors"
    broken.write_bytes(b"not a checkpoint")
    config = load_config(
        {
            "version": 1,
            "name": "broken",
            "encoder": {"name": "cn_clip", "model": str(broken)},
            "similarity": {"name": "global"},
        }
    )
    with pytest.raises(ConfigError, match=r"encoder: .*encoder\.safetensors"):
        plan(config)
