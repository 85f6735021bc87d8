"""The encoder that a training run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from heritage_align_plugins.alignment.checkpoint import save_model
from heritage_align_plugins.alignment.config import AlignmentConfig
from heritage_align_plugins.alignment.encoder import AlignmentEncoder, RegionFeatureEncoder
from heritage_align_plugins.alignment.model import AlignmentModel
from heritage_align_plugins.alignment.settings import ModelSettings
from heritage_align_plugins.alignment.text.tokens import Vocabulary

from heritage_align.config import load_config, resolve_component
from heritage_align.errors import CheckpointError, ConfigError, DataError
from heritage_align.pipeline import Pipeline, build_component
from heritage_align.planning import plan
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, FeatureEncoder, FragmentEncoder
from heritage_align.testing import Case, check_component, samples
from heritage_align.types import TextItem

TEXTS = [item.text for item in samples.TEXTS]


def write(path: Path, feature_dim: int, base: Any = None, **settings: Any) -> Path:
    torch.manual_seed(0)
    chosen = ModelSettings(dim=10, embedding_dim=6, **settings)
    model = AlignmentModel(chosen, feature_dim, Vocabulary.of(TEXTS), base)
    save_model(model, path, features=feature_dim == 12)
    return path


@pytest.fixture(scope="module")
def on_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "features.safetensors", 12, text=("bigru", "bag"))


@pytest.fixture(scope="module")
def on_pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "pixels.safetensors", 16)


def build(**settings: Any) -> Any:
    component = resolve_component("encoder", {"name": "alignment", **settings}, default_registry())
    return build_component(component, BuildContext(), default_registry())


def test_it_conforms_on_region_features(on_features: Path) -> None:
    results = check_component(Case("encoder", "alignment", {"checkpoint": str(on_features)}, feature_dim=12))
    skipped = {result.check for result in results if result.state == "skipped"}
    assert skipped == {
        "check_nested_places", "check_patches", "check_pooled_boxes", "check_prepare_takes_any_picture",
        "check_prepare_is_thread_safe", "check_recipe_is_what_prepare_does",
    }  # fmt: skip


def test_it_conforms_on_another_encoder(on_pixels: Path, tiny_checkpoint: Path) -> None:
    base = {"name": "cn_clip", "model": str(tiny_checkpoint)}
    results = check_component(Case("encoder", "alignment", {"checkpoint": str(on_pixels), "base": base}))
    skipped = {result.check for result in results if result.state == "skipped"}
    assert skipped == {"check_features_of_another_width_are_refused", "check_pooled_boxes"}
    pooling = {"checkpoint": str(on_pixels), "base": {**base, "regions": "roi"}}
    results = check_component(Case("encoder", "alignment", pooling))
    assert {result.check: result.state for result in results}["check_pooled_boxes"] == "passed"


def test_it_conforms_on_a_pretrained_text_encoder(tiny_checkpoint: Path, tmp_path: Path) -> None:
    below = {"name": "cn_clip", "model": str(tiny_checkpoint)}
    component = resolve_component("encoder", below, default_registry())
    clip = build_component(component, BuildContext(), default_registry())
    path = write(tmp_path / "frozen.safetensors", 12, clip, text=("frozen",), relu=False)
    settings = {"checkpoint": str(path), "text_base": below}
    check_component(Case("encoder", "alignment", settings, feature_dim=12))
    with pytest.raises(CheckpointError, match="name it as text_base"):
        build(checkpoint=str(path))


def test_a_text_is_the_mean_of_its_fragments(on_features: Path) -> None:
    encoder: AlignmentEncoder = build(checkpoint=str(on_features))
    assert isinstance(encoder, FeatureEncoder)
    assert isinstance(encoder, FragmentEncoder)
    found = encoder.encode_fragmented(["two cranes and a lotus", "鹤"], [["two cranes", "a lotus"], ["鹤"]])
    with torch.no_grad():
        means = [encoder.model.encode_texts(["two cranes", "a lotus"]).mean(0), encoder.model.encode_texts(["鹤"])[0]]
    torch.testing.assert_close(found.global_features, torch.nn.functional.normalize(torch.stack(means), dim=-1))
    torch.testing.assert_close(found.fragments, encoder.encode_texts(["two cranes", "a lotus", "鹤"]))
    assert [part.shape for part in encoder.encode_fragmented([], [])] == [(0, 10), (0, 10)]


def test_a_vector_of_zeros_stays_finite(tmp_path: Path) -> None:
    """Sheng et al.'s rectified projection, or a bag without a known word, may give no direction at all."""
    path = write(tmp_path / "bag.safetensors", 12, text=("bag",))
    encoder = build(checkpoint=str(path))
    assert bool(encoder.encode_texts(["龘"]).isfinite().all())


def test_pixels_and_features_are_not_confused(on_features: Path, on_pixels: Path, tiny_checkpoint: Path) -> None:
    encoder = build(checkpoint=str(on_features))
    picture = samples.images()["pattern"]
    for call in (lambda: encoder.prepare(picture), lambda: encoder.encode_pixels(torch.zeros(1, 3, 8, 8))):
        with pytest.raises(DataError, match="encoder 'alignment' takes region features, not pixels"):
            call()
    with pytest.raises(DataError, match="region features have 7 dimensions, the model was trained on 12"):
        encoder.encode_features(torch.zeros(2, 7))
    base = {"name": "cn_clip", "model": str(tiny_checkpoint)}
    with pytest.raises(CheckpointError, match=r"features\.safetensors: .*takes region features.*base"):
        build(checkpoint=str(on_features), base=base)
    with pytest.raises(CheckpointError, match=r"pixels\.safetensors: .*trained on an encoder's vectors.*base"):
        build(checkpoint=str(on_pixels))


def test_another_base_than_the_model_was_trained_on(tmp_path: Path, tiny_checkpoint: Path) -> None:
    path = write(tmp_path / "wide.safetensors", 20)
    base = {"name": "cn_clip", "model": str(tiny_checkpoint)}
    with pytest.raises(CheckpointError, match="trained on vectors of 20 dimensions, base gives 16"):
        build(checkpoint=str(path), base=base)


def test_the_plan_sees_what_does_not_fit(on_features: Path, tmp_path: Path) -> None:
    def faults(**changes: Any) -> str:
        document = {
            "version": 1,
            "name": "x",
            "encoder": {"name": "alignment", "checkpoint": str(on_features)},
            "proposer": {"name": "random_crops", "count": 2},
            "similarity": {"name": "global"},
            **changes,
        }
        with pytest.raises(ConfigError) as caught:
            plan(load_config(document))
        (fault,) = caught.value.problems
        return fault

    assert "encoder 'alignment' takes region features; name a proposer that gives them" in faults()
    assert "takes region features" in faults(proposer=None)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    broken = faults(encoder={"name": "alignment", "checkpoint": str(tmp_path / "other.safetensors")})
    assert "other.safetensors: cannot be read as an alignment model" in broken
    missing = faults(
        encoder={"name": "alignment", "checkpoint": "none.safetensors"},
        proposer={"name": "faster_rcnn", "features": "pooled"},
    )
    assert "none.safetensors" in missing


def test_region_features_know_no_texts() -> None:
    config: Any = type("Config", (), {"dim": 4})
    encoder = RegionFeatureEncoder(config, BuildContext())
    with pytest.raises(DataError, match="knows no texts: train a system on these features first"):
        encoder.encode_texts(["a crane"])
    with pytest.raises(DataError, match=r"have 5 dimensions, encoder\.dim says 4"):
        encoder.encode_features(torch.zeros(1, 5))
    with pytest.raises(DataError, match="takes region features, not pixels"):
        encoder.prepare(samples.images()["flat"])


def test_facts_of_a_checkpoint(on_features: Path) -> None:
    facts = AlignmentConfig(checkpoint=on_features).facts()
    assert (facts.dim, facts.outputs) == (10, ("global", "texts", "features"))
    bases = {"cn_clip": {"model": "motif-small"}, "region_features": {"dim": 4}, "nobody": {}}
    for (name, settings), patches in zip(bases.items(), (("patches",), (), ())):
        config = AlignmentConfig(checkpoint=on_features, base={"name": name, **settings})
        assert config.facts().outputs == ("global", "texts", *patches)
    pooling = AlignmentConfig(
        checkpoint=on_features, base={"name": "cn_clip", "model": "motif-small", "regions": "roi"}
    )
    assert pooling.facts().outputs == ("global", "texts", "patches", "boxes")


def test_a_trained_pipeline_answers(trained: Any) -> None:
    pipeline = Pipeline(load_config(trained.document))
    texts = pipeline.encode_texts([TextItem("q", "a lotus and a crane", phrases=("a lotus", "a crane"))])
    assert texts.phrases == (("a lotus", "a crane"),)
    assert texts.global_features.shape == (1, 16)
